"""Which old clicks are worth replaying: ways to choose them, side by side on each log.

    none        nothing is replayed
    reservoir   a uniform sample of all clicks so far; what eddyline does
    balanced    the same room for every item as far as it goes: class-balancing reservoir sampling (Chrysakis and Moens,
                "Online Continual Learning from Imbalanced Data", ICML 2020)
    exemplars   as many clicks of an item as its share of all, those nearest to their mean interest, chosen anew after
                every cycle; what the model said of them before the cycle is distilled into it (Mi, Lin and Faltings,
                "ADER: Adaptively Distilled Exemplar Replay", RecSys 2020)

    python tests/bench/buffers.py [LOG …]

Logs are those of `make quality`, looked for in EDDYLINE_LOGS; `returning` is its made-up stream. All have the same
room: a tenth of the clicks that are learned, so that something must be left out; exemplars have the clicks of the cycle
that runs on top of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from eddyline.model.buffer import BufferSettings, ReplayBuffer
from eddyline.model.counts import Counts
from eddyline.model.fusion import Network
from eddyline.model.learner import Learner, Losses
from eddyline.model.long_term import ItemEmbeddings
from eddyline.model.losses import Pool, Seen, asked
from eddyline.model.model import Model
from eddyline.model.remembered import replayed_rows
from eddyline.replay.backtest import BacktestSettings, backtest
from eddyline.replay.contender import Progress, Question, WarmUp
from eddyline.replay.metrics import SINCE_DRIFT
from eddyline.replay.pipeline import Eddyline, PipelineSettings
from eddyline.replay.synthetic import SyntheticSettings, changes, synthetic_clicks
from eddyline.state.examples import Examples
from eddyline.stream.cli.backtests import pipeline_settings
from eddyline.stream.cli.logs import DEFAULT_COLUMNS, logged_clicks
from eddyline.stream.config import Settings

CYCLE = 4_096
"""Examples between two choices of exemplars."""

LIMIT = 100_000
"""Clicks of a log."""


class Balanced(ReplayBuffer):
    """Once it is full, a new example takes the place of one of the item that has the most."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._places: dict[int, list[int]] = {}
        self._offered: dict[int, int] = {}
        self._full: set[int] = set()

    def add(self, rows: npt.NDArray[np.void]) -> None:
        """Offer examples, in order."""
        for row in rows:
            self._add(row)
        self.offered += len(rows)

    def _add(self, row: np.void) -> None:
        item = int(row["target"])
        self._offered[item] = self._offered.get(item, 0) + 1
        mine = self._places.setdefault(item, [])
        if self._count < self.capacity:
            if self._count == len(self._room):
                self._room = np.concatenate([self._room, self.new_rows(max(1024, self._count))])
            mine.append(self._count)
            self._room[self._count] = row
            self._count += 1
            return
        most = max(map(len, self._places.values()))
        self._full |= {one for one, places in self._places.items() if len(places) == most}
        if item not in self._full:
            largest = max(self._places, key=lambda one: len(self._places[one]))
            place = self._places[largest].pop(int(self._random.integers(len(self._places[largest]))))
            mine.append(place)
        elif mine and self._random.random() <= len(mine) / self._offered[item]:
            place = mine[int(self._random.integers(len(mine)))]
        else:
            return
        self._room[place] = row


