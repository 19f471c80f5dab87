"""Chapter 04: the largest stable rate, power iteration and the logistic loss, against others."""

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tests.chapters.notebook_code import function


def bowls():
    for seed in range(5):
        root = np.random.default_rng(seed).normal(size=(4, 4))
        yield root @ root.T + 0.5 * np.eye(4)


def bound_is_sharp(bound) -> bool:
    """Half a per cent below `bound(H)` gradient descent converges, half a per cent above not."""
    descend = function("04", "descend")
    for H in bowls():
        far = {}
        for factor in (0.995, 1.005):
            with np.errstate(all="ignore"):  # what diverges overflows
                path = descend(lambda theta, H=H: H @ theta, np.ones(4), factor * bound(H), 3000)
            far[factor] = np.linalg.norm(path[-1]) / np.linalg.norm(path[0])
        if not far[0.995] < 1e-3 < 1e3 < far[1.005]:
            return False
    return True


def test_largest_stable_alpha():
    assert bound_is_sharp(function("04", "largest_stable_alpha"))


@pytest.mark.parametrize(
    "mutant",
    [
        lambda H: 1 / np.linalg.eigvalsh(H).max(),
        lambda H: 2 / np.linalg.eigvalsh(H).min(),
        lambda H: 2 / np.trace(H),
    ],
    ids=["1/lambda_max", "2/lambda_min", "2/trace"],
)
def test_the_bound_test_bites(mutant):
    assert not bound_is_sharp(mutant)


def components_shrink_as_predicted(descend) -> bool:
    for H in bowls():
        eigenvalues, vectors = scipy.linalg.eigh(H)
        alpha = 1.3 / eigenvalues[-1]
        errors = descend(lambda theta, H=H: H @ (theta - 2), np.arange(4.0), alpha, 25) - 2
        want = (1 - alpha * eigenvalues) ** np.arange(26)[:, None] * (errors[0] @ vectors)
        if not np.allclose(errors @ vectors, want, atol=1e-9):
            return False
    return True


@pytest.mark.parametrize("notebook", ["04", "04_deep"])
def test_each_component_shrinks_by_its_factor(notebook):
    right = function(notebook, "descend")
    upwards = function(notebook, "descend", ("path[-1] - alpha", "path[-1] + alpha"))
    assert components_shrink_as_predicted(right)
    assert not components_shrink_as_predicted(upwards)
    assert not components_shrink_as_predicted(lambda *a: right(*a, beta=0.1))


def power_iteration_agrees(top_eigenvalue) -> bool:
    """Against SciPy on a bowl whose two largest eigenvalues lie close together."""
    rotation = scipy.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    H = rotation @ np.diag([5.0, 4.6, 2, 1, 0.1]) @ rotation.T
    loss = lambda theta: theta @ torch.tensor(H) @ theta / 2
    value, direction = top_eigenvalue(loss, torch.zeros(5, dtype=torch.float64))
    wanted = np.abs(scipy.linalg.eigh(H)[1][:, -1])
    return abs(value - 5) < 1e-6 and np.allclose(np.abs(direction.numpy()), wanted, atol=1e-3)


def test_power_iteration():
    assert power_iteration_agrees(function("04_deep", "top_eigenvalue"))
    hasty = function("04_deep", "top_eigenvalue", ("steps=100", "steps=3"))
    assert not power_iteration_agrees(hasty)


def rate_is_right(largest_stable_rate) -> bool:
    """Of the copy cell: against SciPy on a bowl, and on a saddle that bends down more than up."""
    rotation = scipy.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    torch.manual_seed(0)
    for curvature in ([5.0, 3, 2, 1, 0.1], [-6.0, 2, 1, 0.5, 0.1]):
        H = torch.tensor(rotation @ np.diag(curvature) @ rotation.T)
        parts = [torch.ones(2, dtype=torch.float64), torch.ones(3, dtype=torch.float64)]
        frozen = torch.ones(1, dtype=torch.float64)
        theta = torch.cat([part.requires_grad_() for part in parts])
        loss = theta @ H @ theta / 2 + 100 * frozen.sum() ** 2
        rate = largest_stable_rate(loss, [*parts, frozen])
        if not np.isclose(rate, 2 / scipy.linalg.eigvalsh(H.numpy())[-1], rtol=1e-4):
            return False
    return True


def test_the_rate_of_the_copy_cell():
    assert rate_is_right(function("04", "largest_stable_rate", copy=True))
    for mistake in [("2 / (top + shift)", "1 / (top + shift)"), ("shift = top", "shift = 0.0")]:
        assert not rate_is_right(function("04", "largest_stable_rate", mistake, copy=True))


# ---- logistic regression ------------------------------------------------------------------------


def optimum_is_sklearns(gradient, C_of=lambda m, lam: 1 / (m * lam)) -> bool:
    """On the Wisconsin tumours: descent with `gradient` ends where scikit-learn's solver does."""
    data = load_breast_cancer()
    X, y, lam = StandardScaler().fit_transform(data.data), 1.0 - data.target, 0.05
    theta = np.zeros(31)
    for _ in range(8000):
        theta = theta - 0.5 * gradient(theta, X, y, lam)
    other = LogisticRegression(C=C_of(len(y), lam), tol=1e-10, max_iter=10_000).fit(X, y)
    return np.abs(theta - np.append(other.coef_[0], other.intercept_)).max() < 1e-5


@pytest.mark.parametrize("notebook", ["04", "04_deep"])
def test_the_logistic_optimum_is_sklearns(notebook):
    assert optimum_is_sklearns(function(notebook, "logistic_gradient"))


@pytest.mark.parametrize(
    "mistake",
    [
        ("np.mean(p - y)", "np.mean(p - y) + lam * theta[-1]"),
        ("+ lam * theta[:-1]", ""),
        ("/ len(y)", "/ len(y) / 2"),
    ],
    ids=["intercept penalised", "no penalty", "another mean"],
)
def test_the_logistic_test_bites(mistake):
    assert not optimum_is_sklearns(function("04", "logistic_gradient", mistake))


def test_the_logistic_test_knows_what_C_is():
    """Planted: C taken for 1 / lambda."""
    gradient = function("04", "logistic_gradient")
    assert not optimum_is_sklearns(gradient, lambda m, lam: 1 / lam)


def gradient_equals_differences(gradient) -> bool:
    loss = function("04", "logistic_loss")
    rng = np.random.default_rng(0)
    X, y, theta = rng.normal(size=(9, 4)), (rng.random(9) > 0.5).astype(float), rng.normal(size=5)
    steps = 1e-6 * np.eye(5)
    up, down = ([loss(theta + sign * d, X, y, 0.3) for d in steps] for sign in (1, -1))
    numerical = (np.array(up) - down) / 2e-6
    return np.allclose(numerical, gradient(theta, X, y, 0.3), atol=1e-8)


def test_logistic_gradient_against_differences():
    assert gradient_equals_differences(function("04", "logistic_gradient"))
    no_penalty = function("04", "logistic_gradient", ("+ lam * theta[:-1]", ""))
    assert not gradient_equals_differences(no_penalty)
