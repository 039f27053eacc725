"""The worker: a Faust agent that turns clicks into states, evidence, examples and lists.

For each micro-batch, in this order: evidence, examples and dead letters are acknowledged; then the states'
changelog, and the states are written; then the lists are acknowledged; only then may the offsets be committed.
The step of the next micro-batch is made meanwhile; it sees the states under way.
Whatever a crash leaves undone comes again, and what was done already is recognised by its offset.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import structlog
import torch

from eddyline.state.records import Cause
from eddyline.state.retention import IdleUsers
from eddyline.state.rocks_store import RocksStateStore
from eddyline.state.store import Erasure
from eddyline.stream.config import Settings
from eddyline.stream.delivery import Delivery
from eddyline.stream.faust_app import build_app, run_service
from eddyline.stream.kafka import wait_for_broker
from eddyline.stream.knowledge import Knowledge
from eddyline.stream.membership import Expelled, Membership
from eddyline.stream.microbatch import Forget, MicroBatch, User, micro_batches
from eddyline.stream.outbox import Outbox
from eddyline.stream.partitions import Partitions
from eddyline.stream.refresh import NEWCOMERS, Refresh
from eddyline.stream.telemetry import Metrics, MetricsServer, serve
from eddyline.stream.topics import Topics, require_topics

__all__ = ["Worker", "run"]

_log = structlog.get_logger()
_STUCK_S = 120.0
_COMPARE_S = 60.0  # well within the time after which Kafka may compact


class Worker:
    """One worker process.

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
            f"{settings.topics.prefix}-workers",
            settings.state.folder,
            commit_interval_s=settings.worker.commit_interval_s,
        )
        self._membership = Membership(self.app, settings.kafka.session_timeout_s)
        self._outbox = Outbox(settings.kafka, self._membership.confirm)
        store = RocksStateStore(settings.state)
        self.partitions = Partitions(store, settings.kafka, self.topics, self._outbox, self._restoring)
        self._delivery = Delivery(self.topics, self._outbox, self.partitions, self.metrics)
        # All model work happens in this thread, one thing after the other.
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._taken: asyncio.Queue[Sequence[Any]] = asyncio.Queue(1)
        self._busy = asyncio.Lock()
        self._stopping = False
        self._tasks: list[asyncio.Task[bool]] = []
        self._mine: set[int] = set()  # partitions assigned to this worker, by Kafka's last word
        self._to_refresh = Refresh(
            settings.worker.refresh_users, settings.worker.refresh_clicks, settings.worker.refresh_every_s
        )
        self._knowledge = Knowledge(settings, self.topics, self.metrics, self._model_work, self._to_refresh)
        self._behind = False
        self._delivering: asyncio.Task[bool] | None = None  # the micro-batch before
        self._in_flight: dict[User, bytes] = {}  # its states, until they are written
        self._processed: dict[int, int] = {}
        self._moved_on = time.monotonic()
        self._lag = 0
        self._server: MetricsServer | None = None
        clicks = self.app.topic(self.topics.clicks, key_serializer="raw", value_serializer="raw")
        self.app.agent(clicks, name="clicks")(self._consume)
        self.app.on_partitions_assigned.connect(self._assigned)
        self.app.on_partitions_revoked.connect(self._revoked)

    async def start(self) -> None:
        """Take in what is known so far, before the first click is taken."""
        await self._outbox.start()
        await self._knowledge.start()
        self._server = serve(self.settings.telemetry, self.metrics, self.healthy)
        keep_up = self._knowledge.follow_evidence, self._knowledge.follow_models
        for loop in (self._work, *keep_up, self._refresh, self._forget_idle, self._compare, self._watch):
            self._tasks.append(asyncio.create_task(self._guarded(loop())))

    async def drain(self) -> None:
        """Finish the micro-batch under way, take no other, commit."""
        self._stopping = True
        async with self._busy:
            await self._delivered()
            await self.app.consumer.commit()

    async def stop(self) -> None:
        """Let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._knowledge.stop()
        await self._outbox.stop()
        await asyncio.to_thread(self._model_thread.shutdown, cancel_futures=True)
        self.partitions.close_all()
        if self._server is not None:
            self._server.close()

    def healthy(self) -> bool:
        """Whether clicks are being taken, or states restored for them, as long as there are any."""
        return not self.failed.done() and (not self._lag or time.monotonic() - self._moved_on < _STUCK_S)

    async def _consume(self, stream: Any) -> None:
        """The agent: hands micro-batches over, so that Faust fills the next one while this one is worked on.

        `take_events` acknowledges whatever happens. One more reference to each message keeps what was not done
        from being committed; it is given back when everything of the batch is delivered.
        """
        worker = self.settings.worker
        async with aclosing(stream.take_events(worker.micro_batch, within=worker.within_s)) as batches:
            async for events in batches:
                for event in events:
                    event.message.incref()
                await self._taken.put(events)

    async def _work(self) -> None:
        """Process what the agent takes. A failure fails the worker: Faust would go on with the next batch."""
        while True:
            events = await self._taken.get()
            async with self._turn():
                if self._stopping or self.failed.done():
                    return
                await self._process(events)

    async def _process(self, events: Sequence[Any]) -> None:
        generation = self.app.consumer_generation_id
        # Faust changes the generation only with the next assignment: until then, what was taken before a revocation
        # is told by its partition.
        live = [
            event
            for event in events
            if event.message.generation_id == generation and event.message.partition in self._mine
        ]
        messages = [event.message for event in live]
        for message in messages:
            self._processed.setdefault(message.partition, message.offset)
        for partition in {message.partition for message in messages}:
            await self.partitions.open(partition)
        parts, dead = micro_batches(messages, self.settings.clicks)
        await self._delivery.bury(dead)
        for part in parts:
            if isinstance(part, Forget):
                await self._settle()
                await self._delivery.forget(part)
                self._to_refresh.forget([part.user])
            else:
                await self._apply(part)
        self._behind = len(events) >= self.settings.worker.micro_batch
        self._in_background(self._finish(self._delivering, live))

    async def _apply(self, batch: MicroBatch) -> None:
        """Make the step while the batch before is still being delivered; then hand this one over."""
        users = list(batch.users)
        known = self.partitions.read(users)
        states = [self._in_flight.get(user, state) for user, state in zip(users, known, strict=True)]
        began = time.perf_counter()
        served = await self._model_work(self._knowledge.serving.apply, batch, states)
        self.metrics.step_seconds.observe(time.perf_counter() - began)
        await self._settle()
        self._in_flight = dict(zip(users, served.states, strict=True))
        cause: Cause = "click" if self._knowledge.serving.engine.model.version else "fallback"
        self._in_background(self._delivery.deliver(batch, users, served, cause))
        self._to_refresh.clicked(users)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Alone with states and lists. What is begun for partitions that turn out to be another's is left to them."""
        async with self._busy:
            with suppress(Expelled):
                yield

    async def _settle(self) -> None:
        """Wait until everything is delivered. What could not be delivered must not be followed by anything else."""
        done = await self._delivered()
        if self.failed.done():
            self.failed.result()
        if not done:
            raise Expelled

    async def _delivered(self) -> bool:
        """Wait until nothing is being delivered; whether all of it was."""
        done = self._delivering is None or await self._delivering
        self._delivering = None
        self._in_flight = {}
        return done

    def _in_background(self, delivery: Coroutine[Any, Any, None]) -> None:
        self._delivering = asyncio.create_task(self._guarded(delivery))

    async def _finish(self, delivery: asyncio.Task[bool] | None, events: Sequence[Any]) -> None:
        """Let the offsets of a batch be committed, after its last delivery."""
        if delivery is not None and not await delivery:
            raise Expelled
        for event in events:
            self._processed[event.message.partition] = event.message.offset + 1
            event.ack()
        self._moves_on()

    def _restoring(self, partition: int) -> None:
        """States are being restored; for a partition that is given up meanwhile there is no use in that."""
        if partition not in self._mine:
            raise Expelled
        self._moves_on()

    def _moves_on(self) -> None:
        self._moved_on = time.monotonic()

    async def _model_work(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._model_thread, work, *arguments)

    async def _refresh(self) -> None:
        """New lists for newcomers and recently active users, newest first, as far as clicks leave room."""
        worker = self.settings.worker
        while True:
            await asyncio.sleep(worker.refresh_batch / worker.refresh_per_s)
            clicks_wait = self._behind and not self._taken.empty()
            if clicks_wait or not self._to_refresh or self._busy.locked():
                continue
            async with self._turn():
                await self._settle()
                chosen = self._to_refresh.take(worker.refresh_batch)
                users = [user for user in chosen if user.partition in self.partitions.owned]
                found = zip(users, self.partitions.read(users), strict=True)
                known = {user: state for user, state in found if state is not None or user == NEWCOMERS}
                if known:
                    lists = await self._model_work(self._knowledge.serving.recommend, list(known), list(known.values()))
                    await self._delivery.publish(list(known), lists, "refresh")

    async def _forget_idle(self) -> None:
        """Forget users who have been idle for longer than the settings say."""
        if self.settings.state.idle_days is None:
            return
        idle = IdleUsers(self.settings.engine.shape, self.settings.state.idle_days)
        while True:
            await asyncio.sleep(self.settings.worker.sweep_interval_s)
            for partition in list(self.partitions.owned):
                async with self._turn():
                    await self._settle()
                    if partition not in self.partitions.owned:
                        continue
                    # Event time, but never ahead of the clock: one click dated wrongly must not make everybody old.
                    now_ms = min(self._knowledge.serving.counts.clock_ms, time.time_ns() // 1_000_000)
                    found = idle.look(self.partitions.owned[partition], now_ms)
                    users = {User(partition, key): Erasure(offset) for key, offset in found.items()}
                    if users:
                        await self._delivery.erase(users)
                        self._to_refresh.forget(users)
                        _log.info("forgot idle users", partition=partition, users=len(users))

    async def _compare(self) -> None:
        """Look now and then whether somebody else wrote states of partitions that are ours."""
        while True:
            await asyncio.sleep(_COMPARE_S)
            ends = await self.partitions.ends() if self.partitions.owned else {}
            async with self._turn():
                await self._settle()
                await self.partitions.catch_up(ends)

    async def _watch(self) -> None:
        """Lag and sizes for the metrics."""
        while True:
            await asyncio.sleep(1.0)
            lag = 0
            for tp in self.app.consumer.assignment():
                if tp.topic == self.topics.clicks and tp.partition in self._mine:
                    end = self.app.consumer.highwater(tp)
                    lag += max(0, (end or 0) - self._processed.get(tp.partition, end or 0))
            self._lag = lag
            self.metrics.lag_clicks.set(lag)
            self.metrics.users.set(self.partitions.users)
            self.metrics.seconds_since_last_click.set(time.monotonic() - self._moved_on)

    async def _assigned(self, app: Any, assigned: Any, **_: Any) -> None:
        partitions = sorted(tp.partition for tp in assigned if tp.topic == self.topics.clicks)
        self._mine = set(partitions)
        self._membership.joined()
        _log.info("partitions assigned", partitions=partitions)
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._guarded(self._open_all(partitions))))

    async def _open_all(self, partitions: Sequence[int]) -> None:
        async with self._turn():
            for partition in self._mine.intersection(partitions):
                await self.partitions.open(partition)
            if NEWCOMERS.partition in partitions and len(self._knowledge.serving.counts):
                self._to_refresh.wait(NEWCOMERS)
            _log.info("ready", partitions=list(partitions), users=self.partitions.users)

    async def _revoked(self, app: Any, revoked: Any, **_: Any) -> None:
        """Give partitions up once the micro-batch under way is finished; the next one no longer has their clicks."""
        lost = {tp.partition for tp in revoked if tp.topic == self.topics.clicks}
        self._mine -= lost
        async with self._busy:
            await self._delivered()
            for partition in lost:
                self.partitions.close(partition)
                self._processed.pop(partition, None)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do it; whether it was done to the end."""
        try:
            await work
        except Expelled:
            return False
        except Exception as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)


def run(settings: Settings) -> None:
    """Run one worker until SIGTERM or SIGINT.

    Raises:
        EddylineError: it cannot go on; the message says why.
    """
    torch.set_num_threads(1)  # at these sizes more threads are slower
    # Lists are made of many small objects and no cycles: looking for cycles all the time would cost a tenth.
    gc.set_threshold(100_000, 20, 100)
    # The model's thread lets the interpreter go at each kernel; the event loop must not keep it for 5 ms each time.
    sys.setswitchinterval(0.0002)
    wait_for_broker(settings.kafka, None, _log.warning)
    require_topics(settings.kafka, settings.topics)
    settings.state.folder.mkdir(parents=True, exist_ok=True)

    async def work() -> None:
        await run_service(Worker(settings))

    asyncio.run(work())
    _log.info("stopped")
