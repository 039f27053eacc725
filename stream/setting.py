"""One setting: its place, what it may be (in words), and its value as text of the environment and of TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

__all__ = [
    "ENVIRONMENT_PREFIX",
    "Leaf",
    "as_text",
    "as_toml",
    "describe_type",
    "from_text",
    "leaves",
    "unwrap_optional",
]

ENVIRONMENT_PREFIX = "EDDYLINE_"

_NAMES: Mapping[Any, str] = {
    int: "integer",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    SecretStr: "secret text",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "length at least"}


@dataclass(frozen=True)
class Leaf:
    """One setting: its path inside `Settings`, and the field that defines it."""

    path: tuple[str, ...]
    field: FieldInfo

    @property
    def key(self) -> str:
        """`section.key`, as the file and `--set` name it."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + "__".join(self.path).upper()

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown."""
        return unwrap_optional(self.field.annotation)[0] is SecretStr

    def value(self, settings: BaseModel) -> Any:
        """The value of this setting."""
        for name in self.path:
            settings = getattr(settings, name)
        return settings


def leaves(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every setting, in the order of the sections."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, (*path, name))
        else:
            yield Leaf((*path, name), field)


def unwrap_optional(annotation: Any) -> tuple[Any, bool]:
    """`X | None` → (X, True); anything else → (itself, False)."""
    if get_origin(annotation) in (Union, UnionType):
        rest = tuple(part for part in get_args(annotation) if part is not type(None))
        if len(rest) < len(get_args(annotation)):
            return (rest[0] if len(rest) == 1 else Union[rest]), True  # noqa: UP007  (built at run time)
    return annotation, False


def describe_type(field: FieldInfo) -> str:
    """What a setting may be, in words: `integer, at least 1`."""
    annotation, optional = unwrap_optional(field.annotation)
    words = _type_words(annotation)
    for constraint in field.metadata:
        bounds = [f"{word} {getattr(constraint, name)}" for name, word in _BOUNDS.items() if hasattr(constraint, name)]
        pattern = getattr(constraint, "pattern", None)
        words = ", ".join([words, *bounds, *([f"matching {pattern}"] if pattern else [])])
    return f"{words}, or empty" if optional else words


def _type_words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(str(argument) for argument in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"table of {_type_words(arguments[1])}"
    if isinstance(origin, type) and issubclass(origin, Sequence | AbstractSet):
        return f"list of {_type_words(arguments[0])}"
    return _NAMES.get(annotation, str(getattr(annotation, "__name__", annotation)))


def from_text(text: str, field: FieldInfo) -> Any:
    """Text from a variable or flag: lists and tables are read as JSON or TOML, the rest stays text."""
    kind = get_origin(unwrap_optional(field.annotation)[0])
    if not (isinstance(kind, type) and issubclass(kind, Sequence | AbstractSet | Mapping)):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text if issubclass(kind, Mapping) else [part.strip() for part in text.split(",") if part.strip()]


def as_text(value: Any) -> str:
    """The inverse of `from_text`; nothing is the empty text."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON takes for a value it does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    return sorted(value) if isinstance(value, AbstractSet) else str(value)


def as_toml(value: Any) -> str:
    """A value as the right-hand side of a line of TOML."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{tomli_w.dumps({str(name): 0})[:-5]} = {as_toml(one)}" for name, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, AbstractSet):
        value = sorted(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(as_toml(one) for one in value) + "]"
    if isinstance(value, SecretStr):
        return '""'
    plain = value if isinstance(value, bool | int | float | str) else "" if value is None else str(value)
    return tomli_w.dumps({"value": plain}).removeprefix("value = ").strip()
