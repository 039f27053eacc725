"""Which clicks of a log should not be there: repeated ones, those of the future, of bots, and of nobody."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from eddyline.replay.click_table import ClickTable, Ints

__all__ = ["Mask", "bots", "equal_clicks", "equal_event_ids", "flawed", "in_future", "repeated", "unknown"]

Mask = npt.NDArray[np.bool_]

# Spellings of "no id", compared without case and surrounding space.
_NOBODY = frozenset(
    {"", "-", "-1", "?", "(not set)", "(null)", "\\n", "anonymous", "n/a", "na", "nan", "nil", "none", "null"}
    | {"undefined", "unknown"}
)
_SUSTAINED_MIN = 10
_FAR_BEYOND = 10  # times the 99.9th percentile
_LEAST_BOT_CLICKS = 1_000


def flawed(table: ClickTable, now_ms: int, bot_rate: float | None, *, nobody: bool) -> dict[str, Mask]:
    """Which clicks a clean log goes without, by reason, each (R,).

    Args:
        table: the log.
        now_ms: clicks after it are in the future.
        bot_rate: clicks a minute above which a user is a bot; None keeps bots.
        nobody: whether clicks without a user or item go, too.
    """
    found = {
        "future": in_future(table, now_ms),
        "duplicates": repeated(*equal_clicks(table)),
        "repeated event ids": repeated(*equal_event_ids(table)),
    }
    if bot_rate is not None:
        found["bots"] = bots(table, bot_rate)[table.user]
    if nobody:
        found["unknown ids"] = unknown(table)
    return found


def equal_clicks(table: ClickTable) -> tuple[Ints, Ints]:
    """Rows with the same user, item, time and kind.

    Returns:
        The rows, equal ones side by side and the earlier first, and the number of each one's group, both (R,).
    """
    keys = (table.kind, table.item, table.user, table.ts_ms)
    return _groups(table.by_time[np.lexsort(tuple(key[table.by_time] for key in keys))], *keys)


def equal_event_ids(table: ClickTable) -> tuple[Ints, Ints]:
    """Rows with the same event id; returns what `equal_clicks` does."""
    rows = table.by_time[np.argsort(table.event[table.by_time], kind="stable")]
    return _groups(rows, table.event)


def _groups(rows: Ints, *keys: npt.NDArray[np.int64] | npt.NDArray[np.uint64]) -> tuple[Ints, Ints]:
    differs = np.zeros(len(rows), np.bool_)
    for key in keys:
        differs[1:] |= key[rows[1:]] != key[rows[:-1]]
    return rows, np.cumsum(differs)


def repeated(rows: Ints, groups: Ints) -> Mask:
    """Which rows are not the first of their group, (R,)."""
    mask = np.zeros(len(rows), np.bool_)
    mask[rows[1:][groups[1:] == groups[:-1]]] = True
    return mask


def in_future(table: ClickTable, now_ms: int) -> Mask:
    """Which clicks have not happened yet, (R,)."""
    return table.ts_ms > now_ms


def unknown(table: ClickTable) -> Mask:
    """Which clicks have a user or an item whose id says that it is none (`null`, `-1`, `unknown`, …), (R,)."""
    users = np.array([name.strip().lower() in _NOBODY for name in table.users], np.bool_)
    items = np.array([name.strip().lower() in _NOBODY for name in table.items], np.bool_)
    mask: Mask = users[table.user] | items[table.item]
    return mask


def bots(table: ClickTable, per_minute: float) -> Mask:
    """Which users click like a machine, (U,).

    Either more than `per_minute` times a minute over ten minutes, where clicks at the same instant count once (they
    may have been logged in bulk), or more than ten times as often as 99.9 % of the users, and a thousand times.
    """
    found: Mask = np.zeros(len(table.users), np.bool_)
    if not len(table):
        return found
    times, users = table.ts_ms[table.by_user], table.user[table.by_user]
    distinct = np.append(True, (times[1:] != times[:-1]) | (users[1:] != users[:-1]))
    times, users = times[distinct], users[distinct]
    ahead = max(int(per_minute * _SUSTAINED_MIN), 1)
    fast = (users[ahead:] == users[:-ahead]) & (times[ahead:] - times[:-ahead] < _SUSTAINED_MIN * 60_000)
    found[users[ahead:][fast]] = True
    usual = np.quantile(table.clicks_of_users, 0.999, method="lower")
    found |= table.clicks_of_users >= max(_FAR_BEYOND * usual + 1, _LEAST_BOT_CLICKS)
    return found
