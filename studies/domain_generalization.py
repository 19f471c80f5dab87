"""An unseen scanner, and an unseen world: which method helps a network that has never been there?

    python -m studies.domain_generalization

"scanner": simulated patients, three scanners. One is left out, or none. 120 patients learn, 40
others (same scanners) choose, 100 others test; all test patients are drawn with each scanner, the
same lesion and noise, so that scanners are compared on the same images. Five seeds: other patients
and another training each. The network without a scanner left out is also tested on a fourth, old
scanner D, from which nobody learns, and on busi, folds 1 to 4 (fold 0 stays closed). "real": 240
images of three folds of busi learn, 80 others choose; tested on the fourth fold and on 100
simulated patients, all scanners.

Every training: 100 updates of 24 images, as many of each scanner. Each arm has two settings; ERM's
rate is chosen first and the other arms keep it. "chosen" is the setting with the best AUC on the
patients that choose; "best on test" is what a choice on the test images would have taken. AdaBN
takes ERM's chosen network and unlabelled images of the target, never of test patients: the training
patients drawn with the scanner left out, or with D; other simulated patients after busi; on busi
other folds. Intervals: t over five seeds, or over four folds; on busi over seeds and groups of
images.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from medtl_utils import phantom
from medtl_utils.phantom_render import TEXTURES, render
from medtl_utils.phantom_tables import TARGET_SCANNERS, Scanner
from studies import small_data
from studies.domain_methods import BATCH, UPDATES, Net, adapted, features, log_odds, trained
from studies.domain_rows import table
from studies.runner import Study, main

SIZE, VIEWS = 48, 2
PEOPLE = {"train": 120, "val": 40, "test": 100}
SEEDS, FOLDS = range(5), (1, 2, 3, 4)
LEFT_OUT = (*TARGET_SCANNERS, "none")
RATES = {"ultrasound": (3e-4, 1e-3), "random": (1e-3, 3e-3)}
STRENGTHS = {"CORAL": (30.0, 300.0), "DANN": (0.1, 1.0), "style": (1, 2), "physics": (0.5, 1.0)}
ONE_DOMAIN = ("style", "physics")  # busi has no scanners to align
# A fourth machine, far from the three, on which nobody learns: old, coarse, without compounding.
FAR = Scanner(0.50, 0.28, 1, 62.0, 0.9, 40.0, 0.1)
SCANNERS = TARGET_SCANNERS | {"D": FAR}
MOST = "C"  # the scanner with most looks: views are drawn with it, and shown with any


# ---- simulated patients, each with every scanner -------------------------------------------------


def seen_by(view: dict, scanner: str) -> dict:
    """A view that was drawn with scanner MOST, as another scanner shows it: all else the same."""
    old, new = SCANNERS[MOST], SCANNERS[scanner]
    numbers, at = view["numbers"].copy(), view["names"].index
    for name in ("lateral_mm", "axial_mm", "looks", "smoothing"):
        numbers[at(name)] = getattr(new, name)
    numbers[at("range_db")] *= new.range_db / old.range_db
    numbers[at("gamma")] *= new.gamma / old.gamma
    numbers[at("loss_db")] += new.depth_loss_db - old.depth_loss_db
    return view | {"numbers": numbers, "noise": view["noise"][: TEXTURES + 2 * new.looks]}


@functools.lru_cache(maxsize=2)
def patients(seed: int) -> dict:
    """Per part: labels (n,), the patient's number (n,), and the images of each scanner."""
    found = {}
    for stream, (part, n) in enumerate(PEOPLE.items()):
        views, labels, who = [], [], []
        for number in range(n):
            rng = phantom.random_stream("target", 1400 + seed, stream, number)
            ill = bool(rng.random() < phantom.PREVALENCE)
            person = phantom.draw_patient(rng, "target", malignant=ill)
            person["scanner"] = SCANNERS[MOST]
            for view in range(VIEWS):
                own = phantom.random_stream("target", 1400 + seed, stream, number, view)
                views.append(phantom.draw_view(own, person, SIZE * 5 // 4))
                labels.append(int(ill))
                who.append(number)
        found[part] = {"labels": torch.tensor(labels), "who": np.array(who)}
        for scanner in SCANNERS:
            shown = [seen_by(view, scanner) for view in views]
            images = [render(shown[k : k + 24], SIZE)[0] for k in range(0, len(shown), 24)]
            found[part][scanner] = torch.cat(images)
    return found


def shared_out(part: dict, scanners: tuple[str, ...]) -> dict:
    """Each patient at one of the scanners, in turn: images, labels, domains."""
    at = part["who"] % len(scanners)
    images = torch.stack([part[scanners[k]][row] for row, k in enumerate(at)])
    more = {"who": part["who"], "domains": torch.from_numpy(at)}
    return {"images": images, "labels": part["labels"]} | more


# ---- one cell ------------------------------------------------------------------------------------


def auc(labels, scores) -> float:
    return float(roc_auc_score(labels, scores))


def greys(images: torch.Tensor) -> np.ndarray:
    """The trivial baseline sees two numbers: mean and SD of all greys."""
    x = images.float()
    return torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1).numpy()


@torch.no_grad()
def frozen(images: torch.Tensor) -> np.ndarray:
    torch.manual_seed(0)
    net = Net("ultrasound").eval()
    return torch.cat([net.trunk(net.normalisation(x)) for x in images.split(80)]).numpy()


def line(of, C: float, train: dict, tests: dict) -> dict:
    """Log-odds of a logistic regression on what `of` sees, for each set of test images."""
    scaler = StandardScaler().fit(x := of(train["images"]))
    model = LogisticRegression(C=C, max_iter=5000).fit(scaler.transform(x), train["labels"])
    return {k: model.decision_function(scaler.transform(of(v))) for k, v in tests.items()}


def told(net: Net, images: list[torch.Tensor], who: np.ndarray) -> float:
    """How often a probe names the scanner from the features, on patients it has not seen.

    `images`: the same views (patients `who`) at each scanner. Chance is 1 / number of scanners.
    """
    if len(images) < 2:
        return 1.0
    where, who = np.repeat(np.arange(len(images)), len(who)), np.tile(who, len(images))
    model = LogisticRegression(C=0.01, max_iter=5000)
    x = StandardScaler().fit_transform(features(net, torch.cat(images)).numpy())
    guess = cross_val_predict(model, x, where, groups=who, cv=GroupKFold(5))
    return float((guess == where).mean())


def tried(train, val, tests, seen: tuple, arm: str, settings, seed: int, rate=None):
    """All settings of an arm: AUC where one may choose, log-odds of each test, the networks."""
    nets, found = [], {"val": [], "scanner told": []} | {name: [] for name in tests}
    for setting in settings:
        source = "random" if arm == "ERM from random" else "ultrasound"
        how = (arm, setting, rate) if rate else ("ERM", 0.0, setting)
        nets.append(trained(train, source, *how, seed))
        found["val"].append(auc(val["labels"], log_odds(nets[-1], val["images"])))
        found["scanner told"].append(told(nets[-1], *seen))
        for name, images in tests.items():
            found[name].append(log_odds(nets[-1], images).numpy())
    return {k: np.array(v) for k, v in found.items()}, nets


def all_arms(train: dict, val: dict, tests: dict, seen, arms, seed: int) -> tuple[dict, Net]:
    """Flat arrays "arm/test" (settings, images) and "arm/val" (settings,); ERM's chosen network.

    `seen`: images that no network learned from, at each scanner of the training, and the patients.
    """
    flat, data = {}, (train, val, tests, seen)
    for name, of, C in (("greys", greys, 1.0), ("probe", frozen, 0.01)):
        flat |= {f"{name}/{k}": v[None] for k, v in line(of, C, train, tests).items()}
    erm, nets = tried(*data, "ERM", RATES["ultrasound"], seed)
    best = int(erm["val"].argmax())
    each = {"ERM": erm}
    each["ERM from random"], _ = tried(*data, "ERM from random", RATES["random"], seed)
    for arm in arms:
        rate = RATES["ultrasound"][best]
        each[arm], _ = tried(*data, arm, STRENGTHS[arm], seed, rate)
    flat |= {f"{arm}/{k}": v for arm, found in each.items() for k, v in found.items()}
    return flat, nets[best]


def scanner_cell(left: str, seed: int) -> dict:
    people = patients(seed)
    scanners = tuple(s for s in TARGET_SCANNERS if s != left)
    train, val = (shared_out(people[k], scanners) for k in ("train", "val"))
    test = people["test"]
    tests = {left: test[left]} if left != "none" else {"D": test["D"], "busi": busi_images()}
    seen = [test[s] for s in scanners], test["who"]
    flat, net = all_arms(train, val, tests, seen, STRENGTHS, seed)
    for scanner in sorted(set(TARGET_SCANNERS) - set(tests)):  # the seen ones, for ERM alone
        flat[f"ERM, seen/{scanner}"] = log_odds(net, test[scanner]).numpy()[None]
    new = "D" if left == "none" else left
    other, sick = people["train"][new], people["train"]["labels"] == 1
    for name, few in (("all", other), ("benign", other[~sick]), ("malignant", other[sick])):
        flat[f"AdaBN, {name}/{new}"] = log_odds(adapted(net, few), test[new]).numpy()[None]
    if left == "none":
        flat["AdaBN, all/busi"] = adabn_across(net)[None]
    return flat | {"labels": test["labels"].numpy(), "who": test["who"]}


@functools.cache
def busi_images() -> torch.Tensor:
    small = torch.nn.functional.interpolate(
        small_data.real()[0].images.float(), (SIZE, SIZE), mode="bilinear", antialias=True
    )
    return small.round().clamp(0, 255).to(torch.uint8)


def adabn_across(net: Net) -> np.ndarray:
    """busi: the statistics of folds 1 and 2 serve folds 3 and 4, and the other way round."""
    images, early = busi_images(), torch.from_numpy(small_data.real()[1] <= 2)
    scores = torch.zeros(len(images))
    for here in (early, ~early):
        scores[here] = log_odds(adapted(net, images[~here]), images[here])
    return scores.numpy()


def real_cell(fold: int) -> dict:
    """From busi to the phantom."""
    whole, folds = small_data.real()
    rng, images = np.random.default_rng([14, fold]), busi_images()
    groups = rng.permutation(np.unique(whole.near_copies[folds != fold]))
    order = np.concatenate([np.flatnonzero(whole.near_copies == g) for g in groups])
    parts = []
    for rows in (order[:240], order[-80:]):
        labels = whole.labels[rows]
        alike = {"labels": labels, "domains": 0 * labels, "who": whole.near_copies[rows]}
        parts.append({"images": images[rows]} | alike)
    test = patients(fold)["test"]
    tests = {s: test[s] for s in TARGET_SCANNERS} | {"busi": images[folds == fold]}
    flat, net = all_arms(*parts, tests, ([], None), ONE_DOMAIN, fold)
    people = patients(fold)["train"]
    for scanner in TARGET_SCANNERS:
        moved = adapted(net, people[scanner])
        flat[f"AdaBN, all/{scanner}"] = log_odds(moved, test[scanner]).numpy()[None]
    return flat | {"labels": test["labels"].numpy(), "busi": whole.labels[folds == fold].numpy()}


def run(part: str, left: str, seed: int) -> dict:
    return scanner_cell(left, seed) if part == "scanner" else real_cell(seed)


CELLS = [
    cell
    for seed in SEEDS
    for cell in [{"part": "scanner", "left": left, "seed": seed} for left in LEFT_OUT]
    + [{"part": "real", "left": "phantom", "seed": seed} for _ in range(seed in FOLDS)]
]

STUDY = Study(
    name="domain_generalization",
    cells=CELLS,
    run=run,
    table=table,
    recipe=f"ResNet-18 without its last block, {UPDATES} updates of {BATCH} images, {SIZE} px",
    seeds={"scanner": SEEDS, "real": FOLDS},
    about={
        "rates": RATES,
        "strengths": STRENGTHS,
        "patients": PEOPLE,
        "interval": "95 %, t over 5 seeds of patients and trainings, or over 4 folds of busi; "
        "on busi over seeds and groups of images; paired",
    },
    code=(*(f"medtl_utils.{k}" for k in ("models", "phantom", "phantom_render", "phantom_tables")),
          "studies.domain_methods"),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
