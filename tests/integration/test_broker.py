"""The embedded broker itself: another process starts and stops it, its data outlives it, kill -9 included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from eddyline.stream.broker import EmbeddedBroker
from eddyline.stream.kafka import KafkaSettings, admin_client


def topics(embedded: EmbeddedBroker) -> set[str]:
    with admin_client(KafkaSettings(bootstrap_servers=embedded.bootstrap_servers)) as admin:
        return set(admin.list_topics())


def create(embedded: EmbeddedBroker, name: str) -> None:
    with admin_client(KafkaSettings(bootstrap_servers=embedded.bootstrap_servers)) as admin:
        admin.create_topics({name: {"num_partitions": 1}}, wait_for_metadata=True)


def test_data_outlives_a_stop_and_a_kill(tmp_path: Path) -> None:
    embedded = EmbeddedBroker(tmp_path / "broker")
    with embedded:
        create(embedded, "first")
    with embedded:
        assert topics(embedded) == {"first"}
        create(embedded, "second")
        pid = embedded.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while embedded.pid is not None:
            time.sleep(0.01)
        with EmbeddedBroker(tmp_path / "broker") as again:
            assert topics(again) == {"first", "second"}
    assert again.pid is None


def test_what_another_process_started_goes_on_without_it_and_can_be_stopped(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from eddyline.stream.broker import EmbeddedBroker;"
        "EmbeddedBroker(pathlib.Path(sys.argv[1])).start()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "broker")], check=True, timeout=120)
    found = EmbeddedBroker(tmp_path / "broker")
    try:
        assert topics(found) == set()
        assert found.log_file.read_text()
    finally:
        assert found.stop()
    assert found.pid is None
