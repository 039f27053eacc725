from __future__ import annotations

import os
import signal
from typing import Self

import pytest

from eddyline.state.errors import EddylineError
from eddyline.stream.cli import main
from eddyline.stream.cli.services import one_of_several
from eddyline.stream.config import Settings, load_settings

pytestmark = pytest.mark.usefixtures("elsewhere")


class Process:
    """Stands in for a child; the second ends by itself where `code` says so."""

    def __init__(self, code: int | None) -> None:
        self.code = code
        self.terminated = False

    def terminate(self) -> None:
        self.terminated = True


class Children:
    """Stands in for `Child`, and keeps all that were made."""

    def __init__(self, code: int | None = None) -> None:
        self.code = code
        self.made: list[Child] = []

    def __call__(self, command: list[str], settings: Settings) -> Child:
        child = Child(command, settings, self.code if self.made else None)
        self.made.append(child)
        return child


class Child:
    def __init__(self, command: list[str], settings: Settings, code: int | None) -> None:
        self.command = command
        self.settings = settings
        self.process = Process(code)
        self.terminated_before_waited_for = False

    def check(self) -> None:
        if self.process.code is not None:
            raise EddylineError(f"ended with code {self.process.code}")
        if self.settings.state.folder.name == "worker-0":
            os.kill(os.getpid(), signal.SIGTERM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.terminated_before_waited_for = self.process.terminated


@pytest.mark.parametrize("command", ["worker", "trainer"])
def test_the_service_gets_the_settings(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Settings] = []
    monkeypatch.setattr(f"eddyline.stream.{command}.run", got.append)
    assert main([command, "--set", "engine.ranking.length=5", "--broker", "kafka:1"]) == 0
    assert (got[0].engine.ranking.length, got[0].kafka.bootstrap_servers) == (5, "kafka:1")


def test_no_process_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "--processes", "0"]) == 2
    assert "--processes 0: want at least 1" in capsys.readouterr().err


def test_several_workers_share_the_settings_but_for_folder_and_port() -> None:
    settings = load_settings(None, {"telemetry.metrics_port": "9100", "topics.prefix": "shop"}, {})
    first, second = (one_of_several(settings, number) for number in (0, 1))
    assert (first.state.folder.name, second.state.folder.name) == ("worker-0", "worker-1")
    assert (first.telemetry.metrics_port, second.telemetry.metrics_port) == (9100, 9101)
    assert first.topics.prefix == second.topics.prefix == "shop"


@pytest.mark.parametrize(("port", "own"), [("", None), ("0", 0)])
def test_metrics_that_are_off_or_on_any_port_stay_so(port: str, own: int | None) -> None:
    settings = load_settings(None, {"telemetry.metrics_port": port}, {})
    assert one_of_several(settings, 1).telemetry.metrics_port == own


def test_several_workers_run_until_sigterm_and_are_all_ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children()
    monkeypatch.setattr("eddyline.stream.processes.Child", children)
    handler = signal.getsignal(signal.SIGTERM)
    assert main(["worker", "--processes", "3"]) == 0
    assert [child.command for child in children.made] == [["worker"]] * 3
    assert all(child.terminated_before_waited_for for child in children.made)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_worker_that_ends_by_itself_ends_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    children = Children(code=5)
    monkeypatch.setattr("eddyline.stream.processes.Child", children)
    assert main(["worker", "--processes", "2"]) == 1
    assert "ended with code 5" in capsys.readouterr().err
    assert all(child.terminated_before_waited_for for child in children.made)
