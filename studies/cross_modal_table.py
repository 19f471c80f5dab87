"""The rows of cross_modal: zero-shot, retrieval, mirrored sentences, few-shot, missing modality."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from medtl_utils import load_task
from medtl_utils.data import Split
from medtl_utils.evaluation import compare, evaluate, mean_over_seeds
from medtl_utils.grouping import draw_labelled
from medtl_utils.phantom_tables import DESCRIPTORS
from studies.cross_modal import SEED, SIZE, data, features, gallery
from studies.cross_modal_fusion import ARMS, GIVEN
from studies.cross_modal_retrieval import hits_of, mirrored, retrieval, share, truths
from studies.report_sentences import FACT_NAMES, PROMPTS
from studies.tables import auc

DRAWS, NUMBERS = range(10), (25, 100)
PENALTIES = [0.001, 0.01, 0.1, 1.0]
# what the prompts of report_sentences claim: facts asserted, and facts denied
PROMPT_CLAIMS = {
    "malignant": (
        "shape: irregular; margin: spiculated; orientation: not parallel; echo: hypoechoic; shadow",
        "shape: irregular; margin: angular; orientation: not parallel; echo: hypoechoic; halo",
        "margin: spiculated; -margin: circumscribed; shape: irregular; shadow; halo",
        "shape: irregular; margin: angular; orientation: not parallel; calcifications",
    ),
    "benign": (
        "shape: oval; margin: circumscribed; orientation: parallel; -shadow; -halo",
        "shape: oval; margin: circumscribed; orientation: parallel; -shadow",
        "margin: circumscribed; -margin: spiculated; shape: oval; echo: anechoic; enhancement",
        "shape: oval; margin: circumscribed; orientation: parallel; -halo",
    ),
}


def arm_of(cell: dict) -> str:
    if cell["shuffled"]:
        return "shuffled pairs"
    if not cell["order"]:
        return "bag of words"
    return cell["source"] if cell["n"] is None else f"{cell['n']} pairs"


# ---- zero-shot -----------------------------------------------------------------------------------


def by_prompt(one: dict, name: str) -> torch.Tensor:
    """Probabilities (N, 2), benign and malignant, from the cosines with the two prompts."""
    cosines = torch.from_numpy(one[name] @ one["prompts"].T)
    return (cosines / float(one["temperature"])).softmax(1)


def prompt_claims(text: str) -> np.ndarray:
    claims = np.zeros(len(FACT_NAMES))
    for part in text.split("; "):
        claims[FACT_NAMES.index(part.removeprefix("-"))] = -1 if part.startswith("-") else 1
    return claims


def fact_chances(logits: torch.Tensor) -> np.ndarray:
    """(N, 18): probability of each fact by the heads of the source "ultrasound"."""
    sizes = [len(values) for values in DESCRIPTORS.values()]
    heads = dict(zip(DESCRIPTORS, logits[:, : sum(sizes)].split(sizes, dim=1)))
    p = {name: one.softmax(1).numpy() for name, one in heads.items()}
    whole = [p[name] for name in ("shape", "margin", "orientation", "echo")]
    posterior = p["posterior"][:, [2, 1]]
    return np.concatenate([*whole, posterior, p["calcifications"][:, 1:], p["halo"][:, 1:]], 1)


def by_heads(logits: torch.Tensor) -> torch.Tensor:
    """Zero-shot without any text: the log-probability of what the prompts claim, by the heads."""
    p = fact_chances(logits).clip(1e-4, 1 - 1e-4)
    side = {}
    for name, texts in PROMPT_CLAIMS.items():
        claims = np.stack([prompt_claims(text) for text in texts]).mean(0)
        side[name] = np.log(p) @ claims.clip(0) + np.log(1 - p) @ (-claims).clip(0)
    return torch.from_numpy(np.stack([side["benign"], side["malignant"]], 1)).softmax(1)


def judged() -> dict[str, tuple[str, Split, np.ndarray]]:
    """name -> the images of a cell's array, the split, and its rows."""
    test, real = data()["test"], data()["real"]
    lesion = np.flatnonzero(real.descriptors["finding"] != "normal")
    whole = lambda split: np.arange(len(split))
    return {
        "phantom": ("test", test, whole(test)),
        "busi": ("real", real, whole(real)),
        "busi, images with a lesion": ("real", real[lesion], lesion),
    }


