from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from eddyline.state.errors import ConfigurationError
from eddyline.stream.config import Settings, environment, load_settings
from eddyline.stream.setting import leaves


def written(folder: Path, text: str) -> Path:
    file = folder / "eddyline.toml"
    file.write_text(text, encoding="utf-8")
    return file


def problems(
    file: Path | None = None, overrides: dict[str, str] | None = None, environ: dict[str, str] | None = None
) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, overrides or {}, environ or {})
    return str(caught.value).splitlines()


def test_nothing_given_is_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {}, {"PATH": "/bin"})
    assert settings == Settings()
    assert settings.origin("kafka.bootstrap_servers") == "default"


def test_flags_beat_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = written(tmp_path, '[topics]\nprefix = "file"\npartitions = 2\n[kafka]\nbootstrap_servers = "file:1"\n')
    environ = {"EDDYLINE_TOPICS__PARTITIONS": "3", "EDDYLINE_KAFKA__BOOTSTRAP_SERVERS": "environment:1"}
    overrides = {"kafka.bootstrap_servers": "flag:1"}
    settings = load_settings(file, overrides, environ, flags={"kafka.bootstrap_servers": "--broker"})
    assert settings.topics.prefix == "file"
    assert settings.topics.partitions == 3
    assert settings.kafka.bootstrap_servers == "flag:1"
    assert settings.topics.replication_factor == Settings().topics.replication_factor
    assert [settings.origin(key) for key in ("topics.prefix", "topics.partitions", "kafka.bootstrap_servers")] == [
        str(file),
        "EDDYLINE_TOPICS__PARTITIONS",
        "--broker",
    ]


def test_the_file_is_named_by_argument_or_variable_or_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, '[topics]\nprefix = "here"\n')
    named = tmp_path / "named.toml"
    named.write_text('[topics]\nprefix = "named"\n')
    argument = tmp_path / "argument.toml"
    argument.write_text('[topics]\nprefix = "argument"\n')
    environ = {"EDDYLINE_CONFIG": str(named)}
    assert load_settings(None, {}, {}).topics.prefix == "here"
    assert load_settings(None, {}, environ).topics.prefix == "named"
    assert load_settings(argument, {}, environ).topics.prefix == "argument"


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    gone = tmp_path / "gone.toml"
    assert problems(gone) == [f"cannot read {gone} (named by --config): No such file or directory"]
    assert "named by EDDYLINE_CONFIG" in problems(environ={"EDDYLINE_CONFIG": str(gone)})[0]


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    file = written(tmp_path, "[topics]\nprefix = \n")
    (line,) = problems(file)
    assert line.startswith(f"{file} is not valid TOML")
    assert "line 2" in line


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "eddyline.toml"
    file.write_bytes(b"\xff\xfe")
    assert problems(file) == [f"{file} is not UTF-8 text: byte 0 cannot be read"]


def test_unknown_names_in_every_layer_are_errors_with_a_suggestion(tmp_path: Path) -> None:
    file = written(tmp_path, '[topics]\npartition = 3\n[kafak]\nbootstrap_servers = "a:1"\n')
    found = problems(
        file,
        {"telemetry.loglevel": "debug", "topics.bootstrap_servers": "a:1", "zzz.qqq": "1"},
        {
            "EDDYLINE_TOPICS__PREFIXX": "a",
            "EDDYLINE_QQQ": "a",
            "EDDYLINE_TEST_BROKER": "a:1",
            "EDDYLINES": "not ours",
        },
    )
    assert found == [
        f"{file}: unknown setting `topics.partition`: did you mean `topics.partitions`?",
        f"{file}: unknown section [kafak]: did you mean [kafka]?",
        "unknown environment variable EDDYLINE_TOPICS__PREFIXX: did you mean EDDYLINE_TOPICS__PREFIX?",
        "unknown environment variable EDDYLINE_QQQ: `eddyline config view` lists the settings",
        "--set: unknown setting `telemetry.loglevel`: did you mean `telemetry.log_level`?",
        "--set: unknown setting `topics.bootstrap_servers`: did you mean `kafka.bootstrap_servers`?",
        "--set: unknown setting `zzz.qqq`: `eddyline config view` lists the settings",
    ]


