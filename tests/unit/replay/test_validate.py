from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from eddyline.replay.clean import Cleaned, check_target, write_clean
from eddyline.replay.click_table import ClickTable, read_table
from eddyline.replay.findings import Finding
from eddyline.replay.flaws import flawed
from eddyline.replay.logs import Columns, LogError, read_log
from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.replay.validate import ValidateSettings, validate
from eddyline.state.errors import ConfigurationError, EddylineError

REAL_LOGS = Path(__file__).parents[4] / "shared" / "data"
NAMES = ("timestamp", "user_id", "item_id", "event_type", "event_id")
START = 1_700_000_000
NOBODY = (("NULL", "i"), ("u", " -1"), ("u", "nan"))
NOW_MS = 1_800_000_000_000

Line = tuple[object, ...]


def write(folder: Path, lines: Iterable[Line], name: str = "log.csv", header: tuple[str, ...] = NAMES[:4]) -> Path:
    path = folder / name
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


def some_clicks(count: int = 2000) -> list[Line]:
    """Clicks of a log with nothing wrong about it."""
    made = synthetic_clicks(SyntheticSettings(clicks=count, users=60, items=50, topics=4))
    return [(click.ts_ms, click.user_id, click.item_id, click.kind) for click in made]


def checked(path: Path, columns: Columns | None = None, **settings: float) -> dict[str, Finding]:
    table = read_table(path, columns or Columns())
    return {one.check: one for one in validate(table, ValidateSettings(NOW_MS, **settings))}


def checked_lines(folder: Path, lines: Iterable[Line], **settings: float) -> dict[str, Finding]:
    return checked(write(folder, lines), **settings)


def test_a_good_log_passes_everything(tmp_path: Path) -> None:
    found = checked_lines(tmp_path, some_clicks())
    assert {one.verdict for one in found.values()} == {"PASS"}
    assert list(found) == [
        "rows", "order of time", "duplicates", "event ids", "future", "past", "gaps", "kinds", "bots", "unknown ids",
        "users with one click", "items with one click", "user is item", "ties", "order by item id", "boundary",
    ]  # fmt: skip


def test_bad_rows_fail_and_name_line_and_field(tmp_path: Path) -> None:
    found = checked_lines(tmp_path, [*some_clicks(50), (START * 1000, "", "i", "v"), ("soon", "u", "i", "v")])["rows"]
    assert (found.verdict, found.count) == ("FAIL", 2)
    assert [(example.line, example.note[:18]) for example in found.examples] == [
        (52, "`user_id` is empty"),
        (53, "`timestamp` is 'so"),
    ]


def test_an_empty_log_fails_and_nothing_else_is_looked_at(tmp_path: Path) -> None:
    found = checked_lines(tmp_path, [])
    assert list(found) == ["rows"]
    assert found["rows"].verdict == "FAIL"
    assert "empty" in found["rows"].remedy


def test_few_clicks_are_looked_at_but_warn_that_they_are_few(tmp_path: Path) -> None:
    found = checked_lines(tmp_path, [(START, "u", "i", "v")])
    assert len(found) == 16
    assert (found["rows"].verdict, found["rows"].found) == ("WARN", "0 rows cannot be read, 1 can")
    assert found["users with one click"].verdict == "PASS"
    assert found["users with one click"].found == "1 of 1 user (100%) has one click; too few clicks to judge"
    assert checked_lines(tmp_path, some_clicks(100))["rows"].verdict == "PASS"


class TestOrder:
    def test_late_clicks_fail(self, tmp_path: Path) -> None:
        lines = some_clicks(100)
        found = checked_lines(tmp_path, [*lines[50:], *lines[:50]])["order of time"]
        assert (found.verdict, found.count) == ("FAIL", 50)
        assert found.examples[0].line == 52

    def test_a_layout_is_sorted_when_it_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "u.data"
        path.write_text("1\t10\t3\t881250949\n2\t11\t3\t881250940\n")
        found = checked(path, Columns(layout="movielens"))["order of time"]
        assert (found.verdict, found.count) == ("PASS", 1)


class TestRepeated:
    def test_clicks_with_the_same_user_item_time_and_kind(self, tmp_path: Path) -> None:
        same = (START, "u", "i", "view")
        lines = [same, (START, "u", "i", "buy"), (START, "u", "j", "view"), same, same]
        found = checked_lines(tmp_path, lines)["duplicates"]
        assert (found.verdict, found.count) == ("WARN", 2)
        assert [example.line for example in found.examples] == [5, 6]

    def test_event_ids(self, tmp_path: Path) -> None:
        lines = [(START + n, "u", f"i{n}", "v", event) for n, event in enumerate("abcab")]
        found = checked(write(tmp_path, lines, header=NAMES))["event ids"]
        assert (found.verdict, found.count) == ("FAIL", 2)
        assert [example.line for example in found.examples] == [5, 6]

    def test_a_copy_on_the_other_side_of_the_boundary_fails(self, tmp_path: Path) -> None:
        lines = some_clicks(200)
        repeated = checked_lines(tmp_path, [*lines[:99], *lines[:2], *lines[99:]])["boundary"]
        assert repeated.verdict == "PASS"  # both stand before it
        repeated = checked_lines(tmp_path, [*lines, *lines[:2]])["boundary"]
        assert (repeated.verdict, repeated.count) == ("FAIL", 2)
        assert checked_lines(tmp_path, [*lines, *lines[-2:]], warm_up=0.99)["boundary"].count == 2


