"""Running eddyline's own commands as processes, and ending them for certain."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from eddyline.state.errors import EddylineError
from eddyline.stream.config import Settings, environment

__all__ = ["Child"]

_GRACE_S = 30.0


class Child:
    """One `eddyline …` command as a process with these settings; a context manager that ends it.

    Args:
        command: the words after `eddyline`.
        settings: handed on through the environment, where `ps` does not show them.
        log: where its stderr goes; None leaves it ours.
    """

    def __init__(self, command: Sequence[str], settings: Settings, log: Path | None = None) -> None:
        self.name = " ".join(command)
        self.log = log
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EDDYLINE_")}
        stderr: IO[bytes] | None = log.open("wb") if log else None
        try:
            self.process = subprocess.Popen(  # noqa: S603  (our own command)
                [sys.executable, "-m", "eddyline.stream.cli", *command],
                env={**inherited, **environment(settings), "EDDYLINE_CONFIG": os.devnull},
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,  # a Ctrl-C is ours to hand on
            )
        finally:
            if stderr is not None:
                stderr.close()

    def check(self) -> None:
        """Raise if it has ended.

        Raises:
            EddylineError: with its exit code and the end of its log.
        """
        code = self.process.poll()
        if code is not None:
            said = self.log.read_text(errors="replace")[-2000:] if self.log else ""
            raise EddylineError(f"`eddyline {self.name}` ended with code {code}\n{said}".rstrip())

    def stop(self) -> int:
        """Ask it to end, insist after a while; returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
