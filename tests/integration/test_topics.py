"""The topics on a real broker: created once, checked, and every deviation named with its remedy."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from eddyline.state.errors import ConfigurationError
from eddyline.stream.kafka import KafkaSettings, admin_client
from eddyline.stream.topics import Topics, TopicSettings, check_topics, create_topics, require_topics, specs


@pytest.fixture
def names(topic_settings: TopicSettings) -> Iterator[Topics]:
    yield Topics.of(topic_settings)


def problems_in(kafka: KafkaSettings, settings: TopicSettings, count: int) -> list[str]:
    """So many problems, once the broker's own view of its topics shows what was just changed."""
    deadline = time.monotonic() + 10
    while len(problems := check_topics(kafka, settings)) != count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(problems) == count, problems
    return problems


def test_created_topics_pass_the_check_and_are_not_created_twice(
    kafka: KafkaSettings, topic_settings: TopicSettings
) -> None:
    assert create_topics(kafka, topic_settings) == []
    assert check_topics(kafka, topic_settings) == []
    require_topics(kafka, topic_settings)


def test_a_missing_topic_is_named_and_created_again(
    kafka: KafkaSettings, topic_settings: TopicSettings, names: Topics
) -> None:
    with admin_client(kafka) as admin:
        admin.delete_topics([names.models])
    (problem,) = problems_in(kafka, topic_settings, 1)
    assert names.models in problem
    assert "eddyline topics create" in problem
    with pytest.raises(ConfigurationError, match=rf"{names.models} is missing: run `eddyline topics create`"):
        require_topics(kafka, topic_settings)
    assert create_topics(kafka, topic_settings) == [names.models]


def test_a_wrong_partition_count_is_named_for_each_topic_that_shares_it(
    kafka: KafkaSettings, topic_settings: TopicSettings, names: Topics
) -> None:
    problems = check_topics(kafka, topic_settings.model_copy(update={"partitions": 5}))
    assert len(problems) == 3
    with pytest.raises(ConfigurationError, match=r"has 4 partitions, want 5.*; .*has 4 partitions"):
        require_topics(kafka, topic_settings.model_copy(update={"partitions": 5}))
    for name, problem in zip((names.clicks, names.recommendations, names.states), problems, strict=True):
        assert f"{name} has 4 partitions, want 5" in problem
        assert "topics.partitions" in problem


def test_a_topic_of_one_partition_may_not_have_more(
    kafka: KafkaSettings, topic_settings: TopicSettings, names: Topics
) -> None:
    with admin_client(kafka) as admin:
        admin.create_partitions({names.evidence: 3})
    (problem,) = problems_in(kafka, topic_settings, 1)
    assert f"{names.evidence} has 3 partitions, want 1" in problem
    assert "delete it" in problem


def test_a_wrong_lifetime_and_policy_are_named(
    kafka: KafkaSettings, topic_settings: TopicSettings, names: Topics
) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    with admin_client(kafka) as admin:
        admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, names.states, {"cleanup.policy": "delete"}),
                ConfigResource(ConfigResourceType.TOPIC, names.evidence, {"retention.ms": "3600000"}),
                ConfigResource(ConfigResourceType.TOPIC, names.examples, {"max.message.bytes": "1000"}),
            ]
        )
    lifetime, size, policy = problems_in(kafka, topic_settings, 3)
    assert f"{names.evidence} has retention.ms=3600000, want {90 * 86_400_000}" in lifetime
    assert f"{names.examples} has max.message.bytes=1000" in size
    assert f"{names.states} has cleanup.policy=delete, want compact" in policy


def test_more_copies_than_brokers_is_a_mistake_in_the_settings(broker: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker)
    too_many = TopicSettings(prefix="test-copies", replication_factor=99)
    with pytest.raises(ConfigurationError, match=r"topics\.replication_factor"):
        create_topics(kafka, too_many)
    assert len(check_topics(kafka, too_many)) == len(specs(too_many))
