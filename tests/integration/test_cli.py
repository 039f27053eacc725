"""The commands against a real broker, from `broker start` to `broker stop`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer

from eddyline.model.checkpoint import ModelStore, ModelStoreSettings
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.model import untrained_model
from eddyline.model.versions import model_to_arrays
from eddyline.state.records import RankedItem, Recommendation, encode
from eddyline.stream.dlq import dead_letter_headers
from eddyline.stream.kafka import KafkaSettings, client_options
from eddyline.stream.topics import Topics, TopicSettings

pytestmark = pytest.mark.integration

TOPICS = Topics.of(TopicSettings())


class Shell:
    """Runs `eddyline` in a folder of its own, with an environment that names the broker once it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {name: text for name, text in os.environ.items() if not name.startswith("EDDYLINE_")}
        self.environ["EDDYLINE_BROKER__PORT"] = "0"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "eddyline.stream.cli", *arguments]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("cli"))
    try:
        shell("broker", "start")
        status = json.loads(shell("broker", "status", "--json"))
        shell.environ["EDDYLINE_KAFKA__BOOTSTRAP_SERVERS"] = status["bootstrap_servers"]
        missing = shell("topics", "check", code=3)
        assert f"{TOPICS.clicks} is missing" in missing
        assert set(shell("topics", "create").split()) == set(vars(TOPICS).values())
        yield shell
    finally:
        shell("broker", "stop")
    shell("broker", "status", code=3)


@pytest.fixture
def producer(shell: Shell) -> Iterator[KafkaProducer]:
    address = shell.environ["EDDYLINE_KAFKA__BOOTSTRAP_SERVERS"]
    producer = KafkaProducer(**client_options(KafkaSettings(bootstrap_servers=address)))
    yield producer
    producer.flush()
    producer.close()


def test_topics_are_created_once_and_then_right(shell: Shell) -> None:
    assert shell("topics", "create") == ""
    assert json.loads(shell("topics", "check", "--json")) == []


def test_a_made_up_stream_is_published(shell: Shell) -> None:
    assert shell("publish", "--synthetic", "--clicks", "300") == ""


def test_recommendations_are_shown_as_json_and_as_a_table(shell: Shell, producer: KafkaProducer) -> None:
    lists = [
        Recommendation(
            recommendation_id=f"list-{number}",
            user_id=f"user-{number}",
            items=[RankedItem("item", 0.5)],
            model_version=1,
            model_age_ms=0,
            cause="click",
            cause_event_id="event",
            event_ts_ms=1_700_000_000_000,
            produced_ts_ms=1_700_000_000_200,
        )
        for number in range(3)
    ]
    for one in lists:
        producer.send(TOPICS.recommendations, key=one.user_id.encode(), value=encode(one))
    producer.flush()
    everything = ["subscribe", "--offset", "earliest", "--exit-at-end"]
    read = sorted(json.loads(line)["user_id"] for line in shell(*everything, "--json").splitlines())
    assert read == ["user-0", "user-1", "user-2"]
    header, row = shell(*everything, "--user", "user-1").splitlines()
    assert "user" in header
    assert "user-1" in row


def test_dead_letters_are_shown_and_sent_again_once(shell: Shell, producer: KafkaProducer) -> None:
    headers = dead_letter_headers(TOPICS.clicks, 0, 5, "decode", "not a JSON object")
    producer.send(TOPICS.dlq, key=b"user", value=b"not json", headers=headers)
    producer.flush()
    (line,) = shell("dlq", "show", "--json").splitlines()
    assert json.loads(line)["value"] == "not json"
    assert json.loads(shell("dlq", "replay", "--json")) == {"sent": 1}
    assert json.loads(shell("dlq", "replay", "--json")) == {"sent": 0}


def test_a_promoted_version_is_in_use_until_it_is_rolled_back(shell: Shell) -> None:
    assert shell("model", "rollback", code=1) == ""
    store = ModelStore(ModelStoreSettings(url=str(shell.folder / ".eddyline/models")))
    for version in (1, 2):
        store.save(
            {"weights": model_to_arrays(untrained_model(8), Counts(CountsSettings()))},
            version=version,
            parent=version - 1,
            created_ms=1_700_000_000_000,
            trained_until_ms=1_700_000_000_000,
            cause="online",
            encoder="00",
            items=0,
            examples=0,
            evidence_offset=0,
        )
    used: list[list[bool]] = []
    for words in (["promote", "2"], ["rollback"]):
        shell("model", *words)
        used.append([row["in_use"] for row in json.loads(shell("model", "list", "--json"))])
    assert used == [[False, True], [True, False]]


def test_doctor_passes_where_everything_is_there(shell: Shell) -> None:
    checks = json.loads(shell("doctor", "--json"))
    assert [check for check in checks if not check["ok"]] == []


def test_a_broker_in_the_foreground_ends_on_sigterm(tmp_path: Path, shell: Shell) -> None:
    other = Shell(tmp_path)
    with subprocess.Popen(
        other.command("broker", "start", "--foreground"),
        cwd=tmp_path,
        env=other.environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            told = next(line for line in process.stderr if "Kafka answers at" in line)
        finally:
            process.send_signal(signal.SIGTERM)
        assert "Ctrl-C" in told
        assert process.wait(60) == 0
    other("broker", "status", code=3)
