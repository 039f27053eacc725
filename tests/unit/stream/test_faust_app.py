"""Services are stopped in good order, and in bounded time."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eddyline.state.errors import EddylineError
from eddyline.stream import faust_app
from eddyline.stream.faust_app import build_app, run_service
from eddyline.stream.kafka import KafkaSettings


class Service:
    """Does nothing, or for too long."""

    def __init__(self, *, stuck: str = "") -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.app: Any = SimpleNamespace(
            start=self._step("app start"), stop=self._step("app stop"), crashed=False, crash_reason=None
        )
        self.start, self.drain, self.stop = self._step("start"), self._step("drain"), self._step("stop")
        self.stuck = stuck
        self.steps: list[str] = []

    def _step(self, name: str) -> Any:
        async def step() -> None:
            self.steps.append(name)
            if name == self.stuck:
                await asyncio.Event().wait()

        return step


def run(stuck: str, ready: Callable[[Service], None]) -> list[str]:
    async def work() -> list[str]:
        service = Service(stuck=stuck)
        if stuck in ("start", "app start"):
            asyncio.get_running_loop().call_later(0.05, ready, service)
        await run_service(service, lambda: ready(service))
        return service.steps

    return asyncio.run(work())


def ask(_service: Service, times: int = 1) -> None:
    loop = asyncio.get_running_loop()
    for n in range(times):
        loop.call_later(0.05 * (n + 1), os.kill, os.getpid(), signal.SIGTERM)


WHOLE = ["start", "app start", "drain", "app stop", "stop"]


def test_what_is_under_way_is_finished_before_it_stops() -> None:
    assert run("", ask) == WHOLE


@pytest.fixture(autouse=True)
def threads_die_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)


@pytest.mark.parametrize("stuck", ["drain", "app stop", "stop"])
def test_what_cannot_be_finished_is_left_after_a_while(stuck: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_app, "_DRAIN_S", 0.1)
    monkeypatch.setattr(faust_app, "_STOP_S", 0.1)
    ended: list[object] = []
    monkeypatch.setattr(faust_app, "_end", ended.append)
    assert run(stuck, ask) == WHOLE
    assert ended == [None]


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_app, "_end", lambda _: None)
    began = time.monotonic()
    assert run("drain", lambda service: ask(service, 2)) == WHOLE
    assert time.monotonic() - began < 5


def test_it_can_be_stopped_while_it_is_starting() -> None:
    assert run("start", ask) == ["start", "stop"]
    assert run("app start", ask) == ["start", "app start", "app stop", "stop"]


def test_a_service_that_fails_is_stopped_and_its_error_raised() -> None:
    with pytest.raises(ValueError, match="gone"):
        run("", lambda service: service.failed.set_exception(ValueError("gone")))


def test_a_thread_that_kafka_cancelled_ends_in_silence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(error: type[BaseException]) -> None:
        raise error

    monkeypatch.setattr(threading, "excepthook", faust_app._thread_died)
    for error in (asyncio.CancelledError, KeyError):
        thread = threading.Thread(target=die, args=[error])
        thread.start()
        thread.join()
    said = capsys.readouterr().err
    assert "KeyError" in said
    assert "CancelledError" not in said


def test_faust_giving_up_is_a_failure() -> None:
    def crash(service: Service) -> None:
        service.app.crashed, service.app.crash_reason = True, KeyError("not allowed")

    with pytest.raises(EddylineError, match=r"gave up.*not allowed"):
        run("", crash)


def test_a_last_checkpoint_that_fails_does_not_keep_the_partition(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[object] = []
    monkeypatch.setattr(faust_app, "_end", ended.append)

    def fail(service: Service) -> None:
        async def drain() -> None:
            raise EddylineError("the disk is full")

        service.drain = drain
        ask(service)

    assert run("", fail) == ["start", "app start", "app stop", "stop"]
    assert ended == [None]
    assert "could not finish what is under way: the disk is full" in capsys.readouterr().out


def test_others_wait_for_as_long_as_a_member_may_take(tmp_path: Path) -> None:
    app = build_app(KafkaSettings(), "a", tmp_path, commit_interval_s=1.0, rebalance_timeout_s=3600.0)
    assert app.conf.broker_rebalance_timeout == 3600
    assert app.conf.broker_max_poll_interval >= 3600  # Faust does not poll while a member gives its partitions away
    assert build_app(KafkaSettings(), "b", tmp_path, commit_interval_s=1.0).conf.broker_rebalance_timeout == 60
