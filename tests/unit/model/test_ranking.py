"""Ranking: scores over the whole catalogue, and lists that are exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

from eddyline.model.counts import Counts
from eddyline.model.dense import DENSE
from eddyline.model.evidence import OWN, Candidates
from eddyline.model.fusion import SHARPNESS
from eddyline.model.mixture import COUNTED
from eddyline.model.model import Model, untrained_model
from eddyline.model.ranking import PARTS, Ranking, RankingSettings, View
from eddyline.state.records import Click
from eddyline.state.user_state import StateShape, UserStates, new_states

SETTINGS = RankingSettings(length=5, long_term_items=6, candidates=16)


class Scene(NamedTuple):
    model: Model
    states: UserStates
    now_ms: np.ndarray
    counts: Counts
    candidates: Callable[..., Candidates]
    dense_evidence: Callable[[Counts], np.ndarray]

    def view(self, ranking: Ranking) -> View:
        return ranking.view(self.states, self.now_ms, self.counts)


@pytest.fixture
def scene(
    make_model: Callable[..., Model],
    toy_clicks: Callable[..., list[Click]],
    after: Callable[..., tuple[UserStates, Counts]],
    candidates: Callable[..., Candidates],
    dense_evidence: Callable[[Counts], np.ndarray],
) -> Scene:
    """Five users, a catalogue of 40 items of which the model was trained on 8, and one who never clicked."""
    model = make_model()
    states, counts = after(toy_clicks(150, items=40, noise=0.5), model)
    states = np.append(states, new_states(StateShape(dimension=8, ring=4, history=12), 1))
    now_ms = np.full(len(states), states["ts_ms"].max() + 60_000)
    return Scene(model, states, now_ms, counts, candidates, dense_evidence)


@torch.no_grad()
def by_the_formula(scene: Scene) -> list[np.ndarray]:
    """z = a_n n + a_m log P + Σ a_dense dense + Σ a_sparse sparse + e(sparse), item by item, for each user."""
    model, states, counts = scene.model, scene.states, scene.counts
    items, network = model.items, model.network
    found = scene.candidates(counts, states, scene.now_ms, SETTINGS.candidates, SETTINGS.long_term_items)
    dense = torch.from_numpy(scene.dense_evidence(counts).T[:, : len(DENSE)])
    mixed = network.mixture.mixed(dense)
    of_all = torch.cat([dense, mixed[:, None]], 1)
    scores = []
    for u in range(len(states)):
        h = torch.from_numpy(states["h"][u : u + 1].copy())
        ring, length = (
            torch.from_numpy(states["ring"][u : u + 1].astype(np.float32)),
            torch.tensor([int(states["ring_length"][u])]),
        )
        mean, last = items.history_mean(torch.from_numpy(found.history[u : u + 1]).long())
        F = network.interest(h, ring, length, mean, last)[0]
        gate = network.gate(torch.from_numpy(found.context[u : u + 1]))
        neural = SHARPNESS * (items.vector[: len(counts)] @ F) + items.bias[: len(counts)]
        z = gate.neural[0] * neural + dense @ gate.dense[0, :-1] + gate.mixture[0] * mixed
        for n in range(found.start[u], found.start[u + 1]):
            evidence = torch.from_numpy(found.evidence[n])
            lift = network.mixture.lift(evidence, gate.log_ratios[0], mixed[found.item[n]])
            z[found.item[n]] += gate.sparse[0] @ evidence + gate.mixture[0] * lift
            z[found.item[n]] += network.residual(evidence, of_all[found.item[n]])
        scores.append(z.numpy())
    return scores


def test_scores_are_those_of_the_formula(scene: Scene) -> None:
    ranking = Ranking(SETTINGS, scene.model)
    scores = ranking.scores(scene.view(ranking), 0, len(scene.states))
    np.testing.assert_allclose(scores, by_the_formula(scene), rtol=1e-4, atol=1e-4)


def test_a_list_is_the_top_of_the_whole_catalogue(scene: Scene) -> None:
    ranking = Ranking(SETTINGS, scene.model)
    lists = ranking.lists(scene.view(ranking))
    for row, score, z in zip(lists.item, lists.score, by_the_formula(scene), strict=True):
        assert row.tolist() == np.argsort(-z)[:5].tolist()
        np.testing.assert_allclose(score, np.sort(z)[::-1][:5], rtol=1e-4, atol=1e-4)


def test_memory_is_bounded_and_lists_do_not_depend_on_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = Ranking(SETTINGS, scene.model)
    whole = ranking.lists(scene.view(ranking))
    monkeypatch.setattr("eddyline.model.ranking._SCORES_AT_ONCE", 2 * len(scene.counts))
    for one, other in zip(whole, ranking.lists(scene.view(ranking)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_parts_add_up_to_the_score(scene: Scene) -> None:
    ranking = Ranking(SETTINGS, scene.model)
    lists = ranking.lists(scene.view(ranking))
    assert lists.parts.shape == (len(scene.states), 5, len(PARTS))
    np.testing.assert_allclose(lists.parts.sum(-1), lists.score, rtol=1e-4, atol=1e-4)
    for part in range(len(PARTS)):
        assert lists.parts[..., part].any(), PARTS[part]


def test_each_part_is_what_it_is_named(scene: Scene) -> None:
    ranking = Ranking(SETTINGS, scene.model)
    view = scene.view(ranking)
    lists = ranking.lists(view)
    named = {u: view.candidates.item[slice(*view.candidates.start[u : u + 2])].tolist() for u in range(5)}
    u, k = next((u, k) for u in named for k in range(5) if lists.item[u, k] in named[u])
    row = int(lists.item[u, k])
    parts = dict(zip(PARTS, lists.parts[u, k].tolist(), strict=True))
    n = int(view.candidates.start[u]) + named[u].index(row)
    weighed = view.gate.sparse[u].numpy() * view.candidates.evidence[n]
    evidence, log_ratios = torch.from_numpy(view.candidates.evidence[n]), view.gate.log_ratios[u]
    mixture = scene.model.network.mixture
    shares = mixture.shares(evidence) * log_ratios.exp()
    lift = float(view.gate.mixture[u] * mixture.lift(evidence, log_ratios, torch.tensor(view.dense[0, -1, row])))
    counted = float(shares[:COUNTED].sum() / shares.sum())
    assert 0 < counted < 1
    assert parts["co_clicks"] == pytest.approx(weighed[:OWN].sum() + lift * counted, rel=1e-4, abs=1e-5)
    assert parts["history"] == pytest.approx(weighed[OWN:].sum() + lift * (1 - counted), rel=1e-4, abs=1e-5)
    assert parts["pattern"] == pytest.approx(float(view.pattern[n]), rel=1e-4)
    assert parts["popularity"] == pytest.approx(float(view.gate.dense[u].numpy() @ view.dense[0, :, row]), rel=1e-4)


def test_reasons_are_recent_items_of_the_user(scene: Scene) -> None:
    ranking = Ranking(SETTINGS, scene.model)
    view = scene.view(ranking)
    lists = ranking.lists(view)
    assert lists.because.shape == (len(scene.states), 5, SETTINGS.reasons)
    assert (lists.because[:-1] >= 0).any()
    assert (lists.because[-1] == -1).all()  # who never clicked
    for u in range(len(scene.states)):
        assert set(lists.because[u].ravel().tolist()) <= {-1, *view.candidates.history[u].tolist()}


def test_without_reasons_there_are_no_parts(scene: Scene) -> None:
    ranking = Ranking(SETTINGS.model_copy(update={"reasons": 0}), scene.model)
    lists = ranking.lists(scene.view(ranking))
    assert lists.parts.size == lists.because.size == 0
    assert (lists.item >= 0).all()


def test_seen_items_are_left_out_if_asked(scene: Scene) -> None:
    # the whole history counts, not just the items of the long-term interest
    ranking = Ranking(SETTINGS.model_copy(update={"exclude_seen": True, "length": 40}), scene.model)
    lists = ranking.lists(scene.view(ranking))
    for state, listed in zip(scene.states, lists.item, strict=True):
        seen = set(scene.counts.rows(state["item"][: state["history_length"]]).tolist())
        assert set(listed.tolist()) - {-1} == set(range(len(scene.counts))) - seen
        assert (listed[len(scene.counts) - len(seen) :] == -1).all()


def test_a_catalogue_smaller_than_the_list_leaves_places_free(
    after: Callable[..., tuple[UserStates, Counts]], click: Callable[..., Click], make_model: Callable[..., Model]
) -> None:
    states, counts = after([click("u", "a"), click("u", "b", 1)])
    for model in (make_model(), untrained_model(8)):  # the first was trained on items these counts do not know yet
        ranking = Ranking(SETTINGS, model)
        lists = ranking.lists(ranking.view(states, states["ts_ms"][:, 1], counts))
        assert sorted(lists.item[0, :2].tolist()) == [0, 1]
        assert (lists.item[0, 2:] == -1).all()


def test_without_a_catalogue_lists_are_empty(shape: StateShape) -> None:
    ranking = Ranking(SETTINGS, untrained_model(8))
    lists = ranking.lists(ranking.view(new_states(shape, 2), np.zeros(2, np.int64), Counts()))
    assert (lists.item == -1).all()
    assert lists.item.shape == (2, 5)


def test_before_training_lists_follow_what_others_clicked_next(
    after: Callable[..., tuple[UserStates, Counts]], click: Callable[..., Click]
) -> None:
    others = [click(f"u{n}", item, n) for n in range(5) for item in ("a", "b")]
    popular = [click(f"p{n}", "p", n) for n in range(6)]
    states, counts = after([*others, *popular, click("me", "a", 9)])
    ranking = Ranking(SETTINGS, untrained_model(8))
    lists = ranking.lists(ranking.view(states[-1:], states["ts_ms"][-1:, 0], counts))
    assert counts.ids[lists.item[0, 0]] == "b"
    assert counts.ids[lists.because[0, 0, 0]] == "a"
