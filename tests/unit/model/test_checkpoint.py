"""The model store, on a folder and on an object store (fsspec's memory file system): both must behave alike."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eddyline.model.checkpoint import (
    FORMAT,
    FileEntry,
    Manifest,
    ModelStore,
    ModelStoreSettings,
    pack_strings,
    unpack_strings,
)
from eddyline.state.errors import ConfigurationError, CorruptModel, EddylineError, UnknownFormat

PARTS = {
    "weights": {
        "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
        "across": np.arange(12, dtype=np.float64).reshape(3, 4).T,
        "half": np.array([1.5, -2], np.float16),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 5), np.float32),
    },
    "counts": {
        "hashes": np.array([2**64 - 1, 0], np.uint64),
        "flags": np.array([True, False]),
        "bytes": np.frombuffer(b"\x00\xff", np.uint8),
    },
}


@pytest.fixture(params=["path", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    match request.param:
        case "path":
            yield str(tmp_path / "models")
        case "file":
            yield f"file://{tmp_path}/models"
        case _:
            root = f"/{uuid.uuid4().hex}"
            yield f"memory:/{root}"
            memory = fsspec.filesystem("memory")
            if memory.exists(root):
                memory.rm(root, recursive=True)


@pytest.fixture
def store(url: str) -> ModelStore:
    return ModelStore(ModelStoreSettings(url=url))


def fields(version: int, **changes: Any) -> dict[str, Any]:
    return {
        "version": version,
        "parent": version - 1,
        "created_ms": 1_700_000_000_000,
        "trained_until_ms": 1_699_999_999_000,
        "cause": "online",
        "encoder": "00ff",
        "items": 2,
        "examples": 10,
        "evidence_offset": 42,
        "metrics": {"recall@20": 0.25},
        **changes,
    }


def put(url: str, path: str, raw: bytes) -> None:
    fs, root = fsspec.core.url_to_fs(url)
    fs.makedirs(f"{root}/default/{path}".rsplit("/", 1)[0], exist_ok=True)
    fs.pipe_file(f"{root}/default/{path}", raw)


def read(url: str, path: str) -> bytes:
    fs, root = fsspec.core.url_to_fs(url)
    raw: bytes = fs.cat_file(f"{root}/default/{path}")
    return raw


def exists(url: str, path: str) -> bool:
    fs, root = fsspec.core.url_to_fs(url)
    return bool(fs.exists(f"{root}/default/{path}"))


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_an_empty_store_has_no_version_and_starts_with_one(store: ModelStore) -> None:
    assert store.versions() == []
    assert store.latest() == 0
    assert store.next_version() == 1
    assert store.load_checkpoint("trainer") is None
    assert store.prune() == []
    with pytest.raises(EddylineError, match=r"no version 1 in .*; there is none"):
        store.manifest(1)


def test_a_version_comes_back_as_it_was_saved(store: ModelStore, url: str) -> None:
    manifest = store.save(PARTS, **fields(1))
    assert manifest.name == "default"
    assert manifest.files.keys() == PARTS.keys()
    again = ModelStore(ModelStoreSettings(url=url))
    assert again.versions() == [1]
    assert again.latest() == 1
    assert again.next_version() == 2
    assert again.manifest(1) == manifest
    for part, arrays in PARTS.items():
        assert_same(again.load(1, part), arrays)
        assert_same(again.load(1, part, manifest), arrays)
    assert manifest.files["weights"].bytes == len(read(url, "v000001/weights.safetensors"))


def test_models_of_other_names_are_apart(store: ModelStore, url: str) -> None:
    store.save(PARTS, **fields(1))
    other = ModelStore(ModelStoreSettings(url=url, name="other"))
    assert other.versions() == []
    assert other.save(PARTS, **fields(1)).name == "other"


def test_an_existing_version_is_never_overwritten(store: ModelStore) -> None:
    manifest = store.save(PARTS, **fields(1))
    with pytest.raises(EddylineError, match="version 1 exists"):
        store.save({"weights": {"matrix": np.zeros(1)}}, **fields(1))
    assert store.manifest(1) == manifest
    assert_same(store.load(1, "weights"), PARTS["weights"])


def test_a_version_without_manifest_does_not_exist_but_takes_its_number(store: ModelStore, url: str) -> None:
    store.save(PARTS, **fields(1))
    put(url, "v000002/weights.safetensors", b"a save that was killed")
    assert store.versions() == [1]
    assert store.next_version() == 3
    with pytest.raises(EddylineError, match="version 2 exists"):
        store.save(PARTS, **fields(2))
    with pytest.raises(EddylineError, match=r"no version 2 .*there is 1"):
        store.load(2, "weights")


def test_a_manifest_that_could_not_be_read_back_is_not_written(store: ModelStore) -> None:
    with pytest.raises(CorruptModel, match="metrics"):
        store.save(PARTS, **fields(1, metrics={"loss": float("nan")}))
    assert store.next_version() == 1


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "gone"])
def test_a_damaged_part_is_refused_with_its_name(store: ModelStore, url: str, damage: str) -> None:
    store.save(PARTS, **fields(1))
    path = "v000001/weights.safetensors"
    raw = read(url, path)
    match damage:
        case "flipped":
            put(url, path, raw[:-1] + bytes([raw[-1] ^ 1]))
        case "cut":
            put(url, path, raw[:-1])
        case "longer":
            put(url, path, raw + b"\0")
        case _:
            fs, root = fsspec.core.url_to_fs(url)
            fs.rm_file(f"{root}/default/{path}")
    with pytest.raises(CorruptModel, match=r"weights\.safetensors .*promote another version"):
        store.load(1, "weights")
    assert_same(store.load(1, "counts"), PARTS["counts"])


def test_what_matches_its_checksum_but_is_no_safetensors_file_is_refused(store: ModelStore, url: str) -> None:
    store.save(PARTS, **fields(1))
    put(url, "v000001/weights.safetensors", b"x")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    forged = msgspec.structs.replace(store.manifest(1), files={"weights": FileEntry(digest, 1)})
    with pytest.raises(CorruptModel, match="not a safetensors file"):
        store.load(1, "weights", forged)
    with pytest.raises(CorruptModel, match="no part 'counts'"):
        store.load(1, "counts", forged)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"not JSON", "not a model's manifest"),
        (b"\xff", "not a model's manifest"),
        (b"{}", "missing required field"),
        (
            Manifest(name="m", files={}, **fields(3)).encode().replace(f'"format":{FORMAT}'.encode(), b'"format":99'),
            "format 99",
        ),
        (Manifest(name="m", files={}, **fields(3)).encode().replace(b'"online"', b'"whim"'), "whim"),
    ],
)
def test_a_manifest_that_is_none_is_refused(store: ModelStore, url: str, raw: bytes, says: str) -> None:
    with pytest.raises(CorruptModel, match=says):
        Manifest.decode(raw)
    put(url, "v000003/manifest.json", raw)
    with pytest.raises(CorruptModel, match=says):
        store.manifest(3)


def test_a_manifest_travels_as_json() -> None:
    manifest = Manifest(name="default", files={"weights": FileEntry("ab", 3)}, **fields(3))
    raw = manifest.encode()
    assert msgspec.json.decode(raw)["files"] == {"weights": {"sha256": "ab", "bytes": 3}}
    assert Manifest.decode(raw) == manifest


def keeping(store: ModelStore, keep: int, *, hourly: int = 0, daily: int = 0) -> ModelStore:
    kept = {"keep": keep, "keep_hourly": hourly, "keep_daily": daily}
    return ModelStore(store.settings.model_copy(update=kept))


def test_pruning_keeps_the_newest_and_the_protected(store: ModelStore, url: str) -> None:
    for version in range(1, 7):
        store.save({"weights": {"one": np.zeros(1)}}, **fields(version))
    assert keeping(store, 2).prune(protect=[3]) == [1, 2, 4]
    assert store.versions() == [3, 5, 6]
    assert not exists(url, "v000001")
    assert store.next_version() == 7
    assert keeping(store, 2).prune(protect=[3]) == []
    assert keeping(store, 99).prune() == []
    assert keeping(store, 1).prune() == [3, 5]
    assert store.versions() == [6]


def test_pruning_keeps_the_last_version_of_hours_and_days(store: ModelStore) -> None:
    hour_ms = 3_600_000
    hours = [0, 23, 24, 24.5, 25, 26, 26.2, 26.4]  # versions 1 to 8
    for version, hour in enumerate(hours, 1):
        made = fields(version) | {"created_ms": int(hour * hour_ms)}
        store.save({"weights": {"one": np.zeros(1)}}, **made)
    assert keeping(store, 2, hourly=2, daily=2).prune() == [1, 3, 4]
    assert keeping(store, 2, hourly=1).prune() == [2, 5]


def test_a_version_that_another_process_deletes_at_the_same_time_is_no_hindrance(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in range(1, 5):
        store.save({"weights": {"one": np.zeros(1)}}, **fields(version))
    reading = ModelStore.manifest

    def manifest(self: ModelStore, version: int) -> Manifest:
        if version == 1:
            raise EddylineError("there is no version 1")
        return reading(self, version)

    monkeypatch.setattr(ModelStore, "manifest", manifest)
    assert keeping(store, 2, hourly=1).prune() == [1]


def test_pruning_sweeps_what_was_interrupted_but_nothing_that_may_be_in_the_making(store: ModelStore, url: str) -> None:
    for version in (2, 4, 6):
        store.save({"weights": {"one": np.zeros(1)}}, **fields(version))
    for version in (1, 3, 5, 7):
        put(url, f"v{version:06d}/weights.safetensors", b"interrupted")
    assert keeping(store, 2).prune() == [2]
    assert [version for version in range(1, 8) if exists(url, f"v{version:06d}")] == [4, 5, 6, 7]


def test_a_checkpoint_is_replaced_whole(store: ModelStore, url: str) -> None:
    metadata = {"offset": 12, "nested": {"list": [1, None, "zoë"]}, "rate": 0.1}
    store.save_checkpoint("trainer", PARTS["weights"], metadata)
    store.save_checkpoint("other", {}, {})
    arrays, found = store.load_checkpoint("trainer") or ({}, {})
    assert_same(arrays, PARTS["weights"])
    assert found == metadata
    store.save_checkpoint("trainer", PARTS["counts"], {"offset": 13})
    arrays, found = store.load_checkpoint("trainer") or ({}, {})
    assert_same(arrays, PARTS["counts"])
    assert found == {"offset": 13}
    assert store.load_checkpoint("other") == ({}, {})
    assert store.versions() == []
    assert not [name for name in fsspec.core.url_to_fs(url)[0].find(url) if name.endswith(".part")]


@pytest.mark.parametrize("cut", [0, 10, 32, 200, -1])
def test_a_torn_checkpoint_is_recognised(store: ModelStore, url: str, cut: int) -> None:
    store.save_checkpoint("trainer", PARTS["weights"], {"offset": 12})
    put(url, "trainer.checkpoint", read(url, "trainer.checkpoint")[:cut])
    with pytest.raises(CorruptModel, match=r"trainer\.checkpoint is damaged: delete it"):
        store.load_checkpoint("trainer")


def test_a_checkpoint_of_another_format_is_refused(
    store: ModelStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("eddyline.model.checkpoint.FORMAT", 9)
        store.save_checkpoint("trainer", {}, {})
    with pytest.raises(UnknownFormat, match=rf"trainer\.checkpoint has format 9, this program reads {FORMAT}"):
        store.load_checkpoint("trainer")


def test_a_write_that_fails_leaves_the_old_checkpoint_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(ModelStoreSettings(url=str(tmp_path)))
    store.save_checkpoint("trainer", {}, {"offset": 1})
    (tmp_path / "default" / "trainer.checkpoint.0123.part").write_bytes(b"of a process that was killed")

    def full(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(EddylineError, match=r"cannot write the model store at .*No space left"):
            store.save_checkpoint("trainer", {}, {"offset": 2})
    assert store.load_checkpoint("trainer") == ({}, {"offset": 1})
    assert [path.name for path in (tmp_path / "default").iterdir()] == ["trainer.checkpoint"]


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = ModelStore(ModelStoreSettings(url=str(tmp_path / "file" / "models")))
    with pytest.raises(EddylineError, match=r"cannot write the model store at .*file/models.*model_store\.url"):
        store.save(PARTS, **fields(1))


def test_a_url_nothing_can_open_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"model_store\.url nosuch://bucket/models cannot be used"):
        ModelStore(ModelStoreSettings(url="nosuch://bucket/models"))


@given(st.lists(st.text(max_size=8), max_size=20))
def test_strings_survive_packing(strings: list[str]) -> None:
    text, ends = pack_strings(strings)
    assert (text.dtype, ends.dtype) == (np.uint8, np.int64)
    assert unpack_strings(text, ends) == strings
