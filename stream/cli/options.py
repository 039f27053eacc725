"""The options every command takes, and the settings they lead to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Group, Parameter

from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.output import talk

if TYPE_CHECKING:
    from collections.abc import Callable

    from eddyline.stream.client_config import ClientSettings
    from eddyline.stream.config import Settings

    S = TypeVar("S", bound=ClientSettings)

__all__ = ["DEFAULTS", "AsJson", "Options"]

_GROUP = Group("Settings", sort_key=10)

AsJson = Annotated[bool, Parameter(name="--json", help="Write JSON to stdout.")]


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True, kw_only=True)
class Options:
    """Where the settings come from; shared by all commands."""

    config: Annotated[
        Path | None,
        Parameter(help="Settings file; else ./eddyline.toml where there is one. [env: EDDYLINE_CONFIG]"),
    ] = None
    assignments: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            help="One setting as section.key=value; may be repeated. [env: EDDYLINE_SECTION__KEY]",
        ),
    ] = ()
    broker: Annotated[
        str | None,
        Parameter(help="Kafka's address, HOST:PORT. [env: EDDYLINE_KAFKA__BOOTSTRAP_SERVERS]"),
    ] = None

    def settings(self) -> ClientSettings:
        """The settings in force of the sections that load without PyTorch; logging is set up by them.

        Raises:
            ConfigurationError: a name or value is wrong, wherever it was given.
        """
        from eddyline.stream.client_config import load_client_settings  # noqa: PLC0415

        return self._load(load_client_settings)

    def connected(self) -> ClientSettings:
        """The same, once Kafka answers; until then a line is told before each retry.

        Raises:
            ConfigurationError: a name or value is wrong, wherever it was given.
            BrokerUnreachable: Kafka does not answer within `kafka.request_timeout_s`.
        """
        return _once_kafka_answers(self.settings())

    def all_settings(self) -> Settings:
        """All settings in force, those of the model included; logging is set up by them.

        Raises:
            ConfigurationError: a name or value is wrong, wherever it was given.
        """
        from eddyline.stream.config import load_settings  # noqa: PLC0415

        return self._load(load_settings)

    def all_connected(self) -> Settings:
        """All settings, once Kafka answers.

        Raises:
            ConfigurationError: a name or value is wrong, wherever it was given.
            BrokerUnreachable: Kafka does not answer within `kafka.request_timeout_s`.
        """
        return _once_kafka_answers(self.all_settings())

    def _load(self, load: Callable[..., S]) -> S:
        from eddyline.stream.telemetry import configure_logging  # noqa: PLC0415

        overrides: dict[str, str] = {}
        flags: dict[str, str] = {}
        for assignment in self.assignments:
            key, equals, value = assignment.partition("=")
            if not equals:
                raise ConfigurationError(f"--set {assignment}: want section.key=value")
            overrides[key.strip()] = value
        if self.broker is not None:
            overrides["kafka.bootstrap_servers"] = self.broker
            flags["kafka.bootstrap_servers"] = "--broker"
        settings = load(self.config, overrides, flags=flags)
        configure_logging(settings.telemetry)
        return settings


def _once_kafka_answers(settings: S) -> S:
    from eddyline.stream.kafka import wait_for_broker  # noqa: PLC0415

    wait_for_broker(settings.kafka, settings.kafka.request_timeout_s, talk)
    return settings


DEFAULTS = Options()
