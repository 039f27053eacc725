"""How the topics are laid out, without a broker."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from pydantic import ValidationError

from eddyline.stream.topics import Topics, TopicSettings, TopicSpec, specs

DAY_MS = 86_400_000


def layout(settings: TopicSettings) -> dict[str, TopicSpec]:
    return {spec.name: spec for spec in specs(settings)}


def test_every_name_has_a_layout_and_nothing_else_has() -> None:
    settings = TopicSettings(prefix="shop")
    assert set(layout(settings)) == set(astuple(Topics.of(settings)))
    assert Topics.of(settings).dlq == "shop.clicks.v1.dlq"


def test_a_click_its_state_and_its_list_share_the_partitions_and_the_rest_has_one() -> None:
    settings = TopicSettings(partitions=12)
    names = Topics.of(settings)
    partitions = {name: spec.partitions for name, spec in layout(settings).items()}
    shared = {names.clicks, names.recommendations, names.states}
    assert {name for name, count in partitions.items() if count == 12} == shared
    assert {count for name, count in partitions.items() if name not in shared} == {1}


@pytest.mark.parametrize(
    ("topic", "policy", "days"),
    [
        ("clicks", "delete", 7),
        ("recommendations", "compact,delete", 30),
        ("evidence", "delete", 90),
        ("examples", "delete", 3),
        ("models", "compact", None),
        ("dlq", "delete", 30),
        ("states", "compact", None),
        ("erasures", "delete", 30),
    ],
)
def test_policy_and_lifetime(topic: str, policy: str, days: int | None) -> None:
    settings = TopicSettings()
    config = layout(settings)[getattr(Topics.of(settings), topic)].config
    assert config["cleanup.policy"] == policy
    assert config.get("retention.ms") == (str(days * DAY_MS) if days else None)


def test_each_lifetime_can_be_set() -> None:
    settings = TopicSettings(
        clicks_retention_days=11,
        recommendations_retention_days=12,
        evidence_retention_days=13,
        examples_retention_days=14,
        dlq_retention_days=15,
        erasures_retention_days=16,
    )
    kept = [int(ms) // DAY_MS for s in specs(settings) if (ms := s.config.get("retention.ms"))]
    assert kept == [11, 12, 13, 14, 15, 16]


@pytest.mark.parametrize(("copies", "in_sync"), [(1, "1"), (2, "1"), (3, "2")])
def test_three_copies_survive_the_loss_of_one(copies: int, in_sync: str) -> None:
    settings = TopicSettings(replication_factor=copies)
    assert {spec.config["min.insync.replicas"] for spec in specs(settings)} == {in_sync}


@pytest.mark.parametrize("prefix", ["", "with space", "ä", "a/b"])
def test_a_prefix_that_kafka_would_refuse_is_refused_here(prefix: str) -> None:
    with pytest.raises(ValidationError):
        TopicSettings(prefix=prefix)
