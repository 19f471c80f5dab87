"""Notebook 09: H-score, LEEP, LogME and Kendall's tau against brute force."""

import numpy as np
import pytest
from scipy import optimize, stats

from studies import transferability as study
from tests.chapters.notebook_code import function, namespace

N = namespace("09")


def small(seed: int, classes: int, n: int = 40, p: int = 6):
    """Features with some knowledge of the labels, and labels of unequal frequency."""
    rng = np.random.default_rng(seed)
    y = np.minimum(rng.integers(0, classes + 1, n), classes - 1)
    return rng.normal(size=(n, p)) * np.arange(1, p + 1) + y[:, None] * np.linspace(0, 2, p) + 3, y


# ---- H-score -------------------------------------------------------------------------------------


def is_canonical(h_score) -> bool:
    """The sum of the squared canonical correlations of features and class indicators.

    For two classes it is the R squared of a least-squares line.
    """
    for seed, classes in ((0, 2), (1, 3), (2, 4)):
        x, y = small(seed, classes)
        q_x = np.linalg.qr(x - x.mean(0))[0]
        indicators = (y[:, None] == np.arange(1, classes)).astype(float)
        q_y = np.linalg.qr(indicators - indicators.mean(0))[0]
        want = (np.linalg.svd(q_x.T @ q_y, compute_uv=False) ** 2).sum()
        if not np.isclose(h_score(x, y), want, atol=1e-9):
            return False
        if classes == 2:
            line = np.column_stack([np.ones(len(y)), x])
            rest = y - line @ np.linalg.lstsq(line, y, rcond=None)[0]
            if not np.isclose(want, 1 - rest @ rest / ((y - y.mean()) ** 2).sum()):
                return False
    return True


def test_the_h_score_is_a_sum_of_canonical_correlations():
    assert is_canonical(N["h_score"]) and is_canonical(study.h_score)


@pytest.mark.parametrize(
    "change",
    [
        ("for z in (x - x.mean(0), means)", "for z in (x, means)"),
        ("np.linalg.pinv(both, hermitian=True) @ between", "both @ between"),
        ("x[y == c].mean(0)", "x[y == c].sum(0)"),
        ("[y] - x.mean(0)", "[y]"),
    ],
)
def test_the_h_score_test_bites(change):
    assert not is_canonical(function("09", "h_score", change))


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    x = small(3, 2)[0]
    right = PCA(3).fit_transform(x)
    same = lambda f: np.allclose(abs(f(x, 3)), abs(right))
    assert same(N["principal"]) and same(study.principal)
    assert not same(function("09", "principal", ("x - x.mean(0)", "x")))


# ---- LEEP ----------------------------------------------------------------------------------------


def is_counted(leep) -> bool:
    """Image by image and answer by answer, as the paper writes it."""
    for seed, classes in ((0, 2), (1, 3)):
        rng = np.random.default_rng(seed)
        y, theta = rng.permutation(np.arange(30) % classes), rng.dirichlet(np.ones(5), 30)
        total = 0.0
        for i in range(30):
            prediction = 0.0
            for z in range(5):
                joint = sum(theta[k, z] for k in range(30) if y[k] == y[i]) / 30
                marginal = sum(theta[k, z] for k in range(30)) / 30
                prediction += joint / marginal * theta[i, z]
            total += np.log(prediction)
        if not np.isclose(leep(theta, y), total / 30):
            return False
    return True


def test_leep_is_counted():
    assert (
        is_counted(N["leep"])
        and is_counted(study.leep)
        and is_counted(namespace("09_deep")["leep"])
    )
    heads = [np.full((30, 2), 0.5), np.random.default_rng(1).dirichlet(np.ones(5), 30)]
    y = np.arange(30) % 2
    assert study.leep_of_heads(heads, y) == max(study.leep(h, y) for h in heads)


@pytest.mark.parametrize(
    "change",
    [
        ("joint / joint.sum(0)", "joint / joint.sum(1, keepdims=True)"),
        ("joint / joint.sum(0)", "joint / joint.sum()"),
        ("answers[y == c].sum(0)", "answers[y != c].sum(0)"),
        ("answers @ (joint", "(answers > 0.5) @ (1e-9 + joint"),
    ],
)
def test_the_leep_test_bites(change):
    assert not is_counted(function("09", "leep", change))


