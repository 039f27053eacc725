"""What `eddyline validate` looks at: whether a log is fit to be learned from and backtested on.

FAIL: a backtest or a model on it would be wrong. WARN: it may be, look at it. PASS: nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eddyline.replay import flaws
from eddyline.replay.click_table import ClickTable, Ints
from eddyline.replay.findings import Example, Finding, Verdict, counted
from eddyline.state.times import to_iso

__all__ = ["ValidateSettings", "validate"]

_EXAMPLES = 3
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_FIRST_MS = 631_152_000_000  # 1990: there was no web to click on
_LEAST_CLICKS = 100  # below them, shares say nothing
_LEAST_USERS = 20
_LEAST_STEPS = 5  # six items in order by chance: one user in 360
_WRITE = "`--write CLEAN` writes the log without them"


@dataclass(frozen=True)
class ValidateSettings:
    """What the checks compare with.

    Attributes:
        now_ms: clicks after it are in the future.
        warm_up: the share of the log before the boundary of a backtest.
        bot_rate: clicks a minute, over ten minutes, that no person makes.
    """

    now_ms: int
    warm_up: float = 0.5
    bot_rate: float = 30.0


def validate(table: ClickTable, settings: ValidateSettings) -> Iterator[Finding]:
    """Look at a log, one check after the other; of a log without clicks only the first."""
    yield _rows(table)
    if not len(table):
        return
    yield _order(table)
    yield _repeated(table)
    yield _event_ids(table)
    yield _future(table, settings.now_ms)
    yield _past(table)
    yield _gaps(table)
    yield _kinds(table)
    yield _bots(table, settings.bot_rate)
    yield _unknown(table)
    yield _single("user", table.users, table.user, table.clicks_of_users, table)
    yield _single("item", table.items, table.item, table.clicks_on_items, table)
    yield _same_column(table)
    yield from _order_within_users(table)
    yield _boundary(table, settings.warm_up)


def _rows(table: ClickTable) -> Finding:
    found = f"{counted(table.bad_rows, 'row')} cannot be read, {len(table):,} can"
    if table.bad_rows:
        examples = tuple(Example(line, note=reason) for line, reason in table.bad)
        return Finding("rows", "FAIL", table.bad_rows, found, examples, f"correct them; {_WRITE}")
    if not len(table):
        return Finding("rows", "FAIL", 0, found, remedy="the log is empty: check that it is the right file")
    if len(table) < _LEAST_CLICKS:
        remedy = f"take a longer log: below {_LEAST_CLICKS} clicks, those of users and items with one click say nothing"
        return Finding("rows", "WARN", 0, found, remedy=remedy)
    return Finding("rows", "PASS", 0, found)


def _order(table: ClickTable) -> Finding:
    rows = np.flatnonzero(table.late)
    found = f"{counted(len(rows), 'click comes', 'clicks come')} after a later one"
    if table.sorted_on_reading:
        return Finding("order of time", "PASS", len(rows), f"{found}; --layout puts them in order whenever it is read")
    return _at(table, "order of time", "FAIL", rows, found, "`--write CLEAN` writes the log in the order of time")


def _repeated(table: ClickTable) -> Finding:
    rows = np.flatnonzero(flaws.repeated(*flaws.equal_clicks(table)))
    found = f"{_clicks(rows, table, 'repeats', 'repeat')} user, item, time and kind of another"
    return _at(table, "duplicates", "WARN", rows, found, f"learn whether they were sent twice; {_WRITE}")


def _event_ids(table: ClickTable) -> Finding:
    rows = np.flatnonzero(flaws.repeated(*flaws.equal_event_ids(table)))
    found = f"{counted(len(rows), 'click has', 'clicks have')} the event id of another"
    remedy = f"if it is the right column (--event-column), they were sent twice: {_WRITE}"
    return _at(table, "event ids", "FAIL", rows, found, remedy)


def _future(table: ClickTable, now_ms: int) -> Finding:
    rows = np.flatnonzero(flaws.in_future(table, now_ms))
    found = f"{counted(len(rows), 'click is', 'clicks are')} later than now, {to_iso(now_ms)}"
    return _at(table, "future", "FAIL", rows, found, f"check --time-unit and the clocks; {_WRITE}")


def _past(table: ClickTable) -> Finding:
    rows = np.flatnonzero(table.ts_ms < _FIRST_MS)
    found = f"{counted(len(rows), 'click is', 'clicks are')} earlier than {to_iso(_FIRST_MS)[:4]}"
    return _at(table, "past", "WARN", rows, found, "check --time-unit: seconds read as `ms` give January 1970")


def _gaps(table: ClickTable) -> Finding:
    """A gap is three times as long as the longest pause of a usual week (day, hour), and at least an hour."""
    times = table.ts_ms[table.by_time]
    pauses = np.diff(times)
    low, high = np.quantile(times, (0.005, 0.995))  # a few stray times must not decide
    unit, period = ("week", 7 * _DAY_MS) if high - low > 28 * _DAY_MS else ("day", _DAY_MS)
    if high - low < 4 * _DAY_MS:
        unit, period = "hour", _HOUR_MS
    begins = np.flatnonzero(np.diff(times[1:] // period, prepend=-1))
    usual = int(np.median(np.maximum.reduceat(pauses, begins))) if len(begins) else 0
    before = np.flatnonzero(pauses > max(3 * usual, _HOUR_MS))
    found = f"{counted(len(before), 'pause')} far beyond the longest of a usual {unit}, {_long(usual)}"
    longest_first = before[np.argsort(-pauses[before], kind="stable")]
    notes = [f"{_long(pauses[at])} without a click before it" for at in longest_first[:_EXAMPLES]]
    remedy = "see whether clicks are missing; a backtest across a gap tells little about freshness"
    return _at(table, "gaps", "WARN", table.by_time[longest_first + 1], found, remedy, notes)


def _kinds(table: ClickTable) -> Finding:
    counts = np.bincount(table.kind)
    shown = ", ".join(f"{table.kinds[at]} {counts[at]:,}" for at in np.argsort(-counts, kind="stable")[:6])
    found = f"{counted(len(counts), 'kind')} of events: {shown}{', …' if len(counts) > 6 else ''}"
    spelt_alike = len(counts) - len({kind.strip().lower() for kind in table.kinds})
    if spelt_alike == 0 and len(counts) <= 50:
        return Finding("kinds", "PASS", 0, found)
    remedy = "check --kind-column; kinds are weighed (`clicks.weights`) exactly as they are spelt"
    return Finding("kinds", "WARN", spelt_alike, found, remedy=remedy)


def _bots(table: ClickTable, per_minute: float) -> Finding:
    mask = flaws.bots(table, per_minute)
    users = np.flatnonzero(mask)
    users = users[np.argsort(-table.clicks_of_users[users], kind="stable")]
    clicks = int(table.clicks_of_users[users].sum())
    found = (
        f"{counted(len(users), 'user clicks', 'users click')} like machines, with {_share(clicks, table)} of the clicks"
    )
    rows = _first_rows(table.user, users[:_EXAMPLES])
    notes = [counted(int(table.clicks_of_users[user]), "click") for user in users[:_EXAMPLES]]
    remedy = "if they are no people, `--write CLEAN --drop-bots` leaves them out; `--bot-rate` says what is too fast"
    return _at(table, "bots", "WARN", rows, found, remedy, notes, count=len(users))


def _unknown(table: ClickTable) -> Finding:
    rows = np.flatnonzero(flaws.unknown(table))
    found = f"{_clicks(rows, table, 'has', 'have')} an id that says there is none (null, -1, unknown, …)"
    verdict: Verdict = "FAIL" if len(rows) > 0.1 * len(table) else "WARN"
    remedy = "strangers who share an id are one user to a model; `--write CLEAN --drop-unknown` leaves them out"
    return _at(table, "unknown ids", verdict, rows, found, remedy)


def _single(what: str, names: list[str], codes: Ints, clicks: Ints, table: ClickTable) -> Finding:
    single = np.flatnonzero(clicks == 1)
    share = len(single) / len(names)
    has = "has" if len(single) == 1 else "have"
    found = f"{len(single):,} of {counted(len(names), what)} ({share:.0%}) {has} one click"
    check = f"{what}s with one click"
    if len(table) < _LEAST_CLICKS:
        return Finding(check, "PASS", len(single), f"{found}; too few clicks to judge")
    if share <= 0.5:
        return Finding(check, "PASS", len(single), found)
    if share > 0.95:
        verdict: Verdict = "FAIL"
        remedy = f"hardly any {what} comes twice: is --{what}-column the {what}, or does it name the event?"
    else:
        verdict = "WARN"
        remedy = "little can be learned from them: expect low recall, or take a longer log"
    return _at(table, check, verdict, _first_rows(codes, single[:_EXAMPLES]), found, remedy, count=len(single))


def _same_column(table: ClickTable) -> Finding:
    places = {name: place for place, name in enumerate(table.users)}
    user_of_item = np.array([places.get(name, -1) for name in table.items], np.int64)
    rows = np.flatnonzero(user_of_item[table.item] == table.user)
    found = f"{_clicks(rows, table, 'has', 'have')} the same id as user and as item"
    if len(rows) <= 0.05 * len(table):
        return Finding("user is item", "PASS", len(rows), found)
    verdict: Verdict = "FAIL" if len(rows) > 0.5 * len(table) else "WARN"
    return _at(table, "user is item", verdict, rows, found, "check --user-column and --item-column")


def _order_within_users(table: ClickTable) -> Iterator[Finding]:
    """Whether the order of a user's clicks is known, and whether the item's id gives the next one away."""
    rows = table.by_user
    step = (table.user[rows[1:]] == table.user[rows[:-1]]) & (table.item[rows[1:]] != table.item[rows[:-1]])
    before, after = rows[:-1][step], rows[1:][step]
    tied = table.ts_ms[before] == table.ts_ms[after]
    share = int(tied.sum()) / len(table)
    found = f"{_clicks(after[tied], table, 'has', 'have')} the time of the user's click before, on another item"
    if share <= 0.05:
        yield Finding("ties", "PASS", int(tied.sum()), found)
    else:
        remedy = "what came first is a guess: use finer times, or judge the next basket and not the next click"
        yield _at(table, "ties", "WARN", after[tied], found, remedy)

    place = _places_by_id(table.items)
    up = (place[table.item[after]] > place[table.item[before]]).astype(float)
    steps = np.bincount(table.user[after], minlength=len(table.users))
    ups = np.bincount(table.user[after], up, minlength=len(table.users))
    long = steps >= _LEAST_STEPS
    users = np.flatnonzero(long & ((ups == 0) | (ups == steps)))
    share = len(users) / max(int(long.sum()), 1)
    those = f"{counted(int(long.sum()), 'user')} with six clicks or more"
    found = f"{len(users):,} of {those} ({share:.1%}): clicks in the order of item ids"
    tied_up = float(up[tied].mean()) if tied.sum() >= _LEAST_CLICKS else 0.5
    by_ties = abs(tied_up - 0.5) > 0.4
    if by_ties:
        found += f"; so are {max(tied_up, 1 - tied_up):.0%} of the ties"
    if not by_ties and (share <= 0.02 or long.sum() < _LEAST_USERS):
        yield Finding("order by item id", "PASS", len(users), found)
        return
    verdict: Verdict = "FAIL" if share > 0.5 and long.sum() >= _LEAST_USERS else "WARN"
    remedy = "the file was sorted by item, not by what happened first: the next item leaks; find the true order"
    shown = _first_rows(table.user, users[:_EXAMPLES]) if len(users) else after[tied]
    yield Finding("order by item id", verdict, len(users), found, _examples(table, shown), remedy)


def _boundary(table: ClickTable, warm_up: float) -> Finding:
    """Nothing may be on both sides of the boundary at which a backtest stops training."""
    at = round(len(table) * warm_up)
    as_read = table.by_time if table.sorted_on_reading else np.arange(len(table))
    later = np.zeros(len(table), np.bool_)
    later[as_read[at:]] = True
    across = np.zeros(len(table), np.bool_)
    for rows, groups in (flaws.equal_clicks(table), flaws.equal_event_ids(table)):
        sooner = np.bincount(groups, ~later[rows]) > 0
        across[rows] |= later[rows] & sooner[groups]
    known = np.isin(table.user[as_read[at:]], table.user[as_read[:at]])
    later_than = f"after the first {warm_up:.0%}"
    found = counted(
        int(across.sum()), f"click {later_than} repeats one before", f"clicks {later_than} repeat one before"
    )
    if len(known):
        found += f"; {known.mean():.0%} of the later clicks are of users known by then"
    remedy = f"they would be tested on what was trained on: {_WRITE}"
    return _at(table, "boundary", "FAIL", np.flatnonzero(across), found, remedy)


def _at(
    table: ClickTable,
    check: str,
    verdict: Verdict,
    rows: Ints,
    found: str,
    remedy: str,
    notes: Sequence[str] = (),
    count: int | None = None,
) -> Finding:
    """A finding about rows, with the first few as examples; PASS if there are none."""
    if len(rows) == 0:
        return Finding(check, "PASS", 0, found)
    return Finding(check, verdict, len(rows) if count is None else count, found, _examples(table, rows, notes), remedy)


def _examples(table: ClickTable, rows: Ints, notes: Sequence[str] = ()) -> tuple[Example, ...]:
    return tuple(
        Example(int(table.line[row]), table.users[user], table.items[item], int(table.ts_ms[row]), note)
        for row, user, item, note in zip(
            rows[:_EXAMPLES], table.user[rows], table.item[rows], notes or [""] * _EXAMPLES, strict=False
        )
    )


def _first_rows(codes: Ints, wanted: Ints) -> Ints:
    """The first row of each of these codes."""
    return np.array([int(np.argmax(codes == code)) for code in wanted], np.int64)


def _places_by_id(names: list[str]) -> Ints:
    """Where each id stands among all in their order: that of numbers if all are whole numbers, else of text, (I,)."""
    numeric = all(name.removeprefix("-").isdecimal() for name in names)
    keys = [int(name) for name in names] if numeric else names
    places = np.empty(len(names), np.int64)
    places[sorted(range(len(names)), key=keys.__getitem__)] = np.arange(len(names))
    return places


def _clicks(rows: Ints, table: ClickTable, has: str, have: str) -> str:
    """How many clicks these rows are, and which share, with a verb."""
    return f"{counted(len(rows), 'click')} ({_share(len(rows), table)}) {has if len(rows) == 1 else have}"


def _share(count: int, table: ClickTable) -> str:
    return f"{count / len(table):.1%}"


def _long(ms: float) -> str:
    return f"{ms / _HOUR_MS:,.1f} h" if ms >= _HOUR_MS else f"{ms / 60_000:.1f} min"
