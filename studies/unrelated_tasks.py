"""Five sources, three targets, seven ways to adapt: scores before training, and what came of it.

    python -m studies.unrelated_tasks

Targets: "retinamnist" (real fundus photographs, grade 2 or more against less), "busi" (real breast
ultrasound), "phantom" (simulated). Of each, a third of the training and validation images is held
out (near-copies and patients stay together); no test set is opened. Sources: "ultrasound" (ships),
"imagenet_lite0" (real ImageNet weights), "shapes" and "digits" (two small sources, trained here
with 5,600 image passes each), "random". Every network begins with a linear probe on the labelled
images; then all make 40 updates with 16 images by fine_tune's schedule and augmentation, whatever
the method and the number of labels. The rate of a method was chosen from the same three for all, by
one run each: for ultrasound on other simulated patients, for retinamnist within the images to learn
from. A seed draws other labelled images (and, for "random",
other weights). Probes without fine-tuning are drawn ten times. Intervals cross seeds and the images
held out; that of a rank correlation is t over the three targets.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from medtl_utils import compare
from medtl_utils.checkpoint import whole_file
from medtl_utils.evaluation import mean_over_seeds
from medtl_utils.paths import data_folder
from studies.cache import HELPER
from studies.runner import Study, main
from studies.tables import auc, over_seeds
from studies.transferability import rank_correlation
from studies.unrelated_cells import (
    BATCH,
    NUMBERS,
    PROBE_C,
    RANDOM_NETWORKS,
    RANKED,
    RATES,
    RATES_SEED,
    SCRATCH,
    SEEDS,
    SOURCES,
    TARGETS,
    TUNED,
    UPDATES,
    labelled,
    run,
    sides,
)
from studies.unrelated_probes import SCORES, SIZES, Seen

DRAWS = range(10)  # of a probe without fine-tuning
FEATURES = data_folder() / "results" / "unrelated_tasks.npz"  # of seed 0, for the notebook
ADAPTED = ("retinamnist", "busi")  # the unrelated and the related target of "ultrasound"
# the best of RATES, method by method as in TUNED: a test holds this equal to the table's "rates"
BEST = {
    "phantom": (3e-4, 3e-4, 3e-4, 3e-4, 3e-4, 3e-4, 1e-2),  # simulated ultrasound: for busi, too
    "retinamnist": (2e-3, 1e-2, 2e-3, 3e-4, 3e-4, 2e-3, 3e-4),
}


def rate_of(target: str, method: str) -> float:
    return BEST["phantom" if target == "busi" else target][TUNED.index(method)]


def cell(part, source, target, method="", n=None, seed=0, rate=0.0) -> dict:
    keys = ("part", "source", "target", "method", "n", "seed", "rate")
    return dict(zip(keys, (part, source, target, method, n, seed, rate)))


def cells() -> list[dict]:
    """Rates first, then features, then what is ranked, then the other numbers of images."""
    found = [
        cell("rates", start_of(m), target, m, RANKED, 0, rate)
        for target, rate, m in itertools.product(BEST, RATES, TUNED)
    ]
    for source, target in itertools.product(SOURCES, TARGETS):
        networks = range(RANDOM_NETWORKS) if source == "random" else [0]
        found += [cell("features", source, target, seed=k) for k in networks]
    order = sorted(NUMBERS, key=lambda number: number != RANKED)  # what is ranked comes first
    for n, seed in [(number, seed) for number in order for seed in SEEDS]:
        for target, m in itertools.product(ADAPTED, TUNED):
            found.append(cell("fit", start_of(m), target, m, n, seed, rate_of(target, m)))
        for source, target in itertools.product(SOURCES, TARGETS) if n == RANKED else ():
            m = SCRATCH if source == "random" else "full"
            one = cell("fit", source, target, m, n, seed, rate_of(target, m))
            found += [one] if one not in found else []
    return found


# ---- probes ------------------------------------------------------------------------------------


def interval(row: dict) -> dict:
    return {k: row[k] for k in ("value", "low", "high")}


def difference(a, b, split) -> dict:
    found = compare(a, b, split)
    return {"value": found["difference"], "low": found["low"], "high": found["high"]}


def probe_rows(seen: dict) -> tuple[list[dict], list[dict], dict]:
    """Levels of all probes, their gains over random weights, and the scores by (draw, network)."""
    probes, rows, gains = {}, [], []
    for (source, target, _), n in itertools.product(seen, NUMBERS):
        nets = RANDOM_NETWORKS if source == "random" else 1
        draws = DRAWS if n else range(nets)
        probes[source, target, n] = [seen[source, target, k % nets].probe(n, k) for k in draws]
    for (source, target, n), found in probes.items():
        what = {"source": source, "target": target, "n": n}
        out = sides(target)[1]
        if len(found) > 1:
            rows.append(what | interval(mean_over_seeds(found, out)))
        if source != "random":
            other = probes["random", target, n]
            gains.append(what | difference((found * len(other))[: len(other)], other, out))
    return rows, gains, probes


# ---- the table -----------------------------------------------------------------------------------


def correlations(ranking: list[dict]) -> list[dict]:
    """Kendall's tau of each score with what came of it, target by target, and its mean."""
    rows = []
    for outcome, score in itertools.product(("fine-tuned", "probe"), SCORES):
        key, each = "value" if outcome == "fine-tuned" else "probe", []
        for target in TARGETS:
            of = [r for r in ranking if r["target"] == target]
            each.append(rank_correlation([r[score] for r in of], [r[key] for r in of]))
        row = {"outcome": outcome, "score": score, "each": each}
        rows.append(row | over_seeds(each, bounds=(-1, 1)))
    return rows


