"""A real Kafka for the integration tests, and topics of its own for each of them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eddyline.state.errors import EddylineError
from eddyline.stream.broker import EmbeddedBroker
from eddyline.stream.kafka import KafkaSettings, admin_client
from eddyline.stream.topics import TopicSettings, create_topics, specs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is an integration test; whoever collects, all folders' items come by here."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker: the one named in EDDYLINE_TEST_BROKER, the embedded one, or one in Docker."""
    if named := os.environ.get("EDDYLINE_TEST_BROKER"):
        yield named
        return
    with ExitStack() as stack:
        try:
            embedded = stack.enter_context(
                EmbeddedBroker(tmp_path_factory.mktemp("broker"), properties={"log.cleaner.backoff.ms": "500"})
            )
            address = embedded.bootstrap_servers
        except EddylineError as no_embedded:
            address = _in_docker(stack, no_embedded)
        yield address


@pytest.fixture
def kafka(broker: str) -> KafkaSettings:
    """How to reach the broker."""
    return KafkaSettings(bootstrap_servers=broker)


@pytest.fixture
def topic_settings(kafka: KafkaSettings) -> Iterator[TopicSettings]:
    """Topics that exist for this test alone; they are gone afterwards."""
    settings = TopicSettings(prefix=f"test-{uuid.uuid4().hex[:12]}")
    create_topics(kafka, settings)
    yield settings
    with admin_client(kafka) as admin:
        mine = {spec.name for spec in specs(settings)}
        admin.delete_topics([name for name in admin.list_topics() if name in mine], raise_errors=False)


def _in_docker(stack: ExitStack, no_embedded: EddylineError) -> str:
    from testcontainers.kafka import KafkaContainer

    try:
        container = stack.enter_context(KafkaContainer().with_kraft())
    except Exception as no_docker:  # the Docker client raises its own, requests' and OS errors
        reason = f"no broker: EDDYLINE_TEST_BROKER is not set; embedded: {no_embedded}; Docker: {no_docker}"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return str(container.get_bootstrap_server())
