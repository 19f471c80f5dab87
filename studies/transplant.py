"""Which layers are worth copying? The first k blocks come from the source, the rest is random.

    python -m studies.transplant

After Yosinski et al. 2014. Blocks: stem, layer1 ... layer4; k = 0 is training from scratch, k = 5
copies everything below the head. "tuned": all layers learn; "frozen": the copied blocks stay as
they are, BatchNorm included. One recipe for every k: fine_tune's defaults (10 epochs, 0.001
everywhere). Simulated: each seed labels 200 images of other patients (seeds 2001 and up, used
nowhere else), all are scored on the same 400 patients (the test part of seed 2000, the test set of
no notebook). Real: busi; each seed labels 200 images of folds 2 to 4, all are scored on fold 1;
fold 0, the locked test set, is never opened. Differences to k = 0 are paired by seed; their
intervals cross patients (real: groups of near-copies) and seeds. Also kept: CKA between the
source's blocks and the trained model's, over seeds.
"""

import copy
import functools

import numpy as np
import torch
from torch import nn

from medtl_utils import compare, fine_tune, freeze, load_task, predict, replace_head, source_model
from medtl_utils.data import Split, Task
from medtl_utils.models import BLOCKS, block_of
from studies import real_images
from studies.cache import HELPER
from studies.runner import Study, main, opened
from studies.tables import auc, over_seeds

TEST_SEED = 2000
SEEDS = {"simulated": range(2001, 2006), "real": range(2001, 2006)}
TUNED = [("tuned", k) for k in range(6)]
ARMS = {"simulated": TUNED + [("frozen", k) for k in range(1, 6)], "real": TUNED}
N_CKA = 480  # images that CKA is measured on


def transplant(source: nn.Module, k: int) -> nn.Module:
    """A random ResNet-18 with two outputs that holds the source's first k blocks, BatchNorm too."""
    model = replace_head(source_model("random"), 2)
    model.normalisation = source.normalisation
    copied = {n: tensor for n, tensor in source.state_dict().items() if block_of(n) in BLOCKS[:k]}
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
    """What every block says about every image: channels averaged over space, float64 (N, C)."""
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


@functools.cache
def scored_split(data: str) -> Split:
    if data == "real":
        return real_images.scored()
    reason = "layer transplant; not the test set of any notebook"
    return opened(load_task("phantom", seed=TEST_SEED), reason)


def labelled(data: str, seed: int) -> Task:
    if data == "real":
        return real_images.few_labelled(200, seed)
    return load_task("phantom", n_train=200, seed=seed)


def run(data: str, seed: int, kind: str, k: int) -> dict:
    """Probabilities (N, 2) of the scored images; CKA to the source at the two ends, k = 0 and 5."""
    source, scored = source_model("ultrasound"), scored_split(data)
    model = trained(source, k, labelled(data, seed), seed, frozen=kind == "frozen")
    result = {"scores": predict(model, scored)}
    if kind == "tuned" and k in (0, 5):
        before, after = (blocks_on(m, scored.images[:N_CKA]) for m in (source, model))
        result["cka"] = np.array([cka(before[b], after[b]) for b in BLOCKS])
    return result


def table(results: list[tuple[dict, dict]]) -> dict:
    kept = {tuple(cell[x] for x in ("data", "kind", "k", "seed")): r for cell, r in results}
    runs, summary, similarity = [], [], []
    for data, seeds in SEEDS.items():
        scored = real_images.by_group(scored_split(data))
        of = lambda kind, k, data=data, seeds=seeds: [
            torch.from_numpy(kept[data, kind, k, s]["scores"]) for s in seeds
        ]
        for kind, k in ARMS[data]:
            here = {"data": data, "kind": kind, "k": k}
            aucs = [auc(scores, scored) for scores in of(kind, k)]
            runs += [{**here, "seed": s, "auc": a} for s, a in zip(seeds, aucs)]
            row = here | {"auc": over_seeds(aucs, bounds=(0, 1)), "n_seeds": len(aucs)}
            if k:
                gap = compare(of(kind, k), of("tuned", 0), scored)
                row["gain"] = {"value": gap["difference"], "low": gap["low"], "high": gap["high"]}
            summary.append(row)
        for k in (0, 5):
            for place, block in enumerate(BLOCKS):
                values = [kept[data, "tuned", k, s]["cka"][place] for s in seeds]
                similarity.append({"data": data, "k": k, "block": block, **over_seeds(values)})
    return {"summary": summary, "similarity": similarity, "runs": runs}


STUDY = Study(
    name="transplant",
    cells=[
        {"data": data, "seed": seed, "kind": kind, "k": k}
        for data in SEEDS
        for seed in SEEDS[data]
        for kind, k in ARMS[data]
    ],
    run=run,
    table=table,
    recipe="fine_tune defaults: 10 epochs, 0.001 for every layer",
    seeds=SEEDS,
    about={
        "labelled": 200,
        "real": "busi: 200 images of folds 2 to 4 labelled, fold 1 scored",
        "interval": "gain: patients (real: groups of near-copies) and seeds; auc: seeds",
    },
    code=(*HELPER, "medtl_utils.datasets.busi", "studies.real_images"),
)

if __name__ == "__main__":
    main(STUDY)
