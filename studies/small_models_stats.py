"""The rows of data/results/small_models.json: levels, non-inferiority tests, pairs, subgroups.

phantom: five networks a variant, one set of test patients; intervals cross patients and trainings
(medtl_utils.compare). busi: one network a fold, each with its own images; t over four folds. For
shares (sensitivity, specificity) see `wider`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import special, stats
from sklearn.linear_model import LogisticRegression

from medtl_utils.evaluation import compare, mean_over_seeds
from medtl_utils.metrics import Cases, whole
from medtl_utils.phantom_tables import DESCRIPTORS
from studies import small_models as study
from studies.small_models_plan import MARGINS, PRIMARY, SENSITIVITY, TEST_IMAGES, verdict
from studies.tables import over_seeds

METRICS = ("auc", "sensitivity", "specificity")
PAIRS = (
    (study.TAUGHT, "pruned 70 %"),
    (study.MORE_IMAGES, "pruned 70 %"),
    (study.MORE_IMAGES, study.TAUGHT),
    ("pruned 50 %, int8", "pruned 50 %"),
    (study.name_int8(study.MORE_IMAGES), study.MORE_IMAGES),
)


def two_columns(p: np.ndarray, limit: float) -> torch.Tensor:
    """Probabilities (N, 2) whose logits are moved so that `limit` lies at 0.5.

    The order of the images stays, and so does the AUC.
    """
    z = special.logit(np.clip(p.astype(float), 1e-7, 1 - 1e-7)) - special.logit(limit)
    q = special.expit(z)
    q[p >= limit] = np.maximum(q[p >= limit], 0.5)  # rounding must not move an image across
    return torch.from_numpy(np.stack([1 - q, q], 1))


def slope(p: np.ndarray, labels: np.ndarray) -> float:
    """Calibration slope: of a logistic regression of the labels on logit p."""
    z = special.logit(np.clip(p.astype(float), 1e-6, 1 - 1e-6))[:, None]
    return float(LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(z, labels).coef_[0, 0])


def wider(found: dict, gained: int, lost: int, n: int) -> dict:
    """The interval over folds, or that over images where it is wider.

    Four folds may agree by accident, as where nothing changed at all; then t knows nothing. Over
    images: exact ends (Clopper-Pearson) of the shares gained and lost.
    """
    (g, gained_ends), (k, lost_ends) = (
        (m / n, stats.binomtest(m, n).proportion_ci(0.95, method="exact")) for m in (gained, lost)
    )
    low, high = gained_ends.low - lost_ends.high, gained_ends.high - lost_ends.low
    middle = found["value"] - (g - k)  # folds weigh alike, images do not
    return found | {
        "low": min(found["low"], low + middle),
        "high": max(found["high"], high + middle),
    }


class Found:
    """All answers for one data set: `scores` [variant][draw] (N, 2), at limit 0.5."""

    def __init__(self, data: str, results: list[tuple[dict, dict]]):
        self.data = data
        mine = [(cell["draw"], arrays) for cell, arrays in results if cell["data"] == data]
        self.draws = [draw for draw, _ in mine]
        self.tests = [study.held_out(data, draw) for draw in self.draws]
        self.limits = [float(arrays["threshold"]) for _, arrays in mine]
        self.plain = {
            name: [arrays["scores"][row] for _, arrays in mine]
            for row, name in enumerate(study.VARIANTS)
        }
        self.scores = {
            name: [two_columns(p, limit) for p, limit in zip(of, self.limits)]
            for name, of in self.plain.items()
        }

    def values(self, name: str, metric: str) -> np.ndarray:
        """One value a fold or draw."""
        pairs = zip(self.scores[name], self.tests)
        return np.array([whole(Cases(p, test, 0.5))[metric] for p, test in pairs])

    def level(self, name: str, metric: str) -> dict:
        if self.data == "busi":
            return over_seeds(self.values(name, metric), bounds=(0, 1))
        found = mean_over_seeds(self.scores[name], self.tests[0], metric)
        return {k: found[k] for k in ("value", "low", "high")}

    def difference(self, a: str, b: str, metric: str, rows=None) -> dict:
        """Paired, a - b; `rows`: of some of the test images (phantom)."""
        if self.data == "busi":
            found = over_seeds(self.values(a, metric) - self.values(b, metric))
            return found if metric == "auc" else wider(found, *self.flips(a, b, metric))
        test = self.tests[0]
        if rows is not None:
            test = replace(test[rows], name="subgroup")
        rows = slice(None) if rows is None else rows
        sides = ([p[rows] for p in self.scores[name]] for name in (a, b))
        found = compare(*sides, test, metric)
        return {"value": found["difference"], "low": found["low"], "high": found["high"]}

    def flips(self, a: str, b: str, metric: str) -> tuple[int, int, int]:
        """Over all folds: images that a decides rightly and b not, the reverse, and all images."""
        label, counts = int(metric == "sensitivity"), np.zeros(3, int)
        for p, q, test in zip(self.scores[a], self.scores[b], self.tests):
            mine = test.labels.numpy() == label
            x, y = ((s[:, 1].numpy() >= 0.5)[mine] == label for s in (p, q))
            counts += [(x & ~y).sum(), (y & ~x).sum(), mine.sum()]
        return tuple(counts.tolist())

    def slope(self, name: str) -> dict:
        labels = [test.labels.numpy() for test in self.tests]
        return over_seeds([slope(p, y) for p, y in zip(self.plain[name], labels)])

    def changed(self, name: str) -> float:
        """Share of the images whose decision is not the original's."""
        pairs = zip(self.scores[name], self.scores[study.ORIGINAL])
        return float(np.mean([((a >= 0.5) != (b >= 0.5))[:, 1].float().mean() for a, b in pairs]))


