from __future__ import annotations

import tomllib
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest

from eddyline.state.errors import ConfigurationError
from eddyline.stream.config import Settings, load_settings
from eddyline.stream.config_docs import (
    TABLE_END,
    TABLE_START,
    default_toml,
    describe_settings,
    settings_table,
    update_readme,
)
from eddyline.stream.setting import leaves

ROOT = Path(__file__).parents[3]


def test_rows_tell_name_type_default_and_variable() -> None:
    rows = {f"{row.section}.{row.key}": row for row in describe_settings()}
    row = rows["telemetry.log_level"]
    assert (row.type, row.default, row.env) == (
        "debug, info, warning, error",
        '"info"',
        "EDDYLINE_TELEMETRY__LOG_LEVEL",
    )
    assert rows["telemetry.metrics_port"].default == '""'
    for row in rows.values():
        assert row.description
        assert "\n" not in row.description
        assert row.description[0] == row.description[0].upper()
        assert not row.description.endswith(".")


def test_the_written_file_changes_nothing_as_it_is_and_nothing_when_uncommented(tmp_path: Path) -> None:
    as_written = tmp_path / "eddyline.toml"
    as_written.write_text(default_toml(), encoding="utf-8")
    assert load_settings(as_written, {}, {}) == Settings()
    keys = {row.key for row in describe_settings()}
    lines = [
        line.removeprefix("# ") if line.removeprefix("# ").split(" = ")[0] in keys else line
        for line in default_toml().splitlines()
    ]
    uncommented = tmp_path / "uncommented.toml"
    uncommented.write_text("\n".join(lines), encoding="utf-8")
    document = tomllib.loads(uncommented.read_text(encoding="utf-8"))
    for leaf in leaves(Settings):
        assert reduce(getitem, leaf.path, document) is not None
    assert load_settings(uncommented, {}, {}).model_dump() == Settings().model_dump()


def test_the_table_has_a_row_for_every_setting() -> None:
    lines = settings_table().splitlines()
    assert len(lines) == len(describe_settings()) + 2
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = update_readme(f"before\n{TABLE_START}\nold\n{TABLE_END}\nafter\n")
    assert text == f"before\n{TABLE_START}\n{settings_table()}\n{TABLE_END}\nafter\n"
    assert update_readme(text) == text


@pytest.mark.parametrize("text", ["", TABLE_START, TABLE_END])
def test_missing_markers_are_an_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match="<!-- settings -->"):
        update_readme(text)


def test_the_readme_is_in_step_with_the_code() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert update_readme(text) == text, "run: eddyline config table --readme README.md"
