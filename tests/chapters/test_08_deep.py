"""Deep dive 08: harmonisation, late fusion against Bayes' rule, folds that hold a woman out."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from studies import small_data_fusion
from tests.chapters.notebook_code import function, namespace

N = namespace("08_deep")


def alike_after(within) -> bool:
    """Two hospitals with other means and SDs have the same afterwards."""
    rng = np.random.default_rng(0)
    sites = [rng.normal(3, 2, (200, 5)), rng.normal(-1, 0.5, (80, 5))]
    flat = [within(x, x) for x in sites]
    return all(
        np.allclose(x.mean(0), 0, atol=1e-5) and np.allclose(x.std(0), 1, atol=1e-3) for x in flat
    )


def test_harmonised_hospitals_have_the_same_mean_and_sd():
    assert alike_after(N["within"]) and alike_after(small_data_fusion.standardised)
    for change in (("x - like.mean(0)", "x"), ("like.std(0)", "like.var(0)")):
        assert not alike_after(function("08_deep", "within", change))


def greys_agree(greys_like) -> bool:
    torch.manual_seed(0)
    one = (120 + 20 * torch.randn(4, 1, 32, 32)).to(torch.uint8)
    other = (90 + 35 * torch.randn(4, 1, 32, 32)).clamp(0, 255).to(torch.uint8)
    got = greys_like(one, other).float()
    close = lambda a, b: abs(float(a) - float(b)) < 1
    return close(got.mean(), other.float().mean()) and close(got.std(), other.float().std())


def test_matched_greys_have_the_mean_and_sd_of_the_other_hospital():
    assert greys_agree(N["greys_like"]) and greys_agree(small_data_fusion.greys_matched)
    planted = ("+ other.float().mean()", "+ x.mean()")
    assert not greys_agree(function("08_deep", "greys_like", planted))


def late_is_bayes(log_odds) -> bool:
    """Two normal measurements, independent given the class: the sum is as good as can be."""
    rng, y = np.random.default_rng(1), np.repeat([0, 1], [3000, 2000])
    shifts = (0.9, 1.4)
    made = lambda: [rng.standard_normal((5000, 1)) + shift * y[:, None] for shift in shifts]
    train, new = made(), made()
    odds = [log_odds(x, y, x_new) for x, x_new in zip(train, new)]
    best = stats.norm.cdf(np.hypot(*shifts) / 2**0.5)
    prior = np.log(2000 / 3000)
    truth = [s * (x[:, 0] - s / 2) + prior for s, x in zip(shifts, new)]  # log-odds by Bayes
    close = all(np.abs(o - t).mean() < 0.2 for o, t in zip(odds, truth))
    return close and abs(roc_auc_score(y, sum(odds)) - best) < 0.015


def test_the_sum_of_log_odds_is_bayes_rule():
    assert late_is_bayes(N["log_odds"]) and late_is_bayes(small_data_fusion.fitted)
    assert not late_is_bayes(lambda x, y, new: N["log_odds"](x, 1 - y, new))
    assert not late_is_bayes(lambda x, y, new: 1 / (1 + np.exp(-N["log_odds"](x, y, new))))


def random_is_random(space: dict) -> bool:
    """Labels dealt at random are not recognised: nobody is scored by a model that saw her."""
    rng, found = np.random.default_rng(2), []
    for seed in range(6):
        space |= {"target": rng.permutation(np.arange(120) % 2), "age": rng.normal(50, 9, 120)}
        space |= {"said": rng.integers(0, 2, (120, 30)).astype(float)}
        scores = space["out_of_fold"](("age", "descriptors"), seed)
        found.append(roc_auc_score(space["target"], scores))
    return np.mean(found) < 0.58


def test_no_woman_is_scored_by_a_model_that_saw_her():
    assert random_is_random(namespace("08_deep"))
    planted = ("log_odds(x[fit], target[fit], x[out])", "log_odds(x, target, x[out])")
    assert not random_is_random(namespace("08_deep", planted, within="out_of_fold"))


@pytest.mark.parametrize("mistake", [None, ("rng.choice(k, len(k))", "k[:len(k)]")])
def test_the_interval_over_women_covers_a_known_difference(mistake):
    """Against DeLong's normal interval on one set, ends within 0.02; planted: nothing is drawn."""
    space = namespace("08_deep", *([mistake] if mistake else []), within="over_women")
    rng = np.random.default_rng(3)
    space |= {"target": np.repeat([0, 1], [150, 100]), "SEED": 0}
    score = rng.standard_normal(250) + space["target"]
    value, low, high = space["over_women"](score)
    ill, well = score[150:], score[:150]
    wins = (ill[:, None] > well).astype(float)
    se = (wins.mean(1).var(ddof=1) / 100 + wins.mean(0).var(ddof=1) / 150) ** 0.5
    near = abs(low - (value - 1.96 * se)) < 0.02 and abs(high - (value + 1.96 * se)) < 0.02
    assert near == (mistake is None) and value == wins.mean()
