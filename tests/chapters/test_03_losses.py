"""Notebook 03 and its deep dive: every loss equals PyTorch's, every gradient small differences.

Each check fails on planted mistakes.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from tests.chapters.notebook_code import namespace

CORE, DEEP = "03", "03_deep"
# names of checks whose functions stand in the deep dive
DEEPER = {"focal", "focal, gamma 0", "focal, gamma 0.5", "smoothed", "absolute", "huber"}


def home(name: str) -> str:
    """The notebook in which what `name` checks is built."""
    return DEEP if name in DEEPER else CORE


def inputs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits and labels: random, with 2, 3 and 5 classes, and extreme ones.

    Extreme: sure and right, sure and wrong, rows of very different size.
    """
    rng = np.random.default_rng(3)
    sizes = ((2, 1.0), (2, 30.0), (3, 3.0), (5, 10.0))
    random = [(rng.normal(0, s, (9, k)), rng.integers(0, k, 9)) for k, s in sizes]
    far = np.array([[1e3, -1e3], [-1e3, 1e3], [-2e3, -2001], [5.0, 5.0], [0.0, 800.0]])
    return [*random, (far, np.array([0, 0, 1, 1, 0])), (far, np.array([1, 1, 0, 0, 1]))]


def class_weights(z) -> np.ndarray:
    return np.linspace(0.5, 4, z.shape[1])


def focal_oracle(z, y, gamma):
    """torchvision's loss knows two classes and one logit."""
    gap = z[:, 1] - z[:, 0]
    return sigmoid_focal_loss(gap, y.double(), alpha=-1, gamma=gamma, reduction="mean")


GAMMAS, EPSILONS = (0.0, 0.5, 2.0, 5.0), (0.0, 0.1, 0.4)
# name -> the notebook's function on z and y; the oracle on the same as tensors
ORACLES = {
    "log_softmax": (lambda f, z, y: f["log_softmax"](z), lambda z, y: z.log_softmax(1)),
    "softmax": (lambda f, z, y: f["softmax"](z), lambda z, y: z.softmax(1)),
    "cross_entropy": (lambda f, z, y: f["cross_entropy"](z, y), F.cross_entropy),
    "weighted": (
        lambda f, z, y: f["weighted_cross_entropy"](z, y, class_weights(z)),
        lambda z, y: F.cross_entropy(z, y, torch.tensor(class_weights(z))),
    ),
    "focal": (
        lambda f, z, y: [f["focal_loss"](z[:, :2], y % 2, g) for g in GAMMAS],
        lambda z, y: torch.stack([focal_oracle(z[:, :2], y % 2, g) for g in GAMMAS]),
    ),
    "focal, gamma 0": (lambda f, z, y: f["focal_loss"](z, y, 0.0), F.cross_entropy),
    "smoothed": (
        lambda f, z, y: [f["smoothed_cross_entropy"](z, y, e) for e in EPSILONS],
        lambda z, y: torch.stack([F.cross_entropy(z, y, label_smoothing=e) for e in EPSILONS]),
    ),
    "squared": (
        lambda f, z, y: f["squared_error"](z[:, 0], z[:, 1]),
        lambda z, y: F.mse_loss(z[:, 0], z[:, 1]),
    ),
    "absolute": (
        lambda f, z, y: f["absolute_error"](z[:, 0], z[:, 1]),
        lambda z, y: F.l1_loss(z[:, 0], z[:, 1]),
    ),
    "huber": (
        lambda f, z, y: f["huber"](z[:, 0], z[:, 1], 1.3),
        lambda z, y: F.huber_loss(z[:, 0], z[:, 1], delta=1.3),
    ),
}


def equals_the_oracle(name: str, space: dict) -> bool:
    """To 1e-12 in float64, on random and on extreme inputs."""
    ours, oracle = ORACLES[name]
    with np.errstate(all="ignore"):
        for z, y in inputs():
            want = oracle(torch.tensor(z), torch.tensor(y)).numpy()
            if not np.allclose(ours(space, z, y), want, rtol=1e-12, atol=1e-12):
                return False
    return True


@pytest.mark.parametrize("name", ORACLES)
def test_the_loss_equals_pytorch(name):
    assert equals_the_oracle(name, namespace(home(name)))


