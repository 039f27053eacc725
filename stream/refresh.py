"""Refresh: which users clicked recently, and whose lists are to be made anew because of what others did since.

Those who never clicked are like one user without an id: one list for all of them is made anew with the others.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection

from eddyline.state.recent import Recent
from eddyline.stream.microbatch import User

__all__ = ["NEWCOMERS", "Refresh"]

NEWCOMERS = User(0, b"")
"""Everybody who never clicked: no click has an empty user id."""


class Refresh:
    """The recently active users, and those of them who wait for a new list.

    Args:
        most: users remembered.
        every_clicks: after so many clicks of anyone all of them wait; None: only once another model is in use.
        every_s: time between two rounds because of clicks at least.
    """

    def __init__(self, most: int, every_clicks: int | None, every_s: float) -> None:
        self._every = every_clicks
        self._every_s = every_s
        self._since = 0
        self._began = -every_s
        self._active: Recent[User] = Recent(most)
        self._waiting: OrderedDict[User, None] = OrderedDict()

    def clicked(self, users: Collection[User]) -> None:
        """Users clicked, and have a new list for it."""
        self._active.note(users)
        for user in users:
            self._waiting.pop(user, None)

    def forget(self, users: Collection[User]) -> None:
        """Users were erased."""
        self._active.forget(users)
        for user in users:
            self._waiting.pop(user, None)

    def begin(self) -> None:
        """Everyone waits for a new list, newcomers included."""
        self._waiting = OrderedDict.fromkeys([*self._active, NEWCOMERS])
        self._since = 0
        self._began = time.monotonic()

    def wait(self, user: User) -> None:
        """This user waits too."""
        self._waiting[user] = None

    def counted(self, clicks: int) -> None:
        """So many clicks more count: time for new lists, unless the last round is not over, or was a moment ago."""
        self._since += clicks
        enough = self._every is not None and self._since >= self._every
        if enough and not self._waiting and time.monotonic() - self._began >= self._every_s:
            self.begin()

    def __bool__(self) -> bool:
        """Whether anyone waits."""
        return bool(self._waiting)

    def take(self, most: int) -> list[User]:
        """The next users, newcomers before the most recently active; they wait no longer."""
        return [self._waiting.popitem()[0] for _ in range(min(most, len(self._waiting)))]
