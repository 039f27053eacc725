from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.model.evidence import Candidates
from eddyline.model.folding import HALF_LIVES
from eddyline.model.fusion import Network
from eddyline.model.long_term import ItemEmbeddings
from eddyline.model.model import Model, untrained_model
from eddyline.model.short_term import Encoder
from eddyline.model.walk import Asked, one_moment, walk
from eddyline.replay.runner import Runner
from eddyline.state.records import Click
from eddyline.state.user_state import StateShape, UserStates


@pytest.fixture(scope="session")
def make_model(shape: StateShape, make_encoder: Callable[..., Encoder]) -> Callable[..., Model]:
    """A model of random weights, every source of a score counting for something."""

    def make(seed: int = 0, encoder: Encoder | None = None, items: int = 8) -> Model:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            network = Network(shape.dimension)
            for parameter in network.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
            network.requires_grad_(False)
            vector = torch.nn.functional.normalize(torch.randn(items, shape.dimension), dim=-1)
            return Model(3, 1, encoder or make_encoder(seed), network, ItemEmbeddings(vector, torch.randn(items)))

    return make


@pytest.fixture
def make_counts() -> Callable[..., Counts]:
    """Counts of some evidence."""

    def make(*evidence: object, window: int = 10, neighbours: int = 128) -> Counts:
        counts = Counts(CountsSettings(window=window, neighbours=neighbours))
        for one in evidence:
            counts.fold(one)
        return counts

    return make


@pytest.fixture
def make_runner(engine_settings: EngineSettings) -> Callable[..., Runner]:
    """A runner with empty counts."""

    def make(model: Model | None = None, settings: EngineSettings = engine_settings) -> Runner:
        model = model or untrained_model(settings.shape.dimension)
        return Runner(settings, ClickSettings(), model, Counts(CountsSettings()))

    return make


@pytest.fixture
def after(make_runner: Callable[..., Runner]) -> Callable[..., tuple[UserStates, Counts]]:
    """The states, by the order of the users' first clicks, and the counts after clicks that came one by one."""

    def make(clicks: list[Click], model: Model | None = None) -> tuple[UserStates, Counts]:
        runner = make_runner(model)
        for one in clicks:
            runner.feed([one])
        return np.array(list(runner.states.values())), runner.counts

    return make


@pytest.fixture(scope="session")
def candidates() -> Callable[..., Candidates]:
    """Sparse evidence about users at one moment."""
    lives = np.ones(len(HALF_LIVES), np.float32)

    def find(counts: Counts, states: UserStates, now_ms: np.ndarray, most: int, history: int) -> Candidates:
        asked = Asked(states, now_ms, np.array([len(states)]))
        nobody = Asked(states[:0], now_ms[:0], np.array([0]))
        return walk(counts, one_moment(counts), asked, nobody, most, history, lives)[0]

    return find


@pytest.fixture(scope="session")
def dense_evidence(shape: StateShape) -> Callable[[Counts], np.ndarray]:
    """Dense evidence at one moment, and the mixture with these weights of the half-lives, (len(SCORED), I)."""
    same = np.full(len(HALF_LIVES), 1 / len(HALF_LIVES), np.float32)

    def make(counts: Counts, lives: np.ndarray = same) -> np.ndarray:
        nobody = Asked(np.zeros(0, shape.dtype), np.zeros(0, np.int64), np.array([0]))
        return walk(counts, one_moment(counts), nobody, nobody, 1, 1, lives)[2][0]

    return make
