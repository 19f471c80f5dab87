"""Two simulated sources of ECG for another set-up, and what patients on both sides are worth.

    python -m studies.ecg

Each draw (seeds 15001 and up, used nowhere else) has a training of its own of each source, labelled
patients of its own and test patients of its own, so that the t intervals over draws cover all of
them; differences are paired by draw. Sources: 2,000 simulated records of as many patients, once
with narrow ranges, once with wide ones; same network, records, updates and rate. Target: another
sampling rate, lead and noise; 10, 30 or 100 labelled patients of each rhythm, one record each.
Every network arm gets 300 updates with all layers and a new head. Nothing is chosen on these
draws: rates and ranges were fixed with other seeds. `labels`: of each class; 0: as it is, without
retraining.

Leakage: 30 target patients with six records each; a third is held out, of the records or of the
patients. `reported`: accuracy on the held-out part; `fresh`: on the test patients of the draw.
Labels are true, or random: dealt to whole patients.
"""

import functools
import itertools

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from medtl_utils import fine_tune, predict
from medtl_utils.data import Task
from medtl_utils.datasets.ptbxl import CLASSES, Signals
from studies.cache import HELPER
from studies.ecg_signals import ResNet1d, rr_features, simulate
from studies.runner import Study, main
from studies.tables import over_seeds, tidy

SEEDS, SIZES, UPDATES = range(15001, 15006), (10, 30, 100), 300
LABELLED, TEST, OTHER, WATCHED = (100_000, 200_000, 300_000, 400_000)  # added to a seed
CELLS = [{"seed": s, "part": f"source {name}"} for s in SEEDS for name in ("narrow", "wide")]
CELLS += [{"seed": s, "part": part} for s in SEEDS for part in ("scratch", "features", "leakage")]


# of 3e-3, 1e-2 and 3e-2 the best for each start: one draw of other patients (seed 9100), 30 labels
RATES = {"none": 3e-2, "narrow": 3e-2, "wide": 1e-2}


def accuracy(model: nn.Module, records: Signals) -> float:
    return float((predict(model, records).argmax(1) == records.labels).float().mean())


