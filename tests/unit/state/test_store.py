"""The settings of the state store."""

from __future__ import annotations

import pydantic
import pytest

from eddyline.state.store import StateSettings


def test_users_may_be_kept_forever_but_not_for_no_time() -> None:
    assert StateSettings(idle_days=None).idle_days is None
    with pytest.raises(pydantic.ValidationError, match="idle_days"):
        StateSettings(idle_days=0)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="sync"):
        StateSettings.model_validate({"sync": True})
