from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from eddyline.stream.cli import main
from eddyline.stream.config import Settings, load_settings
from eddyline.stream.config_docs import TABLE_END, TABLE_START, settings_table
from eddyline.stream.setting import leaves

pytestmark = pytest.mark.usefixtures("elsewhere")


def view(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[str, str]]:
    assert main(["config", "view", "--json", *arguments]) == 0
    rows = json.loads(capsys.readouterr().out)
    return {row["setting"]: (row["value"], row["source"]) for row in rows}


def test_view_shows_every_setting_with_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "eddyline.toml").write_text('[topics]\nprefix = "file"\npartitions = 2\n')
    monkeypatch.setenv("EDDYLINE_TOPICS__PARTITIONS", "3")
    shown = view(capsys, "--broker", "kafka:9092", "--set", "telemetry.log_level=error")
    assert shown["topics.prefix"] == ("file", "eddyline.toml")
    assert shown["topics.partitions"] == ("3", "EDDYLINE_TOPICS__PARTITIONS")
    assert shown["kafka.bootstrap_servers"] == ("kafka:9092", "--broker")
    assert shown["telemetry.log_level"] == ("error", "--set")
    assert shown["topics.replication_factor"] == ("1", "default")
    assert list(shown) == [leaf.key for leaf in leaves(Settings)]


def test_view_masks_secrets_in_both_forms(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EDDYLINE_KAFKA__SASL_PASSWORD", "hunter2")
    flags = ["--set", "kafka.sasl_username=eddy", "--set", "kafka.security_protocol=SASL_PLAINTEXT"]
    shown = view(capsys, *flags)
    assert shown["kafka.sasl_password"] == ("********", "EDDYLINE_KAFKA__SASL_PASSWORD")
    assert shown["kafka.ssl_key_password"] == ("", "default")
    assert main(["config", "view", *flags]) == 0
    output = capsys.readouterr().out
    assert "kafka.sasl_password" in output
    assert "hunter2" not in output


def test_a_piped_table_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 180
    assert main(["config", "view", "--set", f"topics.prefix={long}"]) == 0
    assert long in capsys.readouterr().out


def test_validate_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "validate"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "the settings are valid\n")


def test_validate_names_a_wrong_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "validate", "--set", "topics.partitions=0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "`topics.partitions` from --set: '0'" in line
    assert "allowed: integer, at least 1" in line


def test_the_broker_flag_is_named_when_its_value_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "validate", "--broker", "nowhere"]) == 2
    assert "`kafka.bootstrap_servers` from --broker" in capsys.readouterr().err


def test_init_writes_a_file_that_loads_and_never_overwrites_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "init"]) == 0
    file = tmp_path / "eddyline.toml"
    assert set(tomllib.loads(file.read_text())) == set(Settings.model_fields)
    assert load_settings(None, {}, {}) == Settings()
    file.write_text("# mine\n")
    assert main(["config", "init"]) == 2
    assert file.read_text() == "# mine\n"
    assert "--force" in capsys.readouterr().err
    assert main(["config", "init", "--force"]) == 0
    assert "# mine" not in file.read_text()


def test_init_into_a_missing_folder_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "init", "no/such/eddyline.toml"]) == 2
    assert "cannot write no/such/eddyline.toml" in capsys.readouterr().err


def test_table_is_printed_or_written_between_the_markers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "table"]) == 0
    assert capsys.readouterr().out == settings_table() + "\n"
    readme = tmp_path / "README.md"
    readme.write_text(f"{TABLE_START}{TABLE_END}")
    assert main(["config", "table", "--readme", str(readme)]) == 0
    assert settings_table() in readme.read_text()
    assert main(["config", "table", "--readme", "absent.md"]) == 2
