"""Exercises of chapter 07, Explain honestly. 7.4 stands in its deep dive."""

import numpy as np
import torch

from .functions import Function, Wrong
from .kinds import Letters, Number

# ---- 7.1: HiResCAM (Draelos & Carin, arXiv 2011.08891), scaled to a highest value of 1 ----


def hires_cam(A, gradient):
    """ReLU of the sum over channels of gradient times map, place by place; empty stays empty."""
    return scaled((gradient * A).sum(0).relu())


def scaled(heat):
    return heat / heat.max() if heat.max() > 0 else heat


def maps_and_gradients():
    """(A, gradient): both signs; then a layer in which nothing speaks for the class."""
    rng = np.random.default_rng(25)
    A = torch.tensor(rng.random((5, 3, 4)), dtype=torch.float32)
    gradient = torch.tensor(rng.normal(size=(5, 3, 4)), dtype=torch.float32)
    return [(A.clone(), gradient.clone()), (A.clone(), -gradient.abs())]


def mean_gradient(gradient):
    return gradient.mean((1, 2), keepdim=True)


def without_zero_check(A, gradient):
    heat = (gradient * A).sum(0).relu()
    return heat / heat.max()


HIRES_CAM = Function(
    hint="Grad-CAM takes one weight per channel, the mean of its gradient. Here every place keeps "
    "its own gradient.",
    hints=(
        "multiply gradient * A, sum over dim 0, take relu(). Divide by the highest value, but only "
        "where that is above 0.",
    ),
    right=hires_cam,
    cases=maps_and_gradients,
    form="return the map itself, a tensor of shape (3, 4)",
    wrong=(
        Wrong(
            without_zero_check,
            "where nothing speaks for the class the map is 0 / 0: leave an empty map as it is.",
            when=lambda attempt: attempt.case == 1 and np.isnan(attempt.got).any(),
        ),
        Wrong(
            lambda A, gradient: scaled((mean_gradient(gradient) * A).sum(0).relu()),
            "that is Grad-CAM, scaled: here the gradients are not averaged over the places.",
        ),
        Wrong(
            lambda A, gradient: (gradient * A).sum(0).relu(),
            "the map is right but not scaled: its highest value should be 1.",
        ),
        Wrong(
            lambda A, gradient: (gradient * A).sum(0) / (gradient * A).sum(0).max(),
            "negative values are left: keep only what speaks for the class, with relu().",
        ),
        Wrong(
            lambda A, gradient: scaled((gradient * A).relu().sum(0)),
            "relu() came too early: sum over the channels first, so that they can cancel.",
        ),
        Wrong(
            lambda A, gradient: scaled((gradient.abs() * A).sum(0)),
            "the sign of the gradients is gone: what speaks against the class must count as "
            "negative.",
        ),
        Wrong(
            lambda A, gradient: hires_cam(A, gradient) / hires_cam(A, gradient).sum().clamp_min(1),
            "divide by the highest value, not by the sum.",
        ),
        Wrong(
            lambda A, gradient: scaled((gradient * A).relu()),
            "the map should have the shape of one channel, (3, 4): sum over the channels, dim 0.",
        ),
    ),
    other=Wrong(
        lambda A, gradient: scaled(A.sum(0)),
        "another map is expected: relu of the sum over channels of gradient times A, divided by "
        "its highest value.",
    ),
)

# ---- 7.2: the pointing game with a tolerance ----


def distances(heat, mask):
    """Rows and columns from the highest point to every place of the mask, (2, n)."""
    peak = np.unravel_index(heat.argmax(), heat.shape)
    return np.argwhere(mask).T - np.array(peak)[:, None]


def hits(heat, mask, reach, length=lambda steps: np.hypot(*steps), empty=0.0):
    """1 where the highest point lies at most `reach` pixels from the mask; `empty` for no map."""
    found = [
        float(length(distances(h, m)).min() <= reach) if h.max() > 0 else empty
        for h, m in zip(heat, mask)
    ]
    return np.array(found)


def to_the_centre(steps):
    return np.hypot(*steps.mean(axis=1, keepdims=True))


def eight_maps():
    """(heat, mask, reach): inside; beside, at an angle, far; empty; a wide mask."""
    peaks = [(4, 4), (4, 7), (7, 7), (7, 6), (4, 9), (0, 9), (4, 5), (1, 1)]
    heat, mask = np.full((8, 10, 10), 0.1), np.zeros((8, 10, 10), bool)
    mask[:, 3:6, 3:6] = True
    mask[7] = True
    for one, (row, column) in zip(heat, peaks):
        one[row, column] = 1.0
    heat[6] = 0.0  # nothing speaks for the class; its first place lies in the mask
    mask[6, 0, 0] = True
    heat[5, 4, 4] = 0.0  # the lowest point lies inside
    return [(heat.copy(), mask.copy(), 2.5), (heat[1:3].copy(), mask[1:3].copy(), 1.0)]


