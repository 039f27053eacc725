from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from eddyline.model.checkpoint import Manifest, ModelStore, ModelStoreSettings
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.model import untrained_model
from eddyline.model.versions import model_to_arrays
from eddyline.stream.cli import main, models
from eddyline.stream.kafka import Problem

pytestmark = pytest.mark.usefixtures("elsewhere", "broker_answers")


@pytest.fixture
def store(elsewhere: Path) -> ModelStore:
    """A store of versions 1, 2 and 3 at the default place."""
    store = ModelStore(ModelStoreSettings())
    for version in (1, 2, 3):
        store.save(
            {
                "weights": model_to_arrays(untrained_model(8), Counts(CountsSettings())),
                "counts": {"n": np.arange(version)},
            },
            version=version,
            parent=version - 1,
            created_ms=1_700_000_000_000,
            trained_until_ms=1_700_000_000_000,
            cause="online",
            encoder="00",
            items=5,
            examples=1_000,
            evidence_offset=7,
            metrics={"recall": 0.25},
        )
    return store


@pytest.fixture
def announced(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> list[Manifest]:
    """Stands in for the models topic; version 3 is in use."""
    topic = [store.manifest(3)]
    monkeypatch.setattr("eddyline.stream.kafka.probe", lambda kafka, timeout_s: None)
    monkeypatch.setattr(models, "_announced", lambda settings: topic[-1] if topic else None)
    monkeypatch.setattr("eddyline.stream.models.evidence_span", lambda kafka, topics: (7, 20))
    monkeypatch.setattr("eddyline.stream.models.announce", lambda kafka, topics, manifest: topic.append(manifest))
    return topic


def test_list_marks_the_version_in_use(announced: list[Manifest], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["version"], row["in_use"]) for row in rows] == [(1, False), (2, False), (3, True)]
    assert main(["model", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["in use" in line for line in lines] == [False, False, False, True]
    assert "recall 0.2500" in lines[3]


def test_list_needs_no_broker(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("eddyline.stream.kafka.probe", lambda kafka, timeout_s: Problem("nobody there"))
    assert main(["model", "list"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4
    assert "which version is in use is not known: nobody there" in captured.err


def test_list_passes_over_a_broken_manifest(
    announced: list[Manifest], elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / ".eddyline/models/default/v000002/manifest.json").write_text("{}")
    assert main(["model", "list", "--json"]) == 0
    captured = capsys.readouterr()
    assert [row["version"] for row in json.loads(captured.out)] == [1, 3]
    assert "version 2: not a model's manifest" in captured.err


def test_show_is_of_the_version_in_use_unless_told(
    announced: list[Manifest], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 3
    assert main(["model", "show", "2"]) == 0
    output = capsys.readouterr().out
    assert "metric recall" in output
    assert "intact" in output
    assert main(["model", "show", "9"]) == 1
    assert "there is no version 9" in capsys.readouterr().err


def test_promote_announces_the_version(announced: list[Manifest], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "promote", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cause"] == "promote"
    assert (announced[-1].version, announced[-1].cause) == (1, "promote")


def test_a_version_with_other_item_rows_than_the_one_in_use_is_not_promoted(
    announced: list[Manifest], store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    other = msgspec.structs.replace(announced[0], items=announced[0].items + 1)
    announced[0] = other
    assert main(["model", "promote", "1"]) == 1
    assert "trained on other evidence" in capsys.readouterr().err
    assert announced == [other]


def test_a_version_made_before_the_stream_is_not_promoted_into_one_that_has_begun(
    announced: list[Manifest], store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_before = msgspec.structs.replace(store.manifest(1), evidence_offset=0)
    monkeypatch.setattr(ModelStore, "manifest", lambda self, version: made_before)
    announced.clear()
    for end, code in ((5, 1), (0, 0)):
        monkeypatch.setattr("eddyline.stream.models.evidence_span", lambda kafka, topics, end=end: (0, end))
        assert main(["model", "promote", "1"]) == code
        assert ("before its stream's first click" in capsys.readouterr().err) == bool(end)
    assert [one.version for one in announced] == [1]


def test_a_version_whose_evidence_is_gone_is_not_promoted(
    announced: list[Manifest], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("eddyline.stream.models.evidence_span", lambda kafka, topics: (8, 20))
    assert main(["model", "promote", "1"]) == 1
    assert "counts up to offset 7 of eddyline.evidence.v1, which is kept from 8 on" in capsys.readouterr().err
    assert len(announced) == 1


def test_rollback_goes_to_what_the_version_in_use_was_trained_from(
    announced: list[Manifest], store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    announced.append(msgspec.structs.replace(announced[0], parent=1))
    assert main(["model", "rollback"]) == 0
    assert announced[-1].version == 1
    announced.append(msgspec.structs.replace(announced[0], version=9, parent=8))  # 8 is not kept
    assert main(["model", "rollback"]) == 0
    assert announced[-1].version == 3


def test_a_version_of_another_dimension_than_the_one_in_use_is_not_promoted(
    announced: list[Manifest], store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("eddyline.stream.cli.models._fitting", lambda store, used: (None, 16))
    assert main(["model", "promote", "1"]) == 2
    assert "dimensions" in capsys.readouterr().err
    assert len(announced) == 1


def test_rollback_goes_to_the_version_before_until_there_is_none(
    announced: list[Manifest], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "rollback"]) == 0
    assert main(["model", "rollback"]) == 0
    assert [(one.version, one.cause) for one in announced[1:]] == [(2, "rollback"), (1, "rollback")]
    assert main(["model", "rollback"]) == 1
    assert "version 1 was trained from no other" in capsys.readouterr().err


def test_a_damaged_version_is_refused_before_anybody_hears_of_it(
    announced: list[Manifest], elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = elsewhere / ".eddyline/models/default/v000001/weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    for command in ("promote", "show"):
        assert main(["model", command, "1"]) == 1
        assert "checksum" in capsys.readouterr().err
    assert announced == [announced[0]]


def test_manifests_in_json_are_whole(announced: list[Manifest], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "show", "3", "--json"]) == 0
    assert msgspec.convert(json.loads(capsys.readouterr().out), Manifest) == announced[0]
