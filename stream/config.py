"""All settings of a process: every section in one frozen model.

A new section is one line in `Settings`, or in `ClientSettings` where it loads without PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eddyline.model.acceptance import AcceptanceSettings
from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.model.learner import LearnerSettings
from eddyline.replay.pretrain import PretrainSettings
from eddyline.stream.client_config import ClientSettings, compose
from eddyline.stream.setting import as_text, leaves

__all__ = ["Settings", "environment", "load_settings"]


class Settings(ClientSettings):
    """Every section of the settings; `load_settings` makes one and remembers where each value came from."""

    clicks: ClickSettings = ClickSettings()
    counts: CountsSettings = CountsSettings()
    engine: EngineSettings = EngineSettings()
    learner: LearnerSettings = LearnerSettings()
    acceptance: AcceptanceSettings = AcceptanceSettings()
    pretrain: PretrainSettings = PretrainSettings()


def load_settings(
    config: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    flags: Mapping[str, str] | None = None,
) -> Settings:
    """Compose the settings from the file, the environment and the flags.

    Args:
        config: the settings file; None looks at `EDDYLINE_CONFIG`, then for ./eddyline.toml.
        overrides: `section.key` → value as text, from flags.
        environ: the environment; None is the one of this process.
        flags: the flag behind an override, where it was not `--set`.

    Raises:
        ConfigurationError: one line for each unknown name and each wrong value, with where it came from.
    """
    return compose(Settings, config, overrides, environ, flags)


def environment(settings: Settings) -> dict[str, str]:
    """The variables that give another process these settings, secrets included; defaults are left out.

    For starting a worker or a trainer: unlike a command line, an environment is not shown by `ps`.
    """
    defaults = Settings()
    return {
        leaf.variable: as_text(leaf.value(settings))
        for leaf in leaves(Settings)
        if settings.origin(leaf.key) != "default" or leaf.value(settings) != leaf.value(defaults)
    }
