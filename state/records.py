"""The records people meet on the topics: what comes in (`Click`) and what goes out (`Recommendation`)."""

from __future__ import annotations

from typing import Literal

import msgspec
import xxhash

from eddyline.state.errors import BadRecord

__all__ = [
    "Cause",
    "Click",
    "Parts",
    "RankedItem",
    "Recommendation",
    "Why",
    "decode_click",
    "decode_recommendation",
    "encode",
    "hash_id",
]

Cause = Literal["click", "refresh", "fallback"]


class Click(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a user on an item, as it stands on the clicks topic (JSON; unknown fields are ignored).

    `ts_ms` is the event's own time, in milliseconds since 1970, UTC. `kind` is what happened (click, view,
    purchase, rating, …); its weight is configurable and 0 ignores it.
    """

    event_id: str
    user_id: str
    item_id: str
    ts_ms: int
    kind: str
    value: float | None = None
    session_id: str | None = None
    recommendation_id: str | None = None


class Parts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What each source gave to a score; they add up to it.

    `neural`: A(F(u), I(i)). `popularity`: decayed and plain clicks, and age. `co_clicks`: what others clicked
    before and after the user's recent items. `history`: the user's own clicks on it. `pattern`: what the item
    counts and the history say together, beyond their sum.
    """

    neural: float = 0.0
    popularity: float = 0.0
    co_clicks: float = 0.0
    history: float = 0.0
    pattern: float = 0.0


class Why(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Why an item is on a list: the part each source gave to its score, and the recent items behind it."""

    parts: Parts
    because_of: list[str] = []


class RankedItem(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One place on a list."""

    item_id: str
    score: float
    why: Why | None = None


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """A user's newest list, as it stands on the recommendations topic (JSON, key = user id).

    `cause`: `click` (the user just clicked), `refresh` (a new model, same clicks) or `fallback` (no model is
    trained yet: popularity and item counts alone). `model_age_ms` is the age of the model's training at
    `produced_ts_ms`; 0 without a model.
    """

    recommendation_id: str
    user_id: str
    items: list[RankedItem]
    model_version: int
    model_age_ms: int
    cause: Cause
    cause_event_id: str
    event_ts_ms: int
    produced_ts_ms: int


# The last millisecond of the year 9999: larger values are microseconds or nanoseconds by mistake.
_LAST_MS = 253_402_300_799_999

# Ids travel in lists and evidence, several to a message, and must leave it below what Kafka takes.
_LONGEST_ID = 512

_decode_click = msgspec.json.Decoder(Click).decode
_decode_recommendation = msgspec.json.Decoder(Recommendation).decode
_encoder = msgspec.json.Encoder()


def encode(record: Click | Recommendation) -> bytes:
    """The record as it stands on its topic: one JSON object, UTF-8."""
    return _encoder.encode(record)


def decode_click(raw: bytes) -> Click:
    """Read one record of the clicks topic.

    Raises:
        BadRecord: it is not JSON, a field is missing or mistyped, an id is empty or too long, or the time is not
            positive. The reason names the field.
    """
    try:
        click = _decode_click(raw)
    except msgspec.ValidationError as error:
        raise BadRecord(str(error), _field_of(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord(f"not a JSON object: {error}") from error
    for name in ("event_id", "user_id", "item_id", "kind"):
        if not getattr(click, name):
            raise BadRecord(f"`{name}` is empty", name)
    for name in ("event_id", "user_id", "item_id", "kind", "session_id"):
        text = getattr(click, name) or ""
        if len(text) > _LONGEST_ID:
            raise BadRecord(f"`{name}` has {len(text):,} characters: want at most {_LONGEST_ID}", name)
    if not 0 < click.ts_ms <= _LAST_MS:
        raise BadRecord(f"`ts_ms` is {click.ts_ms}: want milliseconds since 1970, UTC", "ts_ms")
    return click


def decode_recommendation(raw: bytes) -> Recommendation:
    """Read one record of the recommendations topic.

    Raises:
        BadRecord: it is not a recommendation.
    """
    try:
        return _decode_recommendation(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecord(f"not a recommendation: {error}", _field_of(str(error))) from error


def hash_id(identifier: str) -> int:
    """The 64-bit hash that stands for an item or a user inside states, evidence and examples; never 0.

    Ids come from outside, so the hash is seedless and the same in every process (xxh3). Zero is kept free to
    mean "none".
    """
    return xxhash.xxh3_64_intdigest(identifier.encode()) or 1


def _field_of(message: str) -> str:
    """The field a msgspec message speaks of: `… missing required field `kind`` or `… - at `$.ts_ms``."""
    if "missing required field `" in message:
        return message.split("missing required field `")[1].split("`", maxsplit=1)[0]
    if "`$." in message:
        return message.split("`$.")[1].split("`", maxsplit=1)[0]
    return ""