def test_a_setting_without_its_section_is_unknown(tmp_path: Path) -> None:
    (line,) = problems(written(tmp_path, "partitions = 3\n"))
    assert line.endswith("unknown setting `partitions`: did you mean `topics.partitions`?")


def test_a_value_in_place_of_a_section_is_an_error(tmp_path: Path) -> None:
    (line,) = problems(written(tmp_path, 'kafka = "localhost:9092"\n'))
    assert "`kafka` is a section: write [kafka]" in line


def test_an_unlike_section_gets_the_list(tmp_path: Path) -> None:
    (line,) = problems(written(tmp_path, "[zzz]\na = 1\n"))
    assert "unknown section [zzz]: there is" in line
    assert "telemetry" in line


def test_wrong_values_are_one_line_each_with_source_and_what_is_allowed(tmp_path: Path) -> None:
    file = written(tmp_path, '[telemetry]\nlog_level = "loud"\n')
    found = problems(file, {"telemetry.metrics_port": "70000"}, {"EDDYLINE_TOPICS__PARTITIONS": "many"})
    assert len(found) == 3
    level, port, partitions = sorted(found, key=lambda line: line.partition("`")[2])
    assert f"`telemetry.log_level` from {file}: 'loud'" in level
    assert "allowed: debug, info, warning, error" in level
    assert "`telemetry.metrics_port` from --set: '70000'" in port
    assert "allowed: integer, at least 0, at most 65535, or empty" in port
    assert "`topics.partitions` from EDDYLINE_TOPICS__PARTITIONS: 'many'" in partitions
    assert "allowed: integer" in partitions


def test_a_wrong_secret_is_not_shown(tmp_path: Path) -> None:
    (line,) = problems(written(tmp_path, "[kafka]\nsasl_password = 8675309\n"))
    assert "kafka.sasl_password" in line
    assert "8675309" not in line


def test_empty_text_is_nothing_where_nothing_is_allowed(tmp_path: Path) -> None:
    file = written(tmp_path, "[telemetry]\nmetrics_port = 9100\n")
    assert load_settings(file, {}, {}).telemetry.metrics_port == 9100
    assert load_settings(file, {}, {"EDDYLINE_TELEMETRY__METRICS_PORT": ""}).telemetry.metrics_port is None
    assert "topics.partitions" in problems(environ={"EDDYLINE_TOPICS__PARTITIONS": ""})[0]


def test_the_environment_gives_another_process_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(
        None,
        {"kafka.security_protocol": "SASL_PLAINTEXT", "telemetry.metrics_port": "9100"},
        {"EDDYLINE_KAFKA__SASL_USERNAME": "eddy", "EDDYLINE_KAFKA__SASL_PASSWORD": "hunter2"},
    )
    variables = environment(settings)
    assert set(variables) == {
        "EDDYLINE_KAFKA__SECURITY_PROTOCOL",
        "EDDYLINE_KAFKA__SASL_USERNAME",
        "EDDYLINE_KAFKA__SASL_PASSWORD",
        "EDDYLINE_TELEMETRY__METRICS_PORT",
    }
    again = load_settings(None, {}, variables)
    assert again.model_dump() == settings.model_dump()
    assert again.kafka.sasl_password == SecretStr("hunter2")


def test_the_environment_also_holds_what_was_changed_after_loading() -> None:
    changed = Settings().model_copy(update={"topics": Settings().topics.model_copy(update={"prefix": "other"})})
    assert environment(changed) == {"EDDYLINE_TOPICS__PREFIX": "other"}


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().topics = Settings().topics  # type: ignore[misc]


def test_every_setting_is_explained_and_its_section_is_frozen() -> None:
    assert [leaf.key for leaf in leaves(Settings) if not leaf.field.description] == []
    for name, field in Settings.model_fields.items():
        section = field.annotation
        assert section is not None
        config = section.model_config
        assert (name, config.get("frozen"), config.get("extra")) == (name, True, "forbid")


def test_settings_that_do_not_fit_together_name_their_section_and_sources() -> None:
    (line,) = problems(None, {"kafka.sasl_username": "eddy"}, {"EDDYLINE_KAFKA__SASL_PASSWORD": "hunter2"})
    assert line.startswith("section [kafka] from --set, EDDYLINE_KAFKA__SASL_PASSWORD: ")
    assert "hunter2" not in line
