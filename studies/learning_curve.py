"""Transfer against training from scratch over the number of labelled images.

    python -m studies.learning_curve

Simulated tumours: each seed (1000 and up, used nowhere else) draws other patients to learn from,
the same for every source; the test patients are the same for every run, 400 women of seed 1000.
Real tumours (BreastMNIST, official test set): scratch and digits only. With 100 labels the digits'
gain left out zero, upwards on simulated and downwards on real images: both were then repeated with
new seeds (1006 and up), reported apart. Ten epochs of fine_tune with its defaults (25 and 50
images: batches of 8). Sources: "random" (from scratch), "ultrasound" (ships with the course),
"digits" (a ResNet-18 trained here on scikit-learn's handwritten digits: a source that knows
something else). Nothing is tuned and no epoch is chosen.
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
    mean_over_seeds,
    predict,
    replace_head,
    save_model,
    source_model,
)
from medtl_utils.data import Split, Task
from medtl_utils.models import Normalisation
from studies.cache import bytes_of, keep, made_by, model_of
from studies.runner import Study, main, opened
from studies.tables import auc

NUMBERS = {"simulated": (25, 50, 100, 600), "real": (25, 100)}
SEEDS, REPEATED_SEEDS, TEST_SEED = range(1000, 1006), range(1006, 1012), 1000
SOURCES = {"simulated": ("random", "ultrasound", "digits"), "real": ("random", "digits")}


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
def test_set(data: str) -> Split:
    """The common test set: 400 simulated patients of TEST_SEED, or BreastMNIST's official one."""
    task = load_task("phantom", seed=TEST_SEED) if data == "simulated" else load_task("breastmnist")
    return opened(task, "learning curve; the test set of no notebook")


def run(data: str, n_train: int, seed: int, source: str) -> dict:
    """Test probabilities and the validation AUC of every epoch of one fine-tuned model."""
    name = "phantom" if data == "simulated" else "breastmnist"
    task = load_task(name, n_train=n_train, seed=seed)
    weights = digits_weights() if source == "digits" else None  # before the seed is set
    torch.manual_seed(seed)
    model: nn.Module = source_model(source) if weights is None else model_of(weights)
    replace_head(model, 2)
    batch = 8 if n_train < 100 else 32
    history = fine_tune(model, task, batch_size=batch, seed=seed, progress=False)
    return {"scores": predict(model, test_set(data)), "val_auc": history["val_auc"]}


def rows_of(data: str, n: int, scores: dict, seeds) -> tuple[list[dict], list[dict]]:
    """The AUC of each source, and its paired gain over training from scratch, on every test set."""
    test, levels, gains = test_set(data), [], []
    parts = {"simulated": slice(None)}
    if data == "real":
        parts = {"official": slice(None), "twin-free": ~test.twins}
    for part, rows in parts.items():
        of = lambda source, rows=rows: [scores[data, n, k, source][rows] for k in seeds]
        for source in [s for s in SOURCES[data] if (data, n, seeds[0], s) in scores]:
            here = {"n_train": n, "test": part, "source": source}
            level = mean_over_seeds(of(source), test[rows])
            levels.append(
                {**here, "auc": level["value"], "low": level["low"], "high": level["high"]}
            )
            if source != "random":
                gain = compare(of(source), of("random"), test[rows])
                gains.append(
                    {"n_train": n, "test": part, "metric": "auc", "source": source, **gain}
                )
    return levels, gains


def in_part_order(rows: list[dict]) -> list[dict]:
    """All numbers of one test set together."""
    return sorted(rows, key=lambda row: ("simulated", "official", "twin-free").index(row["test"]))


def table(results: list[tuple[dict, dict]]) -> dict:
    scores, runs = {}, []
    for cell, found in results:
        key = tuple(cell[k] for k in ("data", "n_train", "seed", "source"))
        scores[key] = torch.from_numpy(found["scores"])
        row = cell | {"val_auc": found["val_auc"], "auc": auc(scores[key], test_set(cell["data"]))}
        runs.append(row)
    levels, gains, repeated = [], [], []
    for data in NUMBERS:
        for n in NUMBERS[data]:
            level, gain = rows_of(data, n, scores, SEEDS)
            levels, gains = levels + level, gains + gain
        repeated += rows_of(data, 100, scores, REPEATED_SEEDS)[1]
    check = digits_task().val
    named = predict(model_of(digits_weights()), check).argmax(1) == check.labels
    digits = {"images": 1400, "epochs": 10, "accuracy": named.float().mean()}
    return {
        "digits": digits | {"checked_on": len(check)},
        "levels": in_part_order(levels),
        "summary": in_part_order(gains),
        "repeated": repeated,
        "runs": runs,
    }


def cells() -> list[dict]:
    first = [
        {"data": data, "n_train": n, "seed": seed, "source": source}
        for data in NUMBERS
        for seed, n, source in itertools.product(SEEDS, NUMBERS[data], SOURCES[data])
    ]
    again = [
        {"data": data, "n_train": 100, "seed": seed, "source": source}
        for data, seed, source in itertools.product(NUMBERS, REPEATED_SEEDS, ("random", "digits"))
    ]
    return first + again


STUDY = Study(
    name="learning_curve",
    cells=cells(),
    run=run,
    table=table,
    recipe="fine_tune defaults, 10 epochs, 64 px; batches of 8 below 100 labelled images",
    seeds=SEEDS,
    about={
        "labelled": "training and validation together; load_task draws 600 by default",
        "test": "simulated: 400 patients of seed 1000, the same for every run; "
        "real: BreastMNIST, official and twin-free",
        "repeated_seeds": REPEATED_SEEDS,
        "sklearn": sklearn.__version__,
    },
)

if __name__ == "__main__":
    main(STUDY)