def trained(
    model: nn.Module, train: Signals, val: Signals, updates: int, batch: int, lr: float
) -> nn.Module:
    """`model` after so many updates of all layers."""
    epochs = round(updates / -(-len(train) // batch))
    task = Task("ecg", train, val)
    fine_tune(model, task, epochs, lr=lr, batch_size=batch, seed=0, augment=None, progress=False)
    return model


@functools.cache
def test_set(seed: int) -> Signals:
    return simulate("target", 300, TEST + seed)


def watched(setup: str, seed: int) -> Signals:
    """Few patients for the validation that `fine_tune` prints; nothing is chosen by it."""
    return simulate(setup, 30, WATCHED + seed)


def on_target(seed: int, name: str, start: ResNet1d | None = None) -> dict:
    """Accuracy by number of labelled patients of each rhythm; the same patients for every arm."""
    found, test = {}, test_set(seed)
    for n in SIZES:
        torch.manual_seed(seed)
        model = ResNet1d()
        if start is not None:
            shared = {k: v for k, v in start.state_dict().items() if not k.startswith("head")}
            model.load_state_dict(shared, strict=False)
        labelled = simulate("target", 3 * n, LABELLED + seed)
        trained(model, labelled, watched("target", seed), UPDATES, 30, RATES[name])
        found[f"{n} labels"] = accuracy(model, test)
    return found


def of_source(seed: int, name: str) -> dict:
    home = simulate(name, 300, TEST + seed)
    torch.manual_seed(seed)
    model = ResNet1d()
    trained(model, simulate(name, 2000, seed), watched(name, seed), 375, 64, 1e-2)
    as_it_is = {"home": accuracy(model, home), "0 labels": accuracy(model, test_set(seed))}
    return as_it_is | on_target(seed, name, model)


def of_features(seed: int) -> dict:
    """Logistic regression on nine RR features, and on the mean heart rate alone."""
    found, test = {}, test_set(seed)
    table = lambda records: np.array([rr_features(x) for x in records.images[:, 0].numpy()])
    there = table(test)
    for n in SIZES:
        labelled = simulate("target", 3 * n, LABELLED + seed)
        here = table(labelled)
        for what, columns in (("rr", slice(None)), ("rate", slice(1))):
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            model.fit(here[:, columns], labelled.labels)
            right = model.predict(there[:, columns]) == test.labels.numpy()
            found[f"{what}, {n} labels"] = right.mean()
    return found


def held_out(records: Signals, by: str, seed: int) -> np.ndarray:
    """True for a third of the records, or for all records of a third of each rhythm's patients."""
    rng, names = np.random.default_rng([seed, 2]), records.patients
    if by == "record":
        return rng.permutation(len(names)) < len(names) // 3
    rhythm = dict(zip(names, records.labels.tolist()))
    people = [[p for p in dict.fromkeys(names) if rhythm[p] == c] for c in range(3)]
    chosen = [p for group in people for p in rng.permutation(group)[: len(group) // 3]]
    return np.isin(names, chosen)


def of_leakage(seed: int) -> dict:
    found, records = {}, simulate("target", 30, OTHER + seed, each=6)
    people = np.unique(records.patients, return_inverse=True)[1]
    dealt = torch.from_numpy(np.random.default_rng([seed, 1]).permutation(30) % 3)[people]
    for by, kind in itertools.product(("record", "patient"), ("true", "random")):
        out, labels = held_out(records, by, seed), records.labels if kind == "true" else dealt
        # fine_tune refuses patients on both sides, so the leaking split has to hide who is who
        train, test = (Signals(records.images[m], labels[m]) for m in (~out, out))
        torch.manual_seed(seed)
        model = trained(ResNet1d(), train, test, UPDATES, 30, RATES["none"])
        found[f"reported, {kind}, {by}"] = accuracy(model, test)
        if kind == "true":
            found[f"fresh, {kind}, {by}"] = accuracy(model, test_set(seed))
    return found


def run(seed: int, part: str) -> dict:
    if part.startswith("source"):
        return of_source(seed, part.split()[1])
    parts = {"features": of_features, "leakage": of_leakage}
    return on_target(seed, "none") if part == "scratch" else parts[part](seed)


ARMS = {"narrow source": "source narrow", "wide source": "source wide", "from scratch": "scratch"}


def summarise(runs: list[dict]) -> list[dict]:
    """Rows of kind, what, labels, value, low, high: levels, paired differences, leakage."""

    def pick(part: str, key: str) -> np.ndarray:
        return np.array([r[key] for r in runs if r["part"] == part])

    def row(kind: str, what: str, labels: int, values: np.ndarray) -> dict:
        bounds = (-1, 1) if "difference" in kind else (0, 1)
        return {"kind": kind, "what": what, "labels": labels} | over_seeds(values, bounds=bounds)

    rows = []
    for name in ("narrow", "wide"):
        for place, key in (("at home", "home"), ("away", "0 labels")):
            rows.append(row("as it is", f"{name} source, {place}", 0, pick(f"source {name}", key)))
    for n in SIZES:
        arms = {what: pick(part, f"{n} labels") for what, part in ARMS.items()}
        arms["RR features"] = pick("features", f"rr, {n} labels")
        arms["mean heart rate"] = pick("features", f"rate, {n} labels")
        rows += [row("level", what, n, values) for what, values in arms.items()]
        for a, b in itertools.combinations(list(arms)[:4], 2):
            rows.append(row("difference", f"{a} - {b}", n, arms[a] - arms[b]))
        kept = pick("source wide", "0 labels")
        rows.append(
            row("difference", "wide source - wide, as it is", n, arms["wide source"] - kept)
        )
    return rows + leakage_rows(pick, row)


def leakage_rows(pick, row) -> list[dict]:
    leak = lambda key: pick("leakage", key)
    rows, gap = [], {}
    for by in ("record", "patient"):
        for key in ("reported", "fresh"):
            rows.append(row("leakage", f"{key}, split by {by}", 40, leak(f"{key}, true, {by}")))
        gap[by] = leak(f"reported, true, {by}") - leak(f"fresh, true, {by}")
    for by in gap:
        rows.append(row("leakage difference", f"reported - fresh, split by {by}", 40, gap[by]))
    rows.append(
        row("leakage difference", "difference of the two", 40, gap["record"] - gap["patient"])
    )
    for by in gap:
        values = leak(f"reported, random, {by}")
        rows.append(row("leakage, random labels", f"reported, split by {by}", 40, values))
    return rows


def table(results: list[tuple[dict, dict]]) -> dict:
    runs = tidy([{**cell, **found} for cell, found in results])
    return {"classes": CLASSES, "summary": summarise(runs), "runs": runs}


STUDY = Study(
    name="ecg",
    cells=CELLS,
    run=run,
    table=table,
    recipe="1-D ResNet of three blocks, AdamW one-cycle; source 375 updates of 64 records at 1e-2; "
    "target 300 of 30, all layers, at the best of three rates for each start",
    seeds=SEEDS,
    code=(*HELPER, "studies.ecg_signals"),
    weights=None,
)

if __name__ == "__main__":
    main(STUDY)
