from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eddyline.state.errors import ConfigurationError
from eddyline.stream.client_config import ClientSettings, load_client_settings
from eddyline.stream.config import Settings

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_the_light_sections_load_without_the_model() -> None:
    script = (
        "import sys; from eddyline.stream.client_config import load_client_settings\n"
        "load_client_settings(None, {'topics.partitions': '3'}, {})\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numba', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


def test_light_names_give_the_light_sections_with_their_sources() -> None:
    settings = load_client_settings(None, {"topics.partitions": "3"}, {})
    assert type(settings) is ClientSettings
    assert settings.topics.partitions == 3
    assert settings.origin("topics.partitions") == "--set"


def test_a_name_of_the_model_is_checked_by_loading_everything(tmp_path: Path) -> None:
    (tmp_path / "eddyline.toml").write_text("[engine.ranking]\nlength = 7\n")
    settings = load_client_settings(None, {}, {})
    assert isinstance(settings, Settings)
    assert settings.engine.ranking.length == 7
    with pytest.raises(ConfigurationError, match=r"engine\.ranking\.length"):
        load_client_settings(None, {"engine.ranking.lenght": "7"}, {})


def test_all_settings_begin_with_the_light_ones() -> None:
    assert list(Settings.model_fields)[: len(ClientSettings.model_fields)] == list(ClientSettings.model_fields)
