"""What the study of unrelated tasks makes: sources, labelled images, features, fine-tunings."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from medtl_utils import fine_tune, load_task, predict, replace_head, save_model, source_model
from medtl_utils.data import Split, Task
from medtl_utils.models import Normalisation
from studies.adapters import METHODS, pulled_to_source, trained
from studies.cache import HELPER, bytes_of, keep, made_by, model_of
from studies.learning_curve import digits_task
from studies.probe import features_of, set_head
from studies.shapes import simulate_shapes
from studies.source_net import descriptor_loss

SOURCES = ("ultrasound", "imagenet_lite0", "shapes", "digits", "random")
TARGETS = ("retinamnist", "busi", "phantom")
SPLIT_SEED, RATES_SEED = 9, 90  # of the third that is held out; of the patients for the rates
SEEDS = range(5)  # draws of labelled images
RANDOM_NETWORKS = 3
NUMBERS, RANKED = (25, 100, None), 100  # labelled images; None: all
UPDATES, BATCH, PROBE_C = 40, 16, 0.01
RATES = (3e-4, 2e-3, 1e-2)
SCRATCH = "from scratch"
TUNED = (*[m for m in METHODS if m != "probe"], SCRATCH)


@functools.cache
def sides(target: str, seed: int = SPLIT_SEED) -> tuple[Split, Split]:
    """Images to learn from, and those held out; 1 = disease.

    With RATES_SEED: other simulated patients; of real images, parts of those to learn from.
    """
    real = target != "phantom"
    fold = load_task(target, size=64, seed=seed).folds(3, seed=SPLIT_SEED if real else seed)[0]
    if real and seed == RATES_SEED:
        a, b = (fold.train[np.arange(k, len(fold.train), 2)] for k in (0, 1))
        fold = Task(target, a, b, fold.card).folds(3, seed=seed)[0]
    parts = [fold.train, fold.val]
    if target == "retinamnist":
        names = ("grade 0 or 1", "grade 2 or more")
        change = lambda s: {"labels": (s.labels > 1).long(), "classes": names, "positive": 1}
        parts = [dataclasses.replace(s, **change(s)) for s in parts]
    return tuple(parts)


def labelled(split: Split, n: int | None, seed: int) -> np.ndarray:
    """Rows of n images, with the classes as frequent as in the split; None: all. Class 0 first."""
    if n is None:
        return np.argsort(split.labels.numpy(), kind="stable")
    rng, y = np.random.default_rng([9, seed]), split.labels.numpy()
    ill = round(n * float((y == 1).mean()))
    return np.concatenate(
        [rng.permutation(np.flatnonzero(y == c))[:k] for c, k in ((0, n - ill), (1, ill))]
    )


# ---- sources -------------------------------------------------------------------------------------


def train_small(source: str) -> dict:
    """The weights of a ResNet-18 after 5,600 image passes on shapes, or on digits."""
    torch.manual_seed(9)
    if source == "digits":
        task, model, how = digits_task(), replace_head(source_model("random"), 10), {}
        pixels = task.train.images.float() / 255
    else:
        images, _, targets = simulate_shapes(0, 1500)
        part = lambda rows: SimpleNamespace(images=images[rows], labels=targets[rows])
        task = SimpleNamespace(train=part(slice(1400)), val=part(slice(1400, None)))
        model, how = replace_head(source_model("random"), 23), {"loss": descriptor_loss}
        pixels = images[:1400].float() / 255
    model.normalisation = Normalisation((float(pixels.mean()),) * 3, (float(pixels.std()),) * 3)
    fine_tune(model, task, 4, seed=9, augmented=False, progress=False, **how)
    with tempfile.TemporaryDirectory() as folder:
        return {"weights": bytes_of(save_model(model, Path(folder) / "small.safetensors"))}


@functools.cache
def small_weights(source: str) -> np.ndarray:
    recipe = {"source": source}
    return keep("unrelated_tasks", recipe, functools.partial(train_small, source), MADE)["weights"]


MADE = made_by(train_small, (*HELPER, "studies.shapes", "studies.source_net"))


def network(source: str, seed: int) -> nn.Module:
    if source in ("shapes", "digits"):
        return model_of(small_weights(source))
    torch.manual_seed(seed % RANDOM_NETWORKS)  # "random": other weights
    return source_model(source)


# ---- one cell ------------------------------------------------------------------------------------


def look(source: str, target: str, seed: int) -> dict:
    """Features and the source's own outputs, of the images to learn from and of those held out."""
    model, found = network(source, seed), {}
    for name, split in zip(("pool", "out"), sides(target)):
        found[name] = features_of(model, split.images).astype(np.float32)
    return found | {"logits": predict(model, sides(target)[0], raw=True).numpy()}


def batches(n: int, seed: int) -> np.ndarray:
    """Row numbers 0 .. n - 1 for all updates: each image as often as the next, or once more."""
    rng, wanted = np.random.default_rng([90, seed]), UPDATES * BATCH
    rounds = [rng.permutation(n) for _ in range(-(-wanted // n))]
    return np.concatenate(rounds)[:wanted]


def fit(source, target, method, n, seed, rate, split_seed=SPLIT_SEED) -> dict:
    """Held-out probabilities after a probe and UPDATES updates."""
    pool, out = sides(target, split_seed)
    few = pool[labelled(pool, n, seed)]
    model = set_head(replace_head(network(source, seed), 2), few, PROBE_C)
    torch.manual_seed(seed)
    model = METHODS["full" if method == SCRATCH else method](model)
    part = lambda rows: SimpleNamespace(images=few.images[rows], labels=few.labels[rows])
    task = SimpleNamespace(train=part(batches(len(few), seed)), val=part([0, len(few) - 1]))
    loss = pulled_to_source(model) if method == "L2-SP" else None
    fine_tune(model, task, 1, rate, BATCH, seed, loss=loss, progress=False)
    return {"scores": predict(model, out), "trained": trained(model)}


def run(part: str, source: str, target: str, method: str, n, seed: int, rate: float) -> dict:
    if part == "features":
        return look(source, target, seed)
    return fit(source, target, method, n, seed, rate, RATES_SEED if part == "rates" else SPLIT_SEED)
