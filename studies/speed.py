"""How fast is `fine_tune`? All loops in one run, in turn, on one thread of a CPU.

    .venv-speed/bin/python -m studies.speed

The frameworks have an environment of their own; `speed_loops.INSTALL` makes it. A framework that is
missing is an error. `--only NAME ...` races the loops named, and the table says which.

A round trains every loop from the same start, in an order that changes from round to round, then
scores fresh simulated images. Seconds are those of the processor (`time.process_time`): on a
machine that others use, wall time says how much of it one gets. Wall time stands beside them. The
ratio is taken within a round; the table has its median, and the smallest and largest of the rounds.
A run that is stopped, or that `--minutes` ends, goes on later with the next round; until all rounds
are there, the table says that it is not complete.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from medtl_utils import replace_head, source_model
from medtl_utils.data import Split, Task
from medtl_utils.paths import output_folder
from medtl_utils.phantom import simulate_target
from medtl_utils.training import autocast, best_device, native_bfloat16
from studies.speed_audit import audit
from studies.speed_loops import INSTALL, LOOPS, OURS, Job, must_be_there, run_loop
from studies.speed_other import others
from studies.tables import auc, versions, write_table

SEED, EPOCHS, BATCHES, FRESH = 880, 2, (32, 8), 1024
PLAN = {64: (160, 40, 3), 128: (160, 40, 1)}  # size -> (images to train, to validate, rounds)
GOALS = {"plain PyTorch": 1.7, "Lightning, bf16-mixed": 1.15}
WHY = {  # goal begins with -> what the table shows of it, said where the goal is missed
    "plain PyTorch": "bfloat16 saves less where images and batches are small",
    "Lightning": "both compute the same bfloat16 products; only the work between them can differ",
    "simulator": "measured with one thread",
    "evaluate": "PyTorch, scikit-learn and the data come first (before_mb)",
    "import": "scikit-learn's metrics, for the AUC that stands in the log",
}
MARGIN = 0.05  # mean AUCs of two loops that learn alike differ by less, over all rounds


@cache
def split_of(name: str, n: int, size: int, seed: int) -> Split:
    """The first n simulated images of a stream of patients."""
    made = simulate_target(name, n // 2 + 8, size, seed)  # 2.5 images a patient on average
    made = {k: made[k][:n] for k in ("images", "labels", "patients")}
    return Split(name, classes=("benign", "malignant"), positive=1, **made)


@torch.no_grad()
def fresh_auc(model: torch.nn.Module, split: Split) -> float:
    """AUC on images that no loop has seen; scored alike for all loops, as fast as it goes."""
    model.eval().to(memory_format=torch.channels_last)
    with autocast(torch.device("cpu")):
        scores = [model(model.normalisation(x)).float() for x in split.images.split(128)]
    return auc(torch.cat(scores).softmax(1), split)


def start(seed: int) -> torch.nn.Module:
    """The source that ships, with a new head: the same for every loop of a round."""
    torch.manual_seed(seed)
    return replace_head(source_model("ultrasound"), 2)


def raced(name: str, task: Task, batch: int, seed: int) -> tuple[dict, torch.nn.Module]:
    """One training: ({seconds of processor and wall an epoch, updates}, the network)."""
    job = Job(start(seed), task, batch, EPOCHS, seed)
    updates = run_loop(name, job)
    wall, own = (now - began for now, began in zip(_now(), job.began))
    row = {"loop": name, "own": own / EPOCHS, "wall": wall / EPOCHS, "updates": updates}
    return row, job.model


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def one_round(names: list[str], size: int, batch: int, number: int) -> list[dict]:
    """Every loop once; a row each."""
    (train, val, _), seed = PLAN[size], SEED + number
    train, val = split_of("train", train, size, seed), split_of("val", val, size, seed)
    fresh = split_of("test", FRESH, size, SEED)
    order = names.copy()
    random.Random(f"{number} {size} {batch}").shuffle(order)
    rows = []
    for name in order:
        row, model = raced(name, Task("speed", train, val), batch, seed)
        row |= {"size": size, "batch": batch, "round": number, "auc": fresh_auc(model, fresh)}
        rows.append(row)
        print(row, flush=True)
    return rows


def planned() -> list[tuple[int, int, int]]:
    """(size, batch, number of the round), in the order in which they are run."""
    most = range(max(rounds for *_, rounds in PLAN.values()))
    cells = [(size, batch) for size in PLAN for batch in BATCHES]
    return [(*cell, number) for number in most for cell in cells if number < PLAN[cell[0]][2]]


def all_rounds(names: list[str], file: Path, until: float = math.inf) -> list[dict]:
    """The rows of all rounds; `file` holds what was measured before.

    No round begins after the moment `until` (seconds since 1970), unless there is none yet.
    """
    lines = file.read_text().splitlines() if file.is_file() else []
    kept = {tuple(key): rows for key, rows in map(json.loads, lines)}
    for key in planned():
        if key not in kept and (time.time() < until or not kept):
            kept[key] = one_round(names, *key)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a") as stream:
                stream.write(json.dumps([key, kept[key]]) + "\n")
    return [row for rows in kept.values() for row in rows]


def summary(rows: list[dict]) -> list[dict]:
    """Rows of rounds -> one row for each loop, batch and size."""
    found = []
    for size, batch in sorted({(r["size"], r["batch"]) for r in rows}):
        cell = [r for r in rows if (r["size"], r["batch"]) == (size, batch)]
        first = {r["round"]: r for r in cell if r["loop"] == OURS}
        for name in dict.fromkeys(n for n in LOOPS if any(r["loop"] == n for r in cell)):
            mine = sorted((r for r in cell if r["loop"] == name), key=lambda r: r["round"])
            ours = [first[r["round"]] for r in mine]
            column = lambda key, rows=mine: np.array([r[key] for r in rows])
            base = lambda key, rows=ours: np.array([r[key] for r in rows])
            ratio = column("own") / base("own")
            found.append(
                {
                    "loop": name,
                    "batch": batch,
                    "size": size,
                    "rounds": len(mine),
                    "seconds_epoch": np.median(column("own")),
                    "wall_epoch": np.median(column("wall")),
                    "ratio": np.median(ratio),
                    "ratio_low": ratio.min(),
                    "ratio_high": ratio.max(),
                    "ratio_wall": np.median(column("wall") / base("wall")),
                    "auc": column("auc").mean(),
                    "auc_minus_ours": (column("auc") - base("auc")).mean(),
                    "updates": mine[0]["updates"],
                }
            )
    return found


def goals(loops: list[dict]) -> list[dict]:
    """The goals of the race: the smallest, the median and the largest ratio over the settings."""
    found = []
    for name, goal in GOALS.items():
        ratios = [r["ratio"] for r in loops if r["loop"] == name]
        if ratios:
            row = {"goal": f"{name}: at least {goal} times our seconds", "wanted": goal}
            found.append(row | {"got": float(np.median(ratios)), "all": ratios})
            found[-1]["met"] = min(ratios) >= goal
    return found


def reason(goal: dict) -> dict:
    """The goal, with the reason where it is missed."""
    if goal["met"]:
        return goal
    why = (text for begins, text in WHY.items() if goal["goal"].startswith(begins))
    return goal | {"why": next(why, "not explained yet")}


def in_float32(loops: list[dict]) -> dict[str, float]:
    """What is left without bfloat16: seconds of the plain loop / ours, both in float32."""
    second = {(r["loop"], r["size"], r["batch"]): r["seconds_epoch"] for r in loops}
    keys = sorted({(r["size"], r["batch"]) for r in loops})
    pairs = [("plain PyTorch", *k) for k in keys], [("fine_tune, float32", *k) for k in keys]
    return {
        f"{size} px, batch {batch}": second[a] / second[b]
        for a, b, (size, batch) in zip(*pairs, keys)
        if a in second and b in second
    }


def checked(names: list[str]) -> list[dict]:
    """The audit of every loop on a tiny task; a loop that does other work ends the run."""
    task = Task("audit", split_of("train", 24, 32, SEED), split_of("val", 24, 32, SEED))
    found = audit(names, task, start)
    if wrong := [row for row in found if not row["same"]]:
        raise SystemExit(f"These loops do other work than fine_tune: {wrong}")
    return found


def table_of(rows: list[dict], other: dict, names: list[str]) -> dict:
    loops = summary(rows)
    packages = {n: version(n) for n in {LOOPS[name][1] for name in names} - {None}}
    return {
        "command": "python -m studies.speed",
        "environment": INSTALL,
        "recipe": f"ResNet-18 from the source that ships; {EPOCHS} epochs of AdamW, one cycle, one "
        f"thread; AUC on {FRESH} fresh simulated images a round; seconds: processor time an epoch",
        "images": {str(size): {"train": t, "val": v} for size, (t, v, _) in PLAN.items()},
        "complete": {(r["size"], r["batch"], r["round"]) for r in rows} == set(planned()),
        "seeds": sorted({SEED + r["round"] for r in rows}),
        "versions": versions() | packages,
        "native_bfloat16": native_bfloat16(),
        "processor": {"machine": platform.machine(), "flags": flags()},
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "raced": names,
        "margin": MARGIN,
        "loops": loops,
        "float32": in_float32(loops),
        "goals": [reason(goal) for goal in goals(loops) + other.pop("goals")],
        **other,
    }


def flags() -> list[str]:
    """The processor's flags that matter for bfloat16 (Linux); elsewhere none are told."""
    file = Path("/proc/cpuinfo")
    words = set(file.read_text().split()) if file.is_file() else set()
    return sorted(words & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(LOOPS), help="race these loops")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no round later")
    given = parser.parse_args()
    names = list(dict.fromkeys([OURS, *(given.only or LOOPS)]))
    must_be_there(names)
    if best_device().type != "cpu":
        raise SystemExit("The race is one of CPUs. Hide the GPU: CUDA_VISIBLE_DEVICES= python ...")
    torch.set_num_threads(1)
    file = output_folder() / "speed_rounds.jsonl"
    other = {"audit": checked(names)}
    rows = all_rounds(names, file, time.time() + 60 * given.minutes)
    other |= others()
    table = table_of(rows, other, names)
    print(f"wrote {write_table('speed', table)}")
    if table["complete"]:
        file.unlink()


if __name__ == "__main__":
    main()