def interval(row: dict) -> dict:
    return {k: row[k] for k in ("value", "low", "high")}


def difference(a: list, b: list, split: Split) -> dict:
    found = compare(a, b, split)
    return {"value": found["difference"], "low": found["low"], "high": found["high"]}


def zero_shot(arms: dict[str, list[dict]]) -> dict[str, list[dict]]:
    levels, gaps, logits = [], [], features("ultrasound", 0)
    for place, (name, split, rows) in judged().items():
        scores = {arm: [by_prompt(one, name)[rows] for one in each] for arm, each in arms.items()}
        for arm, each in scores.items():
            row = {"where": place, "arm": arm, "each": [auc(p, split) for p in each]}
            levels.append(row | interval(mean_over_seeds(each, split)))
        own = by_heads(logits[f"{name} logits"])[rows]
        row = dict(zip(("value", "low", "high"), evaluate(own, split)["auc"]))
        levels.append({"where": place, "arm": "own heads, no text"} | row)
        scores["own heads, no text"] = [own] * len(scores["ultrasound"])
        for against in ("random", "imagenet_lite0", "own heads, no text", "bag of words"):
            gap = difference(scores["ultrasound"], scores[against], split)
            gaps.append({"where": place, "arm": "ultrasound", "against": against} | gap)
        gap = difference(scores["imagenet_lite0"], scores["random"], split)
        gaps.append({"where": place, "arm": "imagenet_lite0", "against": "random"} | gap)
    return {"zero_shot": levels, "zero_shot_gaps": gaps}


# ---- few-shot ------------------------------------------------------------------------------------


def probe(x, y, x_new) -> torch.Tensor:
    """Probabilities (N, 2); the penalty is chosen within the labelled images, in five folds."""
    mean, sd = x.mean(0), x.std(0) + 1e-6
    how = {"cv": 5, "scoring": "neg_log_loss"}
    search = GridSearchCV(LogisticRegression(max_iter=5000), {"C": PENALTIES}, **how)
    line = search.fit((x - mean) / sd, y)
    return torch.from_numpy(line.predict_proba((x_new - mean) / sd)).float()


