"""Deep dive 01: the best AUC, the interval by hand and that over trainings, by other routes."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medtl_utils import phantom
from studies.evidence_stats import Estimate, Fold, estimate, summary
from tests.chapters.notebook_code import namespace


def best_is_sklearns(*mistakes) -> bool:
    """Every combination in plain Python, weighed by scikit-learn; the helper's own number, too."""
    notebook = namespace("01_deep", *mistakes)
    benign, malignant = notebook["all_lesions"](phantom.CHANCES)
    sides = []
    for k in (0, 1):
        tables = [by_class[k].ravel() for by_class in phantom.CHANCES.values()]
        sides.append([float(np.prod(one)) for one in itertools.product(*tables)])
    score = np.log(np.divide(sides[1], sides[0])).round(9)
    labels = np.repeat([0, 1], len(score))
    want = roc_auc_score(labels, np.tile(score, 2), sample_weight=np.concatenate(sides))
    got = notebook["exact_auc"](score, benign, malignant)
    coarse = score.round()  # many ties
    want_coarse = roc_auc_score(labels, np.tile(coarse, 2), sample_weight=np.concatenate(sides))
    got_coarse = notebook["exact_auc"](coarse, benign, malignant)
    same = np.allclose(benign, sides[0]) and np.allclose(malignant, sides[1])
    return bool(same and np.allclose([got, got_coarse], [want, want_coarse], atol=1e-9)) and (
        abs(got - phantom.best_auc()) < 1e-9
    )


def test_the_best_possible_auc():
    assert best_is_sklearns()


@pytest.mark.parametrize(
    "mistake",
    [
        ("b.cumsum() - b / 2", "b.cumsum()"),
        ("np.bincount(place, benign)", "np.bincount(place)"),
        ("zip(sides, tables)", "zip(sides, tables[::-1])"),
    ],
    ids=["ties count one", "every combination as frequent", "classes swapped"],
)
def test_the_test_of_the_best_bites(mistake):
    assert not best_is_sklearns(mistake)


def images() -> Fold:
    """40 images in 16 groups, with ties."""
    rng = np.random.default_rng(5)
    positive = rng.random(40) < 0.4
    score = (positive + rng.normal(size=40)).round(1)
    return Fold(score[None], positive, rng.integers(0, 16, 40))


def interval_is_the_studys(*mistakes) -> bool:
    """Against the jackknife of the evidence, which counts pairs instead of leaving groups out."""
    fold, notebook = images(), namespace("01_deep", *mistakes)
    score, y = fold.scores[0], fold.positive.astype(int)
    got = notebook["interval"](lambda rows: notebook["auc"](score[rows], y[rows]), fold.group)
    want = summary(estimate([[fold]]))
    se = notebook["jackknife"](lambda rows: notebook["auc"](score[rows], y[rows]), fold.group)
    return np.allclose([*got, se], [want[k] for k in ("value", "low", "high", "sd_groups")])


def test_the_interval_by_hand():
    assert interval_is_the_studys()


@pytest.mark.parametrize(
    "mistake",
    [
        ("(len(names) - 1) / len(names)", "1"),
        ("names = np.unique(group)", "names = np.arange(len(group))"),
        ("0.5 * (up == down)", "0 * (up == down)"),
        ("stats.t.ppf(0.975", "stats.t.ppf(0.95"),
    ],
    ids=["a factor forgotten", "as many groups as images", "ties lost", "a 90 % interval"],
)
def test_the_test_of_the_interval_bites(mistake):
    assert not interval_is_the_studys(mistake)


def trainings_are_the_studys(*mistakes) -> bool:
    """Against the evidence's own sum of both variances, for trainings of a known spread."""
    half = namespace("01_deep", *mistakes)["with_trainings"]
    rng = np.random.default_rng(3)
    for n in (2, 3, 10):
        values = rng.normal(0.8, 0.02, n)
        without = np.repeat(rng.normal(0.8, 0.01, 50)[None], n, 0)  # 50 groups
        found = summary(Estimate(values, without))
        got = half(found["sd_groups"], 50, found["sd_trainings"], n)
        if not np.isclose(got, (found["high"] - found["low"]) / 2):
            return False
    return True


def test_an_interval_over_images_and_trainings():
    assert trainings_are_the_studys()


@pytest.mark.parametrize(
    "mistake",
    [("sd ** 2 / n_trainings", "sd ** 2"), ("between ** 2 / (n_trainings - 1)", "0")],
    ids=["not divided by their number", "as if sure of the spread"],
)
def test_the_test_of_the_trainings_bites(mistake):
    assert not trainings_are_the_studys(mistake)
