"""Which recipe? Six ways to use the source and six from scratch, on real tumours.

    python -m studies.recipes

Busi's folds 1 to 4: each is scored once by networks that learnt from the other three, about 468
images; near-copies are never on both sides. Fold 0, the test fold, is not touched
(studies/recipes_test.py opens it, for the way that is best here on either side). One training of
each network and of the source: the interval covers groups of images alone. As many ways on either
side: each has had the same chance. "full rate" and all below it in either list:
fine_tune's one-cycle schedule and augmentation.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import nn

from medtl_utils import fine_tune, freeze, param_groups, predict, replace_head, source_model
from medtl_utils.data import Split
from studies.evidence_data import test_rows, whole
from studies.evidence_stats import Fold, estimate, summary
from studies.probe import set_head
from studies.runner import ULTRASOUND, Study, main
from studies.tables import auc

SEEDS, FOLDS, PROBE_C = range(1), range(1, 5), 0.01


def fresh(source: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return replace_head(source_model(source), 2)


def textbook(source: str, train: Split, seed: int) -> nn.Module:
    """Adam 1e-3, batches of 32, ten epochs, no augmentation, constant rate."""
    model = fresh(source, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(10):
        model.train()
        for index in torch.randperm(len(train)).split(32):
            if len(index) < 2:
                continue  # BatchNorm cannot normalise a batch of one
            logits = model(model.normalisation(train.images[index]))
            loss = nn.functional.cross_entropy(logits, train.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def tuned(model: nn.Module, train: Split, seed: int, lr=1e-3, **how) -> nn.Module:
    """fine_tune, ten epochs unless told otherwise; nothing is chosen by validation."""
    few = train[[int((train.labels == c).nonzero()[0]) for c in (0, 1)]]  # two images keep it short
    fine_tune(model, SimpleNamespace(train=train, val=few), lr=lr, seed=seed, progress=False, **how)
    return model


def extraction(source: str, train: Split, seed: int) -> nn.Module:
    """Frozen layers; the head is a logistic regression on the standardised features."""
    return set_head(fresh(source, seed), train, PROBE_C)


def head_first(source: str, train: Split, seed: int) -> nn.Module:
    model = freeze(extraction(source, train, seed), through=None, batchnorm="eval")
    return tuned(model, train, seed, 1e-4)


def discriminative(source: str, train: Split, seed: int) -> nn.Module:
    model = freeze(fresh(source, seed), through=None, batchnorm="eval")
    return tuned(model, train, seed, param_groups(model, lr=1e-3, decay=0.3))


def at_rate(lr: float, **how) -> Callable[[str, Split, int], nn.Module]:
    return lambda source, train, seed: tuned(fresh(source, seed), train, seed, lr, **how)


WAYS: dict[str, dict[str, Callable[[str, Split, int], nn.Module]]] = {
    "transfer": {
        "textbook": textbook,
        "full rate": at_rate(1e-3),
        "one low rate": at_rate(1e-4),
        "feature extraction": extraction,
        "head first, then all": head_first,
        "discriminative rates": discriminative,
    },
    "scratch": {
        "textbook": textbook,
        "full rate": at_rate(1e-3),
        "three times the rate": at_rate(3e-3),
        "a third of the rate": at_rate(3e-4),
        "twice as long": at_rate(1e-3, epochs=20),
        "twice as long, no augmentation": at_rate(1e-3, epochs=20, augmented=False),
    },
}
SOURCE_OF = {"transfer": "ultrasound", "scratch": "random"}
LONG = "twice as long"


def epochs_of(way: str) -> int:
    if way == "feature extraction":
        return 0
    return 20 if way.startswith(LONG) else 10


@functools.cache
def fold_of(fold: int) -> Split:
    """The images of one of busi's folds at 64 pixels."""
    return whole("busi", 64)[test_rows("busi", 0, fold)]


def others(fold: int) -> Split:
    """The images of the other folds that may be learnt from; fold 0 never is."""
    rows = [test_rows("busi", 0, k) for k in FOLDS if k != fold]
    return whole("busi", 64)[sorted(int(row) for part in rows for row in part)]


def run(side: str, way: str, seed: int, fold: int) -> dict:
    """Probabilities (N, 2) of the fold's images."""
    model = WAYS[side][way](SOURCE_OF[side], others(fold), 100 * seed + fold)
    return {"scores": predict(model, fold_of(fold))}


def repetitions(results: list[tuple[dict, dict]]) -> dict:
    """(side, way) -> for each seed its four folds."""
    found: dict = {}
    for cell, arrays in results:
        split = fold_of(cell["fold"])
        by_seed = found.setdefault((cell["side"], cell["way"]), [[] for _ in SEEDS])
        positive = (split.labels == split.positive).numpy()
        by_seed[cell["seed"]].append(Fold(arrays["scores"][None, :, 1], positive, split.groups))
    return found


def table(results: list[tuple[dict, dict]]) -> dict:
    """AUC of every way, differences to the textbook on the same side, and the best way of each."""
    estimates = {key: estimate(folds) for key, folds in repetitions(results).items()}
    n = round(sum(len(others(fold)) for fold in FOLDS) / len(FOLDS))
    shown = lambda found: {k: v for k, v in summary(found).items() if k in ("value", "low", "high")}
    ways, differences, chosen = [], [], {}
    for (side, way), found in estimates.items():
        row = {"side": side, "way": way, "updates": epochs_of(way) * -(-n // 32)}
        ways.append(row | shown(found))
        if way != "textbook":
            row = {"side": side, "way": way, "against": "textbook"}
            differences.append(row | shown(found - estimates[side, "textbook"]))
    for side in WAYS:
        chosen[side] = max((r for r in ways if r["side"] == side), key=lambda r: r["value"])["way"]
    runs = [{**cell, "auc": auc(found["scores"], fold_of(cell["fold"]))} for cell, found in results]
    return {
        "images_to_learn_from": n,
        "chosen": chosen,
        "ways": ways,
        "differences": differences,
        "runs": runs,
    }


STUDY = Study(
    name="recipes",
    cells=[
        {"side": side, "way": way, "seed": seed, "fold": fold}
        for seed, side in itertools.product(SEEDS, ("scratch", "transfer"))
        for way, fold in itertools.product(WAYS[side], FOLDS)
    ],
    run=run,
    table=table,
    recipe="six ways a side, batches of 32, 64 px",
    seeds=SEEDS,
    about={
        "images": "busi's folds 1 to 4, each scored once by networks from the other three",
        "interval": "95 %, over groups of near-copies; one training of each network",
    },
    code=("studies.evidence_data", "studies.probe")
    + tuple(f"medtl_utils.{name}" for name in ("training", "augmentation", "grouping", "models")),
    weights=lambda cell: ULTRASOUND if cell["side"] == "transfer" else None,
)

if __name__ == "__main__":
    main(STUDY)
