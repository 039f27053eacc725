"""The settings described from the code: the rows, the README's table, and a commented `eddyline.toml`."""

from __future__ import annotations

from dataclasses import dataclass

from eddyline.state.errors import ConfigurationError
from eddyline.stream.config import Settings
from eddyline.stream.setting import as_toml, describe_type, leaves

__all__ = [
    "TABLE_END",
    "TABLE_START",
    "SettingRow",
    "default_toml",
    "describe_settings",
    "settings_table",
    "update_readme",
]

TABLE_START = "<!-- settings -->"
TABLE_END = "<!-- /settings -->"


@dataclass(frozen=True)
class SettingRow:
    """One setting, as documentation shows it; `default` is TOML, and `""` stands for nothing."""

    section: str
    key: str
    type: str
    default: str
    description: str
    env: str


def describe_settings() -> list[SettingRow]:
    """Every setting, in the order of the sections."""
    defaults = Settings()
    return [
        SettingRow(
            section=".".join(leaf.path[:-1]),
            key=leaf.path[-1],
            type=describe_type(leaf.field),
            default=as_toml(leaf.value(defaults)),
            description=_sentence(leaf.field.description or ""),
            env=leaf.variable,
        )
        for leaf in leaves(Settings)
    ]


def _sentence(description: str) -> str:
    """Descriptions alike, however they are written beside their code: a capital, and no full stop."""
    words = " ".join(description.split()).removesuffix(".")
    return words[:1].upper() + words[1:]


def settings_table() -> str:
    """All settings as a Markdown table."""
    lines = ["| setting | default | allowed | what it does |", "| --- | --- | --- | --- |"]
    for row in describe_settings():
        default = "" if row.default == '""' else f"`{row.default}`"
        cells = [f"`{row.section}.{row.key}`", default, row.type, row.description]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def update_readme(readme: str) -> str:
    """The README's text with the table between its markers replaced by the current one.

    Raises:
        ConfigurationError: the markers are absent.
    """
    before, start, rest = readme.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not start or not end:
        raise ConfigurationError(
            f"the README has no {TABLE_START} … {TABLE_END}: put both markers where the table goes"
        )
    return f"{before}{TABLE_START}\n{settings_table()}\n{TABLE_END}{after}"


def default_toml() -> str:
    """A settings file in which every setting is explained and commented out at its default."""
    lines = [
        "# Settings of eddyline. Uncomment what you change; `eddyline config view` shows what is in force.",
        "# An environment variable (EDDYLINE_SECTION__KEY) beats this file, a flag beats both.",
    ]
    section = ""
    for row in describe_settings():
        if row.section != section:
            section = row.section
            lines += ["", f"[{section}]"]
        lines += [f"# {row.description} ({row.type})", f"# {row.key} = {row.default}"]
    return "\n".join(lines) + "\n"
