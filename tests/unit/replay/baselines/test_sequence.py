"""GRU4Rec: the kernel does what the network does, and training goes on where it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.replay.baselines.gru_training import SHARPNESS, GruSettings, Trainer
from eddyline.replay.baselines.sequence import LEAST, Gru4Rec, Gru4RecVariant
from eddyline.replay.contender import Question, WarmUp
from eddyline.replay.sequences import stretches
from eddyline.replay.ticks import Stream
from eddyline.state.records import Click

SMALL = GruSettings(dimension=8, epochs=2, negatives=8)


def log(clicks: int, items: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 5, clicks), random.integers(0, items, clicks).astype(np.int32)


def silent(share: float, text: str) -> None:
    pass


def test_the_kernel_is_the_network() -> None:
    users, items = log(200, 10)
    variant = Gru4RecVariant(SMALL, seed=1)
    variant.train(users, items, 10, silent)
    network = Trainer(SMALL, seed=1).train(users, items, 10, silent)
    recent = np.array([[3, 1, 4], [2, -1, -1], [7, 99, 5]], np.int32)  # newest first
    scores = variant.scores(recent, 10)
    for b, oldest_first in enumerate([[4, 1, 3], [2], [5, 7]]):  # what it does not know is passed over
        with torch.no_grad():
            ahead = network(torch.tensor([oldest_first]))[0, -1]
            vectors = torch.nn.functional.normalize(network.vector, dim=-1)
            expected = SHARPNESS * vectors @ ahead + network.bias
        assert scores[b] == pytest.approx(expected.numpy(), abs=1e-4)


def test_items_that_came_later_rank_last() -> None:
    users, items = log(200, 10)
    items[items == 4] = 5
    variant = Gru4RecVariant(SMALL, seed=1)
    variant.train(users, items, 10, silent)
    scores = variant.scores(np.array([[3]], np.int32), 12)
    assert np.flatnonzero(np.isneginf(scores[0])).tolist() == [4, 10, 11]


def test_training_goes_on_with_more_items() -> None:
    variant = Gru4RecVariant(SMALL, seed=1)
    variant.train(*log(200, 10), 10, silent)
    variant.train(*log(200, 14, seed=1), 14, silent)
    assert np.isfinite(variant.scores(np.array([[3]], np.int32), 14)).all()


def test_clicks_of_users_in_stretches() -> None:
    users = np.array([0, 1, 0, 0, 2, 0, 1])
    assert [one.tolist() for one in stretches(users, 2)] == [[0, 2, 3], [3, 5], [1, 6]]
    assert stretches(np.zeros(0, np.int64), 2) == []


@pytest.mark.parametrize(("retrained", "trainings"), [(0, 1), (10, 2)])
def test_is_trained_again_while_the_stream_runs(
    retrained: int, trainings: int, toy_clicks: Callable[..., Sequence[Click]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    train = Gru4RecVariant.train

    def watched(self: Gru4RecVariant, users: np.ndarray, *rest: object) -> None:
        told.append(len(users))
        train(self, users, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Gru4RecVariant, "train", watched)
    stream = Stream(EngineSettings(), ClickSettings(), CountsSettings())
    contender = Gru4Rec("gru4rec", Question(5, exclude_seen=False), 0, retrained, (SMALL,))

    def learn(clicks: Sequence[Click]) -> None:
        for begin in range(0, len(clicks), 50):
            tick = stream.take(clicks[begin : begin + 50])
            stream.count([tick])
            contender.learn(tick)

    clicks = toy_clicks(200 + LEAST)
    learn(clicks[:200])
    contender.settle(WarmUp(stream, np.zeros(200, np.uint64), np.zeros(200, np.uint64)), silent)
    learn(clicks[200:])
    assert told == [200, 200 + LEAST][:trainings]
