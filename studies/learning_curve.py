"""Transfer against training from scratch over the number of labelled images.

    python -m studies.learning_curve

Simulated tumours only. Each seed (1000 and up, used nowhere else) draws other patients to learn
from, the same for every source; the test patients are the same for every run, 400 women of seed
1000. Ten epochs of fine_tune with its defaults (25 and 50 images: batches of 8). Sources: "random"
(from scratch), "ultrasound" (ships with the course), "digits" (a ResNet-18 trained here on
scikit-learn's handwritten digits: a source that knows something else). The digits' gain with 100
labels is measured a second time, with new seeds (1006 and up), and reported apart. Nothing is tuned
and no epoch is chosen.
"""

import functools
import itertools
import tempfile
from pathlib import Path

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from medtl_utils import (
    compare,
    fine_tune,
    load_task,
    predict,
    replace_head,
    save_model,
    source_model,
)
from medtl_utils.data import Split, Task
from medtl_utils.evaluation import mean_over_seeds
from medtl_utils.models import Normalisation
from studies.cache import bytes_of, keep, made_by, model_of
from studies.runner import Study, main, opened
from studies.tables import auc

NUMBERS, SOURCES = (25, 50, 100, 600), ("random", "ultrasound", "digits")
SEEDS, TEST_SEED = range(1000, 1006), 1000
REPEATED, REPEATED_SEEDS = 100, range(1006, 1012)  # labelled images of the second measurement


def digits_task(n_train: int = 1400, size: int = 64) -> Task:
    """Handwritten digits, 8x8 pixels, enlarged: `n_train` to learn from, the last 397 to check."""
    bunch = load_digits()
    pixels = torch.tensor(bunch.images[:, None] * 255 / 16, dtype=torch.float32)
    images = F.interpolate(pixels, size=(size, size), mode="bilinear").round().to(torch.uint8)
    labels, names = torch.tensor(bunch.target, dtype=torch.int64), tuple("0123456789")
    train = Split("train", images[:n_train], labels[:n_train], names)
    check = Split("val", images[1400:], labels[1400:], names)
    card = "scikit-learn's load_digits (UCI optical recognition of handwritten digits)"
    return Task("digits", train, check, card)


def train_digits() -> dict:
    """The weights of a ResNet-18 that names digits."""
    task = digits_task()
    pixels = task.train.images.float() / 255
    torch.manual_seed(1000)
    model = replace_head(source_model("random"), 10)
    model.normalisation = Normalisation((float(pixels.mean()),) * 3, (float(pixels.std()),) * 3)
    fine_tune(model, task, seed=1000, augmented=False)  # no mirror images: a mirrored 2 is no 2
    with tempfile.TemporaryDirectory() as folder:
        return {"weights": bytes_of(save_model(model, Path(folder) / "digits.safetensors"))}


@functools.cache
def digits_weights() -> np.ndarray:
    recipe = {"source": "digits"}
    return keep("learning_curve", recipe, train_digits, made_by(train_digits))["weights"]


@functools.cache
def test_set() -> Split:
    """400 simulated patients of TEST_SEED, the same for every run."""
    task = load_task("phantom", seed=TEST_SEED)
    return opened(task, "learning curve; the test set of no notebook")


def run(n_train: int, seed: int, source: str) -> dict:
    """Test probabilities and the validation AUC of every epoch of one fine-tuned model."""
    task = load_task("phantom", n_train=n_train, seed=seed)
    weights = digits_weights() if source == "digits" else None  # before the seed is set
    torch.manual_seed(seed)
    model: nn.Module = source_model(source) if weights is None else model_of(weights)
    replace_head(model, 2)
    batch = 8 if n_train < 100 else 32
    history = fine_tune(model, task, batch_size=batch, seed=seed, progress=False)
    return {"scores": predict(model, test_set()), "val_auc": history["val_auc"]}


def rows_of(n: int, scores: dict, seeds) -> tuple[list[dict], list[dict]]:
    """The AUC of each source, and its paired gain over training from scratch."""
    test, levels, gains = test_set(), [], []
    of = lambda source: [scores[n, seed, source] for seed in seeds]
    for source in [s for s in SOURCES if (n, seeds[0], s) in scores]:
        here = {"n_train": n, "test": "simulated", "source": source}
        level = mean_over_seeds(of(source), test)
        levels.append({**here, "auc": level["value"], "low": level["low"], "high": level["high"]})
        if source != "random":
            gains.append(here | {"metric": "auc"} | compare(of(source), of("random"), test))
    return levels, gains


def table(results: list[tuple[dict, dict]]) -> dict:
    scores, runs = {}, []
    for cell, found in results:
        key = tuple(cell[k] for k in ("n_train", "seed", "source"))
        scores[key] = torch.from_numpy(found["scores"])
        row = {"data": "simulated", **cell, "val_auc": found["val_auc"]}
        runs.append(row | {"auc": auc(scores[key], test_set())})
    levels, gains = [], []
    for n in NUMBERS:
        level, gain = rows_of(n, scores, SEEDS)
        levels, gains = levels + level, gains + gain
    check = digits_task().val
    named = predict(model_of(digits_weights()), check).argmax(1) == check.labels
    digits = {"images": 1400, "epochs": 10, "accuracy": named.float().mean()}
    return {
        "digits": digits | {"checked_on": len(check)},
        "levels": levels,
        "summary": gains,
        "repeated": rows_of(REPEATED, scores, REPEATED_SEEDS)[1],
        "runs": runs,
    }


def cells() -> list[dict]:
    first = itertools.product(SEEDS, NUMBERS, SOURCES)
    again = itertools.product(REPEATED_SEEDS, (REPEATED,), ("random", "digits"))
    return [{"n_train": n, "seed": seed, "source": s} for seed, n, s in (*first, *again)]


STUDY = Study(
    name="learning_curve",
    cells=cells(),
    run=run,
    table=table,
    recipe="fine_tune defaults, 10 epochs, 64 px; batches of 8 below 100 labelled images",
    seeds=SEEDS,
    about={
        "labelled": "training and validation together; load_task draws 600 by default",
        "test": "400 simulated patients of seed 1000, the same for every run",
        "repeated_seeds": REPEATED_SEEDS,
        "sklearn": sklearn.__version__,
    },
)

if __name__ == "__main__":
    main(STUDY)
