"""Runs of `eddyline replay`: several at a time, one core each; a result is kept, and not made twice."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

__all__ = ["Children", "Results", "Run", "kept", "make"]

ROOT = Path(__file__).parents[2]
SAY_EVERY_S = 60

Results = dict[str, dict[str, Any]]
"""What `eddyline replay --json` gave, by the name of the run."""


@dataclass(frozen=True)
class Run:
    """One backtest.

    Attributes:
        name: of the run and its files.
        log: what is replayed; None: a made-up stream.
        flags: of `eddyline replay`.
        minutes: about how long it takes on one core; the longest begin first.
    """

    name: str
    log: Path | None
    flags: tuple[str, ...]
    minutes: float

    @property
    def arguments(self) -> list[str]:
        """What `eddyline` is called with."""
        return ["replay", "--synthetic" if self.log is None else str(self.log), *self.flags, "--json"]

    def key(self) -> str:
        """Of everything the result depends on: code, packages, settings, flags and log."""
        digest = hashlib.sha256(_code().encode())
        digest.update(json.dumps([self.flags, self.log and _hash(self.log)]).encode())
        return digest.hexdigest()


def make(runs: Iterable[Run], folder: Path, jobs: int, *, again: bool = False) -> tuple[Results, list[str]]:
    """Make the results that are not in the folder yet, `jobs` at a time, and tell stderr how far it is.

    Args:
        runs: what to make.
        folder: where each run has NAME.json, NAME.html, NAME.log (what it said) and NAME.key.
        jobs: processes at a time.
        again: make those too that are there.

    Returns:
        The results by name, and the names of the runs that failed; these leave the other ones alone.

    Raises:
        KeyboardInterrupt: it was stopped; nothing that it began runs any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results: Results = {}
    todo = []
    for run in sorted(runs, key=lambda run: -run.minutes):
        if not again and (there := kept(run, folder)) is not None:
            results[run.name] = there
        else:
            todo.append(run)
    _say(f"{len(results)} results are there, {len(todo)} runs to make, {jobs} at a time")
    failed: list[str] = []
    children = Children()
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(_make, run, folder, children): run.name for run in todo}
        try:
            while running:
                done, _ = wait(running, SAY_EVERY_S, FIRST_COMPLETED)
                for one in done:
                    name = running.pop(one)
                    try:
                        results[name] = one.result()
                    except (OSError, ValueError, subprocess.CalledProcessError) as error:
                        failed.append(name)
                        _say(f"{name} FAILED; {folder / name}.log has what it said: {error}")
                _tell(running, len(todo))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            children.end()
            raise
    return results, failed


def _tell(running: Mapping[Future[dict[str, Any]], str], all_runs: int) -> None:
    under_way = ", ".join(name for future, name in running.items() if future.running())
    _say(f"{all_runs - len(running)} of {all_runs} done" + (f"; under way: {under_way}" if under_way else ""))


class Children:
    """Processes begun by several threads, which end together when they are told to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def run(self, command: Sequence[str], *, stdout: IO[bytes], stderr: IO[bytes], env: Mapping[str, str]) -> None:
        """Run one to its end.

        Raises:
            CalledProcessError: it failed, or was ended.
        """
        with self._lock:
            if self._ended:
                raise subprocess.CalledProcessError(-signal.SIGTERM, command)
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=env)
            self._running.add(process)
        code = process.wait()
        with self._lock:
            self._running.remove(process)
        if code:
            raise subprocess.CalledProcessError(code, command)

    def end(self) -> None:
        """End those that run, and begin no more."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()


def _make(run: Run, folder: Path, children: Children) -> dict[str, Any]:
    start, key = time.monotonic(), run.key()
    _say(f"{run.name} begins")
    place = folder / run.name
    command = [sys.executable, "-m", "eddyline.stream.cli", *run.arguments, "--html", f"{place}.html"]
    made, key_file = Path(f"{place}.made"), Path(f"{place}.key")
    with made.open("wb") as out, Path(f"{place}.log").open("wb") as said:
        children.run(command, stdout=out, stderr=said, env=_environment())
    result: dict[str, Any] = json.loads(made.read_text())
    key_file.unlink(missing_ok=True)
    made.replace(f"{place}.json")
    key_file.write_text(key)
    _say(f"{run.name} is done after {time.monotonic() - start:,.0f} s")
    return result


def kept(run: Run, folder: Path) -> dict[str, Any] | None:
    """The result of a run that the folder holds; None if there is none, or of other code, settings, flags or log."""
    result, key = (folder / f"{run.name}.{kind}" for kind in ("json", "key"))
    if not (result.exists() and key.exists() and key.read_text() == run.key()):
        return None
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def _environment() -> dict[str, str]:
    """This one, but for the folder of the logs, which is no setting and would be refused as an unknown one."""
    return {name: value for name, value in os.environ.items() if name != "EDDYLINE_LOGS"}


@cache
def _code() -> str:
    """A hash of what is run, and with which settings."""
    files = sorted(file for part in ("state", "model", "replay", "stream") for file in (ROOT / part).rglob("*.py"))
    settings = sorted((name, value) for name, value in _environment().items() if name.startswith("EDDYLINE_"))
    packages = [_version(name) for name in ("torch", "numpy", "numba", "pandas", "implicit", "rtrec")]
    config = Path("eddyline.toml")
    read: Sequence[bytes] = [file.read_bytes() for file in (*files, *([config] if config.exists() else []))]
    return hashlib.sha256(b"\0".join(read) + json.dumps([settings, packages]).encode()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _hash(log: Path) -> str:
    return hashlib.sha256(log.read_bytes()).hexdigest()


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")  # in one piece: several threads say things
    sys.stderr.flush()
