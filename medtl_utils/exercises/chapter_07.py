"""Exercises of chapter 07, Explain honestly."""

import numpy as np
import torch

from .functions import Function, Wrong
from .kinds import Letters, Word

# ---- 7.1: Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) ----


def cam(weights, relu=True):
    """A function from feature maps and gradients to a map, with the given weights of the channels.

    `weights` makes them from the gradients (2, K, h, w) and the class.
    """

    def answer(A, gradient, c):
        total = (weights(gradient, c) * A).sum(0)
        return total.relu() if relu else total

    return answer


def mean_gradient(gradient, c):
    return gradient[c].mean((1, 2), keepdim=True)


def no_sum(A, gradient, c):
    return (mean_gradient(gradient, c) * A).relu()


def maps_and_gradients():
    """(A, gradient, c) for both classes."""
    rng = np.random.default_rng(25)
    A = torch.tensor(rng.random((5, 3, 4)), dtype=torch.float32)
    gradient = torch.tensor(rng.normal(size=(2, 5, 3, 4)), dtype=torch.float32)
    return [(A.clone(), gradient.clone(), c) for c in (0, 1)]


WRONG_WEIGHTS = {
    "the gradients were added up: alpha is their mean over the places.": lambda gradient, c: (
        gradient[c].sum((1, 2), keepdim=True)
    ),
    "the gradients' sign is gone: what speaks against the class must have a negative weight.": (
        lambda gradient, c: gradient[c].abs().mean((1, 2), keepdim=True)
    ),
    "that is the map of the other class: take gradient[c].": lambda gradient, c: mean_gradient(
        gradient, 1 - c
    ),
    "one weight a channel is asked for: average the gradient over its places first.": (
        lambda gradient, c: gradient[c]
    ),
}

GRAD_CAM = Function(
    hint="write a function that takes (A, gradient, c) and returns the map, a tensor of shape "
    "(h, w).",
    right=cam(mean_gradient),
    cases=maps_and_gradients,
    form="return the map itself, a tensor of shape (3, 4)",
    wrong=(
        Wrong(
            cam(mean_gradient, relu=False),
            "negative values are left: ReLU keeps only what speaks for the class.",
        ),
        Wrong(
            no_sum, "the map should have the shape of one channel, (3, 4): sum over the channels k."
        ),
        *(
            Wrong(cam(weights, relu), message)
            for message, weights in WRONG_WEIGHTS.items()
            for relu in (True, False)
        ),
    ),
    other=Wrong(
        cam(lambda gradient, c: 1.0),
        "another map is expected: ReLU(sum alpha_k A_k), with alpha_k the mean gradient of "
        "channel k.",
    ),
)

# ---- 7.2: the energy inside a mask (Wang et al. 2020) ----


def energy_inside(heat, mask):
    return heat[mask].sum() / heat.sum()


def two_maps():
    """(heat, mask): the highest value outside the mask, then inside."""
    heat = np.arange(12, dtype=float).reshape(3, 4) ** 2
    mask = np.isin(np.arange(12).reshape(3, 4), (5, 6, 10))
    return [(heat.copy(), mask.copy()), (heat[::-1].copy(), mask.copy())]


POINTING = "that is the pointing game: hit or miss. The energy is a share."

ENERGY = Function(
    hint="write a function that takes (heat, mask) and returns one number between 0 and 1.",
    right=energy_inside,
    cases=two_maps,
    form="return one number between 0 and 1",
    wrong=(
        Wrong(
            lambda heat, mask: mask.mean(),
            "that is the mask's share of the picture, whatever the map says.",
        ),
        Wrong(
            lambda heat, mask: heat[mask].mean(),
            "that is the mean inside the mask: add up, and divide by the sum over the whole map.",
        ),
        Wrong(
            lambda heat, mask: heat[mask].max() / heat.max(),
            "those are the highest values: add up instead.",
        ),
        Wrong(
            lambda heat, mask: heat[mask].sum(),
            "not a share yet: divide by the sum over the whole map.",
        ),
        Wrong(
            lambda heat, mask: heat[~mask].sum() / heat.sum(), "that is the share outside the mask."
        ),
        Wrong(lambda heat, mask: mask.flat[heat.argmax()], POINTING),
        Wrong(lambda heat, mask: float(mask.flat[heat.argmax()]), POINTING),
    ),
    other=Wrong(lambda heat, mask: 0.123, "not yet: divide inside by everything."),
)

EXERCISES = {
    "7.1": GRAD_CAM,
    "7.2": ENERGY,
    "7.3": Word(
        hint='answer "the reason is right", "the model is accurate" or "nothing by itself".',
        right="nothing by itself",
        wrong={
            "the reason is right": "marks at the lesion's edge gave such a map too: a place is not "
            "a reason.",
            "the model is accurate": "the map says where, not how often the model is right.",
        },
    ),
    "7.4": Letters(
        hint='letters, such as "ab": which of the five break the link between mark and diagnosis, '
        "or take the lesion away?",
        right="de",
        wrong={
            "a": "look at (a) again: test patients of the same hospital carry the same habit: "
            "there the shortcut looks like skill.",
            "b": "look at (b) again: the marks sit at the lesion's edge, so a map can point at the "
            "lesion for the wrong reason.",
            "c": "look at (c) again: random weights tell whether the map depends on the model, not "
            "whether the model is right.",
            "d": "look at (d) again: a model that ranks pictures without a lesion uses something "
            "else: nobody needs to know what.",
            "e": "look at (e) again: a hospital with another habit breaks the link between mark "
            "and diagnosis, and the AUC falls.",
        },
    ),
}
