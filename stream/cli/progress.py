"""How far a command is, on stderr: a bar in a terminal, else a line now and then.

A module of its own, so that only commands that show progress load it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from eddyline.stream.cli.output import talk

__all__ = ["progress", "replaying", "stages"]

_SAY_EVERY_S = 10.0


class _Lines:
    """Lines on stderr for a log file or another program: what is done, how much of it, and how fast."""

    def __init__(self) -> None:
        self._said_s = self._begun_s = time.monotonic()
        self._what = ""
        self._first = 0

    def __call__(self, what: str, done: int, total: int | None, more: str = "") -> None:
        """Say how many are done, if it is time to; another `what` begins to count speed anew."""
        now_s = time.monotonic()
        if what != self._what:
            self._what, self._begun_s, self._first = what, now_s, done
        speed = (done - self._first) / (now_s - self._begun_s) if now_s > self._begun_s else 0
        of = f" of {total:,}" if total else ""
        self._say(now_s, f"{what}: {done:,}{of}{f', {speed:,.0f}/s' if speed else ''}{more}")

    def share(self, what: str, share: float) -> None:
        """Say which share is done, if it is time to."""
        self._say(time.monotonic(), f"{what}, {share:.0%}")

    def _say(self, now_s: float, line: str) -> None:
        if now_s - self._said_s >= _SAY_EVERY_S:
            self._said_s = now_s
            talk(line)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Tell how many of something are done.

    Yields:
        The function that takes how many are done so far.
    """
    if not sys.stderr.isatty():
        lines = _Lines()
        lines(what, 0, total)
        yield lambda done: lines(what, done, total)
        return
    with _bar(MofNCompleteColumn(), _PerSecond(), TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def stages() -> Iterator[Callable[[str, float], None]]:
    """Tell how far work in stages is.

    Yields:
        The function that takes what is being done and the share of it that is done.
    """
    if not sys.stderr.isatty():
        yield _Lines().share
        return
    with _bar(TaskProgressColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda text, share: bar.update(task, description=text, completed=share)


@contextmanager
def replaying() -> Iterator[Callable[[str, int, int, float | None], None]]:
    """Tell how far a backtest is.

    Yields:
        The function that takes what is being done, how many clicks are done, of how many, and the recall so far.
        What a model does itself is `model: what`, and not in clicks.
    """
    if not sys.stderr.isatty():
        lines = _Lines()

        def say(text: str, done: int, total: int, recall: float | None) -> None:
            if ":" in text:
                lines.share(text, done / max(total, 1))
            else:
                lines(text, done, total, "" if recall is None else f", recall {recall:.3f}")

        yield say
        return
    with _bar(MofNCompleteColumn(), _PerSecond(), TimeRemainingColumn()) as bar:
        task, before = bar.add_task(""), ""

        def advance(text: str, done: int, total: int, recall: float | None) -> None:
            nonlocal before
            if text.partition(":")[0] != before:
                before = text.partition(":")[0]
                bar.reset(task)
            shown = text if recall is None else f"{text}, recall {recall:.3f}"
            bar.update(task, description=shown, completed=done, total=total)

        yield advance


def _bar(*columns: ProgressColumn) -> Progress:
    """What is being done, a bar, and these columns."""
    return Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=Console(stderr=True))


class _PerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")
