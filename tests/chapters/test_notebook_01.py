"""Notebook 01: Bayes' rule from descriptors, the learning curve and its kept table, exercises, widgets."""

import ast
import copy
import importlib.util
import itertools
import json

import nbformat
import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.metrics import roc_auc_score

from medtl_utils import phantom, widgets
from medtl_utils.models import ULTRASOUND_SHA256
from tests.conftest import ROOT, make_split, picture

NOTEBOOK = ROOT / "notebooks" / "01_source_and_target_tasks.ipynb"
TABLE = json.loads((ROOT / "data" / "results" / "learning_curve.json").read_text())
FEW, BOTH = (25, 50), ("random", "ultrasound")

bayes = lambda prior, p, q: prior * np.prod(p) / (prior * np.prod(p) + (1 - prior) * np.prod(q))
added = lambda prior, p, q: prior * np.sum(p) / (prior * np.sum(p) + (1 - prior) * np.sum(q))
MISTAKES = {
    "1.1": [
        (["task", "task", "both", "domain"], "question stays"),
        (["domain", "domain", "both", "domain"], "pictures stay"),
        (["domain", "task", "domain", "domain"], "both of them"),
        (["domain", "task", "both", "both"], "children"),
        ("domain", "list of four"),
        (["domain", "task"], "list of four"),
    ],
    "1.2": [
        (lambda prior, p, q: np.prod(p) / (np.prod(p) + np.prod(q)), "prior is missing"),
        (lambda prior, p, q: 1 - bayes(prior, p, q), "numerator"),
        (added, "added"),
        (lambda prior, p, q: prior * np.prod(p), "not normalised"),
        (lambda prior, p, q: prior * np.prod(p) / ((1 - prior) * np.prod(q)), "odds"),
        (lambda prior, p, q: p / q, "one number"),
        (lambda prior, p, q: None, "one number"),
        (lambda prior, p, q: 0.5, "another number"),
        (lambda prior, p, q: undefined, "NameError"),  # noqa: F821
        (0.77, "function"),
    ],
    "1.3": [
        (lambda low, high: "helps" if low + high > 0 else "hurts", "middle"),
        (lambda low, high: "cannot say", "one side of zero"),
        (
            lambda low, high: "hurts" if low > 0 else "helps" if high < 0 else "cannot say",
            "swapped",
        ),
        (
            lambda low, high: "helps" if low >= 0 else "hurts" if high <= 0 else "cannot say",
            "begins at zero",
        ),
        (lambda low, high: low > 0, "return one of"),
        (lambda low: "helps", "TypeError"),
        ("cannot say", "function"),
    ],
    "1.4": [
        (250, "linear"),
        (400, "0.84 already"),
        (100, "0.72 only"),
        (40000, "square root"),
        ("200", "Hint"),
    ],
}


def source_of(name: str) -> str:
    """The text of a function that the notebook defines in sight."""
    for cell in nbformat.read(NOTEBOOK, 4).cells:
        if cell.cell_type == "code" and f"def {name}(" in cell.source:
            return next(
                ast.unparse(node)
                for node in ast.parse(cell.source).body
                if getattr(node, "name", None) == name
            )
    raise AssertionError(f"the notebook defines no {name}")


def function(name: str, text: str | None = None):
    namespace = {"np": np, "phantom": phantom}
    exec(text or source_of(name), namespace)
    return namespace[name]


# ---- Bayes' rule ------------------------------------------------------------------------------------------------------------


def equals_the_joint_table(probability_from) -> bool:
    """Against the joint table of class and descriptors, added up in plain Python; and its AUC against `best_auc`."""
    names, joint = list(phantom.DESCRIPTORS), {}
    for label in (0, 1):
        for d in itertools.product(*(range(len(v)) for v in phantom.DESCRIPTORS.values())):
            p = phantom.PREVALENCE if label else 1 - phantom.PREVALENCE
            for name, k in zip(names, d):
                p *= phantom.LIKELIHOODS[name][label][k]
            joint[label, d] = p
    all_d = [d for label, d in joint if label == 0]
    want = [joint[1, d] / (joint[0, d] + joint[1, d]) for d in all_d]
    got = probability_from({name: np.array([d[i] for d in all_d]) for i, name in enumerate(names)})
    labels, weights = (
        [0] * len(all_d) + [1] * len(all_d),
        [joint[label, d] for label in (0, 1) for d in all_d],
    )
    auc = roc_auc_score(labels, np.tile(got, 2), sample_weight=weights)
    return np.allclose(got, want, atol=1e-12) and abs(auc - phantom.best_auc()) < 1e-9


