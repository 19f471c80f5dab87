"""Transfer against training from scratch over the number of labelled images, with a source that knows something else.

    python data/results/make_learning_curve.py                        what is not there yet, then the table (13 minutes in all)
    python data/results/make_learning_curve.py --seeds 1000 1001      only these seeds: a part of the work

Simulated tumours: each seed (1000 and up, used nowhere else) draws other patients to learn from, the same for every source; the test patients are
the same for every run, 400 women of seed 1000. Real tumours (BreastMNIST, official test set): scratch and digits only. With 100 labels the digits' gain
left out zero, upwards on simulated and downwards on real images: both were then repeated with new seeds (1006 and up), reported apart. Ten epochs of fine_tune with its
defaults (25 and 50 images: batches of 8). Sources: "random" (from scratch), "ultrasound" (ships with the course), "digits" (a ResNet-18 trained here on
scikit-learn's handwritten digits). Nothing is tuned and no epoch is chosen. Scores are kept in data/cache/, so that an interrupted run goes on.
Writes learning_curve.json beside this file.
"""

import argparse
import functools
import json
import platform
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from medtl_utils import (
    compare,
    data_folder,
    fine_tune,
    load_model,
    load_task,
    predict,
    replace_head,
    save_model,
    source_model,
)
from medtl_utils.data import Split, Task
from medtl_utils.models import ULTRASOUND_SHA256, Normalisation
from medtl_utils.phantom import VERSION

HERE = Path(__file__).resolve().parent
NUMBERS = {"simulated": (25, 50, 100, 600), "real": (25, 100)}
SEEDS = {"simulated": range(1000, 1006), "real": range(1000, 1006)}
SOURCES = {"simulated": ("random", "ultrasound", "digits"), "real": ("random", "digits")}
REPEATED = {"numbers": (100,), "seeds": range(1006, 1012), "sources": ("random", "digits")}
TEST_SEED = 1000
CACHE = data_folder() / "cache" / f"learning_curve_v{VERSION}"


def digits_task(n_train: int = 1400, size: int = 64) -> Task:
    """Handwritten digits, 8x8 pixels, blown up to `size`: the first `n_train` to learn from, the last 397 to check."""
    bunch = load_digits()
    images = F.interpolate(
        torch.tensor(bunch.images[:, None] * 255 / 16, dtype=torch.float32),
        size=(size, size),
        mode="bilinear",
    )
    images, labels = images.round().to(torch.uint8), torch.tensor(bunch.target, dtype=torch.int64)
    part = lambda name, rows: Split(name, images[rows], labels[rows], tuple("0123456789"))
    train, check = part("train", slice(n_train)), part("val", slice(1400, None))
    return Task(
        "digits",
        train,
        check,
        "scikit-learn's load_digits (UCI optical recognition of handwritten digits)",
        check,
    )


def digits_source() -> nn.Module:
    """A ResNet-18 that names digits; trained once, then read from the cache."""
    file = CACHE / "digits.safetensors"
    if not file.is_file():
        task = digits_task()
        pixels = task.train.images.float() / 255
        torch.manual_seed(1000)
        model = replace_head(source_model("random"), 10)
        model.normalisation = Normalisation((float(pixels.mean()),) * 3, (float(pixels.std()),) * 3)
        fine_tune(model, task, seed=1000, augmented=False)  # no mirror images: a mirrored 2 is no 2
        save_model(model, file)
    return load_model(file)


def run(data: str, n_train: int, seed: int, source: str) -> tuple[torch.Tensor, list[float]]:
    """Test probabilities and the validation AUC of every epoch of one model fine-tuned on `n_train` labelled images."""
    task = load_task(
        "phantom" if data == "simulated" else "breastmnist", n_train=n_train, seed=seed
    )
    torch.manual_seed(seed)
    model = replace_head(digits_source() if source == "digits" else source_model(source), 2)
    history = fine_tune(
        model, task, batch_size=8 if n_train < 100 else 32, seed=seed, progress=False
    )
    return predict(model, test_set(data)), history["val_auc"]


@functools.cache
def test_set(data: str) -> Split:
    """The common test set: 400 simulated patients of TEST_SEED, or BreastMNIST's official one."""
    task = load_task("phantom", seed=TEST_SEED) if data == "simulated" else load_task("breastmnist")
    return task.open_test("learning curve; the test set of no notebook")


def interval(scores: list[torch.Tensor], test: Split) -> dict:
    """Mean AUC with an interval over patients and seeds: the difference to a coin, whose AUC is 0.5 and never varies."""
    coin = torch.full((len(test), 2), 0.5)
    row = compare(scores, [coin] * len(scores), test)
    return {"auc": row["a"], "low": row["low"] + 0.5, "high": row["high"] + 0.5}


