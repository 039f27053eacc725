"""The Faust apps of worker and trainer: how they are built, run, and stopped with nothing half-done."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import faust
import structlog

from eddyline.state.errors import EddylineError
from eddyline.stream.kafka import KafkaSettings, faust_options

__all__ = ["Service", "build_app", "run_service"]

_log = structlog.get_logger()
_DRAIN_S = 15.0
_STOP_S = 5.0
_LOOK_S = 1.0


class Service(Protocol):
    """What `run_service` runs."""

    app: faust.App
    failed: asyncio.Future[None]

    async def start(self) -> None:
        """Everything before the first click is taken."""

    async def drain(self) -> None:
        """Finish what is under way and take nothing new."""

    async def stop(self) -> None:
        """Let go of everything."""


def build_app(
    kafka: KafkaSettings, group: str, folder: Path, *, commit_interval_s: float, rebalance_timeout_s: float = 60.0
) -> faust.App:
    """A Faust app with nothing in it but its settings: no web server, no tables, no topics of its own.

    Args:
        kafka: how to reach Kafka.
        group: name of the consumer group.
        folder: where Faust may keep files.
        commit_interval_s: how often acknowledged offsets are committed.
        rebalance_timeout_s: how long a member may take to finish what it is at before it gives its partitions away;
            those who join meanwhile wait for it.
    """
    return faust.App(
        group,
        **faust_options(kafka),
        autodiscover=False,
        broker_commit_interval=commit_interval_s,
        broker_max_poll_interval=max(1000.0, rebalance_timeout_s),  # nothing is polled in a rebalance
        broker_rebalance_timeout=rebalance_timeout_s,
        consumer_auto_offset_reset="earliest",
        datadir=str(folder / "faust"),
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        # Both sides of a rebalance are handled by the services; waiting here could only delay it.
        stream_wait_empty=False,
    )


async def run_service(service: Service, on_ready: Callable[[], None] = lambda: None) -> None:
    """Run until SIGTERM or SIGINT, or until the service fails.

    What is under way is finished first, for up to 15 s. If Kafka is away for longer, or at a second signal, it is left
    undone: it comes again after the next start. The process then ends at once, with exit code 1, because threads of
    the Kafka libraries wait for Kafka for as long as they live.

    Raises:
        Exception: whatever the service failed with.
    """
    threading.excepthook = _thread_died
    asked, asked_again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        (asked_again if asked.is_set() else asked).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    clean, began = True, False
    try:
        if await _started(service.start(), asked):
            began = True
            if await _started(service.app.start(), asked):
                on_ready()
                await _before(asyncio.ensure_future(_fails(service)), asked)
                if not service.failed.done():
                    clean &= await _within(_DRAIN_S, service.drain(), asked_again, "finish what is under way")
    finally:
        if began:
            clean &= await _within(_STOP_S, service.app.stop(), asked_again, "leave the group")
        clean &= await _within(_STOP_S, service.stop(), asked_again, "disconnect")
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if not clean:
        _end(service.failed.exception() if service.failed.done() else None)
    if service.failed.done():
        service.failed.result()


async def _fails(service: Service) -> None:
    """Return once the service has failed, which it has too when Faust has given up."""
    while not service.failed.done():
        if service.app.crashed:
            reason = service.app.crash_reason
            service.failed.set_exception(
                EddylineError(f"the Kafka client gave up ({reason!r}); `eddyline doctor` tells more")
            )
        await asyncio.wait([service.failed], timeout=_LOOK_S)


async def _started(work: Awaitable[Any], asked: asyncio.Event) -> bool:
    """Do it, unless it is asked to stop meanwhile; whether it was done."""
    task = asyncio.ensure_future(work)
    if await _before(task, asked):
        await task
        return True
    task.cancel()
    await asyncio.wait([task], timeout=_STOP_S)
    return False


async def _before(task: asyncio.Future[Any], asked: asyncio.Event) -> bool:
    """Wait for it, or until it is asked to stop; whether it is done."""
    await asyncio.wait([task, asyncio.ensure_future(asked.wait())], return_when=asyncio.FIRST_COMPLETED)
    return task.done()


async def _within(seconds: float, work: Awaitable[Any], hurry: asyncio.Event, what: str) -> bool:
    """Do it for so long at most, or until there is hurry; whether it was done."""
    task = asyncio.ensure_future(work)
    await asyncio.wait(
        [task, asyncio.ensure_future(hurry.wait())], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
    )
    if not task.done():
        task.cancel()
        _log.warning(f"could not {what} in time")
        return False
    if (error := task.exception()) is not None:
        _log.error(f"could not {what}: {error}", exc_info=None if isinstance(error, EddylineError) else error)
        return False
    return True


def _end(error: BaseException | None) -> None:
    """End the process without waiting for any thread."""
    if error is not None:
        _log.error(str(error))
    _log.warning("stopped; what was not finished comes again after the next start")
    logging.shutdown()
    os._exit(1)


def _thread_died(died: threading.ExceptHookArgs) -> None:
    """Tell of it, unless it is a cancellation that aiokafka lets escape when it is stopped while Kafka is away."""
    if not issubclass(died.exc_type, asyncio.CancelledError):
        threading.__excepthook__(died)
