"""What RocksDB adds to the contract: files, locks, options, and foreign or damaged folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import rocksdict

from eddyline.state.errors import EddylineError, UnknownFormat
from eddyline.state.rocks_store import RocksPartitionStore, RocksStateStore
from eddyline.state.store import PartitionStore, StateSettings


@pytest.fixture
def settings(tmp_path: Path) -> StateSettings:
    return StateSettings(folder=tmp_path / "state", block_cache_mib=5, write_buffer_mib=4)


def raw(path: Path) -> rocksdict.Rdict:
    return rocksdict.Rdict(str(path), rocksdict.Options(raw_mode=True))


def rocks(part: PartitionStore) -> RocksPartitionStore:
    assert isinstance(part, RocksPartitionStore)
    return part


def test_options_apply_when_an_existing_database_is_opened_again(settings: StateSettings) -> None:
    for offset in range(2):
        with RocksStateStore(settings) as store:
            part = rocks(store.open(0))
            part.write({b"ann": b"1"}, offset)
            assert part.property_int("rocksdb.block-cache-capacity") == 5 << 20
        options = max(
            (settings.folder / "partition-0").glob("OPTIONS-*"), key=lambda p: p.stat().st_mtime_ns
        ).read_text()
        for line in ("filter_policy=bloomfilter", "compression=kLZ4Compression", "keep_log_file_num=3"):
            assert line in options


def test_partitions_share_one_block_cache(settings: StateSettings) -> None:
    with RocksStateStore(settings) as store:
        parts = [rocks(store.open(p)) for p in range(3)]
        for part in parts:
            part.write({b"%d" % n: os.urandom(1000) for n in range(3000)}, 0)
            part.get([b"%d" % n for n in range(3000)])
        usage = {part.property_int("rocksdb.block-cache-usage") for part in parts}
        assert len(usage) == 1
        (shared,) = usage
        assert shared is not None
        assert 0 < shared <= 5 << 20


def test_rows_and_offset_survive_a_new_process(settings: StateSettings) -> None:
    with RocksStateStore(settings) as store:
        store.open(1).write({b"ann": b"1", b"bob": b"2"}, 17, caught_up_ms=5)
    with RocksStateStore(settings) as store:
        part = store.open(1)
        assert list(part.items()) == [(b"ann", b"1"), (b"bob", b"2")]
        assert (part.changelog_offset, part.caught_up_ms, len(part)) == (17, 5, 2)


def test_a_killed_writer_leaves_whole_batches_only(settings: StateSettings) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from eddyline.state.rocks_store import RocksStateStore
        from eddyline.state.store import StateSettings
        store = RocksStateStore(StateSettings(folder=Path(sys.argv[1])))
        part = store.open(0)
        offset = 0
        while True:
            part.write({b"%d" % n: b"%d" % offset for n in range(50)}, offset)
            if offset == 100:
                print("running", flush=True)
            offset += 1
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(settings.folder)], stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "running\n"
            with pytest.raises(EddylineError, match=rf"in use by process {writer.pid}\b.*folder of its own"):
                RocksStateStore(settings)
        finally:
            writer.send_signal(signal.SIGKILL)
    with RocksStateStore(settings) as store:
        part = store.open(0)
        assert part.changelog_offset is not None
        assert part.changelog_offset >= 100
        assert {value for _, value in part.items()} == {b"%d" % part.changelog_offset}
        assert len(part) == 50


def test_a_folder_has_one_owner_until_it_is_closed(settings: StateSettings) -> None:
    with (
        RocksStateStore(settings),
        pytest.raises(EddylineError, match=rf"in use by process {os.getpid()}\b"),
    ):
        RocksStateStore(settings)
    RocksStateStore(settings).close_all()


def test_a_database_someone_else_holds_open_is_named(settings: StateSettings) -> None:
    with RocksStateStore(settings) as store:
        path = settings.folder / "partition-0"
        store.open(0)
        store.close(0)
        other = raw(path)
        with pytest.raises(EddylineError, match=r"partition-0 is in use by another handle or process"):
            store.open(0)
        other.close()
        assert len(store.open(0)) == 0


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(EddylineError, match=r"state folder .*file/state cannot be used"):
        RocksStateStore(StateSettings(folder=tmp_path / "file" / "state"))


def foreign(path: Path) -> None:
    db = raw(path)
    db[b"something"] = b"else"
    db.close()


def newer(path: Path) -> None:
    db = raw(path)
    db[b"head"] = b"eddyline" + (2).to_bytes(2, "little") + b"whatever comes"
    db.close()


def no_magic(path: Path) -> None:
    db = raw(path)
    db[b"head"] = b"x"
    db.close()


def cut(path: Path) -> None:
    db = raw(path)
    db[b"head"] = b"eddyline" + (1).to_bytes(2, "little")
    db.close()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (foreign, "not an eddyline state store"),
        (newer, "has format 2, this version reads 1"),
        (no_magic, "has format unknown"),
        (cut, "is damaged"),
    ],
)
def test_what_is_not_ours_is_refused_and_left_alone(
    settings: StateSettings, damage: Callable[[Path], None], says: str
) -> None:
    path = settings.folder / "partition-0"
    path.parent.mkdir(parents=True)
    damage(path)
    db = raw(path)
    before = list(db.items())
    db.close()
    with RocksStateStore(settings) as store:
        for _ in range(2):  # the refused database was closed again, so the second try says the same
            with pytest.raises(UnknownFormat, match=rf"{says}.*delete the folder {path}.*changelog"):
                store.open(0)
        assert store.partitions == []
    db = raw(path)
    assert list(db.items()) == before
    db.close()


def test_a_store_of_another_partition_is_refused(settings: StateSettings) -> None:
    with RocksStateStore(settings) as store:
        store.open(0).write({b"ann": b"1"}, 0)
    (settings.folder / "partition-0").rename(settings.folder / "partition-1")
    with (
        RocksStateStore(settings) as store,
        pytest.raises(UnknownFormat, match="belongs to partition 0, not 1"),
    ):
        store.open(1)


def test_a_damaged_database_is_an_error_with_a_remedy(settings: StateSettings) -> None:
    with RocksStateStore(settings) as store:
        store.open(0).write({b"ann": b"1"}, 0)
    (settings.folder / "partition-0" / "CURRENT").write_text("nonsense\n")
    with (
        RocksStateStore(settings) as store,
        pytest.raises(EddylineError, match=r"cannot open.*delete the folder"),
    ):
        store.open(0)
