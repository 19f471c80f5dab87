"""What is the simulated-ultrasound source worth on real patients? Three stages, eleven arms.

    python -m studies.breastmnist_evidence choose   recipes by cross-validation on training and
                                                    validation -> breastmnist_config.json
    python -m studies.breastmnist_evidence train    with that file committed: test scores of all
                                                    seeds, unseen -> the cache
    python -m studies.breastmnist_evidence report   one look: breastmnist_evidence.json and .svg

The arms are those of studies/evidence_arms.py. Labelled images: 25, 50, 100 (training and
validation drawn from them, 80 to 20) and the official 546. All arms of a seed see the same images.
`choose` never loads the test images; near-copies of an image are always in the same fold. `train`
keeps the scores of the test images without comparing them to any label. Each stage can be stopped
and called again, and `--share 1/2` makes a half: what is there is not made again.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import subprocess

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from medtl_utils import load_task, predict
from medtl_utils.checkpoint import whole_file
from medtl_utils.data import Split, Task
from medtl_utils.paths import data_folder
from studies.cache import keep, made_by, sha256_of
from studies.evidence_arms import ARMS, AVERAGED, GRID, NUMBERS, SEEDS, fit, weights_of
from studies.evidence_report import report
from studies.real_images import official
from studies.runner import opened, share_in, share_of

CONFIG = data_folder() / "results" / "breastmnist_config.json"
FEW, ALL = "25, 50, 100", "546"  # a recipe is chosen for each
REPETITIONS = {100: range(6), 546: range(3)}


@functools.cache
def maker(source: str) -> str:
    """What makes a result besides its recipe: how it is trained, and how images are chosen."""
    return made_by(fit, weights=weights_of(source)) + made_by(folds, ("studies.real_images",))


def auc_of(positive: np.ndarray, probabilities: np.ndarray) -> float:
    return float(roc_auc_score(positive, probabilities))


# ---- stage 1: choose, on training + validation ---------------------------------------------------


def folds(size: int, n: int, seed: int) -> Task:
    """A task whose "test" set is training and validation images without the labelled ones.

    Groups of near-copies, whatever their labels, lie in one part. n = 546: four fifths are labelled
    (as many as the official training set leaves after its own 80 to 20 split would be 437).
    """
    task, images, labels, groups = official(size)
    rng = np.random.default_rng([7, n, seed])
    order = rng.permutation(groups.max() + 1)[groups].argsort(kind="stable")  # groups together
    n = min(n, int(0.8 * len(order)))
    train, val, test = order[: n - n // 5], order[n - n // 5 : n], order[n:]
    val = val[~np.isin(groups[val], groups[train])]
    test = test[~np.isin(groups[test], groups[order[:n]])]
    split = {
        name: Split(name, images[rows], labels[rows], task.classes, task.positive)
        for name, rows in (("train", train), ("val", val), ("test", test))
    }
    return dataclasses.replace(task, train=split["train"], val=split["val"], _test=split["test"])


def cross_validated(arm: str, n: int, recipe: dict, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(probability of disease, whether diseased) of the held-out images of one repetition."""
    source, way, size = ARMS[arm]
    task = folds(size, n, seed)

    def make() -> dict:
        scores = predict(fit(task, source, way, recipe, seed), task._test)
        return {"scores": scores[:, task.positive]}

    cell = {"stage": "choose", "arm": arm, "n": n, "seed": seed, "recipe": recipe}
    scores = keep("breastmnist_evidence", cell, make, maker(source))["scores"]
    return scores, (task._test.labels == task.positive).numpy()


def tried(arm: str, n: int) -> list[dict]:
    """The recipes from which cross-validation chooses; at 546 images of 224 pixels none."""
    _, way, size = ARMS[arm]
    if (way, size, n) == ("fine-tuned", 224, 546):
        return []
    return GRID.get(f"{way}, {size}", GRID[way])


def chosen_for(arm: str, n: int, scores: dict) -> dict | None:
    """The best recipe of an arm; what all reached goes into `scores`."""
    rows = []
    for recipe in tried(arm, n):
        held = [cross_validated(arm, n, recipe, seed) for seed in REPETITIONS[n]]
        mean = float(np.mean([auc_of(y, p) for p, y in held]))
        rows.append({"recipe": recipe, "auc": round(mean, 4)})
    if not rows:
        return None
    scores[f"{arm} | {n}"] = rows
    return max(rows, key=lambda r: r["auc"])["recipe"]