WRONG_LOSSES = {
    "overflow: nan and inf": ("log_softmax", "c = z.max(axis=-1, keepdims=True)", "c = 0"),
    "small logits vanish": ("log_softmax", "c = z.max(axis=-1, keepdims=True)", "c = z.max()"),
    "another logarithm": ("log_softmax", "np.log(", "np.log2("),
    "naive softmax": ("softmax", "return np.exp(log_softmax(z))", "return softmax_naive(z)"),
    "sum over images": ("softmax", "sum(axis=-1", "sum(axis=0"),
    "log of a 0": ("cross_entropy", "-log_softmax(z)", "-np.log(softmax(z))"),
    "softmax twice": ("cross_entropy", "log_softmax(z)[", "log_softmax(softmax(z))["),
    "a sum": ("cross_entropy", "y].mean()", "y].sum()"),
    "divided by n": ("weighted", "/ w[y].sum()", "/ len(y)"),
    "weights swapped": ("weighted", "(w[y] * l)", "(w[::-1][y] * l)"),
    "p for 1 - p": ("focal", "-np.expm1(log_p)", "np.exp(log_p)"),
    "gamma + 1": ("focal", "** gamma * log_p", "** (gamma + 1) * log_p"),
    "gamma 0 + 1": ("focal, gamma 0", "** gamma * log_p", "** (gamma + 1) * log_p"),
    "mass to the others": ("smoothed", "epsilon / n_classes", "epsilon / (n_classes - 1)"),
    "more than 1 in all": ("smoothed", "(1 - epsilon) * np.eye", "np.eye"),
    "halved": ("squared", "** 2).mean()", "** 2).mean() / 2"),
    "all against all": ("squared", "(y - y_hat) ** 2", "(y - y_hat[:, None]) ** 2"),
    "mean first": ("absolute", "np.abs(y - y_hat).mean()", "np.abs((y - y_hat).mean())"),
    "square not halved": ("huber", "0.5 * r ** 2", "r ** 2"),
    "a jump": ("huber", "r - 0.5 * delta", "r - delta"),
}


@pytest.mark.parametrize("mistake", WRONG_LOSSES)
def test_the_loss_test_bites(mistake):
    name, right, wrong = WRONG_LOSSES[mistake]
    assert not equals_the_oracle(name, namespace(home(name), (right, wrong)))


# ---- gradients ----------------------------------------------------------------------------------

GRADIENTS = {
    "cross_entropy": (lambda f, z, y: f["cross_entropy_gradient"](z, y), F.cross_entropy),
    "weighted": (
        lambda f, z, y: f["weighted_gradient"](z, y, class_weights(z)),
        ORACLES["weighted"][1],
    ),
    "focal": (lambda f, z, y: f["focal_gradient"](z, y, 2.0), lambda z, y: focal_oracle(z, y, 2.0)),
    "focal, gamma 0.5": (
        lambda f, z, y: f["focal_gradient"](z, y, 0.5),
        lambda z, y: focal_oracle(z, y, 0.5),
    ),
    "smoothed": (
        lambda f, z, y: f["smoothed_gradient"](z, y, 0.1),
        lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1),
    ),
}


def equals_finite_differences(name: str, space: dict) -> bool:
    """Against central differences of PyTorch's loss; and finite where logits are extreme."""
    gradient, loss = GRADIENTS[name]
    rng = np.random.default_rng(5)
    z, y = rng.normal(0, 2, (6, 2)), np.array([0, 1, 1, 0, 1, 1])
    value = lambda z: float(loss(torch.tensor(z), torch.tensor(y)))
    numerical = np.zeros_like(z)
    for place in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[place] = 1e-5
        numerical[place] = (value(z + step) - value(z - step)) / 2e-5
    with np.errstate(all="ignore"):
        far = gradient(space, np.array([[1e3, -1e3], [-1e3, 1e3]]), np.array([0, 0]))
    close = np.allclose(gradient(space, z, y), numerical, rtol=1e-6, atol=1e-9)
    return bool(close and np.isfinite(far).all())


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_gradient_equals_finite_differences(name):
    assert equals_finite_differences(name, namespace(home(name)))


WRONG_GRADIENTS = {
    "a sum": ("cross_entropy", " / len(y)", ""),
    "upwards": ("cross_entropy", "softmax(z) - one_hot", "one_hot - softmax(z)"),
    "divided by n": ("weighted", "/ w[y].sum()", "/ len(y)"),
    "factor held constant": ("focal", "- gamma * p * miss ** (gamma - 1) * log_p", ""),
    "0 to a negative power": (
        "focal, gamma 0.5",
        "np.maximum(-np.expm1(log_p), 1e-300)",
        "-np.expm1(log_p)",
    ),
    "labels not smoothed": (
        "smoothed",
        "softmax(z) - smooth_labels(y, z.shape[1], epsilon)",
        "softmax(z) - np.eye(z.shape[1])[y]",
    ),
}


@pytest.mark.parametrize("mistake", WRONG_GRADIENTS)
def test_the_gradient_test_bites(mistake):
    name, right, wrong = WRONG_GRADIENTS[mistake]
    assert not equals_finite_differences(name, namespace(home(name), (right, wrong)))


def numerical_gradient_is_right(space: dict) -> bool:
    z = torch.tensor(np.random.default_rng(6).normal(0, 2, (4, 3)), requires_grad=True)
    y = torch.tensor([0, 1, 2, 2])
    F.cross_entropy(z, y).backward()
    loss = lambda values: float(F.cross_entropy(torch.tensor(values), y))
    found = space["numerical_gradient"](loss, z.detach().numpy())
    return bool(np.allclose(found, z.grad, rtol=1e-7, atol=1e-10))


def test_the_notebooks_finite_differences():
    assert numerical_gradient_is_right(namespace(CORE))
    assert not numerical_gradient_is_right(namespace(CORE, ("(2 * step)", "step")))
    assert not numerical_gradient_is_right(namespace(CORE, ("down[place] -= step", "pass")))
