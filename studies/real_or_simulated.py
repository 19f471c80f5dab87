"""How easily does a classifier tell real from simulated images? A two-sample test (Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", ICLR 2017).

    python data/results/make_real_or_simulated.py

BreastMNIST's official training and validation images against as many simulated ones at the same 28 pixels, mean and SD of every image set alike or not,
halved at random with near-copies on one side: a logistic regression on the pixels' power spectrum and grey levels (what is unlike on the whole) and a ResNet-18 trained from scratch (whatever it
finds). AUC .5: cannot be told apart; 1: at once. Simulated: the target task's patients, the source as wide as the target, and the source as it is. Mean over 5 seeds with a
t interval over seeds. Writes real_or_simulated.json beside this file.
"""

import json
import platform
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medtl_utils import fine_tune, load_task, phantom, predict, replace_head, source_model
from medtl_utils.data import TWIN_CORRELATION, Split, Task

HERE, SEEDS = Path(__file__).resolve().parent, range(5)


def coarse(images: torch.Tensor) -> torch.Tensor:
    """To 28 pixels and back to 64, as the real ones came."""
    small = F.interpolate(images.float(), size=(28, 28), mode="bilinear", antialias=True)
    return F.interpolate(small, size=(64, 64), mode="bilinear").round().to(torch.uint8)


def narrow_source(count: int) -> torch.Tensor:
    draws = []
    for number in range(count):
        rng = phantom.random_stream("source", 1, number)
        patient = phantom.draw_patient(rng, "source", lesion=bool(rng.random() > 0.15))
        patient |= {name: fixed for name, (_, fixed) in phantom.WIDER.items()} | dict.fromkeys(
            phantom.EXTRAS, 0.0
        )
        draws.append((rng, patient))
    return phantom.simulate(draws, 64)[0]


def same_grey(images: torch.Tensor) -> torch.Tensor:
    x = images.float()
    x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True).clamp_min(1)
    return (84 + 47 * x).clamp(0, 255).to(torch.uint8)


def spectrum(images: torch.Tensor) -> np.ndarray:
    small = F.interpolate(images.float(), size=(28, 28), mode="bilinear", antialias=True)[:, 0]
    power = torch.fft.rfft2(small - small.mean((1, 2), keepdim=True)).abs().square()
    levels = torch.quantile(small.flatten(1), torch.linspace(0.05, 0.95, 10), dim=1).T
    depth = small.mean(2)
    return torch.cat([torch.log10(power[:, :14, :14].flatten(1) + 1), levels, depth], 1).numpy()


def two_samples(
    real: torch.Tensor, groups: np.ndarray, simulated: torch.Tensor, seed: int
) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    first = rng.random(groups.max() + 1)[groups] < 0.5
    half = rng.random(len(simulated)) < 0.5
    images, labels = (
        torch.cat([real, simulated]),
        torch.cat([torch.ones(len(real)), torch.zeros(len(simulated))]).long(),
    )
    train = torch.tensor(np.concatenate([first, half]))
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=5000))
    x = spectrum(images)
    linear.fit(x[train], labels[train])
    sides = [
        Split(n, images[m], labels[m], ("simulated", "real"), 1)
        for n, m in (("train", train), ("test", ~train))
    ]
    task = Task("real or simulated", *sides, card="two-sample test", _test=sides[1])
    torch.manual_seed(seed)
    model = replace_head(source_model("random"), 2)
    fine_tune(model, task, epochs=6, seed=seed, progress=False)
    truth = labels[~train]
    return {
        "spectrum": float(roc_auc_score(truth, linear.decision_function(x[~train]))),
        "network": float(roc_auc_score(truth, predict(model, sides[1])[:, 1])),
    }


def main() -> None:
    task = load_task("breastmnist")
    real = torch.cat([task.train.images, task.val.images])
    groups = connected_components(np.corrcoef(real.flatten(1).numpy()) > TWIN_CORRELATION)[1]
    target = phantom.simulate_target("train", 400, 64, seed=1700)["images"]
    pools = {
        "target task": coarse(
            target[torch.randperm(len(target), generator=torch.Generator().manual_seed(0))][
                : len(real)
            ]
        ),
        "source, as narrow as the target": coarse(narrow_source(len(real))),
        "source": coarse(phantom.simulate_source(20_000_000, len(real))[0]),
    }
    rows = []
    for name, pool in pools.items():
        for grey, change in (("as it is", lambda x: x), ("mean and SD alike", same_grey)):
            results = [two_samples(change(real), groups, change(pool), seed) for seed in SEEDS]
            for reader in ("spectrum", "network"):
                values = np.array([r[reader] for r in results])
                half = stats.t.ppf(0.975, len(SEEDS) - 1) * values.std(ddof=1) / len(SEEDS) ** 0.5
                rows.append({"simulated": name, "grey": grey, "reader": reader, "auc": round(float(values.mean()), 4),
                             "low": round(float(values.mean() - half), 4), "high": round(float(min(values.mean() + half, 1)), 4)})  # fmt: skip
                print(rows[-1], flush=True)
    versions = {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]}
    table = {
        "command": "python data/results/make_real_or_simulated.py",
        "seeds": list(SEEDS),
        "versions": versions,
        "rows": rows,
    }
    (HERE / "real_or_simulated.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
