"""The ten-line snippet of notebook 04b, complete, and with one thing left out at a time.

    python -m studies.snippet

Each seed is another simulated task (seeds 4001 and up, used nowhere else): other patients, 200
labelled images. All are scored on the same fresh patients of seed 4000. Complete: ResNet-18 with
the ultrasound source's layers and normalisation, a new Linear(512, 2), cross-entropy on logits,
Adam 0.001, shuffled batches of 32, ten epochs, prediction in evaluation mode. Differences are
paired; their 95 % intervals cross patients and seeds (medtl_utils.compare).
"""

import copy
import functools
import itertools
from collections.abc import Callable

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from medtl_utils import compare, freeze, load_task, replace_head, source_model
from medtl_utils.data import Split
from medtl_utils.training import autocast
from studies.runner import Study, main, opened
from studies.tables import over_seeds

SEEDS, TEST_SEED = range(4001, 4006), 4000
TEST_PATIENTS, SMALL_TEST, DRAWS = 240, 40, 200
CPU = torch.device("cpu")
INPUTS = {  # what the network is given
    "normalised": lambda model, images: model.normalisation(images),
    "0..1": lambda model, images: images.float().expand(-1, 3, -1, -1) / 255,
    "0..255": lambda model, images: images.float().expand(-1, 3, -1, -1),
}
TRAININGS = {  # name -> arguments of `train`; the same inputs at prediction
    "complete": {},
    "0..1 in training and prediction": {"inputs": "0..1"},
    "0..255 in training and prediction": {"inputs": "0..255"},
    "softmax before the loss": {"softmax": True},
    "not shuffled, patient by patient": {"order": "stored"},
    "not shuffled, sorted by class": {"order": "by class"},
    "another seed": {},
    "frozen layers": {"frozen": "all"},
    "frozen layers, BatchNorm forgotten": {"frozen": "weights"},
    "frozen layers, 0..1 throughout": {"inputs": "0..1", "frozen": "all"},
    "frozen layers, 0..255 throughout": {"inputs": "0..255", "frozen": "all"},
}
PREDICTIONS = {  # of the complete model: name -> arguments of `predict`
    "predict in training mode, batches of 32": {"mode": "train", "batch": 32},
    "predict in training mode, one by one": {"mode": "train", "batch": 1},
    "0..1 at prediction only": {"inputs": "0..1"},
    "0..255 at prediction only": {"inputs": "0..255"},
}
# name -> (complete recipe it is compared with, what is left out)
OMISSIONS = {
    "predict in training mode, batches of 32": ("complete", "model.eval()"),
    "predict in training mode, one by one": ("complete", "model.eval()"),
    "0..1 at prediction only": ("complete", "normalisation"),
    "0..255 at prediction only": ("complete", "normalisation"),
    "0..1 in training and prediction": ("complete", "normalisation"),
    "0..255 in training and prediction": ("complete", "normalisation"),
    "softmax before the loss": ("complete", "logits"),
    "not shuffled, patient by patient": ("complete", "shuffle=True"),
    "not shuffled, sorted by class": ("complete", "shuffle=True"),
    "another seed": ("complete", "nothing: same images, other head, other order"),
    "frozen layers": ("complete", "nothing: only the head learns"),
    "frozen layers, BatchNorm forgotten": ("frozen layers", "frozen BatchNorm"),
    "frozen layers, 0..1 throughout": ("frozen layers", "normalisation"),
    "frozen layers, 0..255 throughout": ("frozen layers", "normalisation"),
}


def rows_in_order(order: str, labels: torch.Tensor) -> torch.Tensor:
    shuffled = torch.randperm(len(labels))  # drawn in any case: the same random numbers follow
    if order == "shuffled":
        return shuffled
    return torch.arange(len(labels)) if order == "stored" else torch.argsort(labels, stable=True)


