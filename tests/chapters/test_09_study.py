"""The table of notebook 09: it follows from its runs, and the prose quotes it."""

import copy
import json
import re

import nbformat
import numpy as np
from scipy import stats

from medtl_utils import source_model
from studies import transferability, unrelated_cells, unrelated_tasks
from studies.probe import features_of
from tests.chapters.notebook_code import path_of, prose
from tests.conftest import ROOT

RESULTS = ROOT / "data" / "results"
TABLE = json.loads((RESULTS / "unrelated_tasks.json").read_text(encoding="utf-8"))
KEPT = np.load(RESULTS / "unrelated_tasks.npz", allow_pickle=False)


def run_aucs(table: dict, source: str, target: str, method: str, n) -> np.ndarray:
    """One AUC a seed."""
    wanted = {"source": source, "target": target, "method": method, "n": n}
    found = {r["seed"]: r["auc"] for r in table["runs"] if wanted.items() <= r.items()}
    assert sorted(found) == list(table["seeds"]) and len(found) >= 5
    return np.array([found[seed] for seed in table["seeds"]])


def table_follows(table: dict) -> bool:
    """Means of the runs, differences of the means, rank correlations, and the best rates."""
    near = lambda row, value: abs(row["value"] - value) < 2e-4
    inside = lambda row: row["low"] <= row["value"] <= row["high"]
    tuned, start = table["methods_tuned"], unrelated_tasks.start_of
    arms = {
        (t, n, m): run_aucs(table, start(m), t, m, n).mean()
        for t in unrelated_tasks.ADAPTED
        for n in unrelated_tasks.NUMBERS
        for m in tuned
    }
    checks = []
    for row in table["methods"]:
        key = (row["target"], row["n"], row["method"])
        arms.setdefault(key, row["value"])  # probes have no runs
        checks += [near(row, arms[key]), inside(row)]
    for row in table["method_gains"]:
        pair = [arms[row["target"], row["n"], row[k]] for k in ("method", "against")]
        checks += [near(row, pair[0] - pair[1]), inside(row)]
    outcomes = {}
    for row in table["ranking"]:
        method = unrelated_tasks.SCRATCH if row["source"] == "random" else "full"
        aucs = run_aucs(table, row["source"], row["target"], method, unrelated_tasks.RANKED)
        checks += [near(row, aucs.mean()), inside(row)]
        outcomes.setdefault(row["target"], []).append(row)
    for row in table["correlations"]:
        key = {"probe": "probe", "fine-tuned": "value"}[row["outcome"]]
        each = [
            stats.kendalltau([r[row["score"]] for r in rows], [r[key] for r in rows]).statistic
            for rows in outcomes.values()
        ]
        ends = np.clip(stats.ttest_1samp(each, 0).confidence_interval(), -1, 1)
        got = [*row["each"], row["value"], row["low"], row["high"]]
        checks.append(np.allclose(got, [*each, np.mean(each), *ends], atol=2e-4))
    return all(checks) and len(checks) > 100


def test_the_table_follows_from_its_runs():
    assert table_follows(TABLE)
    for key in ("methods", "method_gains", "ranking", "correlations"):
        wrong = copy.deepcopy(TABLE)
        wrong[key][0]["value"] += 0.01
        assert not table_follows(wrong)
    wrong = copy.deepcopy(TABLE)
    wrong["runs"][0]["auc"] += 0.1
    assert not table_follows(wrong)


def rates_are_best(table: dict) -> bool:
    """Each method has the best of the same three rates; every run of it used this one."""
    for target, chosen in table["best_rates"].items():
        for method, rate in zip(table["methods_tuned"], chosen):
            rows = [r for r in table["rates"] if (r["target"], r["method"]) == (target, method)]
            if len(rows) != 3 or max(rows, key=lambda r: r["auc"])["rate"] != rate:
                return False
    of = lambda run: table["best_rates"]["phantom" if run["target"] == "busi" else run["target"]]
    place = table["methods_tuned"].index
    return all(run["rate"] == of(run)[place(run["method"])] for run in table["runs"])


def test_all_methods_had_the_same_choice_of_rates():
    assert rates_are_best(TABLE)
    for key, name in (("rates", "auc"), ("runs", "rate")):
        wrong = copy.deepcopy(TABLE)
        wrong[key][-1][name] += 1.0
        assert not rates_are_best(wrong)


def test_all_arms_make_the_same_updates():
    updates = {r["method"]: r["updates"] for r in TABLE["methods"]}
    assert updates.pop("probe") == updates.pop("probe on random") == 0
    assert set(updates.values()) == {unrelated_cells.UPDATES}
    for n in (25, 100, 416):
        rows = unrelated_cells.batches(n, 0)
        counts = np.bincount(rows, minlength=n)
        assert len(rows) == unrelated_cells.UPDATES * unrelated_cells.BATCH
        assert counts.max() - counts.min() <= 1