def summary(
    scores: dict, numbers: dict, seeds: dict, sources: dict
) -> tuple[list[dict], list[dict]]:
    """For each source and number its AUC, and its paired gain over training from scratch, each with an interval."""
    levels, gains = [], []
    for data in numbers:
        test = test_set(data)
        parts = (
            {"simulated": test}
            if data == "simulated"
            else {"official": test, "twin-free": test[~test.twins]}
        )
        for part, split in parts.items():
            rows = slice(None) if part != "twin-free" else ~test.twins
            for n in numbers[data]:
                of = {
                    s: [scores[data, n, seed, s][rows] for seed in seeds[data]]
                    for s in sources[data]
                }
                for source in sources[data]:
                    levels.append(
                        {
                            "n_train": n,
                            "test": part,
                            "source": source,
                            **interval(of[source], split),
                        }
                    )
                    if source != "random":
                        gain = compare(of[source], of["random"], split)
                        gains.append(
                            {"n_train": n, "test": part, "metric": "auc", "source": source, **gain}
                        )
    return tuple(
        [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        for rows in (levels, gains)
    )


def plan() -> list[tuple[str, int, int, str]]:
    """All runs: data, labelled images, seed, source."""
    first = [
        (d, n, k, s) for d in NUMBERS for k in SEEDS[d] for n in NUMBERS[d] for s in SOURCES[d]
    ]
    return first + [
        (d, n, k, s)
        for d in NUMBERS
        for k in REPEATED["seeds"]
        for n in REPEATED["numbers"]
        for s in REPEATED["sources"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=None)
    wanted, scores, runs, missing = parser.parse_args().seeds, {}, [], 0
    CACHE.mkdir(parents=True, exist_ok=True)
    for data, n, seed, source in plan():
        weights = f"_{ULTRASOUND_SHA256[:8]}" if source == "ultrasound" else ""
        file = CACHE / f"{data}_{n}_{seed}_{source}{weights}.npz"
        if not file.is_file():
            if wanted is not None and seed not in wanted:
                missing += 1
                continue
            began = time.time()
            probabilities, val_auc = run(data, n, seed, source)
            np.savez(
                file, scores=probabilities.numpy(), val_auc=val_auc, seconds=time.time() - began
            )
        with np.load(file, allow_pickle=False) as kept:
            scores[data, n, seed, source] = torch.from_numpy(kept["scores"])
            row = {"data": data, "n_train": n, "seed": seed, "source": source}
            row["val_auc"], row["seconds"] = (
                kept["val_auc"].round(4).tolist(),
                round(float(kept["seconds"]), 1),
            )
        row["auc"] = round(interval([scores[data, n, seed, source]] * 2, test_set(data))["auc"], 4)
        runs.append(row)
        print({k: v for k, v in row.items() if k != "val_auc"}, flush=True)
    if missing:
        print(f"{missing} runs are still to be made; the table is not written yet")
        return
    check = digits_task().val
    named = predict(digits_source(), check).argmax(1) == check.labels
    levels, gains = summary(scores, NUMBERS, SEEDS, SOURCES)
    same = lambda what: dict.fromkeys(NUMBERS, REPEATED[what])
    _, repeated = summary(scores, same("numbers"), same("seeds"), same("sources"))
    table = {
        "command": "python data/results/make_learning_curve.py",
        "recipe": "fine_tune defaults, 10 epochs, 64 px; batches of 8 below 100 labelled images",
        "labelled": "training and validation together; 600 is all that load_task draws by default",
        "test": "simulated: 400 patients of seed 1000, the same for every run; real: BreastMNIST, official and twin-free",
        "seeds": list(SEEDS["simulated"]),
        "repeated_seeds": list(REPEATED["seeds"]),
        "digits": {
            "images": 1400,
            "epochs": 10,
            "accuracy": round(float(named.float().mean()), 4),
            "checked_on": len(check),
        },
        "source_sha256": ULTRASOUND_SHA256,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "sklearn": sklearn.__version__,
        },
        "minutes": round(sum(r["seconds"] for r in runs) / 60, 1),
        "levels": levels,
        "summary": gains,
        "repeated": repeated,
        "runs": runs,
    }
    (HERE / "learning_curve.json").write_text(json.dumps(table, indent=1) + "\n")
    for row in levels + gains + repeated:
        print(row)


if __name__ == "__main__":
    main()
