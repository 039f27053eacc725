"""The trainer: a Faust agent that learns from the examples and publishes versions of the model.

The examples topic has one partition, so Kafka's consumer group keeps exactly one trainer active; others stand by.
An offset is acknowledged only once a checkpoint contains it: whoever takes over loads that and goes on there.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import structlog
import torch

from eddyline.model.checkpoint import Manifest, ModelStore
from eddyline.replay.tensorboard import need_tensorboard
from eddyline.state.errors import EddylineError
from eddyline.state.examples import Examples
from eddyline.stream.config import Settings
from eddyline.stream.erasure import Receipt
from eddyline.stream.faust_app import build_app, run_service
from eddyline.stream.follow import Follower
from eddyline.stream.kafka import wait_for_broker
from eddyline.stream.membership import Expelled, Membership
from eddyline.stream.models import announced, newest_manifest
from eddyline.stream.outbox import Message, Outbox
from eddyline.stream.telemetry import Metrics, MetricsServer, serve
from eddyline.stream.topics import Topics, require_topics
from eddyline.stream.training import Erased, Training

__all__ = ["Trainer", "run"]

_log = structlog.get_logger()
_COVER_S = 10.0
_COVER_POLL_MS = 200
_REBALANCE_S = 3600.0  # longer than any pre-training: another trainer that joins waits for its end


class Trainer:
    """One trainer process, active or standing by.

    Args:
        settings: all of them.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topics = Topics.of(settings.topics)
        self.metrics = Metrics()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.app = build_app(
            settings.kafka,
            f"{settings.topics.prefix}-trainers",
            settings.state.folder / "trainer",
            commit_interval_s=settings.trainer.commit_interval_s,
            rebalance_timeout_s=_REBALANCE_S,
        )
        self._store = ModelStore(settings.model_store)
        self._membership = Membership(self.app, settings.kafka.session_timeout_s)
        self._outbox = Outbox(settings.kafka, self._membership.confirm)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="training")
        self._busy = asyncio.Lock()
        self._stopping = False
        self._training: Training | None = None
        self._follower: Follower | None = None
        self._models: Follower | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._unsaved: list[Any] = []
        self._server: MetricsServer | None = None
        self._published_at = self._saved_at = time.monotonic()
        examples = self.app.topic(self.topics.examples, key_serializer="raw", value_serializer="raw")
        self.app.agent(examples, name="examples")(self._consume)
        self.app.on_partitions_assigned.connect(self._assigned)
        self.app.on_partitions_revoked.connect(self._revoked)

    async def start(self) -> None:
        """Connect; what was learned is loaded once this trainer becomes the active one."""
        await self._outbox.start()
        self._server = serve(self.settings.telemetry, self.metrics, lambda: not self.failed.done())
        self._tasks.append(asyncio.create_task(self._guarded(self._tick)))

    async def drain(self) -> None:
        """Finish what is under way, save, commit."""
        self._stopping = True
        async with self._busy:
            if self._training is not None:
                with suppress(Expelled):
                    await self._checkpoint(self._training)
            await self.app.consumer.commit()

    async def stop(self) -> None:
        """Let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stand_by()
        await self._outbox.stop()
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        if self._server is not None:
            self._server.close()

    async def _consume(self, stream: Any) -> None:
        """The agent. Events are acknowledged by the checkpoint that contains them, not by the stream."""
        async for event in stream.noack().events():
            async with self._busy:
                if self._stopping or self.failed.done():
                    break
                if event.message.generation_id != self.app.consumer_generation_id:
                    continue
                try:
                    await self._observe(event)
                except Expelled:
                    await self._stand_by()
                except Exception as error:
                    self._fail(error)
                    break
        if self.failed.done():
            await asyncio.Event().wait()  # until the app stops

    async def _observe(self, event: Any) -> None:
        await self._membership.confirm()
        offset = event.message.offset
        training = self._training
        if training is None:
            training = await self._become_active()
            await self._catch_up(training, offset)
        self._unsaved.append(event)
        if offset > training.examples_offset:
            await self._take_in(training, event.message.value, offset)

    async def _take_in(self, training: Training, message: bytes, offset: int) -> None:
        """Learn from one message of examples, or gather it, or erase whom it names."""
        examples = Examples.decode(message)
        await self._wait_for_counts(training, examples)
        erased = await self._work(training.observe, examples, offset)
        self.metrics.examples.inc(len(examples))
        if erased:
            await self._checkpoint(training)
            await self._confirm(erased)
        if training.may_pretrain:
            await self._pretrain(training)

    async def _become_active(self) -> Training:
        """Load the checkpoint, or the newest version, and follow the evidence from there."""
        self._models = Follower(self.settings.kafka, self.topics.models)
        await self._models.start(patient=True)
        training = Training(self.settings, self._store)
        await self._work(training.resume, await announced(self._models, self.settings.model_store.name))
        self._follower = Follower(self.settings.kafka, self.topics.evidence, training.evidence_offset)
        await self._follower.start(patient=True)
        self._training = training
        version = training.current.version if training.current else 0
        _log.info("active", version=version, examples_offset=training.examples_offset, gathered=training.gathered)
        self.metrics.model_version.set(version)
        return training

    async def _catch_up(self, training: Training, until: int) -> None:
        """Take in what is acknowledged although the checkpoint does not contain it, up to this offset.

        A trainer that was frozen while it saved may have replaced its successor's checkpoint by an older one.
        """
        wanted = training.examples_offset + 1
        if not 0 < wanted < until:  # 0: there is no checkpoint
            return
        follower = Follower(self.settings.kafka, self.topics.examples, wanted)
        try:
            await follower.start(patient=True, skip_deleted=True)
            begin = follower.next or 0
            if begin > wanted:
                _log.warning("examples were deleted before they were learned from", first=wanted, last=begin - 1)
            _log.info("learning from what the checkpoint lacks", first=begin, last=until - 1)
            while (follower.next or 0) < until:
                for record in await follower.poll():
                    if record.offset < until and record.value is not None:
                        await self._membership.confirm()
                        await self._take_in(training, record.value, record.offset)
        finally:
            await follower.stop()

    async def _wait_for_counts(self, training: Training, examples: Examples) -> None:
        """Fold evidence until the counts know what the examples speak of. It was written before them."""
        follower = self._follower
        await self._fold(training)
        deadline = time.monotonic() + _COVER_S
        while follower is not None and not training.covers(examples):
            await self._fold(training, _COVER_POLL_MS)
            if not follower.lag and time.monotonic() > deadline:
                await follower.look()  # while Kafka is away, the end known may be an old one
                if not follower.lag:
                    raise EddylineError(
                        f"the examples speak of items that topic {self.topics.evidence} does not name: it was made "
                        "anew or its retention is too short; start with a new topic prefix and model store name"
                    )
            if follower.lag:
                deadline = time.monotonic() + _COVER_S

    async def _fold(self, training: Training, timeout_ms: int = 0) -> None:
        if self._follower is not None:
            records = await self._follower.poll(timeout_ms)
            values = [record.value for record in records if record.value]
            await self._work(training.fold, values, self._follower.next)

    async def _pretrain(self, training: Training) -> None:
        _log.info("pre-training the first model", clicks=training.gathered)
        trained = await self._work(training.pretrain, _tell_progress)
        await self._membership.confirm()  # it took long: another trainer may have published meanwhile
        manifest = await self._work(training.begin_with, trained)
        await self._announce(manifest)
        await self._checkpoint(training)

    async def _tick(self) -> None:
        """Publishing and saving by the clock; also while no examples come."""
        trainer = self.settings.trainer
        while True:
            await asyncio.sleep(0.5)
            async with self._busy:
                training = self._training
                if training is None:
                    continue
                try:
                    await self._fold(training)
                    await self._follow_operator(training)
                    now = time.monotonic()
                    if now - self._published_at >= trainer.publish_every_s:
                        await self._publish(training)
                    if now - self._saved_at >= trainer.checkpoint_every_s and self._unsaved:
                        await self._checkpoint(training)
                except Expelled:
                    await self._stand_by()
                    continue
                for model, recall in zip(("eddyline", "decayed-popularity"), training.recall().values(), strict=False):
                    self.metrics.recall_at_20.labels(model).set(recall)
                if training.learner is not None:
                    self.metrics.buffer_examples.set(len(training.learner.buffer))

    async def _publish(self, training: Training) -> None:
        await self._membership.confirm()
        manifest, reason = await self._work(training.publish)
        if manifest is not None:
            await self._announce(manifest)
            await self._checkpoint(training)
        elif reason:
            self.metrics.versions_rejected.inc()
            self._published_at = time.monotonic()
            _log.warning("a version failed acceptance, the current one stays", reason=reason)

    async def _announce(self, manifest: Manifest) -> None:
        await self._outbox.deliver([Message(self.topics.models, manifest.encode(), manifest.name.encode())])
        self._published_at = time.monotonic()
        self.metrics.versions_published.inc()
        self.metrics.model_version.set(manifest.version)
        _log.info(
            "published a version",
            version=manifest.version,
            cause=manifest.cause,
            **_rounded(manifest.metrics),
        )

    async def _follow_operator(self, training: Training) -> None:
        """Take up what `eddyline model promote` or `rollback`, or another trainer, announced."""
        if self._models is None:
            return
        manifest = newest_manifest(await self._models.poll(timeout_ms=0), self.settings.model_store.name)
        if manifest is None:
            return
        try:
            if await self._work(training.follow, manifest):
                _log.info("learning on from another version", version=manifest.version, cause=manifest.cause)
        except EddylineError as error:
            _log.error("refused a model, the current one stays", version=manifest.version, reason=str(error))

    async def _checkpoint(self, training: Training) -> None:
        """Save, then acknowledge what is saved."""
        await self._membership.confirm()
        offset = await self._work(training.checkpoint)
        rest = []
        for event in self._unsaved:
            if event.message.offset <= offset:
                event.ack()
            else:
                rest.append(event)
        self._unsaved = rest
        self._saved_at = time.monotonic()

    async def _confirm(self, erased: list[Erased]) -> None:
        receipts = [
            Receipt(
                user_hash=f"{one.user:016x}", by="trainer", at_ms=time.time_ns() // 1_000_000,
                partition=one.partition, examples=one.examples, clicks=one.clicks,
            )
            for one in erased
        ]  # fmt: skip
        await self._outbox.deliver([Message(self.topics.erasures, receipt.encode()) for receipt in receipts])

    async def _revoked(self, app: Any, revoked: Any, **_: Any) -> None:
        async with self._busy:
            await self._stand_by()

    async def _assigned(self, app: Any, assigned: Any, **_: Any) -> None:
        self._membership.joined()

    async def _stand_by(self) -> None:
        """Drop what is in memory: another trainer may go on from the checkpoint now."""
        self._training = None
        self._unsaved = []
        for follower in (self._follower, self._models):
            if follower is not None:
                await follower.stop()
        self._follower = self._models = None

    async def _work(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _guarded(self, work: Any) -> None:
        try:
            await work()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)


def _tell_progress(share: float, text: str) -> None:
    if "held-out" in text:
        _log.info("pre-training", done=f"{share:.0%}", state=text)


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in metrics.items()}


def run(settings: Settings) -> None:
    """Run one trainer until SIGTERM or SIGINT.

    Raises:
        EddylineError: it cannot go on; the message says why.
    """
    torch.set_num_threads(1)  # at these sizes more threads are slower
    if settings.trainer.tensorboard:
        need_tensorboard()
    wait_for_broker(settings.kafka, None, _log.warning)
    require_topics(settings.kafka, settings.topics)
    (settings.state.folder / "trainer").mkdir(parents=True, exist_ok=True)

    async def work() -> None:
        await run_service(Trainer(settings), on_ready=lambda: _log.info("ready"))

    asyncio.run(work())
    _log.info("stopped")
