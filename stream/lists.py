"""From ranked rows to the records that subscribers read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

import msgspec
import numpy as np

from eddyline.model.counts import Counts
from eddyline.model.model import Model
from eddyline.model.ranking import Lists
from eddyline.state.records import Cause, RankedItem, Recommendation, encode
from eddyline.state.user_state import UserStates
from eddyline.stream.list_json import ItemNames, items_json

__all__ = ["encode_lists"]


def encode_lists(
    lists: Lists,
    states: UserStates,
    user_ids: Sequence[str],
    event_ids: Sequence[str],
    cause: Cause,
    model: Model,
    counts: Counts,
    names: ItemNames,
) -> list[bytes]:
    """One recommendation per user, as JSON.

    Args:
        lists: ranked rows of U users.
        states: the states they were made from, (U,).
        user_ids, event_ids: whose they are, and the click that caused each ("" for a refresh).
        cause: why they are published; without a trained model it is always a fallback.
        model, counts: what made them.
        names: the ids of these counts' items; grows with them.
    """
    now_ms = time.time_ns() // 1_000_000
    age_ms = max(0, now_ms - model.trained_until_ms) if model.version else 0
    last = np.maximum(states["history_length"].astype(np.int64) - 1, 0)
    event_ms = states["ts_ms"][np.arange(len(states)), last].tolist()
    places = zip(states["partition"].tolist(), states["offset"].tolist(), strict=True)
    of = [f"{partition}-{offset}" if offset >= 0 else "new" for partition, offset in places]
    again = f"-{now_ms}" if cause == "refresh" else ""
    names.grow(counts.ids)
    items = items_json(lists, names)
    records = []
    for u, user_id in enumerate(user_ids):
        records.append(
            encode(
                Recommendation(
                    recommendation_id=f"{of[u]}-{model.version}{again}",
                    user_id=user_id,
                    items=cast(list[RankedItem], msgspec.Raw(items[u])),
                    model_version=model.version,
                    model_age_ms=age_ms,
                    cause=cause if model.version else "fallback",
                    cause_event_id=event_ids[u],
                    event_ts_ms=event_ms[u],
                    produced_ts_ms=now_ms,
                )
            )
        )
    return records