def chance(rounds: int = 20_000) -> float:
    """Half-width of the 95 % range of the mean tau of random rankings of 5 over three targets."""
    rng, n = np.random.default_rng(0), len(SOURCES)
    true = np.arange(n)
    all_taus = np.array([rank_correlation(p, true) for p in itertools.permutations(range(n))])
    means = rng.choice(all_taus, (rounds, len(TARGETS))).mean(1)
    return float(np.quantile(abs(means), 0.95))


def method_rows(fits: dict, probes: dict) -> tuple[list[dict], list[dict]]:
    """AUC of every method, and what it adds to the probe, to full tuning and to scratch."""
    levels, gains = [], []
    for target, n in itertools.product(ADAPTED, NUMBERS):
        out = sides(target)[1]
        arms = {m: [fits[start_of(m), target, m, n, s] for s in SEEDS] for m in TUNED}
        scores = {m: [f["scores"] for f in found] for m, found in arms.items()}
        for name, source in (("probe", "ultrasound"), ("probe on random", "random")):
            scores[name] = [seen_probe(probes, source, target, n, s) for s in SEEDS]
        for m, found in scores.items():
            counted = int(arms[m][0]["trained"]) if m in arms else 1026
            what = {"target": target, "n": n, "method": m}
            updates = UPDATES if m in arms else 0
            level = interval(mean_over_seeds(found, out))
            levels.append(what | {"trained": counted, "updates": updates} | level)
            for other in ("probe", "full", SCRATCH, "probe on random"):
                if other != m:
                    gains.append(what | {"against": other} | difference(found, scores[other], out))
    return levels, gains


def start_of(method: str) -> str:
    return "random" if method == SCRATCH else "ultrasound"


def seen_probe(probes: dict, source: str, target: str, n, seed: int) -> torch.Tensor:
    found = probes[source, target, n]
    return found[seed % len(found)]


def keep_features(seen: dict) -> None:
    """Features of the RANKED images of seed 0, turned into their own directions: nothing is lost.

    Scores do not change when features are turned, and 100 images span 100 directions at most.
    """
    arrays = {}
    for (source, target, network), one in seen.items():
        if network == 0:
            rows = labelled(one.pool, RANKED, 0)
            u, s, _ = np.linalg.svd(one.features[rows].astype(float), full_matrices=False)
            arrays[f"{source}/{target}"] = (u * s).astype(np.float16)
            arrays[f"labels/{target}"] = one.pool.labels[rows].numpy().astype(np.uint8)
            if source in (*SIZES, "digits"):
                answers = np.concatenate([p[rows] for p in one.answers], axis=1)
                arrays[f"{source}/{target}/answers"] = answers.astype(np.float16)
    with whole_file(FEATURES) as part, open(part, "wb") as out:
        np.savez_compressed(out, **arrays)


def ranking_rows(seen: dict, fits: dict, probe_levels: list[dict]) -> list[dict]:
    """Scores of each source on each target, means over the seeds, and what came of it."""
    alone = {(r["target"], r["source"]): r["value"] for r in probe_levels if r["n"] == RANKED}
    rows = []
    for target, source in itertools.product(TARGETS, SOURCES):
        nets = RANDOM_NETWORKS if source == "random" else 1
        scores = np.mean([seen[source, target, k % nets].scores(k) for k in SEEDS], axis=0)
        arm = SCRATCH if source == "random" else "full"
        tuned = [fits[source, target, arm, RANKED, k]["scores"] for k in SEEDS]
        what = {"target": target, "source": source, "probe": alone[target, source]}
        level = interval(mean_over_seeds(tuned, sides(target)[1]))
        rows.append(what | dict(zip(SCORES, scores)) | level)
    return rows


def table(results: list[tuple[dict, dict]]) -> dict:
    of = lambda part: [(c, r) for c, r in results if c["part"] == part]
    place = lambda c: tuple(c[k] for k in ("source", "target", "method", "n", "seed"))
    tensor = lambda r: {"scores": torch.from_numpy(r["scores"]), "trained": r["trained"]}
    fits = {place(c): tensor(r) for c, r in of("fit")}
    seen = {
        (c["source"], c["target"], c["seed"]): Seen(c["source"], c["target"], r)
        for c, r in of("features")
    }
    keep_features(seen)
    probe_levels, harm, probes = probe_rows(seen)
    ranking = ranking_rows(seen, fits, probe_levels)
    levels, gains = method_rows(fits, probes)
    return {
        "targets": [
            {
                "target": t,
                "learn": len(a),
                "held_out": len(b),
                "disease": float(b.labels.float().mean()),
            }
            for t, (a, b) in ((t, sides(t)) for t in TARGETS)
        ],
        "rates": [
            {k: c[k] for k in ("target", "method", "rate")}
            | {"auc": auc(r["scores"], sides(c["target"], RATES_SEED)[1])}
            for c, r in of("rates")
        ],
        "probes": probe_levels,
        "probe_minus_random": harm,
        "ranking": ranking,
        "correlations": correlations(ranking),
        "chance": chance(),
        "methods": levels,
        "method_gains": gains,
        "runs": [{**c, "auc": auc(r["scores"], sides(c["target"])[1])} for c, r in of("fit")],
    }


STUDY = Study(
    name="unrelated_tasks",
    cells=cells(),
    run=run,
    table=table,
    recipe=f"a probe (C = {PROBE_C}), then {UPDATES} updates with {BATCH} images at 64 px",
    seeds=SEEDS,
    about={
        "best_rates": BEST,
        "methods_tuned": TUNED,
        "interval": "95 %, over the images held out and over seeds",
    },
    code=(*HELPER, "studies.adapters", "studies.probe", "studies.shapes", "studies.source_net"),
    weights=None,
)

if __name__ == "__main__":
    main(STUDY)
