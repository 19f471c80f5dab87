"""Data fusion on frozen features: pooled scanners, a second data set, image with clinical table.

    python -m studies.small_data_fusion

All arms: logistic regression, fitted to the end, on the 512 features of the ultrasound source
(C = 0.01) or on the columns of a table alone (C = 1), standardised. No network is trained, so there
are no updates to count.

"scanners" (phantom): hospital C has 25 labelled images, hospitals A and B have 120 each; the test
is 120 other patients of C. Mix "alike": 40 % malignant in A and B. Mix "unlike": 80 % in A, 10 % in
B. "second" (busi): 25 or 100 labelled images of three folds, with and without 600 simulated ones;
the fourth fold tests; five draws of labels, averaged within the fold; fold 0 stays closed. "table"
(phantom): 100 labelled images with the lesion's seven descriptors and the patient's age, drawn so
that mean and SD in each class are those of BrEaST's women; given the class it is independent of the
image. Intervals: t over eight draws of patients, or over four folds, paired.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from medtl_utils import phantom, source_model
from medtl_utils.datasets.breast_lesions_usg import load_breast_descriptors
from medtl_utils.grouping import draw_labelled
from studies.probe import features_of
from studies.runner import Study, main
from studies.small_data import labelled, sides
from studies.tables import over_seeds

SIZE, C, C_TABLE = 64, 0.01, 1.0
DRAWS, FOLDS, LABEL_DRAWS = range(820, 828), (1, 2, 3, 4), 5
OWN, OTHERS, MIXES = 25, 120, {"alike": (0.4, 0.4), "unlike": (0.8, 0.1)}
SECOND_SEED, SECOND_NUMBERS, LABELLED = 840, (25, 100), 100
HALF = "pooled, half the weight to the target"
SCANNER_ARMS = ("C alone", "A and B alone", "pooled", HALF)
SCANNER_ARMS += ("pooled, features harmonised", "pooled, greys matched")
SECOND_ARMS = ("busi alone", "phantom alone", "pooled", HALF)
TABLE_ARMS = ("image", "age", "descriptors", "image + age, early", "image + age, late")
TABLE_ARMS += ("image + descriptors, early", "image + descriptors, late", "descriptors + age, late")


@functools.cache
def source():
    return source_model("ultrasound").eval()


def features(images: torch.Tensor) -> np.ndarray:
    return features_of(source(), images).astype(np.float64)


def fitted(x, y, new, weight=None) -> np.ndarray:
    """Log-odds of the rows of `new`, from a logistic regression on x (N, k) and y (N,).

    Few columns, a table's, are held back less: 512 features need C = 0.01, and one age does not.
    """
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=C if x.shape[1] > 100 else C_TABLE, max_iter=5000)
    model.fit(scaler.transform(x), y, sample_weight=weight)
    return model.decision_function(scaler.transform(new))


def half_to_target(n_target: int, n_other: int) -> np.ndarray:
    """Weights, target first: both sides weigh the same in all; the sum is the number of rows."""
    n = n_target + n_other
    return np.repeat([n / 2 / n_target, n / 2 / n_other], [n_target, n_other])


# ---- scanners ------------------------------------------------------------------------------------


def hospital(scanner: str, split: str, n_patients: int, seed: int) -> dict:
    """Patients of whom all images were taken with one scanner."""

    def own(patient: dict) -> None:
        patient |= {"scanner_name": scanner, "scanner": phantom.TARGET_SCANNERS[scanner]}

    return phantom.simulate_target(split, n_patients, SIZE, seed, edit=own)


def with_share(labels: np.ndarray, n: int, share: float, rng) -> np.ndarray:
    """n rows at random, of which a share is malignant."""
    ill = round(n * share)
    kinds = ((1, ill), (0, n - ill))
    return np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:k] for c, k in kinds])


def greys_matched(images: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The mean and SD of all greys of a hospital become those of another."""
    x, other = images.float(), like.float()
    moved = (x - x.mean()) / x.std() * other.std() + other.mean()
    return moved.round().clamp(0, 255).to(torch.uint8)


