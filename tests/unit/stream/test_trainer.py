"""A trainer that lost its partition leaves everything to the next one, which misses nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from eddyline.state.errors import EddylineError
from eddyline.state.examples import Examples
from eddyline.stream import trainer as module
from eddyline.stream.config import load_settings
from eddyline.stream.follow import Record
from eddyline.stream.membership import Expelled
from eddyline.stream.trainer import Trainer


def make(tmp_path: Path) -> Trainer:
    folders = {"model_store.url": str(tmp_path / "models"), "state.folder": str(tmp_path / "state")}
    return Trainer(load_settings(None, folders, {}))


def test_nothing_is_published_of_what_was_dropped_meanwhile(tmp_path: Path) -> None:
    async def work() -> list[Any]:
        trainer, published = make(tmp_path), list[Any]()

        async def publish(training: Any) -> None:
            published.append(training)

        trainer._training, trainer._published_at = SimpleNamespace(learner=None, recall=dict), 0  # type: ignore[assignment]
        trainer._publish = publish  # type: ignore[method-assign]
        await trainer._busy.acquire()  # it is learning
        revoking = asyncio.create_task(trainer._revoked(None, set()))
        ticking = asyncio.create_task(trainer._tick())
        await asyncio.sleep(0.7)
        trainer._busy.release()
        await revoking
        await asyncio.sleep(0.1)
        ticking.cancel()
        return published

    assert asyncio.run(work()) == []


def test_what_was_learned_is_not_saved_by_whoever_is_no_member_any_more(tmp_path: Path) -> None:
    async def work() -> list[str]:
        trainer, done = make(tmp_path), list[str]()

        async def confirm() -> None:
            raise Expelled

        async def commit() -> None:
            done.append("committed")

        trainer._training = SimpleNamespace(checkpoint=lambda: done.append("saved"))  # type: ignore[assignment]
        trainer._membership.confirm = confirm  # type: ignore[method-assign]
        trainer.app = SimpleNamespace(consumer=SimpleNamespace(commit=commit))  # type: ignore[assignment]
        await trainer.drain()
        return done

    assert asyncio.run(work()) == ["committed"]


def test_the_others_wait_for_a_first_model(tmp_path: Path) -> None:
    async def work() -> float:
        return float(make(tmp_path).app.conf.broker_rebalance_timeout)

    assert asyncio.run(work()) >= 3600


def test_a_first_model_is_not_saved_by_whoever_is_no_member_any_more(tmp_path: Path) -> None:
    done: list[str] = []

    async def work() -> None:
        trainer = make(tmp_path)

        async def confirm() -> None:
            assert done == ["trained"]
            raise Expelled

        trainer._membership.confirm = confirm  # type: ignore[method-assign]
        training: Any = SimpleNamespace(
            gathered=1, pretrain=lambda _: done.append("trained"), begin_with=lambda _: done.append("saved")
        )
        await trainer._pretrain(training)

    with pytest.raises(Expelled):
        asyncio.run(work())
    assert done == ["trained"]


class Log:
    """A topic of requests to forget, followed three at a time; its oldest records may be deleted."""

    oldest = 0

    def __init__(self, kafka: object, topic: str, start: int) -> None:
        assert topic.endswith("examples.v1")
        self.next = start

    async def start(self, *, patient: bool, skip_deleted: bool) -> None:
        assert patient
        assert skip_deleted
        self.next = max(self.next, self.oldest)

    async def poll(self) -> list[Record]:
        begin, self.next = self.next, self.next + 3
        return [Record(offset, None, Examples.of_forgotten(offset, 0).encode()) for offset in range(begin, self.next)]

    async def stop(self) -> None:
        pass


class Resumed:
    """Training that has learned up to an offset."""

    def __init__(self, offset: int) -> None:
        self.examples_offset = offset
        self.taken: list[tuple[int, int]] = []
        self.may_pretrain = False

    def fold(self, values: list[bytes], next_offset: int) -> None:
        pass

    def covers(self, examples: Examples) -> bool:
        return True

    def observe(self, examples: Examples, offset: int) -> list[Any]:
        self.examples_offset = offset
        self.taken.append((offset, int(examples.forget[0])))
        return [offset]


def activate(tmp_path: Path, learned: int, first: int) -> tuple[Resumed, list[int], list[str]]:
    """What is learned from, what is confirmed, and what is said, where Kafka's first event is this one."""
    confirmed: list[int] = []
    training = Resumed(learned)

    async def work() -> None:
        trainer = make(tmp_path)

        async def ready(*_: Any) -> Any:
            return training

        async def nothing(*_: Any) -> None:
            pass

        async def confirm(erased: list[Any]) -> None:
            confirmed.extend(erased)

        trainer._become_active = ready  # type: ignore[method-assign]
        trainer._checkpoint = nothing  # type: ignore[method-assign]
        trainer._confirm = confirm  # type: ignore[method-assign]
        trainer._membership.confirm = nothing  # type: ignore[method-assign]
        value = Examples.of_forgotten(first, 0).encode()
        await trainer._observe(SimpleNamespace(message=SimpleNamespace(offset=first, value=value)))

    with capture_logs() as logs:
        asyncio.run(work())
    return training, confirmed, [line["event"] for line in logs if line["log_level"] == "warning"]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> type[Log]:
    monkeypatch.setattr(module, "Follower", Log)
    monkeypatch.setattr(Log, "oldest", 0)
    return Log


