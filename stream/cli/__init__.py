"""The command `eddyline`: its groups of commands, and what every failure looks like from outside.

Exit codes: 0 all right, 1 a run failed, 2 the command line or a setting is wrong, 3 a check failed,
130 interrupted. The modules of this package import Kafka, PyTorch and Faust inside the commands that
need them, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError, Parameter

from eddyline.state.errors import EddylineError
from eddyline.stream.cli import (
    clicks,
    cluster,
    config,
    dead_letters,
    demo,
    models,
    pretrain,
    recommendations,
    replay,
    services,
    tune,
    users,
    validate,
)
from eddyline.stream.cli.output import print_error

__all__ = ["app", "main"]

_USAGE = 2
_INTERRUPTED = 130

app = App(
    name="eddyline",
    help="Recommendations that keep up with a Kafka click stream.",
    version=lambda: version("eddyline"),
    help_format="plaintext",
    # No --no-… twins of flags, and no "[default: False]" beside them.
    default_parameter=Parameter(negative=(), show_default=lambda value: value or None),
    suppress_keyboard_interrupt=False,
)
for _group in (
    demo,
    services,
    clicks,
    recommendations,
    validate,
    replay,
    tune,
    pretrain,
    models,
    users,
    dead_letters,
    cluster,
    config,
):
    _group.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `eddyline`; None takes those of this process.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        print_error(f"{' '.join(str(error).split())} (`eddyline --help` shows the commands)")
        return _USAGE
    except EddylineError as error:
        print_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`): not a failure, and Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0