def test_bayes_rule_in_the_notebook():
    assert equals_the_joint_table(function("probability_from"))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("np.array(malignant) / np.array(benign)", "np.array(benign) / np.array(malignant)"),
     ("phantom.PREVALENCE / (1 - phantom.PREVALENCE)", "1.0"), ("odds / (1 + odds)", "odds")],
)  # fmt: skip
def test_the_bayes_test_bites(right, wrong):
    """Planted: the ratio upside down, the prior forgotten, odds taken for a probability."""
    text = source_of("probability_from")
    assert right in text and not equals_the_joint_table(
        function("probability_from", text.replace(right, wrong))
    )


# ---- labels needed ----------------------------------------------------------------------------------------------------------


def equals_root_finding(labels_needed) -> bool:
    """Against a root of the curve that NumPy interpolates over log n."""
    numbers, aucs = [25, 50, 100, 600], [0.55, 0.61, 0.60, 0.86]
    for wanted in (0.57, 0.605, 0.7, 0.85):
        on_curve = lambda x, a=wanted: np.interp(x, np.log(numbers), aucs) - a
        inside = [
            (a, b) for a, b in itertools.pairwise(np.log(numbers)) if on_curve(a) < 0 <= on_curve(b)
        ]
        if not np.isclose(
            labels_needed(wanted, numbers, aucs), np.exp(optimize.brentq(on_curve, *inside[0]))
        ):
            return False
    return labels_needed(0.9, numbers, aucs) == np.inf and labels_needed(0.5, numbers, aucs) == 25


def test_labels_needed():
    assert equals_root_finding(function("labels_needed"))


def test_the_labels_needed_test_bites():
    """Planted: a linear axis; and a curve that is thought to rise for ever."""
    text = source_of("labels_needed")
    assert not equals_root_finding(
        function("labels_needed", text.replace("np.log(", "(").replace("np.exp(", "("))
    )
    assert not equals_root_finding(function("labels_needed", text.replace("np.inf", "numbers[-1]")))


