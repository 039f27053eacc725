"""The store without a disk, for tests and backtests: the same contract, gone with the process."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

from eddyline.state.store import Erasure, Head, PartitionStore, StateStore, now_ms

__all__ = ["MemoryPartitionStore", "MemoryStateStore"]


class MemoryPartitionStore(PartitionStore):
    """One partition's states in a dictionary that outlives the handle, as files outlive a closed database."""

    def __init__(
        self, partition: int, rows: dict[bytes, bytes], erased: dict[bytes, tuple[int, int]], heads: dict[int, Head]
    ) -> None:
        super().__init__(partition, f"partition {partition} of the memory store", heads[partition])
        self._rows = rows
        self._erased = erased
        self._heads = heads

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The states of these users, in their order."""
        self._check_open()
        return [self._rows.get(key) for key in keys]

    def erased(self, keys: Sequence[bytes]) -> list[int | None]:
        """Up to which click each of these users was erased last."""
        self._check_open()
        return [self._erased[key][0] if key in self._erased else None for key in keys]

    def drop_erasures(self, before_ms: int) -> None:
        """Forget erasures that were written before this time."""
        self._check_open()
        for key in [key for key, (_, at_ms) in self._erased.items() if at_ms < before_ms]:
            del self._erased[key]

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every row by ascending user id, as they stand now."""
        self._check_open()
        return self._walk(sorted(self._rows.items()))

    def _walk(self, rows: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for row in rows:
            self._check_open()
            yield row

    def scan(self, start: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` rows from `start` on."""
        self._check_open()
        first = start or b""
        return heapq.nsmallest(limit, (row for row in self._rows.items() if row[0] >= first))

    def _apply(self, changes: Mapping[bytes, bytes | Erasure], head: Head) -> None:
        for key, value in changes.items():
            if isinstance(value, Erasure):
                self._rows.pop(key, None)
                self._erased[key] = value.up_to, now_ms()
            else:
                self._rows[key] = value
                self._erased.pop(key, None)
        self._heads[self.partition] = head

    def _clear(self, head: Head) -> None:
        self._rows.clear()
        self._erased.clear()
        self._heads[self.partition] = head

    def _release(self) -> None:
        self._rows = {}


class MemoryStateStore(StateStore):
    """A `StateStore` in memory. A partition that is closed and opened again has its rows still."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[int, dict[bytes, bytes]] = {}
        self._erased: dict[int, dict[bytes, tuple[int, int]]] = {}
        self._heads: dict[int, Head] = {}

    def _open_partition(self, partition: int) -> PartitionStore:
        rows = self._rows.setdefault(partition, {})
        self._heads.setdefault(partition, Head(None, now_ms(), 0))
        return MemoryPartitionStore(partition, rows, self._erased.setdefault(partition, {}), self._heads)

    def _release(self) -> None:
        self._rows.clear()
        self._heads.clear()
