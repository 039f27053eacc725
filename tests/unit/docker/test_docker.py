"""The image, the compose file and what they configure, checked against the code; no Docker engine is needed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from eddyline.stream.cli import app
from eddyline.stream.config import Settings, load_settings
from eddyline.stream.telemetry import Metrics

FOLDER = Path(__file__).parents[3] / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "eddyline"}
RUN_ONCE = {"topics", "clicks"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments, with continued lines joined."""
    lines = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(words[0], words[1]) for line in joined.splitlines() if (words := line.split(maxsplit=1))]


def last(name: str) -> str:
    return [value for instruction, value in instructions() if instruction == name][-1]


def image_environment() -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(last("ENV")))


def check_command(words: list[str]) -> None:
    """Fails unless the command line knows the command and every flag of it; runs nothing."""
    app.parse_args(words, exit_on_error=False, print_error=False)


class TestImage:
    def test_its_command_is_one_of_ours(self) -> None:
        assert json.loads(last("ENTRYPOINT")) == ["eddyline"]
        check_command(json.loads(last("CMD")))

    def test_it_does_not_run_as_root(self) -> None:
        assert last("USER").split(":")[0] not in ("root", "0")

    def test_its_folders_belong_to_its_user(self) -> None:
        made = " ".join(value for instruction, value in instructions() if instruction == "RUN")
        environment = image_environment()
        for name in ("NUMBA_CACHE_DIR", "EDDYLINE_STATE__FOLDER", "EDDYLINE_MODEL_STORE__URL"):
            assert environment[name] in made.split("--owner eddyline")[1]

    def test_its_environment_is_understood(self) -> None:
        settings = settings_from(image_environment())
        assert settings.state.folder == Path("/var/lib/eddyline")
        assert settings.model_store.url == "/var/lib/eddyline-models"

    def test_its_health_check_asks_where_the_metrics_listen(self) -> None:
        settings = settings_from(image_environment())
        assert f"http://127.0.0.1:{settings.telemetry.metrics_port}/healthz" in last("HEALTHCHECK")
        assert last("EXPOSE") == str(settings.telemetry.metrics_port)

    def test_it_installs_the_tested_versions_and_all_packages(self) -> None:
        text = (FOLDER / "Dockerfile").read_text()
        assert "--constraint constraints.txt" in text
        assert "--torch-backend cpu" in text
        ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
        for package in ("state", "model", "replay", "stream"):
            assert ("COPY", f"{package} {package}") in instructions()
            assert f"!{package}" in ignored


class TestCompose:
    def test_the_parts_are_there(self) -> None:
        assert {"topics", "worker", "trainer"} <= set(OURS)
        assert SERVICES["kafka"]["image"].startswith("apache/kafka:")
        assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
            "clicks": ["demo"],
            "prometheus": ["observe"],
            "grafana": ["observe"],
        }

    @pytest.mark.parametrize("name", OURS)
    def test_each_command_is_one_of_ours(self, name: str) -> None:
        check_command(OURS[name]["command"])

    def test_an_unknown_command_would_be_found(self) -> None:
        with pytest.raises(Exception, match="trian"):
            check_command(["trian"])
        with pytest.raises(Exception, match="--sinthetic"):
            check_command(["publish", "--sinthetic"])

    @pytest.mark.parametrize("name", OURS)
    def test_each_environment_is_understood(self, name: str) -> None:
        settings = settings_from(OURS[name]["environment"])
        assert settings.kafka.addresses == [("kafka", 19092)]
        assert "INSIDE://kafka:19092" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_no_service_runs_as_root_or_may_become_it(self, name: str) -> None:
        service = SERVICES[name]
        user = str(service.get("user", last("USER") if name in OURS else "root"))
        assert user.split(":", maxsplit=1)[0] not in ("root", "0")
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["cap_drop"] == ["ALL"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_ports_are_published_on_the_loopback_address_only(self, name: str) -> None:
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))

    @pytest.mark.parametrize("name", SERVICES)
    def test_whatever_keeps_running_has_a_health_check(self, name: str) -> None:
        check = SERVICES[name].get("healthcheck")
        if name in RUN_ONCE:
            assert check == {"disable": True}
        elif name in OURS:
            assert check is None  # the image's
        else:
            assert check is not None
            assert check["test"]

    def test_every_service_waits_for_what_it_needs(self) -> None:
        after = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
        assert after["topics"] == {"kafka": {"condition": "service_healthy"}}
        for name in ("worker", "trainer"):
            assert after[name] == {"topics": {"condition": "service_completed_successfully"}}
        assert after["clicks"] == {"worker": {"condition": "service_healthy"}}

    def test_models_are_shared_and_states_are_not(self) -> None:
        worker, trainer = SERVICES["worker"]["volumes"], SERVICES["trainer"]["volumes"]
        assert set(worker) & set(trainer) == {"models:/var/lib/eddyline-models"}
        assert "/var/lib/eddyline" in worker

    def test_every_volume_is_declared_and_every_mounted_file_exists(self) -> None:
        declared = set(COMPOSE["volumes"])
        sources = [v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", []) if ":" in v]
        assert declared == {source for source in sources if not source.startswith(".")}
        assert all((FOLDER / source).exists() for source in sources if source.startswith("."))


class TestObservation:
    def test_prometheus_asks_the_services_that_have_metrics(self) -> None:
        document = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())
        port = int(image_environment()["EDDYLINE_TELEMETRY__METRICS_PORT"])
        asked = [one for job in document["scrape_configs"] for one in job["dns_sd_configs"]]
        assert asked == [{"names": [name], "type": "A", "port": port} for name in ("worker", "trainer")]

    def test_the_dashboard_asks_for_metrics_that_exist(self) -> None:
        dashboard = json.loads((FOLDER / "grafana" / "dashboards" / "eddyline.json").read_text())
        expressions = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
        asked = set(re.findall(r"eddyline_\w+", expressions))
        metrics = Metrics()
        metrics.recall_at_20.labels("eddyline")
        known = {sample.name for family in metrics.registry.collect() for sample in family.samples}
        assert asked <= known
        assert {"eddyline_clicks_total", "eddyline_recall_at_20", "eddyline_dead_letters_total"} <= asked

    def test_the_dashboard_and_its_datasource_find_each_other(self) -> None:
        provisioning = FOLDER / "grafana" / "provisioning"
        (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
        (provider,) = yaml.safe_load((provisioning / "dashboards" / "eddyline.yaml").read_text())["providers"]
        dashboard = json.loads((FOLDER / "grafana" / "dashboards" / "eddyline.json").read_text())
        assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
        assert source["url"] == "http://prometheus:9090"
        mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
        assert mounts["./grafana/dashboards"] == provider["options"]["path"]


def settings_from(environment: dict[str, str]) -> Settings:
    """What the product makes of the variables; a misspelt one is an error."""
    return load_settings(environ=environment)
