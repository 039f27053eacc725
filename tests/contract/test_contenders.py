"""What every contender of a backtest keeps to, whatever it is made of.

A new contender is one more `Case`; what does not apply to it is named in `skips`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.replay.baselines import BASELINES, NEEDS_SEEN
from eddyline.replay.baselines.peers import PEERS
from eddyline.replay.contender import Answers, Contender, Question, WarmUp
from eddyline.replay.ticks import Stream, Tick, ticks
from eddyline.state.records import Click, hash_id

START_MS = 1_700_000_000_000
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Case:
    """A contender to check.

    Attributes:
        make: makes it from a question and a seed.
        learns: "circle" if it learns which item follows which, "tastes" if it learns who likes what.
        skips: names of the checks that do not apply.
    """

    make: Callable[[Question, int], Contender]
    learns: frozenset[str] = frozenset()
    skips: frozenset[str] = frozenset()


LEARNS = {
    "last-item": {"circle"},
    "co-visitation": {"circle", "tastes"},
    "own-history": {"tastes"},
    "blend": {"circle", "tastes"},
    "session-knn": {"tastes"},
    "bpr-mf": {"tastes"},
    "implicit-als": {"tastes"},
    "rtrec-slim": {"tastes"},
    "gru4rec": {"circle", "tastes"},
    "gru4rec-retrained": {"circle", "tastes"},
}
CASES = {
    name: Case(make, frozenset(LEARNS.get(name, ())), frozenset({"exclude_seen"} if name in NEEDS_SEEN else ()))
    for name, make in {**BASELINES, **PEERS}.items()
}

Clicks = Sequence[Click]


def click(user: str, item: str, minute: float) -> Click:
    return Click(
        event_id=f"{user}-{item}-{minute}",
        user_id=user,
        item_id=item,
        ts_ms=START_MS + int(minute * MINUTE_MS),
        kind="click",
    )


def circle(count: int, users: int = 12, items: int = 40, noise: float = 0.1) -> list[Click]:
    """Every user goes from item to item in one circle, mostly."""
    random = np.random.default_rng(5)
    at = random.integers(0, items, users)
    made = []
    for n in range(count):
        user = int(random.integers(users))
        at[user] = random.integers(items) if random.random() < noise else (at[user] + 1) % items
        made.append(click(f"u{user}", f"i{at[user]}", n))
    return made


def tastes(count: int, users: int = 20, items: int = 40) -> list[Click]:
    """Even users click even items, odd users odd ones."""
    random = np.random.default_rng(6)
    made = []
    for n in range(count):
        user = int(random.integers(users))
        made.append(click(f"u{user}", f"i{2 * int(random.integers(items // 2)) + user % 2}", n))
    return made


class Race:
    """One contender on one log: 40 % learned, trained, 10 % answered, settled, the rest answered."""

    def __init__(self, contender: Contender, every_ms: int = 5 * MINUTE_MS) -> None:
        self.contender = contender
        self.stream = Stream(EngineSettings(), ClickSettings(), CountsSettings())
        self.past: list[Click] = []
        self._every_ms = every_ms

    def warm_up(self, clicks: Clicks) -> None:
        begun = int(0.8 * len(clicks))
        self.run(clicks[:begun], asked=False)
        self.contender.train(self._warm_up(), self._progress)
        self.run(clicks[begun:])
        self.contender.settle(self._warm_up(), self._progress)

    def run(self, clicks: Clicks, asked: bool = True) -> list[tuple[Tick, Answers, int]]:
        """Answer and learn; gives each step, its answers and the size of the catalogue then."""
        given = []
        waiting: list[Tick] = []
        for step, ends in ticks(clicks, self._every_ms):
            tick = self.stream.take(step)
            if asked:
                given.append((tick, self.contender.answer(tick), len(tick.counts)))
            waiting.append(tick)
            if ends:
                self.stream.count(waiting)
                for one in waiting:
                    self.contender.learn(one)
                waiting = []
        self.past += clicks
        return given

    def _warm_up(self) -> WarmUp:
        users = np.array([hash_id(one.user_id) for one in self.past], np.uint64)
        items = np.array([hash_id(one.item_id) for one in self.past], np.uint64)
        return WarmUp(self.stream, users, items)

    @staticmethod
    def _progress(share: float, text: str) -> None:
        assert 0 <= share <= 1
        assert text


def raced(
    case: Case, clicks: Clicks, last: Clicks, question: Question | None = None, seed: int = 0
) -> list[tuple[Tick, Answers, int]]:
    """The answers to `last` after a warm-up on `clicks`."""
    race = Race(case.make(question or QUESTION, seed))
    race.warm_up(clicks)
    return race.run(last)


def recall(given: list[tuple[Tick, Answers, int]], k: int) -> float:
    rank = np.concatenate([answers.rank for _, answers, _ in given])
    return float(((rank > 0) & (rank <= k)).mean())


QUESTION = Question(5, exclude_seen=False)


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    found = CASES[request.param]
    if request.param in PEERS:
        pytest.importorskip(request.param.split("-")[0])
    check = request.node.originalname
    if check in {f"test_{skipped}" for skipped in found.skips}:
        pytest.skip(f"{request.param}: does not apply")
    return found


def test_answers_have_the_right_shape(case: Case) -> None:
    clicks = circle(300)
    for tick, answers, items in raced(case, clicks[:200], clicks[200:]):
        B, K = len(tick), QUESTION.length
        assert answers.rank.shape == answers.loss.shape == (B,)
        assert answers.top.shape == (B, K)
        assert ((answers.rank >= 0) & (answers.rank <= items)).all()
        assert ((answers.top >= 0) & (answers.top < items)).all()
        for b in range(B):
            assert len(set(answers.top[b])) == K
            if 0 < answers.rank[b] <= K:
                assert tick.target[b] in answers.top[b]
            place = answers.top[b].tolist().index(tick.target[b]) + 1 if tick.target[b] in answers.top[b] else K + 1
            assert answers.rank[b] == 0 or answers.rank[b] >= place  # a tie counts against the model


def test_an_item_never_seen_is_a_miss(case: Case) -> None:
    [(_, answers, _)] = raced(case, circle(200), [click("u1", "new", 1000)])
    assert answers.rank.tolist() == [0]


def test_begins_with_an_empty_catalogue(case: Case) -> None:
    race = Race(case.make(QUESTION, 0))
    race.warm_up([])
    [(_, first, _), (_, second, _)] = race.run([click("u1", "a", 0), click("u1", "a", 10)])
    assert first.rank.tolist() == [0]
    assert first.top.tolist() == [[-1] * 5]
    assert second.rank.tolist() == [1]


def test_a_user_never_seen_gets_a_list(case: Case) -> None:
    [(_, answers, _)] = raced(case, circle(200), [click("new", "i1", 1000)])
    assert (answers.top >= 0).all()
    assert answers.rank[0] > 0


def test_the_same_seed_gives_the_same_answers(case: Case) -> None:
    clicks = circle(300)
    one = raced(case, clicks[:200], clicks[200:], seed=3)
    other = raced(case, clicks[:200], clicks[200:], seed=3)
    assert_same(one, other)


def test_answers_do_not_depend_on_what_is_clicked_now_or_later(case: Case) -> None:
    clicks = circle(260)
    users = [f"u{n}" for n in range(10)]
    now = [click(user, f"i{n}", 1000 + n / 100) for n, user in enumerate(users)]
    others = [click(user, f"i{39 - n}", 1000 + n / 100) for n, user in enumerate(users)]
    [(_, one, _)] = raced(case, clicks, now)
    [(_, other, _)] = raced(case, clicks, others)
    assert np.array_equal(one.top, other.top)
    assert not np.array_equal(one.rank, other.rank)


def test_answering_teaches_nothing(case: Case) -> None:
    clicks = circle(300)
    often, seldom = (Race(case.make(QUESTION, 0)) for _ in range(2))
    for race in (often, seldom):
        race.warm_up(clicks[:200])
    often.run(clicks[200:290])
    seldom.run(clicks[200:290], asked=False)
    assert_same(often.run(clicks[290:]), seldom.run(clicks[290:]))


def test_exclude_seen(case: Case) -> None:
    clicks = tastes(300)
    for tick, answers, _ in raced(case, clicks[:100], clicks[100:], Question(5, exclude_seen=True)):
        rows = tick.history(100)
        for b in range(len(tick)):
            had = {int(row) for row in rows[b]} - {-1}
            assert not had & set(answers.top[b].tolist())
            assert tick.target[b] not in had or answers.rank[b] > QUESTION.length


@pytest.mark.parametrize(("log", "k"), [(circle, 3), (tastes, 20)], ids=["circle", "tastes"])
def test_learns(case: Case, log: Callable[[int], list[Click]], k: int) -> None:
    if log.__name__ not in case.learns:
        pytest.skip("it does not learn such a thing")
    clicks = log(1600)
    ours = recall(raced(case, clicks[:1000], clicks[1000:]), k)
    popular = recall(raced(CASES["popularity"], clicks[:1000], clicks[1000:]), k)
    assert ours > popular + 0.25


def assert_same(one: list[tuple[Tick, Answers, int]], other: list[tuple[Tick, Answers, int]]) -> None:
    for (_, ours, _), (_, theirs, _) in zip(one, other, strict=True):
        assert np.array_equal(ours.rank, theirs.rank)
        assert np.array_equal(ours.top, theirs.top)