TOLERANT = Function(
    hint="first find row and column of the highest point of each map. How far is it from the "
    "nearest place of the mask, in a straight line?",
    hints=(
        "np.argwhere(mask) lists rows and columns of a mask. The distance is the root of the "
        "summed squares; compare the smallest one with reach. An empty map (all 0) is a miss.",
    ),
    right=hits,
    cases=eight_maps,
    form="return one number per map, 1.0 or 0.0, as an array of shape (N,)",
    wrong=(
        Wrong(
            lambda heat, mask, reach: hits(heat, mask, 0),
            "that is the game without tolerance: a point beside the mask, within reach, is a hit.",
        ),
        Wrong(
            lambda heat, mask, reach: hits(heat, mask, reach, empty=1.0),
            "the empty map counts as a hit: where all is 0, nothing points anywhere.",
        ),
        Wrong(
            lambda heat, mask, reach: hits(heat, mask, reach, lambda s: np.abs(s).max(axis=0)),
            "the mask was widened by a square: two pixels down and two to the right are 2.8 "
            "pixels, not 2.",
        ),
        Wrong(
            lambda heat, mask, reach: hits(heat, mask, reach, lambda s: np.abs(s).sum(axis=0)),
            "rows and columns were added up: take the straight line, the root of the summed "
            "squares.",
        ),
        Wrong(
            lambda heat, mask, reach: hits(heat, mask, reach, to_the_centre),
            "that is the distance to the middle of the mask: take its nearest place.",
        ),
        Wrong(
            lambda heat, mask, reach: 1 - hits(heat, mask, reach, empty=1.0),
            "hits and misses are swapped.",
        ),
        Wrong(
            lambda heat, mask, reach: hits(heat.max() - heat, mask, reach),
            "that follows the lowest point: take argmax.",
        ),
        Wrong(
            lambda heat, mask, reach: hits(heat, mask, reach).mean(),
            "that is the share of hits: return one number per map.",
        ),
    ),
    other=Wrong(lambda heat, mask, reach: np.full(len(heat), 0.5), "not yet: 1 or 0 for each map."),
)

EXERCISES = {
    "7.1": HIRES_CAM,
    "7.2": TOLERANT,
    "7.3": Number(
        hint="the AUC is the probability that a malignant image scores higher than a benign one; "
        "ties count one half. Which four pairs of marked and unmarked are there?",
        hints=(
            "malignant marked, benign unmarked: 0.7 x 0.85, a win. Both marked, or both unmarked: "
            "a tie. Add half of the ties.",
        ),
        right=0.775,
        wrong={
            0.595: "those are the wins alone: where both images are marked, or neither, the scores "
            "are equal, and a tie counts one half.",
            0.955: "ties were counted as wins: they count one half.",
            0.225: "that is the AUC where the habit is reversed: here the marks go with malignant.",
            0.7: "that is the sensitivity: the share of the malignant images that are marked.",
            0.85: "that is the specificity: the share of the benign images without marks.",
            0.55: "that is the difference of the two shares; the AUC is one half plus half of it.",
            0.824: "that is the share of malignant images among the marked ones, if both classes "
            "are equally common.",
            0.5: "the marks do tell something here: malignant images have them more often.",
        },
    ),
    "7.4": Letters(
        hint="nobody knows of the marks. Which of the five break the link between mark and "
        "diagnosis, or take the lesion away?",
        hints=(
            "go through the letters: would the result differ between a model that reads lesions "
            "and one that reads marks, both tested in this way?",
        ),
        right="de",
        wrong={
            "a": "look at (a) again: test patients of the same clinic carry the same habit: there "
            "the shortcut looks like skill.",
            "b": "look at (b) again: the marks sit at the lesion's edge, so a map can point at the "
            "lesion for the wrong reason.",
            "c": "look at (c) again: random weights tell whether the map depends on the model, not "
            "whether the model is right.",
            "d": "look at (d) again: a model that ranks pictures without a lesion uses something "
            "else, and nobody needs to know what.",
            "e": "look at (e) again: a clinic with another habit breaks the link between mark and "
            "diagnosis, and the AUC falls.",
        },
    ),
}
