from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Self

import pytest

from eddyline.state.records import RankedItem, Recommendation, decode_recommendation
from eddyline.stream.cli import main

pytestmark = pytest.mark.usefixtures("elsewhere", "broker_answers")


def recommendation(user: str, age_ms: int) -> Recommendation:
    return Recommendation(
        recommendation_id=f"list-of-{user}",
        user_id=user,
        items=[RankedItem(f"item-{number}", 1.0) for number in range(20)],
        model_version=3,
        model_age_ms=0,
        cause="click",
        cause_event_id="event",
        event_ts_ms=1_700_000_000_000 - age_ms,
        produced_ts_ms=1_700_000_000_000,
    )


class Topic:
    """Stands in for the subscription: gives fixed lists and keeps what it was asked for."""

    asked: dict[str, Any]
    skipped = 2

    def __init__(self, kafka: object, topics: object, *, on_erased: Callable[[str], None], **asked: Any) -> None:
        type(self).asked = asked
        self._lists = iter([recommendation("u[1]", 250), recommendation("u2", 36_000_000)])
        on_erased("u3")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Recommendation:
        return next(self._lists)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture(autouse=True)
def topic(monkeypatch: pytest.MonkeyPatch) -> type[Topic]:
    monkeypatch.setattr("eddyline.stream.subscribe.Subscription", Topic)
    return Topic


def test_the_flags_reach_the_subscription(topic: type[Topic]) -> None:
    where = ["--user", "u1", "--offset", "ts=1700000000000", "--count", "3", "--group", "g", "--exit-at-end"]
    assert main(["subscribe", *where]) == 0
    assert topic.asked == {
        "user": "u1",
        "offset": "ts=1700000000000",
        "count": 3,
        "group": "g",
        "exit_at_end": True,
    }


def test_json_is_one_recommendation_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["subscribe", "--json"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert decode_recommendation(lines[0].encode()) == recommendation("u[1]", 250)
    assert [json.loads(line)["user_id"] for line in lines] == ["u[1]", "u2"]
    assert "user u3 was erased" in captured.err
    assert "skipped 2 records" in captured.err


def test_the_table_has_one_header_and_a_line_for_each_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["subscribe"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["time", "user", "after", "model", "cause", "items"]
    assert first.split()[:5] == ["22:13:20", "u[1]", "250", "ms", "3"]
    assert first.rstrip().endswith("item-0, item-1, item-2, item-3, item-4, and 15 more")
    assert "10 h" in second


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--count", "0"], "--count 0: want more than 0"), (["--offset", "yesterday"], "'yesterday'")],
)
def test_wrong_arguments_are_usage_errors(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["subscribe", *arguments]) == 2
    assert said in capsys.readouterr().err