# ---- the kept table ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location(
        "make_learning_curve", ROOT / "data" / "results" / "make_learning_curve.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def crossed(interval) -> bool:
    """The interval of a mean AUC against a jackknife over patients with scikit-learn, plus the spread over seeds."""
    people = np.array([f"p{i // 2}" for i in range(40)])
    split = make_split("test", 40, patients=people)
    split.labels = torch.from_numpy((np.arange(40) // 2) % 2)
    rng, truth = np.random.default_rng(3), split.labels.numpy()
    p = 1 / (
        1 + np.exp(-(rng.normal(size=(4, 40)) + 1.2 * truth + rng.normal(size=(4, 1)) * truth))
    )
    names = np.unique(people)
    mean = lambda rows: np.mean([roc_auc_score(truth[rows], s[rows]) for s in p])
    jack = np.array([mean(people != name) for name in names])
    patients = (len(names) - 1) / len(names) * ((jack - jack.mean()) ** 2).sum()
    seeds = np.var([roc_auc_score(truth, s) for s in p], ddof=1) / 4
    freedom = (patients + seeds) ** 2 / (patients**2 / (len(names) - 1) + seeds**2 / 3)
    half = stats.t.ppf(0.975, freedom) * (patients + seeds) ** 0.5
    got = interval([torch.tensor(np.stack([1 - s, s], 1)) for s in p], split)
    return np.allclose(
        [got["auc"], got["low"], got["high"]],
        mean(people != "") + half * np.array([0, -1, 1]),
        atol=1e-9,
    )


def test_the_interval_crosses_patients_and_seeds(make):
    assert crossed(make.interval)


def test_the_interval_test_bites(make):
    """Planted: two copies of one seed, which hides the spread over seeds."""
    assert not crossed(lambda scores, split: make.interval([scores[0]] * 2, split))


def test_the_table_was_made_with_the_source_that_ships_and_agrees_with_its_runs():
    assert TABLE["source_sha256"] == ULTRASOUND_SHA256, (
        "run data/results/make_learning_curve.py again"
    )
    kept = {(r["data"], r["n_train"], r["seed"], r["source"]): r["auc"] for r in TABLE["runs"]}
    mean = lambda data, n, source: np.mean([kept[data, n, seed, source] for seed in TABLE["seeds"]])
    assert len(TABLE["seeds"]) >= 5 and min(TABLE["seeds"]) >= 1000
    for row in TABLE["summary"]:
        if row["test"] != "twin-free":
            data = "simulated" if row["test"] == "simulated" else "real"
            a, b = mean(data, row["n_train"], row["source"]), mean(data, row["n_train"], "random")
            assert np.allclose([row["a"], row["b"], row["difference"]], [a, b, a - b], atol=3e-4)
            assert row["low"] < row["difference"] < row["high"] and row["n_seeds"] == len(
                TABLE["seeds"]
            )


@pytest.fixture(scope="module")
def again(make):
    """The slice, trained anew: 25 and 50 labels, two seeds, from scratch and from ultrasound."""
    test = make.test_set("simulated")
    auc = lambda n, seed, source: roc_auc_score(
        test.labels, make.run("simulated", n, seed, source)[0][:, test.positive]
    )
    return {
        (n, seed, source): auc(n, seed, source)
        for n in FEW
        for seed in (1000, 1001)
        for source in BOTH
    }


def slice_agrees(table: dict, again: dict) -> bool:
    """Means over the slice, and the gain, within 0.12: single runs move by more where another processor rounds otherwise."""
    kept = {
        (r["n_train"], r["seed"], r["source"]): r["auc"]
        for r in table["runs"]
        if r["data"] == "simulated"
    }
    mean = lambda aucs, source: np.mean([aucs[key] for key in again if key[2] == source])
    off = {source: mean(again, source) - mean(kept, source) for source in BOTH}
    return max(*map(abs, off.values()), abs(off["ultrasound"] - off["random"])) < 0.12


def test_a_slice_of_the_learning_curve_is_reproduced(again):
    assert slice_agrees(TABLE, again)


def test_the_slice_test_bites(again):
    """Planted: a table in which scratch and ultrasound are swapped; and one that flatters transfer by 0.15."""
    swapped, flattered = copy.deepcopy(TABLE), copy.deepcopy(TABLE)
    for row in swapped["runs"]:
        row["source"] = {"random": "ultrasound", "ultrasound": "random"}.get(
            row["source"], row["source"]
        )
    for row in flattered["runs"]:
        row["auc"] += 0.15 * (row["source"] == "ultrasound")
    assert not slice_agrees(swapped, again) and not slice_agrees(flattered, again)


def test_digits_are_a_task_of_their_own(make):
    task = make.digits_task()
    assert len(task.train) == 1400 and len(task.val) == 397 and len(task.classes) == 10
    assert int(task.train.images.max()) == 255 and task.train.images.shape[1:] == (1, 64, 64)
    seen = {i.numpy().tobytes() for i in task.train.images}
    assert not any(i.numpy().tobytes() in seen for i in task.val.images)
    assert TABLE["digits"]["accuracy"] > 0.9


# ---- widgets ----------------------------------------------------------------------------------------------------------------


def test_learning_curve_widget_from_end_to_end(shown):
    box = widgets.transfer_against_n(TABLE, test="simulated")
    handle = box.children[0].children[0]
    rows = {(r["n_train"], r["source"]): r for r in TABLE["summary"] if r["test"] == "simulated"}
    pictures = set()
    for k, n in enumerate((25, 50, 100, 600)):
        handle.value = k
        u, d = rows[n, "ultrasound"], rows[n, "digits"]
        assert (
            f"With {n} labelled simulated images the AUC is {u['b']:.2f} from scratch and {u['a']:.2f} with ultrasound"
            in picture(box)
        )
        assert (
            f"{d['a']:.2f} with digits, a gain of {d['difference']:+.2f} ({d['low']:+.2f} to {d['high']:+.2f})"
            in picture(box)
        )
        pictures.add(picture(box))
    assert len(pictures) == 4 and handle.max == 3
    with pytest.raises(ValueError, match="It has: .*simulated"):
        widgets.transfer_against_n(TABLE, test="official, twin-free")


def test_posterior_widget_gives_bayes_number(shown):
    box = widgets.posterior_by_descriptor(phantom.LIKELIHOODS, phantom.DESCRIPTORS)
    margin, echo, posterior, others, prevalence = (row.children[0] for row in box.children[:-1])
    seen = {}
    for m, e, p, o, percent in (
        (0, 0, 0, 0, 40),
        (3, 2, 2, 4, 1),
        (3, 0, 2, 4, 60),
        (0, 2, 1, 0, 1),
        (1, 1, 1, 2, 42),
    ):
        margin.value, echo.value, posterior.value, others.value, prevalence.value = (
            m,
            e,
            p,
            o,
            percent,
        )
        signs = {0: (0, 0, 0), 1: (1, 0, 0), 2: (0, 1, 0), 4: (1, 1, 1)}[o]
        d = {"margin": m, "echo": e, "posterior": p} | dict(
            zip(("orientation", "calcifications", "halo"), signs)
        )
        sides = [
            np.array([phantom.LIKELIHOODS[name][label][k] for name, k in d.items()])
            for label in (1, 0)
        ]
        assert f"probability of malignancy is {bayes(percent / 100, *sides):.2f}" in picture(box)
        assert picture(box) not in seen
        seen[picture(box)] = d
    assert "orientation parallel 0.54" in picture(box)
