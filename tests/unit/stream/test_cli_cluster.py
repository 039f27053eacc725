from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from eddyline.stream.cli import main
from eddyline.stream.doctor import Check

pytestmark = pytest.mark.usefixtures("elsewhere", "broker_answers")


def test_status_of_a_broker_that_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", "status"]) == 3
    assert "no broker runs in" in capsys.readouterr().out
    assert main(["broker", "status", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {"running": False, "pid": None, "bootstrap_servers": None}


def test_stopping_what_does_not_run_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", "stop"]) == 0
    assert "no broker runs in" in capsys.readouterr().err


def test_topics_create_lists_what_it_made(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = ["shop.clicks.v1"]
    monkeypatch.setattr("eddyline.stream.topics.create_topics", lambda kafka, topics: made)
    assert main(["topics", "create"]) == 0
    assert capsys.readouterr().out == "shop.clicks.v1\n"
    assert main(["topics", "create", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == made
    made.clear()
    assert main(["topics", "create"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "all topics exist already\n")


@pytest.mark.parametrize(("problems", "code"), [([], 0), (["topic a is missing: create it"], 3)])
def test_topics_check_exits_3_on_problems(
    problems: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("eddyline.stream.topics.check_topics", lambda kafka, topics: problems)
    assert main(["topics", "check"]) == code
    assert capsys.readouterr().out.splitlines() == problems
    assert main(["topics", "check", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == problems


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 3)])
def test_doctor_tells_each_check_and_exits_3_if_one_fails(
    ok: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    def diagnose(kafka: object, topics: object, data_folder: Path, model_store_url: str) -> Iterator[Check]:
        asked.append((data_folder, model_store_url))
        yield Check("broker", ok=True, detail="answers")
        yield Check("topics", ok=ok, detail="looked at", remedy="" if ok else "create them")

    monkeypatch.setattr("eddyline.stream.doctor.diagnose", diagnose)
    flags = ["--set", "state.folder=here", "--set", "model_store.url=there"]
    assert main(["doctor", *flags]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "PASS  broker: answers"
    assert lines[1:] == (["PASS  topics: looked at"] if ok else ["FAIL  topics: looked at", "      → create them"])
    assert asked == [(Path("here"), "there")]
    assert main(["doctor", "--json", *flags]) == code
    assert [row["ok"] for row in json.loads(capsys.readouterr().out)] == [True, ok]
