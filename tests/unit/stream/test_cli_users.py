from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from eddyline.stream.cli import main
from eddyline.stream.erasure import Receipt

pytestmark = pytest.mark.usefixtures("elsewhere", "broker_answers")

TWO = ["--set", "topics.partitions=2"]


@pytest.fixture
def receipts(monkeypatch: pytest.MonkeyPatch) -> list[Receipt]:
    given = [
        Receipt(user_hash="1", by="worker", at_ms=1, partition=0),
        Receipt(user_hash="1", by="worker", at_ms=1, partition=1, states=1),
        Receipt(user_hash="1", by="trainer", at_ms=1, examples=12, clicks=3),
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
        "the trainer erased 12 examples and 3 clicks",
    ]
    assert captured.err == ""
    assert main(["state", "forget", "somebody", "--json", *TWO]) == 0
    assert [row["by"] for row in json.loads(capsys.readouterr().out)] == ["worker", "worker", "trainer"]


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
