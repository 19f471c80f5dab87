"""The report of `medtl_utils.run` as one HTML file: no script, no network, nothing to load."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch

from . import plots
from .data import Split, Task
from .plots import plain
from .reports import tripod_report
from .run_html import escape, paragraph, picture, table
from .run_sections import calibration_part, subgroups_part

WORST = 6  # errors in the picture
STYLE = """
body { font-family: sans-serif; max-width: 60em; margin: 0 auto; padding: 1em; color: #222; }
p.warning { max-width: none; background: #222; color: #fff; padding: 0.8em; font-size: 1.2em; }
p.warning { font-weight: bold; }
h2 { border-top: 2px solid #222; padding-top: 0.6em; margin-top: 1.6em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1em 0; }
caption { text-align: left; padding-bottom: 0.4em; color: #444; }
th, td { border-bottom: 1px solid #888; padding: 0.3em 1em 0.3em 0; text-align: left; }
tbody th { font-weight: normal; }
td { font-variant-numeric: tabular-nums; }
p, figcaption { max-width: 46em; line-height: 1.4; }
figcaption { color: #444; font-size: 0.9em; }
pre { white-space: pre-wrap; background: #f4f4f4; padding: 0.8em; }
"""
NAMES = {"auc": "AUC", "brier": "Brier score"}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
WARNING = "Not for diagnosis. This report is for research and teaching."


def page(task: Task, content, found, choice, scored, cases, result, given) -> str:
    """The whole page as text.

    content: of `read_folder`. found: of `before_training`. choice: (recipe, recipe -> AUC of each
    fold). scored: (scores of the test images, test Split). cases: the same, one row a patient, or
    an image where patients are unknown. result: of `evaluate`. given: the command's arguments.
    """
    scores, test = scored
    calibrated = calibration_part(*cases, result)
    subgroups = subgroups_part(*cases, task)
    wrong = int((scores.argmax(1) != test.labels).sum())
    words = {"calibration": calibrated[1], "subgroups": subgroups[1]}
    words["errors"] = f"{wrong} of {len(test)} test images were given to a wrong class; see above."
    parts = [
        f"<h1>Report on a folder of images</h1>{paragraph(_first(task, test, given))}",
        "<h2>Result on the test set</h2>" + _metrics(result, test),
        "<h3>Calibration: are the probabilities right?</h3>" + calibrated[0],
        "<h3>Subgroups: does it hold for all?</h3>" + subgroups[0],
        "<h2>What was taken</h2>" + _flow(task, content, test),
        "<h2>Before the training</h2>" + found._repr_html_(),
        "<h2>Choice of the recipe</h2>" + _choice(*choice, given),
        "<h2>Worst errors</h2>" + _errors(scores, test, given.names),
        "<h2>Card and checklist</h2>" + _card(task, test, result, choice[0], words, given),
    ]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>Not for diagnosis: report on a folder of images</title><style>{STYLE}</style>"
        f'</head><body><main><p class="warning" role="alert">{WARNING}</p>{"".join(parts)}'
        "</main></body></html>"
    )


def _first(task: Task, test: Split, given) -> str:
    unit = "patient" if test.patients is not None else "image"
    return (
        f"A ResNet-18 from the source {given.source!r} was fine-tuned for {given.epochs} epochs on "
        f"{len(task.train)} images of {len(task.classes)} classes ({', '.join(task.classes)}) and "
        f"tested once on {len(test)} images that it had never seen, one score per {unit}."
    )


def _metrics(result: dict, test: Split) -> str:
    rows = [
        [NAMES.get(name, name.replace("_", " ")), f"{value:.3f}", f"{low:.3f} to {high:.3f}"]
        for name, (value, low, high) in result.items()
    ]
    unit = "patients" if test.patients is not None else "images (patients unknown)"
    called = "threshold 0.5" if len(test.classes) == 2 else "called is the likeliest class"
    caption = f"95 % intervals over {unit}; {called}; training seeds are not in them"
    return table(["measure", "value", "95 % interval"], rows, caption)


def _flow(task: Task, content, test: Split) -> str:
    parts = {"to train": len(task.train), "to validate": len(task.val), "to test": len(test)}
    return picture(plots.plot_flow, content.flow, parts=parts)


def _choice(chosen: str, aucs: dict[str, list[float]], given) -> str:
    rows = [
        [name + (" (chosen)" if name == chosen else ""), f"{np.mean(values):.3f}"]
        + [f"{min(values):.3f} to {max(values):.3f}"]
        for name, values in aucs.items()
    ]
    caption = f"AUC in {given.folds} folds of training and validation images; groups kept together"
    return table(["layers that learn", "mean AUC", "lowest to highest fold"], rows, caption)


def _errors(scores: torch.Tensor, test: Split, names: bool) -> str:
    right = scores[torch.arange(len(test)), test.labels]
    called = scores.argmax(1)
    wrong = [int(r) for r in right.argsort() if called[r] != test.labels[r]][:WORST]
    if not wrong:
        return "<p>No test image was given to a wrong class.</p>"
    fig, axes = plt.subplots(1, len(wrong), figsize=(max(4.0, 2 * len(wrong)), 3.2), squeeze=False)
    words = []
    for row, axis in zip(wrong, axes[0]):
        truth, name = (test.classes[k] for k in (test.labels[row], called[row]))
        plots.draw_image(axis, test.images[row])
        lines = [f"test image {row}", plain(truth), f"called {plain(name)}"]
        lines.append(f"({scores[row].max():.2f})")
        axis.set_title("\n".join(lines), fontsize=9, fontweight="normal")
        file = f" ({test.ids[row]})" if names else ""
        words.append(f"test image {row}{file}, {truth}, called {name} with {scores[row].max():.2f}")
    fig.suptitle("The most confident errors", fontweight="bold")
    return plots.figure_html(fig, f"Test images: {'; '.join(words)}.")


def _card(task: Task, test: Split, result: dict, recipe: str, words: dict, given) -> str:
    """The card and TRIPOD+AI report; lines that name files only where names are asked for.

    words: heading -> text of what the page shows above.
    """
    told = [x for x in task.card.splitlines() if given.names or not x.startswith("Files:")]
    task = Task(task.name, task.train, task.val, "\n".join(told), task._test, task.openings)
    batch = min(given.batch_size, len(task.train))
    notes = {
        "intended use": "Research and teaching. Not for diagnosis.",
        "model": f"ResNet-18 from the source {given.source!r}; learning: {recipe}.",
        "training": f"{given.epochs} epochs, batches of {batch}, seed {given.seed}.",
        "operating point": "0.5, not chosen on data." if len(test.classes) == 2 else "none.",
        "code and data": "medtl_utils.run; the data are the reader's own.",
        **words,
    }
    return f"<pre>{escape(tripod_report(task, test, result, notes))}</pre>"
