"""What a check of a log says, in words that fit the number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Example", "Finding", "Verdict", "counted"]

Verdict = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Example:
    """One place in the log that shows a finding; what does not apply is empty."""

    line: int
    user_id: str = ""
    item_id: str = ""
    ts_ms: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """What one check found: how many (clicks, unless the text says users or items), where, and what to do."""

    check: str
    verdict: Verdict
    count: int
    found: str
    examples: tuple[Example, ...] = ()
    remedy: str = ""


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 click`, `2 clicks`; `many` where it is not `one` and an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
