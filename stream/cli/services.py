"""`eddyline worker` and `eddyline trainer`: the long-running services."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.options import DEFAULTS, Options

if TYPE_CHECKING:
    from eddyline.stream.config import Settings

__all__ = ["register"]

_POLL_S = 0.2


def register(app: App) -> None:
    """Add `eddyline worker` and `eddyline trainer`."""
    app.command(worker)
    app.command(trainer)


def worker(
    *,
    processes: Annotated[int, Parameter(help="How many processes; they share the partitions.")] = 1,
    options: Options = DEFAULTS,
) -> None:
    """Turn clicks into recommendations until SIGTERM or Ctrl-C."""
    if processes < 1:
        raise ConfigurationError(f"worker: --processes {processes}: want at least 1")
    settings = options.all_settings()
    if processes == 1:
        from eddyline.stream.worker import run  # noqa: PLC0415

        run(settings)
    else:
        _several(settings, processes)


def trainer(*, options: Options = DEFAULTS) -> None:
    """Learn from the clicks and publish model versions until SIGTERM or Ctrl-C; a second one stands by."""
    settings = options.all_settings()

    from eddyline.stream.trainer import run  # noqa: PLC0415

    run(settings)


def _several(settings: Settings, processes: int) -> None:
    """Run so many workers until SIGTERM or Ctrl-C, or until one of them ends; then stop them all.

    Raises:
        EddylineError: one ended by itself. What restarts services restarts them all.
    """
    from eddyline.stream.processes import Child  # noqa: PLC0415

    stopping = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with ExitStack() as stack:
            children = [
                stack.enter_context(Child(["worker"], one_of_several(settings, number))) for number in range(processes)
            ]
            # All at once, before the stack waits for one after the other.
            for child in children:
                stack.callback(child.process.terminate)
            while not stopping.wait(_POLL_S):
                for child in children:
                    child.check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def one_of_several(settings: Settings, number: int) -> Settings:
    """The settings of one of several workers: its own state folder, and its own port of metrics if any."""
    port = settings.telemetry.metrics_port
    state = settings.state.model_copy(update={"folder": settings.state.folder / f"worker-{number}"})
    telemetry = settings.telemetry.model_copy(update={"metrics_port": port + number if port else port})
    return settings.model_copy(update={"state": state, "telemetry": telemetry})
