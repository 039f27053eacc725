"""Fetching Kafka's jars, with a stand-in for Maven."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import jgo
import pytest
from jgo.config import GlobalSettings

from eddyline.state.errors import BrokerUnreachable
from eddyline.stream.kafka_jars import kafka_classpath


@dataclass
class Artifact:
    """What `jgo.resolve` gives: a file that is downloaded when it is not there."""

    cached_path: Path
    downloads: int = 0

    def resolve(self) -> Path:
        if not self.cached_path.exists():
            self.downloads += 1
            with zipfile.ZipFile(self.cached_path, "w") as jar:
                jar.writestr("META-INF/MANIFEST.MF", "")
        return self.cached_path


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Artifact]]:
    found = {
        "org.apache.kafka": [Artifact(tmp_path / "kafka.jar"), Artifact(tmp_path / "clients-4.jar")],
        "org.apache.logging.log4j": [Artifact(tmp_path / "binding.jar"), Artifact(tmp_path / "log4j-other.jar")],
    }
    monkeypatch.setattr(GlobalSettings, "load", lambda: SimpleNamespace(repo_cache=tmp_path))
    monkeypatch.setattr(jgo, "resolve", lambda endpoint: found[endpoint.split(":")[0]])
    return found


def test_the_log_binding_brings_no_versions_of_its_own(artifacts: dict[str, list[Artifact]]) -> None:
    names = [Path(jar).name for jar in kafka_classpath().split(os.pathsep)]
    assert names == ["kafka.jar", "clients-4.jar", "binding.jar"]


def test_half_a_jar_is_fetched_again(artifacts: dict[str, list[Artifact]]) -> None:
    kafka_classpath()
    jar, other = artifacts["org.apache.kafka"]
    jar.cached_path.write_bytes(jar.cached_path.read_bytes()[:40])
    kafka_classpath()
    assert zipfile.is_zipfile(jar.cached_path)
    assert (jar.downloads, other.downloads) == (2, 1)


def test_without_a_network_the_way_out_is_told(
    artifacts: dict[str, list[Artifact]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(endpoint: str) -> None:
        raise ConnectionError(f"no route for {endpoint}")

    monkeypatch.setattr(jgo, "resolve", refused)
    with pytest.raises(BrokerUnreachable, match=r"no route(.|\n)*kafka\.bootstrap_servers"):
        kafka_classpath()
