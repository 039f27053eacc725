"""What the doctor says about a healthy place and about broken ones, without a broker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from eddyline.state.errors import BrokerUnreachable
from eddyline.stream import doctor
from eddyline.stream.doctor import Check, diagnose
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.topics import TopicSettings

Run = Callable[..., dict[str, Check]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(doctor, "wait_for_broker", lambda *_: None)
    monkeypatch.setattr(doctor, "check_topics", lambda *_: [])

    def _run(data: Path = tmp_path / "data", store: str = str(tmp_path / "models")) -> dict[str, Check]:
        return {check.name: check for check in diagnose(KafkaSettings(), TopicSettings(), data, store)}

    return _run


def test_all_is_well(run: Run, tmp_path: Path) -> None:
    checks = run()
    assert list(checks) == ["versions", "broker", "topics", "data folder", "model store"]
    assert all(check.ok and not check.remedy for check in checks.values())
    assert "faust-streaming 0." in checks["versions"].detail
    assert list((tmp_path / "models").iterdir()) == []  # leaves nothing behind


def test_without_a_broker_the_topics_are_not_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise BrokerUnreachable("Kafka at 127.0.0.1:9092: connection refused")

    monkeypatch.setattr(doctor, "wait_for_broker", unreachable)
    monkeypatch.setattr(doctor, "check_topics", unreachable)
    checks = run()
    assert [name for name, check in checks.items() if not check.ok] == ["broker", "topics"]
    assert "127.0.0.1:9092" in checks["broker"].detail
    assert checks["topics"].detail == "not checked without a broker"


def test_problems_of_topics_are_passed_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "check_topics", lambda *_: ["topic a is missing: create it", "topic b: …"])
    check = run()["topics"]
    assert not check.ok
    assert check.detail == "topic a is missing: create it; topic b: …"


def test_a_folder_that_cannot_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    check = run(data=tmp_path / "file" / "data")["data folder"]
    assert not check.ok
    assert "state.folder" in check.remedy


def test_a_full_disk(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_MIN_FREE_BYTES", 2**80)
    check = run()["data folder"]
    assert not check.ok
    assert "1 GiB" in check.remedy


@pytest.mark.parametrize("store", ["{tmp}/file/models", "nosuchscheme://bucket/models"])
def test_a_store_that_cannot_be_written(run: Run, tmp_path: Path, store: str) -> None:
    (tmp_path / "file").write_text("in the way")
    check = run(store=store.format(tmp=tmp_path))["model store"]
    assert not check.ok
    assert "model_store.url" in check.remedy


def test_a_missing_package_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "no-such-package"))
    check = run()["versions"]
    assert not check.ok
    assert check.detail == "not installed: no-such-package"