class Exemplars(ReplayBuffer):
    """Exemplars of the cycles so far, and the examples of the one that runs, which are not replayed yet."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.running: list[npt.NDArray[np.void]] = []
        self._clicks = np.zeros(0, np.int64)

    def add(self, rows: npt.NDArray[np.void]) -> None:
        """Offer examples, in order."""
        self.running.append(rows)
        self.offered += len(rows)
        self._clicks = np.bincount(rows["target"], minlength=len(self._clicks)) + np.pad(
            self._clicks, (0, max(0, int(rows["target"].max(initial=-1)) + 1 - len(self._clicks)))
        )

    @property
    def new(self) -> int:
        """Examples of the running cycle."""
        return sum(map(len, self.running))

    def choose(self, interest: Callable[[npt.NDArray[np.void]], npt.NDArray[np.float32]]) -> None:
        """Of the exemplars and the cycle's examples, those to keep, by herding: nearest to the mean interest first."""
        rows = np.concatenate([self.rows, *self.running])
        F, target = interest(rows), rows["target"].astype(np.int64)
        quota = np.maximum(1, self.capacity * self._clicks // max(1, self.offered))
        kept: list[int] = []
        for item in np.unique(target).tolist():
            mine = np.flatnonzero(target == item)
            kept += mine[_herd(F[mine], int(quota[item]))].tolist()
        if len(kept) > self.capacity:  # one of each item at least is more than there is room for
            kept = self._random.choice(kept, self.capacity, replace=False).tolist()
        self._room = rows[kept]
        self._count, self.running = len(self._room), []


def _herd(F: npt.NDArray[np.float32], most: int) -> npt.NDArray[np.int64]:
    """The order in which each next one brings the mean of the chosen nearest to the mean of all, (≤ most,)."""
    mean, total, left = F.mean(0), np.zeros(F.shape[1], np.float32), np.ones(len(F), np.bool_)
    chosen = []
    for n in range(1, min(most, len(F)) + 1):
        distance = np.linalg.norm(mean - (total + F) / n, axis=1)
        best = int(np.where(left, distance, np.inf).argmin())
        chosen.append(best)
        left[best] = False
        total += F[best]
    return np.array(chosen, np.int64)


class Distilling(Learner):
    """Learns as the learner does, but from what an older version of itself said of the exemplars."""

    def start_from(self, model: Model) -> None:
        """Go on from this model's weights."""
        super().start_from(model)
        self._teacher: tuple[Network, ItemEmbeddings] | None = None
        self._replayed_weight = 0.0
        self._known = len(self.items)

    def learn(self, batch: Sequence[Examples], counts: Counts) -> Losses | None:
        """One step; after each cycle, new exemplars and a new teacher."""
        buffer = self.buffer
        assert isinstance(buffer, Exemplars)
        if buffer.new >= CYCLE:
            known, self._known = self._known, len(self.items)
            buffer.choose(lambda rows: self._interest(replayed_rows(rows)))
            taught = self.snapshot(0, 0)
            self._teacher = (taught.network, taught.items)
            # ADER's λ: more where the new clicks are on few new items, less where they outnumber the exemplars
            self._replayed_weight = float(np.sqrt(known / self._known * len(buffer) / CYCLE))
        if self._teacher is not None:
            self._teacher[1].grow(counts)
        return super().learn(batch, counts)

    def _replayed(
        self, each: torch.Tensor, users: torch.Tensor, old: npt.NDArray[np.void], pool: Pool, table: torch.Tensor
    ) -> torch.Tensor:
        if self._teacher is None:
            return torch.zeros(())
        network, items = self._teacher
        with torch.no_grad():
            then = pool.table(items)
            says = asked(network, replayed_rows(old), pool, then)
            soft = torch.softmax(self._logits(says, pool, then), 1)
        return -(soft * torch.log_softmax(self._logits(users, pool, table), 1)).sum(1).mean()

    @staticmethod
    def _logits(users: torch.Tensor, pool: Pool, table: torch.Tensor) -> torch.Tensor:
        return torch.addmm(pool.odds, users, nn.functional.embedding(pool.at(pool.items), table).T)

    @torch.no_grad()
    def _interest(self, seen: Seen) -> npt.NDArray[np.float32]:
        rows = np.arange(len(self.items))
        pool = Pool(rows, rows, rows, torch.zeros(len(rows)))
        return asked(self.network, seen, pool, pool.table(self.items))[:, :-1].numpy()


class Replaying(Eddyline):
    """Eddyline with another way to choose old clicks."""

    def __init__(self, way: str, settings: PipelineSettings, question: Question, learned: int) -> None:
        super().__init__(settings, question, without="replay" if way == "none" else None)
        self.name = way
        self._way = way
        self._room = learned // 10

    def train(self, past: WarmUp, on_progress: Progress) -> None:
        """Train as ever, then take another buffer."""
        super().train(past, on_progress)
        learner, settings = self._learner, self._settings
        assert learner is not None
        shape, history = settings.engine.shape, settings.engine.ranking.long_term_items
        capacity = BufferSettings(capacity=self._room)
        if self._way == "exemplars":
            learner = self._learner = Distilling(self._learning, shape, history, learner.snapshot(0, 0))
        kind = {"balanced": Balanced, "exemplars": Exemplars}.get(self._way, ReplayBuffer)
        learner.buffer = kind(capacity, shape, history)


LOGS = (("deskdrop", "all"), ("online-retail", "all"), ("yoochoose-100k", "all"), ("movietweetings-100k", "new"))
WAYS = ("reservoir", "none", "balanced", "exemplars")


def compare(name: str, clicks: Iterable[Any], rank: str, drifts_ms: Sequence[int]) -> None:
    """Print a row for each way."""
    log = list(clicks)
    asked_for = BacktestSettings(new_only=rank == "new")
    settings = Settings()
    services = pipeline_settings(settings)
    question = Question(20, exclude_seen=rank == "new")
    contenders = [Replaying(way, services, question, round(0.6 * len(log))) for way in WAYS]
    result = backtest(
        lambda: log, contenders, asked_for, settings.engine, settings.clicks, settings.counts, drifts_ms=drifts_ms
    )
    for way, figures in result["models"].items():
        after = figures["by"]["drift"][SINCE_DRIFT[0]]["recall@20"] if drifts_ms else None
        shown = "–" if after is None else f"{after:.4f}"
        print(f"| {name} | {way} | {figures['ndcg@20']:.4f} | {figures['retention']:.3f} | {shown} |", flush=True)


def main(names: Sequence[str]) -> None:
    """Every log that is there."""
    print("| log | replayed | NDCG@20 | retention | recall@20, 500 clicks after a return |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    folder = Path(os.environ.get("EDDYLINE_LOGS", "."))
    for name, rank in LOGS:
        path = folder / f"{name}.csv.gz"
        if path.exists() and (not names or name in names):
            compare(name, logged_clicks(path, DEFAULT_COLUMNS, LIMIT, None)[0], rank, ())
    if not names or "returning" in names:
        world = SyntheticSettings(clicks=120_000, drift="returning", regime_clicks=10_000)
        compare("returning", synthetic_clicks(world), "all", [change.at_ms for change in changes(world)])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
