"""Which fine-tuning recipe? The five of notebook 05 and training from scratch, over separate tasks.

    python -m studies.recipes

Simulated: each seed is another task (seeds 100 and up, used nowhere else): other patients to learn
from, 200 labelled images, 1,000 other test images. Real: BreastMNIST's official training and
validation images only, 200 drawn to learn from, scored on the rest; its test set is not touched.
Differences to the textbook recipe are paired by seed, with a t interval over seeds.
"""

import copy
import functools
import itertools

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from medtl_utils import (
    fine_tune,
    freeze,
    load_task,
    param_groups,
    predict,
    replace_head,
    source_model,
)
from medtl_utils.data import Split, Task
from studies.runner import Study, main, opened
from studies.tables import auc, over_seeds

SEEDS = range(100, 108)


@functools.lru_cache(maxsize=2)
def real_task(seed: int) -> tuple[Task, Split]:
    """200 labelled real images (160 to train, 40 to validate), and the other official ones."""
    few = load_task("breastmnist", n_train=200, seed=seed)
    everything = load_task("breastmnist")
    images = torch.cat([everything.train.images, everything.val.images])
    labels = torch.cat([everything.train.labels, everything.val.labels])
    used = {i.numpy().tobytes() for i in torch.cat([few.train.images, few.val.images])}
    rest = [k for k, image in enumerate(images) if image.numpy().tobytes() not in used]
    return few, Split("test", images[rest], labels[rest], few.classes, few.positive)


@functools.lru_cache(maxsize=2)
def simulated_task(seed: int) -> tuple[Task, Split]:
    """200 labelled simulated images, and the test images of the same seed."""
    task = load_task("phantom", n_train=200, seed=seed)
    return task, opened(task, "comparison of recipes; not the test set of any notebook")


def fresh(source: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return replace_head(source_model(source), 2)


def textbook(task: Task, seed: int) -> nn.Module:
    """Adam 1e-3, batches of 32, ten epochs, no augmentation, constant rate."""
    model, images = fresh("ultrasound", seed), task.train.images
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(10):
        model.train()
        for index in torch.randperm(len(images)).split(32):
            logits = model(model.normalisation(images[index]))
            loss = nn.functional.cross_entropy(logits, task.train.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def extraction(task: Task, seed: int) -> nn.Module:
    """Frozen layers; the head is a logistic regression (C = 0.01) on the standardised features."""
    model = fresh("ultrasound", seed)
    trunk = copy.deepcopy(model).eval()
    trunk.fc = nn.Identity()
    with torch.no_grad():
        features = trunk(model.normalisation(task.train.images)).numpy()
    scaler = StandardScaler().fit(features)
    head = LogisticRegression(C=0.01, max_iter=5000)
    head.fit(scaler.transform(features), task.train.labels)
    w = torch.tensor(head.coef_[0] / scaler.scale_, dtype=torch.float32)
    shift = (head.coef_[0] * scaler.mean_ / scaler.scale_).sum()
    b = torch.tensor(head.intercept_[0] - shift, dtype=torch.float32)
    with torch.no_grad():
        model.fc.weight.copy_(torch.stack([-w / 2, w / 2]))
        model.fc.bias.copy_(torch.stack([-b / 2, b / 2]))
    return model.eval()


def tuned(model: nn.Module, task: Task, seed: int, lr) -> nn.Module:
    fine_tune(model, task, lr=lr, seed=seed, progress=False)
    return model


def from_scratch(task: Task, seed: int) -> nn.Module:
    return tuned(fresh("random", seed), task, seed, 1e-3)


def with_schedule(task: Task, seed: int) -> nn.Module:
    return tuned(fresh("ultrasound", seed), task, seed, 1e-3)


def head_first(task: Task, seed: int) -> nn.Module:
    model = freeze(extraction(task, seed), through=None, batchnorm="eval")
    return tuned(model, task, seed, 1e-4)


def discriminative(task: Task, seed: int) -> nn.Module:
    model = freeze(fresh("ultrasound", seed), through=None, batchnorm="eval")
    return tuned(model, task, seed, param_groups(model, lr=1e-3, decay=0.3))


RECIPES = {
    "from scratch": from_scratch,
    "textbook": textbook,
    "schedule + augmentation": with_schedule,
    "feature extraction": extraction,
    "head first, then all": head_first,
    "discriminative rates": discriminative,
}


def run(data: str, seed: int, recipe: str) -> dict:
    task, test = (simulated_task if data == "simulated" else real_task)(seed)
    return {"auc": auc(predict(RECIPES[recipe](task, seed), test), test)}


def table(results: list[tuple[dict, dict]]) -> dict:
    runs = [{**cell, "auc": float(found["auc"])} for cell, found in results]
    pick = lambda data, recipe: np.array(
        [r["auc"] for r in runs if (r["data"], r["recipe"]) == (data, recipe)]
    )
    summary = []
    for data, recipe in itertools.product(("simulated", "real"), RECIPES):
        values = pick(data, recipe)
        level, gap = over_seeds(values, bounds=(0, 1)), over_seeds(values - pick(data, "textbook"))
        row = {"data": data, "recipe": recipe, "auc": level.pop("value"), **level}
        row |= {"difference": gap["value"]}
        summary.append(row | {f"difference_{end}": gap[end] for end in ("low", "high")})
    return {"summary": summary, "runs": runs}


STUDY = Study(
    name="recipes",
    cells=[
        {"data": data, "seed": seed, "recipe": recipe}
        for data, seed, recipe in itertools.product(("simulated", "real"), SEEDS, RECIPES)
    ],
    run=run,
    table=table,
    recipe="six recipes, 200 labelled images, 10 epochs, 64 px",
    seeds=SEEDS,
    about={"labelled": 200},
)

if __name__ == "__main__":
    main(STUDY)
