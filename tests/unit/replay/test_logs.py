from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eddyline.replay.logs import Columns, LogError, estimate_rows, read_log
from eddyline.state.errors import ConfigurationError
from eddyline.state.records import Click

REAL_LOGS = Path(__file__).parents[4] / "shared" / "data"
HEADER = "timestamp,user_id,item_id,event_type,value\n"
LONG_ID = "9223372036854775807123"


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


def only(path: Path, columns: Columns | None = None) -> Click:
    (click,) = read_log(path, columns)
    return click


def seen_rows(path: Path, columns: Columns | None = None) -> tuple[list[str], list[tuple[int, str]]]:
    """Ids of the users read, and the bad rows reported."""
    bad: list[tuple[int, str]] = []
    users = [click.user_id for click in read_log(path, columns, on_bad=lambda *row: bad.append(row))]
    return users, bad


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.jsonl", "log.ndjson.gz", "log.parquet"])
def test_every_format_reads_the_same_clicks(tmp_path: Path, name: str) -> None:
    rows = [
        {"timestamp": 1_700_000_000, "user_id": "u1", "item_id": "i1", "event_type": "view", "value": None},
        {
            "timestamp": 1_700_000_060,
            "user_id": "ü2",
            "item_id": 'i"2,',
            "event_type": "rating",
            "value": 4.5,
        },
    ]
    if name.endswith(".parquet"):
        path = tmp_path / name
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif "csv" in name:
        path = write(tmp_path, name, HEADER + '1700000000,u1,i1,view,\n1700000060,ü2,"i""2,",rating,4.5\n')
    else:
        path = write(tmp_path, name, "\n\n".join(json.dumps(row) for row in rows))
    assert list(read_log(path)) == [
        Click(event_id="log-1", user_id="u1", item_id="i1", ts_ms=1_700_000_000_000, kind="view"),
        Click(event_id="log-2", user_id="ü2", item_id='i"2,', ts_ms=1_700_000_060_000, kind="rating", value=4.5),
    ]


def test_columns_are_mapped_and_optional_ones_may_be_absent(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "who,what,when,visit,id\nu,i,1700000000,s,e9\n")
    columns = Columns(user="who", item="what", time="when", session="visit", event_id="id", default_kind="view")
    assert only(path, columns) == Click(
        event_id="e9", user_id="u", item_id="i", ts_ms=1_700_000_000_000, kind="view", session_id="s"
    )


def test_limit_stops_early_and_the_file_is_closed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", HEADER + "1700000000,u,i,view,\n" * 9)
    assert len(list(read_log(path, limit=4))) == 4
    reader = read_log(path)
    next(reader)
    del reader  # an unclosed file would be a warning, and warnings are errors


