"""Evidence: which item was clicked after which items, and when. It names no user.

Every worker writes it, and every worker and the trainer fold it, in the order of the topic, into the same counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from eddyline.state.errors import UnknownFormat
from eddyline.state.packed import LARGEST, messages, pack, unpack
from eddyline.state.records import hash_id

__all__ = ["Evidence"]

_KIND, _VERSION = b"e", 1


@dataclass(frozen=True)
class Evidence:
    """Clicks without their users, B of them, in the order in which they were applied.

    Attributes:
        item: hash of the clicked item, (B,).
        weight: weight of the click's kind, (B,).
        ts_ms: event time, (B,).
        partition, offset: where the click stands in the clicks topic, (B,); a fold skips what it has seen.
        recent: hashes of the items the same user clicked before, newest first, flattened, (sum of recent_count,).
        recent_count: how many of them each click has, (B,).
        session_length: how many of them belong to the click's session, (B,).
        new_ids: the ids of items that the writer had not seen in the evidence yet.
    """

    item: npt.NDArray[np.uint64]
    weight: npt.NDArray[np.float32]
    ts_ms: npt.NDArray[np.int64]
    partition: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    recent: npt.NDArray[np.uint64]
    recent_count: npt.NDArray[np.uint8]
    session_length: npt.NDArray[np.uint8]
    new_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.item)

    @classmethod
    def of_none(cls, new_ids: Sequence[str] = ()) -> Evidence:
        """No clicks; only the ids of new items, if there are any."""
        return cls(**{name: np.zeros(0, dtype) for name, dtype in _COLUMNS.items()}, new_ids=new_ids)

    def part(self, begin: int, end: int, new_ids: Sequence[str]) -> Evidence:
        """The clicks from `begin` up to `end`, which bring these new ids."""
        to = np.cumsum(self.recent_count[:end].astype(np.int64))
        at = slice(int(to[begin - 1]) if begin else 0, int(to[end - 1]) if end else 0)
        columns = {name: getattr(self, name)[begin:end] for name in _COLUMNS if name != "recent"}
        return Evidence(**columns, recent=self.recent[at], new_ids=new_ids)

    def encode(self) -> bytes:
        """One message for the evidence topic."""
        columns: dict[str, npt.NDArray[Any]] = {name: getattr(self, name) for name in _COLUMNS}
        ids = [item_id.encode() for item_id in self.new_ids]
        columns["new_id_bytes"] = np.frombuffer(b"".join(ids), np.uint8)
        columns["new_id_length"] = np.array([len(item_id) for item_id in ids], np.uint32)
        return pack(_KIND, _VERSION, columns)

    def messages(self, largest: int = LARGEST) -> list[bytes]:
        """Messages for the evidence topic, in order, each of at most so many bytes; none without clicks or new ids."""
        return messages(self, largest) if len(self) or self.new_ids else []

    def halves(self) -> tuple[Evidence, Evidence]:
        """The first clicks and the others, each with the new ids of its own."""
        half = len(self) // 2
        early = set(self.item[:half].tolist())
        ids: tuple[list[str], list[str]] = ([], [])
        for item_id in self.new_ids:
            ids[hash_id(item_id) not in early].append(item_id)
        return self.part(0, half, ids[0]), self.part(half, len(self), ids[1])

    @classmethod
    def decode(cls, raw: bytes) -> Evidence:
        """Read one message of the evidence topic.

        Raises:
            UnknownFormat: it is not evidence, of a format this version does not know, or damaged.
        """
        columns = unpack(raw, _KIND, _VERSION)
        try:
            text, lengths = columns["new_id_bytes"].tobytes(), columns["new_id_length"].tolist()
            ends = list(accumulate(lengths))
            new_ids = [text[end - length : end].decode() for length, end in zip(lengths, ends, strict=True)]
            evidence = cls(**{name: columns[name] for name in _COLUMNS}, new_ids=new_ids)
            whole = ends[-1:] in ([], [len(text)]) and evidence._is_whole()
        except (KeyError, TypeError, UnicodeDecodeError) as error:
            raise UnknownFormat(f"a message of evidence is damaged: {error!r}") from error
        if not whole:  # the kernels trust it, and do not look where they read
            raise UnknownFormat("a message of evidence is damaged: its columns do not belong together")
        return evidence

    def _is_whole(self) -> bool:
        columns = {name: getattr(self, name) for name in _COLUMNS}
        fitting = all(columns[name].dtype == dtype and columns[name].ndim == 1 for name, dtype in _COLUMNS.items())
        return (
            fitting
            and all(len(column) == len(self) for name, column in columns.items() if name != "recent")
            and int(self.recent_count.sum()) == len(self.recent)
            and int(self.partition.min(initial=0)) >= 0
        )


_COLUMNS = {
    "item": "<u8",
    "weight": "<f4",
    "ts_ms": "<i8",
    "partition": "<i4",
    "offset": "<i8",
    "recent": "<u8",
    "recent_count": "|u1",
    "session_length": "|u1",
}
