"""`make quality`: eddyline, every baseline and every ablation on real logs, and which of the goals hold.

Every run is an `eddyline replay` with one setting for all logs. Logs are looked for in EDDYLINE_LOGS; where there are
none, a made-up stream stands in. Results, HTML reports and quality.md are written to build/quality/; a result that is
there for the same code, settings, flags and log is not made again. Exit code 1: a run failed, 130: it was stopped
(Ctrl-C). A goal may fail.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))

from goals import METRIC, Goal, Log, cold_start, goals, ratio_text
from runs import ROOT, Results, Run, kept, make
from sheets import Sheet
from studies import Curve, Daily, Refresh, Returning, Study

from eddyline.model.parts import ABLATIONS

OUT = ROOT / "build" / "quality"

FIRST = 100_000
OF_ALL = ("neural",)
"""What is left out on the whole of the largest log; everything is on its first clicks."""

LOGS = (
    Log("deskdrop", "deskdrop", "all", ABLATIONS, 11, lead=1.45, neural=0.998),
    Log("online-retail", "online-retail", "all", OF_ALL, 22, lead=1.25, neural=1.015, significant=True),
    Log("online-retail-100k", "online-retail", "all", ABLATIONS, 7, rows=FIRST, baselines=False),
    Log("yoochoose-100k", "yoochoose-100k", "all", ABLATIONS, 13, lead=1.10, neural=0.998),
    Log("movietweetings-100k", "movietweetings-100k", "new", ABLATIONS, 18, lead=1.05, neural=0.998),
)
MADE_UP = Log("made-up", "", "all", ABLATIONS, 5, neural=0.998)


class Plan:
    """What is run and what is read from it.

    Args:
        folder: of the logs.
        limit: clicks of a log; None: all.
    """

    def __init__(self, folder: Path, limit: int | None) -> None:
        self._folder = folder
        self._limit = limit
        there = [log for log in LOGS if self._path(log.file).exists()]
        self.logs = [
            replace(log, rows=min(filter(None, (log.rows, limit)), default=None)) for log in there or [MADE_UP]
        ]
        names = {log.name: log for log in self.logs}
        self.studies: list[Study] = [
            Curve(self._path("online-retail") if "online-retail" in names else None, limit),
            Returning(limit),
            Refresh(
                [(log, self._path(log.file)) for log in self.logs if log.baselines and log.name != "online-retail"],
                limit,
            ),
        ]
        if "yoochoose-100k" in names:
            self.studies.append(Daily(self._path("yoochoose-100k"), "yoochoose-100k", 2, limit))

    def _path(self, file: str) -> Path:
        return self._folder / f"{file}.csv.gz"

    def runs(self) -> Iterator[Run]:
        """All of them."""
        for log in self.logs:
            flags = ["--rank", log.rank, "--baselines", "all" if log.baselines else "none", "--serve", "both"]
            flags += [word for part in log.without for word in ("--without", part)]
            flags += ["--limit", str(log.rows)] if log.rows else []
            yield Run(log.name, self._path(log.file) if log.file else None, tuple(flags), log.minutes)
        for study in self.studies:
            yield from study.runs()

    def sheets(self, results: Results) -> Iterator[Sheet]:
        """The main table, then one for each study, the goals last."""
        there = {log.name: results[log.name] for log in self.logs if log.name in results}
        yield _main_sheet(there)
        yield _cold_start_sheet(there)
        for study in self.studies:
            yield study.sheet(results)
        yield _goal_sheet([*self._goals(results)])

    def _goals(self, results: Results) -> Iterator[Goal]:
        for log in self.logs:
            if log.name in results:
                yield from goals(log, results[log.name]["models"])
        for study in self.studies:
            yield from study.goals(results)


def _main_sheet(results: Mapping[str, Mapping[str, Any]]) -> Sheet:
    """NDCG@20 of every model on every log, and eddyline's ratio to it with its interval."""
    found = dict.fromkeys(name for result in results.values() for name in result["models"])
    names = sorted(found, key=lambda name: (name != "eddyline", name.startswith("eddyline")))
    rows = [(name, *(_cell(result["models"], name) for result in results.values())) for name in names]
    note = (
        f"NDCG@20, then eddyline ÷ model with its 95 % interval; {datetime.now(UTC):%Y-%m-%d}. The second half of each "
        "log is scored, each click before it is learned from, against the whole catalogue. – was not run: on the whole "
        f"of online-retail all baselines and one ablation are, the other ablations on its first {FIRST:,} clicks; "
        "own-history says nothing where known items are no candidates."
    )
    heads = (f"{name} ({result['data']['clicks']:,})" for name, result in results.items())
    return Sheet("Eddyline, baselines and ablations", ("model", *heads), rows, note)


def _cell(models: Mapping[str, Any], name: str) -> str:
    if name not in models:
        return "–"
    text = f"{models[name][METRIC]:.4f}"
    against = models["eddyline"]["against"].get(name, {}).get(METRIC)
    return f"{text}, {ratio_text(against, 3)}" if against else text


def _cold_start_sheet(results: Mapping[str, Mapping[str, Any]]) -> Sheet:
    rows = [
        (log, one.what, f"{one.clicks:,}", f"{one.ours:.4f}", f"{one.theirs:.4f} ({one.best})", one.interval)
        for log, result in results.items()
        for one in cold_start(result["models"])
    ]
    columns = ("log", "clicks of or on", "clicks", "eddyline", "best baseline there", "ratio")
    return Sheet("Cold start, NDCG@20", columns, rows)


def _goal_sheet(reached: Sequence[Goal]) -> Sheet:
    rows = [(goal.log, goal.what, goal.want, goal.got, "holds" if goal.holds else "fails") for goal in reached]
    return Sheet("Goals", ("log", "goal", "want", "got", ""), rows)


def main(words: Sequence[str]) -> int:
    """Run everything, and say what holds.

    Returns:
        The exit code: 1 if a run failed, 130 if it was stopped.
    """
    parser = argparse.ArgumentParser(prog="make quality ARGS=…", description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", type=int, help="clicks of each log")
    parser.add_argument(
        "--only", nargs="+", metavar="RUN", help="make runs whose name begins so; others are read if there"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each; default 2")
    parser.add_argument("--again", action="store_true", help="make results again that are there")
    parser.add_argument("--list", action="store_true", help="only list the runs")
    asked = parser.parse_args(words)
    plan = Plan(Path(os.environ.get("EDDYLINE_LOGS", ROOT.parent / "shared" / "data")), asked.limit)
    planned = list(plan.runs())
    runs = [run for run in planned if not asked.only or run.name.startswith(tuple(asked.only))]
    if asked.list:
        for run in sorted(runs, key=lambda run: -run.minutes):
            print(f"{run.minutes:4.0f} min  {run.name}: eddyline {' '.join(run.arguments)}")
        return 0
    try:
        results, failed = make(runs, OUT, asked.jobs, again=asked.again)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on with the runs that are not done\n")
        return 130
    others = {run.name: kept(run, OUT) for run in planned if run not in runs}
    results |= {name: result for name, result in others.items() if result is not None}
    console = Console(width=None if sys.stdout.isatty() else 250)
    sheets = [sheet for sheet in plan.sheets(results) if sheet.rows]
    for sheet in sheets:
        console.print(sheet.printed())
    (OUT / "quality.md").write_text("\n\n".join(sheet.markdown() for sheet in sheets) + "\n", encoding="utf-8")
    console.print(f"Markdown, JSON and HTML reports are in {OUT}")
    if failed:
        console.print(f"these runs failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
