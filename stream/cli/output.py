"""Where a command writes: data to stdout, talk to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["Stdout", "print_error", "print_json", "print_table", "talk"]


class Stdout(Console):
    """A console on stdout that cuts nothing in a pipe, which has no width."""

    def __init__(self) -> None:
        super().__init__(highlight=False)
        if not self.is_terminal:
            self.width = 100_000

    def on_broken_pipe(self) -> None:
        """Leave the decision to `main`; rich would exit with 1."""
        raise BrokenPipeError


def print_json(value: object) -> None:
    """One JSON document on one line of stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout, without blanks at the ends of lines."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console = Stdout()
    with console.capture() as printed:
        console.print(table)
    sys.stdout.writelines(f"{line.rstrip(' ')}\n" for line in printed.get().removesuffix("\n").split("\n"))


def talk(message: str) -> None:
    """A sentence for the person at the terminal."""
    Console(stderr=True, highlight=False).print(message, markup=False, soft_wrap=True)


def print_error(message: str) -> None:
    """Each line of an error, marked as one."""
    console = Console(stderr=True, highlight=False)
    for line in message.splitlines() or ["it failed without saying why"]:
        console.print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True)
