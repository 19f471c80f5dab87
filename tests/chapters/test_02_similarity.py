"""Deep dive 02: CKA against another definition; its transplant against the study's."""

import numpy as np
import pytest
import torch

from studies import transplant as study
from tests.chapters.notebook_code import function


def hsic_cka(X, Y) -> float:
    """HSIC of the two centred Gram matrices, normalised.

    After Gretton et al. 2005 and Cortes et al. 2012.
    """
    n = len(X)
    H = np.eye(n) - np.ones((n, n)) / n
    K, L = H @ (X @ X.T) @ H, H @ (Y @ Y.T) @ H
    return np.trace(K @ L) / np.sqrt(np.trace(K @ K) * np.trace(L @ L))


def cka_agrees(cka) -> bool:
    rng = np.random.default_rng(4)
    cases = [(rng.normal(2, 1, (30, 7)), rng.normal(-1, 3, (30, 4))) for _ in range(5)]
    cases += [(X, X[:, :3] @ rng.normal(size=(3, 9)) + 1) for X, _ in cases]
    return all(abs(cka(X, Y) - hsic_cka(X, Y)) < 1e-10 for X, Y in cases)


def test_cka_equals_the_hsic_form():
    assert cka_agrees(function("02_deep", "cka")) and cka_agrees(study.cka)


@pytest.mark.parametrize(
    "mistake",
    [
        ("X - X.mean(0)", "X"),
        ("Y - Y.mean(0)", "Y"),
        ("** 2", "** 1"),
        ("X - X.mean(0)", "X - X.mean()"),
    ],
    ids=["X not centred", "Y not centred", "no square", "one mean for all columns"],
)
def test_the_cka_test_bites(mistake):
    assert not cka_agrees(function("02_deep", "cka", mistake))


def same_transplant(a, b, source) -> bool:
    for k in range(6):
        models = []
        for transplant in (a, b):
            torch.manual_seed(5)
            models.append(transplant(source, k).state_dict())
        if any(not torch.equal(models[0][name], models[1][name]) for name in models[0]):
            return False
    return True


def test_the_notebooks_transplant_is_the_studys(varied_resnet):
    assert same_transplant(function("02_deep", "transplant"), study.transplant, varied_resnet)
    weights, copied = varied_resnet.state_dict(), study.transplant(varied_resnet, 2).state_dict()
    same = [n for n, t in weights.items() if t.ndim == 4 and torch.equal(t, copied[n])]
    assert {name.split(".")[0] for name in same} == {"conv1", "layer1"}


@pytest.mark.parametrize(
    "mistake", [("BLOCKS[:k]", "BLOCKS[:k - 1]"), ("('conv1', 'bn1')", "('conv1',)")]
)
def test_the_transplant_test_bites(mistake, varied_resnet):
    planted = function("02_deep", "transplant", mistake)
    assert not same_transplant(planted, study.transplant, varied_resnet)
