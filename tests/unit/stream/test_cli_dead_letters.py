from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from eddyline.stream.cli import main
from eddyline.stream.dlq import DeadLetter, dead_letter_headers, parse_dead_letter

pytestmark = pytest.mark.usefixtures("elsewhere", "broker_answers")


def letter(offset: int, value: bytes | None, reason: str) -> DeadLetter:
    headers = dead_letter_headers("eddyline.clicks.v1", 1, offset, "decode", reason)
    return parse_dead_letter(b"user", value, list(headers), dlq_partition=0, dlq_offset=offset)


LETTERS = [
    letter(0, b"not json", "not a JSON object"),
    letter(1, b"\xff[red]\n" + b"x" * 100, "`kind` is empty"),
    letter(2, None, "`kind` is empty"),
]


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(kafka: object, topics: object) -> Iterator[DeadLetter]:
        yield from LETTERS

    monkeypatch.setattr("eddyline.stream.dlq.read_dead_letters", read)


def test_show_is_a_table_that_no_bytes_can_spoil(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", "show"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert len(lines) == 4
    assert "eddyline.clicks.v1/1/0" in lines[1]
    assert "not a JSON object" in lines[1]
    assert "\\xff[red]·xxx" in lines[2]
    assert "…" in lines[2]
    assert captured.err == "3 dead letters in eddyline.clicks.v1.dlq\n"


def test_show_can_be_narrowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", "show", "--json", "--reason", "kind", "--limit", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["offset"] == 1


def test_json_keeps_every_byte(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", "show", "--json"]) == 0
    text, raw, nothing = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (text["key"], text["value"], text["stage"]) == ("user", "not json", "decode")
    assert raw["value"] is None
    assert raw["value_base64"].startswith("/1tyZWRdCnh4")
    assert nothing["value"] is None
    assert "value_base64" not in nothing


def test_replay_passes_the_choice_on_and_tells_the_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def replay(
        kafka: object,
        topics: object,
        *,
        only: Callable[[DeadLetter], bool] | None,
        again: bool,
        on_progress: Callable[[int], None],
    ) -> int:
        chosen = [one for one in LETTERS if only is None or only(one)]
        on_progress(len(chosen))
        return len(chosen) + (100 if again else 0)

    monkeypatch.setattr("eddyline.stream.dlq.replay_dead_letters", replay)
    assert main(["dlq", "replay", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"sent": 3}
    assert main(["dlq", "replay", "--reason", "JSON", "--again"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "sent 101 dead letters to eddyline.clicks.v1 again\n")
