"""The rows of the studies' tables: one rounding, one interval over seeds, one way to write them."""

from __future__ import annotations

import json
import math
import platform
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from medtl_utils.checkpoint import whole_file
from medtl_utils.data import Split
from medtl_utils.paths import data_folder


def auc(scores: torch.Tensor | np.ndarray, split: Split) -> float:
    """AUC of probabilities (N, n_classes) for the positive class."""
    return float(roc_auc_score(split.labels == split.positive, scores[:, split.positive]))


def over_seeds(values, level: float = 0.95, bounds=(-math.inf, math.inf)) -> dict[str, float]:
    """Mean of one value a seed, (n,), with its t interval over seeds, cut at `bounds`."""
    values = np.asarray(values, dtype=np.float64)
    mean, error = float(values.mean()), float(stats.sem(values))
    low = high = mean
    if error > 0:
        low, high = stats.t.interval(level, len(values) - 1, mean, error)
    low, high = np.clip([low, high], *bounds).tolist()
    return {"value": mean, "low": low, "high": high}


def tidy(thing, decimals: int = 4):
    """Plain Python all the way down: floats rounded, arrays as lists."""
    if isinstance(thing, dict):
        return {name: tidy(value, decimals) for name, value in thing.items()}
    if isinstance(thing, (list, tuple, range)):
        return [tidy(value, decimals) for value in thing]
    if isinstance(thing, (np.ndarray, np.generic, torch.Tensor)):
        return tidy(thing.tolist(), decimals)
    return round(thing, decimals) if isinstance(thing, float) else thing


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]}


def write_table(name: str, table: dict, decimals: int = 4) -> Path:
    """data/results/NAME.json, rounded, whole or not at all."""
    file = data_folder() / "results" / f"{name}.json"
    text = json.dumps(tidy(table, decimals), indent=1, allow_nan=False)
    with whole_file(file) as part:
        part.write_text(text + "\n")
    return file
