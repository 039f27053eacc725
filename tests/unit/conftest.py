from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

_NDCG = {
    "eddyline": 0.412, "eddyline-without-gate": 0.409, "eddyline-without-attention": 0.4115,
    "eddyline-without-lstm": 0.391, "eddyline-without-counts": 0.318, "eddyline-without-replay": 0.404,
    "eddyline-without-online": 0.372, "gru4rec": 0.315, "blend": 0.374, "co-visitation": 0.331,
    "decayed-popularity": 0.092, "popularity": 0.061, "recent": 0.146, "item-knn": 0.297,
}  # fmt: skip
_PIECES = {"recall": 1.36, "ndcg": 1.0, "mrr": 0.88}
_START, _HOURS, _WINDOWS = datetime(2024, 1, 1, tzinfo=UTC), 240, 20


def _iso(hours: float) -> str:
    return (_START + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


def _measures(ndcg: float, ks: tuple[int, ...]) -> dict[str, float]:
    return {f"{piece}@{k}": ndcg * ratio * (k / max(ks)) ** 0.2 for k in ks for piece, ratio in _PIECES.items()}


def sample(names: dict[str, float] | None = None, *, ks: tuple[int, ...] = (10, 20), seed: int = 0) -> dict[str, Any]:
    """A result such as a backtest gives; `names` are models and their NDCG."""
    rng = np.random.default_rng(seed)
    ndcg, main = names or _NDCG, f"ndcg@{max(ks)}"

    def ratio(one: str, other: str, factor: float) -> dict[str, float]:
        width = 0.012 * float(rng.uniform(0.5, 1.5))
        middle = (ndcg[one] / ndcg[other]) ** factor
        return {"ratio": middle, "low": middle * (1 - width), "high": middle * (1 + width)}

    def course(name: str) -> list[dict[str, Any]]:
        x = np.linspace(0, 1, _WINDOWS)
        learned = 1 - 0.25 * np.exp(-6 * x) - 0.35 * (x >= 0.5) * np.exp(-14 * (x - 0.5))
        level = ndcg[name] * learned * (1 + 0.03 * rng.standard_normal(_WINDOWS))
        edges = _HOURS / 2 * (1 + np.linspace(0, 1, _WINDOWS + 1))
        return [
            {"from": _iso(edges[n]), "until": _iso(edges[n + 1]), "clicks": 500, **_measures(float(level[n]), ks)}
            for n in range(_WINDOWS)
        ]

    def groups(name: str, factors: dict[str, tuple[int, float]]) -> dict[str, Any]:
        return {
            group: {"clicks": clicks, **_measures(ndcg[name] * factor * float(rng.uniform(0.9, 1.1)), ks)}
            for group, (clicks, factor) in factors.items()
        }

    def model(name: str) -> dict[str, Any]:
        eddyline = name.startswith("eddyline")
        shares = rng.dirichlet([3, 2, 12, 4, 2]).tolist()
        kept = 0.5 * ndcg[name] / max(ndcg.values())
        return {
            **_measures(ndcg[name], ks),
            f"coverage@{max(ks)}": float(rng.uniform(0.2, 0.95)),
            f"popularity@{max(ks)}": float(rng.uniform(0.6, 0.97)),
            f"novelty@{max(ks)}": float(rng.uniform(7, 10)),
            "log_loss": float(rng.uniform(3, 5)) if eddyline else None,
            "retention": kept if eddyline or name == "gru4rec" else None,
            "retention_windows": [
                {"click": 10_000 + 1_000 * n, "recall@20": kept * (1 - 0.02 * n)} for n in range(1, 11)
            ]
            if eddyline or name == "gru4rec"
            else [],
            "events_per_s": float(rng.uniform(300, 9000)),
            "chosen": {} if eddyline else {"half_life": 20_000, "window": [1, 2]},
            "published": _measures(0.93 * ndcg[name], ks) if name == "eddyline" else None,
            "sources": dict(zip(("neural", "popularity", "co_clicks", "history", "pattern"), shares, strict=True))
            if eddyline
            else None,
            "windows": course(name),
            "by": {
                "activity": groups(
                    name, {"0": (900, 0.6), "1-4": (2700, 0.8), "5-19": (4000, 1.1), "20+": (2400, 1.2)}
                ),
                "item age": groups(
                    name, {"unseen": (0, 0.0), "< 1 day": (800, 0.7), "1-7 days": (3900, 1.0), "> 7 days": (5300, 1.1)}
                ),
                "popularity": groups(name, {"head": (6100, 1.3), "tail": (3900, 0.5)}),
            },
            "against": {
                other: {
                    f"{piece}@{max(ks)}": ratio(name, other, factor)
                    for piece, factor in (("ndcg", 1.0), ("recall", 0.9))
                }
                for other in ndcg
                if other != name
            },
        }

    models = {name: model(name) for name in ndcg}
    first, *others = models.values()
    first["against_by"] = {
        division: {
            group: {
                name: {"ratio": one[main] / other["by"][division][group][main], "low": 0.9, "high": 1.2}
                for name, other in zip(list(models)[1:], others, strict=True)
                if other["by"][division][group][main]
            }
            for group, one in rows.items()
        }
        for division, rows in first["by"].items()
    }
    return {
        "data": {
            "name": "synthetic, 20,000 clicks",
            "fingerprint": "9f86d081884c7d659a2feaa0c55ad015",
            "clicks": 20_000,
            "users": 1_415,
            "items": 1_200,
            "from": _iso(0),
            "until": _iso(_HOURS),
            "warm_up_clicks": 10_000,
            "scored_clicks": 10_000,
            "kinds": {"click": 19_210, "purchase": 790},
            "drift": [{"at": _iso(_HOURS * 0.75), "click": 15_000, "what": "tastes and popularity change abruptly"}],
        },
        "settings": {
            "backtest": {"k": list(ks), "warm_up": 0.5, "seed": 0},
            "engine": {"ranking": {"length": 20, "exclude_seen": False}, "gap_minutes": None},
        },
        "versions": {"eddyline": "0.1.0", "torch": "2.8.0", "numpy": "2.3.0"},
        "models": models,
        "command": "eddyline replay clicks.csv.gz --ablations all --seed 0 --html report.html",
    }


@pytest.fixture
def make_result() -> Callable[..., dict[str, Any]]:
    return sample
