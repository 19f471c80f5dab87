"""Which layers are worth copying? The first k blocks come from the source, the rest starts at random (Yosinski et al. 2014).

    python data/results/make_transplant.py [--minutes 5]

Blocks: stem, layer1 ... layer4; k = 0 is training from scratch, k = 5 copies everything below the head. "tuned": all layers learn; "frozen":
the copied blocks stay as they are, BatchNorm included. One recipe for every k: fine_tune's defaults (10 epochs, 0.001 everywhere).
Simulated: each seed labels 200 images of other patients (seeds 2001 and up, used nowhere else), all are scored on the same 400 patients (the
test part of seed 2000, the test set of no notebook). Real: BreastMNIST's official training and validation images only; one half, without
near-copies of the other, is scored; each seed labels 200 images of the other half. Differences to k = 0 are paired by seed; their intervals
cross patients (real: images) and seeds. Also kept: CKA between the source's blocks and the trained model's, over seeds.
Each part (data, seed) is stored in data/cache/, so that --minutes can stop between two parts; when all are there, transplant.json is written.
"""

import argparse
import copy
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import nn

from medtl_utils import (
    compare,
    data_folder,
    find_twins,
    fine_tune,
    freeze,
    load_task,
    predict,
    replace_head,
    source_model,
)
from medtl_utils.data import Split, Task
from medtl_utils.models import BLOCKS, ULTRASOUND_SHA256, block_of

TEST_SEED, SEEDS, REAL_SEEDS = 2000, range(2001, 2007), range(2001, 2006)
TUNED = [("tuned", k) for k in range(6)]
ARMS = {"simulated": TUNED + [("frozen", k) for k in range(1, 6)], "real": TUNED}
PARTS = [("simulated", seed) for seed in SEEDS] + [("real", seed) for seed in REAL_SEEDS]
N_CKA = 480  # images that CKA is measured on
HERE = Path(__file__).resolve().parent


def transplant(source: nn.Module, k: int) -> nn.Module:
    """A random ResNet-18 with two outputs into which the first k blocks of the source are copied, BatchNorm statistics included."""
    model = replace_head(source_model("random"), 2)
    model.normalisation = source.normalisation
    copied = {
        name: tensor for name, tensor in source.state_dict().items() if block_of(name) in BLOCKS[:k]
    }
    model.load_state_dict(copied, strict=False)
    return model


