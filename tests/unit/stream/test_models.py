from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eddyline.model.checkpoint import Manifest, ModelStore, ModelStoreSettings
from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.model.long_term import ItemEmbeddings
from eddyline.model.model import Model, untrained_model
from eddyline.model.versions import counts_to_arrays, model_to_arrays
from eddyline.replay.runner import Runner
from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.errors import ConfigurationError, CorruptModel
from eddyline.state.user_state import StateShape
from eddyline.stream.models import Rows, load_model, load_version, newest_manifest, starting_point
from eddyline.stream.serving import Serving

SETTINGS = EngineSettings(shape=StateShape(dimension=8, ring=3, history=10))


def counted(clicks: int, seed: int = 0) -> Counts:
    runner = Runner(SETTINGS, ClickSettings(), untrained_model(8), Counts())
    runner.feed(list(synthetic_clicks(SyntheticSettings(clicks=2_000, items=200, seed=seed)))[:clicks])
    return runner.counts


def model_beside(counts: Counts) -> Model:
    return replace(untrained_model(8), items=ItemEmbeddings(torch.zeros(len(counts), 8), torch.zeros(len(counts))))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(ModelStoreSettings(url=str(tmp_path)))


def save(store: ModelStore, counts: Counts, evidence_offset: int) -> Manifest:
    return store.save(
        {"weights": model_to_arrays(model_beside(counts), counts), "counts": counts_to_arrays(counts)},
        version=store.next_version(), parent=0, created_ms=1, trained_until_ms=1, cause="online", encoder="00",
        items=len(counts), examples=0, evidence_offset=evidence_offset,
    )  # fmt: skip


def rows(counts: Counts, evidence_offset: int) -> Rows:
    return Rows(counts.hashes, len(counts), evidence_offset)


def test_a_version_of_the_same_evidence_fits_whoever_is_further(store: ModelStore) -> None:
    less, more = counted(100), counted(400)
    assert 0 < len(less) < len(more)
    manifest = save(store, less, 10)
    for ours in (rows(less, 10), rows(more, 40), rows(less, 11), rows(Counts(), 0)):
        assert len(load_model(store, manifest, 8, ours).items) == len(less)
    assert load_model(store, save(store, more, 40), 8, rows(less, 10)).version == 2


def test_a_version_of_other_evidence_is_refused(store: ModelStore) -> None:
    counts = counted(100)
    manifest = save(store, counts, 0)  # made before the stream
    others = {
        "other items": rows(counted(100, seed=1), 0),
        "fewer items after as much evidence": rows(Counts(), 0),
        "fewer items after more evidence": rows(Counts(), 7),
    }
    for ours in others.values():
        with pytest.raises(CorruptModel, match="trained on other evidence"):
            load_model(store, manifest, 8, ours)


def test_a_version_of_another_dimension_is_refused(store: ModelStore) -> None:
    manifest = save(store, counted(100), 3)
    with pytest.raises(ConfigurationError, match=r"version 1 has 8 dimensions.*engine\.shape\.dimension is 16"):
        load_model(store, manifest, 16)
    with pytest.raises(ConfigurationError, match="has 8 dimensions"):  # not begun with an older one, or with none
        starting_point(store, manifest, CountsSettings(), 16)
    assert load_model(store, manifest, None).version == 1


def test_a_stream_begins_with_the_announced_version_and_its_counts(store: ModelStore) -> None:
    first, second = save(store, counted(100), 0), save(store, counted(400), 12)
    for manifest, items in ((first, len(counted(100))), (second, len(counted(400)))):
        model, counts, offset = starting_point(store, manifest, CountsSettings(), 8)
        assert (model.version, len(counts), offset) == (manifest.version, items, manifest.evidence_offset)
    model, counts, offset = starting_point(store, None, CountsSettings(), 8)
    assert (model.version, len(counts), offset) == (0, 0, None)
    assert newest_manifest([], "default") is None


def test_a_worker_that_waits_for_the_first_click_begins_anew_with_a_first_version(store: ModelStore) -> None:
    model, counts = load_version(store, save(store, counted(100), 0), CountsSettings(), 8)
    serving = Serving(SETTINGS, ClickSettings(), untrained_model(8), Counts(), 0)
    assert serving.begin_with(model, counts)
    assert serving.engine.model.version == 1
    assert serving.rows().given == len(counts) > 0
    serving.fold([], 1)
    other = Counts()
    assert not serving.begin_with(model, other)
    assert serving.counts is counts
