from __future__ import annotations

import gzip
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from eddyline.replay import layouts
from eddyline.replay.layouts import LAYOUTS, layout_named
from eddyline.replay.logs import Columns, LogError, read_log
from eddyline.state.errors import ConfigurationError
from eddyline.state.records import Click

# As each file is published: the layout, its name there, some lines, and the clicks in the order of time.
PUBLISHED = [
    (
        "movielens",
        "u.data",
        "196\t242\t3\t881250949\n186\t302\t3\t891717742\n22\t377\t1\t878887116\n",
        ["22 377 rating 1.0", "196 242 rating 3.0", "186 302 rating 3.0"],
    ),
    (
        "movielens",
        "ratings.dat",
        "1::1193::5::978300760\n1::661::3::978302109\n2::1357::4.5::978298709\n",
        ["2 1357 rating 4.5", "1 1193 rating 5.0", "1 661 rating 3.0"],
    ),
    (
        "movielens",
        "ratings.csv",
        "userId,movieId,rating,timestamp\r\n1,1,4.0,964982703\r\n1,3,4.0,964981247\r\n",
        ["1 3 rating 4.0", "1 1 rating 4.0"],
    ),
    (
        "retailrocket",
        "events.csv",
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n1433224214164,992329,view,248676,\n1433221999827,111016,transaction,318965,7\n",
        ["257597 355908 view None", "111016 318965 transaction None", "992329 248676 view None"],
    ),
    (
        "yoochoose",
        "yoochoose-clicks.dat",
        "1,2014-04-07T10:54:09.868Z,214536500,0\n1,2014-04-07T10:51:09.277Z,214536502,S\n",
        ["1 214536502 click None", "1 214536500 click None"],
    ),
    (
        "yoochoose",
        "yoochoose-buys.dat",
        "420374,2014-04-06T18:44:58.325Z,214537850,10471,1\n420374,2014-04-06T18:44:58.314Z,214537888,12462,1\n",
        ["420374 214537888 purchase 12462.0", "420374 214537850 purchase 10471.0"],
    ),
    (
        "taobao",
        "UserBehavior.csv",
        "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,cart,1511561733\n100,2576651,149192,buy,1511552000\n",
        ["1 2268318 pv None", "100 2576651 buy None", "1 2333346 cart None"],
    ),
    (
        "lastfm-1k",
        "userid-timestamp-artid-artname-traid-traname.tsv",
        'user_000001\t2009-05-04T23:08:57Z\tf1b1cf71\tDeep Dish\t\tSay "Hello\n'
        "user_000001\t2009-05-04T13:54:10Z\ta7f7df4a\t坂本龍一\tf7c1f8f8\tComposition 0919\n",
        ["user_000001 f7c1f8f8 listen None", 'user_000001 Deep Dish - Say "Hello listen None'],
    ),
    (
        "mind",
        "behaviors.tsv",
        "1\tU13740\t11/11/2019 9:05:58 PM\tN55189 N42782\tN55689-1 N35729-0\n"
        "2\tU91836\t11/11/2019 9:05:57 AM\t\tN20678-0 N39317-1 N58133-1\n"
        "3\tU73700\t11/14/2019 7:01:48 AM\tN10732\tN50014-0\n",
        ["U91836 N39317 click None", "U91836 N58133 click None", "U13740 N55689 click None"],
    ),
]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def read(path: Path, layout: str, **columns: str) -> list[Click]:
    return list(read_log(path, Columns.model_validate({"layout": layout, **columns})))


def in_short(clicks: list[Click]) -> list[str]:
    return [f"{click.user_id} {click.item_id} {click.kind} {click.value}" for click in clicks]


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(("layout", "name", "text", "clicks"), PUBLISHED)
def test_a_published_file_is_read_in_the_order_of_time(
    tmp_path: Path, layout: str, name: str, text: str, clicks: list[str], packed: str
) -> None:
    found = read(write(tmp_path, name + packed, text), layout)
    assert in_short(found) == clicks
    assert all(before.ts_ms <= after.ts_ms for before, after in pairwise(found))


def test_every_layout_is_read_here_and_documented() -> None:
    assert {layout for layout, *_ in PUBLISHED} == set(LAYOUTS)
    assert layouts.__doc__ is not None
    for name in LAYOUTS:
        assert f"| `{name}` |" in layouts.__doc__


def test_times_are_exact_and_utc(tmp_path: Path) -> None:
    at = {}
    for layout, name, text, _ in PUBLISHED:
        at[name] = read(write(tmp_path, name, text), layout)[0].ts_ms
    assert at["yoochoose-clicks.dat"] == round(datetime(2014, 4, 7, 10, 51, 9, 277_000, UTC).timestamp() * 1000)
    assert at["behaviors.tsv"] == round(datetime(2019, 11, 11, 9, 5, 57, tzinfo=UTC).timestamp() * 1000)
    assert at["events.csv"] == 1_433_221_332_117
    assert at["u.data"] == 878_887_116_000


def test_twelve_o_clock_of_mind(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "behaviors.tsv",
        "1\tU\t11/11/2019 12:00:00 PM\t\tN1-1\n2\tU\t11/11/2019 12:30:00 AM\t\tN2-1\n",
    )
    assert [click.item_id for click in read(path, "mind")] == ["N2", "N1"]


def test_the_session_of_yoochoose_is_user_and_session(tmp_path: Path) -> None:
    (click,) = read(write(tmp_path, "a", "7,2014-04-07T10:54:09.868Z,5,0\n"), "yoochoose")
    assert (click.user_id, click.session_id) == ("7", "7")


