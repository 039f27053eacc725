"""The Faust apps of worker and trainer: how they are built, run, and stopped with nothing half-done."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import faust

from eddyline.stream.kafka import KafkaSettings, faust_options

__all__ = ["Service", "build_app", "run_service"]


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


def build_app(kafka: KafkaSettings, group: str, folder: Path, *, commit_interval_s: float) -> faust.App:
    """A Faust app with nothing in it but its settings: no web server, no tables, no topics of its own."""
    return faust.App(
        group,
        **faust_options(kafka),
        autodiscover=False,
        broker_commit_interval=commit_interval_s,
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

    Raises:
        Exception: whatever the service failed with.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        await service.start()
        await service.app.start()
        on_ready()
        waiting: list[Awaitable[Any]] = [asyncio.ensure_future(stopping.wait()), service.failed]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
        if service.failed not in done:
            await service.drain()
        await service.app.stop()
    finally:
        await service.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if service.failed.done():
        service.failed.result()