def test_what_was_acknowledged_but_is_in_no_checkpoint_is_taken_in_first(tmp_path: Path, log: type[Log]) -> None:
    training, confirmed, warnings = activate(tmp_path, learned=4, first=10)
    assert training.taken == [(offset, offset) for offset in range(5, 11)]
    assert confirmed == list(range(5, 11))
    assert warnings == []


def test_what_was_deleted_meanwhile_is_told_once(tmp_path: Path, log: type[Log]) -> None:
    log.oldest = 8
    training, _, warnings = activate(tmp_path, learned=4, first=10)
    assert [offset for offset, _ in training.taken] == [8, 9, 10]
    assert warnings == ["examples were deleted before they were learned from"]


@pytest.mark.parametrize(("learned", "first", "taken"), [(9, 10, [10]), (10, 10, []), (-1, 10, [10])])
def test_where_nothing_is_missing_nothing_is_read(
    learned: int, first: int, taken: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(module, "Follower")
    assert [offset for offset, _ in activate(tmp_path, learned, first)[0].taken] == taken


class Evidence:
    """The evidence as a follower sees it: Kafka is away for some polls, and what it has then names the item or not."""

    def __init__(self, away: int, left: int) -> None:
        self.away, self.left, self.next, self.end = away, left, 0, 0
        self.waited: list[int] = []

    @property
    def lag(self) -> int:
        return self.end - self.next

    async def poll(self, timeout_ms: int) -> list[Record]:
        self.waited.append(timeout_ms)
        await asyncio.sleep(0.01)
        if len(self.waited) <= self.away or self.next == self.left:
            return []
        self.next += 1
        self.end = self.left
        return [Record(self.next - 1, None, b"evidence")]

    async def look(self) -> None:
        self.end = self.left


def wait_for_counts(tmp_path: Path, follower: Evidence, needed: int, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "_COVER_S", 0.05)
    folded: list[bytes] = []

    async def work() -> None:
        trainer = make(tmp_path)
        trainer._follower = follower  # type: ignore[assignment]
        training: Any = SimpleNamespace(
            fold=lambda values, _: folded.extend(values), covers=lambda _: len(folded) >= needed
        )
        await trainer._wait_for_counts(training, Examples.of_forgotten(1, 0))

    asyncio.run(work())
    return len(folded)


def test_evidence_is_waited_for_as_long_as_kafka_has_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = Evidence(away=30, left=3)
    assert wait_for_counts(tmp_path, follower, 3, monkeypatch) == 3
    assert set(follower.waited[1:]) == {200}


def test_evidence_that_ends_without_the_items_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EddylineError, match=r"that topic .*evidence.* does not name: it was made anew"):
        wait_for_counts(tmp_path, Evidence(away=0, left=2), 3, monkeypatch)
