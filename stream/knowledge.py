"""Knowledge: what a worker takes over from the others, the evidence of all workers and the trainer's versions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from eddyline.model.checkpoint import Manifest, ModelStore
from eddyline.state.errors import EddylineError
from eddyline.stream.config import Settings
from eddyline.stream.follow import Follower, Record
from eddyline.stream.models import announced, load_model, load_version, newest_manifest, starting_point
from eddyline.stream.refresh import Refresh
from eddyline.stream.serving import Serving
from eddyline.stream.telemetry import Metrics
from eddyline.stream.topics import Topics

__all__ = ["Knowledge"]

_log = structlog.get_logger()


class Knowledge:
    """Keeps the counts and the model that a worker serves with up to date.

    Args:
        settings: all of them.
        topics: where evidence and models are announced.
        metrics: told of versions and lag.
        model_work: runs work on counts and model in their thread.
        refresh: told when lists are out of date.

    Attributes:
        serving: counts and model; there from the start on.
    """

    serving: Serving

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        metrics: Metrics,
        model_work: Callable[..., Awaitable[Any]],
        refresh: Refresh,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._metrics = metrics
        self._model_work = model_work
        self._refresh = refresh
        self._store = ModelStore(settings.model_store)
        self._models = Follower(settings.kafka, topics.models)
        self._evidence: Follower | None = None

    async def start(self) -> None:
        """Load the version in use and its counts, and fold the evidence since."""
        settings = self._settings
        await self._models.start(patient=True)
        manifest = await announced(self._models, settings.model_store.name)
        model, counts, offset = await asyncio.to_thread(
            starting_point, self._store, manifest, settings.counts, settings.engine.shape.dimension
        )
        self._evidence = evidence = Follower(settings.kafka, self._topics.evidence, offset)
        await evidence.start(patient=True)
        self.serving = Serving(settings.engine, settings.clicks, model, counts, evidence.next or 0)
        await self._model_work(self.serving.warm_up)
        async for polled in evidence.to_end():
            await self._fold(polled, evidence.next)
        self._tell(model.version, model.trained_until_ms)

    async def stop(self) -> None:
        """Disconnect."""
        for follower in (self._evidence, self._models):
            if follower is not None:
                await follower.stop()

    async def follow_evidence(self) -> None:
        """Count what all workers see, for ever."""
        while (evidence := self._evidence) is not None:
            clicks = await self._fold(await evidence.poll(), evidence.next)
            self._refresh.counted(clicks)
            self._metrics.evidence_lag.set(evidence.lag)

    async def _fold(self, records: Sequence[Record], next_offset: int | None) -> int:
        values = [record.value for record in records if record.value]
        clicks: int = await self._model_work(self.serving.fold, values, next_offset)
        return clicks

    async def follow_models(self) -> None:
        """Take announced versions into use, for ever. Loading is beside serving, the swap between two micro-batches."""
        while True:
            manifest = newest_manifest(await self._models.poll(), self._settings.model_store.name)
            if manifest is None or manifest.version == self.serving.engine.model.version:
                continue
            try:
                await self._take(manifest)
            except EddylineError as error:
                _log.error("refused a model, the current one stays", version=manifest.version, reason=str(error))
                continue
            self._refresh.begin()
            self._metrics.model_swaps.inc()
            self._tell(manifest.version, manifest.trained_until_ms)
            _log.info("took a model into use", version=manifest.version, cause=manifest.cause)

    async def _take(self, manifest: Manifest) -> None:
        """Load a version and serve it. One made before the stream comes with its counts, until the first click."""
        store, dimension = self._store, self._settings.engine.shape.dimension
        if not (self.serving.evidence_offset or manifest.evidence_offset):
            made = await asyncio.to_thread(load_version, store, manifest, self._settings.counts, dimension)
            if await self._model_work(self.serving.begin_with, *made):
                return
        rows = await self._model_work(self.serving.rows)
        model = await asyncio.to_thread(load_model, store, manifest, dimension, rows)
        await self._model_work(self.serving.swap, model)

    def _tell(self, version: int, trained_until_ms: int) -> None:
        self._metrics.model_version.set(version)
        self._metrics.model_age_seconds.set_function(
            lambda: max(0.0, time.time() - trained_until_ms / 1000) if version else 0.0
        )