def subgroups(found: Found) -> list[dict]:
    """What the primary variant does in each group of the phantom; descriptive."""
    test, rows = found.tests[0], []
    known = test.descriptors
    thirds = np.quantile(known["size_mm"], [1 / 3, 2 / 3])
    size = np.digitize(known["size_mm"], thirds)
    names = ("smallest third", "middle third", "largest third")
    groups = {f"scanner {k}": known["scanner"] == k for k in np.unique(known["scanner"])}
    groups |= {name: size == k for k, name in enumerate(names)}
    groups |= {f"shape {v}": known["shape"] == k for k, v in enumerate(DESCRIPTORS["shape"])}
    for name, mine in groups.items():
        cancers = int((test.labels.numpy()[mine] == 1).sum())
        row = {"group": name, "images": int(mine.sum()), "cancers": cancers}
        for metric in ("auc", "sensitivity"):
            gap = found.difference(PRIMARY, study.ORIGINAL, metric, np.flatnonzero(mine))
            row[metric] = gap
        rows.append(row)
    return rows


def rows_of(results: list[tuple[dict, dict]]) -> dict:
    of = {data: Found(data, results) for data in study.DRAWS}
    levels, tests, pairs = [], [], []
    for data, found in of.items():
        for name in study.VARIANTS:
            row = {"data": data, "variant": name}
            row |= {metric: found.level(name, metric) for metric in METRICS}
            levels.append(row | {"slope": found.slope(name), "changed": found.changed(name)})
            if name == study.ORIGINAL:
                continue
            for metric in METRICS:
                gap = found.difference(name, study.ORIGINAL, metric)
                margin = MARGINS[data].get(metric)
                test = {"data": data, "variant": name, "metric": metric, "margin": margin} | gap
                word = None if margin is None else verdict(gap["low"], gap["high"], margin)
                tests.append(test | {"verdict": word})
        for a, b in PAIRS:
            pairs.append({"data": data, "a": a, "b": b} | found.difference(a, b, "auc"))
    test = of["phantom"].tests[0]
    assert len(test) >= TEST_IMAGES
    counts = ("learn", "aside", "unlabelled", "cancers aside")
    return {
        "updates": {"original": study.UPDATES, "more": study.MORE, "batch": study.BATCH},
        "margins": MARGINS,
        "primary": PRIMARY,
        "operating point": SENSITIVITY,
        "interval": "95 %, paired; phantom: patients and trainings crossed; busi: t over 4 folds, "
        "for shares the wider of this and an exact one over images",
        "test": {"images": len(test), "patients": len(np.unique(test.patients))},
        "levels": levels,
        "tests": tests,
        "pairs": pairs,
        "subgroups": subgroups(of["phantom"]),
        "runs": [
            cell | {"threshold": float(r["threshold"])} | dict(zip(counts, r["counts"].tolist()))
            for cell, r in results
        ],
    }
