"""The last stage of the evidence on real images: one look at the test images, table and figure."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import torch

from medtl_utils import compare, evaluate, mean_over_seeds
from medtl_utils.data import Split
from medtl_utils.paths import data_folder
from studies.evidence_arms import ARMS, AVERAGED, BASES, NUMBERS, SEEDS
from studies.tables import versions, write_table


def draw(rows: list[dict], headline: str) -> None:
    """AUC against the number of labelled images, one line a source, for both test sets."""
    plt.rcParams.update({"svg.hashsalt": "evidence", "font.size": 11})
    lines = {  # arm -> label, colour, style
        "scratch": ("from scratch", "#5f6a72", "--"),
        "shapes, averaged": ("shapes (control), averaged", "#b35900", ":"),
        headline: (headline, "#0072b2", "-"),
        "ImageNet 224, averaged": ("ImageNet at 224 pixels, averaged", "#222222", "-."),
    }
    fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    for axis, part in zip(axes, ("official", "twin-free")):
        for k, (arm, (label, color, style)) in enumerate(lines.items()):
            here = {"arm": arm, "test": part, "metric": "auc"}
            own = {r["n_train"]: r for r in rows if here.items() <= r.items()}
            ends = [[own[n][key] for key in ("value", "low", "high")] for n in NUMBERS]
            value, low, high = np.array(ends).T
            x, bars = np.array(NUMBERS) * 1.03 ** (k - 1.5), [value - low, high - value]
            look = {"marker": "o", "capsize": 3, "color": color, "linestyle": style}
            axis.errorbar(x, value, bars, label=label, **look)
        axis.set(xscale="log", xlabel="labelled images", title=f"{part} test set")
        axis.set_xticks(NUMBERS, [str(n) for n in NUMBERS])
        axis.minorticks_off()
    axes[0].set_ylabel("AUC, 95 % interval over seeds and images")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": 4, "frameon": False}
    fig.legend(*axes[0].get_legend_handles_labels(), **below)
    file = data_folder() / "results" / "breastmnist_evidence.svg"
    fig.savefig(file, bbox_inches="tight", metadata={"Date": None})


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def gains_in_markdown(table: dict) -> list[str]:
    """The headline's arm against scratch, one line a number of labelled images."""
    heads = ["labelled images", "scratch, AUC", "transfer, AUC", "gain, official test set"]
    lines = [line([*heads, "gain, twin-free"]), "|---" * 5 + "|"]
    own = {"source": "simulated ultrasound", "metric": "auc"}
    for n in NUMBERS:
        rows = [r for r in table["summary"] if (own | {"n_train": n}).items() <= r.items()]
        both = {r["test"]: r for r in rows}
        gains = [
            "{difference:+.3f} ({low:+.3f} to {high:+.3f})".format_map(both[t]).replace("-", "−")
            for t in ("official", "twin-free")
        ]
        levels = [f"{both['official'][side]:.3f}" for side in ("b", "a")]
        lines.append(line([str(n), *levels, *gains]))
    return lines


def levels_in_markdown(table: dict, part: str) -> list[str]:
    """The AUC of every arm on one part of the test images."""
    heads = [f"AUC, {part} test set", *(f"{n} images" for n in NUMBERS)]
    lines = ["", line(heads), "|---" * len(heads) + "|"]
    for arm in [*ARMS, *AVERAGED]:
        here = {"arm": arm, "test": part, "metric": "auc"}
        row = {r["n_train"]: r for r in table["levels"] if here.items() <= r.items()}
        ends = ["{value:.3f} ({low:.3f} to {high:.3f})".format_map(row[n]) for n in NUMBERS]
        lines.append(line([arm, *ends]))
    return lines


def markdown(table: dict) -> str:
    """The tables of README and model card."""
    parts = [levels_in_markdown(table, part) for part in ("official", "twin-free")]
    return "\n".join(itertools.chain(gains_in_markdown(table), *parts))


def with_averages(scores: dict) -> dict:
    """`scores`, (arm, n) -> one tensor a seed, with the arms that average others' probabilities."""
    for arm, members in AVERAGED.items():
        scores = scores | {
            (arm, n): [torch.stack(each).mean(0) for each in zip(*(scores[a, n] for a in members))]
            for n in NUMBERS
        }
    return scores


def rows_of(scores: dict, arm: str, n: int, part: str, rows: np.ndarray, test: Split) -> tuple:
    """Runs, levels and differences of one arm on one part of the test images."""
    runs, levels, differences = [], [], []
    of = lambda key: [s[rows] for s in scores[key]]
    for metric in ("auc", "accuracy"):
        here = {"arm": arm, "n_train": n, "test": part, "metric": metric}
        for seed, own in zip(SEEDS, of((arm, n))):
            value = evaluate(own, test[rows], n_boot=100)[metric][0]
            runs.append({**here, "seed": seed, "value": value})
        level = mean_over_seeds(of((arm, n)), test[rows], metric)
        levels.append({**here, **{k: level[k] for k in ("value", "low", "high")}})
        for base in BASES:
            if arm != base:
                pair = compare(of((arm, n)), of((base, n)), test[rows], metric)
                differences.append({**here, "against": base, **pair})
    return runs, levels, differences


def report(config: dict, commit: str, scores: dict, test: Split) -> dict:
    """The table of all arms, written; `scores`: (arm, n) -> one tensor (N, 2) a seed."""
    parts = {"official": np.ones(len(test), bool), "twin-free": ~np.asarray(test.twins)}
    scores, found = with_averages(scores), ([], [], [])
    for (arm, n), (part, rows) in itertools.product(scores, parts.items()):
        for whole, more in zip(found, rows_of(scores, arm, n, part, rows, test)):
            whole += more
    runs, levels, differences = found
    # what the notebooks plot, against scratch
    shown = {"simulated ultrasound": config["headline"], "shapes (control)": "shapes, averaged"}
    summary = [
        {"source": source, **row}
        for source, arm in shown.items()
        for row in differences
        if (row["arm"], row["against"]) == (arm, "scratch")
    ]
    table = {
        "command": "python -m studies.breastmnist_evidence choose | train | report",
        "config_commit": commit,
        **{key: config[key] for key in ("headline", "recipes", "weights_sha256")},
        "seeds": SEEDS,
        "versions": versions(),
        **{"summary": summary, "levels": levels, "differences": differences, "runs": runs},
    }
    write_table("breastmnist_evidence", table)
    draw(levels, config["headline"])
    print(markdown(table))
    return table
