"""The other rows of `studies.speed`: frozen trunks, growth, simulator, `evaluate`, imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from medtl_utils import fine_tune, freeze, predict, replace_head, source_model
from medtl_utils.data import Split, Task
from medtl_utils.model_files import GREY
from medtl_utils.phantom import simulate_target

SEED, SIZE = 890, 64
GROWTH = (500, 5_000, 50_000)
IMPORTS, PATIENTS = 3, 100_000
# a fresh process: seconds and memory of what the code between the marks adds
FRESH = """
import json, re, time
kilobytes = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
{before}
wall, own, memory = time.perf_counter(), time.process_time(), kilobytes()
{timed}
print(json.dumps({{"wall": time.perf_counter() - wall, "own": time.process_time() - own,
                  "peak_mb": kilobytes() / 1024, "before_mb": memory / 1024}}))
"""
IMPORT = ("import torch, torchvision", "from medtl_utils import fine_tune")
EVALUATE = (
    f"""
import numpy as np, torch
from medtl_utils import evaluate
from medtl_utils.data import Split
torch.set_num_threads(1)
n, rng = {PATIENTS}, np.random.default_rng({SEED})
labels = torch.from_numpy((rng.random(n) < 0.3).astype(np.int64))
p = torch.from_numpy(1 / (1 + np.exp(-rng.normal(labels.numpy() * 1.5 - 1, 1))))
scores = torch.stack([1 - p, p], 1).float()
images = torch.zeros(n, 1, 1, 1, dtype=torch.uint8)
split = Split("test", images, labels, ("no", "yes"), 1, np.arange(n).astype(str))
""",
    "evaluate(scores, split)",
)


def in_fresh_process(before: str, timed: str) -> dict[str, float]:
    """Seconds (wall, own) and peak memory of `timed`, after `before`, in a process of its own."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    code = FRESH.format(before=before, timed=timed)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return json.loads(done.stdout)


def seconds(function) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def simulated(n_patients: int) -> tuple[Split, float]:
    """(a split of simulated images, images a processor second)."""
    made = {}
    took = seconds(lambda: made.update(simulate_target("train", n_patients, SIZE, SEED)))
    made = {k: made[k] for k in ("images", "labels", "patients")}
    split = Split("train", classes=("benign", "malignant"), positive=1, **made)
    return split, len(split) / took


def in_two(split: Split, n: int) -> Task:
    """The first n images to train, the next quarter of n to validate; patients are not asked."""
    split.patients = None
    return Task("speed", split[:n], split[n : n + n // 4])


@torch.no_grad()
def features(model: nn.Module, split) -> SimpleNamespace:
    """What the frozen trunk says of every image, once: float32 (N, n_features), and the labels."""
    head, model.fc = model.fc, nn.Identity()
    try:
        found = predict(model, split, raw=True)
    finally:
        model.fc = head
    return SimpleNamespace(images=found, labels=split.labels)


class Head(nn.Module):
    """The head alone, on features that need no normalisation."""

    def __init__(self, fc: nn.Linear):
        super().__init__()
        self.fc, self.normalisation = fc, lambda x: x

    def forward(self, x):
        return self.fc(x)


def frozen_pair(task: Task, epochs: int, seed: int, batch: int = 32) -> tuple:
    """(network, head, seconds): the same head, through the frozen trunk and on cached features."""
    torch.manual_seed(seed)
    model = freeze(replace_head(source_model("ultrasound"), 2))
    head = Head(nn.Linear(512, 2))
    head.load_state_dict({f"fc.{k}": v for k, v in model.fc.state_dict().items()})
    same = {"epochs": epochs, "seed": seed, "batch_size": batch}
    same |= {"progress": False, "augmented": False}
    through = seconds(lambda: fine_tune(model, task, **same)) / epochs
    kept = SimpleNamespace()
    once = seconds(
        lambda: vars(kept).update(train=features(model, task.train), val=features(model, task.val))
    )
    cached = seconds(lambda: fine_tune(head, kept, **same)) / epochs
    return model, head, {"through": through, "features_once": once, "cached": cached}


class Small(nn.Module):
    """A network so small that the loop's own work counts most."""

    def __init__(self):
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 8, 7, stride=8), nn.Linear(8, 2)
        self.normalisation = GREY

    def forward(self, x):
        return self.fc(self.stem(x).relu().mean((2, 3)))


def growth(split: Split) -> list[dict]:
    """Seconds for 1,000 images, one epoch of `Small`, at several sizes of the training set.

    The images of `split` are repeated; what they show does not change the seconds.
    """
    rows = []
    for n in GROWTH:
        index = np.arange(n + 100) % len(split)
        many = split[index]
        many.patients = None
        task = Task("speed", many[:n], many[n:])
        torch.manual_seed(SEED)
        took = seconds(lambda task=task: fine_tune(Small(), task, epochs=1, progress=False))
        rows.append({"images": n, "seconds": took, "seconds_1000": 1000 * took / n})
    return rows


def reached(text: str, wanted: float, got: float, at_most: bool) -> dict:
    met = got <= wanted if at_most else got >= wanted
    return {"goal": text, "wanted": wanted, "got": got, "met": bool(met)}


def others() -> dict:
    """All rows of this file, and whether each goal is met."""
    split, rate = simulated(180)
    grown = growth(split)
    _, _, frozen = frozen_pair(in_two(split, 256), 3, SEED)
    frozen["ratio"] = frozen["through"] / frozen["cached"]
    imports = [in_fresh_process(*IMPORT) for _ in range(IMPORTS)]
    imported = {k: float(np.median([i[k] for i in imports])) for k in ("own", "wall")}
    evaluated = in_fresh_process(*EVALUATE)
    bend = grown[-1]["seconds_1000"] / grown[0]["seconds_1000"]
    return {
        "frozen_trunk": frozen,
        "growth": grown,
        "simulator_images_second": rate,
        "evaluate": {"patients": PATIENTS} | evaluated,
        "imports": imported,
        "goals": [
            reached("cached features: times as fast", 20, frozen["ratio"], False),
            reached(f"growth: {GROWTH[-1]} against {GROWTH[0]} images", 1.1, bend, True),
            reached("simulator: images a second", 500, rate, False),
            reached(f"evaluate, {PATIENTS} patients: seconds", 30, evaluated["own"], True),
            reached(f"evaluate, {PATIENTS} patients: MB", 1000, evaluated["peak_mb"], True),
            reached("import of fine_tune: seconds", 1, imported["own"], True),
        ],
    }
