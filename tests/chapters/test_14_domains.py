"""Notebook 14: CORAL, reversed gradients, styles, physics, equal updates."""

import numpy as np
import pytest
import torch

from medtl_utils.phantom_tables import TARGET_SCANNERS
from studies import domain_methods as methods
from tests.chapters.notebook_code import function, namespace

N = namespace("14")


# ---- CORAL ---------------------------------------------------------------------------------------


def two_domains() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    return torch.randn(14, 6, generator=g).double(), torch.tensor([0, 1] * 6 + [1, 1])


def by_loop(f, where) -> float:
    """Entry by entry, sum by sum."""
    total, d = 0.0, f.shape[1]
    parts = [f[where == k].tolist() for k in (0, 1)]
    for i in range(d):
        for j in range(d):
            each = []
            for rows in parts:
                mean = [sum(r[k] for r in rows) / len(rows) for k in (i, j)]
                each.append(
                    sum((r[i] - mean[0]) * (r[j] - mean[1]) for r in rows) / (len(rows) - 1)
                )
            total += (each[0] - each[1]) ** 2
    return total / (4 * d * d)


def coral_is_right(coral) -> bool:
    f, where = two_domains()
    half = f[where == 0]
    equal = torch.cat([half, half + torch.arange(6.0).double()])  # another mean, same covariance
    ends = torch.arange(len(equal)) // len(half)
    zero, value = float(coral(equal, ends)), float(coral(f, where))
    return abs(zero) < 1e-20 and np.isclose(value, by_loop(f, where), rtol=1e-10) and value > 0.01


def test_coral_is_zero_for_equal_covariances_and_equals_a_loop():
    assert coral_is_right(N["coral"]) and coral_is_right(methods.coral)
    f, where = two_domains()
    three = torch.tensor([0, 1, 2] * 4 + [0, 1])
    pairs = [(0, 1), (0, 2), (1, 2)]
    each = [N["coral"](f[(three == a) | (three == b)], three[(three == a) | (three == b)])
            for a, b in pairs]  # fmt: skip
    assert np.isclose(methods.coral(f, three), np.mean(each))


@pytest.mark.parametrize(
    ("within", "change"),
    [
        ("covariance", ("f - f.mean(0)", "f")),
        ("covariance", ("len(f) - 1", "len(f)")),
        ("coral", ("f.shape[1] ** 2", "f.shape[1]")),
        ("coral", ("(a - b).square()", "(a - b).abs()")),
    ],
)
def test_the_coral_test_bites(within, change):
    assert not coral_is_right(namespace("14", change, within=within)["coral"])


# ---- the reversed gradient -----------------------------------------------------------------------


def reverses(layer, strength: float = 0.3) -> bool:
    """Forward the identity; the trunk gets -strength times the slope, the judge its own slope."""
    g = torch.Generator().manual_seed(5)
    x, trunk, judge = (torch.randn(s, generator=g).double() for s in ((4, 3), (3, 2), (2,)))
    loss = lambda t, j, pass_on: (pass_on(torch.tanh(x @ t)) @ j).sin().sum()
    trunk.requires_grad_(), judge.requires_grad_()
    mid = torch.tanh(x @ trunk)
    if not torch.equal(layer.apply(mid, strength), mid):
        return False
    got = torch.autograd.grad(
        loss(trunk, judge, lambda f: layer.apply(f, strength)), (trunk, judge)
    )
    slopes = []
    for place, weight in enumerate((trunk, judge)):
        slope = torch.zeros_like(weight)
        for k in range(weight.numel()):
            step = torch.zeros(weight.numel(), dtype=torch.double)
            step[k] = 1e-6
            sides = []
            for sign in (1, -1):
                both = [trunk.detach(), judge.detach()]
                both[place] = both[place] + sign * step.view_as(weight)
                sides.append(float(loss(*both, lambda f: f)))
            slope.view(-1)[k] = (sides[0] - sides[1]) / 2e-6
        slopes.append(slope)
    near = lambda a, b: torch.allclose(a, b, atol=1e-7)
    return near(got[0], -strength * slopes[0]) and near(got[1], slopes[1])


def test_the_gradient_is_reversed():
    assert reverses(N["Reverse"]) and reverses(methods.Reverse)
    for change in (
        ("-ctx.strength * gradient", "ctx.strength * gradient"),
        ("-ctx.strength * gradient", "-gradient"),
        ("x.view_as(x)", "-strength * x"),
    ):
        assert not reverses(function("14", "Reverse", change))


