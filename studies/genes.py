"""A small network on gene expression: is it worth retraining with few labelled tumours?

    python -m studies.genes

Source: oestrogen-receptor status in GSE3143 (158 women; positive: level 1 or more of 0 to 3).
Target: the same in GSE1992 (122 women). Both from the package SurvSet; 8,282 shared genes, each
standardised within its cohort, without labels. The network: genes -> 32 -> 2. Five trainings of
the source (20 epochs, 1e-3, batches of 32). Then 60 draws of 5, 10 and 20 labelled target women a
class, the draws of notebook 15c; draw d takes source training d modulo 5. Each arm trains 20 epochs
in batches of 10, so that scratch and fine-tuned make the same number of updates; nothing is chosen.
Two rates, 1e-3 and 1e-4, for both. Tested on the women who were not drawn. Intervals: percentile
bootstrap over target women and draws (with their source trainings); differences are paired.
"""

import copy
import functools
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from medtl_utils import fine_tune, predict
from medtl_utils.datasets import genes
from studies.cache import HELPER
from studies.runner import Study, main

SEED, N_DRAWS, SOURCE_SEEDS = 15, 60, range(5)
EPOCHS, BATCH, RATES = 20, 10, {"1e-3": 1e-3, "1e-4": 1e-4}
LABELS = (5, 10, 20)
ARMS = ("source as it is", *(f"{a}, {rate}" for a in ("scratch", "fine-tuned") for rate in RATES))
CELLS = [{"labels": n, "source_seed": seed} for n in LABELS for seed in SOURCE_SEEDS]


class Network(nn.Module):
    """Genes (N, n_genes), standardised -> logits (N, 2)."""

    def __init__(self, n_genes: int):
        super().__init__()
        self.normalisation = torch.Tensor.float
        self.shared = nn.Sequential(nn.Linear(n_genes, 32), nn.ReLU())
        self.fc = nn.Linear(32, 2)

    def forward(self, x):
        return self.fc(self.shared(x))


@functools.cache
def cohorts() -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """(x, y) of source and target: float32 (N, 8282), standardised; int64 (N,), 1 = positive."""
    (x_s, level), (x_t, status) = (genes.read_cohort(name) for name in ("gse3143", "gse1992"))
    shared = sorted(set(x_s) & set(x_t))
    standard = lambda x: (x[shared] - x[shared].mean()) / x[shared].std(ddof=0)
    pairs = ((standard(x_s), level >= 1), (standard(x_t), status == 1))
    return tuple(
        (
            torch.tensor(x.to_numpy(), dtype=torch.float32),
            torch.tensor(y.to_numpy(), dtype=torch.int64),
        )
        for x, y in pairs
    )


def task_of(x: torch.Tensor, y: torch.Tensor) -> SimpleNamespace:
    """What `fine_tune` needs; the validation part only fills its log: nothing is chosen."""
    split = SimpleNamespace(images=x, labels=y, classes=("negative", "positive"), positive=1)
    return SimpleNamespace(train=split, val=split)


def trained(model: nn.Module, x, y, lr: float, batch: int, seed: int) -> nn.Module:
    options = {"batch_size": batch, "seed": seed, "augmented": False, "progress": False}
    fine_tune(model, task_of(x, y), epochs=EPOCHS, lr=lr, **options)
    return model


@functools.cache
def source_network(seed: int) -> Network:
    (x, y), _ = cohorts()
    torch.manual_seed(seed)
    return trained(Network(x.shape[1]), x, y, 1e-3, 32, seed)


def drawn(y: np.ndarray, n: int, draw: int, seed: int = SEED) -> np.ndarray:
    """Indices of `n` women of each class; the same draws as in notebook 15c."""
    rng = np.random.default_rng([seed, n, draw])
    return np.concatenate([rng.permutation(np.flatnonzero(y == c))[:n] for c in (0, 1)])


def run(labels: int, source_seed: int) -> dict:
    """Probabilities (draws, 122) of each arm; nan for the women who were drawn."""
    _, (x, y) = cohorts()
    source, found = source_network(source_seed), {arm: [] for arm in ARMS}
    for draw in range(source_seed, N_DRAWS, len(SOURCE_SEEDS)):
        rows = drawn(y.numpy(), labels, draw)
        models = {"source as it is": source}
        for arm in ARMS[1:]:
            kind, rate = arm.split(", ")
            torch.manual_seed(1000 + draw)
            start = copy.deepcopy(source) if kind == "fine-tuned" else Network(x.shape[1])
            models[arm] = trained(start, x[rows], y[rows], RATES[rate], BATCH, draw)
        for arm, model in models.items():
            p = predict(model, SimpleNamespace(images=x))[:, 1].numpy()
            p[rows] = np.nan
            found[arm].append(p)
    return {arm: np.array(p) for arm, p in found.items()}


def weighted_auc(score: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC (n_boot,) of the women without nan; weights (n_boot, N): how often each counts."""
    up, down = (np.flatnonzero((y == c) & ~np.isnan(score)) for c in (1, 0))
    gap = score[up, None] - score[None, down]
    wins = (gap > 0) + 0.5 * (gap == 0)
    pairs = weights[:, up].sum(1) * weights[:, down].sum(1)
    return ((weights[:, up] @ wins) * weights[:, down]).sum(1) / pairs


def crossed(scores: np.ndarray, y: np.ndarray, n_boot: int = 1000) -> np.ndarray:
    """Mean AUC over draws (1 + n_boot,): first as it is, then with women and draws drawn again."""
    rng = np.random.default_rng(0)
    again = lambda n: np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=n_boot)])
    women, draws = again(len(y)), again(len(scores))
    aucs = np.stack([weighted_auc(score, y, women) for score in scores], axis=1)
    return (draws * aucs).sum(1) / len(scores)


def summarise(results: list[tuple[dict, dict]]) -> dict:
    y = cohorts()[1][1].numpy()
    summary, differences = [], []
    words = lambda v: dict(zip(("value", "low", "high"), (v[0], *np.quantile(v, [0.025, 0.975]))))
    for n in LABELS:
        own = [found for cell, found in results if cell["labels"] == n]
        value = {arm: crossed(np.concatenate([f[arm] for f in own]), y) for arm in ARMS}
        summary += [{"labels": n, "arm": arm, **words(v)} for arm, v in value.items()]
        for rate in RATES:
            arm = f"fine-tuned, {rate}"
            for base in ("source as it is", f"scratch, {rate}"):
                gap = words(value[arm] - value[base])
                differences.append({"labels": n, "arm": arm, "against": base, **gap})
    return {"summary": summary, "differences": differences}


def table(results: list[tuple[dict, dict]]) -> dict:
    y, one = cohorts()[1][1].numpy(), np.ones((1, 122))
    runs = [
        {**cell, **{arm: [weighted_auc(p, y, one)[0] for p in found[arm]] for arm in ARMS}}
        for cell, found in results
    ]
    updates = {str(n): EPOCHS * -(-2 * n // BATCH) for n in LABELS}
    return {"updates": updates, **summarise(results), "runs": runs}


STUDY = Study(
    name="genes",
    cells=CELLS,
    run=run,
    table=table,
    recipe="genes -> 32 -> 2; source 20 epochs at 1e-3; target 20 epochs in batches of 10",
    seeds={"source": list(SOURCE_SEEDS), "draws": N_DRAWS, "seed": SEED},
    about={"data_sha256": genes.SHA256},
    code=(*HELPER, "medtl_utils.datasets.genes"),
    weights=None,
)

if __name__ == "__main__":
    main(STUDY)
