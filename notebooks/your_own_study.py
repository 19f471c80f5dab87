"""A study of your own images: `python your_own_study.py FOLDER`. Change what you like.

FOLDER has a folder a class, or a table index.csv with the columns path,label,patient. It writes
report.txt, scores.csv and model.safetensors to ./study. It needs medtl_utils. Not for diagnosis.
"""

import csv
import sys
from pathlib import Path

import torch

import medtl_utils as mt
from medtl_utils.spreadsheet import safe_cell

SIZE, EPOCHS, FOLDS, BATCH, SEED = 64, 10, 5, 32, 0
RATES = (1e-3, 1e-4)  # the one choice that is made here, by cross-validation
PATIENTS = None  # where index.csv does not tell: "one image each", "unknown", or a rule


def trained(task, rate):
    """A network from the ultrasound source, all layers learning."""
    torch.manual_seed(SEED)
    model = mt.replace_head(mt.source_model("ultrasound"), len(task.classes))
    mt.fine_tune(model, task, EPOCHS, rate, min(BATCH, len(task.train)), seed=SEED, progress=False)
    return model


def mean_auc(folds, rate):
    """The mean over folds of the AUC on images of other patients."""
    aucs = [mt.evaluate(mt.predict(trained(f, rate), f.val), f.val)["auc"][0] for f in folds]
    print(f"rate {rate:g}: AUC " + ", ".join(f"{auc:.2f}" for auc in aucs), flush=True)
    return sum(aucs) / len(aucs)


def main(folder, out="study"):
    """Look, choose, train, test once, write."""
    task = mt.load_task(f"folder:{Path(folder).resolve()}", SIZE, seed=SEED, patients=PATIENTS)
    task.name = "my folder"  # the path is nobody's business
    print(looked := str(mt.before_training(task, names=False, seed=SEED)))
    folds = task.folds(FOLDS, SEED)
    rate = max(RATES, key=lambda rate: mean_auc(folds, rate))
    model, test = trained(task, rate), task.open_test("your_own_study.py: the final result")
    cases = mt.predict(model, test), test
    scores, split = mt.aggregate(*cases) if test.patients is not None else cases
    text = mt.report(mt.evaluate(scores, split, train=task.train), split, task)
    Path(out).mkdir(parents=True, exist_ok=True)
    mt.save_model(model, Path(out, "model.safetensors"), half=True, note="Not for diagnosis.")
    words = f"Not for diagnosis.\n\n{looked}\n\nLearning rate: {rate:g}.\n\n{text}\n"
    Path(out, "report.txt").write_text(words, encoding="utf-8")
    with open(Path(out, "scores.csv"), "w", encoding="utf-8-sig", newline="") as file:
        rows = zip(split.labels.tolist(), scores.tolist())
        head = ["row", "label", *split.classes]
        table = [[k, split.classes[c], *p] for k, (c, p) in enumerate(rows)]
        csv.writer(file).writerows([safe_cell(x) for x in row] for row in [head, *table])
    print(text)


if __name__ == "__main__":
    main(*sys.argv[1:3]) if len(sys.argv) > 1 else sys.exit(__doc__)
