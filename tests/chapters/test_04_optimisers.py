"""Chapter 04: the optimisers equal PyTorch's; the head's gradient, and the straight line."""

from collections import OrderedDict

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

from medtl_utils.exercises import EXERCISES
from tests.chapters.notebook_code import function


def equals_torch(path_of, optimiser, **settings) -> bool:
    """100 steps on a loss with gradients from tiny to large, in float64, to 1e-12."""
    scale = np.array([1e-7, 1e-3, 1.0, 30.0])
    theta = torch.ones(4, dtype=torch.float64, requires_grad=True)
    steps = optimiser([theta], **settings)
    for _ in range(100):
        steps.zero_grad()
        (torch.tensor(scale) * torch.log(torch.cosh(theta - 0.3))).sum().backward()
        steps.step()
    ours = path_of(lambda t: scale * np.tanh(t - 0.3), np.ones(4))[-1]
    return bool(np.abs(ours - theta.detach().numpy()).max() < 1e-12)


@pytest.mark.parametrize("notebook", ["04", "04_deep"])
def test_momentum_equals_torch(notebook):
    descend, SGD = function(notebook, "descend"), torch.optim.SGD
    ours = lambda g, t: descend(g, t, 0.01, 100, 0.9)
    assert equals_torch(ours, SGD, lr=0.01, momentum=0.9)
    assert not equals_torch(ours, SGD, lr=0.01, momentum=0.9, nesterov=True)


def test_adam_equals_torch():
    adam, Adam = function("04", "adam"), torch.optim.Adam
    assert equals_torch(lambda g, t: adam(g, t, 100), Adam, lr=0.001)
    other = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6}
    assert equals_torch(lambda g, t: adam(g, t, 100, 0.02, 0.8, 0.95, 1e-6), Adam, **other)
    decayed, settings = lambda g, t: adam(g, t, 100, decay=0.1), {"lr": 0.001, "weight_decay": 0.1}
    assert equals_torch(decayed, torch.optim.AdamW, **settings)
    # planted: decay that enters through the gradient, as in torch's Adam, is not AdamW's
    assert not equals_torch(decayed, Adam, **settings)
    shorter = function("04_deep", "adam")
    assert equals_torch(lambda g, t: shorter(g, t, 100), Adam, lr=0.001)


@pytest.mark.parametrize(
    "mistake",
    [
        ("m / (1 - beta1 ** t)", "m"),
        ("v / (1 - beta2 ** t)", "v"),
        ("(np.sqrt(v_hat) + epsilon)", "np.sqrt(v_hat + epsilon)"),
        ("range(1, steps + 1)", "range(2, steps + 2)"),
    ],
    ids=["mean not corrected", "square not corrected", "epsilon inside the root", "t begins at 2"],
)
def test_the_adam_test_bites(mistake):
    adam = function("04", "adam", mistake)
    assert not equals_torch(lambda g, t: adam(g, t, 100), torch.optim.Adam, lr=0.001)


# ---- the exercises: what they call right is PyTorch's -------------------------------------------


def nesterov_path(step):
    def path_of(gradient, theta):
        path, v = [theta], np.zeros_like(theta)
        for _ in range(100):
            theta, v = step(theta, v, gradient(theta), 0.01, 0.9)
            path.append(theta)
        return path

    return path_of


def test_nesterov_is_torchs():
    settings = {"lr": 0.01, "momentum": 0.9, "nesterov": True}
    exercise = EXERCISES["4.3"]
    assert equals_torch(nesterov_path(exercise.right), torch.optim.SGD, **settings)
    for wrong in exercise.wrong:
        assert not equals_torch(nesterov_path(wrong.function), torch.optim.SGD, **settings)


def clips_as_torch(clip) -> bool:
    for g1, g2, limit in EXERCISES["4.2"].cases():
        parameters = [torch.zeros(g.shape, dtype=torch.float64) for g in (g1, g2)]
        for parameter, g in zip(parameters, (g1, g2)):
            parameter.grad = torch.tensor(g)
        nn.utils.clip_grad_norm_(parameters, limit)
        for parameter, ours in zip(parameters, clip(g1, g2, limit)):
            if not np.allclose(parameter.grad.numpy(), ours, rtol=1e-5):
                return False
    return True


