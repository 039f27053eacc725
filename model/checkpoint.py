"""The model store: versions and checkpoints as safetensors files with JSON manifests, at any fsspec URL.

A version is a folder `v000001/` with one file per part and `manifest.json`, written last and atomically: a version
without a manifest does not exist. A checkpoint is one file, replaced atomically.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import fsspec
import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from eddyline.state.errors import CorruptModel, EddylineError

__all__ = ["FileEntry", "Manifest", "ModelStore", "ModelStoreSettings", "pack_strings", "unpack_strings"]

Arrays = Mapping[str, npt.NDArray[Any]]
FORMAT = 1
_MANIFEST = "manifest.json"


class ModelStoreSettings(BaseModel):
    """Where models are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(".eddyline/models", description="Folder or fsspec URL of the model store, e.g. s3://bucket/models")
    name: str = Field(
        "default", pattern=r"^[a-zA-Z0-9._-]+$", description="Name of the model, its key on the models topic"
    )
    keep: int = Field(10, ge=2, description="Versions kept; older ones are deleted")


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a version."""

    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is; it stands beside its files and travels on the models topic.

    `parent` is the version it was trained from (0: none), `encoder` the id of the LSTM's weights in hex,
    `evidence_offset` the first offset of the evidence topic that its counts do not contain yet.
    """

    format: int = FORMAT
    name: str
    version: int
    parent: int
    created_ms: int
    trained_until_ms: int
    cause: Literal["pretrain", "online", "promote", "rollback"]
    encoder: str
    items: int
    examples: int
    evidence_offset: int
    metrics: dict[str, float] = {}
    files: dict[str, FileEntry] = {}

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> Manifest:
        """Read a manifest.

        Raises:
            CorruptModel: it is none, or of a format this version does not know.
        """
        try:
            manifest = msgspec.json.decode(raw, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptModel(f"not a model's manifest: {error}; promote another version") from error
        if manifest.format != FORMAT:
            raise CorruptModel(
                f"version {manifest.version} has manifest format {manifest.format}, this program reads {FORMAT}: "
                "promote a version that this program wrote"
            )
        return manifest


class ModelStore:
    """Versions and checkpoints of one model.

    Every method raises `EddylineError` if the store cannot be read or written.
    """

    def __init__(self, settings: ModelStoreSettings) -> None:
        self.settings = settings
        self._fs, root = fsspec.core.url_to_fs(settings.url)
        self._root = f"{root.rstrip('/')}/{settings.name}"
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def versions(self) -> list[int]:
        """The versions there are, ascending."""
        if not self._exists(self._root):
            return []
        names = [entry.rstrip("/").rsplit("/", 1)[-1] for entry in self._list(self._root)]
        numbers = [int(name[1:]) for name in names if name[:1] == "v" and name[1:].isdecimal()]
        return sorted(number for number in numbers if self._exists(self._path(number, _MANIFEST)))

    def latest(self) -> int:
        """The newest version, 0 without any."""
        return max(self.versions(), default=0)

    def next_version(self) -> int:
        """The number a new version gets."""
        if not self._exists(self._root):
            return 1
        names = [entry.rstrip("/").rsplit("/", 1)[-1] for entry in self._list(self._root)]
        return 1 + max((int(name[1:]) for name in names if name[:1] == "v" and name[1:].isdecimal()), default=0)

    def manifest(self, version: int) -> Manifest:
        """The manifest of a version.

        Raises:
            CorruptModel: it cannot be understood.
            EddylineError: there is no such version.
        """
        if not self._exists(self._path(version, _MANIFEST)):
            known = ", ".join(map(str, self.versions())) or "none"
            raise EddylineError(f"there is no version {version} in {self.settings.url}; there is {known}")
        return Manifest.decode(self._read(self._path(version, _MANIFEST)))

    def save(self, parts: Mapping[str, Arrays], **fields: Any) -> Manifest:
        """Store a new version: each part a safetensors file, the manifest last. `fields` are the manifest's."""
        version = fields["version"]
        if self._exists(self._path(version, _MANIFEST)):
            raise EddylineError(f"version {version} exists in {self.settings.url} already; versions never change")
        files = {}
        for part, arrays in parts.items():
            raw = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
            files[part] = FileEntry(hashlib.sha256(raw).hexdigest(), len(raw))
            self._write(self._path(version, f"{part}.safetensors"), raw)
        manifest = Manifest(name=self.settings.name, files=files, **fields)
        self._write(self._path(version, _MANIFEST), manifest.encode())
        return manifest

    def load(self, version: int, part: str, manifest: Manifest | None = None) -> dict[str, npt.NDArray[Any]]:
        """The arrays of one part, checked against the manifest.

        Raises:
            CorruptModel: the file is not what the manifest says.
        """
        manifest = manifest or self.manifest(version)
        path = self._path(version, f"{part}.safetensors")
        entry = manifest.files.get(part)
        if entry is None:
            raise CorruptModel(f"version {version} has no part {part!r}: promote another version")
        if not self._exists(path):
            raise CorruptModel(f"{path} is missing: promote another version (`eddyline model list`)")
        raw = self._read(path)
        if len(raw) != entry.bytes or hashlib.sha256(raw).hexdigest() != entry.sha256:
            raise CorruptModel(
                f"{path} does not match its checksum (damaged or changed): promote another version "
                "(`eddyline model list`, `eddyline model promote VERSION`)"
            )
        return _parse(raw, path)

    def prune(self, keep: int, protect: Collection[int] = ()) -> list[int]:
        """Delete all but the newest `keep` versions and the protected ones; returns what was deleted."""
        gone = [version for version in self.versions()[:-keep] if version not in protect]
        for version in gone:
            self._guard("delete", lambda v=version: self._fs.rm(self._path(v), recursive=True))
        return gone

    def save_checkpoint(self, name: str, arrays: Arrays, metadata: Mapping[str, Any]) -> None:
        """Replace a checkpoint, atomically; a reader sees the old or the new one whole."""
        text = json.dumps(metadata)
        raw = save({key: np.ascontiguousarray(a) for key, a in arrays.items()}, metadata={"json": text})
        self._write(f"{self._root}/{name}.checkpoint", hashlib.sha256(raw).digest() + raw)

    def load_checkpoint(self, name: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]] | None:
        """The arrays and metadata of a checkpoint, None if there is none.

        Raises:
            CorruptModel: the file is damaged.
        """
        path = f"{self._root}/{name}.checkpoint"
        if not self._exists(path):
            return None
        raw = self._read(path)
        if hashlib.sha256(raw[32:]).digest() != raw[:32]:
            raise CorruptModel(f"the checkpoint {path} is damaged: delete it to go on from the newest version")
        body = raw[32:]
        head = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        return _parse(body, path), json.loads(head["__metadata__"]["json"])

    def _path(self, version: int, name: str = "") -> str:
        return f"{self._root}/v{version:06d}" + (f"/{name}" if name else "")

    def _exists(self, path: str) -> bool:
        return bool(self._guard("read", lambda: self._fs.exists(path)))

    def _list(self, path: str) -> Sequence[str]:
        self._fs.invalidate_cache()
        names: Sequence[str] = self._guard("read", lambda: self._fs.ls(path, detail=False))
        return names

    def _read(self, path: str) -> bytes:
        raw: bytes = self._guard("read", lambda: self._fs.cat_file(path))
        return raw

    def _write(self, path: str, raw: bytes) -> None:
        """Whole or not at all: an object store's put is atomic, a local file is renamed into place."""

        def put() -> None:
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            if not self._local:
                self._fs.pipe_file(path, raw)
                return
            temporary = Path(f"{path}.{uuid4().hex}.part")
            with temporary.open("wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)

        self._guard("write", put)

    def _guard(self, verb: str, action: Any) -> Any:
        try:
            return action()
        except OSError as error:
            raise EddylineError(
                f"cannot {verb} the model store at {self.settings.url} ({error.strerror or error}): "
                "check model_store.url and its permissions"
            ) from error


def _parse(raw: bytes, path: str) -> dict[str, npt.NDArray[Any]]:
    try:
        arrays: dict[str, npt.NDArray[Any]] = load(raw)
    except SafetensorError as error:
        raise CorruptModel(f"{path} is not a safetensors file: {error}; promote another version") from error
    return arrays


def pack_strings(strings: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Strings as one array of UTF-8 bytes and one of where each ends."""
    encoded = [string.encode() for string in strings]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def unpack_strings(text: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> list[str]:
    """The strings that `pack_strings` packed."""
    raw, starts = text.tobytes(), [0, *ends.tolist()[:-1]]
    return [raw[begin:end].decode() for begin, end in zip(starts, ends.tolist(), strict=True)] if len(ends) else []