def test_equal_times_stay_in_the_order_in_which_things_happened(tmp_path: Path) -> None:
    taobao = write(tmp_path, "a", "1,first,0,pv,1511544070\n1,second,0,pv,1511544070\n1,before,0,pv,1511544069\n")
    assert [click.item_id for click in read(taobao, "taobao")] == ["before", "first", "second"]
    rows = "".join(f"u\t2009-05-04T13:54:10Z\ta\tA\t{track}\tT\n" for track in ("second", "first"))
    lastfm = write(tmp_path, "b", rows)  # has the newest first
    assert [click.item_id for click in read(lastfm, "lastfm-1k")] == ["first", "second"]


def test_the_limit_takes_the_earliest(tmp_path: Path) -> None:
    path = write(tmp_path, "u.data", PUBLISHED[0][2])
    assert [click.user_id for click in read_log(path, Columns(layout="movielens"), limit=1)] == ["22"]


def test_column_flags_choose_other_columns_of_a_layout(tmp_path: Path) -> None:
    layout, name, text, _ = PUBLISHED[7]
    path = write(tmp_path, name, text)
    found = read(path, layout, item="artname", default_kind="play")
    assert in_short(found) == ["user_000001 坂本龍一 play None", "user_000001 Deep Dish play None"]
    with pytest.raises(ConfigurationError, match=r"no column `album`.*artname.*--item-column"):
        read(path, layout, item="album")


def test_concatenated_files_may_repeat_their_header(tmp_path: Path) -> None:
    text = PUBLISHED[2][2]
    assert len(read(write(tmp_path, "ratings.csv", text + text), "movielens")) == 4


class TestBadRows:
    @pytest.mark.parametrize(
        ("layout", "good", "bad", "reason"),
        [
            ("taobao", "1,2,3,pv,1511544070", "1,2,3,pv", "4 cells where the layout has 5"),
            ("taobao", "1,2,3,pv,1511544070", "1,2,3,pv,-62167219200", "`timestamp` is '-62167219200'"),
            ("taobao", "1,2,3,pv,1511544070", "1,,3,pv,1511544070", "`item_id` is empty"),
            ("movielens", "1::1193::5::978300760", "1::1193::five::978300760", "`rating` is 'five', not a number"),
            ("lastfm-1k", "u\t2009-05-04T23:08:57Z\ta\tA\ti\tT", "u\tyesterday\ta\tA\ti\tT", "`timestamp` is 'yest"),
            ("lastfm-1k", "u\t2009-05-04T23:08:57Z\ta\tA\ti\tT", "u\t2009-05-04\ta\tA\t\t", "`traid` is empty"),
            ("mind", "1\tU\t11/11/2019 9:05:58 PM\t\tN1-1", "1\tU\t2019-11-11\t\tN1-1", "`time` is '2019-11-11'"),
            (
                "mind",
                "1\tU\t11/11/2019 9:05:58 PM\t\tN1-1",
                "1\tU\t1/1/2019 9:00:00 AM\t\tN1",
                "`impressions` has 'N1'",
            ),
        ],
    )
    def test_name_file_line_and_field(self, tmp_path: Path, layout: str, good: str, bad: str, reason: str) -> None:
        path = write(tmp_path, "log", f"{good}\n\n{bad}\n{good}\n")
        with pytest.raises(LogError) as caught:
            read(path, layout)
        assert str(caught.value).startswith(f"{path}, line 3: {reason}")
        skipped: list[tuple[int, str]] = []
        clicks = list(read_log(path, Columns(layout=layout), on_bad=lambda *row: skipped.append(row)))
        assert len(clicks) == 2
        assert [line for line, _ in skipped] == [3]

    def test_bytes_that_are_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(b"\xff,2,3,pv,1511544070\n1,2,3,pv,1511544070\n")
        with pytest.raises(LogError, match="line 1: `user_id` is not UTF-8"):
            read(path, "taobao")

    def test_a_damaged_first_line_does_not_hide_the_format(self, tmp_path: Path) -> None:
        path = write(tmp_path, "u.data", "196\t242\n186\t302\t3\t891717742\n")
        with pytest.raises(LogError, match="line 1: 2 cells where the layout has 4"):
            read(path, "movielens")


class TestWrongNames:
    @pytest.mark.parametrize(
        ("name", "near"), [("movilens", "movielens"), ("MovieLens-20M", "movielens"), ("lastfm", "lastfm-1k")]
    )
    def test_the_nearest_is_suggested(self, name: str, near: str) -> None:
        with pytest.raises(ConfigurationError, match=rf"--layout {name}: .*did you mean `{near}`\? There are lastfm"):
            layout_named(name)

    def test_where_none_is_near_all_are_named(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            layout_named("xyz")
        assert "did you mean" not in str(caught.value)
        assert ", ".join(LAYOUTS) in str(caught.value)

    def test_a_file_of_another_layout(self, tmp_path: Path) -> None:
        path = write(tmp_path, "events.csv", "1,2,3\n")
        with pytest.raises(
            ConfigurationError, match=r"not of the layout `retailrocket`, whose lines are 'timestamp,vis"
        ):
            read(path, "retailrocket")

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="there is no such file"):
            read(tmp_path / "u.data", "movielens")

    def test_a_truncated_gzip(self, tmp_path: Path) -> None:
        path = write(tmp_path, "u.data.gz", "".join(f"{n}\t{n * 7919}\t3\t{881250949 + n}\n" for n in range(20_000)))
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(LogError, match=r"cannot be read.*complete"):
            read(path, "movielens")
