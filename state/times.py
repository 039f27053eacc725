"""Times as people write them: ISO-8601, UTC unless they say otherwise."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["from_iso", "to_iso"]


def from_iso(text: str) -> int:
    """Milliseconds since 1970 of a date or time.

    Raises:
        ValueError: it is neither.
        OverflowError: it is too far away.
    """
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def to_iso(ms: int, timespec: str = "seconds") -> str:
    """Milliseconds since 1970 as a time, such as 2026-03-01T12:00:00Z; `timespec` is that of `datetime.isoformat`."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