# ---- style and physics ---------------------------------------------------------------------------


def style_is_mixed(mix) -> bool:
    """Share 1: nothing; share 0: the other's mean and SD, and the own pattern."""
    h = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(1)) * 2 + 1
    other, one = torch.tensor([1, 2, 0]), torch.ones(3, 1, 1, 1)
    moments = lambda v: (v.mean((2, 3)), v.std((2, 3)))
    flat = lambda v: (v - v.mean((2, 3), keepdim=True)) / v.std((2, 3), keepdim=True)
    moved = mix(h, 0 * one, other)
    near = lambda a, b: torch.allclose(a, b, atol=1e-4)
    return (
        near(mix(h, one, other), h)
        and near(flat(moved), flat(h))
        and all(near(a, b[other]) for a, b in zip(moments(moved), moments(h)))
    )


def test_styles_are_those_of_the_other_image():
    assert style_is_mixed(N["mix_style"]) and style_is_mixed(methods.mix_style)
    for change in (
        ("mean[other]", "mean"),
        ("sd[other]", "sd"),
        ("(1 - share) * sd", "share * sd"),
    ):
        assert not style_is_mixed(function("14", "mix_style", change))


def physics_is_right(physics, monkeypatch) -> bool:
    """Strength 0: nothing. Black stays. Without grain a flat picture changes with depth alone."""
    torch.manual_seed(0)
    x = torch.full((6, 1, 16, 16), 120.0)
    x[:, :, :, :3] = 0
    still, moved = physics(x, 0.0), physics(x, 1.0)
    with monkeypatch.context() as m:
        m.setattr(torch, "randn_like", torch.zeros_like)
        flat = physics(x[..., 3:].contiguous(), 1.0)
    return (
        torch.allclose(still, x, atol=1e-4)
        and not moved[..., :2].any()
        and float(moved.max()) <= 255
        and float(flat.std(3).max()) < 1e-3 < float(flat.std(2).min())
    )


def test_physics_keeps_to_the_physics(monkeypatch):
    assert physics_is_right(N["physics"], monkeypatch)
    assert physics_is_right(methods.physics, monkeypatch)
    for change in (
        ("(height, 1)", "(1, x.shape[3])"),  # a gain that changes from side to side
        (" * (x / 10).clamp(max=1)", ""),  # fluid turns grey
        ("3 * s * torch.randn", "3 * torch.randn"),
    ):
        assert not physics_is_right(function("14", "physics", change), monkeypatch)


def test_notebook_and_study_shake_alike():
    x = torch.rand(5, 1, 32, 32) * 255
    same = []
    for physics in (N["physics"], methods.physics):
        torch.manual_seed(4)
        same.append(physics(x, 0.7))
    assert torch.allclose(*same, atol=1e-3)


# ---- the notebook's training ---------------------------------------------------------------------


def test_every_arm_of_the_notebook_gets_the_same_updates_and_batches():
    """The head, the batches and their balance do not depend on what is added."""
    hospital, fit = N["hospital"], N["fit"]
    fit.__globals__.update({"UPDATES": 2, "BATCH": 8, "RATE": 1e-9, "SOURCE": "random"})
    fit.__globals__.update({"SIZE": 32, "MACHINES": TARGET_SCANNERS})
    domains = [hospital(s, "train", 8, 3) for s in "AB"]
    seen, heads = {}, {}

    def watch(name, change=lambda x: x):
        def augment(x):
            seen.setdefault(name, []).append(x.clone())
            return change(x)

        return augment

    shaken = lambda x: N["physics"](x.float(), 0.5).to(torch.uint8)
    extra = lambda f, where: 3 * N["coral"](f, where)
    heads["ERM"] = fit(domains, 1, augment=watch("ERM")).fc.weight
    heads["CORAL"] = fit(domains, 1, augment=watch("CORAL"), extra=extra).fc.weight
    heads["physics"] = fit(domains, 1, augment=watch("physics", shaken)).fc.weight
    for arm in ("CORAL", "physics"):
        assert len(seen[arm]) == 2 and torch.allclose(heads[arm], heads["ERM"], atol=1e-6)
        assert all(torch.equal(a, b) for a, b in zip(seen["ERM"], seen[arm]))
