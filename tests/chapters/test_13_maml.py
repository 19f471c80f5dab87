"""Notebook 13: inner step, outer step and second order, against finite differences and by hand."""

import torch
import torch.nn.functional as F
from torch.func import functional_call

from studies import meta_learners as study
from tests.chapters.notebook_code import function, namespace

N = namespace("13")
STEP = 1e-6


def wave(n=6, k=5, seed=0):
    """A float64 network, its weights, and points of n curves: support and query."""
    net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    rng = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(w.shape, generator=rng, dtype=torch.float64)
        for name, w in net.named_parameters()
    }
    x, y = (part.double() for part in N["curves"](n, 2 * k, rng))
    loss = lambda w, x, y: F.mse_loss(functional_call(net, w, x), y)
    return loss, weights, (x[:, :k], y[:, :k]), (x[:, k:], y[:, k:])


def slope_of(value, weights: dict) -> dict:
    """The gradient of value(weights), by central differences."""
    found = {}
    for name, w in weights.items():
        flat = torch.zeros(w.numel(), dtype=torch.float64)
        for k in range(w.numel()):
            ends = []
            for sign in (1, -1):
                moved = w.clone()
                moved.view(-1)[k] += sign * STEP
                ends.append(float(value(weights | {name: moved})))
            flat[k] = (ends[0] - ends[1]) / 2 / STEP
        found[name] = flat.view_as(w)
    return found


def near(a: dict, b: dict) -> bool:
    return all(torch.allclose(a[name], b[name], atol=1e-6) for name in b)


def outer_slope(outer_loss, *inputs) -> dict:
    loss, weights, *rest = inputs
    start = {name: w.clone().requires_grad_() for name, w in weights.items()}
    value = outer_loss(loss, start, *rest)
    return dict(zip(start, torch.autograd.grad(value, list(start.values()))))


# ---- the inner step --------------------------------------------------------------------------


def inner_is_descent(adapted) -> bool:
    """One step and two steps are those of gradient descent with numerical slopes."""
    loss, weights, (x, y), _ = wave()
    want = weights
    for steps in (1, 2):
        slopes = slope_of(lambda w: loss(w, x[0], y[0]), want)
        want = {name: w - 0.1 * slopes[name] for name, w in want.items()}
        if not near(adapted(loss, weights, x[0], y[0], 0.1, steps), want):
            return False
    return True


def test_the_inner_step_is_gradient_descent():
    assert inner_is_descent(N["adapted"])
    for change in (("w - rate", "w + rate"), ("rate * slopes", "slopes"), ("range(steps)", "[0]")):
        assert not inner_is_descent(function("13", "adapted", change))


# ---- the outer step --------------------------------------------------------------------------


def zero_steps_is_joint(outer_loss) -> bool:
    """Without inner steps the gradient is that of one loss on all queries together."""
    loss, weights, support, query = wave()
    together = {name: w.clone().requires_grad_() for name, w in weights.items()}
    value = loss(together, *(part.flatten(0, 1) for part in query))
    want = dict(zip(together, torch.autograd.grad(value, list(together.values()))))
    return near(outer_slope(outer_loss, loss, weights, support, query, 0.1, 0), want)


def test_maml_with_zero_inner_steps_is_joint_training():
    assert zero_steps_is_joint(N["outer_loss"])
    for within, change in (
        ("outer_loss", ("x_new, y_new)\n", "x, y)\n")),
        ("outer_loss", (".mean()", ".sum()")),
        ("adapted", ("range(steps)", "range(steps + 1)")),
    ):
        assert not zero_steps_is_joint(namespace("13", change, within=within)["outer_loss"])


def outer_is_numerical(outer_loss) -> bool:
    loss, weights, support, query = wave()
    value = lambda w: outer_loss(loss, w, support, query, 0.2, 2)
    return near(
        outer_slope(outer_loss, loss, weights, support, query, 0.2, 2), slope_of(value, weights)
    )


def test_the_outer_gradient_is_that_of_finite_differences():
    assert outer_is_numerical(N["outer_loss"])
    for change in (("if not second_order", "if second_order"), ("w - rate", "w.detach() - rate")):
        planted = namespace("13", change, within="adapted")
        assert not outer_is_numerical(planted["outer_loss"])


def bowls_agree(space: dict) -> bool:
    """On bowls: (1 - rate * a)^steps * b * (w' - q), and without the factor in first order."""
    fill = lambda value: torch.full((1, 1, 1), value, dtype=torch.float64)
    for w, a, s, b, q, rate, steps in (
        (0.0, 2.0, 1.0, 1.0, 3.0, 0.1, 1),
        (1, 3, -1, 2, 0.5, 0.2, 3),
    ):
        moved = s + (1 - rate * a) ** steps * (w - s)
        for second_order in (True, False):
            start = {"w": torch.tensor(float(w), dtype=torch.float64, requires_grad=True)}
            sides = [(fill(float(c)), fill(float(m))) for c, m in ((a, s), (b, q))]
            value = space["outer_loss"](space["bowl"], start, *sides, rate, steps, second_order)
            want = b * (moved - q) * ((1 - rate * a) ** steps if second_order else 1)
            if abs(torch.autograd.grad(value, start["w"])[0].item() - want) > 1e-9:
                return False
    return True


def test_the_second_order_term_on_a_bowl():
    assert bowls_agree(N)
    for within, change in (
        ("adapted", ("if not second_order", "if second_order")),
        ("adapted", ("slope.detach()", "slope")),
        ("outer_loss", ("steps, second_order)", "steps)")),
        ("bowl", ("/ 2", "/ 1")),
    ):
        assert not bowls_agree(namespace("13", change, within=within))


def study_agrees(adapted) -> bool:
    torch.manual_seed(0)
    net, x, y = study.Net(), torch.randn(10, study.NUMBERS), study.labels(5)
    weights = dict(net.named_parameters())
    loss = lambda w, x, y: F.cross_entropy(functional_call(net, w, x), y)
    want = N["adapted"](loss, weights, x, y, 0.3, 3)
    return all(torch.equal(v, want[k]) for k, v in adapted(net, weights, x, y, 0.3, 3).items())


def test_the_study_steps_as_the_notebook():
    assert study_agrees(study.adapted)
    assert not study_agrees(lambda *inputs: study.adapted(*inputs[:-1], 2))
