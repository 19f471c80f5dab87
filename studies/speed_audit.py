"""Do the loops of `studies.speed` do the same work? A tiny task, every loop against `fine_tune`.

Without augmentation and in float32 a loop must see the same images in the same batches and end with
the same weights; with it, the images must be changed as much as ours are.
"""

from __future__ import annotations

import torch

from medtl_utils.data import Task
from studies.speed_loops import LOOPS, OURS, Batches, Job, run_loop

EPOCHS, BATCH = 2, 8
SAME_PIXELS = 0.01  # PIL's bytes / 255 against the helper's: rounding alone
SAME_WEIGHTS = {"float32": 0.15, "bfloat16": 0.6}  # distance / distance of ours from the start
AS_MUCH = (0.6, 1.6)  # the change by augmentation / that of ours


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def watched(name: str, task: Task, start, augmented: bool) -> dict:
    """One training of loop `name`: its updates, its inputs against the plain images, its weights.

    `start(seed)`: the network. "apart": for each input of a training step, the mean difference from
    the images that `fine_tune` would take, unchanged; a batch of another size counts as infinite.
    """
    job = Job(start(0), task, BATCH, EPOCHS, 0, augmented)
    order = Batches(job)
    rows = [torch.tensor(r) for _ in range(EPOCHS) for r in order]
    job.began, apart = None, []

    def look(module, inputs):
        if module.training:
            x, k = inputs[0].detach().float(), len(apart)
            if k >= len(rows) or len(rows[k]) != len(x):
                apart.append(float("inf"))
            else:
                clean = module.normalisation(task.train.images[rows[k]])
                apart.append(float((x - clean).abs().mean()))

    handle = job.model.register_forward_pre_hook(look)
    updates = run_loop(name, job)
    handle.remove()
    return {"updates": updates, "apart": apart, "weights": weights(job.model)}


def audit(names: list[str], task: Task, start) -> list[dict]:
    """One row a loop: what was found, and `same`: whether it does our work."""
    begin = weights(start(0))
    exact = watched("fine_tune, float32", task, start, False)
    changed = watched(OURS, task, start, True)
    length = (exact["weights"] - begin).norm()
    found = []
    for name in names:
        plain, other = (watched(name, task, start, a) for a in (False, True))
        half = any("bf" in str(word) for word in (name, *LOOPS[name][2].items())) or name == OURS
        row = {
            "loop": name,
            "updates": [plain["updates"], other["updates"]],
            "pixels": max(plain["apart"], default=None),
            "weights": float((plain["weights"] - exact["weights"]).norm() / length),
            "changed": sum(other["apart"]) / sum(changed["apart"]),
        }
        row["same"] = (
            row["updates"] == [exact["updates"]] * 2
            and len(plain["apart"]) == len(other["apart"]) == exact["updates"]
            and (row["pixels"] or 0) <= SAME_PIXELS
            and row["weights"] <= SAME_WEIGHTS["bfloat16" if half else "float32"]
            and AS_MUCH[0] <= row["changed"] <= AS_MUCH[1]
        )
        found.append(row)
    return found
