"""The engine: a step through many moments is a step, and a fold, for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eddyline.model.clicks import Clicks, ClickSettings
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.engine import Engine, EngineSettings, Step
from eddyline.model.long_term import ItemEmbeddings
from eddyline.model.model import Model, untrained_model
from eddyline.model.short_term import Encoder
from eddyline.state.evidence import Evidence
from eddyline.state.records import Click
from eddyline.state.user_state import UserStates, new_states

USERS = 4

clicks_of = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, 14), st.integers(0, 20), st.sampled_from([None, "s"])),
    min_size=1,
    max_size=30,
)
cuts_of = st.lists(st.integers(1, 30), max_size=12)


@pytest.fixture(scope="module", params=["trained", "trained, new items alone", "untrained"])
def served(request: pytest.FixtureRequest, make_encoder: Callable[..., Encoder]) -> tuple[Model, bool]:
    if request.param == "untrained":
        return untrained_model(8), False
    made = untrained_model(8)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in made.network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        items = ItemEmbeddings(torch.nn.functional.normalize(torch.randn(5, 8), dim=-1), torch.randn(5))
    return replace(made, encoder=make_encoder(), items=items), "alone" in request.param


def once_more(model: Model) -> Model:
    """The same model, whose items have not grown yet."""
    trained = model.items.trained
    return replace(
        model, items=ItemEmbeddings(model.items.vector[:trained].clone(), model.items.bias[:trained].clone())
    )


def one_by_one(
    engine: Engine, clicks: Clicks, ends: np.ndarray, states: UserStates, counts: Counts
) -> tuple[list[Step], UserStates]:
    steps = []
    for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        steps.append(engine.step(clicks.part(begin, end), states, counts, answers=True))
        counts.fold(steps[-1].evidence)
        states = steps[-1].states
    return steps, states


def assert_same(whole: Step, parts: list[Step], name: str, *path: str) -> None:
    def of(step: Step) -> np.ndarray:
        found: object = step
        for attribute in path:
            found = getattr(found, attribute)
        return np.asarray(getattr(found, name))

    np.testing.assert_allclose(
        of(whole), np.concatenate([of(one) for one in parts]), rtol=1e-5, atol=1e-5, err_msg=f"{path} {name}"
    )


def logged(step: Step, name: str) -> np.ndarray:
    found = [getattr(one, name) for one in step.examples]
    return np.concatenate(found) if found else np.zeros(0)


@given(drawn=clicks_of, cuts=cuts_of, again=st.integers(0, 5), excluded=st.booleans())
def test_moments_at_once_are_one_after_the_other(
    served: tuple[Model, bool],
    engine_settings: EngineSettings,
    click: Callable[..., Click],
    make_evidence: Callable[..., Evidence],
    drawn: list[tuple[int, int, int, str | None]],
    cuts: list[int],
    again: int,
    excluded: bool,
) -> None:
    model, new_alone = served
    minutes = np.cumsum([gap for _, _, gap, _ in drawn])
    made = [
        click(f"u{user}", f"{'n' if new_alone else 'i'}{item}", int(minute), session)
        for (user, item, _, session), minute in zip(drawn, minutes, strict=True)
    ]
    offsets = [max(0, n - again) if n % 7 == 6 else n for n in range(len(made))]  # now and then one that came before
    clicks = Clicks.of(made, [int(one.user_id[1:]) for one in made], [(0, n) for n in offsets], ClickSettings())
    ends = np.array(sorted({end for end in cuts if end < len(made)} | {len(made)}))
    ranking = engine_settings.ranking.model_copy(update={"exclude_seen": excluded, "reasons": 0})
    settings = engine_settings.model_copy(update={"ranking": ranking})
    counts = [Counts(CountsSettings(neighbours=8, window=3)) for _ in range(2)]
    if not new_alone:
        for one in counts:
            one.fold(make_evidence([(f"i{n}", [], 0) for n in range(8)], partition=1))
    states = new_states(settings.shape, USERS)

    steps, want = one_by_one(Engine(settings, once_more(model)), clicks, ends, states, counts[0])
    whole = Engine(settings, once_more(model)).step(clicks, states, counts[1], ends, answers=True)
    assert counts[1].seen - (0 if new_alone else 8) <= len(whole.evidence)
    counts[1].fold(whole.evidence)

    assert whole.states.tobytes() == want.tobytes()
    ours, theirs = counts[1].to_arrays(), counts[0].to_arrays()
    assert counts[1].ids == counts[0].ids
    for name, array in theirs.items():
        assert np.array_equal(ours[name], array), name
    assert np.array_equal(whole.applied, np.concatenate([one.applied for one in steps]))
    for field in fields(Evidence):
        assert_same(whole, steps, field.name, "evidence") if field.name != "new_ids" else None
    assert whole.evidence.new_ids == [one for step in steps for one in step.evidence.new_ids]
    assert np.array_equal(whole.target, np.concatenate([one.target for one in steps]))
    for name in ("item", "evidence", "context", "history", "seen"):
        assert_same(whole, steps, name, "view", "candidates")
    assert_same(whole, steps, "interest", "view")
    for name in ("rank", "chosen", "top", "loss"):
        assert_same(whole, steps, name, "judged")
    for name in ("item", "score"):
        assert_same(whole, steps, name, "lists")
    begins = [0, *ends[:-1].tolist()]
    listed = [begin + step.listed for begin, step in zip(begins, steps, strict=True)]
    assert np.array_equal(whole.listed, np.concatenate(listed))
    for name in (
        "user",
        "item",
        "offset",
        "rank",
        "popular_rank",
        "h",
        "ring",
        "context",
        "candidate",
        "evidence",
        "dense",
    ):
        found = np.concatenate([logged(step, name) for step in steps if step.examples] or [np.zeros(0)])
        np.testing.assert_allclose(logged(whole, name), found, rtol=1e-3, atol=1e-5, err_msg=name)
    for m, step in enumerate(steps):
        known = int(whole.view.known[m])
        assert known == step.view.dense.shape[2]
        np.testing.assert_allclose(whole.view.dense[m, :, :known], step.view.dense[0], rtol=1e-5, atol=1e-6)
        assert not whole.view.dense[m, :, known:].any()
