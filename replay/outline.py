"""What is asked in a backtest, and a first look over the log it is asked of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import xxhash
from pydantic import BaseModel, ConfigDict, Field

from eddyline.state.errors import ConfigurationError, EddylineError
from eddyline.state.records import Click, hash_id
from eddyline.state.times import to_iso

__all__ = ["BacktestSettings", "Outline", "Source", "outline"]

Source = Callable[[], Iterable[Click]]
"""Opens the log anew, in the order of time, clicks of weight 0 left out."""


class BacktestSettings(BaseModel):
    """What is asked of the models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: tuple[int, ...] = Field((10, 20), min_length=1, description="List lengths; the longest is the main one")
    warm_up: float = Field(0.5, gt=0, lt=1, description="First share of the log, which does not count")
    warm_up_until_ms: int | None = Field(None, description="End of the warm-up as a time, instead of a share")
    fitted: float = Field(0.2, gt=0, lt=1, description="Last share of the warm-up: gates are fitted, variants chosen")
    new_only: bool = Field(False, description="Known items are no candidates, and clicks on them do not count")
    serve: Literal["request", "published", "both"] = Field(
        "request",
        description="Which lists count: made when the click comes, or those on the topic by then",
    )
    kinds: tuple[str, ...] = Field((), description="Kinds of click that count; all are learned from. Empty: all")
    counts_every_ms: int = Field(1_000, ge=0, description="Event time between two updates of the counts")
    windows: int = Field(20, ge=1, description="Windows of equally many clicks that figures are shown by")
    seed: int = Field(0, ge=0, description="Of everything drawn")


@dataclass
class Outline:
    """What a first look over the log says.

    Attributes:
        clicks: how many, of a weight above 0.
        users, items: distinct ones.
        first_ms, last_ms: event times.
        kinds: clicks of each kind.
        fingerprint: a hash of everything in the clicks that a model can see.
        warm_up: how many clicks the warm-up has.
    """

    clicks: int = 0
    users: int = 0
    items: int = 0
    first_ms: int = 0
    last_ms: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    fingerprint: str = ""
    warm_up: int = 0


def outline(source: Source, settings: BacktestSettings) -> Outline:
    """Look over the log once.

    Raises:
        EddylineError: it is not in the order of time, or too short to be split.
        ConfigurationError: it has no clicks of a kind that is to count.
    """
    found, digest = Outline(), xxhash.xxh3_128()
    users: set[int] = set()
    items: set[int] = set()
    before = 0
    for click in source():
        if click.ts_ms < found.last_ms:
            raise EddylineError(
                f"click {click.event_id} of {to_iso(click.ts_ms)} comes after one of {to_iso(found.last_ms)}: a "
                "backtest needs the order of time; `eddyline validate LOG --write SORTED` sorts a log"
            )
        found.first_ms = found.first_ms or click.ts_ms
        found.last_ms = click.ts_ms
        found.clicks += 1
        found.kinds[click.kind] += 1
        users.add(hash_id(click.user_id))
        items.add(hash_id(click.item_id))
        digest.update(f"{click.user_id}\0{click.item_id}\0{click.ts_ms}\0{click.kind}\0{click.session_id}\n".encode())
        before += settings.warm_up_until_ms is not None and click.ts_ms < settings.warm_up_until_ms
    if found.clicks and (unknown := [kind for kind in settings.kinds if kind not in found.kinds]):
        there = ", ".join(sorted(found.kinds))
        raise ConfigurationError(
            f"--kinds {','.join(unknown)}: there are no such clicks of a weight above 0; there are {there}"
        )
    found.users, found.items, found.fingerprint = len(users), len(items), digest.hexdigest()
    found.warm_up = round(found.clicks * settings.warm_up) if settings.warm_up_until_ms is None else before
    if found.warm_up < _LEAST or found.clicks - found.warm_up < _LEAST:
        raise EddylineError(
            f"the log has {found.warm_up:,} clicks of warm-up and {found.clicks - found.warm_up:,} after it: want at "
            f"least {_LEAST} of each; check --warmup, --from, --until, --limit, the columns, and clicks.weights"
        )
    return found


_LEAST = 100
