"""The pipeline as it runs: workers and trainers as processes, real Kafka between them, and what crashes leave."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eddyline.model.checkpoint import Manifest, ModelStore
from eddyline.model.counts import Counts
from eddyline.model.long_term import ItemEmbeddings
from eddyline.model.model import Model, untrained_model
from eddyline.model.short_term import Encoder
from eddyline.model.versions import counts_to_arrays, model_to_arrays
from eddyline.replay.logs import read_log
from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.records import Click, Recommendation, encode, hash_id
from eddyline.stream.changelog import read_changelog
from eddyline.stream.cli import main
from eddyline.stream.clients import open_consumer, open_producer
from eddyline.stream.config import Settings, load_settings
from eddyline.stream.dlq import read_dead_letters
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.microbatch import MicroBatch, micro_batches
from eddyline.stream.models import announce
from eddyline.stream.processes import Child
from eddyline.stream.publish import publish
from eddyline.stream.serving import Serving
from eddyline.stream.subscribe import Subscription
from eddyline.stream.topics import Topics, TopicSettings

DATA = Path(__file__).parents[2].parent / "shared" / "data"


class Pipeline:
    """Workers and trainers on topics of one test's own."""

    def __init__(self, kafka: KafkaSettings, topic_settings: TopicSettings, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        overrides = {
            "kafka.bootstrap_servers": kafka.bootstrap_servers,
            "kafka.session_timeout_s": "6",
            "topics.prefix": topic_settings.prefix,
            "model_store.url": str(folder / "models"),
            "telemetry.log_format": "json",
            "trainer.pretrain_clicks": "800",
            "trainer.publish_every_s": "2",
            "trainer.publish_examples": "256",
            "trainer.checkpoint_every_s": "1",
            "pretrain.least_steps": "50",
        }
        self.settings = load_settings(None, overrides, {})
        self.topics = Topics.of(topic_settings)
        self.started = 0

    @property
    def kafka(self) -> KafkaSettings:
        return self.settings.kafka

    def start(self, name: str, state: str = "state") -> Child:
        """Start a worker or trainer; its state folder outlives it."""
        self.started += 1
        store = self.settings.state.model_copy(update={"folder": self.folder / state})
        settings = self.settings.model_copy(update={"state": store})
        return self.stack.enter_context(Child([name], settings, self.folder / f"{name}-{self.started}.log"))

    def publish(self, clicks: Sequence[Click], rate: float | None = None) -> None:
        publish(clicks, self.kafka, self.topics, rate=rate)

    def states(self) -> dict[bytes, bytes]:
        """The newest state of every user, from the changelog."""
        newest = {user: state for _, user, state in read_changelog(self.kafka, self.topics.states)}
        return {user: state for user, state in newest.items() if state is not None}

    def applied(self) -> int:
        """Clicks applied, summed over all states."""
        return sum(clicks_of(state) for state in self.states().values())

    def lists(self) -> dict[str, Recommendation]:
        """The newest list of every user."""
        newest: dict[str, Recommendation] = {}
        with Subscription(
            self.kafka, self.topics, offset="earliest", exit_at_end=True, on_erased=lambda user: newest.pop(user, None)
        ) as subscription:
            for recommendation in subscription:
                newest[recommendation.user_id] = recommendation
        return newest

    def records(self) -> Iterator[Any]:
        """Every record of the clicks topic, in order of each partition."""
        consumer, sources = open_consumer(self.kafka, self.topics.clicks)
        try:
            consumer.assign(sources)
            consumer.seek_to_beginning(*sources)
            ends = consumer.end_offsets(sources)
            while any(consumer.position(source) < ends[source] for source in sources):
                for records in consumer.poll(timeout_ms=200).values():
                    yield from records
        finally:
            consumer.close()

    def offline_fold(self, model: Model) -> dict[bytes, bytes]:
        """Every user's state as one click after the other gives it, without Kafka, crashes or batches."""
        # Lists do not change states, so none are explained here.
        quick = self.settings.engine.ranking.model_copy(update={"reasons": 0, "length": 1})
        engine = self.settings.engine.model_copy(update={"ranking": quick})
        serving = Serving(engine, self.settings.clicks, model, Counts(), 0)
        states: dict[bytes, bytes] = {}
        for record in self.records():
            (batch,), _ = micro_batches([record], self.settings.clicks)
            assert isinstance(batch, MicroBatch)
            (user,) = batch.users
            states[user.key] = serving.apply(batch, [states.get(user.key)]).states[0]
        return states


def clicks_of(state: bytes) -> int:
    from eddyline.state.user_state import StateShape, decode_states

    return int(decode_states(StateShape(), [state])["clicks"][0])


def said(child: Child, event: str) -> list[dict[str, Any]]:
    """The lines of a process's log about an event."""
    assert child.log is not None
    lines = [json.loads(line) for line in child.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"].startswith(event)]


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain: {what}"
        time.sleep(1.0)
    return found


def made_up(count: int, seed: int = 0) -> list[Click]:
    return list(synthetic_clicks(SyntheticSettings(clicks=count, users=200, items=150, topics=6, seed=seed)))


def fixed_model(settings: Settings, items: Sequence[str]) -> Model:
    """A model whose encoder is random but known."""
    D = settings.engine.shape.dimension
    random = np.random.default_rng(7)

    def some(*shape: int) -> Any:
        return (0.3 * random.standard_normal(shape)).astype(np.float32)

    hashes = np.array([hash_id(item) for item in items], np.uint64)
    encoder = Encoder(hashes, some(len(items) + 8, D), some(4 * D, D), some(4 * D, D), some(4 * D))
    embeddings = ItemEmbeddings(torch.zeros(0, D), torch.zeros(0))
    return replace(untrained_model(D), version=1, trained_until_ms=1, encoder=encoder, items=embeddings)


def store_version(settings: Settings, model: Model, version: int) -> Manifest:
    counts = Counts(settings.counts)
    return ModelStore(settings.model_store).save(
        {"weights": model_to_arrays(model, counts), "counts": counts_to_arrays(counts)},
        version=version, parent=version - 1, created_ms=1, trained_until_ms=1, cause="pretrain",
        encoder=f"{model.encoder_id:016x}", items=0, examples=0, evidence_offset=0,
    )  # fmt: skip


@pytest.fixture
def pipeline(kafka: KafkaSettings, topic_settings: TopicSettings, tmp_path: Path) -> Iterator[Pipeline]:
    with ExitStack() as stack:
        yield Pipeline(kafka, topic_settings, tmp_path, stack)


def test_from_clicks_to_fresh_lists_with_bad_records_in_between(pipeline: Pipeline) -> None:
    worker, trainer = pipeline.start("worker"), pipeline.start("trainer")
    clicks = made_up(3000)
    bad = b"not json", b'{"event_id": "e", "user_id": "u"}', b"\xff\xfe", b"x" * 1_048_000
    with open_producer(pipeline.kafka, pipeline.topics.clicks) as producer:
        for value in bad:
            producer.send(pipeline.topics.clicks, key=b"u", value=value).get(10)
    pipeline.publish(clicks[:2000], rate=400)
    wait_for(lambda: said(worker, "took a model into use"), "the first model in use")
    pipeline.publish(clicks[2000:], rate=400)
    wait_for(lambda: pipeline.applied() == 3000, "every click applied once")
    wait_for(lambda: len(said(worker, "took a model into use")) >= 2, "a second model in use")

    assert len(said(trainer, "published a version")) >= 2
    lists = wait_for(
        lambda: (
            (found := pipeline.lists())
            and any(one.cause == "refresh" and one.user_id for one in found.values())
            and found
        ),
        "lists refreshed by the new model",
    )
    assert set(lists) == {"", *(click.user_id for click in clicks)}
    newcomers = lists[""]
    assert (newcomers.cause, newcomers.event_ts_ms, len(newcomers.items)) == ("refresh", 0, 20)
    newest = lists[clicks[-1].user_id]
    assert newest.model_version >= 1
    assert len(newest.items) == 20
    assert len({item.item_id for item in newest.items}) == 20
    assert newest.items == sorted(newest.items, key=lambda item: -item.score)
    assert newest.items[0].why is not None
    letters = list(read_dead_letters(pipeline.kafka, pipeline.topics))
    assert [letter.value for letter in letters] == [*bad[:3], bad[3][:900_000]]
    assert [letter.whole_bytes for letter in letters] == [None, None, None, 1_048_001]
    assert "item_id" in letters[1].reason
    assert worker.stop() == trainer.stop() == 0


def test_states_after_kill_9_equal_the_offline_fold(pipeline: Pipeline) -> None:
    clicks = made_up(4000, seed=1)
    model = fixed_model(pipeline.settings, sorted({click.item_id for click in clicks})[::2])
    announce(pipeline.kafka, pipeline.topics, store_version(pipeline.settings, model, 1))
    worker = pipeline.start("worker")
    wait_for(lambda: said(worker, "ready"), "a ready worker")
    pipeline.publish(clicks[:2500])
    wait_for(lambda: pipeline.applied() > 500, "some clicks applied")
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    assert pipeline.applied() < 4000
    pipeline.publish(clicks[2500:])
    again = pipeline.start("worker")
    wait_for(lambda: pipeline.applied() >= 4000, "every click applied", 120)
    again.stop()

    assert pipeline.states() == pipeline.offline_fold(model)


def test_a_second_worker_takes_the_partitions_of_a_killed_one(pipeline: Pipeline) -> None:
    clicks = made_up(4000, seed=2)
    first = pipeline.start("worker", "state-1")
    wait_for(lambda: said(first, "ready"), "a ready worker")
    second = pipeline.start("worker", "state-2")
    wait_for(lambda: any(line["partitions"] for line in said(second, "ready")), "partitions moved to the second")
    pipeline.publish(clicks[:2000])
    wait_for(lambda: pipeline.applied() > 300, "some clicks applied")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    pipeline.publish(clicks[2000:])
    wait_for(lambda: pipeline.applied() >= 4000, "every click applied", 120)
    second.stop()

    assert pipeline.states() == pipeline.offline_fold(untrained_model(64))


def test_a_worker_that_comes_and_goes_under_load_costs_no_click(pipeline: Pipeline) -> None:
    """What was taken before partitions moved must not be applied by whoever gave them up."""
    clicks = made_up(9_000)
    pipeline.publish(clicks[:7_000])
    first = pipeline.start("worker", "state-1")
    wait_for(lambda: pipeline.applied() > 200, "the first clicks are applied")
    second = pipeline.start("worker", "state-2")
    wait_for(lambda: any(line["partitions"] for line in said(second, "ready")), "partitions moved to the second")
    pipeline.publish(clicks[7_000:8_000])
    wait_for(lambda: pipeline.applied() == 8_000, "8,000 clicks are applied")
    second.stop()
    pipeline.publish(clicks[8_000:])
    wait_for(lambda: pipeline.applied() == 9_000, "9,000 clicks are applied")
    assert pipeline.states() == pipeline.offline_fold(untrained_model(64))
    first.stop()


def test_a_frozen_worker_does_not_undo_what_others_did_meanwhile(pipeline: Pipeline) -> None:
    clicks = made_up(9_000, seed=6)
    first = pipeline.start("worker", "state-1")
    wait_for(lambda: said(first, "ready"), "a ready worker")
    pipeline.publish(clicks[:6_000])
    wait_for(lambda: pipeline.applied() > 300, "the first clicks are applied")
    os.kill(first.process.pid, signal.SIGSTOP)  # in the middle of a batch
    try:
        pipeline.publish(clicks[6_000:8_000])
        second = pipeline.start("worker", "state-2")
        wait_for(lambda: pipeline.applied() == 8_000, "all clicks are applied by the second", 120)
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    wait_for(lambda: len(said(first, "ready")) >= 2, "the first is a member again")
    pipeline.publish(clicks[8_000:])
    wait_for(lambda: pipeline.applied() == 9_000, "9,000 clicks are applied")
    assert first.stop() == second.stop() == 0
    assert pipeline.states() == pipeline.offline_fold(untrained_model(64))


def test_a_killed_trainer_goes_on_from_its_checkpoint_and_a_standby_takes_over(pipeline: Pipeline) -> None:
    worker, trainer = pipeline.start("worker"), pipeline.start("trainer", "trainer-1")
    clicks = made_up(6000, seed=3)
    pipeline.publish(clicks[:2000], rate=500)
    wait_for(lambda: said(trainer, "published a version"), "a first version")
    standby = pipeline.start("trainer", "trainer-2")
    wait_for(lambda: said(standby, "ready"), "a trainer standing by")
    pipeline.publish(clicks[2000:3500], rate=500)
    wait_for(lambda: len(said(trainer, "published a version")) + len(said(standby, "published a version")) >= 2, "v2")
    active, other = (standby, trainer) if said(standby, "active") else (trainer, standby)
    before = max(line["version"] for line in said(active, "published a version") + said(other, "published a version"))
    os.kill(active.process.pid, signal.SIGKILL)
    active.process.wait()
    pipeline.publish(clicks[3500:], rate=500)
    taken = wait_for(lambda: said(other, "active"), "the standby to become active")[-1]
    assert taken["version"] >= 1
    assert taken["examples_offset"] > 0
    wait_for(
        lambda: any(line["version"] > before for line in said(other, "published a version")), "a version after the kill"
    )
    versions = ModelStore(pipeline.settings.model_store).versions()
    assert versions == sorted(set(versions))
    assert worker.process.poll() is None


def test_a_trainer_takes_in_what_an_older_checkpoint_lacks(pipeline: Pipeline) -> None:
    """A trainer that was frozen while it saved replaces its successor's checkpoint by an older one."""
    store, clicks = ModelStore(pipeline.settings.model_store), made_up(700, seed=8)
    saved = pipeline.folder / "models" / "default" / "trainer.checkpoint"

    def gathered() -> int:
        found = store.load_checkpoint("trainer")
        return len(found[0]["gathered.user"]) if found else 0

    pipeline.start("worker")
    trainer = pipeline.start("trainer")
    pipeline.publish(clicks[:300])
    wait_for(lambda: gathered() == 300, "300 clicks are saved")
    older = saved.read_bytes()
    pipeline.publish(clicks[300:600])
    wait_for(lambda: gathered() == 600, "600 clicks are saved")
    assert trainer.stop() == 0
    saved.write_bytes(older)
    trainer = pipeline.start("trainer")
    pipeline.publish(clicks[600:])
    wait_for(lambda: gathered() == 700, "700 clicks are saved")
    assert len(said(trainer, "learning from what the checkpoint lacks")) == 1


def test_a_broken_model_is_refused_and_an_older_one_comes_back(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fixed_model(pipeline.settings, ["item-0001"])
    first = store_version(pipeline.settings, model, 1)
    announce(pipeline.kafka, pipeline.topics, first)
    worker = pipeline.start("worker")
    wait_for(lambda: said(worker, "ready"), "a ready worker")
    good, bad = (store_version(pipeline.settings, model, version) for version in (2, 3))
    weights = pipeline.folder / "models" / "default" / "v000003" / "weights.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    announce(pipeline.kafka, pipeline.topics, bad)
    refused = wait_for(lambda: said(worker, "refused a model"), "the broken model refused")
    assert "checksum" in refused[0]["reason"]
    announce(pipeline.kafka, pipeline.topics, good)
    wait_for(lambda: [line for line in said(worker, "took a model") if line["version"] == 2], "the good one in use")
    flags = [
        "--broker", pipeline.kafka.bootstrap_servers, "--set", f"topics.prefix={pipeline.settings.topics.prefix}",
        "--set", f"model_store.url={pipeline.settings.model_store.url}",
    ]  # fmt: skip
    assert main(["model", "rollback", *flags]) == 0, capsys.readouterr().err
    wait_for(lambda: [line for line in said(worker, "took a model") if line["version"] == 1], "the older one in use")
    assert worker.process.poll() is None


def test_forgetting_a_user_leaves_nothing_of_them(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.start("worker")
    pipeline.start("trainer")
    clicks = made_up(700, seed=4)  # not enough to pre-train on: the trainer keeps them
    pipeline.publish(clicks)
    wait_for(lambda: pipeline.applied() == 700, "every click applied")
    user = clicks[-1].user_id
    assert user.encode() in pipeline.states()
    flags = ["--broker", pipeline.kafka.bootstrap_servers, "--set", f"topics.prefix={pipeline.settings.topics.prefix}"]
    code = main(["state", "forget", user, "--json", "--timeout", "90", *flags])
    receipts = json.loads(capsys.readouterr().out)
    assert code == 0
    assert sum(receipt["states"] for receipt in receipts) == 1
    assert sum(receipt["examples"] + receipt["clicks"] for receipt in receipts if receipt["by"] == "trainer") > 0
    assert user.encode() not in pipeline.states()
    assert user not in pipeline.lists()
    again = Click(event_id="again", user_id=user, item_id="item-0001", ts_ms=clicks[-1].ts_ms + 1, kind="click")
    pipeline.publish([again])
    state = wait_for(lambda: pipeline.states().get(user.encode()), "a new state")
    assert clicks_of(state) == 1


def test_an_unknown_state_format_stops_the_worker_with_the_remedy(pipeline: Pipeline) -> None:
    click = made_up(1)[0]
    with open_producer(pipeline.kafka, pipeline.topics.states) as producer:
        for partition in range(4):
            producer.send(
                pipeline.topics.states, key=click.user_id.encode(), value=b"US\x63 of the future", partition=partition
            ).get(10)
    worker = pipeline.start("worker")
    pipeline.publish([click])
    assert worker.process.wait(60) == 1
    assert worker.log is not None
    text = worker.log.read_text()
    assert "format 99" in text
    assert "Traceback" not in text


@pytest.mark.skipif(not DATA.is_dir(), reason="the real logs are not here")
def test_a_real_log_equals_its_offline_fold(pipeline: Pipeline) -> None:
    clicks = list(read_log(DATA / "deskdrop.csv.gz", limit=3000))
    worker = pipeline.start("worker")
    pipeline.publish(clicks)
    wait_for(lambda: pipeline.applied() == 3000, "every click applied once")
    assert worker.stop() == 0
    assert pipeline.states() == pipeline.offline_fold(untrained_model(64))
    assert encode(clicks[0]).startswith(b"{")