def train(
    split: Split,
    seed: int,
    inputs: str = "normalised",
    softmax: bool = False,
    order: str = "shuffled",
    frozen: str | None = None,
    each_epoch: Callable | None = None,
) -> nn.Module:
    """The snippet. `frozen`: None, "weights" (requires_grad only) or "all" (BatchNorm too).

    `each_epoch`: called with the model.
    """
    torch.manual_seed(seed)
    model = replace_head(source_model("ultrasound"), 2)
    if frozen:
        freeze(model, through="layer4", batchnorm="train" if frozen == "weights" else "frozen")
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    images, labels = INPUTS[inputs](model, split.images), split.labels
    for _ in range(10):
        model.train()
        for index in rows_in_order(order, labels).split(32):
            if len(index) < 2:
                continue  # BatchNorm cannot normalise a batch of one
            with autocast(CPU):
                logits = model(images[index].contiguous(memory_format=torch.channels_last)).float()
            given = logits.softmax(1) if softmax else logits
            loss = nn.functional.cross_entropy(given, labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if each_epoch:
            each_epoch(model.eval())
    return model.eval()


@torch.no_grad()
def predict(
    model: nn.Module, split: Split, inputs: str = "normalised", mode: str = "eval", batch: int = 128
) -> torch.Tensor:
    """Probabilities (N, 2). `mode` "train": BatchNorm uses the statistics of the batch at hand."""
    model = copy.deepcopy(model).train(mode == "train")
    parts = [model(INPUTS[inputs](model, images)) for images in split.images.split(batch)]
    return torch.cat(parts).softmax(1)


@functools.cache
def test_split() -> Split:
    """Images of the first TEST_PATIENTS test patients of seed 4000."""
    reason = "the omissions of notebook 04's snippet; not the test set of any notebook"
    test = opened(load_task("phantom", seed=TEST_SEED), reason)
    return test[np.isin(test.patients, np.unique(test.patients)[:TEST_PATIENTS])]


def run(seed: int, training: str) -> dict:
    """Scores on the test images; of the complete recipe also after each epoch, and spoilt ones."""
    split, test = load_task("phantom", n_train=200, seed=seed).train, test_split()
    how = TRAININGS[training]
    if training != "complete":
        model = train(split, seed + 100_000 if training == "another seed" else seed, **how)
        return {training: predict(model, test, how.get("inputs", "normalised"))}
    epochs: list[torch.Tensor] = []
    model = train(split, seed, each_epoch=lambda model: epochs.append(predict(model, test)))
    scores = {"complete": predict(model, test), "epochs": torch.stack(epochs)}
    return scores | {name: predict(model, test, **how) for name, how in PREDICTIONS.items()}


def numbers(scores: torch.Tensor, test: Split) -> dict[str, float]:
    p, y = scores[:, 1].double().numpy(), test.labels.numpy()
    right, squared = (p >= 0.5) == y, (p - y) ** 2
    return {"auc": roc_auc_score(y, p), "accuracy": right.mean(), "brier": squared.mean()}


def best_epoch(epochs: torch.Tensor, test: Split, seed: int) -> dict[str, float]:
    """AUC when a small test set chooses the epoch: on that set, and on all other patients.

    Means over DRAWS small sets.
    """
    rng, people, found = np.random.default_rng(seed), np.unique(test.patients), []
    y, p = test.labels.numpy(), epochs[:, :, 1].numpy()
    for _ in range(DRAWS):
        small = np.isin(test.patients, rng.permutation(people)[:SMALL_TEST])
        aucs = [roc_auc_score(y[small], scores[small]) for scores in p]
        best = int(np.argmax(aucs))
        others = [roc_auc_score(y[~small], p[k][~small]) for k in (best, -1)]
        found.append([aucs[best], others[0], aucs[-1], others[1]])
    names = ("best_reported", "best_elsewhere", "last_reported", "last_elsewhere")
    return dict(zip(names, np.mean(found, axis=0)))


def choosing_the_epoch(scores: dict[int, dict], test: Split) -> dict:
    """What choosing the epoch on a small test set does, with t intervals over seeds."""
    chosen = [best_epoch(s["epochs"], test, seed) for seed, s in scores.items()]

    def row(values) -> dict:
        found = over_seeds(values)
        return {"mean": found.pop("value"), **found}

    gap = lambda a, b: row([c[a] - c[b] for c in chosen])
    return {
        "patients_in_small_test": SMALL_TEST,
        **{key: row([c[key] for c in chosen]) for key in chosen[0]},
        "optimism_of_best": gap("best_reported", "best_elsewhere"),
        "optimism_of_last": gap("last_reported", "last_elsewhere"),
        "true_gain_of_best": gap("best_elsewhere", "last_elsewhere"),
    }


def table(results: list[tuple[dict, dict]]) -> dict:
    test, scores = test_split(), {seed: {} for seed in SEEDS}
    for cell, found in results:
        scores[cell["seed"]] |= {k: torch.from_numpy(v) for k, v in found.items()}
    runs = [
        {"seed": seed, "what": what, **numbers(scores[seed][what], test)}
        for seed, what in itertools.product(SEEDS, ["complete", *OMISSIONS])
    ]
    summary = []
    for what, (reference, missing) in OMISSIONS.items():
        for metric in ("auc", "accuracy", "brier"):
            sides = [[s[side] for s in scores.values()] for side in (what, reference)]
            row = {"what": what, "left_out": missing, "against": reference, "metric": metric}
            summary.append(row | compare(*sides, test, metric))
    return {
        "test_images": len(test),
        "summary": summary,
        "best_epoch": choosing_the_epoch(scores, test),
        "runs": runs,
    }


STUDY = Study(
    name="snippet",
    cells=[{"seed": s, "training": t} for s, t in itertools.product(SEEDS, TRAININGS)],
    run=run,
    table=table,
    recipe="the ten-line snippet of notebook 04; Adam 0.001, batches of 32, ten epochs, 64 px",
    seeds=SEEDS,
    about={
        "labelled": 200,
        "test_seed": TEST_SEED,
        "test_patients": TEST_PATIENTS,
        "interval": "95 %, crossed over patients and seeds (medtl_utils.compare); "
        "in best_epoch: t over seeds",
    },
    decimals=5,
)

if __name__ == "__main__":
    main(STUDY)
