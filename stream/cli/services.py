"""`eddyline worker`: the long-running services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from eddyline.state.errors import ConfigurationError, EddylineError
from eddyline.stream.cli.options import DEFAULTS, Options

if TYPE_CHECKING:
    from eddyline.stream.config import Settings

__all__ = ["register"]

_POLL_S = 0.2


def register(app: App) -> None:
    """Add `eddyline worker`."""
    app.command(worker)


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
        run_several([worker_environment(settings, number) for number in range(processes)])


def worker_environment(settings: Settings, number: int) -> dict[str, str]:
    """The environment of one of several workers: a state folder and, where metrics are on, a port of its own."""
    from eddyline.stream.config import environment  # noqa: PLC0415

    port = settings.telemetry.metrics_port
    own = settings.model_copy(
        update={
            "state": settings.state.model_copy(update={"folder": settings.state.folder / f"worker-{number}"}),
            "telemetry": settings.telemetry.model_copy(
                update={"metrics_port": port + number if port else port}
            ),
        }
    )
    others = {name: text for name, text in os.environ.items() if not name.startswith("EDDYLINE_")}
    return others | environment(own)


def run_several(
    environments: Sequence[Mapping[str, str]],
    command: Sequence[str] = (sys.executable, "-m", "eddyline.stream.cli", "worker"),
) -> None:
    """Run one process per environment until SIGTERM or Ctrl-C, or until one of them ends; then stop them all.

    Raises:
        EddylineError: one ended by itself. What restarts services restarts them all.
    """
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    running: list[subprocess.Popen[bytes]] = []
    try:
        running += [subprocess.Popen(command, env=dict(environ)) for environ in environments]  # noqa: S603
        while not stopping and all(process.poll() is None for process in running):
            time.sleep(_POLL_S)
        ended = [number for number, process in enumerate(running) if process.returncode is not None]
    finally:
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    if not stopping:
        code = running[ended[0]].returncode
        raise EddylineError(
            f"worker {ended[0]} ended by itself (exit code {code}), so all were stopped; see its log"
        )