# ---- LogME ---------------------------------------------------------------------------------------


def best_evidence(x, y) -> float:
    """The largest log density of y (per image), over alpha and beta, by a search."""
    n = len(y)

    def minus(logs):
        alpha, beta = np.exp(logs)
        covariance = np.eye(n) / beta + x @ x.T / alpha
        return -stats.multivariate_normal(np.zeros(n), covariance).logpdf(y)

    found = optimize.minimize(minus, [0.0, 0.0], method="Nelder-Mead", options={"maxiter": 2000})
    return -found.fun / n


def is_largest_evidence(log_evidence, log_me) -> bool:
    for seed, p in ((0, 6), (1, 3), (2, 60)):
        x, y = small(seed, 2, 40, p)
        x = x / np.arange(1, p + 1)
        want = [best_evidence(x, (y == c).astype(float)) for c in (0, 1)]
        if not np.isclose(log_evidence(x, (y == 1).astype(float)), want[1], atol=1e-4):
            return False
        if not np.isclose(log_me(x, y), np.mean(want), atol=1e-4):
            return False
    return True


def test_log_me_is_the_largest_evidence():
    assert is_largest_evidence(N["log_evidence"], N["log_me"])
    assert is_largest_evidence(study.log_evidence, study.log_me)


@pytest.mark.parametrize(
    "change",
    [
        ("p * np.log(alpha)", "np.log(alpha)"),
        ("- np.log(A).sum()", "+ np.log(A).sum()"),
        ("(n - gamma) / error", "n / error"),
        ("gamma / (m @ m)", "p / (m @ m)"),
        ("np.log(beta / 2 / np.pi)", "np.log(beta)"),
    ],
)
def test_the_log_me_test_bites(change):
    planted = namespace("09", change, within="log_evidence")
    assert not is_largest_evidence(planted["log_evidence"], planted["log_me"])


def test_turned_features_have_the_same_scores():
    """What lets the table keep 100 numbers an image: scores do not see a rotation."""
    x, y = small(4, 2, 30, 50)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    for score in (study.log_me, lambda x, y: study.h_score(study.principal(x, 8), y)):
        assert np.isclose(score(u * s, y), score(x, y), atol=1e-6)
        assert not np.isclose(score(u, y), score(x, y), atol=1e-6)  # planted: lengths lost


# ---- derivations of the deep dive ----------------------------------------------------------------


def forms_agree(by_weights) -> bool:
    x, y = small(5, 2, 20, 4)
    want = namespace("09_deep")["evidence_by_density"](x, y.astype(float), 0.7, 1.6)
    return bool(np.isclose(by_weights(x, y.astype(float), 0.7, 1.6), want))


def test_both_forms_of_the_evidence_agree():
    assert forms_agree(namespace("09_deep")["evidence_by_weights"])
    for change in (("+ alpha * m @ m", "+ m @ m"), ("alpha * np.eye(p)", "np.eye(p)")):
        assert not forms_agree(function("09_deep", "evidence_by_weights", change))


def finds_the_top(best) -> bool:
    x, y = small(6, 2, 40, 5)
    x, y = x / np.arange(1, 6), y.astype(float)
    alpha, beta, _ = best(x, y)
    top = namespace("09_deep")["evidence_by_weights"](x, y, alpha, beta) / len(y)
    return bool(np.isclose(top, best_evidence(x, y), atol=1e-5))


def test_the_fixed_point_is_the_top():
    assert finds_the_top(namespace("09_deep")["best"])
    assert not finds_the_top(function("09_deep", "best", ("len(y) - gamma", "len(y)")))


# ---- Kendall's tau -------------------------------------------------------------------------------


def is_kendall(tau, ties: bool) -> bool:
    rng = np.random.default_rng(0)
    pairs = [(rng.permutation(6), rng.permutation(6)) for _ in range(10)]
    pairs += [(rng.integers(0, 3, 6), rng.permutation(6)) for _ in range(10)] if ties else []
    return all(np.isclose(tau(a, b), stats.kendalltau(a, b).statistic) for a, b in pairs)


def test_tau_is_scipys():
    assert is_kendall(N["tau"], ties=False) and is_kendall(study.rank_correlation, ties=True)
    assert not is_kendall(function("09", "tau", ("range(i)", "range(len(a))")), ties=False)
