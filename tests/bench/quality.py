"""`make quality`: eddyline, every baseline and every ablation on real logs, and which of the goals hold.

Each log is replayed by `eddyline replay`, one setting for all of them; the results and the HTML reports are written
to build/quality/. Logs are looked for in EDDYLINE_LOGS; where there are none, a made-up stream stands in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eddyline.model.parts import ABLATIONS

OUT = Path("build/quality")
METRIC = "ndcg@20"


@dataclass(frozen=True)
class Log:
    """A log, what counts on it, and what eddyline is to reach there.

    Attributes:
        name: of the file, without `.csv.gz`.
        rank: `all`, or `new` where known items are no candidates.
        lead: least ratio of NDCG@20 to the best baseline; None: no goal.
        neural: least ratio to eddyline without its neural part.
        significant: whether the interval of that ratio must exclude 1.
    """

    name: str
    rank: str
    lead: float | None
    neural: float
    significant: bool = False


LOGS = (
    Log("deskdrop", "all", 1.45, 0.998),
    Log("online-retail", "all", 1.25, 1.015, significant=True),
    Log("yoochoose-100k", "all", 1.10, 0.998),
    Log("movietweetings-100k", "new", 1.05, 0.998),
)


@dataclass(frozen=True)
class Goal:
    """A goal on a log, and whether it holds."""

    log: str
    what: str
    want: str
    got: str
    holds: bool


def goals(log: Log, models: Mapping[str, Any]) -> Iterator[Goal]:
    """Which goals hold, from the `models` of a result."""
    ours = models["eddyline"]
    rivals = {name: figures for name, figures in models.items() if not name.startswith("eddyline")}
    if rivals and log.lead is not None:
        best = max(rivals, key=lambda name: float(rivals[name][METRIC]))
        ratio = ours[METRIC] / rivals[best][METRIC]
        yield Goal(log.name, f"NDCG@20 against {best}", f"≥ {log.lead:.2f} ×", f"{ratio:.3f} ×", ratio >= log.lead)
    if "eddyline-without-neural" in models:
        against = ours["against"]["eddyline-without-neural"][METRIC]
        holds = against["ratio"] >= log.neural and (not log.significant or against["low"] > 1)
        got = f"{against['ratio']:.4f} × ({against['low']:.4f}–{against['high']:.4f})"
        yield Goal(log.name, "the neural part earns its place", f"≥ {log.neural} ×", got, holds)
    if (without := models.get("eddyline-without-replay")) and without["retention"]:
        ratio = ours["retention"] / without["retention"]
        newest = ours[METRIC] / without[METRIC]
        got = f"{ratio:.2f} × ({ours['retention']:.3f} / {without['retention']:.3f}), newest {newest:.4f} ×"
        yield Goal(log.name, "retention with replay", "≥ 1.5 ×, newest ≥ 1 ×", got, ratio >= 1.5 and newest >= 0.998)
    if without := models.get("eddyline-without-online"):
        ratio = ours[METRIC] / without[METRIC]
        yield Goal(log.name, "learning online", "> 1 ×", f"{ratio:.4f} ×", ratio > 1)
    if ours.get("published"):
        ratio = ours["published"][METRIC] / ours[METRIC]
        yield Goal(log.name, "published against request", "≥ 0.9 ×", f"{ratio:.3f} ×", ratio >= 0.9)
    yield from _cold_start(log, ours, rivals)


def _cold_start(log: Log, ours: Mapping[str, Any], rivals: Mapping[str, Any]) -> Iterator[Goal]:
    for division, group, what in (("activity", "0", "users who never clicked"), ("item age", "< 1 day", "new items")):
        mine = ours["by"][division][group]
        if rivals and mine["clicks"]:
            best = max(rivals.values(), key=lambda figures: float(figures["by"][division][group][METRIC]))
            theirs = best["by"][division][group][METRIC]
            got = f"{mine[METRIC]:.3f} / {theirs:.3f}"
            yield Goal(log.name, what, "as good as the best baseline", got, mine[METRIC] >= theirs)


def replay(log: Log, source: Sequence[str], rest: Sequence[str]) -> dict[str, Any]:
    """Run `eddyline replay` and keep what it says."""
    OUT.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "eddyline.stream.cli", "replay", *source, "--rank", log.rank, "--serve", "both"]
    for part in ABLATIONS:
        command += ["--without", part]
    command += ["--json", "--html", str(OUT / f"{log.name}.html"), *rest]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    (OUT / f"{log.name}.json").write_text(done.stdout)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """NDCG@20 of every model on every log, and eddyline's ratio to it with its interval."""
    made = Table("model", *results, title=f"NDCG@20, and eddyline ÷ model, {datetime.now(UTC):%Y-%m-%d}")
    names = list(dict.fromkeys(name for result in results.values() for name in result["models"]))
    for name in names:
        cells = []
        for result in results.values():
            figures = result["models"].get(name)
            against = result["models"]["eddyline"]["against"].get(name, {}).get(METRIC)
            text = "–" if figures is None else f"{figures[METRIC]:.4f}"
            if against:
                text += f"  {against['ratio']:.3f} ({against['low']:.3f}–{against['high']:.3f})"
            cells.append(text)
        made.add_row(name, *cells)
    return made


def main(rest: Sequence[str]) -> None:
    """Replay every log there is, and say what holds."""
    folder = Path(os.environ.get("EDDYLINE_LOGS", "../shared/data"))
    found = {log: folder / f"{log.name}.csv.gz" for log in LOGS}
    there: dict[Log, Sequence[str]] = {log: [str(path)] for log, path in found.items() if path.exists()}
    if not there:
        there = {Log("made-up", "all", None, 0.998): ["--synthetic"]}
    console = Console(width=None if sys.stdout.isatty() else 250)
    results, reached = {}, list[Goal]()
    for log, source in there.items():
        results[log.name] = replay(log, source, rest)
        reached += goals(log, results[log.name]["models"])
    console.print(table(results))
    verdicts = Table("log", "goal", "want", "got", "", title="Goals")
    for goal in reached:
        verdicts.add_row(goal.log, goal.what, goal.want, goal.got, "holds" if goal.holds else "[bold]fails[/bold]")
    console.print(verdicts)


if __name__ == "__main__":
    main(sys.argv[1:])
