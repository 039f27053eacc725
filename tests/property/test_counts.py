"""Counts: whoever folds the same evidence, in whatever pieces, holds the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eddyline.model.counts import Counts, CountsSettings
from eddyline.state.evidence import Evidence

MOST = 8
SETTINGS = CountsSettings(neighbours=MOST, window=3)

Make = Callable[..., Evidence]
Piece = tuple[str, list[str], int]


@st.composite
def streams(draw: st.DrawFn) -> list[Piece]:
    """What the workers say of up to 60 clicks by four users on 25 items, in sessions of up to three clicks."""
    clicks = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 24)), max_size=60))
    history: dict[int, list[str]] = {}
    pieces = []
    for user, item in clicks:
        recent = history.setdefault(user, [])[:4]
        pieces.append((f"i{item}", list(recent), len(recent) % 3))
        history[user].insert(0, f"i{item}")
    return pieces


def fold(make: Make, pieces: list[Piece], cuts: list[int], counts: Counts | None = None) -> Counts:
    """The counts of messages cut at these places; each names its items, as if it were the first to."""
    counts = counts or Counts(SETTINGS)
    ends = [*sorted(cut for cut in cuts if cut < len(pieces)), len(pieces)]
    for begin, end in zip([0, *ends], ends, strict=False):
        counts.fold(Evidence.decode(make(pieces[begin:end], begin).encode()))
    return counts


def assert_same(one: Counts, other: Counts) -> None:
    assert one.ids == other.ids
    ours, theirs = one.to_arrays(), other.to_arrays()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.tobytes() == theirs[name].tobytes(), name


cut_places = st.lists(st.integers(0, 60), max_size=8)


@given(pieces=streams(), cuts=cut_places)
def test_any_cut_into_messages_gives_the_same(make_evidence: Make, pieces: list[Piece], cuts: list[int]) -> None:
    whole = fold(make_evidence, pieces, [])
    assert_same(fold(make_evidence, pieces, cuts), whole)
    assert whole.seen == len(pieces)
    assert whole.clicks.sum() == len(pieces)


@given(pieces=streams(), cuts=cut_places, back=st.integers(0, 60))
def test_what_is_delivered_again_changes_nothing(
    make_evidence: Make, pieces: list[Piece], cuts: list[int], back: int
) -> None:
    counts = fold(make_evidence, pieces, [])
    fold(make_evidence, pieces[:back], cuts, counts)
    assert_same(counts, fold(make_evidence, pieces, []))


@given(pieces=streams(), stop=st.integers(0, 60))
def test_a_stop_changes_nothing(make_evidence: Make, pieces: list[Piece], stop: int) -> None:
    stopped = fold(make_evidence, pieces[:stop], [])
    resumed = Counts.from_arrays(SETTINGS, stopped.ids, stopped.to_arrays())
    assert_same(fold(make_evidence, pieces, [stop], resumed), fold(make_evidence, pieces, []))


@given(pieces=streams())
def test_no_item_has_more_than_m_links(make_evidence: Make, pieces: list[Piece]) -> None:
    counts = fold(make_evidence, pieces, [])
    arrays = counts.to_arrays()
    for side in ("forward", "backward"):
        used, start = arrays[f"{side}.used"], arrays[f"{side}.start"]
        assert (used <= MOST).all()
        for source, (begin, length) in enumerate(zip(start, used, strict=True)):
            targets = arrays[f"{side}.target"][begin : begin + length]
            assert len(set(targets.tolist())) == length  # each once
            assert ((targets >= 0) & (targets < len(counts))).all(), source
            assert (arrays[f"{side}.weight"][begin : begin + length, 0] > 0).all()


@given(pieces=streams())
def test_rows_are_given_in_order_of_first_appearance(make_evidence: Make, pieces: list[Piece]) -> None:
    counts = fold(make_evidence, pieces, list(range(60)))
    assert counts.ids == list(dict.fromkeys(item for item, _, _ in pieces))
    assert np.array_equal(counts.rows(counts.hashes), np.arange(len(counts)))
