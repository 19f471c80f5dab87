"""Why does the simulated source help? Sources of which each lacks one thing, on real images.

    python -m studies.source_ablation

Each source is trained alike (20,000 images, 64,000 image passes, seed 0) on ultrasound as it is,
and without speckle, without shadows and enhancement, without irregular margins, without what is
wider than the target's machines, without the mask head, on 2,000 images, and on shapes that are no
ultrasound. Judged on BreastMNIST's training and validation images only (the test set is not
touched): logistic regression on the 512 features in repeated cross-validation and with 80 labelled
images, near-copies of an image always in the same part; and fine-tuning all layers at a rate of
0.0003 on 100 labelled images, scored on the rest. Differences to the whole simulator are paired,
with a t interval over repetitions. They share images and there is one training a source: the
interval is of this data set and of these eight trainings.
"""

import contextlib
import functools
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from medtl_utils import fine_tune, load_task, phantom, predict, replace_head
from medtl_utils.data import Split
from studies.cache import PRETRAINING, bytes_of, keep, made_by, model_of
from studies.pretrain import pretrain
from studies.real_images import official
from studies.runner import Study, main
from studies.tables import auc, over_seeds

REPETITIONS, PASSES = 8, 64_000
MEASURES = ("probe", "probe, 80 images", "fine-tuned")
draw_patient, draw_view, contour = phantom.draw_patient, phantom.draw_view, phantom._contour


def without_speckle(rng, patient, grid):
    view = draw_view(rng, patient, grid)
    view["noise"][3:] = 1.0  # every scatterer the same: nothing to interfere
    return view


def without_shadows(rng, kind, *a, **k):
    patient = draw_patient(rng, kind, *a, **k)
    return patient | {"posterior_db": 0.0, "streak_db": 0.0, "rib_db": 0.0}


def without_margins(rng, patient):
    radius, edge = contour(rng, patient)
    return np.ones_like(radius), np.full_like(edge, 0.07)


def as_narrow_as_the_target(rng, kind, *a, **k):
    narrow = {name: fixed for name, (_, fixed) in phantom.WIDER.items()}
    return draw_patient(rng, kind, *a, **k) | narrow | dict.fromkeys(phantom.EXTRAS, 0.0)


# name -> (what is replaced in the simulator, arguments of pretrain)
SOURCES: dict[str, tuple[dict, dict]] = {
    "whole": ({}, {}),
    "no mask head": ({}, {"mask": 0.0}),
    "no speckle": ({"draw_view": without_speckle}, {}),
    "no shadows": ({"draw_patient": without_shadows}, {}),
    "no margins": ({"_contour": without_margins}, {}),
    "not wider": ({"draw_patient": as_narrow_as_the_target}, {}),
    "2,000 images": ({}, {"n_images": 2000}),
    "shapes": ({}, {"task": "shapes"}),
}


@contextlib.contextmanager
def replaced(**functions):
    old = {name: getattr(phantom, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(phantom, name, function)
        yield
    finally:
        for name, function in old.items():
            setattr(phantom, name, function)


def train_source(source: str, passes: int) -> dict:
    """The weights of one source, and the accuracy of its heads."""
    functions, arguments = SOURCES[source]
    with tempfile.TemporaryDirectory() as folder, replaced(**functions):
        settings = {"n_images": 20_000, "passes": passes, "out": Path(folder), **arguments}
        accuracy = pretrain(**settings)["accuracy"]
        weights = bytes_of(next(Path(folder).glob("*.safetensors")))
    names, values = list(accuracy), np.array(list(accuracy.values()))
    return {"weights": weights, "heads": names, "accuracy": values}


def kept_source(source: str, passes: int) -> dict[str, np.ndarray]:
    make = functools.partial(train_source, source, passes)
    recipe = {"source": source, "passes": passes, "what": "weights"}
    return keep("source_ablation", recipe, make, made_by(train_source, PRETRAINING))


def real_images() -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Official training and validation images, whether malignant (0 or 1), and their groups."""
    task, images, labels, groups = official()
    return images, (labels == task.positive).numpy().astype(int), groups


@torch.no_grad()
def features_of(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    model.fc = nn.Identity()
    parts = [model.eval()(model.normalisation(part)) for part in images.split(128)]
    return torch.cat(parts).numpy()


def probes(model: nn.Module) -> dict[str, list[float]]:
    """AUCs of logistic regression on the features: cross-validated, and with 80 labelled images."""
    images, labels, groups = real_images()
    features = features_of(model, images)

    def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=5000))
        return head.fit(features[train], labels[train]).decision_function(features[test])

    whole, few = [], []
    for seed in range(REPETITIONS):
        score = np.zeros(len(labels))
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for train, test in folds.split(features, labels, groups):
            score[test] = scores(train, test)
        whole.append(float(roc_auc_score(labels, score)))
    for seed in range(5 * REPETITIONS):
        place = np.random.default_rng(seed).permutation(groups.max() + 1)[groups]
        order = place.argsort(kind="stable")
        train, rest = order[:80], order[80:]
        rest = rest[~np.isin(groups[rest], groups[train])]
        few.append(float(roc_auc_score(labels[rest], scores(train, rest))))
    return {"probe": whole, "probe, 80 images": few}


def tuned(weights: np.ndarray) -> list[float]:
    """AUC after fine-tuning on 100 labelled images, on all that are no near-copies of them."""
    images, malignant, groups = real_images()
    aucs = []
    for seed in range(REPETITIONS):
        few = load_task("breastmnist", n_train=100, seed=seed)
        known = {i.numpy().tobytes() for i in torch.cat([few.train.images, few.val.images])}
        used = np.array([i.numpy().tobytes() in known for i in images])
        rest = ~np.isin(groups, groups[used])
        labels = np.where(malignant[rest] == 1, few.positive, 1 - few.positive)
        test = Split("test", images[rest], torch.tensor(labels), few.classes, few.positive)
        torch.manual_seed(seed)
        model = replace_head(model_of(weights), 2)
        fine_tune(model, few, lr=3e-4, seed=seed, progress=False)
        aucs.append(auc(predict(model, test), test))
    return aucs


def run(source: str, passes: int) -> dict:
    kept = kept_source(source, passes)
    measured = {**probes(model_of(kept["weights"])), "fine-tuned": tuned(kept["weights"])}
    return {"heads": kept["heads"], "accuracy": kept["accuracy"], **measured}


def summarise(rows: dict) -> list[dict]:
    summary = []
    for name, row in rows.items():
        for measure in MEASURES:
            values = np.array(row[measure])
            gap = over_seeds(values - np.array(rows["whole"][measure]))
            here = {"source": name, "measure": measure, "auc": values.mean()}
            summary.append(here | {"difference": gap.pop("value"), **gap})
    return summary


def table(results: list[tuple[dict, dict]]) -> dict:
    rows = {}
    for cell, found in results:
        accuracy = dict(zip(found["heads"].tolist(), found["accuracy"].tolist()))
        rows[cell["source"]] = {"accuracy": accuracy, **{m: found[m] for m in MEASURES}}
    return {"rows": rows, "summary": summarise(rows)}


STUDY = Study(
    name="source_ablation",
    cells=[{"source": source, "passes": PASSES} for source in SOURCES],
    run=run,
    table=table,
    recipe="pretrain on 20,000 images; probes with C = 0.01; fine_tune at 0.0003 on 100 images",
    seeds=range(REPETITIONS),
    about={"passes": PASSES, "repetitions": REPETITIONS},
    code=PRETRAINING,
    weights=None,
)

if __name__ == "__main__":
    main(STUDY)
