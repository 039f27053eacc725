"""The errors eddyline raises on purpose.

    EddylineError
    ├── ConfigurationError     a setting, flag or environment variable is wrong        (exit code 2)
    ├── BadRecord              one record cannot be read: it goes to the dead letters
    ├── UnknownFormat          bytes at rest were written by a version this one does not know
    ├── CorruptModel           a model's files do not match its manifest
    ├── BrokerUnreachable      Kafka does not answer
    ├── LogError               a row of a log file is bad                              (replay/logs.py)
    └── PublishError           Kafka did not take a click                              (stream/publish.py)

Each message says what was wrong, where, and what to do. The command line prints it as one line, without a
traceback; anything that is not an `EddylineError` is a defect and keeps its traceback.
"""

from __future__ import annotations

__all__ = [
    "BadRecord",
    "BrokerUnreachable",
    "ConfigurationError",
    "CorruptModel",
    "EddylineError",
    "UnknownFormat",
]


class EddylineError(Exception):
    """Base of every error that eddyline raises on purpose."""

    exit_code = 1


class ConfigurationError(EddylineError):
    """A setting, flag or environment variable is wrong."""

    exit_code = 2


class BadRecord(EddylineError):
    """One record cannot be read.

    Args:
        reason: what is wrong, naming the field.
        field: the field it is about, empty where the whole record is unreadable.
    """

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


class UnknownFormat(EddylineError):
    """Bytes at rest were written by a version this one does not know."""


class CorruptModel(EddylineError):
    """A model's files do not match its manifest."""


class BrokerUnreachable(EddylineError):
    """Kafka does not answer at the configured address."""
