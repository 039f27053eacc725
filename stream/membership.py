"""Membership: whether this process still owns the partitions that its consumer group gave it.

A process that was frozen, or cut off from Kafka, for longer than the session timeout is no member any more, and its
partitions are another's; it hears of that only with its next heartbeat. What it sends until then would undo what
the new owner did. So nothing is sent without a lease, which each heartbeat that Kafka accepts renews.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

__all__ = ["LEASE", "Expelled", "Membership"]

LEASE = 0.5
"""Of the session timeout, how long a heartbeat allows to begin sending; what is sent must arrive in the other half."""

_log = structlog.get_logger()
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux's monotonic clock stands still in a suspend
_POLL_S = 0.05


class Expelled(Exception):
    """This process is no member of its group any more: what it was doing is left to the new owner."""


class Membership:
    """A process's membership in the consumer group of its Faust app.

    Args:
        app: the Faust app, on aiokafka.
        session_timeout_s: after how long a silence Kafka gives the partitions to others.
    """

    def __init__(self, app: Any, session_timeout_s: float) -> None:
        self._app = app
        self._lease_s = LEASE * session_timeout_s
        self._coordinator: Any = None
        self._generation = -1
        self._renewed = 0.0
        self._asked_to_join = 0.0
        self._told = False

    def joined(self) -> None:
        """Partitions were assigned: the lease begins."""
        coordinator = self._app.consumer._thread._consumer._coordinator  # neither library shows what it asks Kafka
        if coordinator is not self._coordinator:
            self._coordinator = coordinator
            self._follow(coordinator)
            self._renewed = _now_s()
        self._renewed = max(self._renewed, self._asked_to_join)
        self._generation = coordinator.generation
        self._told = False

    async def confirm(self) -> None:
        """Return once it is certain that the partitions assigned last are still this process's.

        Raises:
            Expelled: they are not.
        """
        while True:
            if self._generation < 0 or self._coordinator.generation != self._generation:
                if not self._told:
                    _log.warning("no longer a member of the group: what is under way is left to the new owner")
                self._told = True
                raise Expelled
            if _now_s() - self._renewed < self._lease_s:
                return
            await asyncio.sleep(_POLL_S)

    def _follow(self, coordinator: Any) -> None:
        heartbeat, rejoin = coordinator._do_heartbeat, coordinator._do_rejoin_group

        async def followed_heartbeat() -> bool:
            asked = _now_s()
            accepted: bool = await heartbeat()
            if accepted:
                self._renewed = asked
            return accepted

        async def followed_rejoin(subscription: Any) -> bool:
            self._asked_to_join = _now_s()
            joined: bool = await rejoin(subscription)
            return joined

        coordinator._do_heartbeat, coordinator._do_rejoin_group = followed_heartbeat, followed_rejoin


def _now_s() -> float:
    return time.clock_gettime(_CLOCK)
