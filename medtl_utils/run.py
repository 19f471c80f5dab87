"""From a folder to a report: `python -m medtl_utils.run FOLDER --out results`.

Reads the folder, looks for copies and marks, chooses a recipe by grouped cross-validation, trains
once more, opens the test set once, and writes

    results/report.html         one file, no network; cases by row number
    results/scores.csv          one row a patient, or an image where patients are unknown
    results/model.safetensors   for source_model("file:...")
    results/cells/              what is done; a second call goes on from there

In several processes: `torchrun --nproc-per-node 2 -m medtl_utils.run FOLDER --out results`. The
trainings are shared out, as `processes` says; the first process does the rest and writes. Every
machine needs the folder of images, the first one alone the folder of results. Not for diagnosis.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from .before import before_training
from .checkpoint import whole_file
from .data import DataError, Split, Task
from .datasets import load_task
from .datasets.folder import PREFIX
from .datasets.folder_read import read_folder
from .datasets.folder_table import EACH, UNKNOWN
from .evaluation import aggregate, evaluate
from .ledger import content_key
from .models import freeze, replace_head, save_model, source_model
from .processes import disconnect, fine_tune, from_first, is_first
from .run_report import page
from .spreadsheet import safe_cell
from .training import predict

RECIPES: dict[str, dict] = {  # name -> arguments of `freeze`, or none; and the peak learning rate
    "all layers": {"lr": 1e-3},
    "the last block and the head": {"through": "layer3", "lr": 1e-3},
}


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser("python -m medtl_utils.run", description=__doc__.split("\n")[0])
    made.add_argument("folder", help="a folder a class, or a table index.csv (path,label,patient)")
    made.add_argument("--out", default="results", help="where to write; default: results")
    made.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    made.add_argument("--epochs", type=int, default=10)
    made.add_argument("--folds", type=int, default=5)
    made.add_argument("--batch-size", type=int, default=32)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--source", default="ultrasound", help="as of source_model")
    made.add_argument("--patients", choices=[EACH, UNKNOWN], help="where the table tells none")
    made.add_argument("--balance", action="store_true", help="weigh rare classes more")
    made.add_argument("--names", action="store_true", help="write file names and patients, too")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, 2 after an error that it has explained, 130 after Ctrl-C."""
    given = parser().parse_args(arguments)
    try:
        out = run(given)
    except (DataError, ValueError, OSError, FloatingPointError) as error:
        print(f"Stopped: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from here.", file=sys.stderr)
        return 130
    if is_first():
        print(f"Done. Open {out} in a browser. Not for diagnosis.")
    disconnect()
    return 0


def run(given: argparse.Namespace) -> Path:
    """All steps; returns the report's path."""
    folder, out = Path(given.folder).expanduser(), Path(given.out).expanduser()
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"--out {out} lies in the folder of images. Name a folder outside it.")
    content = read_folder(folder, given.size, given.patients)
    loaded = load_task(
        f"{PREFIX}{folder.resolve()}", given.size, seed=given.seed, patients=given.patients
    )
    task = replace(loaded, name="your folder")
    folds = _folds(task, given)
    if is_first():
        (out / "cells").mkdir(parents=True, exist_ok=True)
        found = before_training(task, names=given.names, seed=given.seed)
        print(found, flush=True)
    chosen, table = _cross_validated(folds, given, out)
    model = _network(task, chosen, given)
    _trained(model, task, given, out / "cells" / "last.safetensors")
    if not is_first():
        return out / "report.html"
    test, scores = _tested(model, task, chosen, given, out)
    unit_scores, units = scores, test
    if test.patients is not None:
        unit_scores, units = aggregate(scores, test)
    result = evaluate(unit_scores, units, train=task.train)
    save_model(model, out / "model.safetensors", half=True, note="Not for diagnosis.")
    _write_scores(out / "scores.csv", unit_scores, units, given.names)
    cases = unit_scores, units
    html = page(task, content, found, (chosen, table), (scores, test), cases, result, given)
    with whole_file(out / "report.html") as part:
        part.write_text(html, encoding="utf-8")
    return out / "report.html"


def _network(task: Task, recipe: str, given: argparse.Namespace) -> nn.Module:
    torch.manual_seed(given.seed)
    model = replace_head(source_model(given.source), len(task.classes))
    if "through" in RECIPES[recipe]:
        freeze(model, through=RECIPES[recipe]["through"])
    return model


