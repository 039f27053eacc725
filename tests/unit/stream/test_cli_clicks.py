from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from eddyline.replay.layouts import LAYOUTS
from eddyline.replay.logs import Columns
from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.records import Click
from eddyline.stream.cli import main
from eddyline.stream.cli.logs import DEFAULT_COLUMNS, LogColumns, logged_clicks
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.publish import Published
from eddyline.stream.topics import Topics

pytestmark = pytest.mark.usefixtures("elsewhere", "broker_answers")


@dataclass
class Sink:
    """Stands in for Kafka: keeps what `publish` was asked to send."""

    clicks: list[Click] = field(default_factory=list)
    topic: str = ""
    rate: float | None = None
    speed: float | None = None
    interrupted: bool = False

    def __call__(
        self,
        clicks: Iterable[Click],
        kafka: KafkaSettings,
        topics: Topics,
        *,
        rate: float | None = None,
        speed: float | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Published:
        self.clicks = list(clicks)
        self.topic, self.rate, self.speed = topics.clicks, rate, speed
        assert on_progress is not None
        on_progress(len(self.clicks))
        return Published(len(self.clicks), 0.5, self.interrupted)


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Sink:
    sink = Sink()
    monkeypatch.setattr("eddyline.stream.publish.publish", sink)
    return sink


@pytest.fixture
def log(tmp_path: Path) -> str:
    file = tmp_path / "log.csv"
    file.write_text("who,what,when\nu1,i1,1700000000\nu2,,1700000001\nu3,i3,1700000002\n")
    return str(file)


COLUMNS = ["--user-column", "who", "--item-column", "what", "--time-column", "when"]


def test_the_column_flags_are_those_of_the_reader() -> None:
    assert Columns(**asdict(DEFAULT_COLUMNS)) == Columns()
    assert set(asdict(DEFAULT_COLUMNS)) == set(Columns.model_fields)


def test_a_log_is_sent_by_its_columns_at_its_pace(sink: Sink, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    pace = ["--rate", "100", "--speed", "10x", "--set", "topics.prefix=shop"]
    assert main(["publish", log, *COLUMNS, "--skip-bad", "--default-kind", "view", *pace]) == 0
    assert [(click.user_id, click.item_id, click.kind) for click in sink.clicks] == [
        ("u1", "i1", "view"),
        ("u3", "i3", "view"),
    ]
    assert (sink.topic, sink.rate, sink.speed) == ("shop.clicks.v1", 100, 10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "log.csv:3" in captured.err
    assert "skipped 1 bad row of" in captured.err
    assert "published 2 clicks to shop.clicks.v1 (4/s)" in captured.err


def test_a_bad_row_stops_unless_told_otherwise(sink: Sink, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", log, *COLUMNS]) == 1
    assert "line 3" in capsys.readouterr().err


def test_only_the_first_bad_rows_are_told(sink: Sink, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("user_id,item_id,timestamp\n" + "u,,1700000000\n" * 50)
    assert main(["publish", str(file), "--skip-bad"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum("item_id" in line for line in lines) == 5
    assert any("skipped 50 bad rows" in line for line in lines)


def test_limit_cuts_a_log(sink: Sink, log: str) -> None:
    assert main(["publish", log, *COLUMNS, "--limit", "1"]) == 0
    assert [click.user_id for click in sink.clicks] == ["u1"]


def test_a_published_file_is_sent_in_the_order_of_time(
    sink: Sink, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "u.data"
    file.write_text("196\t242\t3\t881250949\n22\t377\t1\t878887116\n")
    assert main(["publish", str(file), "--layout", "movielens"]) == 0
    assert [(click.user_id, click.item_id, click.value) for click in sink.clicks] == [
        ("22", "377", 1),
        ("196", "242", 3),
    ]
    assert "u.data: files of the layout movielens are not in the order of time" in capsys.readouterr().err


def test_that_a_layout_is_sorted_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "u.data"
    log.write_text("196\t242\t3\t881250949\n22\t377\t1\t878887116\n")
    for _ in range(2):
        clicks, _ = logged_clicks(log, LogColumns(layout="movielens"), None, None)
        assert len(list(clicks)) == 2
    assert capsys.readouterr().err.count("reading all of it to sort it") == 1


def test_the_help_names_every_layout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in LAYOUTS)


def test_a_made_up_stream_is_the_one_of_its_seed(sink: Sink) -> None:
    assert main(["publish", "--synthetic", "--clicks", "50", "--seed", "7", "--limit", "20"]) == 0
    assert sink.clicks == list(synthetic_clicks(SyntheticSettings(clicks=50, seed=7)))[:20]


def test_an_interrupted_run_tells_what_it_sent(sink: Sink, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    sink.interrupted = True
    assert main(["publish", log, *COLUMNS, "--limit", "1"]) == 130
    assert "published 1 clicks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either a LOG or --synthetic"),
        (["log.csv", "--synthetic"], "give either a LOG or --synthetic"),
        (["log.csv", "--clicks", "5"], "belong to --synthetic"),
        (["log.csv", "--rate", "0"], "--rate 0: want more than 0"),
        (["log.csv", "--limit", "-1"], "--limit -1: want more than 0"),
        (["log.csv", "--speed", "fast"], "--speed fast: want a factor such as 10x"),
        (["log.csv", "--speed", "infx"], "--speed infx"),
        (["--synthetic", "--seed", "-3"], "--seed"),
        (["absent.csv"], "absent.csv: there is no such file"),
        (["log.xls"], "log.xls: unknown kind of log"),
        (["u.data", "--layout", "movilens"], "--layout movilens: there is no such layout; did you mean `movielens`?"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    sink: Sink, log: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert sink.clicks == []
