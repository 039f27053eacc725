"""Where user states rest: one store per worker process, one partition store per click partition it owns.

A state is opaque bytes here, its key the user id in UTF-8. The truth is the changelog topic; a store is the
local copy a worker reads and writes at memory speed, and it knows how far along the changelog it stands.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from eddyline.state.errors import EddylineError

__all__ = ["Erasure", "Head", "PartitionStore", "StateSettings", "StateStore", "now_ms"]


class StateSettings(BaseModel):
    """Where and how a worker keeps the states of its users."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(
        Path(".eddyline/state"),
        description="folder of the worker's RocksDB databases, one per partition; each worker needs its own",
    )
    block_cache_mib: int = Field(
        256, ge=1, description="memory for reading states, shared by all partitions of the process"
    )
    write_buffer_mib: int = Field(
        64,
        ge=1,
        description="memory for states not yet in a sorted file, shared by all partitions of the process",
    )
    idle_days: float | None = Field(
        90.0, gt=0, description="forget a user this many days after the last click; empty keeps every user"
    )


class Head(NamedTuple):
    """What a partition store knows of itself; it is written together with the rows it speaks of.

    Attributes:
        changelog_offset: offset of the last changelog record that is in the rows; None before the first.
        caught_up_ms: wall-clock time at which the rows held everything the changelog held. A tombstone newer
            than this is still in the changelog for as long as the topic retains tombstones.
        users: how many rows there are.
    """

    changelog_offset: int | None
    caught_up_ms: int
    users: int


class Erasure(NamedTuple):
    """A user is erased: every click up to the one at this offset of the clicks topic is forgotten."""

    up_to: int


def now_ms() -> int:
    """Wall-clock time in milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class PartitionStore(ABC):
    """The states of the users of one click partition. One thread writes at a time; any thread may read.

    Every method raises `EddylineError` once the store is closed.
    """

    def __init__(self, partition: int, name: str, head: Head) -> None:
        self.partition = partition
        self.name = name
        self._head = head
        self._closed = False

    @property
    def changelog_offset(self) -> int | None:
        """Offset of the last changelog record that is in the store; None before the first."""
        return self._head.changelog_offset

    @property
    def caught_up_ms(self) -> int:
        """When the store last held everything the changelog held (see `Head`)."""
        return self._head.caught_up_ms

    def __len__(self) -> int:
        """How many users have a state here: exact, and free to ask."""
        self._check_open()
        return self._head.users

    def __bool__(self) -> bool:
        # A handle, not a collection: an empty store must not pass for a missing one.
        return True

    def write(
        self,
        changes: Mapping[bytes, bytes | Erasure],
        changelog_offset: int,
        *,
        caught_up_ms: int | None = None,
    ) -> None:
        """Write a micro-batch: all of it and the offset, or after a crash nothing of it.

        Args:
            changes: new state by user id, or that the user is erased, which is remembered beside the rows.
            changelog_offset: offset of the last changelog record the changes stand for. Never goes backwards.
            caught_up_ms: when the store held everything in the changelog. Left out, it is now: right for the
                worker that owns the partition, whose changes are the changelog's newest. Recovery gives
                its own.

        Raises:
            EddylineError: the store is closed, or the disk refuses.
            ValueError: the offset goes backwards.
        """
        self._check_open()
        before = self._head.changelog_offset
        if changelog_offset < (0 if before is None else before):
            raise ValueError(f"{self.name}: changelog offset {changelog_offset} after {before}")
        users = self._head.users
        if changes:
            known = self.get(list(changes))
            users += sum(
                (not isinstance(new, Erasure)) - (old is not None)
                for new, old in zip(changes.values(), known, strict=True)
            )
        head = Head(changelog_offset, now_ms() if caught_up_ms is None else caught_up_ms, users)
        self._apply(changes, head)
        self._head = head

    def clear(self, caught_up_ms: int) -> None:
        """Delete every row and erasure and start the changelog anew, atomically.

        Args:
            caught_up_ms: the time from which tombstones must still be found, that is, of the rebuild's start.
        """
        self._check_open()
        head = Head(None, caught_up_ms, 0)
        self._clear(head)
        self._head = head

    @abstractmethod
    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The states of these users, in their order; None for a user without one."""

    @abstractmethod
    def erased(self, keys: Sequence[bytes]) -> list[int | None]:
        """Up to which click each of these users was erased last; None where they were not, or clicked since."""

    @abstractmethod
    def drop_erasures(self, before_ms: int) -> None:
        """Forget erasures that were written before this time."""

    @abstractmethod
    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every (user id, state) by ascending user id, as they stood at the call; later writes are not seen.

        Rows are read while the iterator advances. Closing the store ends it with `EddylineError`.
        """

    @abstractmethod
    def scan(self, start: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        r"""Up to `limit` rows by ascending user id, for sweeping in slices between micro-batches.

        Args:
            start: the first user id wanted, whether it exists or not; None starts at the first.
                The next slice starts at `last_key + b"\0"`.
            limit: how many rows at most; fewer than this means the end was reached.
        """

    @abstractmethod
    def _apply(self, changes: Mapping[bytes, bytes | Erasure], head: Head) -> None:
        """Write changes and head in one atomic step."""

    @abstractmethod
    def _clear(self, head: Head) -> None:
        """Delete all rows and write the head in one atomic step."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of whatever the open store holds."""

    def close(self) -> None:
        """Close this partition, twice is fine. Use `StateStore.close`, which also forgets the handle."""
        if not self._closed:
            self._closed = True
            self._release()

    def _check_open(self) -> None:
        if self._closed:
            raise EddylineError(f"{self.name} is closed: the partition was given up; open it again from its StateStore")


class StateStore(ABC):
    """All partition stores of one worker process.

    Opening a partition that is open already gives the same object again. Used as a context manager it closes
    everything at the end.
    """

    def __init__(self) -> None:
        self._open: dict[int, PartitionStore] = {}
        self._closed = False

    @property
    def partitions(self) -> list[int]:
        """The partitions that are open, ascending."""
        return sorted(self._open)

    def open(self, partition: int) -> PartitionStore:
        """Open a click partition's store, creating it where there is none.

        Raises:
            UnknownFormat: what lies there is not a store of this partition that this version can read.
            EddylineError: it cannot be opened, or this `StateStore` was closed.
        """
        if self._closed:
            raise EddylineError("the state store is closed: make a new one to open partitions again")
        if partition not in self._open:
            self._open[partition] = self._open_partition(partition)
        return self._open[partition]

    def close(self, partition: int) -> None:
        """Close one partition's store; its rows stay. One that is not open is left alone."""
        store = self._open.pop(partition, None)
        if store is not None:
            store.close()

    def close_all(self) -> None:
        """Close every partition and give up the store; closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        try:
            for partition in self.partitions:
                self.close(partition)
        finally:
            self._release()

    @abstractmethod
    def _open_partition(self, partition: int) -> PartitionStore:
        """Open a partition that is not open."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of whatever the store itself holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_all()
