"""Peers: how they say that they are not installed, and users' factors by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from eddyline.replay.baselines.peers import PEERS, Als, AlsModel
from eddyline.replay.contender import Question
from eddyline.state.errors import ConfigurationError


@pytest.mark.parametrize(("peer", "package"), [("implicit-als", "implicit"), ("rtrec-slim", "rtrec")])
def test_a_peer_that_is_not_installed(peer: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=rf"{peer} needs {package}.* pip install 'eddyline\[peers\]'"):
        PEERS[peer](Question(5, exclude_seen=False), 0)


def test_factors_of_a_user() -> None:
    model = AlsModel(Als(factors=2, regularization=1.0, alpha=3.0))
    model.item = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    model.square = model.item.T @ model.item + np.eye(2, dtype=np.float32)
    # two clicks on item 0: (1 + 1 + 5) p_0 = 6; item 5 came later
    assert model.user(np.array([0, 0, 5, -1], np.int32)) == pytest.approx([6 / 7, 0])
    assert model.user(np.array([], np.int32)) == pytest.approx([0, 0])
