"""The model store: versions and checkpoints as safetensors files with JSON manifests, at any fsspec URL.

A version is a folder `v000001/` with one file per part and `manifest.json`, written last and atomically: a version
without a manifest does not exist. A checkpoint is one file, replaced atomically: the SHA-256 of what follows, then a
safetensors file whose metadata holds the format and the caller's own metadata as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from uuid import uuid4

import fsspec
import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from eddyline.state.errors import ConfigurationError, CorruptModel, EddylineError, UnknownFormat

__all__ = ["FORMAT", "FileEntry", "Manifest", "ModelStore", "ModelStoreSettings", "pack_strings", "unpack_strings"]

Arrays = Mapping[str, npt.NDArray[Any]]
FORMAT = 4
_MANIFEST = "manifest.json"
_HOUR_MS = 3_600_000


class ModelStoreSettings(BaseModel):
    """Where models are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(".eddyline/models", description="Folder or fsspec URL of the model store, e.g. s3://bucket/models")
    name: str = Field(
        "default", pattern=r"^[a-zA-Z0-9._-]+$", description="Name of the model, its key on the models topic"
    )
    keep: int = Field(10, ge=2, description="Newest versions kept")
    keep_hourly: int = Field(24, ge=0, description="Hours of which the last version is kept beside those")
    keep_daily: int = Field(14, ge=0, description="Days of which the last version is kept beside those")


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
        try:
            self._fs, root = fsspec.core.url_to_fs(settings.url)
        except (ImportError, ValueError) as error:  # a package is missing, or the protocol is unknown
            raise ConfigurationError(f"model_store.url {settings.url} cannot be used: {error}") from error
        self._root = f"{root.rstrip('/')}/{settings.name}"
        self._created_ms: dict[int, int] = {}  # of versions asked about: they never change
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def versions(self) -> list[int]:
        """The versions there are, ascending."""
        return [number for number in self._folders() if self._exists(self._path(number, _MANIFEST))]

    def latest(self) -> int:
        """The newest version, 0 without any."""
        return max(self.versions(), default=0)

    def next_version(self) -> int:
        """The number a new version gets."""
        return 1 + max(self._folders(), default=0)

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
        """Store a new version: each part a safetensors file, the manifest last.

        Args:
            parts: the arrays of each part, by name.
            fields: the manifest's fields, except `name` and `files`.

        Raises:
            EddylineError: the version exists, also where another process is writing it or died while writing it.
        """
        version = fields["version"]
        raw = {part: save(_contiguous(arrays)) for part, arrays in parts.items()}
        files = {part: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for part, data in raw.items()}
        manifest = Manifest(name=self.settings.name, files=files, **fields)
        encoded = manifest.encode()
        Manifest.decode(encoded)  # what could not be read back, such as a metric that is not a number, is not written
        if version in self._folders():
            raise EddylineError(f"version {version} exists in {self.settings.url} already; versions never change")
        for part, data in raw.items():
            self._write(self._path(version, f"{part}.safetensors"), data)
        self._write(self._path(version, _MANIFEST), encoded)
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

    def prune(self, protect: Collection[int] = ()) -> list[int]:
        """Delete versions that the settings don't keep, except the protected ones; returns what was deleted.

        What interrupted saves and deletions left behind goes too, as far as it is older than the oldest of the newest
        `keep`: a younger one may be in the making.
        """
        versions, settings = self.versions(), self.settings
        old = versions[: max(0, len(versions) - settings.keep)]
        hourly = self._last_of(old, settings.keep_hourly, _HOUR_MS)
        daily = self._last_of(old, settings.keep_daily, 24 * _HOUR_MS)
        gone = [version for version in old if version not in {*protect, *hourly, *daily}]
        for version in gone:  # the manifest first: a version whose deletion is interrupted does not exist
            self._guard("delete", lambda v=version: self._fs.rm_file(self._path(v, _MANIFEST)))
        kept = set(versions).difference(gone)
        for version in self._folders():
            if version not in kept and version < min(versions[len(old) :], default=0):
                self._guard("delete", lambda v=version: self._delete(self._path(v)))
        return gone

    def _last_of(self, versions: Sequence[int], most: int, every_ms: int) -> list[int]:
        """The last version of each of the newest `most` hours or days in which one was made."""
        last: dict[int, int] = {}
        for version in versions if most else ():
            if version not in self._created_ms:
                try:
                    self._created_ms[version] = self.manifest(version).created_ms
                except EddylineError:  # it cannot be understood, or another trainer has just deleted it
                    self._created_ms[version] = 0
            last[self._created_ms[version] // every_ms] = version
        return [last[time] for time in sorted(last)[-most:]]

    def save_checkpoint(self, name: str, arrays: Arrays, metadata: Mapping[str, Any]) -> None:
        """Replace a checkpoint, atomically; a reader sees the old or the new one whole."""
        header = {"format": str(FORMAT), "json": json.dumps(metadata)}
        raw = save(_contiguous(arrays), metadata=header)
        self._write(f"{self._root}/{name}.checkpoint", hashlib.sha256(raw).digest() + raw)

    def load_checkpoint(self, name: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]] | None:
        """The arrays and metadata of a checkpoint, None if there is none.

        Raises:
            CorruptModel: the file is damaged.
            UnknownFormat: another version of this program wrote it.
        """
        path = f"{self._root}/{name}.checkpoint"
        if not self._exists(path):
            return None
        raw = self._read(path)
        body = raw[32:]
        if hashlib.sha256(body).digest() != raw[:32]:
            raise CorruptModel(f"the checkpoint {path} is damaged: delete it to go on from the newest version")
        head = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])["__metadata__"]
        if head.get("format") != str(FORMAT):
            raise UnknownFormat(
                f"the checkpoint {path} has format {head.get('format')}, this program reads {FORMAT}: run the version "
                "that wrote it, or delete it to go on from the newest version"
            )
        return _parse(body, path), json.loads(head["json"])

    def _path(self, version: int, name: str = "") -> str:
        return f"{self._root}/v{version:06d}" + (f"/{name}" if name else "")

    def _folders(self) -> list[int]:
        """The versions that have a folder, ascending, finished or not."""
        if not self._exists(self._root):
            return []
        names = [PurePosixPath(entry).name for entry in self._list(self._root)]
        return sorted(int(name[1:]) for name in names if name[:1] == "v" and name[1:].isdecimal())

    def _exists(self, path: str) -> bool:
        self._fs.invalidate_cache()  # object stores remember listings, and others write here too
        return bool(self._guard("read", lambda: self._fs.exists(path)))

    def _list(self, path: str) -> Sequence[str]:
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
            target = Path(path)
            for left in target.parent.glob(f"{target.name}.*.part"):  # by a process that was killed
                left.unlink(missing_ok=True)
            temporary = Path(f"{path}.{uuid4().hex}.part")
            try:
                with temporary.open("wb") as file:
                    file.write(raw)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # else the new name may not survive a power failure
            finally:
                os.close(folder)

        self._guard("write", put)

    def _delete(self, folder: str) -> None:
        if self._fs.exists(folder):  # an object store has no folder left once its last file is gone
            self._fs.rm(folder, recursive=True)

    def _guard(self, verb: str, action: Any) -> Any:
        try:
            return action()
        except Exception as error:  # every object store's package raises its own
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise EddylineError(
                f"cannot {verb} the model store at {self.settings.url} ({reason}): "
                "check model_store.url, its permissions and credentials"
            ) from error


def _contiguous(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


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
