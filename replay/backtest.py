"""The backtest: test, then learn, one click after the other, for every model in one pass over a log.

    first 80 % of the warm-up    counted; then every model that is trained at all is trained on it
    last 20 % of the warm-up     answered and learned from: gates are fitted, variants chosen
    the rest                     answered and learned from; these answers count

Every click is asked about against the whole catalogue seen so far, before anybody learns from it. Ties count against
the model, and an item nobody has clicked yet is a miss. Clicks are read in blocks; a model takes a block at once, or
goes through it tick by tick.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import CountsSettings
from eddyline.model.dense import SCORED
from eddyline.model.engine import EngineSettings
from eddyline.replay.contender import Answers, BlockContender, Contender, TickContender, WarmUp, joined
from eddyline.replay.metrics import Groups, Scores, SinceDrift, compare
from eddyline.replay.outline import BacktestSettings, Outline, Source, outline
from eddyline.replay.ticks import MOST, Block, Stream, blocks
from eddyline.state.errors import EddylineError
from eddyline.state.records import Click
from eddyline.state.times import to_iso

__all__ = ["BacktestSettings", "Outline", "Progress", "backtest", "outline"]

Progress = Callable[[str, int, int, float | None], None]
"""Told what is being done, how many clicks are done, of how many, and the running recall if there is one."""


_RETENTION_ASKED = 10  # times along the stream
_HEAD = 0.1  # share of the catalogue
_BLOCKS_AT_LEAST = 20  # in any part of the log
_DENSE_BYTES = 32 << 20  # what the dense evidence of a block may take


@dataclass
class _Entry:
    contender: Contender
    scores: Scores
    seconds: float = 0.0
    warm_up_s: float = 0.0
    retention: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """The contender is at work."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start


def backtest(
    source: Source,
    contenders: Sequence[Contender],
    settings: BacktestSettings,
    engine: EngineSettings,
    weights: ClickSettings,
    counts: CountsSettings,
    on_progress: Progress = lambda text, done, total, recall: None,
    drifts_ms: Sequence[int] = (),
) -> dict[str, Any]:
    """Run every model over the log.

    Args:
        source: opens the log.
        contenders: the models.
        settings: what is asked of them.
        engine: sizes of the histories.
        weights: of the kinds.
        counts: how much is counted.
        on_progress: told how far it is.
        drifts_ms: event times at which the stream is known to change, ascending.

    Returns:
        `data` and `models` of the report.

    Raises:
        EddylineError: the log cannot be used, or nothing of it counts.
    """
    found = outline(source, settings)
    run = _Run(contenders, settings, Stream(engine, weights, counts), found, on_progress, drifts_ms)
    run.over(source())
    if contenders and not run.scored:
        raise EddylineError("none of the clicks after the warm-up counts: check --kinds and --rank")
    return {"data": run.data(), "models": run.figures()}