def averaged(arm: str, n: int, recipes: dict, scores: dict) -> None:
    """What the average of an arm's members reaches goes into `scores`."""
    members, use = AVERAGED[arm], ALL if n == 546 else FEW
    if all(tried(member, n) for member in members):
        aucs = []
        for seed in REPETITIONS[n]:
            each = [cross_validated(a, n, recipes[a][use], seed) for a in members]
            aucs.append(auc_of(each[0][1], np.mean([p for p, _ in each], 0)))
        scores[f"{arm} | {n}"] = [{"auc": round(float(np.mean(aucs)), 4)}]


def choose(share: tuple[int, int] | None = None) -> None:
    """Mean AUC of each recipe at 100 and at 546 images; the best is used at 25, 50, 100, or 546."""
    if share is not None:
        cells = [(a, n, s) for n, seeds in REPETITIONS.items() for a in ARMS for s in seeds]
        for arm, n, seed in share_of(cells, share):
            for recipe in tried(arm, n):
                cross_validated(arm, n, recipe, seed)
        return
    scores: dict = {}
    recipes: dict = {arm: {} for arm in ARMS}
    for n in REPETITIONS:
        for arm in ARMS:
            recipe = chosen_for(arm, n, scores) or recipes[arm][FEW]
            recipes[arm][ALL if n == 546 else FEW] = recipe
        for arm in AVERAGED:
            averaged(arm, n, recipes, scores)
    best = lambda arm, n: max(row["auc"] for row in scores[f"{arm} | {n}"])
    # few images count as much as many
    top = lambda arm: np.mean([best(arm, n) for n in REPETITIONS])
    headline = max((arm for arm in [*ARMS, *AVERAGED] if arm.startswith("ultrasound")), key=top)
    weights = {source: sha256_of(weights_of(source)) for source in ("ultrasound", "shapes")}
    config = {"headline": headline, "recipes": recipes, "weights_sha256": weights}
    with whole_file(CONFIG) as part:
        part.write_text(json.dumps(config | {"cross_validation": scores}, indent=1) + "\n")
    print(f"the headline's arm: {headline}")


# ---- stages 2 and 3: train with the frozen configuration, and look once --------------------------


def git(*words: str) -> str:
    command = ["git", *words, "--", str(CONFIG)]
    found = subprocess.run(command, cwd=data_folder(), capture_output=True, text=True)
    return found.stdout.strip()


def frozen() -> tuple[dict, str]:
    """The configuration, which must be committed as it is, and its commit."""
    commit = git("log", "-1", "--format=%h")
    if not CONFIG.is_file() or not commit or git("status", "--porcelain"):
        raise SystemExit(
            f"{CONFIG.name} must be committed before the test images are scored. "
            "Run `choose`, then commit it."
        )
    return json.loads(CONFIG.read_text()), commit


def test_scores(config: dict, arm: str, n: int, seed: int) -> torch.Tensor:
    """Probabilities (N, 2) of the test images of one arm, by its frozen recipe."""
    (source, way, size), recipe = ARMS[arm], config["recipes"][arm][ALL if n == 546 else FEW]

    def make() -> dict:
        labelled = None if n == 546 else n
        task = load_task("breastmnist", size=size, n_train=labelled, seed=seed)
        model = fit(task, source, way, recipe, seed)
        return {"scores": predict(model, opened(task, "evidence: frozen recipes, scores only"))}

    cell = {"stage": "train", "arm": arm, "n": n, "seed": seed, "recipe": recipe}
    return torch.from_numpy(keep("breastmnist_evidence", cell, make, maker(source))["scores"])


def train(share: tuple[int, int] | None = None) -> None:
    config, _ = frozen()
    for source, sha in config["weights_sha256"].items():
        if sha256_of(weights_of(source)) != sha:
            raise SystemExit(
                f"{weights_of(source).name} is not the file that {CONFIG.name} was chosen with. "
                "Run `choose` again and commit it."
            )
    for seed, n, arm in share_of(list(itertools.product(SEEDS, NUMBERS, ARMS)), share):
        test_scores(config, arm, n, seed)


def look(share: None = None) -> None:
    config, commit = frozen()
    every = itertools.product(ARMS, NUMBERS)
    scores = {(a, n): [test_scores(config, a, n, s) for s in SEEDS] for a, n in every}
    test = opened(load_task("breastmnist"), "evidence: the one look at all arms")
    report(config, commit, scores, test)


def main() -> None:
    parser = argparse.ArgumentParser(description="The evidence on real images, in three stages.")
    stages = {"choose": choose, "train": train, "report": look}
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--share", type=share_in, help="1/2: one half of choose or train")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    stages[asked.stage](asked.share)


if __name__ == "__main__":
    main()
