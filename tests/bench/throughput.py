"""How many clicks a second one worker takes, everything on, beside a Faust agent that does nothing.

10,000 items, 20,000 users, a model with an LSTM, lists of 20 with reasons, on the embedded broker. The clicks stand
in the topic before either starts, so each runs as fast as it can; both are measured from their first click to the last.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from eddyline.model.checkpoint import Manifest, ModelStore
from eddyline.model.counts import Counts
from eddyline.model.long_term import ItemEmbeddings
from eddyline.model.model import untrained_model
from eddyline.model.short_term import Encoder
from eddyline.model.versions import counts_to_arrays, model_to_arrays
from eddyline.state.evidence import Evidence
from eddyline.state.records import Click
from eddyline.stream.broker import EmbeddedBroker
from eddyline.stream.config import Settings, load_settings
from eddyline.stream.faust_app import build_app
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.models import announce
from eddyline.stream.processes import Child
from eddyline.stream.publish import publish
from eddyline.stream.topics import Topics, create_topics

ITEMS, USERS = 10_000, 20_000


def clicks(count: int) -> Iterator[Click]:
    """Users with a region of the catalogue each, all items clicked."""
    random = np.random.default_rng(0)
    users = random.integers(0, USERS, count)
    items = (users * 37 + (200 * random.random(count) ** 2).astype(int)) % ITEMS
    for n, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        ts_ms = 1_700_000_000_000 + 20 * n
        yield Click(event_id=f"e{n}", user_id=f"user-{user}", item_id=f"item-{item}", ts_ms=ts_ms, kind="click")


def measure(folder: Path, clicks: int) -> None:
    """Print both rates and their ratio."""
    with EmbeddedBroker(folder / "broker") as broker:
        settings = load_settings(
            None,
            {
                "kafka.bootstrap_servers": broker.bootstrap_servers,
                "state.folder": str(folder / "state"),
                "model_store.url": str(folder / "models"),
                "telemetry.log_format": "json",
                "telemetry.metrics_port": str(_free_port()),
            },
            {},
        )
        topics = Topics.of(settings.topics)
        create_topics(settings.kafka, settings.topics)
        announce(settings.kafka, topics, _some_model(settings))
        publish(_clicks(clicks), settings.kafka, topics)
        idle = _noop(settings, clicks)
        print(f"no-op Faust agent   {idle:10,.0f} clicks/s", flush=True)
        started, rate, busy = _worker(settings, clicks, folder / "worker.log")
        print(f"eddyline worker     {rate:10,.0f} clicks/s   ({idle / rate:.1f} times fewer; model busy {busy:.0%})")
        print(f"worker start        {started:10.1f} s until ready, empty state")
        print(f"load average        {os.getloadavg()[0]:10.1f} on {os.cpu_count()} processors")


_clicks = clicks


def _worker(settings: Settings, total: int, log: Path) -> tuple[float, float, float]:
    """Seconds until ready, clicks per second between the first and the last, share of the time spent in the model."""
    begun = time.monotonic()
    with Child(["worker"], settings, log) as worker:
        ready, samples = 0.0, []
        while not samples or samples[-1][1] < total:
            worker.check()
            time.sleep(0.25)
            if not ready and '"event": "ready"' in log.read_text():
                ready = time.monotonic() - begun
            if (sample := _sample(settings)) and sample[0]:
                samples.append((time.monotonic(), *sample))
    (first, n0, busy0), (last, n1, busy1) = samples[0], samples[-1]
    return ready, (n1 - n0) / (last - first), (busy1 - busy0) / (last - first)


def _sample(settings: Settings) -> tuple[float, float] | None:
    """Clicks applied and seconds spent in steps so far; None while the worker does not answer yet."""
    url = f"http://127.0.0.1:{settings.telemetry.metrics_port}/metrics"
    try:
        text = urllib.request.urlopen(url, timeout=5).read().decode()
    except OSError:
        return None
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
    return float(values["eddyline_clicks_total"]), float(values["eddyline_step_seconds_sum"])


def _noop(settings: Settings, total: int) -> float:
    """Clicks per second of an agent that counts them; in a process of its own, like the worker."""
    command = [
        sys.executable,
        __file__,
        settings.kafka.bootstrap_servers,
        Topics.of(settings.topics).clicks,
        str(total),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


async def _count(servers: str, topic: str, total: int) -> float:
    app = build_app(KafkaSettings(bootstrap_servers=servers), "noop", Path.cwd(), commit_interval_s=1.0)
    times: list[float] = []
    done = asyncio.Event()

    async def count(stream: object) -> None:
        async for events in stream.take_events(256, within=0.05):  # type: ignore[attr-defined]
            times.extend([time.monotonic()] * len(events))
            if len(times) >= total:
                done.set()

    app.agent(app.topic(topic, key_serializer="raw", value_serializer="raw"))(count)
    await app.start()
    await done.wait()
    await app.stop()
    return total / (times[-1] - times[0])


def _some_model(settings: Settings) -> Manifest:
    """A version with random weights for the whole catalogue: its lists are bad, its cost is that of any other."""
    D, random = settings.engine.shape.dimension, np.random.default_rng(0)

    def some(*shape: int) -> npt.NDArray[np.float32]:
        return (random.standard_normal(shape) / D**0.5).astype(np.float32)

    counts = Counts(settings.counts)
    counts.fold(Evidence.of_none([f"item-{n}" for n in range(ITEMS)]))
    encoder = Encoder(counts.hashes.copy(), some(ITEMS + 64, D), some(4 * D, D), some(4 * D, D), some(4 * D))
    items = ItemEmbeddings(torch.from_numpy(some(ITEMS, D)), torch.zeros(ITEMS))
    model = replace(untrained_model(D), version=1, trained_until_ms=1, encoder=encoder, items=items)
    return ModelStore(settings.model_store).save(
        {"weights": model_to_arrays(model, counts), "counts": counts_to_arrays(counts)},
        version=1,
        parent=0,
        created_ms=1,
        trained_until_ms=1,
        cause="pretrain",
        encoder=f"{model.encoder_id:016x}",
        items=ITEMS,
        examples=0,
        evidence_offset=0,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    os.chdir(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108  (where Faust makes its folder)
    print(json.dumps(asyncio.run(_count(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
