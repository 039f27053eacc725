"""A progress bar on stderr. A module of its own, so that only commands that show one load it."""

from __future__ import annotations

import sys
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

__all__ = ["progress", "replaying", "stages"]


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, only where a person is looking.

    Yields:
        The function that takes how many are done so far.
    """
    with _bar(MofNCompleteColumn(), _PerSecond(), TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def stages() -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr for work in stages, only where a person is looking.

    Yields:
        The function that takes what is being done and the share of it that is done.
    """
    with _bar(TaskProgressColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda text, share: bar.update(task, description=text, completed=share)


@contextmanager
def replaying() -> Iterator[Callable[[str, int, int, float | None], None]]:
    """A progress bar on stderr for a backtest, only where a person is looking.

    Yields:
        The function that takes what is being done, how many clicks are done, of how many, and the recall so far.
    """
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
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


class _PerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")
