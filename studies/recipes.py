"""Which fine-tuning recipe? The five of notebook 05 and training from scratch, over independent tasks.

    python data/results/make_recipes.py

Simulated: each seed is another task (seeds 100 and up, used nowhere else): other patients to learn from, 200 labelled images, 1,000 other
test images. Real: BreastMNIST's official training and validation images only, 200 drawn to learn from, scored on the rest; its test set is
not touched. Differences to the textbook recipe are paired by seed, with a t interval over seeds. Writes recipes.json beside this file.
"""

import copy
import dataclasses
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
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

SEEDS = range(100, 108)
HERE = Path(__file__).resolve().parent


def real_task(seed: int) -> Task:
    """200 labelled real images (160 to train, 40 to validate) and the other official training and validation images as test."""
    few, everything = load_task("breastmnist", n_train=200, seed=seed), load_task("breastmnist")
    images = torch.cat([everything.train.images, everything.val.images])
    labels = torch.cat([everything.train.labels, everything.val.labels])
    used = {i.numpy().tobytes() for i in torch.cat([few.train.images, few.val.images])}
    rest = [k for k, image in enumerate(images) if image.numpy().tobytes() not in used]
    return dataclasses.replace(
        few, _test=Split("test", images[rest], labels[rest], few.classes, few.positive)
    )


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
            loss = nn.functional.cross_entropy(
                model(model.normalisation(images[index])), task.train.labels[index]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def extraction(task: Task, seed: int) -> nn.Module:
    """Frozen layers; the head is a logistic regression (C = 0.01) on the 512 standardised features."""
    model = fresh("ultrasound", seed)
    trunk = copy.deepcopy(model).eval()
    trunk.fc = nn.Identity()
    with torch.no_grad():
        features = trunk(model.normalisation(task.train.images)).numpy()
    scaler = StandardScaler().fit(features)
    head = LogisticRegression(C=0.01, max_iter=5000).fit(
        scaler.transform(features), task.train.labels
    )
    w = torch.tensor(head.coef_[0] / scaler.scale_, dtype=torch.float32)
    b = torch.tensor(
        head.intercept_[0] - (head.coef_[0] * scaler.mean_ / scaler.scale_).sum(),
        dtype=torch.float32,
    )
    with torch.no_grad():
        model.fc.weight.copy_(torch.stack([-w / 2, w / 2]))
        model.fc.bias.copy_(torch.stack([-b / 2, b / 2]))
    return model.eval()


def tuned(model: nn.Module, task: Task, seed: int, lr) -> nn.Module:
    fine_tune(model, task, lr=lr, seed=seed, progress=False)
    return model


def discriminative(task: Task, seed: int) -> nn.Module:
    model = freeze(fresh("ultrasound", seed), through=None, batchnorm="eval")
    return tuned(model, task, seed, param_groups(model, lr=1e-3, decay=0.3))


RECIPES = {
    "from scratch": lambda t, s: tuned(fresh("random", s), t, s, 1e-3),
    "textbook": textbook,
    "schedule + augmentation": lambda t, s: tuned(fresh("ultrasound", s), t, s, 1e-3),
    "feature extraction": extraction,
    "head first, then all": lambda t, s: tuned(
        freeze(extraction(t, s), through=None, batchnorm="eval"), t, s, 1e-4
    ),
    "discriminative rates": discriminative,
}


def main() -> None:
    began, runs, summary = time.time(), [], []
    for data, make in {
        "simulated": lambda s: load_task("phantom", n_train=200, seed=s),
        "real": real_task,
    }.items():
        aucs = {name: [] for name in RECIPES}
        for seed in SEEDS:
            task = make(seed)
            test = task.open_test("comparison of recipes; not the test set of any notebook")
            for name, recipe in RECIPES.items():
                probabilities = predict(recipe(task, seed), test)[:, test.positive]
                aucs[name].append(float(roc_auc_score(test.labels == test.positive, probabilities)))
                runs.append(
                    {"data": data, "seed": seed, "recipe": name, "auc": round(aucs[name][-1], 4)}
                )
                print(runs[-1], flush=True)
        for name, values in aucs.items():
            difference = np.array(values) - np.array(aucs["textbook"])
            t = stats.t.ppf(0.975, len(SEEDS) - 1) / len(SEEDS) ** 0.5
            row = {"data": data, "recipe": name, "auc": np.mean(values), "low": np.mean(values) - t * np.std(values, ddof=1),
                   "high": np.mean(values) + t * np.std(values, ddof=1), "difference": difference.mean(),
                   "difference_low": difference.mean() - t * difference.std(ddof=1), "difference_high": difference.mean() + t * difference.std(ddof=1)}  # fmt: skip
            summary.append(
                {k: round(float(v), 4) if isinstance(v, float) else v for k, v in row.items()}
            )
            print(summary[-1], flush=True)
    table = {
        "command": "python data/results/make_recipes.py", "labelled": 200, "seeds": list(SEEDS),
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
        "minutes": round((time.time() - began) / 60, 1), "summary": summary, "runs": runs,
    }  # fmt: skip
    (HERE / "recipes.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
