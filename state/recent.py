"""Recently active users: as many as are to be remembered, the longest idle ones forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

__all__ = ["Recent"]

User = TypeVar("User", bound=Hashable)


class Recent(Generic[User]):
    """The users who were active last, iterated from the longest idle to the most recent.

    Args:
        most: users remembered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._users: OrderedDict[User, None] = OrderedDict()

    def note(self, users: Iterable[User]) -> None:
        """These users were active, the last one last."""
        for user in users:
            self._users[user] = None
            self._users.move_to_end(user)
        while len(self._users) > self._most:
            self._users.popitem(last=False)

    def forget(self, users: Iterable[User]) -> None:
        """These users are remembered no longer."""
        for user in users:
            self._users.pop(user, None)

    def __contains__(self, user: User) -> bool:
        return user in self._users

    def __iter__(self) -> Iterator[User]:
        return iter(self._users)

    def __len__(self) -> int:
        return len(self._users)