def standardised(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Each feature with the mean 0 and SD 1 of a hospital."""
    return (x - like.mean(0)) / (like.std(0) + 1e-6)


def scanners(draw: int) -> dict:
    """AUC on hospital C: rows MIXES, columns SCANNER_ARMS."""
    rng = np.random.default_rng([81, draw])
    made = {s: hospital(s, "train", 160, 10 * draw + k) for k, s in enumerate("AB")}
    few, test = hospital("C", "train", 30, 10 * draw + 2), hospital("C", "test", 120, draw)
    rows = draw_labelled(few["labels"].numpy(), few["patients"], OWN, rng, "hospital C")
    own, y_own = few["images"][np.concatenate(rows)], few["labels"][np.concatenate(rows)].numpy()
    x_own, x_test, truth = features(own), features(test["images"]), test["labels"].numpy()
    score = lambda *how: roc_auc_score(truth, fitted(*how))
    found = []
    for shares in MIXES.values():
        chosen = [
            with_share(one["labels"].numpy(), OTHERS, share, rng)
            for one, share in zip(made.values(), shares)
        ]
        images = [one["images"][k] for one, k in zip(made.values(), chosen)]
        y = [one["labels"].numpy()[k] for one, k in zip(made.values(), chosen)]
        x = [features(part) for part in images]
        all_x, all_y = np.concatenate([x_own, *x]), np.concatenate([y_own, *y])
        flat = [standardised(part, part) for part in (x_own, *x)]
        like = [features(greys_matched(part, own)) for part in images]
        found.append(
            [
                score(x_own, y_own, x_test),
                score(np.concatenate(x), np.concatenate(y), x_test),
                score(all_x, all_y, x_test),
                score(all_x, all_y, x_test, half_to_target(OWN, len(all_x) - OWN)),
                score(np.concatenate(flat), all_y, standardised(x_test, x_own)),
                score(np.concatenate([x_own, *like]), all_y, x_test),
            ]
        )
    return {"auc": np.array(found)}


# ---- a second data set ---------------------------------------------------------------------------


@functools.cache
def simulated() -> tuple[np.ndarray, np.ndarray]:
    made = phantom.simulate_target("train", 260, SIZE, SECOND_SEED)
    return features(made["images"][:600]), made["labels"][:600].numpy()


def second(fold: int) -> dict:
    """AUC on a fold of busi, mean over draws of labels: rows SECOND_NUMBERS, columns the arms."""
    pool, test = sides("busi", fold)
    (x_other, y_other), x_test, truth = simulated(), features(test.images), test.labels.numpy()
    score = lambda *how: roc_auc_score(truth, fitted(*how))
    found = []
    for n in SECOND_NUMBERS:
        each = []
        for draw in range(LABEL_DRAWS):
            part = labelled(pool, n, 10 * fold + draw, "busi")
            x, y = features(part.images), part.labels.numpy()
            both = np.concatenate([x, x_other]), np.concatenate([y, y_other]), x_test
            weight = half_to_target(n, len(x_other))
            alone = score(x, y, x_test), score(x_other, y_other, x_test)
            each.append([*alone, score(*both), score(*both, weight)])
        found.append(np.mean(each, 0))
    return {"auc": np.array(found)}


# ---- image with table ----------------------------------------------------------------------------


@functools.cache
def ages_by_class() -> list[tuple[float, float]]:
    """Mean and SD of the age of BrEaST's women with a benign and with a malignant lesion."""
    table = load_breast_descriptors()
    of = lambda kind: table["age"][(table["classification"] == kind) & ~np.isnan(table["age"])]
    return [(of(k).mean(), of(k).std(ddof=1)) for k in ("benign", "malignant")]


def clinical(split, rng) -> tuple[np.ndarray, np.ndarray]:
    """Age (N, 1), the same for all images of a patient, and descriptors (N, 21), one-hot."""
    people, who = np.unique(split.patients, return_inverse=True)
    noise, labels = rng.standard_normal(len(people)), split.labels.numpy()
    mean, sd = np.array(ages_by_class())[labels].T
    names = phantom.DESCRIPTORS
    coded = [np.eye(len(names[k]))[split.descriptors[k]] for k in names]
    return (mean + sd * noise[who])[:, None], np.concatenate(coded, 1)


def table_fusion(draw: int) -> dict:
    """AUC on 150 other patients, (arms,)."""
    pool, test = sides("phantom", draw)
    train, rng = labelled(pool, LABELLED, draw, "phantom"), np.random.default_rng([82, draw])
    y, truth = train.labels.numpy(), test.labels.numpy()
    (age, words), (new_age, new_words) = clinical(train, rng), clinical(test, rng)
    parts = {"image": (features(train.images), features(test.images))}
    parts |= {"age": (age, new_age), "descriptors": (words, new_words)}
    alone = {name: fitted(x, y, new) for name, (x, new) in parts.items()}
    early = lambda *names: fitted(
        np.concatenate([parts[k][0] for k in names], 1), y,
        np.concatenate([parts[k][1] for k in names], 1),
    )  # fmt: skip
    odds = [
        *alone.values(),
        early("image", "age"),
        alone["image"] + alone["age"],
        early("image", "descriptors"),
        alone["image"] + alone["descriptors"],
        alone["descriptors"] + alone["age"],
    ]
    return {"auc": np.array([roc_auc_score(truth, one) for one in odds])}


def run(part: str, draw: int) -> dict:
    return {"scanners": scanners, "second": second, "table": table_fusion}[part](draw)


# ---- the table -----------------------------------------------------------------------------------


def compared(values: np.ndarray, arms, pairs, here: dict) -> tuple[list[dict], list[dict]]:
    """Rows of levels and of paired differences from (draws, arms)."""
    at = dict(zip(arms, values.T))
    levels = [here | {"arm": arm} | over_seeds(v, bounds=(0, 1)) for arm, v in at.items()]
    gaps = [here | {"arm": a, "against": b} | over_seeds(at[a] - at[b]) for a, b in pairs]
    return levels, gaps


def table(results: list[tuple[dict, dict]]) -> dict:
    of = {part: [] for part in ("scanners", "second", "table")}
    for cell, found in results:
        of[cell["part"]].append(found["auc"])
    levels, gaps = [], []
    by_mix, by_number = np.array(of["scanners"]), np.array(of["second"])
    jobs = [
        (by_mix[:, row], SCANNER_ARMS, SCANNER_PAIRS, {"part": "scanners", "mix": mix})
        for row, mix in enumerate(MIXES)
    ]
    jobs += [
        (by_number[:, row], SECOND_ARMS, SECOND_PAIRS, {"part": "second", "n": n})
        for row, n in enumerate(SECOND_NUMBERS)
    ]
    jobs.append((np.array(of["table"]), TABLE_ARMS, TABLE_PAIRS, {"part": "table"}))
    for job in jobs:
        more_levels, more_gaps = compared(*job)
        levels, gaps = levels + more_levels, gaps + more_gaps
    runs = [{**cell, "auc": found["auc"]} for cell, found in results]
    ages = [{"mean": mean, "sd": sd} for mean, sd in ages_by_class()]
    return {"ages": ages, "levels": levels, "differences": gaps, "runs": runs}


SCANNER_PAIRS = [(arm, "C alone") for arm in SCANNER_ARMS[1:]]
SCANNER_PAIRS += [(arm, "pooled") for arm in SCANNER_ARMS[3:]]
SECOND_PAIRS = [(arm, "busi alone") for arm in SECOND_ARMS[1:]]
TABLE_PAIRS = [
    (f"image + age, {how}", one) for how in ("early", "late") for one in ("image", "age")
]
TABLE_PAIRS += [("image + age, late", "image + age, early")]
TABLE_PAIRS += [
    (f"image + descriptors, {how}", one)
    for how in ("early", "late")
    for one in ("image", "descriptors")
]
TABLE_PAIRS += [("descriptors + age, late", "descriptors")]

STUDY = Study(
    name="small_data_fusion",
    cells=[{"part": p, "draw": d} for p in ("scanners", "table") for d in DRAWS]
    + [{"part": "second", "draw": fold} for fold in FOLDS],
    run=run,
    table=table,
    recipe=f"logistic regression on frozen features of the ultrasound source, {SIZE} px (C = {C}), "
    f"or on a table (C = {C_TABLE:g})",
    seeds={"scanners and table": DRAWS, "second": FOLDS},
    about={"interval": "95 %, t over 8 draws of patients, or over 4 folds of busi, paired"},
    code=tuple(f"medtl_utils.{k}" for k in ("models", "grouping", "phantom")) + ("studies.probe",),
)

if __name__ == "__main__":
    main(STUDY)
