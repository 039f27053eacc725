"""The demo: the whole pipeline on this machine, from an empty folder to fresh recommendations.

It starts Kafka, a worker and a trainer as processes of their own, publishes a log, watches what comes out, sums
it up, and stops everything it started, however it ends.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from eddyline.state.errors import EddylineError
from eddyline.state.records import Click
from eddyline.state.user_state import decode_states
from eddyline.stream.broker import EmbeddedBroker
from eddyline.stream.changelog import read_changelog
from eddyline.stream.config import Settings
from eddyline.stream.demo_view import DemoView
from eddyline.stream.dlq import read_dead_letters
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.processes import Child
from eddyline.stream.publish import publish
from eddyline.stream.topics import Topics, create_topics
from eddyline.stream.watch import Watch

__all__ = ["run"]

_READY_S = 120.0
_STILL_S = 60.0  # how long nothing may move once everything is published


def run(
    settings: Settings,
    clicks: Iterable[Click],
    total: int,
    *,
    rate: float,
    keep: bool = False,
) -> dict[str, Any]:
    """Run the demo; returns its summary.

    Args:
        settings: of worker and trainer; Kafka, folders and the trainer's times are the demo's own.
        clicks: the log to publish.
        total: how many clicks it has.
        rate: clicks published per second.
        keep: leave everything running at the end, and its folder in place.

    Raises:
        EddylineError: a part of it could not start or ended early; its log is in the message.
    """
    began = time.monotonic()
    view = DemoView(total)
    folder = Path(tempfile.mkdtemp(prefix="eddyline-demo-"))
    with ExitStack() as kept, ExitStack() as stack:
        kept.callback(shutil.rmtree, folder, ignore_errors=True)
        view.say("starting Kafka (the first time fetches it, 44 MB)")
        broker = kept.enter_context(EmbeddedBroker(folder / "broker", heap_mib=settings.broker.heap_mib))
        own = _own_settings(settings, broker.bootstrap_servers, folder, total)
        create_topics(own.kafka, own.topics)
        topics = Topics.of(own.topics)
        view.say("starting a worker and a trainer")
        children = [kept.enter_context(Child([name], own, folder / f"{name}.log")) for name in ("worker", "trainer")]
        _wait_until_ready(children)
        watch = stack.enter_context(Watch(own.kafka, topics))
        view.say(f"publishing {total:,} clicks, {rate:,.0f} per second")
        with view.showing():
            started = time.monotonic()
            _publish(watch, clicks, own.kafka, topics, rate, lambda: _look(view, watch, children))
            _settle(watch, lambda: _look(view, watch, children))
            seconds = time.monotonic() - started
        summary = _summary(own, topics, watch, seconds)
        if keep:
            view.say(f"everything goes on running in {folder}; Kafka is at {broker.bootstrap_servers}")
            view.say(f"stop it with: kill {' '.join(str(child.process.pid) for child in children)} {broker.pid}")
            kept.pop_all()
    return summary | {"total_seconds": round(time.monotonic() - began, 1)}


def _own_settings(settings: Settings, address: str, folder: Path, total: int) -> Settings:
    """Everything in the demo's folder, and a trainer quick enough to be watched."""
    trainer = settings.trainer
    quick = {
        "pretrain_clicks": max(100, min(trainer.pretrain_clicks, total // 5)),
        "publish_every_s": min(trainer.publish_every_s, 10.0),
        "checkpoint_every_s": min(trainer.checkpoint_every_s, 10.0),
    }
    return settings.model_copy(
        update={
            "kafka": KafkaSettings(bootstrap_servers=address),
            # A log of a year passes in minutes, and the summary counts every user's clicks at the end.
            "state": settings.state.model_copy(update={"folder": folder / "state", "idle_days": None}),
            "model_store": settings.model_store.model_copy(update={"url": str(folder / "models")}),
            "trainer": trainer.model_copy(update=quick),
            "telemetry": settings.telemetry.model_copy(update={"log_format": "json", "metrics_port": None}),
        }
    )


def _wait_until_ready(children: list[Child]) -> None:
    deadline = time.monotonic() + _READY_S
    waiting = list(children)
    while waiting:
        for child in children:
            child.check()
        waiting = [child for child in waiting if not _is_ready(child)]
        if time.monotonic() > deadline:
            names = ", ".join(child.name for child in waiting)
            raise EddylineError(f"not ready after {_READY_S:.0f} s: {names}; is the machine very busy?")
        time.sleep(0.2)


def _is_ready(child: Child) -> bool:
    """Whether its log says so; a worker is ready once it has partitions."""
    for line in child.log.read_text().splitlines() if child.log else ():
        said = json.loads(line) if line.startswith("{") else {}
        if said.get("event") == "ready" and said.get("partitions", True):
            return True
    return False


def _look(view: DemoView, watch: Watch, children: list[Child]) -> None:
    watch.check()
    for child in children:
        child.check()
    view.show(watch)


def _publish(
    watch: Watch,
    clicks: Iterable[Click],
    kafka: KafkaSettings,
    topics: Topics,
    rate: float,
    look: Callable[[], None],
) -> None:
    """Publish in a thread, looking at what comes out meanwhile."""
    failure: list[Exception] = []
    stopping = threading.Event()

    def until_stopped() -> Iterable[Click]:
        for click in watch.passing(clicks):
            if stopping.is_set():
                return
            yield click

    def work() -> None:
        try:
            publish(until_stopped(), kafka, topics, rate=rate)
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="publish", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            look()
            thread.join(0.25)
    finally:
        stopping.set()
        thread.join()
    if failure:
        raise failure[0]


def _settle(watch: Watch, look: Callable[[], None]) -> None:
    """Wait until every click was applied, or nothing moves any more."""
    applied, moved = watch.applied, time.monotonic()
    while watch.applied < watch.published and time.monotonic() - moved < _STILL_S:
        look()
        time.sleep(0.25)
        if watch.applied != applied:
            applied, moved = watch.applied, time.monotonic()


def _summary(settings: Settings, topics: Topics, watch: Watch, seconds: float) -> dict[str, Any]:
    newest = {(partition, user): state for partition, user, state in read_changelog(settings.kafka, topics.states)}
    states = decode_states(settings.engine.shape, [state for state in newest.values() if state is not None])
    dead = sum(1 for _ in read_dead_letters(settings.kafka, topics))
    ours, popular = watch.recall()
    recent, recent_popular = watch.recent_recall()
    return {
        "clicks_published": watch.published,
        "clicks_applied": int(states["clicks"].sum()),
        "clicks_dead": dead,
        "users": len(states),
        "seconds": round(seconds, 1),
        "clicks_per_s": round(watch.applied / seconds, 1),
        "click_to_list_ms": {"p50": round(watch.latency_ms(0.5), 1), "p99": round(watch.latency_ms(0.99), 1)},
        "lists": dict(sorted(watch.causes.items())),
        "model_versions": len({manifest.version for manifest in watch.versions}),
        "recall@20": {"eddyline": round(ours, 4), "decayed_popularity": round(popular, 4)},
        "recall@20_newest_2000": {
            "eddyline": round(recent, 4),
            "decayed_popularity": round(recent_popular, 4),
        },
    }
