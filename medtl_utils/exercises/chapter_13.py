"""Exercises of chapter 13, Meta-learning."""

import torch

from .functions import Function, Wrong
from .kinds import Letters

# ---- 13.1: the outer gradient through several inner steps ----


def moved(w, a, s, alpha, steps):
    for _ in range(steps):
        w = w - alpha * a * (w - s)
    return w


def outer_gradient(w, a, s, b, q, alpha, steps):
    return (1 - alpha * a) ** steps * b * (moved(w, a, s, alpha, steps) - q)


def four_bowls():
    """(w, a, s, b, q, alpha, steps)."""
    return [
        (0.0, 2.0, 1.0, 1.0, 3.0, 0.1, 1),
        (0.5, 1.5, -1.0, 0.7, 2.0, 0.2, 3),
        (-1.0, 3.0, 0.4, 2.0, -0.6, 0.15, 2),
        (0.3, 2.0, 1.0, 1.2, -2.0, 0.1, 0),
    ]


def one_factor(w, a, s, b, q, alpha, steps):
    return (1 - alpha * a) * b * (moved(w, a, s, alpha, steps) - q)


def query_curvature(w, a, s, b, q, alpha, steps):
    return (1 - alpha * b) ** steps * b * (moved(w, a, s, alpha, steps) - q)


OUTER = Function(
    hint="the chain rule: the query's slope at the moved weight, times how much the moved weight "
    "moves when the start moves.",
    hints=(
        "one inner step is w - alpha · a · (w - s): its slope in w is 1 - alpha · a. Several steps "
        "multiply their slopes.",
    ),
    right=outer_gradient,
    cases=four_bowls,
    form="return one number",
    wrong=(
        Wrong(
            lambda w, a, s, b, q, alpha, steps: b * (moved(w, a, s, alpha, steps) - q),
            "that is first-order MAML: the slope of the moved weight in the start is missing.",
        ),
        Wrong(
            lambda w, a, s, b, q, alpha, steps: b * (w - q),
            "that is the gradient of joint training: no inner step was made.",
        ),
        Wrong(one_factor, "the factor 1 - alpha · a comes once for each inner step."),
        Wrong(
            query_curvature,
            "the inner steps run on the support: its curvature a stands in the factor, not b.",
        ),
        Wrong(
            lambda w, a, s, b, q, alpha, steps: (
                (1 - alpha * a) ** steps * a * (moved(w, a, s, alpha, steps) - s)
            ),
            "that is the support's slope after the steps; the outer loss is the query's.",
        ),
        Wrong(
            lambda w, a, s, b, q, alpha, steps: (
                (1 - alpha * a) ** steps * b * (moved(w, a, s, alpha, steps) - q) ** 2 / 2
            ),
            "that looks like a loss: the gradient in the start is asked for.",
        ),
    ),
    other=Wrong(
        lambda w, a, s, b, q, alpha, steps: 0.123,
        "another number is expected: d/dw of b/2 · (w' - q)², where w' is w after the steps.",
    ),
)

# ---- 13.2: prototypes with the cosine ----


def unit(z):
    return z / z.norm(dim=-1, keepdim=True)


def cosine_logits(support, query, scale):
    return scale * unit(query) @ unit(unit(support).mean(1)).T


def two_episodes():
    """(support, query, scale)."""
    cases = []
    for seed, (classes, shots, p) in enumerate(((2, 5, 8), (3, 2, 4))):
        g = torch.Generator().manual_seed(seed)
        new = lambda *shape, g=g: torch.randn(*shape, generator=g)
        cases.append((new(classes, shots, p) + 0.5, new(6, p), 4.0 + seed))
    return cases


COSINE = Function(
    hint="first scale each image of the support to length 1; then take the mean over the shots.",
    hints=(
        "the mean of unit vectors is shorter than 1: scale it again. The cosine is the product of "
        "two vectors of length 1.",
    ),
    right=cosine_logits,
    cases=two_episodes,
    form="return a tensor of size (n, classes)",
    wrong=(
        Wrong(
            lambda support, query, scale: scale * unit(query) @ unit(support.mean(1)).T,
            "each image of the support must be scaled to length 1 before the mean is taken.",
        ),
        Wrong(
            lambda support, query, scale: scale * unit(query) @ unit(support).mean(1).T,
            "the prototype is shorter than 1: without scaling it again this is no cosine.",
        ),
        Wrong(
            lambda support, query, scale: scale * query @ unit(unit(support).mean(1)).T,
            "the queries must be scaled to length 1, too.",
        ),
        Wrong(
            lambda support, query, scale: cosine_logits(support, query, 1.0),
            "the factor `scale` is missing.",
        ),
        Wrong(
            lambda support, query, scale: -cosine_logits(support, query, scale),
            "the sign is wrong: a cosine is large where two vectors are alike.",
        ),
        Wrong(
            lambda support, query, scale: (
                -scale * (unit(query)[:, None] - unit(unit(support).mean(1))).square().sum(-1)
            ),
            "that is the squared distance of unit vectors; the cosine itself is asked for.",
        ),
    ),
    other=Wrong(
        lambda support, query, scale: torch.zeros(len(query), len(support)),
        "other logits are expected: scale · cosine between each query and each prototype.",
    ),
)

EXERCISES = {
    "13.1": OUTER,
    "13.2": COSINE,
    "13.3": Letters(
        hint="which questions were in training and in the test? What does an interval over "
        "episodes cover? Which simple methods were not tried?",
        hints=(
            "the ten diseases are on both sides. A plain classifier knows all ten. More episodes "
            "of the same ten say nothing about an eleventh.",
        ),
        right="acdf",
        wrong={
            "a": "a is right: all ten diseases were seen in training.",
            "b": "b is wrong: the interval covers the draw of the episodes alone.",
            "c": "c is right: whoever knows ten diseases needs no shots to tell two of them apart.",
            "d": "d is right: without the probe nobody knows what training on tasks added.",
            "e": "e is wrong: more episodes shrink the interval, and no disease becomes new.",
            "f": "f is right: a new disease is one that was in no task of training.",
            "g": "g is wrong: another method does not make the test questions new.",
        },
    ),
}
