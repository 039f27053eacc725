"""The worker's store: one RocksDB database per click partition, all under one folder that one process owns.

On disk, `<folder>/partition-<p>/` is a RocksDB database in raw mode with three kinds of keys:

    b"u" + user id   the user's state, opaque bytes
    b"e" + hash      of the id of a user who was erased: up to which click, and when
    b"head"          magic, format version, partition, changelog offset, caught-up time, number of users

The head is the format marker and the bookkeeping in one: every batch writes rows and head together, so the
offset never disagrees with the rows. A database with rows but no head, a head of another format version or of
another partition is refused with `UnknownFormat`; it is never reset silently, it may be somebody's only copy.

The write-ahead log is not fsynced: a killed process loses nothing, and a machine that loses power finds an
older but consistent store, which the changelog then brings up to date.
"""

from __future__ import annotations

import fcntl
import os
import struct
import weakref
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import IO

import rocksdict
import xxhash

from eddyline.state.errors import EddylineError, UnknownFormat
from eddyline.state.store import Erasure, Head, PartitionStore, StateSettings, StateStore, now_ms

__all__ = ["FORMAT", "RocksPartitionStore", "RocksStateStore"]

FORMAT = 1
"""Version of the layout above. Raise it when a store written by the new code cannot be read by the old."""

_HEAD_KEY = b"head"
_HEAD = struct.Struct("<8sHIqqq")  # magic, format, partition, changelog offset (-1 none), caught_up_ms, users
_MAGIC = b"eddyline"
_ROW = b"u"  # sorts after _HEAD_KEY, so rows run from b"u" to the end of the database
_ERASED = b"e"  # sorts before it
_ERASURE = struct.Struct("<qq")  # up to which offset, when it was written in milliseconds since 1970
_MIB = 1 << 20


class _Rows(Iterator[tuple[bytes, bytes]]):
    """A walk over a snapshot, which the store can end: a live RocksDB iterator keeps the database locked."""

    def __init__(self, rows: Iterator[tuple[bytes, bytes]], name: str) -> None:
        self._rows: Iterator[tuple[bytes, bytes]] | None = rows
        self._name = name

    def __next__(self) -> tuple[bytes, bytes]:
        if self._rows is None:
            raise EddylineError(f"{self._name} was closed while its rows were being read: start over")
        key, value = next(self._rows)
        return key[1:], value

    def release(self) -> None:
        self._rows = None