def draw(pool: Split, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([1200, seed])
    return np.concatenate(draw_labelled(pool.labels.numpy(), pool.groups, n, rng, "the pool"))


def sides() -> dict:
    """Where the labels come from: (array of a cell, rows, split); and where is judged.

    On busi two thirds of the images give the labels and the others are judged.
    """
    labelled, test, real = (data()[name] for name in ("labelled", "test", "real"))
    n = len(load_task("busi", size=SIZE).folds(3, seed=SEED)[0].train)
    assert not set(real.groups[:n]) & set(real.groups[n:])
    whole = slice(None)
    return {
        "phantom": (("labelled", whole, labelled), ("test", whole, test)),
        "busi": (("real", slice(n), real[:n]), ("real", slice(n, None), real[n:])),
    }


def few_shot(arms: dict[str, list[dict]]) -> dict:
    """Probes with 25 and 100 labels on the trunk's features, and on the joint space."""
    levels, gaps = [], []
    for (place, (known, new)), source, n in itertools.product(
        sides().items(), ("ultrasound", "imagenet_lite0"), NUMBERS
    ):
        at = [draw(known[2], n, k) for k in DRAWS]
        each = [arms[source][k % len(arms[source])] for k in DRAWS]
        y, found = known[2].labels.numpy(), {}
        for space in ("trunk", "joint space"):
            seen = each if space == "joint space" else [features(source, 0)] * len(at)
            cut = lambda one, side: np.asarray(one[side[0]])[side[1]]
            found[f"probe on {space}"] = [
                probe(cut(one, known)[k], y[k], cut(one, new)) for one, k in zip(seen, at)
            ]
        found["zero-shot"] = [by_prompt(one, new[0])[new[1]] for one in each]
        what = {"where": place, "source": source, "n": n, "judged": len(new[2])}
        for arm, scores in found.items():
            levels.append(what | {"arm": arm} | interval(mean_over_seeds(scores, new[2])))
        for a, b in itertools.combinations(found, 2):
            gap = difference(found[b], found[a], new[2])
            gaps.append(what | {"arm": b, "against": a} | gap)
    return {"few_shot": levels, "few_shot_gaps": gaps}


# ---- fusion --------------------------------------------------------------------------------------


def fusion(results: list[tuple[dict, dict]]) -> dict:
    split, levels, gaps = data()["test"], [], []
    two = lambda p: torch.from_numpy(np.stack([1 - p, p], 1)).float()
    cells = [found for cell, found in results if cell["part"] == "fusion"]
    scores = {
        (arm, given): [two(one["fused"][i, j]) for one in cells]
        for (i, arm), (j, given) in itertools.product(enumerate(ARMS), enumerate(GIVEN))
    }
    for i, arm in enumerate(("full table", "full table and image")):
        scores[arm, "both"] = [two(one["full"][i]) for one in cells]
    for (arm, given), each in scores.items():
        levels.append({"arm": arm, "given": given} | interval(mean_over_seeds(each, split)))
    names = [(ARMS[2], ARMS[1], given) for given in GIVEN] + [
        (ARMS[0], ARMS[2], given) for given in GIVEN
    ]
    for a, b, given in names:
        gap = difference(scores[a, given], scores[b, given], split)
        gaps.append({"arm": a, "against": b, "given": given} | gap)
    for a, b in (
        ((ARMS[0], "both"), (ARMS[0], "table only")),
        ((ARMS[0], "both"), (ARMS[0], "image only")),
        (("full table and image", "both"), ("full table", "both")),
    ):
        row = {"arm": ", ".join(a), "against": ", ".join(b), "given": ""}
        gaps.append(row | difference(scores[a], scores[b], split))
    return {"fusion": levels, "fusion_gaps": gaps}


# ---- all -----------------------------------------------------------------------------------------


def tuned(results: list[tuple[dict, dict]]) -> list[dict]:
    """Zero-shot AUC and recall after further updates: trunk frozen, or all layers."""
    rows, places = [], gallery()
    cells = [(cell["source"], found) for cell, found in results if cell["part"] == "more"]
    for source in dict.fromkeys(source for source, _ in cells):
        sides = {}
        for arm in ("frozen", "all layers"):
            cut = lambda found, arm=arm: {
                k.removeprefix(f"{arm} "): v for k, v in found.items() if k.startswith(arm)
            }
            sides[arm] = [cut(found) for one, found in cells if one == source]
        for place, (name, split, kept) in judged().items():
            scores = {arm: [by_prompt(o, name)[kept] for o in s] for arm, s in sides.items()}
            row = {"source": source, "where": place}
            for arm, each in scores.items():
                rows.append(row | {"arm": arm} | interval(mean_over_seeds(each, split)))
            gap = difference(scores["all layers"], scores["frozen"], split)
            rows.append(row | {"arm": "all layers - frozen"} | gap)
        hits = {
            arm: np.stack(
                [hits_of(o["test"][places] @ o["sentences"].T, truths(), 10) for o in each]
            )
            for arm, each in sides.items()
        }
        for arm, each in hits.items():
            rows.append({"source": source, "where": "recall at 10", "arm": arm} | share(each))
    return rows


def runs(results: list[tuple[dict, dict]]) -> list[dict]:
    """Zero-shot AUC of every training, on the simulated and on the real images."""
    places = [place for place in judged().values() if len(place[2]) == len(data()[place[0]])]
    return [
        {**cell, "auc": [auc(by_prompt(found, name), split) for name, split, _ in places]}
        for cell, found in results
        if cell["part"] == "pair"
    ]


def rows_of(results: list[tuple[dict, dict]]) -> dict:
    arms: dict[str, list[dict]] = {}
    for cell, found in results:
        if cell["part"] == "pair":
            arms.setdefault(arm_of(cell), []).append(found)
    sizes = {name: len(split) for name, split in data().items()}
    sizes["test patients"], sizes["real groups"] = (
        len(np.unique(data()[name].groups)) for name in ("test", "real")
    )
    return {
        "sizes": sizes,
        "prompts": {name: list(texts) for name, texts in sorted(PROMPTS.items())},
        "temperature": [float(one["temperature"]) for one in arms["ultrasound"]],
        **zero_shot(arms),
        "retrieval": retrieval(arms),
        "mirrored": mirrored(arms),
        **few_shot(arms),
        **fusion(results),
        "tuned": tuned(results),
        "runs": runs(results),
    }
