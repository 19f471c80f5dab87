"""Does simulated ultrasound help on real patients? Transfer against scratch on BreastMNIST, paired over seeds.

    python data/results/make_breastmnist_transfer.py

For each number of labelled images and each seed: the same labelled images, the same order and augmentation, ten epochs of
fine_tune with its defaults (25 and 50 images: batches of 8); once from the simulated-ultrasound source, once from random weights. Nothing was tuned on these
images, and no epoch is chosen. Writes breastmnist_transfer.json beside this file.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch
import torchvision

from medtl_utils import compare, evaluate, fine_tune, load_task, predict, replace_head, source_model

PLAN = {25: 10, 50: 10, 100: 20, 250: 5, None: 5}  # labelled images -> seeds
HERE = Path(__file__).resolve().parent


def run(n_train: int | None, seed: int, source: str) -> torch.Tensor:
    """Test probabilities of one model, fine-tuned from `source` on `n_train` labelled real images."""
    task = load_task("breastmnist", n_train=n_train, seed=seed)
    torch.manual_seed(seed)
    model = replace_head(source_model(source), 2)
    fine_tune(model, task, batch_size=8 if n_train in (25, 50) else 32, seed=seed, progress=False)
    return predict(model, task.open_test("transfer against scratch, all seeds, fixed recipe"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "breastmnist_transfer.json")
    out = parser.parse_args().out
    began = time.time()
    test = load_task("breastmnist").open_test("to know the labels and the twins")
    runs, summary = [], []
    for n_train, n_seeds in PLAN.items():
        scores = {"ultrasound": [], "random": []}
        for seed in range(n_seeds):
            for source, kept in scores.items():
                kept.append(run(n_train, seed, source))
                row = {"n_train": n_train or 546, "seed": seed, "source": source}
                for part, rows in (("official", slice(None)), ("twin-free", ~test.twins)):
                    result = evaluate(kept[-1][rows], test[rows], n_boot=100)
                    row[part] = {m: round(result[m][0], 4) for m in ("auc", "accuracy")}
                runs.append(row)
                print(row, flush=True)
        for part, rows in (("official", slice(None)), ("twin-free", ~test.twins)):
            for metric in ("auc", "accuracy"):
                pairs = ([s[rows] for s in scores[k]] for k in ("ultrasound", "random"))
                difference = compare(*pairs, test[rows], metric)
                summary.append(
                    {"n_train": n_train or 546, "test": part, "metric": metric, **{k: round(v, 4) for k, v in difference.items()}}
                )
                print(summary[-1], flush=True)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
    }
    table = {
        "command": "python data/results/make_breastmnist_transfer.py",
        "recipe": "fine_tune defaults, 10 epochs, 64 px",
        "versions": versions,
        "minutes": round((time.time() - began) / 60, 1),
        "summary": summary,
        "runs": runs,
    }
    out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
