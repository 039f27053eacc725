"""What a backtest found, read and checked: the one place that knows how a result is laid out.

A result is a JSON object: `data` (what was replayed), `settings`, `versions`, `models` (the figures of each by name)
and, where it is known, the `command` that repeats it. Figures are named `ndcg@20`, `recall@20` and so on; the longest
list is the main one. A figure that is missing, null or not finite is unknown, never 0.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from eddyline.state.errors import ConfigurationError

__all__ = [
    "PRODUCT",
    "UNKNOWN",
    "Data",
    "Drift",
    "Figures",
    "Measured",
    "Ratio",
    "Result",
    "Sort",
    "Window",
    "flat",
    "number",
    "read_result",
]

PRODUCT = "eddyline"
ABLATION = f"{PRODUCT}-without-"
UNKNOWN = "–"

Sort = Literal["product", "ablation", "baseline"]
"""What a model is: eddyline, eddyline without a part, or something else."""


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


Figure = Annotated[float | None, AfterValidator(_finite)]
Time = Annotated[datetime, AfterValidator(_utc)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Measured(_Part):
    """Figures by their names, such as `ndcg@20`."""

    model_config = ConfigDict(extra="allow")

    def __getitem__(self, name: str) -> float | None:
        """The figure of this name; None where it is unknown."""
        value = (self.model_extra or {}).get(name)
        return _finite(value) if isinstance(value, int | float) else None

    @model_validator(mode="after")
    def _only_numbers(self) -> Measured:
        for name, value in (self.model_extra or {}).items():
            if "@" in name and (isinstance(value, bool) or not isinstance(value, int | float | None)):
                raise ValueError(f"{name} is {json.dumps(value)[:40]}: want a number or null")
        return self


class Window(Measured):
    """Figures over some of the clicks that count, in the order of time."""

    begin: Time = Field(alias="from")
    until: Time
    clicks: int


class Group(Measured):
    """Figures over the clicks of one group."""

    clicks: int


class Remembered(Measured):
    """Recall of old clicks, asked again after so many clicks of the log."""

    click: int


class Ratio(_Part):
    """One model's figure by another's, with the 95 % interval."""

    ratio: Figure = None
    low: Figure = None
    high: Figure = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 1 out."""
        return (self.low is not None and self.low > 1) or (self.high is not None and self.high < 1)


class Figures(Measured):
    """Everything measured of one model."""

    log_loss: Figure = None
    retention: Figure = None
    retention_windows: list[Remembered] | None = None
    events_per_s: Figure = None
    warm_up_s: Figure = None
    chosen: dict[str, Any] | None = None
    published: Measured | None = None
    sources: dict[str, Figure] | None = None
    windows: list[Window] | None = None
    by: dict[str, dict[str, Group]] | None = None
    against: dict[str, dict[str, Ratio]] | None = None
    against_by: dict[str, dict[str, dict[str, Ratio]]] | None = None

    def beside(self, other: str, metric: str) -> Ratio:
        """This model's figure by another's."""
        return (self.against or {}).get(other, {}).get(metric, Ratio())


class Drift(_Part):
    """A change in the stream that is known of."""

    at: Time | None = None
    click: int | None = None
    what: str = "drift"


class Data(_Part):
    """What was replayed."""

    name: str = "a click log"
    fingerprint: str
    clicks: int
    users: int
    items: int
    begin: Time = Field(alias="from")
    until: Time
    warm_up_clicks: int
    scored_clicks: int
    kinds: dict[str, int] = Field(default_factory=dict)
    drift: list[Drift] = Field(default_factory=list)


class Result(_Part):
    """A whole backtest."""

    data: Data
    settings: dict[str, Any]
    versions: dict[str, str]
    models: dict[str, Figures] = Field(min_length=1)
    command: str | None = None

    @model_validator(mode="after")
    def _measured(self) -> Result:
        if not self.ks:
            raise ValueError("models have no figure such as ndcg@20")
        return self

    @property
    def ks(self) -> list[int]:
        """Lengths of list that figures are given for, the main one first."""
        names = (name for figures in self.models.values() for name in figures.model_extra or {})
        found = (re.fullmatch(r"ndcg@([1-9][0-9]{0,8})", name) for name in names)
        return sorted({int(match[1]) for match in found if match}, reverse=True)

    @property
    def ndcg(self) -> str:
        """Name of the figure that models are ranked by."""
        return f"ndcg@{self.ks[0]}"

    @property
    def ranked(self) -> list[str]:
        """Names of the models, the best first."""
        values = {name: figures[self.ndcg] for name, figures in self.models.items()}
        return sorted(values, key=lambda name: (values[name] is None, -(values[name] or 0.0), name))

    @property
    def rivals(self) -> list[str]:
        """Names of the baselines, the best first."""
        return [name for name in self.ranked if self.sort(name) == "baseline"]

    @staticmethod
    def sort(name: str) -> Sort:
        """What the model of this name is."""
        return "product" if name == PRODUCT else "ablation" if name.startswith(ABLATION) else "baseline"


def read_result(path: Path) -> dict[str, Any]:
    """A result from its JSON file.

    Raises:
        ConfigurationError: the file cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: {_wanted(f'byte {error.start} is not UTF-8')}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise ConfigurationError(f"{path}: {_wanted(where)}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}: {_wanted('it is nested too deep')}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: {_wanted(f'a JSON {type(found).__name__}, not an object')}")
    try:
        Result.model_validate(found)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        place = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        more = f" (and {len(others)} more)" if others else ""
        raise ConfigurationError(f"{path}: {_wanted(f'{place}: {what}{more}' if place else what + more)}") from error
    return found


def _wanted(reason: str) -> str:
    return f"not the result of a backtest: {reason}; want what `eddyline replay LOG --json` prints"


def number(value: float | None, digits: int = 4) -> str:
    """A figure for people to read."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted names and values."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
