"""What tests of several packages are made with: one small engine, and clicks to feed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from eddyline.model.clicks import Clicks, ClickSettings
from eddyline.model.engine import EngineSettings
from eddyline.model.examples import ExampleSettings
from eddyline.model.ranking import RankingSettings
from eddyline.model.short_term import Encoder
from eddyline.state.evidence import Evidence
from eddyline.state.records import Click, hash_id
from eddyline.state.user_state import StateShape

torch.set_num_threads(1)
hypothesis.settings.register_profile("eddyline", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("eddyline")

MINUTE_MS = 60_000
START_MS = 1_700_000_000_000


@pytest.fixture(scope="session")
def shape() -> StateShape:
    """D=8, N=4, 12 clicks of history."""
    return StateShape(dimension=8, ring=4, history=12)


@pytest.fixture(scope="session")
def engine_settings(shape: StateShape) -> EngineSettings:
    """Lists of 5, a long-term interest of 6 items, small messages."""
    return EngineSettings(
        shape=shape,
        ranking=RankingSettings(length=5, long_term_items=6, candidates=16),
        examples=ExampleSettings(candidates=8, popular=4, uniform=8, batch=32),
    )


@pytest.fixture(scope="session")
def make_encoder(shape: StateShape) -> Callable[..., Encoder]:
    """A random encoder that was trained on i0 … i9 and has three buckets."""

    def make(seed: int = 0) -> Encoder:
        random, D = np.random.default_rng(seed), shape.dimension

        def weights(*size: int) -> np.ndarray:
            return random.normal(0, 0.5, size).astype(np.float32)

        items = np.array([hash_id(f"i{n}") for n in range(10)], np.uint64)
        return Encoder(items, weights(13, D), weights(4 * D, D), weights(4 * D, D), weights(4 * D))

    return make


@pytest.fixture(scope="session")
def click() -> Callable[..., Click]:
    """A click of a user on an item, at a minute."""

    def make(user: str, item: str, minute: float = 0, session: str | None = None, kind: str = "click") -> Click:
        ts_ms = START_MS + int(minute * MINUTE_MS)
        return Click(
            event_id=f"{user}-{item}-{minute}", user_id=user, item_id=item, ts_ms=ts_ms, kind=kind, session_id=session
        )

    return make


@pytest.fixture(scope="session")
def toy_clicks(click: Callable[..., Click]) -> Callable[..., list[Click]]:
    """Clicks of some users who mostly go from item to item in one circle."""

    def make(count: int, users: int = 5, items: int = 12, seed: int = 0, noise: float = 0.2) -> list[Click]:
        random = np.random.default_rng(seed)
        at = random.integers(0, items, users)
        made = []
        for n in range(count):
            user = int(random.integers(users))
            at[user] = random.integers(items) if random.random() < noise else (at[user] + 1) % items
            made.append(click(f"u{user}", f"i{at[user]}", n))
        return made

    return make


@pytest.fixture(scope="session")
def as_batch() -> Callable[..., Clicks]:
    """Clicks as the engine takes them: offsets from `first` on; the users' rows are in order of appearance."""

    def make(clicks: Sequence[Click], first: int = 0, partition: int = 0) -> Clicks:
        users: dict[str, int] = {}
        rows = [users.setdefault(one.user_id, len(users)) for one in clicks]
        positions = [(partition, first + n) for n in range(len(clicks))]
        return Clicks.of(clicks, rows, positions, ClickSettings())

    return make


@pytest.fixture(scope="session")
def make_evidence() -> Callable[..., Evidence]:
    """Evidence of (item, items before it newest first, how many of them in the session) at offsets from `first` on."""

    def make(
        clicks: Sequence[tuple[str, Sequence[str], int]],
        first: int = 0,
        partition: int = 0,
        weight: float = 1.0,
        named: Sequence[str] | None = None,
    ) -> Evidence:
        def hashes(ids: Sequence[str]) -> np.ndarray:
            return np.array([hash_id(one) for one in ids], np.uint64)

        count = len(clicks)
        items = [item for item, _, _ in clicks]
        return Evidence(
            item=hashes(items),
            weight=np.full(count, weight, np.float32),
            ts_ms=START_MS + np.arange(first, first + count, dtype=np.int64),
            partition=np.full(count, partition, np.int32),
            offset=np.arange(first, first + count, dtype=np.int64),
            recent=hashes([one for _, recent, _ in clicks for one in recent]),
            recent_count=np.array([len(recent) for _, recent, _ in clicks], np.uint8),
            session_length=np.array([session for _, _, session in clicks], np.uint8),
            new_ids=list(dict.fromkeys(items)) if named is None else list(named),
        )

    return make


@pytest.fixture(scope="session")
def scalars() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    """Reads the steps and values that a folder of TensorBoard holds, by name."""

    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        held = EventAccumulator(str(folder))
        held.Reload()
        return {name: [(one.step, one.value) for one in held.Scalars(name)] for name in held.Tags()["scalars"]}

    return read