class TestIds:
    @pytest.mark.parametrize("written", ["007", "1.0", LONG_ID, " x", "-12"])
    def test_stay_as_written_in_csv(self, tmp_path: Path, written: str) -> None:
        click = only(write(tmp_path, "a.csv", HEADER + f"1700000000,{written},{written},v,\n"))
        assert (click.user_id, click.item_id) == (written, written)

    def test_numbers_of_json_become_their_digits(self, tmp_path: Path) -> None:
        row = f'{{"timestamp": 1700000000, "user_id": {LONG_ID}, "item_id": 7}}'
        click = only(write(tmp_path, "a.jsonl", row))
        assert (click.user_id, click.item_id) == (LONG_ID, "7")

    def test_floats_are_refused_because_they_may_have_lost_digits(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.jsonl", '{"timestamp": 1700000000, "user_id": 1.0, "item_id": 7}')
        with pytest.raises(LogError, match=r"a\.jsonl, line 1: `user_id` is 1\.0.*write ids as text"):
            list(read_log(path))

    def test_integers_and_dictionaries_of_parquet(self, tmp_path: Path) -> None:
        table = pa.table(
            {
                "timestamp": pa.array([1_700_000_000], pa.int64()),
                "user_id": pa.array([9_223_372_036_854_775_807], pa.int64()),
                "item_id": pa.array(["i"]).dictionary_encode(),
            }
        )
        pq.write_table(table, tmp_path / "a.parquet")
        click = only(tmp_path / "a.parquet")
        assert (click.user_id, click.item_id) == ("9223372036854775807", "i")


class TestTimes:
    @pytest.mark.parametrize(
        ("written", "ts_ms"),
        [
            ("1700000000", 1_700_000_000_000),
            ("1700000000.25", 1_700_000_000_250),
            ("1700000000123", 1_700_000_000_123),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14 22:13:20.5", 1_700_000_000_500),
            ("2023-11-15T00:13:20+02:00", 1_700_000_000_000),
        ],
    )
    def test_the_unit_is_found(self, tmp_path: Path, written: str, ts_ms: int) -> None:
        assert only(write(tmp_path, "a.csv", HEADER + f"{written},u,i,v,\n")).ts_ms == ts_ms

    def test_one_odd_row_at_the_start_does_not_decide(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.csv", HEADER + "1700000000123,odd,i,v,\n" + "1700000000,u,i,v,\n" * 3)
        users, bad = seen_rows(path)
        assert users == ["u"] * 3
        assert bad[0][0] == 2
        assert "first rows are in seconds" in bad[0][1]

    def test_the_unit_holds_for_the_whole_file(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.csv", HEADER + "1700000000,u,i,v,\n" * 150 + "2023-11-14,u,i,v,\n")
        with pytest.raises(LogError, match="line 152: `timestamp` is '2023-11-14': want seconds"):
            list(read_log(path))

    def test_a_given_unit_is_taken_at_its_word(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.csv", HEADER + "86400000,u,i,v,\n")
        assert only(path, Columns(time_unit="ms")).ts_ms == 86_400_000

    @pytest.mark.parametrize("written", ["0", "-5", "nan", "inf", "1700000000123456789", "1e400"])
    def test_impossible_times_are_bad_rows(self, tmp_path: Path, written: str) -> None:
        users, bad = seen_rows(write(tmp_path, "a.csv", HEADER + f"1700000000,u,i,v,\n{written},x,i,v,\n"))
        assert users == ["u"]
        assert [line for line, _ in bad] == [3]

    def test_typed_times_of_parquet_need_no_unit(self, tmp_path: Path) -> None:
        at = datetime(2023, 11, 14, 22, 13, 20, 5000, tzinfo=UTC)
        for number, kind in enumerate([pa.timestamp("ns", "UTC"), pa.timestamp("s"), pa.timestamp("us")]):
            table = pa.table(
                {
                    "timestamp": pa.array([at.replace(tzinfo=None)]).cast(kind, safe=False),
                    "user_id": ["u"],
                    "item_id": ["i"],
                }
            )
            path = tmp_path / f"{number}.parquet"
            pq.write_table(table, path)
            assert only(path).ts_ms // 1000 == 1_700_000_000
            assert only(path, Columns(time_unit="s")).ts_ms // 1000 == 1_700_000_000


class TestBadRows:
    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ("1700000000,,i,v,", "`user_id` is empty"),
            ("1700000000,u,,v,", "`item_id` is empty"),
            (",u,i,v,", "`timestamp` is empty"),
            ("soon,u,i,v,", "`timestamp` is 'soon': want seconds since 1970"),
            ("1700000000,u,i,v,cheap", "`value` is 'cheap', not a number"),
            ("1700000000,u,i,v,inf", "`value` is infinite"),
            ("1700000000,u,i", "3 cells where the header has 5"),
            ("1700000000,u,i,v,1,2", "6 cells where the header has 5"),
        ],
    )
    def test_csv_names_file_line_and_field(self, tmp_path: Path, row: str, reason: str) -> None:
        path = write(tmp_path, "a.csv", f"{HEADER}1700000000,ok,i,v,\n{row}\n1700000000,ok,i,v,\n")
        with pytest.raises(LogError) as caught:
            list(read_log(path))
        assert str(caught.value).startswith(f"{path}, line 3: {reason}")
        users, bad = seen_rows(path)
        assert users == ["ok", "ok"]
        assert bad[0][0] == 3
        assert bad[0][1].startswith(reason)

    def test_lines_are_counted_through_quoted_line_breaks_and_empty_lines(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.csv", HEADER + '1700000000,u,"i\nj",v,\n\n1700000000,,i,v,\n')
        assert seen_rows(path) == (["u"], [(5, "`user_id` is empty")])

    def test_a_row_keeps_its_id_whatever_was_bad_before(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.csv", HEADER + "1700000000,,i,v,\n1700000000,u,i,v,\n")
        (click,) = read_log(path, on_bad=lambda *_: None)
        assert click.event_id == "a-2"

    def test_bytes_that_are_not_utf8(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.csv", HEADER.encode() + b"1700000000,\xff,i,v,\n1700000000,u,i,v,\n")
        users, bad = seen_rows(path)
        assert users == ["u"]
        assert bad[0][0] == 2
        assert "`user_id` is not UTF-8" in bad[0][1]

    def test_json_that_is_no_object(self, tmp_path: Path) -> None:
        good = '{"timestamp": 1700000000, "user_id": "u", "item_id": "i"}'
        path = write(tmp_path, "a.jsonl", f'{good}\n[1]\n{{"user_id": \n{{"user_id": "x"}}\n{good}\n')
        users, bad = seen_rows(path)
        assert users == ["u", "u"]
        assert [line for line, _ in bad] == [2, 3, 4]

    def test_nulls_of_parquet_name_the_row(self, tmp_path: Path) -> None:
        rows = [{"timestamp": 1_700_000_000, "user_id": user, "item_id": "i"} for user in ("u", None, "v")]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        assert seen_rows(tmp_path / "a.parquet") == (["u", "v"], [(2, "`user_id` is empty")])
        with pytest.raises(LogError, match=r"a\.parquet, row 2: `user_id` is empty"):
            list(read_log(tmp_path / "a.parquet"))

    def test_an_empty_value_is_none_however_it_is_spelt(self, tmp_path: Path) -> None:
        rows = "".join(f"1700000000,u,i,v,{value}\n" for value in ("", "nan", "NaN", "0"))
        assert [c.value for c in read_log(write(tmp_path, "a.csv", HEADER + rows))] == [None, None, None, 0]


class TestWrongFiles:
    def test_a_missing_column_names_what_there_is_and_the_flag(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.csv", "time,user_id,item_id\n1,u,i\n")
        with pytest.raises(ConfigurationError) as caught:
            list(read_log(path))
        message = str(caught.value)
        for part in (str(path), "`timestamp`", "time, user_id, item_id", "--time-column"):
            assert part in message

    def test_an_optional_column_that_was_asked_for_must_be_there(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.csv", HEADER + "1700000000,u,i,v,\n")
        with pytest.raises(ConfigurationError, match=r"no column `price`.*--value-column"):
            list(read_log(path, Columns(value="price")))

    @pytest.mark.parametrize("name", ["a.txt", "a.parquet.gz", "a"])
    def test_an_unknown_format(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigurationError, match=r"must end in \.csv, \.jsonl"):
            list(read_log(write(tmp_path, name, "x")))

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a.parquet"])
    def test_no_such_file(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigurationError, match="there is no such file"):
            list(read_log(tmp_path / name))

    def test_a_truncated_gzip(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.csv.gz", HEADER + "1700000000,u,i,v,\n" * 5000)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(LogError, match=r"cannot be read.*complete"):
            list(read_log(path))

    def test_parquet_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(LogError, match="cannot be read"):
            list(read_log(write(tmp_path, "a.parquet", "user_id")))

    def test_an_empty_file(self, tmp_path: Path) -> None:
        for name in ("a.csv", "a.jsonl", "a.parquet"):
            with pytest.raises(ConfigurationError, match=f"{name} is empty: check"):
                list(read_log(write(tmp_path, name, "")))
        with pytest.raises(ConfigurationError, match=r"u\.data is empty: check"):
            list(read_log(write(tmp_path, "u.data", ""), Columns(layout="movielens")))
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b""))
        with pytest.raises(ConfigurationError, match=r"a\.csv\.gz is empty once unpacked"):
            list(read_log(tmp_path / "a.csv.gz"))
        assert list(read_log(write(tmp_path, "b.csv", HEADER))) == []

    def test_a_name_that_says_another_compression(self, tmp_path: Path) -> None:
        for name in ("a.csv", "a.jsonl", "a.parquet"):
            (tmp_path / name).write_bytes(gzip.compress(HEADER.encode()))
            with pytest.raises(ConfigurationError, match=f"{name} is compressed with gzip: its name must end in .gz"):
                list(read_log(tmp_path / name))
        (tmp_path / "a.csv.gz").write_text(HEADER)
        with pytest.raises(ConfigurationError, match=r"a.csv.gz is not compressed with gzip: its name must not end"):
            list(read_log(tmp_path / "a.csv.gz"))


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert only(write(tmp_path, "a.csv", "\ufeff" + HEADER + "1700000000,u,i,v,\n")).user_id == "u"


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl"])
def test_the_estimate_of_the_rows_is_close(tmp_path: Path, name: str) -> None:
    row = '{"timestamp": 1700000000}\n' if "jsonl" in name else "1700000000,user,item,view,\n"
    path = write(tmp_path, name, ("" if "jsonl" in name else HEADER) + row * 40_000)
    rows = estimate_rows(path)
    assert rows is not None
    assert abs(rows - 40_000) < 400


def test_the_estimate_is_exact_for_parquet_and_none_for_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": ["u"] * 7}), tmp_path / "a.parquet")
    assert estimate_rows(tmp_path / "a.parquet") == 7
    assert estimate_rows(tmp_path / "none.csv") is None
    assert estimate_rows(write(tmp_path, "empty.csv", "")) is None


@pytest.mark.parametrize(
    ("name", "clicks", "users", "items"),
    [
        ("deskdrop", 72_312, 1_895, 2_987),
        ("movietweetings-100k", 100_000, 16_554, 10_506),
        ("online-retail", 386_326, 4_334, 3_659),
        ("yoochoose-100k", 83_846, 21_210, 2_933),
        ("trivago", 25_092, 6_593, 13_949),
    ],
)
def test_real_logs_are_read_in_full(name: str, clicks: int, users: int, items: int) -> None:
    path = REAL_LOGS / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    count, seen_users, seen_items, last_ms = 0, set(), set(), 0
    for click in read_log(path):
        count += 1
        seen_users.add(click.user_id)
        seen_items.add(click.item_id)
        assert click.ts_ms >= last_ms
        last_ms = click.ts_ms
    assert (count, len(seen_users), len(seen_items)) == (clicks, users, items)
