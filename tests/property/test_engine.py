"""The engine: however clicks are cut into batches, and whatever is delivered again, states are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eddyline.model.clicks import Clicks, ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import Engine, EngineSettings
from eddyline.model.model import untrained_model
from eddyline.model.short_term import Encoder
from eddyline.state.evidence import Evidence
from eddyline.state.records import Click
from eddyline.state.user_state import UserStates, decode_states, encode_state, new_states

USERS = 3

clicks_of = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, 12), st.integers(0, 40), st.sampled_from([None, "s", "t"])),
    max_size=20,
)
cuts_of = st.lists(st.integers(0, 20), max_size=4)


@pytest.fixture(scope="module", params=["with an encoder", "without an encoder"])
def engine(
    request: pytest.FixtureRequest, engine_settings: EngineSettings, make_encoder: Callable[..., Encoder]
) -> Engine:
    encoder = make_encoder() if request.param == "with an encoder" else None
    return Engine(engine_settings, replace(untrained_model(8), encoder=encoder))


@pytest.fixture(scope="module")
def timed(click: Callable[..., Click]) -> Callable[..., list[Click]]:
    """Clicks with up to 40 minutes between them."""

    def make(drawn: list[tuple[int, int, int, str | None]]) -> list[Click]:
        minutes = np.cumsum([gap for _, _, gap, _ in drawn])
        return [
            click(f"u{user}", f"i{item}", int(minute), session)
            for (user, item, _, session), minute in zip(drawn, minutes, strict=True)
        ]

    return make


def run(
    engine: Engine, clicks: list[Click], begin: int, ends: list[int], states: UserStates, counts: Counts
) -> tuple[UserStates, list[Evidence]]:
    """Apply clicks from `begin` on in batches that end at these places; states go to bytes and back in between."""
    evidence = []
    for end in sorted({min(end, len(clicks)) for end in ends} | {len(clicks)}):
        if end <= begin:
            continue
        part = clicks[begin:end]
        rows = [int(one.user_id[1:]) for one in part]
        positions = [(0, offset) for offset in range(begin, begin + len(part))]
        step = engine.step(Clicks.of(part, rows, positions, ClickSettings()), states, counts)
        states = decode_states(engine.settings.shape, [encode_state(state) for state in step.states])
        evidence.append(step.evidence)
        assert len(step.lists.item) == len(step.listed) == len(set(rows))
        assert sum(len(one) for one in step.examples) == len(step.evidence) == int(step.applied.sum())
        begin = end
    return states, evidence


def joined(evidence: list[Evidence]) -> dict[str, list[object]]:
    named = [field.name for field in fields(Evidence) if field.name != "new_ids"]
    columns: dict[str, list[object]] = {
        name: [value for one in evidence for value in getattr(one, name).tolist()] for name in named
    }
    return columns | {"new_ids": list(dict.fromkeys(one for part in evidence for one in part.new_ids))}


@given(drawn=clicks_of, cuts=cuts_of)
def test_any_cut_into_batches_gives_the_same_states_and_evidence(
    engine: Engine, timed: Callable[..., list[Click]], drawn: list[tuple[int, int, int, str | None]], cuts: list[int]
) -> None:
    clicks, new = timed(drawn), new_states(engine.settings.shape, USERS)
    single, apart = run(engine, clicks, 0, list(range(len(clicks))), new, Counts())
    whole, together = run(engine, clicks, 0, cuts, new, Counts())
    assert whole.tobytes() == single.tobytes()
    assert joined(together) == joined(apart)


@given(drawn=clicks_of, crash=st.integers(0, 20), back=st.integers(0, 20), cuts=cuts_of)
def test_clicks_delivered_again_after_a_crash_are_applied_once(
    engine: Engine,
    timed: Callable[..., list[Click]],
    drawn: list[tuple[int, int, int, str | None]],
    crash: int,
    back: int,
    cuts: list[int],
) -> None:
    clicks, new = timed(drawn), new_states(engine.settings.shape, USERS)
    want, evidence = run(engine, clicks, 0, [], new, Counts())
    before, first = run(engine, clicks[:crash], 0, [], new, Counts())
    after, second = run(engine, clicks, min(crash, back), cuts, before, Counts())
    assert after.tobytes() == want.tobytes()
    assert joined(first + second) == joined(evidence)
