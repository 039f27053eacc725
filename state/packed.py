"""Packed arrays: how evidence and examples travel, a micro-batch in one message.

A message is the magic `EDL`, one byte for what it is, one for its format, then a MessagePack list of columns
(name, dtype, shape, raw little-endian bytes). Columns describe themselves, so a reader needs no schema beyond
the names; nothing in it can run code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from eddyline.state.errors import UnknownFormat

__all__ = ["LARGEST", "Columns", "messages", "pack", "unpack"]

Columns = Mapping[str, npt.NDArray[Any]]

LARGEST = 1_000_000
"""Bytes of the largest message: Kafka's topics take 1,048,588 with all around it, unless they are told otherwise."""

_MAGIC = b"EDL"
_DTYPES = frozenset({"|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "|b1"})


class _Halvable(Protocol):
    """Rows that travel in one message, or as two halves."""

    def __len__(self) -> int: ...

    def encode(self) -> bytes: ...

    def halves(self) -> Sequence[_Halvable]: ...


def messages(whole: _Halvable, largest: int = LARGEST) -> list[bytes]:
    """It in messages of at most so many bytes, in order: cut in halves until they fit. One row is never cut."""
    message = whole.encode()
    if len(message) <= largest or len(whole) < 2:
        return [message]
    return [message for half in whole.halves() for message in messages(half, largest)]


class _Column(msgspec.Struct, array_like=True):
    name: str
    dtype: str
    shape: list[int]
    data: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Column]).decode


def pack(kind: bytes, version: int, columns: Columns) -> bytes:
    """One message of the columns. `kind` is one byte."""
    packed = [_Column(name, a.dtype.str, list(a.shape), a.tobytes()) for name, a in columns.items()]
    return _MAGIC + kind + bytes([version]) + _encode(packed)


def unpack(raw: bytes, kind: bytes, version: int) -> dict[str, npt.NDArray[Any]]:
    """The columns of one message; read-only views of its bytes.

    Raises:
        UnknownFormat: it is something else, of another format version, or damaged.
    """
    if len(raw) < 5 or raw[:3] != _MAGIC or raw[3:4] != kind:
        raise UnknownFormat(f"not a packed {kind.decode()!r} message: it starts with {raw[:5]!r}")
    if raw[4] != version:
        raise UnknownFormat(
            f"a packed {kind.decode()!r} message has format {raw[4]}, this version reads format {version}: "
            "upgrade every worker and trainer to one version"
        )
    try:
        columns = _decode(raw[5:])
        for column in columns:
            if column.dtype not in _DTYPES:
                raise UnknownFormat(f"column {column.name!r} has dtype {column.dtype!r}")
        return {c.name: np.frombuffer(c.data, c.dtype).reshape(c.shape) for c in columns}
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnknownFormat(f"a packed {kind.decode()!r} message is damaged: {error}") from error
