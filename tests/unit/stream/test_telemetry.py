from __future__ import annotations

import http.client
import json
import logging
import socket
import warnings
from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError

from eddyline.state.errors import ConfigurationError
from eddyline.stream.telemetry import Metrics, TelemetrySettings, configure_logging, serve


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_json_lines_go_to_stderr_with_their_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(TelemetrySettings(log_format="json"))
    structlog.get_logger().info("model swapped", version=7)
    captured = capsys.readouterr()
    assert captured.out == ""
    line = json.loads(captured.err)
    assert (line["event"], line["version"], line["level"]) == ("model swapped", 7, "info")
    assert line["timestamp"].endswith("Z")


def test_console_lines_are_readable_and_hold_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(TelemetrySettings())
    try:
        Path("no such folder", "file").read_bytes()
    except OSError:
        structlog.get_logger().exception("checkpoint failed", folder="data")
    text = capsys.readouterr().err
    assert "checkpoint failed" in text
    assert "folder=data" in text
    assert "FileNotFoundError" in text


def test_libraries_speak_through_the_same_handler_and_only_when_it_matters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(TelemetrySettings(log_format="json"))
    logging.getLogger("aiokafka.consumer").info("poll")
    logging.getLogger("kafka.client").error("connection refused; it will be raised")
    logging.getLogger("aiokafka").warning("node %s is gone", 1)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["logger"]) for line in lines] == [("node 1 is gone", "aiokafka")]


def test_debug_lets_the_libraries_talk_but_not_of_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(TelemetrySettings(log_level="debug"))
    logging.getLogger("faust.worker").debug("ready")
    logging.getLogger("kafka.client").info("connected")
    logging.getLogger("kafka.client").debug("configuration with sasl_plain_password")
    logging.getLogger("aiokafka.conn").debug("request with sasl_auth_bytes and the password")
    text = capsys.readouterr().err
    assert "ready" in text
    assert "connected" in text
    assert "password" not in text


def test_the_level_filters_our_own_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(TelemetrySettings(log_level="error"))
    structlog.get_logger().warning("quiet")
    logging.getLogger("kafka").warning("quiet too")
    assert capsys.readouterr().err == ""


def test_configuring_twice_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(TelemetrySettings())
    configure_logging(TelemetrySettings())
    structlog.get_logger().info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_python_warnings_become_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(TelemetrySettings(log_format="json"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old spelling", stacklevel=1)
        logging.captureWarnings(False)
    assert "old spelling" in json.loads(capsys.readouterr().err)["event"]


def test_metrics_are_served_and_live_on_their_own_registry() -> None:
    metrics, other = Metrics(), Metrics()
    metrics.clicks.inc(3)
    metrics.lists.labels(cause="click").inc()
    metrics.recall_at_20.labels(model="eddyline").set(0.25)
    metrics.click_to_list_seconds.observe(0.3)
    other.clicks.inc()
    server = serve(TelemetrySettings(metrics_port=0), metrics)
    assert server is not None
    with server:
        status, text = get(server.port, "/metrics")
        assert get(server.port, "/elsewhere")[0] == 404
    assert status == 200
    assert "eddyline_clicks_total 3.0" in text
    assert 'eddyline_lists_total{cause="click"} 1.0' in text
    assert 'eddyline_recall_at_20{model="eddyline"} 0.25' in text
    assert 'eddyline_click_to_list_seconds_bucket{le="0.5"} 1.0' in text


def test_healthz_follows_the_check_and_close_frees_the_port() -> None:
    live = True
    server = serve(TelemetrySettings(metrics_port=0), Metrics(), lambda: live)
    assert server is not None
    assert get(server.port, "/healthz") == (200, "ok\n")
    live = False
    assert get(server.port, "/healthz")[0] == 503
    server.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", server.port))


def test_no_port_means_no_server() -> None:
    assert serve(TelemetrySettings(), Metrics()) is None


def test_a_taken_port_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}.*telemetry.metrics_port"):
            serve(TelemetrySettings(metrics_port=port), Metrics())


@pytest.mark.parametrize("wrong", [{"metrics_port": 70_000}, {"log_level": "loud"}, {"log_levle": "info"}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TelemetrySettings.model_validate(wrong)


def test_a_warning_of_aiokafka_is_told_once_of_its_kind(
    capsys: pytest.CaptureFixture[str], restore_logging: None
) -> None:
    configure_logging(TelemetrySettings(log_format="json"))
    for node in range(3):
        logging.getLogger("aiokafka").warning("Unable to request metadata from node %s", node)
        logging.getLogger("aiokafka.consumer").warning("Heartbeat failed for group %s", "g")
    lines = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["Unable to request metadata from node 0", "Heartbeat failed for group g"]


def test_a_broker_that_does_not_answer_is_told_once(capsys: pytest.CaptureFixture[str], restore_logging: None) -> None:
    configure_logging(TelemetrySettings())
    for _ in range(5):
        logging.getLogger("aiokafka.consumer.fetcher").error("Unable connect to node with id %s", 1)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "Unable connect to node with id 1" in told[0]
    assert "kafka.bootstrap_servers" in told[0]