class _Run:
    """One pass over a log."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        settings: BacktestSettings,
        stream: Stream,
        found: Outline,
        on_progress: Progress,
        drifts_ms: Sequence[int],
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._found = found
        self._on_progress = on_progress
        self._entries = [_Entry(one, Scores(settings.k, settings.windows)) for one in contenders]
        self._users: list[npt.NDArray[np.uint64]] = []
        self._items: list[npt.NDArray[np.uint64]] = []
        self._done = 0
        self._head = np.zeros(0, np.bool_)
        self._window = -1
        self._by_tick = [(e, e.contender) for e in self._entries if isinstance(e.contender, TickContender)]
        self._pending: list[Any] = []  # read, not counted yet: blocks, or ticks if anybody goes by ticks
        self._since_drift = SinceDrift(drifts_ms)
        self._edges = np.zeros((settings.windows, 2), np.int64)  # first and last time of each window

    def over(self, clicks: Iterable[Click]) -> None:
        """Everything, in order."""
        warm_up = self._found.warm_up
        counted = warm_up - round(warm_up * self._settings.fitted)
        source = iter(clicks)
        for batch in _batches(_first(source, counted), MOST):
            self._pending.extend(self._stream.ticks(self._read(batch, [len(batch)], closed=True)))
            self._count()
            self._on_progress("counting clicks", self._done, counted, None)
        for entry in self._entries:
            with entry.timed():
                entry.contender.train(self._past(), self._trained(entry.contender.name))
        self._ask(_first(source, warm_up - counted), "fitting", warm_up - counted, scored=False)
        for entry in self._entries:
            with entry.timed():
                entry.contender.settle(self._past(), self._trained(entry.contender.name))
            entry.warm_up_s, entry.seconds = entry.seconds, 0.0
        self._users, self._items = [], []
        self._ask(source, "asking", self._found.clicks - warm_up, scored=True)

    def _ask(self, clicks: Iterator[Click], text: str, total: int, *, scored: bool) -> None:
        begun, asked = self._done, 0
        most = max(1, min(MOST, total // _BLOCKS_AT_LEAST))
        most_ticks = max(1, _DENSE_BYTES // (4 * len(SCORED) * self._found.items))
        cut = blocks(clicks, self._settings.counts_every_ms, most, 1 << (most_ticks.bit_length() - 1))
        for batch, ends, closed in cut:
            block = self._read(batch, ends, closed=closed)
            place = self._done - begun - len(block)
            window = (place + np.arange(len(block))) * self._settings.windows // total
            if scored:
                self._begin(window, block)
            answers = self._answer(block)
            since_drift = self._since_drift(block.clicks.ts_ms)
            if scored:
                groups = Groups(block, self._stream.first_ms, window, self._head, since_drift)
                chosen = self._chosen(block)
                for entry, given in zip(self._entries, answers, strict=True):
                    counted = given.as_published() if self._settings.serve == "published" else given
                    entry.scores.add(counted, groups, chosen, self._stream.counts)
            self._on_progress(text, self._done - begun, total, self._recall() if scored else None)
            if scored and (self._done - begun) * _RETENTION_ASKED // total > asked:
                asked += 1
                self._remembered()

    def _read(self, batch: Sequence[Click], ends: Sequence[int], *, closed: bool) -> Block:
        block = self._stream.read(batch, ends, closed=closed)
        self._done += len(batch)
        if self._done <= self._found.warm_up:
            self._users.append(block.clicks.user_hash)
            self._items.append(block.clicks.item)
        return block

    def _answer(self, block: Block) -> list[Answers]:
        """Every model's answers to the block, which all have learned from then, if it ends with a tick."""
        given: dict[str, list[Answers]] = {entry.contender.name: [] for entry in self._entries}
        for entry in self._entries:
            if isinstance(entry.contender, BlockContender):
                with entry.timed():
                    given[entry.contender.name].append(entry.contender.play(block))
        by_tick = self._by_tick
        if not by_tick:
            self._pending.append(block)
        for tick in self._stream.ticks(block) if by_tick else ():
            for entry, contender in by_tick:
                with entry.timed():
                    given[contender.name].append(contender.answer(tick))
            self._pending.append(tick)
            if block.closed:
                self._count()
        if not by_tick and block.closed:
            self._count()
        return [joined(given[entry.contender.name]) for entry in self._entries]

    def _count(self) -> None:
        """A tick is over: its clicks are counted, and learned from by those who go from tick to tick."""
        self._stream.count(self._pending)
        for entry, contender in self._by_tick:
            with entry.timed():
                for tick in self._pending:
                    contender.learn(tick)
        self._pending = []

    def _chosen(self, block: Block) -> npt.NDArray[np.bool_]:
        """Which clicks count."""
        kinds = self._settings.kinds
        chosen = np.array([not kinds or kind in kinds for kind in block.kinds], np.bool_)
        if self._settings.new_only:
            had = (block.before["item"] == block.clicks.item[:, None]).any(1)
            chosen &= ~had
        return chosen

    def _begin(self, window: npt.NDArray[np.int64], block: Block) -> None:
        """Note when windows begin and end; with a new one, what its most clicked items are."""
        edges, ms = self._edges, block.clicks.ts_ms
        at, first = np.unique(window, return_index=True)
        edges[at, 0] = np.where(edges[at, 0] > 0, edges[at, 0], ms[first])
        edges[at, 1] = ms[np.append(first[1:], len(ms)) - 1]
        if int(window[0]) != self._window:
            self._window = int(window[0])
            self._head = self._most_clicked()

    def _most_clicked(self) -> npt.NDArray[np.bool_]:
        clicks = self._stream.counts.clicks
        head = np.zeros(len(clicks), np.bool_)
        head[np.argsort(-clicks, kind="stable")[: max(1, int(_HEAD * len(clicks)))]] = True
        return head

    def _remembered(self) -> None:
        for entry in self._entries:
            recall = entry.contender.retention()
            if recall is not None:
                entry.retention.append({"click": self._done, "recall@20": recall})

    @property
    def scored(self) -> int:
        """How many clicks counted."""
        return self._entries[0].scores.clicks if self._entries else 0

    def _recall(self) -> float | None:
        """Of the first model so far."""
        return self._entries[0].scores.recall() if self._entries else None

    def _past(self) -> WarmUp:
        return WarmUp(self._stream, np.concatenate(self._users), np.concatenate(self._items))

    def _trained(self, name: str) -> Callable[[float, str], None]:
        return lambda share, text: self._on_progress(f"{name}: {text}", round(1000 * share), 1000, None)

    def data(self) -> dict[str, Any]:
        """What the log is."""
        found = self._found
        return {
            "fingerprint": found.fingerprint,
            "clicks": found.clicks,
            "users": found.users,
            "items": found.items,
            "from": to_iso(found.first_ms),
            "until": to_iso(found.last_ms),
            "warm_up_clicks": found.warm_up,
            "scored_clicks": self.scored,
            "kinds": dict(sorted(found.kinds.items())),
        }

    def figures(self) -> dict[str, Any]:
        """The figures of every model, and each beside every other; of the first also within each group."""
        metrics = [f"{piece}@{self._settings.k[-1]}" for piece in ("ndcg", "recall")]
        return {
            entry.contender.name: {
                **self._windowed(entry.scores.figures(self._found.items)),
                "chosen": dict(entry.contender.chosen),
                "retention": entry.retention[-1]["recall@20"] if entry.retention else None,
                "retention_windows": entry.retention,
                "warm_up_s": entry.warm_up_s,
                "events_per_s": (self._found.clicks - self._found.warm_up) / max(1e-9, entry.seconds),
                "against": {
                    other.contender.name: {
                        metric: compare(entry.scores, other.scores, metric, self._settings.seed) for metric in metrics
                    }
                    for other in self._entries
                    if other is not entry
                },
                **({"against_by": self._within(entry, metrics[0])} if entry is self._entries[0] else {}),
            }
            for entry in self._entries
        }

    def _within(self, entry: _Entry, metric: str) -> dict[str, dict[str, dict[str, dict[str, float | None]]]]:
        """The model beside every other on the clicks of each group of each division."""
        return {
            division: {
                group: {
                    other.contender.name: compare(
                        entry.scores, other.scores, metric, self._settings.seed, division, group
                    )
                    for other in self._entries
                    if other is not entry
                }
                for group in groups
            }
            for division, groups in entry.scores.divisions.items()
        }

    def _windowed(self, figures: dict[str, Any]) -> dict[str, Any]:
        edges = self._edges.tolist()
        windows = [
            {"from": to_iso(first), "until": to_iso(last), **window}
            for (first, last), window in zip(edges, figures["windows"], strict=True)
        ]
        return {**figures, "windows": windows}


def _first(clicks: Iterator[Click], count: int) -> Iterator[Click]:
    for _, click in zip(range(count), clicks, strict=False):
        yield click


def _batches(clicks: Iterator[Click], size: int) -> Iterator[list[Click]]:
    batch: list[Click] = []
    for click in clicks:
        batch.append(click)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
