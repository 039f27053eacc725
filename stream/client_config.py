"""The settings that a command needs which only talks to Kafka; they load without PyTorch.

`stream.config` has all of them. A section that needs neither PyTorch nor numba is one line here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr

from eddyline.model.checkpoint import ModelStoreSettings
from eddyline.state.store import StateSettings
from eddyline.stream.broker import BrokerSettings
from eddyline.stream.config_layers import Layers
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.settings import TrainerSettings, WorkerSettings
from eddyline.stream.telemetry import TelemetrySettings
from eddyline.stream.topics import TopicSettings

__all__ = ["ClientSettings", "compose", "load_client_settings"]


class ClientSettings(BaseModel):
    """The light sections; whoever composed them knows where each value came from."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    broker: BrokerSettings = BrokerSettings()
    state: StateSettings = StateSettings()
    model_store: ModelStoreSettings = ModelStoreSettings()
    worker: WorkerSettings = WorkerSettings()
    trainer: TrainerSettings = TrainerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def origin(self, key: str) -> str:
        """Where the value of `section.key` came from: a file, a variable, a flag, or `default`."""
        return self._origins.get(key, "default")


S = TypeVar("S", bound=ClientSettings)


def load_client_settings(
    config: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    flags: Mapping[str, str] | None = None,
) -> ClientSettings:
    """The light sections as `stream.config.load_settings` gives them; its arguments and errors are the same.

    PyTorch is loaded only where a name is given that is not of a light section: it may be right or wrong.
    """
    layers = _read(ClientSettings, config, overrides, environ, flags)
    if layers.unknown:
        from eddyline.stream.config import load_settings  # noqa: PLC0415

        return load_settings(config, overrides, environ, flags=flags)
    return _settle(layers)


def compose(
    model: type[S],
    config: Path | None,
    overrides: Mapping[str, str] | None,
    environ: Mapping[str, str] | None,
    flags: Mapping[str, str] | None,
) -> S:
    """Compose the settings of a model from all layers; `load_settings` explains the arguments."""
    return _settle(_read(model, config, overrides, environ, flags))


def _read(
    model: type[S],
    config: Path | None,
    overrides: Mapping[str, str] | None,
    environ: Mapping[str, str] | None,
    flags: Mapping[str, str] | None,
) -> Layers[S]:
    environ = os.environ if environ is None else environ
    layers = Layers(model)
    layers.read_file(config, environ)
    layers.read_environment(environ)
    layers.read_flags(overrides or {}, flags or {})
    return layers


def _settle(layers: Layers[S]) -> S:
    settings = layers.settings()
    settings._origins.update({key: given.origin for key, given in layers.given.items()})
    return settings
