from __future__ import annotations

import json
from pathlib import Path

import pytest

from eddyline.stream.cli import main

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def log(tmp_path: Path) -> str:
    """Four clicks, one of them twice, one too early, one bad row."""
    file = tmp_path / "log.csv"
    file.write_text(
        "who,what,when\nu1,i1,1700000000\nu2,i2,1700000009\nu2,i2,1700000009\nnull,i3,1700000005\nu3,,1700000010\n"
    )
    return str(file)


COLUMNS = ["--user-column", "who", "--item-column", "what", "--time-column", "when"]


def test_findings_go_to_stdout_and_the_summary_to_stderr(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", log, *COLUMNS]) == 3
    captured = capsys.readouterr()
    assert "FAIL  order of time         1      1 click comes after a later one" in captured.out
    assert "FAIL rows\n  line 6: `what` is empty\n  → correct them" in captured.out
    assert "WARN duplicates\n  line 4: user u2, item i2, 2023-11-14T22:13:29.000Z\n  → " in captured.out
    assert "4 clicks of 3 users on 3 items, 2023-11-14T22:13:20.000Z to 2023-11-14T22:13:29.000Z" in captured.err
    assert "4 checks failed, 1 warns" in captured.err
    assert not [line for line in captured.out.splitlines() if line.endswith(" ")]
    assert "--skip-bad" not in captured.out  # it has no such flag


def test_json_is_one_document(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", log, *COLUMNS, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["clicks"], told["users"], told["first_ms"], told["written"]) == (4, 3, 1_700_000_000_000, None)
    rows = next(one for one in told["findings"] if one["check"] == "rows")
    assert (rows["verdict"], rows["count"], rows["examples"][0]["line"]) == ("FAIL", 1, 6)


def test_a_clean_log_says_what_it_leaves_out(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", log, *COLUMNS, "--write", "clean.jsonl.gz", "--drop-bots", "--drop-unknown"]) == 3
    said = capsys.readouterr().err
    assert "wrote 2 clicks to clean.jsonl.gz; dropped: 1 bad rows, 0 future, 1 duplicates, " in said
    assert "0 repeated event ids, 0 bots, 1 unknown ids; 1 moved to their time" in said
    assert main(["validate", "clean.jsonl.gz"]) == 0


def test_a_published_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n22\t377\t1\t878887116\n")
    assert main(["validate", "u.data", "--layout", "movielens", "--write", "ml.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"]["clicks"] == 2
    assert main(["validate", "ml.parquet"]) == 0


def test_an_empty_log_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n")
    assert main(["validate", "log.csv", "--write", "clean.csv"]) == 3
    assert "the log is empty" in capsys.readouterr().out
    assert (tmp_path / "clean.csv").read_text() == "timestamp,user_id,item_id,event_type\n"


def test_an_existing_file_is_kept_unless_forced(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clean.csv").write_text("mine")
    assert main(["validate", log, *COLUMNS, "--write", "clean.csv"]) == 2
    assert "--write clean.csv: it exists" in capsys.readouterr().err
    assert (tmp_path / "clean.csv").read_text() == "mine"
    assert main(["validate", log, *COLUMNS, "--write", "clean.csv", "--force"]) == 3
    assert (tmp_path / "clean.csv").read_text() != "mine"


def test_one_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.csv").write_text("user_id,item_id,timestamp\nu,i,1700000000\n")
    assert main(["validate", "one.csv"]) == 0
    assert "1 click of 1 user on 1 item" in capsys.readouterr().err
    (tmp_path / "one.csv").write_text("user_id,item_id,timestamp\nu,i,never\n")
    assert main(["validate", "one.csv"]) == 3
    assert "1 check failed, 0 warn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.csv"], "absent.csv: there is no such file"),
        (["log.csv", "--layout", "mynd"], "did you mean `mind`?"),
        (["log.csv", "--warmup", "1"], "--warmup 1: want a share between 0 and 1"),
        (["log.csv", "--bot-rate", "0"], "--bot-rate 0: want more than 0"),
        (["log.csv", "--drop-bots"], "belong to --write CLEAN"),
        (["log.csv", "--force"], "belong to --write CLEAN"),
        (["log.csv", "--write", "log.csv"], "that is the log itself"),
        (["log.csv", "--write", "clean.txt"], "must end in .csv"),
        (["log.csv"], "there is no column `user_id`"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    log: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", *arguments]) == 2
    assert said in capsys.readouterr().err