def _folds(task: Task, given: argparse.Namespace) -> list[Task]:
    try:
        return task.folds(given.folds, given.seed)
    except ValueError as error:
        raise ValueError(f"{error} The option is --folds; it was {given.folds}.") from error


def _trained(model: nn.Module, task: Task, given: argparse.Namespace, checkpoint: Path) -> dict:
    counts = torch.bincount(task.train.labels, minlength=len(task.classes)).float()
    weights = counts.sum() / (len(counts) * counts) if given.balance else None
    return fine_tune(
        model,
        task,
        epochs=given.epochs,
        lr=1e-3,
        batch_size=min(given.batch_size, len(task.train)),  # a small folder is one batch
        seed=given.seed,
        checkpoint=checkpoint,
        progress=False,
        class_weights=weights,
    )


# ---- cells: what is done is not done again -------------------------------------------------------


def _kept(file: Path, key: str) -> np.ndarray | None:
    try:
        with np.load(file, allow_pickle=False) as kept:
            return kept["scores"] if str(kept["key"]) == key else None
    except Exception:  # a file that is missing or damaged is made again
        return None


def _cell(file: Path, key: str, make: Callable[[], np.ndarray], together: bool) -> np.ndarray:
    """What `make` gives, kept in `file`; made again where the key is another.

    `together`: all processes are here; they do what the first one finds to be missing.
    """
    kept = _kept(file, key) if is_first() else None
    scores = from_first(kept) if together else kept
    if scores is None:
        scores = make()
        if is_first():
            with whole_file(file) as part, open(part, "wb") as stream:
                np.savez(stream, key=np.asarray(key), scores=scores)
    return scores


def _key(task: Task, recipe: str, given: argparse.Namespace) -> str:
    """SHA-256 of the images, labels and arguments that fix a training."""
    parts = [content_key(None, p.labels.numpy(), p.images.numpy()) for p in (task.train, task.val)]
    names = ("size", "epochs", "batch_size", "seed", "source", "balance")
    fixed = [recipe, RECIPES[recipe], *(getattr(given, name) for name in names), *parts]
    return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()


def _cross_validated(
    folds: list[Task], given: argparse.Namespace, out: Path
) -> tuple[str, dict[str, list[float]]]:
    """(the recipe of the highest mean AUC, recipe -> AUC of each fold)."""
    table: dict[str, list[float]] = {name: [] for name in RECIPES}
    quiet = not (is_first() and sys.stderr.isatty())
    steps = [(name, number) for name in RECIPES for number in range(len(folds))]
    for name, number in tqdm(steps, "cross-validation", disable=quiet):
        fold, where = folds[number], out / "cells"
        place = f"{list(RECIPES).index(name)}_{number}"

        def make(fold=fold, name=name, place=place, where=where) -> np.ndarray:
            model, checkpoint = _network(fold, name, given), where / f"{place}.safetensors"
            _trained(model, fold, given, checkpoint)
            scores = predict(model, fold.val).numpy()
            if is_first():
                checkpoint.unlink()  # its scores are kept, and it is large
            return scores

        scores = _cell(where / f"{place}.npz", _key(fold, name, given), make, True)
        auc = evaluate(torch.from_numpy(scores), fold.val, n_boot=50)["auc"][0]
        table[name].append(auc)
        if is_first():
            print(f"{name}, fold {number + 1} of {len(folds)}: AUC {auc:.3f}", flush=True)
    return max(table, key=lambda name: np.mean(table[name])), table


def _tested(
    model: nn.Module, task: Task, recipe: str, given: argparse.Namespace, out: Path
) -> tuple[Split, torch.Tensor]:
    """The test set and its scores; opened once, also by a run that was resumed later."""
    test = task.open_test("python -m medtl_utils.run: the final result")
    key = f"{_key(task, recipe, given)} test"
    scores = _cell(out / "cells" / "test.npz", key, lambda: predict(model, test).numpy(), False)
    return test, torch.from_numpy(scores)


def _write_scores(path: Path, scores: torch.Tensor, split: Split, names: bool) -> None:
    with whole_file(path) as part, open(part, "w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        extra = ["patient" if split.patients is not None else "image"] if names else []
        writer.writerow(["row", "label", *map(safe_cell, split.classes), *extra])
        who = split.ids if split.patients is None else split.patients
        for row, values in enumerate(scores.tolist()):
            cells = [row, safe_cell(split.classes[split.labels[row]])]
            cells += [f"{value:.4f}" for value in values] + [safe_cell(who[row])] * names
            writer.writerow(cells)


if __name__ == "__main__":
    sys.exit(main())
