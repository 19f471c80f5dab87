"""How easily does a classifier tell real from simulated images? A two-sample test.

    python -m studies.real_or_simulated

After Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", ICLR 2017. Real images that did
not help to make the simulator (busi's folds 2 to 4, as BreastMNIST's file has them, 28 pixels; no
label is read) against as many simulated ones at the same 28 pixels, mean and SD of every image set
alike or not, halved at random with near-copies on one side: a logistic regression on the pixels'
power spectrum and grey levels (what is unlike on the whole) and a ResNet-18 trained from scratch
(whatever it finds). AUC .5: cannot be told apart; 1: at once. Simulated: the target task's
patients, the source as narrow as the target, and the source as it is. Mean over 5 seeds with a t
interval over seeds.
"""

import functools
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medtl_utils import fine_tune, phantom, predict, replace_head, source_model
from medtl_utils.data import Split, Task
from studies import real_images
from studies.cache import HELPER
from studies.runner import Study, main
from studies.tables import auc, over_seeds

SEEDS = range(5)
POOLS = ("target task", "source, as narrow as the target", "source")
GREYS = ("as it is", "mean and SD alike")


def coarse(images: torch.Tensor) -> torch.Tensor:
    """To 28 pixels and back to 64, as the real ones came."""
    small = F.interpolate(images.float(), size=(28, 28), mode="bilinear", antialias=True)
    return real_images.enlarged(small)


def narrow_source(count: int) -> torch.Tensor:
    """The source's machines, tissue and lesions; WIDER and EXTRAS as in the target.

    Those are drawn by a random stream of their own: all else is as in the source.
    """
    draws = []
    for number in range(count):
        rng = phantom.random_stream("source", 1, number)
        patient = phantom.draw_patient(rng, "source", lesion=bool(rng.random() > 0.15))
        own = phantom.random_stream("source", 1, number, 1)
        for name, (_, inside) in phantom.WIDER.items():
            patient[name] = own.uniform(*inside)
        for name, ((_, chance), strength) in phantom.EXTRAS.items():
            patient[name] = own.uniform(*strength) * (own.random() < chance)
        draws.append((rng, patient))
    return phantom.simulate(draws, 64)[0]


def same_grey(images: torch.Tensor) -> torch.Tensor:
    x = images.float()
    x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True).clamp_min(1)
    return (84 + 47 * x).clamp(0, 255).to(torch.uint8)


def spectrum(images: torch.Tensor) -> np.ndarray:
    """Log power of the low frequencies, ten quantiles of grey, and grey by depth: (N, features)."""
    small = F.interpolate(images.float(), size=(28, 28), mode="bilinear", antialias=True)[:, 0]
    power = torch.fft.rfft2(small - small.mean((1, 2), keepdim=True)).abs().square()
    levels = torch.quantile(small.flatten(1), torch.linspace(0.05, 0.95, 10), dim=1).T
    depth = small.mean(2)
    return torch.cat([torch.log10(power[:, :14, :14].flatten(1) + 1), levels, depth], 1).numpy()


@functools.cache
def simulated_images(name: str) -> torch.Tensor:
    """As many simulated images as there are real ones, at 28 pixels."""
    count = len(real_images.pool())
    if name == "source":
        return coarse(phantom.simulate_source(20_000_000, count)[0])
    if name == "source, as narrow as the target":
        return coarse(narrow_source(count))
    target = phantom.simulate_target("train", 400, 64, seed=1700)["images"]
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
    return coarse(target[order[:count]])


def two_samples(
    real: torch.Tensor, groups: np.ndarray, simulated: torch.Tensor, seed: int
) -> dict[str, float]:
    """AUC of both readers on the half that they did not learn from."""
    rng = np.random.default_rng(seed)
    first = rng.random(groups.max() + 1)[groups] < 0.5
    half = rng.random(len(simulated)) < 0.5
    images = torch.cat([real, simulated])
    labels = torch.cat([torch.ones(len(real)), torch.zeros(len(simulated))]).long()
    train = torch.tensor(np.concatenate([first, half]))
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=5000))
    x = spectrum(images)
    linear.fit(x[train], labels[train])
    learnt, held = (
        Split(n, images[m], labels[m], ("simulated", "real"), 1)
        for n, m in (("train", train), ("test", ~train))
    )
    torch.manual_seed(seed)
    model = replace_head(source_model("random"), 2)
    task = Task("real or simulated", learnt, held)
    fine_tune(model, task, epochs=6, seed=seed, progress=False)
    by_spectrum = roc_auc_score(labels[~train], linear.decision_function(x[~train]))
    return {"spectrum": by_spectrum, "network": auc(predict(model, held), held)}


def run(simulated: str, grey: str, seed: int) -> dict:
    change = same_grey if grey == "mean and SD alike" else lambda images: images
    real = change(real_images.enlarged(real_images.coarse_pool()))
    groups = np.unique(real_images.pool().groups, return_inverse=True)[1]
    return two_samples(real, groups, change(simulated_images(simulated)), seed)


def table(results: list[tuple[dict, dict]]) -> dict:
    rows = []
    for name, grey, reader in itertools.product(POOLS, GREYS, ("spectrum", "network")):
        here = {"simulated": name, "grey": grey}
        values = [float(found[reader]) for cell, found in results if here.items() <= cell.items()]
        row = over_seeds(values, bounds=(0, 1))
        rows.append(here | {"reader": reader, "auc": row.pop("value"), **row})
    return {"rows": rows}


STUDY = Study(
    name="real_or_simulated",
    cells=[
        {"simulated": name, "grey": grey, "seed": seed}
        for name, grey, seed in itertools.product(POOLS, GREYS, SEEDS)
    ],
    run=run,
    table=table,
    recipe="logistic regression on the spectrum; ResNet-18 from scratch, 6 epochs, 64 px from 28",
    seeds=SEEDS,
    about={"real": "busi, folds 2 to 4: 468 images, none of which helped to make the simulator"},
    code=(*HELPER, "medtl_utils.datasets.busi", "studies.real_images"),
    weights=None,
)

if __name__ == "__main__":
    main(STUDY)
