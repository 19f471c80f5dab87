"""Metrics against scikit-learn, intervals against SciPy and simulation, patients as the unit."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics

from medtl_utils import intervals
from medtl_utils.data import Split, Task
from medtl_utils.evaluation import compare, evaluate
from medtl_utils.metrics import bootstrap_counts
from medtl_utils.reports import report


def make(n=120, effect=1.5, seed=0, per_patient=1, positive=1, shift=0.7, ties=False):
    """A split and scores for it; images of one patient share most of their score."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(n // per_patient), per_patient)
    disease = rng.random(n // per_patient) < 0.4
    disease[:4] = [True, True, False, False]
    z = (effect * disease + rng.normal(size=len(disease)))[people] + (
        0.3 * rng.normal(size=n) if per_patient > 1 else 0
    )
    z = np.round(z) if ties else z
    p = 1 / (1 + np.exp(-(z - shift)))
    y = disease[people].astype(int)
    labels, columns = (y, [1 - p, p]) if positive == 1 else (1 - y, [p, 1 - p])
    images = torch.zeros(n, 1, 2, 2, dtype=torch.uint8)
    patients = np.array([f"p{i}" for i in people])
    return Split(
        "test", images, torch.tensor(labels), ("a", "b"), positive, patients
    ), torch.tensor(np.stack(columns, 1))


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("ties", [False, True])
def test_values_equal_scikit_learn(positive, ties):
    split, scores = make(positive=positive, ties=ties)
    result = evaluate(scores, split, n_boot=50)
    y, p = (split.labels == positive).numpy(), scores[:, positive].numpy()
    want = {
        "auc": metrics.roc_auc_score(y, p),
        "accuracy": metrics.accuracy_score(y, p >= 0.5),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, p >= 0.5),
        "sensitivity": metrics.recall_score(y, p >= 0.5),
        "specificity": metrics.recall_score(~y, p < 0.5),
        "brier": metrics.brier_score_loss(y, p),
    }
    assert {k: v[0] for k, v in result.items()} == pytest.approx(want)
    assert all(low <= value <= high for value, low, high in result.values())
    swapped = Split(
        **{**split.__dict__, "positive": 1 - positive}
    )  # planted mistake: the wrong positive class
    assert evaluate(scores, swapped, n_boot=50)["sensitivity"][0] != pytest.approx(
        want["sensitivity"]
    )


def test_many_classes_equal_scikit_learn():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 4, 200), rng.dirichlet(np.ones(4), 200)
    split = Split(
        "test", torch.zeros(200, 1, 2, 2, dtype=torch.uint8), torch.tensor(y), tuple("abcd")
    )
    result = evaluate(torch.tensor(p), split, n_boot=50)
    assert set(result) == {"auc", "accuracy", "balanced_accuracy", "brier"}
    assert result["auc"][0] == pytest.approx(metrics.roc_auc_score(y, p, multi_class="ovr"))
    assert result["balanced_accuracy"][0] == pytest.approx(
        metrics.balanced_accuracy_score(y, p.argmax(1))
    )


def bca_agrees_with_scipy(n_boot=6000) -> bool:
    """BCa interval of accuracy against scipy.stats.bootstrap, which does not stratify: one
    class."""
    split, scores = make(n=150, seed=3)
    right = ((scores[:, 1] >= 0.5).long() == split.labels).numpy().astype(float)
    stratum = np.zeros(150, int)
    weights = bootstrap_counts(stratum, n_boot, np.random.default_rng(0))
    jack = (1 - np.eye(150)) @ right / 149
    low, high = intervals.bca(right.mean(), weights @ right / 150, jack, 0.95)
    want = stats.bootstrap(
        (right,), np.mean, n_resamples=n_boot, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    return abs(low - want.low) < 0.008 and abs(high - want.high) < 0.008


def test_bca_equals_scipys():
    assert bca_agrees_with_scipy()


def test_the_bca_test_bites(monkeypatch):
    monkeypatch.setattr(
        intervals, "bca", lambda value, boot, jack, level: tuple(np.quantile(boot, [0.05, 0.95]))
    )
    assert not bca_agrees_with_scipy()


def width(scores, split):
    _, low, high = evaluate(scores, split, n_boot=800)["auc"]
    return high - low


def test_patients_not_images_are_the_unit():
    """Four images a patient say little more than one: treating them as independent makes the
    interval too short."""
    split, scores = make(n=400, per_patient=4, seed=1)
    as_images = Split(**{**split.__dict__, "patients": None})
    assert width(scores, split) > 1.5 * width(scores, as_images)


def test_perfect_scores_still_have_an_interval():
    split, _ = make(n=40)
    perfect = torch.nn.functional.one_hot(split.labels, 2).double()
    result = evaluate(perfect, split)
    for name in ("auc", "sensitivity", "specificity"):
        value, low, high = result[name]
        assert value == high == 1 and 0.5 < low < 1
    positives = int((split.labels == 1).sum())
    assert result["sensitivity"][1] == pytest.approx(
        stats.binomtest(positives, positives).proportion_ci(method="exact").low
    )
    value, low, high = evaluate(1 - perfect, split)["sensitivity"]
    assert value == low == 0 and high < 0.5


def test_same_seed_same_interval():
    split, scores = make()
    assert (
        evaluate(scores, split, seed=1)
        == evaluate(scores, split, seed=1)
        != evaluate(scores, split, seed=2)
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s[:-1], "shape"),
        (lambda s: s[:, :1], "shape"),
        (lambda s: s * float("nan"), "NaN"),
        (lambda s: torch.log(s), "not logits"),
        (lambda s: s * 2, "summing to 1"),
    ],
)
def test_scores_that_do_not_fit(spoil, message):
    split, scores = make()
    with pytest.raises(ValueError, match=message):
        evaluate(spoil(scores), split)


