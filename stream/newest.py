"""Which of several records of a user in the changelog stands.

A worker that was frozen while others took its partitions over may still append a state older than theirs. So of
two records of a user the one of the later click stands, wherever it is: a state says which click it is of, and a
tombstone says in its header `eddyline.offset` up to which click it erases.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from eddyline.state.store import Erasure, PartitionStore
from eddyline.state.user_state import last_offset
from eddyline.stream.outbox import Message

__all__ = ["Newest", "changelog_message"]

_ERASED_UP_TO = "eddyline.offset"


def changelog_message(topic: str, partition: int, user: bytes, change: bytes | Erasure) -> Message:
    """A user's new state, or their erasure, as a record of the changelog."""
    if isinstance(change, Erasure):
        return Message(topic, None, user, partition, [(_ERASED_UP_TO, str(change.up_to).encode())])
    return Message(topic, change, user, partition)


class Newest:
    """What stands of each user while the records of a partition are read: what knows the latest click."""

    def __init__(self, store: PartitionStore) -> None:
        self._store = store
        self._outdated: set[bytes] = set()

    def changes(self, records: Sequence[ConsumerRecord]) -> dict[bytes, bytes | Erasure]:
        """What the next records change in the store."""
        users = list({record.key for record in records})
        found = zip(users, *self._known(users), strict=True)
        standing = {user: _Standing(state, erased) for user, state, erased in found}
        changes: dict[bytes, bytes | Erasure] = {}
        for record in records:
            user = record.key
            change = standing[user].take(record)
            if change is None:
                self._outdated.add(user)
            else:
                changes[user] = change
                self._outdated.discard(user)
        return changes

    def outdated(self) -> dict[bytes, bytes | Erasure]:
        """What stands of users whose last record does not."""
        users = list(self._outdated)
        found = zip(users, *self._known(users), strict=True)
        return {
            user: Erasure(-1 if up_to is None else up_to) if state is None else state for user, state, up_to in found
        }

    def _known(self, users: Sequence[bytes]) -> tuple[list[bytes | None], list[int | None]]:
        return self._store.get(users), self._store.erased(users)


class _Standing:
    """What stands of one user."""

    def __init__(self, state: bytes | None, erased: int | None) -> None:
        self._there = state is not None
        self._offset = None if state is None else last_offset(state)
        self._erased = -1 if erased is None else erased

    def take(self, record: ConsumerRecord) -> bytes | Erasure | None:
        """What the record changes; None if it is older than what stands."""
        if record.value is not None:
            offset = last_offset(record.value)
            least = self._erased + 1 if self._offset is None else self._offset
            if offset is not None and offset < least:
                return None
            self._there, self._offset = True, offset
            return bytes(record.value)
        said = next((int(text) for name, text in record.headers if name == _ERASED_UP_TO), None)
        stood = -1 if self._offset is None else self._offset
        up_to = stood if said is None else said
        if self._there and stood > up_to:
            return None
        self._there, self._offset, self._erased = False, None, max(self._erased, up_to)
        return Erasure(self._erased)
