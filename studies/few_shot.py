"""Few-shot tasks on simulated ultrasound, and on real classes: images, features, episodes.

A task asks for one of two values of a descriptor on one scanner: 25 pairs of values, 3 scanners,
75 tasks. Each task has its own 50 patients, with one image each, 25 of each value; all other
descriptors are drawn evenly. So no two tasks share a patient.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch

from medtl_utils import load_task, phantom, source_model
from medtl_utils.datasets import busi
from studies.cache import HELPER, keep, made_by
from studies.probe import features_of

SOURCES = ("ultrasound", "imagenet_lite0", "random")
EACH, SIZE, NUMBERS = 25, 64, 64  # images of a value in a task; pixels; features an image
QUERIES, SHOTS = 15, (1, 5, 10)  # of each class in an episode
SEED, PILOT = 13, 130  # patients of the study; others, to choose rates and to scale features
SCANNERS = tuple(phantom.TARGET_SCANNERS)
QUESTIONS = [
    (name, first, second)
    for name, values in phantom.DESCRIPTORS.items()
    for first, second in itertools.combinations(range(len(values)), 2)
]
TASKS = list(itertools.product(range(len(QUESTIONS)), range(len(SCANNERS))))
# descriptors that are held out together
FOLDS = (("margin",), ("orientation", "echo", "halo"), ("shape", "posterior", "calcifications"))
NEW_SCANNER = 2  # "C": no task of training is on it


def sides(fold: int) -> dict[str, np.ndarray]:
    """Tasks to train on; `near`: the same questions, new scanner; `far`: new questions."""
    held_out = [QUESTIONS[question][0] in FOLDS[fold] for question, _ in TASKS]
    far, new = np.array(held_out), np.array([scanner == NEW_SCANNER for _, scanner in TASKS])
    parts = {"train": ~far & ~new, "near": ~far & new, "far": far}
    return {name: np.flatnonzero(rows) for name, rows in parts.items()}


# ---- images and features -------------------------------------------------------------------------


def images(seed: int, tasks: list[int]) -> torch.Tensor:
    """uint8 (tasks * 2 * EACH, 1, SIZE, SIZE): task after task, the first value first."""
    draws = []
    for task, k in itertools.product(tasks, range(2 * EACH)):
        (name, *values), scanner = QUESTIONS[TASKS[task][0]], SCANNERS[TASKS[task][1]]
        rng = phantom.random_stream("target", seed, 13, task, k)
        patient = phantom.draw_patient(rng, "target", descriptors={name: values[k // EACH]})
        patient |= {"scanner_name": scanner, "scanner": phantom.TARGET_SCANNERS[scanner]}
        draws.append((rng, patient))
    return phantom.simulate(draws, SIZE)[0]


def network(source: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return source_model(source)


def look(source: str, seed: int, first: int = 0, last: int = len(TASKS)) -> dict:
    """Features of the images of some tasks."""
    shown = images(seed, list(range(first, last)))
    return {"features": features_of(network(source), shown).astype(np.float32)}


def kept(source: str, seed: int) -> np.ndarray:
    """Features (3750, p) of all tasks, made once."""
    make = functools.partial(look, source, seed)
    return keep("meta_learning", {"source": source, "seed": seed}, make, MADE)["features"]


MADE = made_by(look, (*HELPER, "studies.probe"))


@functools.cache
def scaled(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p,) and map (p, NUMBERS) to the directions in which the pilot's features vary most."""
    x = kept(source, PILOT).astype(float)
    mean, sd = x.mean(0), x.std(0) + 1e-6
    _, _, turned = np.linalg.svd((x - mean) / sd, full_matrices=False)
    axes = turned[:NUMBERS].T / sd[:, None]
    return mean, axes / ((x - mean) @ axes).std(0).mean()


def project(source: str, x: np.ndarray) -> np.ndarray:
    mean, axes = scaled(source)
    return ((x - mean) @ axes).astype(np.float16)


@functools.cache
def data(source: str, seed: int = SEED) -> torch.Tensor:
    """float32 (75 tasks, 2 values, EACH, NUMBERS), rounded as the table keeps them."""
    x = torch.from_numpy(project(source, kept(source, seed))).float()
    return x.view(len(TASKS), 2, EACH, NUMBERS)


# ---- real classes --------------------------------------------------------------------------------


def one_of_each(groups: np.ndarray) -> np.ndarray:
    """The first row of each group of near-copies."""
    return np.sort(np.unique(groups, return_index=True)[1])


def real_classes(name: str) -> tuple[torch.Tensor, np.ndarray]:
    """Images that may be used, without near-copies, and their classes: the test set stays shut."""
    task = load_task(name, size=SIZE)
    both = [task.train, task.val]
    join = lambda key: np.concatenate([np.asarray(getattr(s, key)) for s in both])
    classes = join("labels")
    if name == "busi":
        table = busi.read_table()
        finding = dict(zip(busi.names(table).tolist(), table["class"].tolist()))
        classes = np.array([busi.FINDINGS.index(finding[i]) for i in join("ids").tolist()])
    rows = one_of_each(join("near_copies")) if name == "busi" else np.arange(len(classes))
    return torch.from_numpy(join("images")[rows]), classes[rows]


def look_at_real(source: str, name: str) -> dict:
    shown, classes = real_classes(name)
    return {"features": features_of(network(source), shown), "classes": classes}


@functools.cache
def real(source: str, name: str) -> list[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    """One task for each pair of classes: its name, and the features of both."""
    make = functools.partial(look_at_real, source, name)
    found = keep("meta_learning", {"source": source, "real": name}, make, MADE_REAL)
    x, y = torch.from_numpy(project(source, found["features"])).float(), found["classes"]
    pairs = itertools.combinations(np.unique(y).tolist(), 2)
    return [(f"{name} {a}-{b}", tuple(x[y == c] for c in (a, b))) for a, b in pairs]


MADE_REAL = made_by(look_at_real, (*HELPER, "medtl_utils.datasets.busi", "studies.probe"))

# ---- episodes ------------------------------------------------------------------------------------


def episode(classes, shots: int, *words: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Support (2 * shots, p) and query (2 * QUERIES, p); other `words`, other images.

    With more shots the support grows, and the query stays.
    """
    rng = np.random.default_rng([SEED, *words])
    rows = [rng.permutation(len(x)) for x in classes]
    support = torch.cat([x[r[:shots]] for x, r in zip(classes, rows)])
    return support, torch.cat([x[r[-QUERIES:]] for x, r in zip(classes, rows)])


def dealt(x: torch.Tensor, tasks: np.ndarray, n: int, shots: int, rng) -> tuple:
    """n episodes to train on: tasks (n,), support, query; which value is class 0 is dealt anew."""
    chosen, parts = rng.choice(tasks, n), []
    for task in chosen:
        order = rng.permutation(2)
        classes = [x[task, c, rng.permutation(EACH)[: shots + TRAIN_QUERIES]] for c in order]
        parts.append((order, *(torch.cat([c[s] for c in classes]) for s in cuts(shots))))
    order, support, query = zip(*parts)
    return chosen, np.array(order), torch.stack(support), torch.stack(query)


def cuts(shots: int) -> tuple[slice, slice]:
    return slice(shots), slice(shots, None)


TRAIN_QUERIES = 10  # of each class
