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

__all__ = ["Expelled", "Membership"]

_log = structlog.get_logger()
_LEASE = 0.8  # of the session timeout: what is sent within it arrives before Kafka gives the partitions away
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
        self._lease_s = _LEASE * session_timeout_s
        self._coordinator: Any = None
        self._generation = -1
        self._renewed = 0.0
        self._told = False

    def joined(self) -> None:
        """Partitions were assigned: the lease begins."""
        coordinator = self._app.consumer._thread._consumer._coordinator  # neither library shows its heartbeats
        if coordinator is not self._coordinator:
            self._coordinator = coordinator
            self._follow(coordinator)
        self._generation = coordinator.generation
        self._renewed = time.monotonic()
        self._told = False

    async def confirm(self) -> None:
        """Return once it is certain that the partitions assigned last are still this process's.

        Raises:
            Expelled: they are not.
        """
        while True:
            if self._coordinator is None or self._coordinator.generation != self._generation:
                if not self._told:
                    _log.warning("no longer a member of the group: what is under way is left to the new owner")
                self._told = True
                raise Expelled
            if time.monotonic() - self._renewed < self._lease_s:
                return
            await asyncio.sleep(_POLL_S)

    def _follow(self, coordinator: Any) -> None:
        heartbeat = coordinator._do_heartbeat

        async def followed() -> bool:
            asked = time.monotonic()
            accepted: bool = await heartbeat()
            if accepted:
                self._renewed = asked
            return accepted

        coordinator._do_heartbeat = followed