def test_one_class_only():
    split, scores = make()
    keep = split.labels.numpy() == 1
    with pytest.raises(ValueError, match="one class only"):
        evaluate(scores[keep], split[keep])


def test_compare_equals_a_loop():
    """Jackknife over patients and seed variance, written out naively with scikit-learn."""
    split, _ = make(n=60, per_patient=2, seed=5)
    sides = [
        [make(n=60, per_patient=2, seed=5, effect=e, shift=s)[1] for s in (0.5, 0.7, 0.9)]
        for e in (2.0, 1.0)
    ]
    rng = np.random.default_rng(0)
    for side in sides:
        for k, s in enumerate(side):
            z = torch.logit(s[:, 1]) + torch.tensor(rng.normal(size=60))
            side[k] = torch.stack([torch.sigmoid(-z), torch.sigmoid(z)], 1)
    got = compare(*sides, split)
    y, people = split.labels.numpy(), split.patients
    gap = lambda keep: np.array(
        [
            metrics.roc_auc_score(y[keep], a[keep, 1]) - metrics.roc_auc_score(y[keep], b[keep, 1])
            for a, b in zip(*sides)
        ]
    )
    full = gap(np.ones(60, bool))
    jack = np.array([gap(people != p).mean() for p in np.unique(people)])
    variance = 29 / 30 * ((jack - jack.mean()) ** 2).sum() + full.var(ddof=1) / 3
    assert got["difference"] == pytest.approx(full.mean()) and got["a"] - got["b"] == pytest.approx(
        full.mean()
    )
    assert got["se_patients"] ** 2 + got["sd_seeds"] ** 2 / 3 == pytest.approx(variance)
    assert got["low"] < got["difference"] < got["high"]
    only_patients = 1.96 * got["se_patients"]
    assert (
        got["high"] - got["difference"] > only_patients
    )  # planted mistake: seeds forgotten makes it shorter


def test_compare_refuses():
    split, scores = make()
    with pytest.raises(ValueError, match="same number of seeds"):
        compare([scores], [scores], split)
    with pytest.raises(ValueError, match="Unknown metric 'f1'"):
        compare([scores] * 2, [scores] * 2, split, "f1")
    same = compare([scores] * 3, [scores] * 3, split)
    assert same["difference"] == same["low"] == same["high"] == 0 and same["p"] == 1


def test_report_quotes_level_and_openings(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDTL_LEDGER", str(tmp_path))
    split, scores = make()
    task = Task("mine", split, split, "", split)
    text = report(evaluate(scores, split, n_boot=50, level=0.9), split, task)
    assert "opened 0 time(s) in this run: never; never opened before" in text
    assert "90 % intervals: BCa" in text and "95 %" not in text
    task.open_test("final")
    task.open_test("again", reopen=True)
    result = evaluate(scores, split, n_boot=50)
    text = report(result, split, task)
    assert (
        "opened 2 time(s) in this run: 1. final; 2. again" in text and "never opened before" in text
    )
    assert "95 % intervals: BCa" in text and "balanced accuracy" in text
    later = Task("mine", split, split, "", split)
    later.open_test("once more")
    text = report(result, split, later)
    assert "opened 1 time(s) in this run: 1. once more; opened 2 times before, last " in text
    assert text.endswith("for: 'again'")
