"""Where Kafka is and how to authenticate there, told to every kind of client; and waiting until it answers.

Three kinds of client take the same settings: kafka-python (administration, publishing, subscribing), aiokafka
and Faust (the worker and the trainer). Each gets an `ssl.SSLContext` built here, so TLS behaves alike.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import faust
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError as AdminError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from eddyline.state.errors import BrokerUnreachable, ConfigurationError

__all__ = [
    "FIRST_PAUSE_S",
    "LONGEST_PAUSE_S",
    "KafkaSettings",
    "admin_client",
    "async_options",
    "client_options",
    "faust_options",
    "probe",
    "wait_for_broker",
]

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
"""Between two attempts to reach Kafka, the first pause and the longest."""

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaSettings(BaseModel):
    """Where Kafka is and how to authenticate there; reaches every client."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka's addresses: host:port, host:port, …")
    client_id: str = Field("eddyline", description="the name this program gives itself in the broker's logs")
    security_protocol: SecurityProtocol = Field("PLAINTEXT", description="as the broker's listener has it")
    ssl_cafile: Path | None = Field(None, description="PEM file of the authorities to trust; default: the system's")
    ssl_certfile: Path | None = Field(None, description="PEM file of this client's own certificate")
    ssl_keyfile: Path | None = Field(None, description="PEM file of its private key; default: in ssl_certfile")
    ssl_key_password: SecretStr | None = Field(None, description="the password of the private key")
    ssl_check_hostname: bool = Field(True, description="whether the certificate must name the broker's host")
    sasl_mechanism: SaslMechanism = Field("SCRAM-SHA-512", description="used when security_protocol is SASL_…")
    sasl_username: str | None = Field(None, description="the user to log in as")
    sasl_password: SecretStr | None = Field(None, description="the user's password")
    request_timeout_s: float = Field(30.0, gt=0, description="how long one request may take")
    session_timeout_s: float = Field(
        20.0, ge=6, description="how long a process may be silent before others take its partitions over"
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses_are_readable(cls, value: str) -> str:
        _parse_addresses(value)
        return value

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        protocol = self.security_protocol
        has_user, has_password = self.sasl_username is not None, self.sasl_password is not None
        if self.uses_sasl and not (has_user and has_password):
            raise ValueError(f"security_protocol {protocol} needs sasl_username and sasl_password")
        if not self.uses_sasl and (has_user or has_password):
            raise ValueError(f"sasl_username and sasl_password are not used by security_protocol {protocol}")
        if not self.uses_tls and (self.ssl_cafile or self.ssl_certfile or self.ssl_keyfile):
            raise ValueError(f"ssl_cafile, ssl_certfile, ssl_keyfile are not used by {protocol}")
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile needs ssl_certfile")
        if self.request_timeout_s < self.session_timeout_s:
            raise ValueError("request_timeout_s must not be less than session_timeout_s")
        return self

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether a user name and password are sent."""
        return self.security_protocol.startswith("SASL_")

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The bootstrap servers as (host, port)."""
        return _parse_addresses(self.bootstrap_servers)


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments for `KafkaConsumer`, `KafkaProducer` and `KafkaAdminClient` of kafka-python.

    Silences kafka-python's own logger unless somebody has given it a level: it logs every refused connection
    with a traceback and, at debug level, the whole configuration with its passwords. What matters is raised.
    """
    logger = logging.getLogger("kafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    return {**_common(settings), "bootstrap_timeout_ms": int(settings.request_timeout_s * 1000)}


def async_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments for the clients of aiokafka."""
    return _common(settings)


def faust_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments for `faust.App`."""
    context = _ssl_context(settings)
    options: dict[str, Any] = {
        "broker": [f"kafka://{_host_port(host, port)}" for host, port in settings.addresses],
        "broker_client_id": settings.client_id,
        "broker_request_timeout": settings.request_timeout_s,
        "broker_session_timeout": settings.session_timeout_s,
        "broker_heartbeat_interval": settings.session_timeout_s / 7,
        "producer_request_timeout": settings.request_timeout_s,
    }
    if settings.uses_sasl:
        options["broker_credentials"] = faust.SASLCredentials(
            username=settings.sasl_username,
            password=_secret(settings.sasl_password),
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    elif context is not None:
        options["broker_credentials"] = faust.SSLCredentials(context)
    return options


@contextmanager
def admin_client(settings: KafkaSettings) -> Iterator[Any]:
    """A `KafkaAdminClient`, closed at the end.

    Raises:
        BrokerUnreachable: no broker answers within `request_timeout_s`, or it refuses a request.
    """
    wait_for_broker(settings, settings.request_timeout_s, lambda _: None)
    try:
        client = KafkaAdminClient(**client_options(settings))
        try:
            yield client
        finally:
            client.close()
    except AdminError as error:
        raise BrokerUnreachable(f"Kafka at {settings.bootstrap_servers} refused a request: {error}") from error


class Problem(NamedTuple):
    """Why a broker does not serve us, and whether waiting cannot help."""

    text: str
    final: bool = False


def probe(settings: KafkaSettings, timeout_s: float = 5.0) -> Problem | None:
    """Ask each bootstrap server in turn for the cluster's brokers; None as soon as one names some.

    Must not be called from inside a running event loop.
    """
    problems = []
    for host, port in settings.addresses:
        problem = asyncio.run(_ask(settings, host, port, timeout_s))
        if problem is None:
            return None
        problems.append(Problem(f"Kafka at {_host_port(host, port)}: {problem.text}", problem.final))
    return Problem("; ".join(p.text for p in problems), any(p.final for p in problems))


def wait_for_broker(settings: KafkaSettings, timeout_s: float | None, on_wait: Callable[[str], None]) -> None:
    """Return once a broker answers, trying again with growing pauses until then.

    Must not be called from inside a running event loop.

    Args:
        settings: where to ask.
        timeout_s: when to give up; None waits forever.
        on_wait: gets one line before each pause: which address, what is wrong, what to try.

    Raises:
        BrokerUnreachable: the time is over, or the broker rejected our credentials or we its certificate,
            which no waiting mends.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = FIRST_PAUSE_S
    while True:
        left_s = 5.0 if deadline is None else min(5.0, max(0.5, deadline - time.monotonic()))
        problem = probe(settings, left_s)
        if problem is None:
            return
        if problem.final:
            raise BrokerUnreachable(problem.text)
        if deadline is not None and time.monotonic() + pause_s > deadline:
            raise BrokerUnreachable(f"{problem.text} (gave up after {timeout_s:g} s)")
        on_wait(f"{problem.text}; trying again in {pause_s:g} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _ask(settings: KafkaSettings, host: str, port: int, timeout_s: float) -> Problem | None:
    options = _common(settings)
    del options["bootstrap_servers"]
    options["request_timeout_ms"] = int(timeout_s * 1000)
    connection = AIOKafkaConnection(host, port, **options)
    problem: Problem | None
    try:
        async with asyncio.timeout(timeout_s):
            await connection.connect()
            metadata = await connection.send(MetadataRequest([]))
    except (KafkaError, TimeoutError) as error:
        problem = _explain(settings, error, timeout_s)
    except OSError as error:  # never connected: there is nothing to close
        return _explain(settings, error, timeout_s)
    else:
        problem = None if metadata.brokers else Problem("it has no broker yet, it may still be starting")
    # Its socket is closed a little later; after a timeout there may be none.
    await asyncio.wait([connection.close()], timeout=1.0)
    return problem


def _explain(settings: KafkaSettings, error: Exception, timeout_s: float) -> Problem:  # noqa: PLR0911
    match error:
        case SaslAuthenticationFailed():
            who = f"{settings.sasl_username!r} with {settings.sasl_mechanism}"
            text = f"SASL authentication failed for {who}: check kafka.sasl_username and kafka.sasl_password"
            return Problem(text, final=True)
        case UnsupportedSaslMechanismError():
            text = f"it does not offer {settings.sasl_mechanism}: change kafka.sasl_mechanism"
            return Problem(text, final=True)
        case IllegalSaslStateError():
            text = "its listener does not use SASL: check kafka.security_protocol and the port"
            return Problem(text, final=True)
        case ssl.SSLCertVerificationError():
            text = f"TLS failed, its certificate is refused ({error.verify_message}): check kafka.ssl_cafile"
            return Problem(text, final=True)
        case ssl.SSLError():
            reason = error.reason or error
            return Problem(f"TLS failed ({reason}): is this its TLS listener? Check kafka.security_protocol")
        case socket.gaierror():
            return Problem("the name does not resolve: check kafka.bootstrap_servers")
        case ConnectionRefusedError():
            return Problem("connection refused: is it running? `eddyline broker start` runs one here")
        case TimeoutError():
            return Problem(f"no answer within {timeout_s:g} s: check kafka.bootstrap_servers and the network")
        case KafkaError() | ConnectionError():
            protocol = settings.security_protocol
            return Problem(f"it closes the connection: check kafka.security_protocol (now {protocol})")
    return Problem(f"{error}: check kafka.bootstrap_servers")


def _common(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": [_host_port(host, port) for host, port in settings.addresses],
        "client_id": settings.client_id,
        "request_timeout_ms": int(settings.request_timeout_s * 1000),
        "security_protocol": settings.security_protocol,
    }
    if settings.uses_tls:
        options["ssl_context"] = _ssl_context(settings)
    if settings.uses_sasl:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = _secret(settings.sasl_password)
    return options


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    if not settings.uses_tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"kafka.ssl_cafile {settings.ssl_cafile}: {error}") from error
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_certfile:
        # Without any password OpenSSL would ask for one on the terminal.
        password = _secret(settings.ssl_key_password) or ""
        try:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password)
        except OSError as error:
            files = f"{settings.ssl_certfile}, {settings.ssl_keyfile or 'its key inside'}"
            text = f"kafka.ssl_certfile, ssl_keyfile or ssl_key_password is wrong ({files}): {error}"
            raise ConfigurationError(text) from error
    return context


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_addresses(servers: str) -> list[tuple[str, int]]:
    addresses = []
    for server in servers.split(","):
        try:
            url = urlsplit(f"//{server.strip()}")
            host, port = url.hostname, url.port
        except ValueError:
            host = port = None
        if not host or not port or url.path:
            raise ValueError(f"{server.strip()!r} is not an address: want host:port, for example 127.0.0.1:9092")
        addresses.append((host, port))
    return addresses
