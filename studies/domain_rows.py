"""The rows of the table of unseen scanners: levels, gains over ERM, gaps, choices, calibration."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from medtl_utils.evaluation import compare, mean_over_seeds
from medtl_utils.phantom import PREVALENCE
from studies import small_data
from studies.tables import over_seeds

ARMS = ("greys", "probe", "ERM from random", "ERM", "CORAL", "DANN", "style", "physics")
ADABN = "AdaBN, all"
THREE = ("A", "B", "C")
TARGETS = (*THREE, "mean of A, B, C", "D", "busi", "phantom")  # "phantom": learnt on busi


def at(found: dict, arm: str, test: str, how: str = "chosen") -> np.ndarray | None:
    """Log-odds of an arm: of the setting chosen on training domains, or of the best on the test."""
    scores = found.get(f"{arm}/{test}")
    if scores is None:
        return None
    if how == "best on test":
        return scores[int(np.argmax([auc(truth(found, test), row) for row in scores]))]
    return scores[int(np.argmax(found.get(f"{arm}/val", [0])))]


def auc(labels, scores) -> float:
    return float(roc_auc_score(labels, scores))


def truth(found: dict, test: str) -> np.ndarray:
    if test == "busi":
        return found["busi"] if "busi" in found else small_data.real()[0].labels.numpy()
    return found["labels"]


def of_cell(found: dict, arm: str, tests, how: str = "chosen") -> float | None:
    """Mean AUC over some test sets."""
    scores = [at(found, arm, test, how) for test in tests]
    if any(one is None for one in scores):
        return None
    return float(np.mean([auc(truth(found, test), one) for test, one in zip(tests, scores)]))


class Cells:
    """The cells of the study, by what was left out and seed."""

    def __init__(self, results: list[tuple[dict, dict]]):
        self.scanner = {(c["left"], c["seed"]): f for c, f in results if c["part"] == "scanner"}
        self.real = {c["seed"]: f for c, f in results if c["part"] == "real"}
        self.seeds = sorted({seed for _, seed in self.scanner})

    def values(self, target: str, arm: str, how: str = "chosen") -> np.ndarray | None:
        """One AUC a seed, or a fold of busi where `target` is "phantom"; None: no such arm."""
        if target == "mean of A, B, C":
            each = [self.values(s, arm, how) for s in THREE]
            return None if any(v is None for v in each) else np.mean(each, 0)
        if target == "phantom":
            found = [of_cell(self.real[fold], arm, THREE, how) for fold in sorted(self.real)]
        else:
            left = target if target in THREE else "none"
            found = [of_cell(self.scanner[left, s], arm, (target,), how) for s in self.seeds]
        return None if any(v is None for v in found) else np.array(found)

    def on_busi(self, arm: str, how: str = "chosen") -> list[torch.Tensor]:
        """Probabilities (N, 2), one tensor a seed."""
        odds = [at(self.scanner["none", s], arm, "busi", how) for s in self.seeds]
        return [torch.tensor(np.stack([expit(-z), expit(z)], 1)).float() for z in odds]


def levels_and_gains(cells: Cells) -> tuple[list[dict], list[dict]]:
    """AUC of each arm at each target, and what it adds to ERM, paired."""
    levels, gains, split = [], [], small_data.real()[0]
    for target in TARGETS:
        erm = cells.values(target, "ERM")
        for arm in (*ARMS, ADABN):
            each, here = cells.values(target, arm), {"target": target, "arm": arm}
            if each is None:
                continue
            if target != "busi":
                levels.append(here | over_seeds(each, bounds=(0, 1)))
                gap = over_seeds(each - erm)
            else:
                probabilities = cells.on_busi(arm)
                level = mean_over_seeds(probabilities, split)
                levels.append(here | {k: level[k] for k in ("value", "low", "high")})
                if arm != "ERM":
                    found = compare(probabilities, cells.on_busi("ERM"), split)
                    gap = {"value": found["difference"], "low": found["low"], "high": found["high"]}
            if arm != "ERM":
                gains.append(here | gap)
    return levels, gains


def gaps(cells: Cells) -> list[dict]:
    """ERM: the unseen scanner against what one might compare it with."""
    rows = []
    away, same, others = [], [], []
    for s in THREE:
        away.append(cells.values(s, "ERM"))
        same.append([of_cell(cells.scanner["none", k], "ERM, seen", (s,)) for k in cells.seeds])
        others.append(
            [
                of_cell(cells.scanner[s, k], "ERM, seen", [o for o in THREE if o != s])
                for k in cells.seeds
            ]
        )
        for against, them in (("seen in training", same), ("the scanners seen", others)):
            rows.append(
                {"scanner": s, "against": against} | over_seeds(away[-1] - np.array(them[-1]))
            )
    for against, them in (("seen in training", same), ("the scanners seen", others)):
        rows.append(
            {"scanner": "mean of A, B, C", "against": against}
            | over_seeds(np.mean(np.subtract(away, them), 0))
        )
    far = np.mean([[of_cell(cells.scanner["none", k], "ERM, seen", (s,)) for k in cells.seeds]
                   for s in THREE], 0)  # fmt: skip
    rows.append(
        {"scanner": "D", "against": "the scanners seen"}
        | over_seeds(cells.values("D", "ERM") - far)
    )
    return rows


def real_gaps(cells: Cells) -> list[dict]:
    """Learnt on the phantom or on busi, 240 images each, tested on the same images; over folds."""
    folds, fold = small_data.real()[1], sorted(cells.real)
    labels = small_data.real()[0].labels.numpy()
    away, home = [], []
    for f in fold:
        rows = folds == f
        each = [auc(labels[rows], at(cells.scanner["none", s], "ERM", "busi")[rows])
                for s in cells.seeds]  # fmt: skip
        away.append(np.mean(each))
        home.append(of_cell(cells.real[f], "ERM", ("busi",)))
    phantom = cells.values("phantom", "ERM")
    own = [of_cell(cells.scanner["none", f], "ERM, seen", THREE) for f in fold]
    pairs = (("busi", away, home), ("phantom", phantom, own))
    return [
        {"tested on": name, "away": np.mean(a), "home": np.mean(b)} | over_seeds(np.subtract(a, b))
        for name, a, b in pairs
    ]


def choices(cells: Cells) -> list[dict]:
    """What a choice on the test images would have pretended: the gain over ERM of both choices."""
    rows = []
    for target in ("mean of A, B, C", "D", "phantom"):
        erm = cells.values(target, "ERM")
        for arm in ("ERM", "CORAL", "DANN", "style", "physics"):
            honest, best = (cells.values(target, arm, h) for h in ("chosen", "best on test"))
            if honest is None:
                continue
            row = {"target": target, "arm": arm, "pretended": over_seeds(best - honest)}
            rows.append(row | {"against ERM": over_seeds(best - erm)})
    for arm in ("ERM", "CORAL", "DANN", "style", "physics"):
        best = compare(
            cells.on_busi(arm, "best on test"), cells.on_busi("ERM"), small_data.real()[0]
        )
        of = {k: best[j] for k, j in (("value", "difference"), ("low", "low"), ("high", "high"))}
        gap = cells.values("busi", arm, "best on test") - cells.values("busi", arm)
        rows.append({"target": "busi", "arm": arm, "pretended": over_seeds(gap), "against ERM": of})
    return rows


def risks(cells: Cells) -> list[dict]:
    """Mean probability minus share of malignant images, of ERM and of AdaBN; and AUC of AdaBN."""
    rows, risk = [], []
    arms = ("ERM", ADABN, "AdaBN, benign", "AdaBN, malignant")
    for arm in arms:
        too_high, areas = [], []
        for seed in cells.seeds:
            each = [(cells.scanner[s, seed], s) for s in THREE]
            odds = [(found, s, at(found, arm, s)) for found, s in each]
            too_high.append(np.mean([expit(z).mean() - f["labels"].mean() for f, _, z in odds]))
            areas.append(np.mean([auc(f["labels"], z) for f, _, z in odds]))
        base = cells.values("mean of A, B, C", "ERM")
        risk = too_high if arm == "ERM" else risk
        rows.append({"arm": arm, "too high": over_seeds(too_high), "auc": over_seeds(areas)}
                    | {"auc - ERM": over_seeds(np.subtract(areas, base))}
                    | {"risk - ERM": over_seeds(np.subtract(too_high, risk))})  # fmt: skip
    return rows


def scanner_told(cells: Cells) -> list[dict]:
    """How often a probe names the scanner from the features: two scanners, chance 0.5."""
    rows = []
    for arm in ("ERM", "CORAL", "DANN", "style", "physics"):
        per_seed = lambda pick: [
            np.mean([pick(cells.scanner[s, k]) for s in THREE]) for k in cells.seeds
        ]
        name = lambda f, a=arm: f[f"{a}/scanner told"][int(f[f"{a}/val"].argmax())]
        last = lambda f, a=arm: f[f"{a}/scanner told"][-1]
        row = {"arm": arm, "chosen": over_seeds(per_seed(name))}
        rows.append(row | {"strongest": over_seeds(per_seed(last))})
    return rows


def clinic(cells: Cells) -> dict:
    """ERM on machine C, which it has not seen: log-odds and truth, one image a woman."""
    odds, ill = [], []
    for seed in cells.seeds:
        found = cells.scanner["C", seed]
        first = np.unique(found["who"], return_index=True)[1]
        odds += at(found, "ERM", "C")[first].round(3).tolist()
        ill += found["labels"][first].tolist()
    return {"log-odds": odds, "malignant": ill, "learnt with": PREVALENCE}


def table(results: list[tuple[dict, dict]]) -> dict:
    cells = Cells(results)
    levels, gains = levels_and_gains(cells)
    runs = [
        {"target": t, "arm": a, "how": how, "auc": each}
        for t in TARGETS
        for a in (*ARMS, ADABN)
        for how in ("chosen", "best on test")
        if (each := cells.values(t, a, how)) is not None
    ]
    return {
        "levels": levels,
        "gains": gains,
        "gaps": gaps(cells),
        "real": real_gaps(cells),
        "choices": choices(cells),
        "risks": risks(cells),
        "scanner told": scanner_told(cells),
        "clinic": clinic(cells),
        "runs": runs,
    }
