from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from eddyline.stream.setting import as_text, as_toml, describe_type, from_text, leaves, unwrap_optional


class Inner(BaseModel):
    depth: int = Field(3, ge=1, le=9)


class Section(BaseModel):
    name: str = "a"
    password: SecretStr | None = None
    weights: dict[str, float] = Field(default={"click": 1.0})
    hosts: tuple[str, ...] = ("a", "b")
    mode: Literal["fast", "slow"] = "fast"
    rate: float = Field(0.5, gt=0, lt=1)
    folder: Path = Path("data")
    port: int | None = Field(None, ge=0)
    on: bool = True
    inner: Inner = Inner()


class Root(BaseModel):
    section: Section = Section()


LEAVES = {leaf.path[-1]: leaf for leaf in leaves(Root)}


def test_leaves_walk_into_sections_and_keep_tables_whole() -> None:
    assert [leaf.key for leaf in leaves(Root)] == [
        "section.name",
        "section.password",
        "section.weights",
        "section.hosts",
        "section.mode",
        "section.rate",
        "section.folder",
        "section.port",
        "section.on",
        "section.inner.depth",
    ]
    assert LEAVES["depth"].variable == "EDDYLINE_SECTION__INNER__DEPTH"
    assert LEAVES["depth"].value(Root()) == 3
    assert [name for name, leaf in LEAVES.items() if leaf.secret] == ["password"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("name", "text"),
        ("password", "secret text, or empty"),
        ("weights", "table of number"),
        ("hosts", "list of text"),
        ("mode", "fast, slow"),
        ("rate", "number, above 0, below 1"),
        ("folder", "path"),
        ("port", "integer, at least 0, or empty"),
        ("on", "true or false"),
        ("depth", "integer, at least 1, at most 9"),
    ],
)
def test_types_are_told_in_words(name: str, words: str) -> None:
    assert describe_type(LEAVES[name].field) == words


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("name", "[not a list]", "[not a list]"),
        ("hosts", '["x", "y"]', ["x", "y"]),
        ("hosts", "['x', 'y']", ["x", "y"]),
        ("hosts", "x, y", ["x", "y"]),
        ("weights", '{"click": 2}', {"click": 2}),
        ("weights", "{click = 2.5}", {"click": 2.5}),
        ("weights", "click", "click"),
        ("port", "12", "12"),
    ],
)
def test_text_of_lists_and_tables_is_read_and_the_rest_stays_text(name: str, text: str, value: Any) -> None:
    assert from_text(text, LEAVES[name].field) == value


@pytest.mark.parametrize("name", list(LEAVES))
def test_text_carries_every_default_to_another_process_and_back(name: str) -> None:
    leaf = LEAVES[name]
    default = leaf.value(Root())
    text = as_text(default)
    if default is None:
        assert text == ""
        return
    read = TypeAdapter(leaf.field.annotation).validate_python(from_text(text, leaf.field))
    assert read == default


def test_a_secret_keeps_its_text_for_another_process_but_not_for_a_file() -> None:
    assert as_text(SecretStr("hunter2")) == "hunter2"
    assert as_toml(SecretStr("hunter2")) == '""'


@pytest.mark.parametrize(
    "value", ['a"b\\c', "line\nline", 3, 0.25, True, [], ["a", "b"], {"click": 1.0, "odd key": 0.5}, {}]
)
def test_toml_reads_back_as_the_value(value: Any) -> None:
    assert tomllib.loads(f"value = {as_toml(value)}")["value"] == value


def test_toml_of_nothing_and_of_a_path() -> None:
    assert as_toml(None) == '""'
    assert as_toml(Path("data/state")) == '"data/state"'


def test_only_an_optional_is_unwrapped() -> None:
    assert unwrap_optional(int | None) == (int, True)
    assert unwrap_optional(int | str) == (int | str, False)
    assert unwrap_optional(int) == (int, False)