def test_the_future_fails(tmp_path: Path) -> None:
    found = checked_lines(tmp_path, [(START, "u", "i", "v"), (NOW_MS // 1000 + 5, "u", "j", "v")])["future"]
    assert (found.verdict, found.count, found.examples[0].line) == ("FAIL", 1, 3)


def test_seconds_read_as_milliseconds_are_told_by_their_year(tmp_path: Path) -> None:
    log = write(tmp_path, [(START + n, "u", "i", "v") for n in range(5)])
    found = checked(log, Columns(time_unit="ms"))["past"]
    assert (found.verdict, found.found, found.examples[0].line) == ("WARN", "5 clicks are earlier than 1990", 2)
    assert "--time-unit" in found.remedy
    assert checked(log)["past"].verdict == "PASS"


class TestGaps:
    @staticmethod
    def days(count: int, left_out: range, start_hour: int = 0) -> list[Line]:
        """A click every ten minutes from start_hour to midnight."""
        times = [
            START + day * 86_400 + second
            for day in range(count)
            if day not in left_out
            for second in range(start_hour * 3600, 86_400, 600)
        ]
        return [(at, f"u{at % 7}", f"i{at % 11}", "v") for at in times]

    def test_quiet_nights_are_usual(self, tmp_path: Path) -> None:
        found = checked_lines(tmp_path, self.days(10, range(0), start_hour=9))["gaps"]
        assert found.verdict == "PASS"
        assert "usual day, 9.2 h" in found.found

    def test_missing_days_are_not(self, tmp_path: Path) -> None:
        found = checked_lines(tmp_path, self.days(60, range(30, 32)))["gaps"]
        assert (found.verdict, found.count) == ("WARN", 1)
        assert found.examples[0].note == "48.2 h without a click before it"

    def test_a_stray_time_of_long_ago_is_one(self, tmp_path: Path) -> None:
        found = checked_lines(tmp_path, [(86_400, "u", "i", "v"), *self.days(5, range(0))])["gaps"]
        assert (found.verdict, found.examples[0].line) == ("WARN", 3)


class TestKinds:
    def test_spellings_of_one_kind(self, tmp_path: Path) -> None:
        found = checked_lines(tmp_path, [(START, "u", "i", "view"), (START, "u", "j", "View ")])["kinds"]
        assert (found.verdict, found.count) == ("WARN", 1)

    def test_too_many_to_be_kinds(self, tmp_path: Path) -> None:
        found = checked_lines(tmp_path, [(START + n, "u", "i", f"kind {n}") for n in range(60)])["kinds"]
        assert found.verdict == "WARN"
        assert "--kind-column" in found.remedy


class TestBots:
    def test_a_click_a_second_for_minutes(self, tmp_path: Path) -> None:
        robot = [(START + n, "robot", f"i{n % 40}", "v") for n in range(400)]
        found = checked_lines(tmp_path, robot)["bots"]
        assert (found.verdict, found.count) == ("WARN", 1)
        assert (found.examples[0].user_id, found.examples[0].note) == ("robot", "400 clicks")
        assert checked_lines(tmp_path, robot, bot_rate=60)["bots"].verdict == "PASS"

    def test_a_basket_logged_at_one_instant_is_none(self, tmp_path: Path) -> None:
        assert checked_lines(tmp_path, [(START, "u", f"i{n}", "v") for n in range(400)])["bots"].verdict == "PASS"

    def test_far_more_clicks_than_anybody(self, tmp_path: Path) -> None:
        people = [(START + n * 60, f"u{n % 300}", "i", "v") for n in range(3_000)]
        crawler = [(START + n * 60, "crawler", "i", "v") for n in range(1_500)]
        assert checked_lines(tmp_path, people + crawler)["bots"].examples[0].user_id == "crawler"


class TestIds:
    def test_ids_that_say_there_is_none(self, tmp_path: Path) -> None:
        lines = [*some_clicks(300), *((START * 1000, *ids, "v") for ids in NOBODY)]
        found = checked_lines(tmp_path, lines)["unknown ids"]
        assert (found.verdict, found.count) == ("WARN", 3)
        many = [(START + n, "unknown" if n % 5 == 0 else "u", "i", "v") for n in range(100)]
        assert checked_lines(tmp_path, many)["unknown ids"].verdict == "FAIL"

    def test_one_click_each(self, tmp_path: Path) -> None:
        lines = [(START + n, f"u{n % 150}", f"i{n}", "v") for n in range(200)]
        found = checked_lines(tmp_path, lines)
        users, items = found["users with one click"], found["items with one click"]
        assert (users.verdict, users.count) == ("WARN", 100)
        assert (items.verdict, items.count) == ("FAIL", 200)
        assert "--item-column" in items.remedy

    def test_one_column_for_both(self, tmp_path: Path) -> None:
        found = checked_lines(tmp_path, [(at, user, user, kind) for at, user, _, kind in some_clicks(100)])
        assert found["user is item"].verdict == "FAIL"

    def test_small_numbers_that_happen_to_be_equal_are_fine(self, tmp_path: Path) -> None:
        chance = np.random.default_rng(0)
        lines = [(START + n, chance.integers(50), chance.integers(50), "v") for n in range(2_000)]
        assert checked_lines(tmp_path, lines)["user is item"].verdict == "PASS"


class TestOrderWithinUsers:
    def test_times_too_coarse_to_tell_what_came_first(self, tmp_path: Path) -> None:
        lines = [(START + n // 10 * 86_400, "u", f"i{n * 7 % 10}", "v") for n in range(100)]
        found = checked_lines(tmp_path, lines)["ties"]
        assert (found.verdict, found.count) == ("WARN", 90)

    @pytest.mark.parametrize("name", ["{}", "item-{:04}"])
    def test_users_whose_items_rise_leak_the_next_one(self, tmp_path: Path, name: str) -> None:
        chance = np.random.default_rng(1)
        lines: list[Line] = []
        for user in range(30):
            items = sorted(chance.choice(2_000, 8, replace=False))
            lines += [(START + user * 100 + n, f"u{user}", name.format(item), "v") for n, item in enumerate(items)]
        found = checked_lines(tmp_path, lines)["order by item id"]
        assert (found.verdict, found.count) == ("FAIL", 30)

    def test_ties_sorted_by_item(self, tmp_path: Path) -> None:
        chance = np.random.default_rng(2)
        lines: list[Line] = []
        for at in range(100):
            items = sorted(chance.choice(2_000, 4, replace=False))
            lines += [(START + at * 3_600, f"u{at % 10}", item, "v") for item in items]
        found = checked_lines(tmp_path, lines)["order by item id"]
        assert (found.verdict, found.count) == ("WARN", 0)
        assert "100% of the ties" in found.found
        assert found.examples


class TestClean:
    LINES = (
        (START + 9, "u", "late", "v", "e1"),
        (START, "u", "first", "v", "e2"),
        (START, "u", "first", "v", "e3"),
        (START, "u", "second", "v", "e2"),
        (START + 5.5, "null", "i,\n", "v", "e4"),
        ("never", "u", "i", "v", "e5"),
        (NOW_MS // 1000 + 1, "u", "i", "v", "e6"),
    )

    def clean(self, log: Path, target: Path, *, nobody: bool = False) -> Cleaned:
        table = read_table(log, Columns())
        drop = flawed(table, NOW_MS, bot_rate=30, nobody=nobody)
        return write_clean(log, Columns(), table, drop, target)

    @pytest.mark.parametrize("name", ["c.csv", "c.csv.gz", "c.jsonl", "c.jsonl.gz", "c.parquet"])
    def test_what_is_left_is_sorted_and_reads_the_same(self, tmp_path: Path, name: str) -> None:
        log = write(tmp_path, self.LINES, header=NAMES)
        done = self.clean(log, tmp_path / name)
        assert done.dropped == {"bad rows": 1, "future": 1, "duplicates": 1, "repeated event ids": 1, "bots": 0}
        assert (done.clicks, done.moved) == (3, 4)
        clicks = list(read_log(tmp_path / name))
        assert [(click.event_id, click.item_id, click.ts_ms) for click in clicks] == [
            ("e2", "first", START * 1000),
            ("e4", "i,\n", START * 1000 + 5500),
            ("e1", "late", START * 1000 + 9000),
        ]
        assert {path.name for path in tmp_path.iterdir()} == {"log.csv", name}
        assert {one.verdict for check, one in checked(tmp_path / name).items() if check in done.dropped} <= {"PASS"}

    def test_ids_that_say_there_is_none_go_on_request(self, tmp_path: Path) -> None:
        done = self.clean(write(tmp_path, self.LINES, header=NAMES), tmp_path / "c.csv", nobody=True)
        assert (done.clicks, done.dropped["unknown ids"]) == (2, 1)

    def test_bots_go_with_all_their_clicks(self, tmp_path: Path) -> None:
        robot = [(START + n, "robot", f"i{n % 40}", "v") for n in range(400)]
        done = self.clean(write(tmp_path, [*robot, (START + 500, "u", "i", "v")]), tmp_path / "c.csv")
        assert (done.clicks, done.dropped["bots"]) == (1, 400)

    def test_values_and_sessions_are_kept_and_no_event_ids_made_up(self, tmp_path: Path) -> None:
        log = write(tmp_path, [(START, "u", "i", 0.0, "s")], header=(*NAMES[:3], "value", "session_id"))
        self.clean(log, tmp_path / "c.csv")
        assert (tmp_path / "c.csv").read_text() == (
            "timestamp,user_id,item_id,event_type,value,session_id\n1700000000,u,i,click,0.0,s\n"
        )

    def test_bad_rows_are_no_event_ids(self, tmp_path: Path) -> None:
        lines = [(START, "u", "i", "v"), ("never", "u", "i", "v"), (START + 1, "u", "j", "v")]
        self.clean(write(tmp_path, lines), tmp_path / "c.csv")
        assert (tmp_path / "c.csv").read_text().partition("\n")[0] == "timestamp,user_id,item_id,event_type"

    def test_the_same_log_gives_the_same_bytes(self, tmp_path: Path) -> None:
        log = write(tmp_path, some_clicks(50))
        for name in ("a.csv.gz", "b.csv.gz"):
            self.clean(log, tmp_path / name)
        assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()

    def test_a_layout_with_the_newest_first(self, tmp_path: Path) -> None:
        log = tmp_path / "log.tsv"
        rows = [("10:00:01", "third"), ("10:00:00", "second"), ("10:00:00", "first")]
        log.write_text("".join(f"u\t2009-05-04T{at}Z\ta\tA\t{track}\tT\n" for at, track in rows))
        columns = Columns(layout="lastfm-1k")
        table = read_table(log, columns)
        write_clean(log, columns, table, {}, tmp_path / "c.csv")
        assert [click.item_id for click in read_log(tmp_path / "c.csv")] == ["first", "second", "third"]
        assert [click.item_id for click in read_log(log, columns)] == ["first", "second", "third"]

    def test_a_log_that_grew_in_between(self, tmp_path: Path) -> None:
        log = write(tmp_path, some_clicks(20))
        table = read_table(log, Columns())
        write(tmp_path, some_clicks(30))
        with pytest.raises(LogError, match="has changed while it was read"):
            write_clean(log, Columns(), table, {}, tmp_path / "c.csv")
        assert not (tmp_path / "c.csv").exists()

    def test_targets_that_cannot_be(self, tmp_path: Path) -> None:
        log = write(tmp_path, some_clicks(5))
        for target, said in (
            (tmp_path / "c.xls", r"must end in \.csv"),
            (tmp_path / "c.parquet.gz", r"must end in \.csv"),
            (tmp_path / "none" / "c.csv", "there is no folder"),
            (tmp_path / "." / "log.csv", "the log itself"),
        ):
            with pytest.raises(ConfigurationError, match=said):
                check_target(log, target)

    def test_a_target_that_is_there(self, tmp_path: Path) -> None:
        log, target = write(tmp_path, some_clicks(5)), write(tmp_path, some_clicks(1), "c.csv")
        with pytest.raises(ConfigurationError, match=r"c\.csv: it exists; .* with --force"):
            check_target(log, target)
        check_target(log, target, force=True)
        with pytest.raises(ConfigurationError, match="the log itself"):
            check_target(log, log, force=True)

    def test_a_target_that_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "c.csv").mkdir()
        with pytest.raises(EddylineError, match=r"--write .*c\.csv: cannot be written"):
            self.clean(write(tmp_path, some_clicks(5)), tmp_path / "c.csv")


def test_progress_ends_with_every_click(tmp_path: Path) -> None:
    log, told = write(tmp_path, some_clicks(30)), []
    table: ClickTable = read_table(log, Columns(), told.append)
    write_clean(log, Columns(), table, {}, tmp_path / "c.csv", told.append)
    assert (told[0], told[-1]) == (30, 30)


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("deskdrop", {"duplicates", "gaps"}),
        ("movietweetings-100k", {"gaps"}),
        ("online-retail", {"duplicates", "gaps", "ties"}),
        ("yoochoose-100k", {"duplicates"}),
        ("trivago", {"duplicates", "items with one click"}),
    ],
)
def test_real_logs_fail_nothing(name: str, warned: set[str]) -> None:
    path = REAL_LOGS / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    found = checked(path)
    assert {check for check, one in found.items() if one.verdict == "WARN"} == warned
    assert "FAIL" not in {one.verdict for one in found.values()}
