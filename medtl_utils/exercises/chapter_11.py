"""Exercises of chapter 11, Multi-task learning."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Letters

# ---- 11.1: from IoU to Dice ----


def mean_dice(ious):
    """Mean over images of 2 J / (1 + J), without the images that have no lesion (NaN)."""
    known = ious[~np.isnan(ious)]
    return (2 * known / (1 + known)).mean()


def three_lists():
    """IoU of each image; NaN: no lesion."""
    return [
        (np.array([0.0, 0.25, 0.5, 1.0]),),
        (np.array([0.1, np.nan, 0.9]),),
        (np.array([0.6, 0.2, np.nan, 0.3, np.nan]),),
    ]


def with_zeros(ious):
    return (2 * np.nan_to_num(ious) / (1 + np.nan_to_num(ious))).mean()


def of_mean(ious):
    return 2 * np.nanmean(ious) / (1 + np.nanmean(ious))


DICE = Function(
    hint="write both with the overlap I and the sizes A and B: IoU = I / (A + B - I), "
    "Dice = 2 I / (A + B).",
    hints=("Dice = 2 J / (1 + J) for each image; then the mean over the images with a lesion.",),
    right=mean_dice,
    cases=three_lists,
    form="return one number",
    wrong=(
        Wrong(
            of_mean,
            "the mean comes last: 2 J / (1 + J) is curved, so the Dice of the mean IoU is not the "
            "mean Dice.",
        ),
        Wrong(np.nanmean, "that is the mean IoU: turn each image's IoU into its Dice first."),
        Wrong(
            lambda ious: np.nanmean(ious / (2 - ious)),
            "that is the way back, from Dice to IoU: Dice is never below IoU.",
        ),
        Wrong(
            lambda ious: np.nanmean(2 * ious),
            "IoU = I / (A + B - I) has the overlap I in the denominator as well: twice is too "
            "much.",
        ),
        Wrong(with_zeros, "an image without a lesion has no Dice: leave it out, it is no 0."),
        Wrong(
            lambda ious: np.nan_to_num(2 * ious / (1 + ious), nan=1.0).mean(),
            "an image without a lesion has no Dice: leave it out, it is no 1.",
        ),
    ),
    other=Wrong(
        lambda ious: 0.123,
        "another number is expected: for IoUs of 0, 0.25, 0.5 and 1 the mean Dice is 0.517.",
    ),
)

# ---- 11.2: PCGrad for three tasks ----


def surgery(G, always=False, stale=True, mean=False):
    """The sum of rows, each without its parts along those rows that it conflicts with."""
    done = np.array(G, float)
    for i in range(len(G)):
        for j in range(len(G)):
            other = np.asarray(G, float)[j] if stale else done[j]
            dot = done[i] @ other
            if i != j and (dot < 0 or always):
                done[i] = done[i] - dot / (other @ other) * other
    return done.mean(0) if mean else done.sum(0)


def three_gradients():
    """(tasks, numbers): some pairs conflict, some do not."""
    cases = []
    for seed in (0, 3, 5):
        rng = np.random.default_rng(seed)
        cases.append((rng.normal(size=(3, 4)) + [0.3, 0, 0, 0],))
    return cases


def first_only(G):
    done = np.array(G, float)
    for i in range(len(G)):
        j = (i + 1) % len(G)
        dot = done[i] @ G[j]
        if dot < 0:
            done[i] = done[i] - dot / (G[j] @ G[j]) * G[j]
    return done.sum(0)


def without_square(G):
    done = np.array(G, float)
    for i in range(len(G)):
        for j in range(len(G)):
            dot = done[i] @ G[j]
            if i != j and dot < 0:
                done[i] = done[i] - dot / np.linalg.norm(G[j]) * G[j]
    return done.sum(0)


SURGERY = Function(
    hint="each row in turn loses its part along every other row that it points against. The other "
    "rows are taken as they came in.",
    hints=(
        "done = G.copy(); for i, for j != i: dot = done[i] @ G[j]; if dot < 0: done[i] -= dot / "
        "(G[j] @ G[j]) * G[j]. Then the sum of done.",
    ),
    right=surgery,
    cases=three_gradients,
    form="return one vector, as long as a row of G",
    wrong=(
        Wrong(lambda G: np.sum(G, 0), "that is the plain sum: no conflict was taken away."),
        Wrong(
            lambda G: surgery(G, always=True),
            "rows that agree (dot product above 0) must stay as they are.",
        ),
        Wrong(
            lambda G: surgery(G, stale=False),
            "project on the rows as they came in, not on those already changed.",
        ),
        Wrong(lambda G: surgery(G, mean=True), "the sum is asked for, not the mean."),
        Wrong(first_only, "each row meets one other row only: it must meet all others."),
        Wrong(without_square, "divide by the squared length of the other row, G[j] @ G[j]."),
    ),
    other=Wrong(
        lambda G: np.zeros(np.shape(G)[1]) + 9.0,
        "another vector is expected: the sum of the rows after all projections.",
    ),
)

EXERCISES = {
    "11.1": DICE,
    "11.2": SURGERY,
    "11.3": Letters(
        hint="what did each side see, how was the weight chosen, and what does one task's gain say "
        "about the other?",
        hints=(
            "the two-task network made twice the updates. The weight was chosen on the test "
            "images. A Dice of 1 went in for images without a lesion.",
        ),
        right="abdf",
        wrong={
            "a": "a is right: with other updates the gain may come from training longer.",
            "b": "b is right: the best of five weights on the test images is too good.",
            "c": "c is wrong: a gain in AUC says nothing about the Dice of the other task.",
            "d": "d is right: a Dice of 1 for each normal image raises the mean without any skill.",
            "e": "e is wrong: a cosine below 0 between two noisy batches is common, also within "
            "one task.",
            "f": "f is right: the masks are extra knowledge that a doctor drew; a second set of "
            "labels for the same effort is the fair rival.",
            "g": "g is wrong: uncertainty weights follow the sizes of the losses; they do not know "
            "which task matters.",
        },
    ),
}