def sides_are_apart(sides) -> bool:
    """No near-copy and no patient on both sides; the images for the rates are not judged later."""
    for target in unrelated_cells.TARGETS:
        pool, out = sides(target)
        if target == "retinamnist":  # knows neither patients nor near-copies: exact copies alone
            continue
        key = "patients" if target == "phantom" else "near_copies"
        if set(getattr(pool, key)) & set(getattr(out, key)):
            return False
    pictures = lambda split: {image.numpy().tobytes() for image in split.images}
    judged = pictures(sides("retinamnist")[1])
    return not any(judged & pictures(s) for s in sides("retinamnist", unrelated_cells.RATES_SEED))


def test_who_is_on_which_side():
    right = unrelated_cells.sides
    assert sides_are_apart(right)
    swapped = lambda target, seed=unrelated_cells.SPLIT_SEED: right(target)  # other images, not
    assert not sides_are_apart(swapped)
    both = lambda target, *seed: (right(target, *seed)[0],) * 2
    assert not sides_are_apart(both)


def are_the_features(rows: np.ndarray) -> bool:
    """The kept features have the scores of features that are made again."""
    pool = unrelated_cells.sides("busi")[0]
    x, y = features_of(source_model("ultrasound"), pool.images[rows]), pool.labels[rows].numpy()
    kept, labels = KEPT["ultrasound/busi"].astype(float), KEPT["labels/busi"].astype(int)
    again = [transferability.log_me(x, y), transferability.h_score(transferability.principal(x), y)]
    here = transferability.principal(kept)
    stored = [transferability.log_me(kept, labels), transferability.h_score(here, labels)]
    return bool(np.allclose(again, stored, atol=5e-3))


def test_the_kept_features_are_those_of_the_labelled_images():
    pool = unrelated_cells.sides("busi")[0]
    assert are_the_features(unrelated_cells.labelled(pool, 100, 0))
    assert not are_the_features(unrelated_cells.labelled(pool, 100, 1))
    size = sum((RESULTS / f"unrelated_tasks.{kind}").stat().st_size for kind in ("npz", "json"))
    assert size < 1.5e6


def test_random_orders_reach_what_the_table_says():
    """By simulation: the mean tau of three random orders of five."""
    rng = np.random.default_rng(1)
    one = lambda: stats.kendalltau(np.arange(5), rng.permutation(5)).statistic
    means = np.abs([np.mean([one() for _ in range(3)]) for _ in range(3000)])
    assert np.mean(means <= TABLE["chance"] + 1e-6) > 0.93
    assert np.mean(means <= 0.5 * TABLE["chance"]) < 0.8  # planted: half of it


# ---- the prose -----------------------------------------------------------------------------------

INTERVAL = re.compile(r"[+−]?\d\.\d\d \([+−]?\d\.\d\d to [+−]?\d\.\d\d\)")


def printed(number: str) -> str:
    cells = nbformat.read(path_of(number), 4).cells
    outputs = [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]
    return "\n".join(o.get("text", "") for o in outputs).replace("-", "−")


def all_printed(text: str) -> bool:
    """Every value with an interval in the prose is one that a cell printed."""
    found = INTERVAL.findall(text)
    return len(found) >= 8 and all(words in printed("09") for words in found)


def test_the_prose_quotes_what_is_printed():
    text = prose("09")
    assert all_printed(text)
    first = INTERVAL.search(text)[0]
    assert not all_printed(text.replace(first, first.replace("(", "(+9.99 to 9.99) (")[:-1] + "9)"))
    assert not all_printed(text.replace(first, "−0.77 (−0.88 to −0.66)"))


def summary_holds(table: dict) -> bool:
    """What sections 2 and 4 and the summary say without a number."""
    of = lambda t: {r["source"]: r for r in table["ranking"] if r["target"] == t}
    best = lambda t, key: max(of(t), key=lambda s: of(t)[s][key])
    targets = unrelated_cells.TARGETS
    leep_likes_answers = all(best(t, "LEEP") == "imagenet_lite0" for t in targets)
    never_best = all(
        best(t, key) != "imagenet_lite0" for t in targets for key in ("probe", "value")
    )
    imagenet = [of(t)["imagenet_lite0"] for t in targets]
    tuning_cost = all(r["value"] < r["probe"] for r in imagenet)
    random_wins = best("retinamnist", "probe") == "random"
    others = all(best(t, "value") == "ultrasound" for t in targets[1:])
    below = [
        r["value"] < 0
        for r in table["method_gains"]
        if (r["target"], r["n"], r["against"]) == ("retinamnist", 100, "probe on random")
    ]
    ranked = leep_likes_answers and never_best and tuning_cost and random_wins and others
    return ranked and all(below)


def test_what_is_said_in_words_holds():
    assert summary_holds(TABLE)
    for key, place in (("ranking", "value"), ("method_gains", "value")):
        wrong = copy.deepcopy(TABLE)
        for row in wrong[key]:
            row[place] = -row[place]
        assert not summary_holds(wrong)
