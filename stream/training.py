"""Training: the trainer's work without Kafka. All of it runs in one thread.

Clicks are gathered from the examples until there are enough to pre-train the first model on; from then on each
example is scored, then learned from. What is needed to go on after a crash is one checkpoint, written atomically.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import structlog

from eddyline.model.acceptance import Acceptance
from eddyline.model.checkpoint import Manifest, ModelStore
from eddyline.model.counts import Counts
from eddyline.model.learner import Learner
from eddyline.model.model import Model
from eddyline.model.versions import counts_from_arrays, counts_to_arrays, model_from_arrays, model_to_arrays
from eddyline.replay.pretrain import ClickLog, Pretrained, pretrain
from eddyline.replay.tensorboard import board
from eddyline.state.errors import EddylineError
from eddyline.state.evidence import Evidence
from eddyline.state.examples import Examples
from eddyline.stream.config import Settings
from eddyline.stream.models import Rows, load_model, starting_point

__all__ = ["Erased", "Training"]

_log = structlog.get_logger()
_CHECKPOINT = "trainer"


@dataclass(frozen=True)
class Erased:
    """How many examples and gathered clicks of a user were erased, on the request in which partition."""

    user: int
    partition: int
    examples: int
    clicks: int


class Training:
    """What the trainer knows.

    Args:
        settings: all of them.
        store: where versions and the checkpoint are kept.

    Attributes:
        evidence_offset: the first offset of the evidence that is not folded yet; None before any.
        examples_offset: the last offset of the examples that is learned from, -1 before any.
    """

    def __init__(self, settings: Settings, store: ModelStore) -> None:
        self.settings = settings
        self._store = store
        self.counts = Counts(settings.counts)
        self.evidence_offset: int | None = None
        self.examples_offset = -1
        self.current: Model | None = None
        self.learner: Learner | None = None
        self._acceptance = Acceptance(settings.acceptance)
        self._board = board(settings.trainer.tensorboard) if settings.trainer.tensorboard else None
        self._users: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self._items: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self.gathered = 0
        self._pending: list[tuple[int, Examples]] = []
        self._seen: dict[int, int] = {}  # the newest click of each partition of the clicks topic, by its offset
        self._settled: dict[int, int] = {}  # the same without the examples that wait: what a checkpoint contains
        self._since_publish = 0
        self._losses: deque[float] = deque(maxlen=64)
        self._ranks: deque[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = deque()
        self._trained_until_ms = 0

    def resume(self, announced: Manifest | None) -> None:
        """Go on from the checkpoint, or from the announced version, or from nothing.

        Raises:
            CorruptModel: the checkpoint is damaged.
        """
        saved = self._store.load_checkpoint(_CHECKPOINT)
        if saved is not None:
            self._restore(*saved)
            self._obey(announced)
            return
        shape = self.settings.engine.shape
        model, self.counts, self.evidence_offset = starting_point(
            self._store, announced, self.settings.counts, shape.dimension
        )
        if model.version:
            self._use(model)

    def fold(self, values: Sequence[bytes], next_offset: int) -> None:
        """Count what any worker saw."""
        for value in values:
            self.counts.fold(Evidence.decode(value))
        self.evidence_offset = next_offset

    def covers(self, examples: Examples) -> bool:
        """Whether the counts know every item row that the examples speak of."""
        return not len(examples) or int(examples.pool.max(initial=-1)) < len(self.counts)

    def observe(self, examples: Examples, offset: int) -> list[Erased]:
        """Take in one message: gather, or score and learn; then erase whom it asks to forget.

        Clicks that an earlier message brought already, as after a worker's crash, are left out.
        """
        examples = self._unseen(examples)
        if len(examples):
            self._ranks.append((examples.rank, examples.popular_rank))
            while sum(len(rank) for rank, _ in self._ranks) - len(self._ranks[0][0]) >= self.settings.trainer.window:
                self._ranks.popleft()
            if self.learner is None:
                self._users.append(examples.user.copy())
                self._items.append(examples.item.copy())
                self.gathered += len(examples)
            else:
                self._pending.append((offset, examples))
                if sum(len(one) for _, one in self._pending) >= self.settings.learner.batch:
                    self._learn(self.learner)
        erased = [self._forget(int(user), int(examples.partition[0])) for user in examples.forget]
        if not self._pending:
            self._settle(offset)
        return erased

    def _unseen(self, examples: Examples) -> Examples:
        """The examples whose clicks are newer than all before in their partitions, as offsets ascend."""
        if not len(examples):
            return examples
        partitions, which = np.unique(examples.partition, return_inverse=True)
        seen = np.array([self._seen.get(int(partition), -1) for partition in partitions])
        new = examples.offset > seen[which]
        newest = seen.copy()
        np.maximum.at(newest, which, examples.offset)
        self._seen.update(zip(partitions.tolist(), newest.tolist(), strict=True))
        return examples if new.all() else examples.only(new)

    def _settle(self, offset: int) -> None:
        """Everything up to this offset of the examples is learned from: a checkpoint contains it."""
        self.examples_offset = offset
        self._settled = dict(self._seen)

    def _learn(self, learner: Learner) -> None:
        batch = [examples for _, examples in self._pending]
        proposed = learner.losses(batch, self.counts)
        current = learner.losses(batch, self.counts, self.current)
        losses = learner.learn(batch, self.counts)
        if losses is not None:
            learned = sum(len(examples) for examples in batch)
            self._acceptance.score(proposed, current, learned)
            self._losses.append(losses.score)
            if self._board is not None:
                self._board(learner, batch, losses)
            self._since_publish += learned
            self._trained_until_ms = time.time_ns() // 1_000_000
        self._settle(self._pending[-1][0])
        self._pending.clear()

    def _forget(self, user: int, partition: int) -> Erased:
        """Erase a user from everything kept here, waiting examples included."""
        if self.learner is not None and self._pending:
            self._learn(self.learner)  # they come before the erasure, so they are in the buffer when it acts
        hashed = np.array([user], np.uint64)
        examples = self.learner.buffer.forget(hashed) if self.learner else 0
        kept = [users != hashed[0] for users in self._users]
        clicks = sum(int((~one).sum()) for one in kept)
        self._users = [users[one] for users, one in zip(self._users, kept, strict=True)]
        self._items = [items[one] for items, one in zip(self._items, kept, strict=True)]
        self.gathered -= clicks
        return Erased(user, partition, examples, clicks)

    @property
    def may_pretrain(self) -> bool:
        """Whether enough clicks are gathered for the first model."""
        return self.learner is None and self.gathered >= self.settings.trainer.pretrain_clicks

    def pretrain(self, on_progress: Callable[[float, str], None]) -> Pretrained:
        """Train the first model on the clicks gathered."""
        log = ClickLog(np.concatenate(self._users), np.concatenate(self._items))
        settings = self.settings
        return pretrain(
            log,
            self.counts,
            settings.engine.shape,
            settings.pretrain,
            window=settings.engine.ranking.long_term_items,
            on_progress=on_progress,
        )

    def begin_with(self, trained: Pretrained) -> Manifest:
        """Store the first model and learn on from it."""
        self._trained_until_ms = time.time_ns() // 1_000_000
        manifest = self._save(trained.model, "pretrain", {"held_out_loss": trained.loss}, trained.clicks)
        self._users.clear()
        self._items.clear()
        self.gathered = 0
        self._use(replace(trained.model, version=manifest.version, trained_until_ms=self._trained_until_ms))
        return manifest

    def _use(self, model: Model) -> None:
        """Learn on from a version that is published."""
        settings = self.settings
        if self.learner is None:
            self.learner = Learner(
                settings.learner, settings.engine.shape, settings.engine.ranking.long_term_items, model
            )
        else:
            self.learner.start_from(model)
        self.current = model
        self._acceptance.clear()
        self._since_publish = 0

    def publish(self) -> tuple[Manifest | None, str]:
        """Store the weights of now as a version if they pass acceptance; the reason either way.

        A version that fails is dropped: learning goes on from the one that is published.
        """
        learner, current = self.learner, self.current
        if learner is None or current is None or self._since_publish < self.settings.trainer.publish_examples:
            return None, ""
        candidate = learner.snapshot(0, self._trained_until_ms)
        verdict = self._acceptance.decide(candidate)
        if not verdict.accepted:
            learner.start_from(current)
            self._acceptance.clear()
            self._since_publish = 0
            return None, verdict.reason
        manifest = self._save(
            candidate, "online", {"loss": verdict.loss, "current_loss": verdict.current_loss}, learner.learned
        )
        self.current = replace(candidate, version=manifest.version)
        self._acceptance.clear()
        self._since_publish = 0
        return manifest, verdict.reason

    def follow(self, manifest: Manifest) -> bool:
        """Go on from a version that an operator promoted; False if it is the current one already."""
        if self.current is not None and manifest.version == self.current.version:
            return False
        rows = Rows(self.counts.hashes, len(self.counts), self.evidence_offset or 0)
        self._use(load_model(self._store, manifest, self.settings.engine.shape.dimension, rows))
        return True

    def _obey(self, announced: Manifest | None) -> None:
        """Follow what an operator promoted while no trainer was running."""
        if announced is None or announced.cause not in ("promote", "rollback"):
            return
        try:
            self.follow(announced)
        except EddylineError as error:
            _log.error("refused a model, the current one stays", version=announced.version, reason=str(error))

    def _save(
        self, model: Model, cause: Literal["pretrain", "online"], metrics: dict[str, float], learned: int
    ) -> Manifest:
        recall = self.recall()
        version = self._store.next_version()
        manifest = self._store.save(
            {"weights": model_to_arrays(model, self.counts), "counts": counts_to_arrays(self.counts)},
            version=version,
            parent=self.current.version if self.current else 0,
            created_ms=time.time_ns() // 1_000_000,
            trained_until_ms=self._trained_until_ms,
            cause=cause,
            encoder=f"{model.encoder_id:016x}",
            items=len(self.counts),
            examples=learned,
            evidence_offset=self.evidence_offset or 0,
            metrics={name: float(value) for name, value in (metrics | recall).items() if np.isfinite(value)},
        )
        self._store.prune(protect=[self.current.version] if self.current else [])
        return manifest

    def recall(self) -> dict[str, float]:
        """Recall@20 on the newest window, of the lists as served and of decayed popularity on the same clicks."""
        if not self._ranks:
            return {}
        ranks = (np.concatenate(one) for one in zip(*self._ranks, strict=True))
        ours, popular = (float(((rank > 0) & (rank <= 20)).mean()) for rank in ranks)
        return {"recall@20": ours, "recall@20 decayed-popularity": popular}

    def checkpoint(self) -> int:
        """Write everything needed to go on; returns the last examples offset it contains."""
        arrays = {f"counts.{name}": array for name, array in counts_to_arrays(self.counts).items()}
        metadata: dict[str, Any] = {
            "evidence_offset": self.evidence_offset,
            "examples_offset": self.examples_offset,
            "clicks_offsets": {str(partition): offset for partition, offset in self._settled.items()},
            "trained_until_ms": self._trained_until_ms,
            "version": self.current.version if self.current else 0,
        }
        if self.learner is not None and self.current is not None:
            weights = self.learner.snapshot(self.current.version, self._trained_until_ms)
            state, metadata["learner"] = self.learner.to_arrays()
            arrays |= {f"weights.{name}": array for name, array in model_to_arrays(weights, self.counts).items()}
            arrays |= {f"current.{name}": array for name, array in model_to_arrays(self.current, self.counts).items()}
            arrays |= {f"learner.{name}": array for name, array in state.items()}
        elif self._users:
            arrays["gathered.user"] = np.concatenate(self._users)
            arrays["gathered.item"] = np.concatenate(self._items)
        self._store.save_checkpoint(_CHECKPOINT, arrays, metadata)
        return self.examples_offset

    def _restore(self, arrays: dict[str, Any], metadata: dict[str, Any]) -> None:
        def part(name: str) -> dict[str, Any]:
            return {key.removeprefix(f"{name}."): a for key, a in arrays.items() if key.startswith(f"{name}.")}

        self.counts = counts_from_arrays(part("counts"), self.settings.counts)
        self.evidence_offset = metadata["evidence_offset"]
        self._seen = {int(partition): offset for partition, offset in metadata.get("clicks_offsets", {}).items()}
        self._settle(metadata["examples_offset"])
        if "learner" in metadata:
            version, until = metadata["version"], metadata["trained_until_ms"]
            self._use(model_from_arrays(part("weights"), version, until))
            self.current = model_from_arrays(part("current"), version, until)
            if self.learner is not None:
                self.learner.restore(part("learner"), metadata["learner"])
        elif "gathered.user" in arrays:
            self._users, self._items = [arrays["gathered.user"]], [arrays["gathered.item"]]
            self.gathered = len(arrays["gathered.user"])
        self._trained_until_ms = metadata["trained_until_ms"]
