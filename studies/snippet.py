"""The ten-line fine-tuning snippet of notebook 04, complete, and with one thing left out at a time.

    python data/results/make_snippet.py              everything (about thirteen minutes on two cores), or what is still missing of it
    python data/results/make_snippet.py --part 0     one seed only; its scores wait in data/cache/ until all parts are there

Each seed is another simulated task (seeds 4001 and up, used nowhere else): other patients, 200 labelled images. All are scored on the same fresh patients
of seed 4000. Complete: ResNet-18 with the ultrasound source's layers and normalisation, a new Linear(512, 2), cross-entropy on logits, Adam 0.001, shuffled
batches of 32, ten epochs, prediction in evaluation mode. Differences are paired; their 95 % intervals cross patients and seeds (medtl_utils.compare).
Writes snippet.json beside this file.
"""

import argparse
import copy
import functools
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import nn

from medtl_utils import compare, freeze, load_task, replace_head, source_model
from medtl_utils.data import Split, data_folder
from medtl_utils.models import ULTRASOUND_SHA256
from medtl_utils.training import autocast

SEEDS = range(4001, 4009)
TEST_PATIENTS, SMALL_TEST, DRAWS = 240, 40, 200
HERE = Path(__file__).resolve().parent
CPU = torch.device("cpu")
INPUTS = {  # what the network is given
    "normalised": lambda model, images: model.normalisation(images),
    "0..1": lambda model, images: images.float().expand(-1, 3, -1, -1) / 255,
    "0..255": lambda model, images: images.float().expand(-1, 3, -1, -1),
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


def train(
    split: Split,
    seed: int,
    inputs="normalised",
    softmax=False,
    order="shuffled",
    frozen=None,
    each_epoch=None,
) -> nn.Module:
    """The snippet. `frozen`: None, "weights" (requires_grad only) or "all" (BatchNorm too); `each_epoch`: called with the model."""
    torch.manual_seed(seed)
    model = replace_head(source_model("ultrasound"), 2)
    if frozen:
        freeze(model, through="layer4", batchnorm="train" if frozen == "weights" else "frozen")
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    images, labels = INPUTS[inputs](model, split.images), split.labels
    for _ in range(10):
        model.train()
        shuffled = torch.randperm(len(labels))
        rows = {
            "shuffled": shuffled,
            "stored": torch.arange(len(labels)),
            "by class": torch.argsort(labels, stable=True),
        }[order]
        for index in rows.split(32):
            if len(index) < 2:
                continue  # BatchNorm cannot normalise a batch of one
            with autocast(CPU):
                logits = model(images[index].contiguous(memory_format=torch.channels_last)).float()
            loss = nn.functional.cross_entropy(
                logits.softmax(1) if softmax else logits, labels[index]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if each_epoch:
            each_epoch(model.eval())
    return model.eval()


@torch.no_grad()
def predict(
    model: nn.Module, split: Split, inputs="normalised", mode="eval", batch=128
) -> torch.Tensor:
    """Probabilities (N, 2). `mode` "train": BatchNorm uses the statistics of the batch at hand."""
    model = copy.deepcopy(model).train(mode == "train")
    return torch.cat(
        [model(INPUTS[inputs](model, images)) for images in split.images.split(batch)]
    ).softmax(1)


def test_split() -> Split:
    """Images of the first TEST_PATIENTS test patients of seed 4000."""
    test = load_task("phantom", seed=4000).open_test(
        "the omissions of notebook 04's snippet; not the test set of any notebook"
    )
    return test[np.isin(test.patients, np.unique(test.patients)[:TEST_PATIENTS])]


def run(seed: int, test: Split, have=()) -> dict[str, torch.Tensor]:
    """Scores on `test` of the complete recipe (also after each epoch) and of every omission, but for those in `have`."""
    split, epochs = load_task("phantom", n_train=200, seed=seed).train, []

    @functools.cache
    def complete() -> nn.Module:
        return train(split, seed, each_epoch=lambda model: epochs.append(predict(model, test)))

    scores = {
        "complete": lambda: predict(complete(), test),
        "epochs": lambda: torch.stack(epochs) if complete() else None,
        "predict in training mode, batches of 32": lambda: predict(
            complete(), test, mode="train", batch=32
        ),
        "predict in training mode, one by one": lambda: predict(
            complete(), test, mode="train", batch=1
        ),
        "0..1 at prediction only": lambda: predict(complete(), test, "0..1"),
        "0..255 at prediction only": lambda: predict(complete(), test, "0..255"),
        "0..1 in training and prediction": lambda: predict(
            train(split, seed, "0..1"), test, "0..1"
        ),
        "0..255 in training and prediction": lambda: predict(
            train(split, seed, "0..255"), test, "0..255"
        ),
        "softmax before the loss": lambda: predict(train(split, seed, softmax=True), test),
        "not shuffled, patient by patient": lambda: predict(
            train(split, seed, order="stored"), test
        ),
        "not shuffled, sorted by class": lambda: predict(
            train(split, seed, order="by class"), test
        ),
        "another seed": lambda: predict(train(split, seed + 100_000), test),
        "frozen layers": lambda: predict(train(split, seed, frozen="all"), test),
        "frozen layers, BatchNorm forgotten": lambda: predict(
            train(split, seed, frozen="weights"), test
        ),
        "frozen layers, 0..1 throughout": lambda: predict(
            train(split, seed, "0..1", frozen="all"), test, "0..1"
        ),
        "frozen layers, 0..255 throughout": lambda: predict(
            train(split, seed, "0..255", frozen="all"), test, "0..255"
        ),
    }
    return {name: make() for name, make in scores.items() if name not in have}


def numbers(scores: torch.Tensor, test: Split) -> dict[str, float]:
    p, y = scores[:, 1].double().numpy(), test.labels.numpy()
    return {
        "auc": roc_auc_score(y, p),
        "accuracy": np.mean((p >= 0.5) == y),
        "brier": np.mean((p - y) ** 2),
    }


def best_epoch(epochs: torch.Tensor, test: Split, seed: int) -> dict[str, float]:
    """AUC when a small test set chooses the epoch: as reported on that set, and on all other patients; means over DRAWS small sets."""
    rng, people, found = np.random.default_rng(seed), np.unique(test.patients), []
    y, p = test.labels.numpy(), epochs[:, :, 1].numpy()
    for _ in range(DRAWS):
        small = np.isin(test.patients, rng.permutation(people)[:SMALL_TEST])
        aucs = [roc_auc_score(y[small], scores[small]) for scores in p]
        best = int(np.argmax(aucs))
        others = [roc_auc_score(y[~small], p[k][~small]) for k in (best, -1)]
        found.append([aucs[best], others[0], aucs[-1], others[1]])
    return dict(
        zip(
            ("best_reported", "best_elsewhere", "last_reported", "last_elsewhere"),
            np.mean(found, axis=0),
        )
    )


def interval(values) -> dict[str, float]:
    """Mean with a 95 % t interval over seeds."""
    values = np.asarray(values)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return {"mean": values.mean(), "low": values.mean() - half, "high": values.mean() + half}


def kept(file: Path) -> tuple[dict[str, torch.Tensor], float]:
    """Scores that an earlier call left, and the seconds they took."""
    if not file.is_file():
        return {}, 0.0
    with np.load(file, allow_pickle=False) as z:
        return {k: torch.from_numpy(z[k]) for k in z.files if k != "seconds"}, float(z["seconds"])


def tidy(thing):
    """Floats with five decimals, all the way down."""
    if isinstance(thing, dict):
        return {k: tidy(v) for k, v in thing.items()}
    return (
        [tidy(v) for v in thing]
        if isinstance(thing, list)
        else round(float(thing), 5)
        if isinstance(thing, float)
        else thing
    )


def summarise(scores: dict[int, dict[str, torch.Tensor]], test: Split) -> tuple[list, dict, list]:
    """Rows of the summary, what choosing the epoch on the test set does, and every run's own numbers."""
    runs = [
        {"seed": seed, "what": what, **numbers(s, test)}
        for seed, all_ in scores.items()
        for what, s in all_.items()
        if what != "epochs"
    ]
    summary = []
    for what, (reference, missing) in OMISSIONS.items():
        for metric in ("auc", "accuracy", "brier"):
            sides = [[s[side] for s in scores.values()] for side in (what, reference)]
            summary.append(
                {
                    "what": what,
                    "left_out": missing,
                    "against": reference,
                    "metric": metric,
                    **compare(*sides, test, metric),
                }
            )
    chosen = [best_epoch(s["epochs"], test, seed) for seed, s in scores.items()]
    optimism = {
        "patients_in_small_test": SMALL_TEST,
        **{key: interval([c[key] for c in chosen]) for key in chosen[0]},
        "optimism_of_best": interval([c["best_reported"] - c["best_elsewhere"] for c in chosen]),
        "optimism_of_last": interval([c["last_reported"] - c["last_elsewhere"] for c in chosen]),
        "true_gain_of_best": interval([c["best_elsewhere"] - c["last_elsewhere"] for c in chosen]),
    }
    return summary, optimism, runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", type=int, choices=range(len(SEEDS)), help="one seed only")
    part = parser.parse_args().part
    test = test_split()
    files = {
        seed: data_folder() / "cache" / f"snippet_{ULTRASOUND_SHA256[:8]}_{seed}.npz"
        for seed in SEEDS
    }
    for seed in SEEDS if part is None else [SEEDS[part]]:
        began, scores, seconds = time.time(), *kept(files[seed])
        fresh = run(seed, test, have=scores)
        if fresh:
            scores |= fresh
            np.savez(
                files[seed],
                seconds=seconds + time.time() - began,
                **{k: v.numpy() for k, v in scores.items()},
            )
            print(
                seed,
                {k: round(numbers(v, test)["auc"], 3) for k, v in fresh.items() if k != "epochs"},
                flush=True,
            )
    parts = {seed: kept(file) for seed, file in files.items()}
    if not all({"complete", *OMISSIONS} <= set(scores) for scores, _ in parts.values()):
        return
    scores, seconds = (
        {seed: scores for seed, (scores, _) in parts.items()},
        sum(s for _, s in parts.values()),
    )
    summary, optimism, runs = summarise(scores, test)
    table = {
        "command": "python data/results/make_snippet.py", "labelled": 200, "seeds": list(SEEDS), "test_seed": 4000,
        "test_images": len(test), "test_patients": TEST_PATIENTS, "source_sha256": ULTRASOUND_SHA256,
        "interval": "95 %, crossed over patients and seeds (medtl_utils.compare); in best_epoch: t over seeds",
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
        "minutes": round(seconds / 60, 1), "summary": summary, "best_epoch": optimism, "runs": runs,
    }  # fmt: skip
    (HERE / "snippet.json").write_text(json.dumps(tidy(table), indent=1) + "\n")
    for row in summary:
        if row["metric"] != "brier":
            print(
                f"{row['what']:42s} {row['metric']:9s} {row['a']:.3f} {row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
            )
    print(optimism)


if __name__ == "__main__":
    main()
