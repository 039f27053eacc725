from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from eddyline.model.checkpoint import ModelStore, ModelStoreSettings
from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import EngineSettings
from eddyline.model.model import untrained_model
from eddyline.model.versions import counts_to_arrays
from eddyline.replay.runner import Runner
from eddyline.state.records import Click, hash_id
from eddyline.state.user_state import encode_state
from eddyline.stream.cli import main
from eddyline.stream.erasure import Receipt

pytestmark = pytest.mark.usefixtures("elsewhere", "broker_answers")

TWO = ["--set", "topics.partitions=2"]


@pytest.fixture
def receipts(monkeypatch: pytest.MonkeyPatch) -> list[Receipt]:
    given = [
        Receipt(user_hash="1", by="worker", at_ms=1, partition=0),
        Receipt(user_hash="1", by="worker", at_ms=1, partition=1, states=1),
        Receipt(user_hash="1", by="trainer", at_ms=1, partition=0, examples=12, clicks=3),
        Receipt(user_hash="1", by="trainer", at_ms=1, partition=1),
    ]

    def forget(kafka: object, topics: object, user: str, *, timeout_s: float) -> Iterator[Receipt]:
        assert user == "somebody"
        yield from given

    monkeypatch.setattr("eddyline.stream.erasure.forget_user", forget)
    return given


def test_forget_tells_what_each_one_erased(receipts: list[Receipt], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["state", "forget", "somebody", *TWO]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "the worker of partition 0 erased 0 states",
        "the worker of partition 1 erased 1 states",
        "the trainer, asked by partition 0, erased 12 examples and 3 clicks",
        "the trainer, asked by partition 1, erased 0 examples and 0 clicks",
    ]
    assert captured.err == ""
    assert main(["state", "forget", "somebody", "--json", *TWO]) == 0
    assert [row["by"] for row in json.loads(capsys.readouterr().out)] == ["worker", "worker", "trainer", "trainer"]


def test_forget_exits_3_and_names_who_did_not_answer(
    receipts: list[Receipt], capsys: pytest.CaptureFixture[str]
) -> None:
    del receipts[1:]
    assert main(["state", "forget", "somebody", "--timeout", "5", *TWO]) == 3
    told = capsys.readouterr().err
    assert told.startswith("the workers of partitions 1 and the trainer did not answer within 5 s")


def test_nobody_cannot_be_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["state", "forget", ""]) == 2
    assert "the user's id is empty" in capsys.readouterr().err


@pytest.fixture
def changelog(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Stands in for the states topic, with an older state of somebody and a tombstone of somebody else."""
    runner = Runner(EngineSettings(), ClickSettings(), untrained_model(64), Counts())
    records: list[tuple[int, bytes, bytes | None]] = [(1, b"gone", b"US"), (1, b"gone", None)]
    for number in range(3):
        item = f"item-{number}"
        runner.feed([Click(event_id=item, user_id="somebody", item_id=item, ts_ms=1_700_000_000_000, kind="view")])
        records.append((2, b"somebody", encode_state(runner.states["somebody"])))
    monkeypatch.setattr("eddyline.stream.changelog.read_changelog", lambda kafka, topic: iter(records))
    return runner


def test_show_names_the_items_that_the_newest_version_knows(
    changelog: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["state", "show", "somebody", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["user_id"], told["clicks"], told["offset"]) == ("somebody", 3, 2)
    assert [click["item_id"] for click in told["history"]] == [f"#{hash_id(f'item-{n}'):016x}" for n in range(3)]
    ModelStore(ModelStoreSettings()).save(
        {"counts": counts_to_arrays(changelog.counts)}, version=1, parent=0, created_ms=1, trained_until_ms=1,
        cause="online", encoder="00", items=3, examples=0, evidence_offset=1,
    )  # fmt: skip
    assert main(["state", "show", "somebody", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [click["item_id"] for click in told["history"]] == ["item-0", "item-1", "item-2"]
    assert main(["state", "show", "somebody"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].split() == ["2023-11-14", "22:13:20", "item-2"]


def test_show_exits_3_where_nothing_is_kept(changelog: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    for user in ("nobody", "gone"):
        assert main(["state", "show", user]) == 3
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err == f"nothing is kept of user {user}\n"
