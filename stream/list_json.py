"""Ranked lists as JSON, written by a kernel.

A list is mostly numbers: 20 items have 120 of them. As Python objects they cost as much as making the list does, and
hold the interpreter lock meanwhile. The kernel writes what msgspec would write for `list[RankedItem]`, with numbers
rounded to a fixed number of decimals.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled
from eddyline.model.ranking import PARTS, Lists

__all__ = ["ItemNames", "items_json"]

_SCORE_DECIMALS, _PART_DECIMALS = 4, 3


class Texts(NamedTuple):
    """Texts end to end: their bytes, and where each begins, with the end of the last."""

    text: npt.NDArray[np.uint8]
    start: npt.NDArray[np.int64]


class ItemNames:
    """The ids of items as JSON strings, by their rows.

    Attributes:
        texts: the strings.
        longest: bytes of the longest.
    """

    def __init__(self) -> None:
        self.texts = Texts(np.zeros(0, np.uint8), np.zeros(1, np.int64))
        self.longest = 0

    def grow(self, ids: Sequence[str]) -> None:
        """Add the ids beyond those it has."""
        text, start = self.texts
        added = [msgspec.json.encode(item_id) for item_id in ids[len(start) - 1 :]]
        if added:
            lengths = np.array([len(one) for one in added])
            self.longest = max(self.longest, int(lengths.max()))
            self.texts = Texts(
                np.concatenate([text, np.frombuffer(b"".join(added), np.uint8)]),
                np.concatenate([start, start[-1] + np.cumsum(lengths)]),
            )


def items_json(lists: Lists, names: ItemNames) -> list[bytes]:
    """The items of each list as a JSON array of `RankedItem`; places without an item are left out."""
    U, K = lists.item.shape
    reasons = lists.because.shape[2]
    explained = lists.parts.size > 0
    per_item = _FIXED + (1 + reasons) * (names.longest + 1)
    text = np.empty(U * (2 + K * per_item), np.uint8)
    end = np.empty(U, np.int64)
    _write_lists(lists.item, lists.score, lists.parts, lists.because, explained, names.texts, _WORDS, text, end)
    written = text[: int(end[-1])].tobytes() if U else b""
    starts = [0, *end.tolist()]
    return [written[a:b] for a, b in pairwise(starts)]


_PIECES = [
    b'{"item_id":',
    b',"score":',
    b',"why":{"parts":{',
    b"}",
    b',"because_of":[',
    b"]",
    b"}",
    b"null",
    *(b'"%s":' % part.encode() for part in PARTS),
]
_WORDS = Texts(np.frombuffer(b"".join(_PIECES), np.uint8), np.cumsum([0, *(len(piece) for piece in _PIECES)]))
_LONGEST_NUMBER = 26  # a sign, 19 digits, a point, and the comma after
_FIXED = len(_WORDS.text) + _LONGEST_NUMBER * (1 + len(PARTS))
_LARGEST = 1e14  # beyond it a number has no four exact decimals


@compiled
def _copy(source: Texts, which: int, out: npt.NDArray[np.uint8], at: int) -> int:
    for i in range(source.start[which], source.start[which + 1]):
        out[at] = source.text[i]
        at += 1
    return at


@compiled
def _write_number(number: float, decimals: int, out: npt.NDArray[np.uint8], at: int) -> int:
    """A number with as many decimals as it needs, up to `decimals`, and one at least."""
    unit = 10**decimals
    scaled = np.int64(np.rint(abs(number) * unit))
    if number < 0 and scaled:
        out[at] = 45  # -
        at += 1
    whole, rest = scaled // unit, scaled % unit
    digits, left = 1, whole // 10
    while left:
        digits += 1
        left //= 10
    for d in range(digits):
        out[at + digits - 1 - d] = 48 + whole % 10
        whole //= 10
    at += digits
    out[at] = 46  # .
    at += 1
    first = True
    while rest or first:
        unit //= 10
        out[at] = 48 + rest // unit
        rest %= unit
        at += 1
        first = False
    return at


@compiled
def _write_parts(
    parts: npt.NDArray[np.float32],
    words: Texts,
    out: npt.NDArray[np.uint8],
    at: int,
) -> int:
    some = False
    for p in range(len(parts)):
        if np.rint(abs(parts[p]) * 10**_PART_DECIMALS) > 0 and abs(parts[p]) < _LARGEST:
            if some:
                out[at] = 44  # ,
                at += 1
            some = True
            at = _copy(words, 8 + p, out, at)
            at = _write_number(parts[p], _PART_DECIMALS, out, at)
    return at


@compiled
def _write_reasons(
    because: npt.NDArray[np.int32],
    names: Texts,
    words: Texts,
    out: npt.NDArray[np.uint8],
    at: int,
) -> int:
    some = False
    for r in range(len(because)):
        if because[r] >= 0:
            if some:
                out[at] = 44  # ,
                at += 1
            else:
                at = _copy(words, 4, out, at)
            some = True
            at = _copy(names, because[r], out, at)
    if some:
        at = _copy(words, 5, out, at)
    return at


@compiled
def _write_lists(
    item: npt.NDArray[np.int32],
    score: npt.NDArray[np.float32],
    parts: npt.NDArray[np.float32],
    because: npt.NDArray[np.int32],
    explained: bool,
    names: Texts,
    words: Texts,
    out: npt.NDArray[np.uint8],
    end: npt.NDArray[np.int64],
) -> None:
    at = 0
    for u in range(len(item)):
        out[at] = 91  # [
        at += 1
        for k in range(item.shape[1]):
            if item[u, k] < 0:
                break
            if k:
                out[at] = 44  # ,
                at += 1
            at = _copy(words, 0, out, at)
            at = _copy(names, item[u, k], out, at)
            at = _copy(words, 1, out, at)
            if abs(score[u, k]) < _LARGEST:
                at = _write_number(score[u, k], _SCORE_DECIMALS, out, at)
            else:
                at = _copy(words, 7, out, at)
            if explained:
                at = _copy(words, 2, out, at)
                at = _write_parts(parts[u, k], words, out, at)
                at = _copy(words, 3, out, at)
                at = _write_reasons(because[u, k], names, words, out, at)
                at = _copy(words, 6, out, at)
            at = _copy(words, 6, out, at)
        out[at] = 93  # ]
        at += 1
        end[u] = at
