from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from eddyline.state.errors import BrokerUnreachable, ConfigurationError, EddylineError
from eddyline.stream.cli import app, main
from eddyline.stream.cli.output import Stdout

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def failing() -> Iterator[list[BaseException]]:
    """A command that raises what the test puts into the list."""
    errors: list[BaseException] = []

    @app.command(name="failing", show=False)
    def command() -> None:
        raise errors[0]

    yield errors
    del app["failing"]


def run_process(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eddyline.stream.cli", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    output = capsys.readouterr().out
    for command in ("broker", "config", "dlq", "doctor", "publish", "subscribe", "topics"):
        assert f" {command} " in output


def test_help_names_the_environment_variable_of_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "check", "--help"]) == 0
    output = capsys.readouterr().out
    for variable in ("EDDYLINE_CONFIG", "EDDYLINE_SECTION__KEY", "EDDYLINE_KAFKA__BOOTSTRAP_SERVERS"):
        assert variable in output


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("eddyline")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pubish"], 'Did you mean "publish"?'),
        (["config", "view", "--jsn"], "Did you mean --json?"),
        (["publish", "--clicks", "many"], 'unable to convert "many" into int'),
        (["config", "view", "one", "two"], "one"),
        (["config", "view", "--set"], "requires an argument"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EddylineError("[red] went wrong"), 1),
        (BrokerUnreachable("[red] went wrong"), 1),
        (ConfigurationError("[red] went wrong"), 2),
    ],
)
def test_an_error_of_ours_is_one_line_with_the_exit_code_of_its_class(
    error: EddylineError, code: int, failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(error)
    assert main(["failing"]) == code
    assert capsys.readouterr().err == "error: [red] went wrong\n"


def test_each_line_of_an_error_is_marked(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(ConfigurationError("this is wrong\nand that " + "too " * 100))
    assert main(["failing"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)


def test_ctrl_c_is_130_and_silent(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(KeyboardInterrupt())
    assert main(["failing"]) == 130
    assert capsys.readouterr().err == ""


def test_a_defect_keeps_its_traceback(failing: list[BaseException]) -> None:
    failing.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["failing"])


def test_a_reader_that_leaves_is_no_failure() -> None:
    script = (
        "import os, sys; from eddyline.stream.cli import main\n"
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)\n"
        "sys.exit(main(['config', 'view', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_table_leaves_a_broken_pipe_to_main() -> None:
    with pytest.raises(BrokenPipeError):
        Stdout().on_broken_pipe()


def test_as_a_process_it_returns_the_code_and_shows_no_traceback() -> None:
    done = run_process("topics", "check", EDDYLINE_TOPICS__PARTITIONS="many")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: `topics.partitions` from EDDYLINE_TOPICS__PARTITIONS: 'many' should be")


def test_unknown_settings_from_all_three_sources_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "eddyline.toml").write_text("[kafka]\nbootstrap_server = 'a:1'\n")
    monkeypatch.setenv("EDDYLINE_TELEMETRY__LOGLEVEL", "debug")
    assert main(["config", "validate", "--set", "topics.prefx=a"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: eddyline.toml: unknown setting `kafka.bootstrap_server`: did you mean `kafka.bootstrap_servers`?",
        "error: unknown environment variable EDDYLINE_TELEMETRY__LOGLEVEL: did you mean EDDYLINE_TELEMETRY__LOG_LEVEL?",
        "error: --set: unknown setting `topics.prefx`: did you mean `topics.prefix`?",
    ]


def test_set_wants_an_assignment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "validate", "--set", "topics.partitions"]) == 2
    assert capsys.readouterr().err == "error: --set topics.partitions: want section.key=value\n"


def test_an_unreachable_broker_is_told_line_by_line_and_then_given_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    patience = ["--set", "kafka.session_timeout_s=6", "--set", "kafka.request_timeout_s=6"]
    assert main(["topics", "check", "--broker", "127.0.0.1:1", *patience]) == 1
    *waits, last = capsys.readouterr().err.splitlines()
    assert waits
    assert all("127.0.0.1:1" in line and "trying again" in line for line in waits)
    assert last.startswith("error: ")
    assert "127.0.0.1:1" in last


def test_every_command_takes_the_settings_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for name in app:
        if name.startswith("-") or name == "config":
            continue
        group = [child for child in app[name] if not child.startswith("-")]
        for words in [[name, child] for child in group] or [[name]]:
            assert main([*words, "--help"]) == 0
            output = capsys.readouterr().out
            assert all(flag in output for flag in ("--config", "--set", "--broker")), words
