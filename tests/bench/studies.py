"""Backtests beside the main table: each study plans runs, and reads a table and goals from what came of them.

A study leaves out what a failed run would have told, and has no goal then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Protocol

from goals import METRIC, Goal, Log, ratio_text
from runs import Results, Run
from sheets import Sheet

from eddyline.replay.logs import read_log
from eddyline.state.times import to_iso

__all__ = ["Curve", "Daily", "Refresh", "Returning", "Study"]

DAY_MS = 86_400_000
FEWEST = 100
"""Clicks that a backtest needs before and after its warm-up ends."""

ALONE = ("--baselines", "none")


class Study(Protocol):
    """A question that takes runs of its own."""

    def runs(self) -> list[Run]:
        """What is to be run."""

    def sheet(self, results: Results) -> Sheet:
        """What came of it."""

    def goals(self, results: Results) -> Iterator[Goal]:
        """Which goals hold."""


@cache
def times_ms(log: Path, limit: int | None) -> tuple[int, ...]:
    """Time of each click of a log, in order."""
    return tuple(click.ts_ms for click in read_log(log, limit=limit))


@dataclass(frozen=True)
class Daily:
    """Eddyline that is trained from scratch each midnight and frozen in between, against one that learns online.

    Each day is a backtest whose warm-up is everything before it; together they score the clicks that `main` scores.

    Attributes:
        log: what is replayed.
        main: name of the run of the whole log.
        minutes: about how long a day takes.
        limit: clicks of the log; None: all.
    """

    log: Path
    main: str
    minutes: float
    limit: int | None = None

    def runs(self) -> list[Run]:
        """One a day; a day of too few clicks goes with the one before."""
        times = times_ms(self.log, self.limit)
        begin = times[round(len(times) / 2)]
        edges = [begin]
        for midnight in range(DAY_MS * (begin // DAY_MS + 1), times[-1], DAY_MS):
            before = sum(edges[-1] <= ms < midnight for ms in times)
            after = sum(midnight <= ms for ms in times)
            if before >= FEWEST and after >= FEWEST:
                edges.append(midnight)
        flags = (*ALONE, "--without", "online", *(("--limit", str(self.limit)) if self.limit else ()))
        return [
            Run(
                f"{self.main}-day-{n}",
                self.log,
                ("--warmup", to_iso(day), "--until", to_iso(following), *flags),
                self.minutes,
            )
            for n, (day, following) in enumerate(pairwise([*edges, times[-1] + 1000]), 1)
        ]

    def _mean(self, results: Results, model: str) -> tuple[int, float]:
        """Clicks, and NDCG@20 over all of them."""
        days = [results[run.name] for run in self.runs()]
        clicks = [day["data"]["scored_clicks"] for day in days]
        total = sum(n * day["models"][model][METRIC] for n, day in zip(clicks, days, strict=True))
        return sum(clicks), total / sum(clicks)

    def _all(self, results: Results) -> bool:
        return all(run.name in results for run in self.runs()) and self.main in results

    def sheet(self, results: Results) -> Sheet:
        """NDCG@20 of each way to keep up."""
        rows = []
        if self._all(results):
            whole = results[self.main]
            days, scored = len(self.runs()), whole["data"]["scored_clicks"]
            ways = {
                "learning online since the warm-up": (scored, whole["models"]["eddyline"][METRIC]),
                "frozen since the warm-up": (scored, whole["models"]["eddyline-without-online"][METRIC]),
                f"trained from scratch ({days} ×), frozen in between": self._mean(results, "eddyline-without-online"),
                f"trained from scratch ({days} ×), learning online in between": self._mean(results, "eddyline"),
            }
            rows = [(what, f"{clicks:,}", f"{value:.4f}") for what, (clicks, value) in ways.items()]
        note = "The counts are live in all. Training from scratch is at the end of the warm-up and each midnight."
        return Sheet(f"Keeping up: {self.main}", ("weights", "clicks", "NDCG@20"), rows, note)

    def goals(self, results: Results) -> Iterator[Goal]:
        """Learning online is to be worth more than training from scratch each day."""
        if self._all(results):
            ratio = results[self.main]["models"]["eddyline"][METRIC] / self._mean(results, "eddyline-without-online")[1]
            what = "learning online against retrained daily"
            yield Goal(self.main, what, "> 1 ×", f"{ratio:.4f} ×", ratio > 1)


@dataclass(frozen=True)
class Curve:
    """The gain by the neural part against the clicks of the warm-up.

    The clicks that count are the same ones, the last of the log; what comes before the warm-up is left out.

    Attributes:
        log: what is replayed beside a made-up stream; None: nothing.
        limit: clicks of the log, and of the made-up stream; None: all.
    """

    log: Path | None
    limit: int | None = None

    POINTS: ClassVar = (40_000, 120_000, 328_000)
    OF: ClassVar = 386_326
    MADE_UP: ClassVar = 3_000_000

    def runs(self) -> list[Run]:
        """One for each number of clicks."""
        flags = (*ALONE, "--without", "neural")
        made_up = min(self.MADE_UP, self.limit or self.MADE_UP)
        size = ("--stream", "users=30000", "--stream", "items=5000", "--stream", "topics=50", "--stream", "drift=none")
        runs = [Run("curve-made-up", None, ("--clicks", str(made_up), "--warmup", "0.9", *size, *flags), 33)]
        if self.log is not None:
            times = times_ms(self.log, self.limit)
            points = [round(point * len(times) / self.OF) for point in self.POINTS]
            until = points[-1]
            limited = ("--limit", str(self.limit)) if self.limit else ()
            for point, minutes in zip(points, (2, 3, 6), strict=True):
                dates = ("--from", to_iso(times[until - point]), "--warmup", to_iso(times[until]))
                runs.append(Run(f"curve-{point}", self.log, (*dates, *limited, *flags), minutes))
        return runs

    def sheet(self, results: Results) -> Sheet:
        """Each point, and its interval."""
        rows = []
        for result in sorted(
            (results[run.name] for run in self.runs() if run.name in results),
            key=lambda result: result["data"]["warm_up_clicks"],
        ):
            data, models = result["data"], result["models"]
            ratio = models["eddyline"]["against"]["eddyline-without-neural"][METRIC]
            rows.append(
                (
                    data["name"],
                    f"{data['warm_up_clicks']:,}",
                    f"{data['scored_clicks']:,}",
                    f"{models['eddyline-without-neural'][METRIC]:.4f}",
                    f"{models['eddyline'][METRIC]:.4f}",
                    ratio_text(ratio, 4),
                )
            )
        columns = ("log", "warm-up clicks", "scored clicks", "without neural", "eddyline", "ratio")
        note = "NDCG@20. Four fifths of the warm-up train the neural part, the rest fits the gate."
        return Sheet("Learning curve of the neural part", columns, rows, note)

    def goals(self, results: Results) -> Iterator[Goal]:
        """None: the main table has the goal of the whole log."""
        yield from ()


@dataclass(frozen=True)
class Returning:
    """What replay is worth when a regime of a made-up stream returns.

    Attributes:
        limit: clicks of the stream; None: 120,000, and 10,000 of a regime.
    """

    limit: int | None = None

    GROUP: ClassVar = "first 500 clicks"

    def runs(self) -> list[Run]:
        """One, with a change after every twelfth of the stream."""
        clicks = min(120_000, self.limit or 120_000)
        stream = ("--stream", "drift=returning", "--stream", f"regime_clicks={clicks // 12}")
        return [Run("returning", None, ("--clicks", str(clicks), *stream, *ALONE, "--without", "replay"), 3)]

    def sheet(self, results: Results) -> Sheet:
        """Recall@20 after a regime returned, and later."""
        rows = []
        if "returning" in results:
            for name, figures in results["returning"]["models"].items():
                groups = figures["by"]["drift"]
                cells = (f"{group['recall@20']:.4f} ({group['clicks']:,})" for group in groups.values())
                kept = figures["retention"]
                rows.append((name, *cells, "–" if kept is None else f"{kept:.4f}"))
        columns = ("model", f"{self.GROUP} after a return", "later", "old clicks, neural part alone")
        return Sheet("Returning regimes", columns, rows, "Recall@20, in brackets the clicks.")

    def goals(self, results: Results) -> Iterator[Goal]:
        """With replay, a regime that returns is known."""
        if "returning" in results:
            models = results["returning"]["models"]
            ours, without = (
                models[name]["by"]["drift"][self.GROUP]["recall@20"] for name in ("eddyline", "eddyline-without-replay")
            )
            ratio = ours / without if without else 0.0
            got = f"{ratio:.3f} × ({ours:.4f} / {without:.4f})"
            yield Goal("returning regimes", f"replay, {self.GROUP} after a return", "≥ 1.1 ×", got, ratio >= 1.1)


@dataclass(frozen=True)
class Refresh:
    """How much lists lose while they wait on the topic, under several policies of refreshing them.

    Attributes:
        logs: each with its file; the policy in force is read from its run of the main table.
        limit: clicks of a log; None: all.
    """

    logs: Sequence[tuple[Log, Path]]
    limit: int | None = None

    POLICIES: ClassVar = {
        "own clicks alone": ("worker.refresh_users=0",),
        "a new version": ("worker.refresh_clicks=",),
        "8 clicks and 1 s, 20,000 users, 10,000 lists/s": (
            "worker.refresh_clicks=8",
            "worker.refresh_users=20000",
            "worker.refresh_per_s=10000",
            "worker.refresh_every_s=1",
        ),
    }

    def _names(self, log: Log) -> list[tuple[str, str]]:
        others = [(policy, f"{log.name}-refresh-{n}") for n, policy in enumerate(self.POLICIES, 1)]
        return [("16 clicks and 30 s, 2,000 users, 500 lists/s (the default)", log.name), *others]

    def runs(self) -> list[Run]:
        """Every policy on every log."""
        limited = ("--limit", str(self.limit)) if self.limit else ()
        return [
            Run(
                name,
                file if log.file else None,
                (*ALONE, "--serve", "both", "--rank", log.rank, *limited, *(f"--set={one}" for one in settings)),
                3,
            )
            for log, file in self.logs
            for (_, name), settings in zip(self._names(log)[1:], self.POLICIES.values(), strict=True)
        ]

    def _figures(self, results: Results, log: Log) -> dict[str, tuple[float, float]]:
        """NDCG@20 of the published lists, and of those asked for, by policy."""
        found = {policy: results[name] for policy, name in self._names(log) if name in results}
        ours = {policy: result["models"]["eddyline"] for policy, result in found.items()}
        return {policy: (one["published"][METRIC], one[METRIC]) for policy, one in ours.items()}

    def sheet(self, results: Results) -> Sheet:
        """Each policy on each log."""
        rows = [
            (
                log.name,
                policy,
                f"{published:.4f}",
                f"{request:.4f}",
                f"{published / request:.3f}",
            )
            for log, _ in self.logs
            for policy, (published, request) in self._figures(results, log).items()
        ]
        note = (
            "Lists are made at each click of their user, and anew for recently active users with a new version or "
            "after so many clicks of anyone. Users who never clicked read the list for newcomers, made anew with "
            "these. Online-retail is left out: clicks of an invoice have one time, so no list can come between them."
        )
        columns = ("log", "made anew after", "published", "request", "ratio")
        return Sheet("Published against request, NDCG@20", columns, rows, note)

    def goals(self, results: Results) -> Iterator[Goal]:
        """Some policy is to keep nine tenths."""
        for log, _ in self.logs:
            found = self._figures(results, log)
            ratios = {policy: published / request for policy, (published, request) in found.items()}
            if ratios:
                best = max(ratios, key=ratios.__getitem__)
                got = f"{ratios[best]:.3f} × ({best})"
                yield Goal(log.name, "published against request", "≥ 0.9 ×", got, ratios[best] >= 0.9)
