"""The layers that settings come from, and what is wrong in them.

Precedence, lowest first: defaults, `eddyline.toml`, environment variables (`EDDYLINE_SECTION__KEY`), flags.
A name that no setting has is an error in every layer, because a misspelt setting that is silently ignored is
found in production.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from eddyline.state.errors import ConfigurationError
from eddyline.stream.setting import ENVIRONMENT_PREFIX, describe_type, from_text, leaves, unwrap_optional

__all__ = ["DEFAULT_FILE", "Layers", "nearest"]

DEFAULT_FILE = Path("eddyline.toml")

_CONFIG_VARIABLE = "EDDYLINE_CONFIG"
# Read by the test suite, never by the product.
_TEST_PREFIX = "EDDYLINE_TEST_"

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class _Given:
    """A value somebody gave, and where."""

    value: Any
    origin: str


class Layers(Generic[S]):
    """Gathers what each layer gives, later ones over earlier ones, and every problem on the way.

    Attributes:
        given: the values by their keys, each with where it came from.
        unknown: whether a name was given that no setting has.
    """

    def __init__(self, model: type[S]) -> None:
        self.model = model
        self.known = {leaf.key: leaf for leaf in leaves(model)}
        self.sections = {
            section for leaf in self.known.values() for section in accumulate(leaf.path[:-1], "{}.{}".format)
        }
        self.given: dict[str, _Given] = {}
        self.problems: list[str] = []
        self.unknown = False

    def read_file(self, config: Path | None, environ: Mapping[str, str]) -> None:
        """The file that is named by the flag, by `EDDYLINE_CONFIG`, or lies in the working directory."""
        named_by = "--config"
        if config is None and environ.get(_CONFIG_VARIABLE):
            config, named_by = Path(environ[_CONFIG_VARIABLE]), _CONFIG_VARIABLE
        if config is None:
            if not DEFAULT_FILE.is_file():
                return
            config, named_by = DEFAULT_FILE, "the working directory"
        try:
            document = tomllib.loads(config.read_text(encoding="utf-8"))
        except OSError as error:
            self.problems.append(f"cannot read {config} (named by {named_by}): {error.strerror}")
        except UnicodeDecodeError as error:
            self.problems.append(f"{config} is not UTF-8 text: byte {error.start} cannot be read")
        except tomllib.TOMLDecodeError as error:
            self.problems.append(f"{config} is not valid TOML: {error}")
        else:
            self._read_table(document, "", str(config))

    def _read_table(self, table: Mapping[str, Any], prefix: str, file: str) -> None:
        for name, value in table.items():
            key = prefix + name
            if key in self.known:
                self.given[key] = _Given(value, file)
            elif key in self.sections and isinstance(value, dict):
                self._read_table(value, f"{key}.", file)
            elif key in self.sections:
                self.problems.append(f"{file}: `{key}` is a section: write [{key}] and its settings below it")
            elif isinstance(value, dict) and not prefix:
                near = nearest(key, self.sections)
                hint = f"did you mean [{near}]?" if near else "there is " + ", ".join(sorted(self.sections))
                self.problems.append(f"{file}: unknown section [{key}]: {hint}")
                self.unknown = True
            else:
                self._unknown(f"{file}: unknown setting `{key}`", key)

    def read_environment(self, environ: Mapping[str, str]) -> None:
        """Every variable that begins like one of ours."""
        keys = {leaf.variable: leaf.key for leaf in self.known.values()}
        for variable, text in environ.items():
            if variable in keys:
                key = keys[variable]
                self.given[key] = _Given(from_text(text, self.known[key].field), variable)
            elif (
                variable.startswith(ENVIRONMENT_PREFIX)
                and not variable.startswith(_TEST_PREFIX)
                and variable != _CONFIG_VARIABLE
            ):
                key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
                self._unknown(f"unknown environment variable {variable}", key, as_variable=True)

    def read_flags(self, overrides: Mapping[str, str], flags: Mapping[str, str]) -> None:
        """`section.key` → text, and the flag behind a key where it was not `--set`."""
        for key, text in overrides.items():
            flag = flags.get(key, "--set")
            if key in self.known:
                self.given[key] = _Given(from_text(text, self.known[key].field), flag)
            else:
                self._unknown(f"{flag}: unknown setting `{key}`", key)

    def settings(self) -> S:
        """The settings.

        Raises:
            ConfigurationError: a layer had a problem, or a value is wrong.
        """
        values: dict[str, Any] = {}
        for key, given in self.given.items():
            leaf = self.known[key]
            table = values
            for name in leaf.path[:-1]:
                table = table.setdefault(name, {})
            # TOML and the environment know no null, so empty text stands for nothing where that is allowed.
            empty = given.value == "" and unwrap_optional(leaf.field.annotation)[1]
            table[leaf.path[-1]] = None if empty else given.value
        try:
            settings = self.model.model_validate(values)
        except ValidationError as error:
            wrong = [self._wrong(detail) for detail in error.errors(include_url=False)]
            raise ConfigurationError("\n".join(self.problems + wrong)) from None
        if self.problems:
            raise ConfigurationError("\n".join(self.problems))
        return settings

    def _wrong(self, detail: ErrorDetails) -> str:
        """One line for one value that does not fit; errors of a whole section name what was set in it."""
        where = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ").replace("Input should", "should")
        key = next((key for key in self.known if where == key or where.startswith(f"{key}.")), None)
        if key is None:
            origins = {given.origin for other, given in self.given.items() if other.startswith(f"{where}.")}
            return f"section [{where}] from {', '.join(sorted(origins))}: {message}"
        leaf = self.known[key]
        shown = "the secret" if leaf.secret else repr(detail["input"])
        allowed = describe_type(leaf.field)
        return f"`{where}` from {self.given[key].origin}: {shown} {message} (allowed: {allowed})"

    def _unknown(self, problem: str, key: str, *, as_variable: bool = False) -> None:
        near = self._nearest_key(key)
        if near:
            hint = f"did you mean {self.known[near].variable}?" if as_variable else f"did you mean `{near}`?"
        else:
            hint = "`eddyline config view` lists the settings"
        self.problems.append(f"{problem}: {hint}")
        self.unknown = True

    def _nearest_key(self, key: str) -> str:
        """The key probably meant: close in the same section, the same name elsewhere, or close at all."""
        section, _, name = key.rpartition(".")
        names = {other.rpartition(".")[2]: other for other in self._keys_of(section)}
        near = nearest(name, names)
        if near:
            return names[near]
        same_name = [other for other in self.known if other.rpartition(".")[2] == name]
        return same_name[0] if len(same_name) == 1 else nearest(key, self.known)

    def _keys_of(self, section: str) -> Iterator[str]:
        return (key for key in self.known if key.rpartition(".")[0] == section)


def nearest(name: str, names: Iterable[str]) -> str:
    """The name that was probably meant; empty if none is close."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1)), "")
