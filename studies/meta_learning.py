"""When does it pay to train on tasks? Prototypes, MAML, a joint network; probe and fine-tuning.

    python -m studies.meta_learning

Tasks: `studies.few_shot`. Three times a group of descriptors is held out whole. A learner trains on
the other questions on scanners A and B. `near`: the same questions on scanner C, other patients.
`far`: the questions held out, on all scanners; over the three groups these are all 75 tasks.
Learners stand on a frozen source. "ultrasound" was trained on these very descriptors, in another
simulator set-up; so "imagenet_lite0" and "random" stand beside it. All learners have the same tasks
and images. Each had three rates to choose from, on other patients. Full fine-tuning is dear: one
network for each question, on scanner C. Intervals: t over the 25 questions; scanners, episodes and
trainings are averaged first.

The primary claim, fixed beforehand: prototypical network minus probe, far tasks, 5 shots, source
"imagenet_lite0". All else is descriptive.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F

from medtl_utils import freeze, replace_head
from medtl_utils.checkpoint import whole_file
from medtl_utils.paths import data_folder
from medtl_utils.training import autocast, best_device
from studies import few_shot
from studies.cache import HELPER
from studies.few_shot import FOLDS, PILOT, QUESTIONS, SHOTS, SOURCES, TASKS, data, episode, sides
from studies.meta_learners import EPISODES, LOSSES, UPDATES, answers, labels, meta_trained
from studies.meta_table import (
    by_question,
    descriptor_rows,
    difference_rows,
    level_rows,
    primary_row,
    real_rows,
    tuned_rows,
)
from studies.runner import Study, main

SEEDS, PLAIN = range(5), ("nearest centroid", "probe")
DRAWS, REAL_DRAWS, REAL = 4, 5, ("busi", "retinamnist")  # episodes of a task
RATES = {
    "probe": (0.003, 0.03, 0.3),
    "joint + probe": (3e-4, 1e-3, 3e-3),
    "prototypical": (3e-4, 1e-3, 3e-3),
    "MAML": (0.03, 0.1, 0.3),
    "fine-tuning": (3e-4, 1e-3, 3e-3),
}
# the best of RATES on the pilot's patients: a test holds this equal to the table's "rates"
BEST = {"probe": 0.03, "joint + probe": 1e-3, "prototypical": 3e-4, "MAML": 0.3}
BEST |= {"fine-tuning": 3e-4, "nearest centroid": 0.0}
BEST["first-order MAML"] = BEST["MAML"]
TUNED, STEPS, BATCH = ("ultrasound", "random"), 10, 5  # fine-tuning; images of a class in a batch
TUNE_DRAWS, PILOT_TUNED = 2, 8
ALONE = {"first-order MAML": "ultrasound"}  # one source is enough to compare with MAML
PRIMARY = {"source": "imagenet_lite0", "arm": "prototypical", "where": "far", "shots": 5}
KEPT = data_folder() / "results" / "meta_learning.npz"  # features of the tasks, for the notebook


def cell(part, source, arm="", fold=0, seed=0, rate=0.0) -> dict:
    return dict(zip(("part", "source", "arm", "fold", "seed", "rate"), locals().values()))


def cells() -> list[dict]:
    tried = [
        cell("rates", source, arm, 1, 0, rate)
        for arm, rates in RATES.items()
        for rate in rates
        for source in (SOURCES if arm != "fine-tuning" else SOURCES[:1])
    ]
    plain = [cell("plain", source, arm, rate=BEST[arm]) for source in SOURCES for arm in PLAIN]
    found = [
        cell("meta", source, arm, fold, seed, BEST[arm])
        for source, arm, fold, seed in itertools.product(SOURCES, LOSSES, range(len(FOLDS)), SEEDS)
        if ALONE.get(arm, source) == source
    ]
    found.sort(key=lambda c: (c["source"] == "random", c["seed"]))
    tuned = [cell("tune", source, "fine-tuning", 0, 0, BEST["fine-tuning"]) for source in TUNED]
    return tried + plain + found + tuned


# ---- accuracies ----------------------------------------------------------------------------------


def accuracy(method, net, tasks: list, words: list, draws: int, rate: float) -> np.ndarray:
    """(SHOTS, tasks, draws): the share of right answers on the queries of each episode."""
    found = []
    for shots in SHOTS:
        wanted = itertools.product(range(len(tasks)), range(draws))
        parts = [episode(tasks[t], shots, *words[t], draw) for t, draw in wanted]
        support, query = (torch.stack(p) for p in zip(*parts))
        right = answers(method, net, support, query, rate) == labels(query.shape[1] // 2)
        found.append(right.float().mean(1).view(len(tasks), draws).numpy())
    return np.stack(found).astype(np.float32)


def on_phantom(method, net, x: torch.Tensor, tasks: np.ndarray, draws: int, rate) -> np.ndarray:
    return accuracy(method, net, [x[t] for t in tasks], [(0, int(t)) for t in tasks], draws, rate)


def on_real(method, net, source: str, rate: float) -> np.ndarray:
    tasks = [classes for name in REAL for _, classes in few_shot.real(source, name)]
    words = [(1, t) for t in range(len(tasks))]
    return accuracy(method, net, tasks, words, REAL_DRAWS, rate)


# ---- full fine-tuning ----------------------------------------------------------------------------


def fine_tuned(source: str, support, query, rate: float, seed: int) -> torch.Tensor:
    """Answers after STEPS updates of all weights; BatchNorm's statistics stay."""
    torch.manual_seed(seed)
    model = freeze(replace_head(few_shot.network(source), 2), through=None, batchnorm="eval")
    optimizer = torch.optim.AdamW(model.parameters(), rate, fused=True)
    half = len(support) // 2
    x, y = model.normalisation(support), labels(half)
    for step in range(STEPS):
        first = [(step * BATCH + k) % half for k in range(min(BATCH, half))]
        rows = [*first, *(half + k for k in first)]
        with autocast(best_device()):
            outputs = model(x[rows])
        loss = F.cross_entropy(outputs.float(), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad(), autocast(best_device()):
        return model.eval()(model.normalisation(query)).float().argmax(1)


def tune(source: str, seed: int, draw: int, rate: float, shots_tried, first=0, last=99) -> dict:
    """Accuracy of fine-tuning on the tasks of scanner C, one episode each."""
    tasks = [t for t, (_, scanner) in enumerate(TASKS) if scanner == few_shot.NEW_SCANNER]
    found = np.full((len(shots_tried), len(tasks)), np.nan, np.float32)
    for place, task in list(enumerate(tasks))[first:last]:
        pictures = few_shot.images(seed, [task]).view(2, few_shot.EACH, 1, few_shot.SIZE, -1)
        for k, shots in enumerate(shots_tried):
            support, query = episode(pictures, shots, 0, task, draw)
            right = fine_tuned(source, support, query, rate, draw) == labels(few_shot.QUERIES)
            found[k, place] = right.float().mean()
    return {"accuracy": found}


# ---- one cell ------------------------------------------------------------------------------------


def run(part: str, source: str, arm: str, fold: int, seed: int, rate: float) -> dict:
    if arm == "fine-tuning":
        if part == "rates":
            return tune(source, PILOT, seed, rate, (5,), 0, PILOT_TUNED)
        return tune(source, few_shot.SEED, seed, rate, SHOTS)
    x, where, net = data(source, PILOT if part == "rates" else few_shot.SEED), sides(fold), None
    if arm in LOSSES:
        net = meta_trained(arm, x, where["train"], seed, rate)
    if part == "plain":
        whole = on_phantom(arm, net, x, np.arange(len(TASKS)), DRAWS, rate)
        return {"all": whole, "real": on_real(arm, net, source, rate)}
    parts = ("near", "far") if part == "rates" else where
    draws = {"train": 1}  # seen tasks need no long look
    found = {n: on_phantom(arm, net, x, where[n], draws.get(n, DRAWS), rate) for n in parts}
    return found if part == "rates" else found | {"real": on_real(arm, net, source, rate)}


def keep_features() -> None:
    """Features of all tasks, (75, 2, 25, 64) a source, for the notebook."""
    arrays = {source: data(source).numpy().astype(np.float16) for source in SOURCES}
    with whole_file(KEPT) as part, open(part, "wb") as out:
        np.savez_compressed(out, **arrays)


def rate_rows(results: list) -> list[dict]:
    """Accuracy with 5 shots on the pilot's patients, each rate; near and far, mean over sources."""
    found = {}
    for c, r in results:
        if c["part"] == "rates":
            five = SHOTS.index(5)
            tried = (
                r["accuracy"] if "accuracy" in r else [r[k][five].mean() for k in ("near", "far")]
            )
            found.setdefault((c["arm"], c["rate"]), []).append(np.nanmean(tried))
    return [{"arm": a, "rate": r, "accuracy": np.mean(v)} for (a, r), v in found.items()]


def slice_of(results: list) -> dict:
    """One cell's accuracies on its far tasks, 5 shots: a test makes it again."""
    wanted = {"part": "meta", "arm": "prototypical", "source": "ultrasound", "fold": 1, "seed": 0}
    cell, arrays = next((c, r) for c, r in results if wanted.items() <= c.items())
    return {"cell": cell, "far": arrays["far"][SHOTS.index(5)].mean(1)}


def table(results: list[tuple[dict, dict]]) -> dict:
    keep_features()
    found = by_question(results, SEEDS)
    learners = ("nearest centroid", *LOSSES)
    probe = next(
        r["all"]
        for c, r in results
        if (c["part"], c["source"], c["arm"]) == ("plain", "ultrasound", "probe")
    )
    names = [name for name in REAL for _ in few_shot.real(SOURCES[0], name)]
    return {
        "primary": primary_row(found, PRIMARY),
        "slice": slice_of(results),
        "rates": rate_rows(results),
        "levels": level_rows(found),
        "minus_probe": difference_rows(found, [(arm, "probe") for arm in learners]),
        "second_order": difference_rows(found, [("MAML", "first-order MAML")]),
        "minus_joint": difference_rows(found, [(a, "joint + probe") for a in list(LOSSES)[1:]]),
        "by_descriptor": descriptor_rows(found, learners),
        "fine_tuning": tuned_rows(results, probe, 1, TUNED),
        "real": real_rows(results, names),
    }


STUDY = Study(
    name="meta_learning",
    cells=cells(),
    run=run,
    table=table,
    recipe=f"{UPDATES} updates of {EPISODES} episodes, 5 shots; {DRAWS} episodes a task to test",
    seeds=SEEDS,
    about={
        "sources": SOURCES,
        "shots": SHOTS,
        "learners": list(LOSSES),
        "questions": [" ".join(map(str, question)) for question in QUESTIONS],
        "held_out_together": FOLDS,
        "episodes": {"far": DRAWS * len(TASKS), "near": DRAWS * len(QUESTIONS)},
        "best_rates": BEST,
        "tuned": TUNED,
        "fine_tuning_updates": STEPS,
        "interval": "95 %, t over the 25 questions; scanners, episodes and trainings averaged",
    },
    code=(*HELPER, "studies.few_shot", "studies.meta_learners"),
    weights=None,
)

if __name__ == "__main__":
    main(STUDY)
