"""Whether a process may still speak for its partitions."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from eddyline.stream.membership import Expelled, Membership


class Coordinator:
    """Answers heartbeats as it is told to."""

    def __init__(self) -> None:
        self.generation = 3
        self.accepts = True

    async def _do_heartbeat(self) -> bool:
        return self.accepts

    async def _do_rejoin_group(self, _: Any) -> bool:
        self.generation += 1
        return True


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def membership(coordinator: Coordinator) -> Membership:
    app: Any = SimpleNamespace(consumer=SimpleNamespace(_thread=SimpleNamespace(_consumer=None)))
    app.consumer._thread._consumer = SimpleNamespace(_coordinator=coordinator)
    return Membership(app, session_timeout_s=0.5)


def test_whoever_was_assigned_nothing_is_no_member(membership: Membership) -> None:
    with pytest.raises(Expelled):
        asyncio.run(membership.confirm())


def test_a_member_goes_on_at_once(membership: Membership) -> None:
    membership.joined()
    asyncio.run(asyncio.wait_for(membership.confirm(), 0.1))


def test_a_new_generation_is_another_membership(membership: Membership, coordinator: Coordinator) -> None:
    membership.joined()
    coordinator.generation = -1
    with pytest.raises(Expelled):
        asyncio.run(membership.confirm())
    coordinator.generation = 4
    membership.joined()
    asyncio.run(membership.confirm())


def test_after_a_silence_the_next_heartbeat_decides(membership: Membership, coordinator: Coordinator) -> None:
    async def work() -> None:
        membership.joined()
        time.sleep(0.5)
        waiting = asyncio.create_task(membership.confirm())
        coordinator.accepts = False
        assert not await coordinator._do_heartbeat()
        await asyncio.sleep(0.1)
        assert not waiting.done()
        coordinator.accepts = True
        assert await coordinator._do_heartbeat()
        await asyncio.wait_for(waiting, 1)

        time.sleep(0.5)
        waiting = asyncio.create_task(membership.confirm())
        await asyncio.sleep(0.1)
        coordinator.generation = -1
        with pytest.raises(Expelled):
            await waiting

    asyncio.run(work())


def test_joining_again_follows_the_same_heartbeats_once(membership: Membership, coordinator: Coordinator) -> None:
    membership.joined()
    followed = coordinator._do_heartbeat
    membership.joined()
    assert coordinator._do_heartbeat == followed


def test_the_lease_counts_from_when_it_asked_to_join(membership: Membership, coordinator: Coordinator) -> None:
    async def work() -> None:
        membership.joined()
        time.sleep(0.5)
        await coordinator._do_rejoin_group(None)
        membership.joined()
        await asyncio.wait_for(membership.confirm(), 0.1)

        await coordinator._do_rejoin_group(None)
        time.sleep(0.5)
        membership.joined()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(membership.confirm(), 0.1)

    asyncio.run(work())