def trained(source: nn.Module, k: int, task: Task, seed: int, frozen: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    model = transplant(source, k)
    if frozen:
        freeze(model, through=BLOCKS[k - 1])
    fine_tune(model, task, seed=seed, progress=False)
    return model


def blocks_on(model: nn.Module, images: torch.Tensor) -> dict[str, np.ndarray]:
    """What every block says about every image: its channels, averaged over the picture, float64 (N, channels)."""
    model, x, found = copy.deepcopy(model).eval(), model.normalisation(images), {}
    with torch.no_grad():
        x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        for block in BLOCKS:
            x = x if block == "stem" else getattr(model, block)(x)
            found[block] = x.mean((2, 3)).double().numpy()
    return found


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA of (N, p) and (N, q), in the form over features; Kornblith et al. 2019."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def real_halves() -> tuple[Split, Split]:
    """(images to draw labelled ones from, images to score): two halves of BreastMNIST's training and validation images."""
    whole = load_task("breastmnist")
    images, labels = (
        torch.cat([whole.train.images, whole.val.images]),
        torch.cat([whole.train.labels, whole.val.labels]),
    )
    order = np.random.default_rng(TEST_SEED).permutation(len(images))
    pool, held = order[: len(order) // 2], order[len(order) // 2 :]
    held = held[find_twins(images[held].numpy(), images[pool].numpy()) < 0]
    return tuple(
        Split(name, images[rows], labels[rows], whole.classes, whole.positive)
        for name, rows in (("train", pool), ("scored", held))
    )


def scored_split(data: str) -> Split:
    if data == "real":
        return real_halves()[1]
    return load_task("phantom", seed=TEST_SEED).open_test(
        "layer transplant; not the test set of any notebook"
    )


def labelled(data: str, seed: int) -> Task:
    if data == "simulated":
        return load_task("phantom", n_train=200, seed=seed)
    pool = real_halves()[0]
    rows = np.random.default_rng(seed).permutation(len(pool))[:200]
    return Task(
        "breastmnist",
        pool[rows[:160]],
        pool[rows[160:]],
        "BreastMNIST, a half of its training and validation images",
        pool[:0],
    )


def run(
    data: str, seed: int, arms=None, task: Task | None = None, scored: Split | None = None
) -> dict[str, torch.Tensor]:
    """Probabilities (N, 2) of the scored images for every arm, and CKA to the source for the two ends, k = 0 and k = 5."""
    source, out = source_model("ultrasound"), {}
    task, scored = task or labelled(data, seed), scored or scored_split(data)
    before = blocks_on(source, scored.images[:N_CKA])
    for kind, k in arms or ARMS[data]:
        model = trained(source, k, task, seed, frozen=kind == "frozen")
        out[f"{kind}/{k}"] = predict(model, scored)
        if (kind, k) in (("tuned", 0), ("tuned", 5)):
            after = blocks_on(model, scored.images[:N_CKA])
            out[f"cka/{k}"] = torch.tensor([cka(before[b], after[b]) for b in BLOCKS])
    return out


def mean_and_interval(values) -> dict[str, float]:
    """Mean with a t interval over seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return {
        "value": float(np.mean(values)),
        "low": float(np.mean(values) - half),
        "high": float(np.mean(values) + half),
    }


def summarise(
    parts: dict[tuple[str, int], dict[str, torch.Tensor]],
) -> tuple[list[dict], list[dict], list[dict]]:
    runs, summary, similarity = [], [], []
    for data, seeds in (("simulated", SEEDS), ("real", REAL_SEEDS)):
        scored = scored_split(data)
        scores = {
            arm: [parts[data, s]["/".join(map(str, arm))] for s in seeds] for arm in ARMS[data]
        }
        for kind, k in ARMS[data]:
            aucs = [
                float(roc_auc_score(scored.labels == scored.positive, p[:, scored.positive]))
                for p in scores[kind, k]
            ]
            runs += [
                {"data": data, "seed": s, "kind": kind, "k": k, "auc": a}
                for s, a in zip(seeds, aucs)
            ]
            row = {
                "data": data,
                "kind": kind,
                "k": k,
                "auc": mean_and_interval(aucs),
                "n_seeds": len(aucs),
            }
            if k:
                gap = compare(scores[kind, k], scores["tuned", 0], scored)
                row["gain"] = {"value": gap["difference"], "low": gap["low"], "high": gap["high"]}
            summary.append(row)
        for k in (0, 5):
            for place, block in enumerate(BLOCKS):
                values = [float(parts[data, s][f"cka/{k}"][place]) for s in seeds]
                similarity.append(
                    {"data": data, "k": k, "block": block, **mean_and_interval(values)}
                )
    return runs, summary, similarity


def rounded(thing):
    if isinstance(thing, float):
        return round(thing, 4)
    if isinstance(thing, dict):
        return {k: rounded(v) for k, v in thing.items()}
    return [rounded(v) for v in thing] if isinstance(thing, list) else thing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=60, help="begin no further part after so many minutes"
    )
    limit, began = parser.parse_args().minutes, time.time()
    files = {
        p: data_folder() / "cache" / f"transplant_{ULTRASOUND_SHA256[:8]}_{p[0]}_{p[1]}.safetensors"
        for p in PARTS
    }
    for part, file in files.items():
        if not file.is_file() and time.time() - began < 60 * limit:
            start = time.time()
            found = run(*part)
            save_file({**found, "seconds": torch.tensor(time.time() - start)}, file)
            print(*part, f"{time.time() - start:.0f} s", flush=True)
    if not all(file.is_file() for file in files.values()):
        return print("not complete yet: run it again")
    parts = {part: load_file(file) for part, file in files.items()}
    runs, summary, similarity = summarise(parts)
    table = {
        "command": "python data/results/make_transplant.py", "labelled": 200, "source": ULTRASOUND_SHA256,
        "recipe": "fine_tune defaults: 10 epochs, 0.001 for every layer", "seeds": {"simulated": list(SEEDS), "real": list(REAL_SEEDS)},
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
        "minutes": round(sum(float(p["seconds"]) for p in parts.values()) / 60, 1),
        "summary": summary, "similarity": similarity, "runs": runs,
    }  # fmt: skip
    rows = json.dumps(rounded(table), indent=1)
    (HERE / "transplant.json").write_text(rows + "\n")
    print(f"{HERE / 'transplant.json'} written")


if __name__ == "__main__":
    main()
