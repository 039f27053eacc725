"""`eddyline dlq`: look at the clicks that could not be read, and send them again."""

from __future__ import annotations

import base64
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import print_json, print_table, talk

if TYPE_CHECKING:
    from eddyline.stream.dlq import DeadLetter

__all__ = ["register"]

_SHOWN_BYTES = 60

dlq = App(name="dlq", help="Show the records that could not be read, or send them again.")

Reason = Annotated[str | None, Parameter(help="Only those whose reason contains this text.")]


def register(app: App) -> None:
    """Add `eddyline dlq`."""
    app.command(dlq)


@dlq.command
def show(
    *,
    limit: Annotated[int | None, Parameter(help="Stop after so many.")] = None,
    reason: Reason = None,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> None:
    """Show the dead letters, oldest first; with --json one a line."""
    settings = options.connected()

    from itertools import islice  # noqa: PLC0415

    from eddyline.stream.dlq import read_dead_letters  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    letters = read_dead_letters(settings.kafka, Topics.of(settings.topics))
    chosen = islice((letter for letter in letters if reason is None or reason in letter.reason), limit)
    if as_json:
        for letter in chosen:
            print_json(asdict(letter) | _bytes("key", letter.key) | _bytes("value", letter.value))
        return
    rows = [_row(letter) for letter in chosen]
    if rows:
        print_table(("failed at (UTC)", "record", "stage", "reason", "sent again", "value"), rows)
    talk(f"{len(rows)} dead letters in {Topics.of(settings.topics).dlq}")


@dlq.command
def replay(
    *,
    reason: Reason = None,
    again: Annotated[bool, Parameter(help="Also those that were sent again before.")] = False,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> None:
    """Send the dead letters to the clicks topic again, each once."""
    settings = options.connected()

    from eddyline.stream.cli.progress import progress  # noqa: PLC0415
    from eddyline.stream.dlq import replay_dead_letters  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    names = Topics.of(settings.topics)
    with progress("dead letters", None) as advance:
        sent = replay_dead_letters(
            settings.kafka,
            names,
            only=None if reason is None else lambda letter: reason in letter.reason,
            again=again,
            on_progress=advance,
        )
    if as_json:
        print_json({"sent": sent})
    talk(f"sent {sent} dead letters to {names.clicks} again")


def _row(letter: DeadLetter) -> tuple[str, ...]:
    at = datetime.fromtimestamp(letter.failed_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    value = (letter.value or b"")[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
    cut = "…" if len(letter.value or b"") > _SHOWN_BYTES else ""
    whole = "" if letter.whole_bytes is None else f" (cut: the record has {letter.whole_bytes:,} bytes)"
    return (
        at if letter.failed_at_ms else "",
        f"{letter.topic}/{letter.partition}/{letter.offset}",
        letter.stage,
        letter.reason + whole,
        "yes" if letter.replayed else "no",
        "".join(char if char.isprintable() else "·" for char in value) + cut,
    )


def _bytes(name: str, raw: bytes | None) -> dict[str, str | None]:
    """Bytes in JSON: as text where they are UTF-8, else as `…_base64`."""
    try:
        return {name: None if raw is None else raw.decode()}
    except UnicodeDecodeError:
        return {name: None, f"{name}_base64": base64.b64encode(raw or b"").decode()}
