"""Exercises of chapter 05, Fine-tune a ResNet on real tumours."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Letters
from .scale_and_shift import SCALE_AND_SHIFT

# ---- 5.2: a learning rate, chosen by grouped cross-validation ----


def auc(score, malignant):
    above = score[malignant][:, None] - score[~malignant]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def of_folds(score, malignant, fold):
    return [auc(score[fold == k], malignant[fold == k]) for k in np.unique(fold)]


def best_of(value, scores):
    """(rate, value) with the highest value."""
    values = {rate: value(score) for rate, score in scores.items()}
    best = max(values, key=values.get)
    return best, values[best]


def choose_rate(scores, malignant, fold):
    return best_of(lambda score: np.mean(of_folds(score, malignant, fold)), scores)


def pooled(scores, malignant, fold):
    return best_of(lambda score: auc(score, malignant), scores)


def best_fold(scores, malignant, fold):
    return best_of(lambda score: max(of_folds(score, malignant, fold)), scores)


def worst_fold(scores, malignant, fold):
    return best_of(lambda score: min(of_folds(score, malignant, fold)), scores)


def accuracy(scores, malignant, fold):
    return best_of(lambda score: ((score >= 0.5) == malignant).mean(), scores)


def lowest(scores, malignant, fold):
    rate, value = best_of(lambda s: -np.mean(of_folds(s, malignant, fold)), scores)
    return rate, -value


def rate_then_pooled(scores, malignant, fold):
    rate = choose_rate(scores, malignant, fold)[0]
    return rate, auc(scores[rate], malignant)


def healthy_positive(scores, malignant, fold):
    return choose_rate(scores, ~malignant, fold)


def swapped(scores, malignant, fold):
    return choose_rate(scores, malignant, fold)[::-1]


def three_rates():
    """(scores, malignant, fold): networks of different folds use different parts of the scale."""
    cases = []
    for seed, n in ((11, 30), (12, 24)):
        rng = np.random.default_rng(seed)
        malignant, fold = np.arange(n) % 3 == 0, np.arange(n) // 3 % 3
        shift = np.array([0.05, 0.35, 0.6])[fold]  # high scores in one fold, low ones in another
        noise = lambda size, rng=rng, n=n: size * rng.random(n)
        scores = {
            0.003: np.clip(0.30 + 0.10 * malignant + noise(0.5), 0, 1),
            0.001: np.clip(shift + 0.14 * malignant + noise(0.2), 0, 1),
            0.0001: np.clip(0.35 + 0.17 * malignant + noise(0.3), 0, 1),
        }
        cases.append((scores, malignant, fold))
    return cases


RATE = Function(
    hint="which scores may be compared with each other: those of one network, or those of all?",
    hints=(
        "for each rate: take the images of one fold, compute their AUC, do so for every fold, and "
        "take the mean. Then compare the means of the rates.",
    ),
    right=choose_rate,
    cases=three_rates,
    form="return two numbers, the best rate and its cross-validated AUC",
    wrong=(
        Wrong(
            pooled,
            "that pools the scores of all folds, but each fold had a network of its own, with a "
            "scale of its own: one AUC per fold, then the mean.",
        ),
        Wrong(
            rate_then_pooled, "the rate is right, but its AUC is pooled: take the mean of folds."
        ),
        Wrong(best_fold, "that is the best single fold, which luck favours: take the mean."),
        Wrong(worst_fold, "that compares the worst folds: take the mean over folds."),
        Wrong(accuracy, "that is the accuracy at 0.5: the AUC needs no threshold."),
        Wrong(lowest, "that is the rate with the lowest AUC."),
        Wrong(
            healthy_positive,
            "the classes are swapped: a malignant image should score higher than another one.",
        ),
        Wrong(swapped, "the rate comes first, then its AUC."),
    ),
    other=Wrong(
        lambda scores, malignant, fold: (0.001, 0.5),
        "another rate or another AUC is expected: the mean over folds, highest of all rates.",
    ),
)

EXERCISES = {
    "5.1": SCALE_AND_SHIFT,
    "5.2": RATE,
    "5.3": Letters(
        hint="ask of each line: has it seen images that are validation images later?",
        hints=(
            "a mean over all images, a copy made before the split, and a split that parts groups "
            "all mix the two sides. And a number that was chosen to be good is no result.",
        ),
        right="bcdi",
        wrong={
            "a": "a may stay: reading the files decides nothing.",
            "b": "b leaks: the mean image is made of validation images, too. Use training images.",
            "c": "c leaks: an image and its mirrored copy can part. Split first, then mirror.",
            "d": "d leaks: each image is a group of its own, so near-copies are parted.",
            "e": "e may stay: the source was trained on simulated images alone.",
            "f": "f may stay: these weights use training labels alone.",
            "g": "g may stay: the fit uses the training part alone.",
            "h": "h may stay: validation images are there for choices.",
            "i": "i reports on the images that chose the threshold: use others.",
        },
    ),
    "5.4": Letters(
        hint="count on each side: how many recipes, how many updates? What was drawn again for the "
        "interval?",
        hints=(
            "eight recipes against one, 1,200 updates against 400, chosen by test AUC, and only "
            "the seeds were repeated.",
        ),
        right="aceg",
        wrong={
            "a": "a is right: eight recipes on one side, one on the other.",
            "b": "b is wrong: only seeds were repeated; the test images were the same each time.",
            "c": "c is right: the best of eight test AUCs was taken.",
            "d": "d is wrong: without patient numbers nobody can know.",
            "e": "e is right: transfer took three times the updates.",
            "f": "f is wrong: one source, trained once, was used.",
            "g": "g is right: the interval covers seeds, not images.",
        },
    ),
}
