"""Refresh: which users clicked recently, and whose lists a new model is still to make anew."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from eddyline.stream.microbatch import User

__all__ = ["Refresh"]


class Refresh:
    """The recently active users, and those of them who wait for a list of the model in use.

    Args:
        most: users remembered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._active: OrderedDict[User, None] = OrderedDict()  # oldest first
        self._waiting: list[User] = []

    def clicked(self, users: Iterable[User]) -> None:
        """Users clicked."""
        for user in users:
            self._active[user] = None
            self._active.move_to_end(user)
        while len(self._active) > self._most:
            self._active.popitem(last=False)

    def forget(self, users: Iterable[User]) -> None:
        """Users were erased."""
        for user in users:
            self._active.pop(user, None)

    def begin(self) -> None:
        """Another model is in use: everyone waits for a new list."""
        self._waiting = list(self._active)

    def __bool__(self) -> bool:
        """Whether anyone waits."""
        return bool(self._waiting)

    def take(self, most: int) -> list[User]:
        """The next users, the most recently active first; they wait no longer."""
        return [self._waiting.pop() for _ in range(min(most, len(self._waiting)))]