def test_clipping_is_torchs():
    exercise = EXERCISES["4.2"]
    assert clips_as_torch(exercise.right)
    assert not any(clips_as_torch(wrong.function) for wrong in exercise.wrong)


def step_is_autograds(step) -> bool:
    """A scale and a shift behind a frozen layer, after one step of torch.optim.SGD."""
    for x_hat, du, gamma, beta, alpha in EXERCISES["4.4"].cases():
        learnt = [torch.tensor(a, requires_grad=True) for a in (gamma, beta)]
        optimiser = torch.optim.SGD(learnt, lr=alpha)
        (learnt[0] * torch.tensor(x_hat) + learnt[1]).backward(torch.tensor(du))
        optimiser.step()
        ours = step(x_hat, du, gamma, beta, alpha)
        if not all(np.allclose(a.detach().numpy(), b) for a, b in zip(learnt, ours)):
            return False
    return True


def test_scale_and_shift_step_is_autograds():
    exercise = EXERCISES["4.4"]
    assert step_is_autograds(exercise.right)
    assert not any(step_is_autograds(wrong.function) for wrong in exercise.wrong)


# ---- the head -----------------------------------------------------------------------------------


def head_gradient_is_right(head_gradient) -> bool:
    """Against autograd and against differences of a loss written with NumPy."""
    rng = np.random.default_rng(0)
    h, labels = rng.normal(size=(6, 5)), rng.integers(0, 3, 6)
    W, b = rng.normal(size=(3, 5)), rng.normal(size=3)

    def loss(W):
        z = h @ W.T + b
        return np.mean(scipy.special.logsumexp(z, 1) - z[np.arange(6), labels])

    steps = 1e-6 * np.eye(15).reshape(15, 3, 5)
    numerical = np.array([(loss(W + d) - loss(W - d)) / 2e-6 for d in steps]).reshape(3, 5)
    Wt, bt = (torch.tensor(a, requires_grad=True) for a in (W, b))
    logits = torch.tensor(h) @ Wt.T + bt
    nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    one_hot = nn.functional.one_hot(torch.tensor(labels), 3)
    dW, db = head_gradient(torch.tensor(h), logits.softmax(1).detach(), one_hot)
    same = torch.allclose(dW, Wt.grad) and torch.allclose(db, bt.grad)
    return same and bool(np.abs(dW.numpy() - numerical).max() < 1e-8)


def test_head_gradient():
    assert head_gradient_is_right(function("04", "head_gradient"))


@pytest.mark.parametrize(
    "mistake",
    [("(p - y).T", "(y - p).T"), (" / len(h)", ""), ("(p - y).mean(0)", "(p - y).sum(0)")],
)
def test_the_head_gradient_test_bites(mistake):
    assert not head_gradient_is_right(function("04", "head_gradient", mistake))


# ---- the line between two networks --------------------------------------------------------------


def line_is_straight(between, travelled) -> bool:
    torch.manual_seed(0)
    layers = {"layer1": (nn.Linear, 3, 4), "layer2": (nn.BatchNorm1d, 4), "fc": (nn.Linear, 4, 2)}
    start, end = (
        nn.Sequential(OrderedDict((name, kind(*size)) for name, (kind, *size) in layers.items()))
        for _ in range(2)
    )
    vector = lambda model: nn.utils.parameters_to_vector(model.parameters()).detach()
    a, b = vector(start), vector(end)
    for s in (0, 0.25, 1, 1.25):
        if not torch.allclose(vector(between(start, end, s)), a + s * (b - a), atol=1e-6):
            return False
    parts = travelled(start, end)
    whole = sum(distance**2 for distance in parts.values()) ** 0.5
    return set(parts) == set(layers) and bool(np.isclose(whole, (a - b).norm().item()))


def test_line_and_distance():
    between, travelled = function("04_deep", "between"), function("04_deep", "travelled")
    assert line_is_straight(between, travelled)
    swapped = function("04_deep", "between", ("(1 - s) * a + s * b", "s * a + (1 - s) * b"))
    assert not line_is_straight(swapped, travelled)
    squared = function("04_deep", "travelled", ("value ** 0.5", "value"))
    assert not line_is_straight(between, squared)