class RocksPartitionStore(PartitionStore):
    """One click partition's states in a RocksDB database of its own."""

    def __init__(self, partition: int, path: Path, options: rocksdict.Options) -> None:
        name = f"partition {partition} in {path}"
        self._db = _open_database(path, options)
        self._walks: weakref.WeakSet[_Rows] = weakref.WeakSet()
        try:
            super().__init__(partition, name, self._read_head(partition, path))
        except BaseException:
            self._db.close()
            raise

    def _read_head(self, partition: int, path: Path) -> Head:
        raw = self._db.get(_HEAD_KEY)
        if raw is None:
            if next(self._db.keys(), None) is not None:
                raise UnknownFormat(
                    f"{path} holds a RocksDB database that is not an eddyline state store: {_remedy(path)}"
                )
            # A new database, or one whose creator died before writing the head.
            head = Head(None, now_ms(), 0)
            self._db[_HEAD_KEY] = _encode_head(partition, head)
            return head
        if len(raw) < 10 or raw[:8] != _MAGIC or int.from_bytes(raw[8:10], "little") != FORMAT:
            found = int.from_bytes(raw[8:10], "little") if raw[:8] == _MAGIC else "unknown"
            raise UnknownFormat(
                f"the state store {path} has format {found}, this version reads {FORMAT}: "
                f"run the version that wrote it, or {_remedy(path)}"
            )
        if len(raw) != _HEAD.size:
            raise UnknownFormat(f"the head of the state store {path} is damaged: {_remedy(path)}")
        _, _, owner, offset, caught_up_ms, users = _HEAD.unpack(raw)
        if owner != partition:
            raise UnknownFormat(
                f"the state store {path} belongs to partition {owner}, not {partition}: {_remedy(path)}"
            )
        return Head(None if offset < 0 else offset, caught_up_ms, users)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The states of these users, in their order."""
        self._check_open()
        found: list[bytes | None] = self._db.get([_ROW + key for key in keys])
        return found

    def erased(self, keys: Sequence[bytes]) -> list[int | None]:
        """Up to which click each of these users was erased last."""
        self._check_open()
        found = self._db.get([_erasure_key(key) for key in keys])
        return [None if raw is None else _ERASURE.unpack(raw)[0] for raw in found]

    def drop_erasures(self, before_ms: int) -> None:
        """Forget erasures that were written before this time."""
        self._check_open()
        rows = takewhile(lambda row: row[0] < _HEAD_KEY, self._db.items(from_key=_ERASED, read_opt=_sweep()))
        for key in [key for key, raw in rows if _ERASURE.unpack(raw)[1] < before_ms]:
            del self._db[key]

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every row by ascending user id, as they stand now."""
        self._check_open()
        walk = _Rows(self._db.items(from_key=_ROW, read_opt=_sweep()), self.name)
        self._walks.add(walk)
        return walk

    def scan(self, start: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows from `start` on."""
        self._check_open()
        rows = self._db.items(from_key=_ROW + (start or b""), read_opt=_sweep())
        return [(key[1:], value) for key, value in islice(rows, limit)]

    def property_int(self, name: str) -> int | None:
        """A RocksDB property such as `rocksdb.block-cache-usage`, for metrics."""
        self._check_open()
        value: int | None = self._db.property_int_value(name)
        return value

    def _apply(self, changes: Mapping[bytes, bytes | Erasure], head: Head) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        before = self.erased(list(changes))
        for (key, value), erased in zip(changes.items(), before, strict=True):
            if isinstance(value, Erasure):
                del batch[_ROW + key]
                batch[_erasure_key(key)] = _ERASURE.pack(value.up_to, now_ms())
            else:
                batch[_ROW + key] = value
                if erased is not None:
                    del batch[_erasure_key(key)]
        self._commit(batch, head)

    def _clear(self, head: Head) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for kind in (_ROW, _ERASED):
            batch.delete_range(kind, bytes([kind[0] + 1]))
        self._commit(batch, head)

    def _commit(self, batch: rocksdict.WriteBatch, head: Head) -> None:
        batch[_HEAD_KEY] = _encode_head(self.partition, head)
        try:
            self._db.write(batch)
        except Exception as error:  # rocksdict raises plain Exception
            raise EddylineError(
                f"RocksDB cannot write {self.name}: {error}. Free or repair the disk and restart the "
                "worker; nothing is lost, the changelog has it all"
            ) from error

    def _release(self) -> None:
        for walk in list(self._walks):
            walk.release()
        self._db.close()


class RocksStateStore(StateStore):
    """The databases of one worker process.

    The folder belongs to this object from construction to `close_all`: a second one, in any process,
    is refused at once instead of at the first rebalance that gives both the same partition.

    Args:
        settings: folder and memory.

    Raises:
        EddylineError: the folder cannot be made, or another worker uses it.
    """

    def __init__(self, settings: StateSettings) -> None:
        super().__init__()
        self.folder = settings.folder
        self._owner = _own(settings.folder)
        self._write_buffer_bytes = settings.write_buffer_mib * _MIB
        self._cache = rocksdict.Cache(settings.block_cache_mib * _MIB)
        self._write_buffers = rocksdict.WriteBufferManager(self._write_buffer_bytes, False)

    def _open_partition(self, partition: int) -> PartitionStore:
        return RocksPartitionStore(partition, self.folder / f"partition-{partition}", self._options())

    def _options(self) -> rocksdict.Options:
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_bloom_filter(10, False)  # 10 bits a key: 1 % of lookups of unknown users reach the disk
        # Index and filters live in the block cache too, else they grow outside of any limit.
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_write_buffer_manager(self._write_buffers)
        options.set_write_buffer_size(self._write_buffer_bytes)
        options.set_max_open_files(256)
        # RocksDB's own log: by default 1,000 files of any size are kept.
        options.set_keep_log_file_num(3)
        options.set_max_log_file_size(4 * _MIB)
        options.set_stats_dump_period_sec(0)
        return options

    def _release(self) -> None:
        self._owner.close()  # closing the file gives up its lock


def _own(folder: Path) -> IO[bytes]:
    """Lock the folder for this object, or say who has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        owner = (folder / "owner").open("a+b")
    except OSError as error:
        raise EddylineError(f"the state folder {folder} cannot be used: {error}. Set another `state.folder`") from error
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner.seek(0)
        pid = owner.read(20).decode(errors="replace").strip() or "unknown"
        owner.close()
        raise EddylineError(_in_use(folder, f"process {pid}")) from error
    owner.truncate(0)
    owner.write(str(os.getpid()).encode())
    owner.flush()
    return owner


def _in_use(folder: Path, by: str) -> str:
    return (
        f"the state folder {folder} is in use by {by}: give each worker a data folder of its own "
        "(`state.folder`), or stop the other worker"
    )


def _open_database(path: Path, options: rocksdict.Options) -> rocksdict.Rdict:
    try:
        # Without `column_families` an existing database would come back with RocksDB's default table options:
        # an 8 MiB cache of its own and no bloom filter.
        return rocksdict.Rdict(str(path), options, column_families={"default": options})
    except Exception as error:  # rocksdict raises plain Exception
        if "/LOCK" in str(error):
            raise EddylineError(_in_use(path, "another handle or process")) from error
        raise EddylineError(
            f"RocksDB cannot open the state store {path}: {error}. Check the disk and the folder's "
            f"permissions; if they are right, {_remedy(path)}"
        ) from error


def _remedy(path: Path) -> str:
    return f"stop the worker and delete the folder {path}; the state is rebuilt from the changelog"


def _erasure_key(user: bytes) -> bytes:
    return _ERASED + xxhash.xxh3_128_digest(user)


def _encode_head(partition: int, head: Head) -> bytes:
    offset = -1 if head.changelog_offset is None else head.changelog_offset
    return _HEAD.pack(_MAGIC, FORMAT, partition, offset, head.caught_up_ms, head.users)


def _sweep() -> rocksdict.ReadOptions:
    """Read options of a walk over everything: it must not push the active users out of the block cache."""
    options = rocksdict.ReadOptions()
    options.fill_cache(False)
    return options
