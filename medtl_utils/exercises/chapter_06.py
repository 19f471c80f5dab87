"""Exercises of chapter 06, Evaluate honestly."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Letters
from .reading import alike, plain

# ---- 6.1: the prevalence at which a positive result has a wanted predictive value ----


def prevalence_for(sensitivity, specificity, wanted):
    odds = prevalence_odds(sensitivity, specificity, wanted)
    return odds / (1 + odds)


def prevalence_odds(sensitivity, specificity, wanted):
    return wanted / (1 - wanted) * (1 - specificity) / sensitivity


def ppv(sensitivity, specificity, prevalence):
    found = prevalence * sensitivity
    return found / (found + (1 - prevalence) * (1 - specificity))


def two_tests():
    """(sensitivity, specificity, wanted)."""
    return [(0.9, 0.8, 0.1), (0.6, 0.95, 0.5)]


PREVALENCE = Function(
    hint="set the formula of the PPV equal to wanted, and solve it for the prevalence.",
    hints=(
        "in odds it is one line: wanted / (1 - wanted) = prevalence odds * sensitivity / "
        "(1 - specificity). Then turn odds into a probability.",
    ),
    right=prevalence_for,
    cases=two_tests,
    form="return one number between 0 and 1",
    wrong=(
        Wrong(
            ppv,
            "that is the PPV where the prevalence is wanted: here the PPV is given, and the "
            "prevalence is asked for.",
        ),
        Wrong(lambda a, b, w: prevalence_for(b, a, w), "sensitivity and specificity are swapped."),
        Wrong(prevalence_odds, "those are odds: odds / (1 + odds) is the probability."),
        Wrong(
            lambda a, b, w: 1 - prevalence_for(a, b, w),
            "that is the share without the disease: 1 minus the prevalence.",
        ),
        Wrong(
            lambda a, b, w: prevalence_for(1 - a, 1 - b, w),
            "that is the prevalence for a negative result: a positive one is found with "
            "probability sensitivity, or 1 - specificity.",
        ),
        Wrong(
            lambda a, b, w: 100 * prevalence_for(a, b, w),
            "a share between 0 and 1 is asked for, not per cent.",
        ),
    ),
    other=Wrong(
        lambda a, b, w: 0.5, "another number is expected: put it into the PPV, and compare."
    ),
)

# ---- 6.2: a threshold for patients, of whom any image may be positive ----

IMAGES = {  # patient -> scores of her images; the first five are malignant
    "a": (0.9, 0.3),
    "b": (0.65, 0.7, 0.6),
    "c": (0.1, 0.5),
    "d": (0.45, 0.4),
    "e": (0.15, 0.2, 0.05),
    "f": (0.85, 0.25),
    "g": (0.55,),
    "h": (0.02, 0.35),
    "i": (0.12,),
}


def highest_with(wanted, values, scores):
    """The highest of the scores that at least a share `wanted` of the values reaches."""
    return max(t for t in scores if (np.asarray(values) >= t).mean() >= wanted)


def of_patients(scores, patients, chosen, rule):
    """`rule` of the scores of each of the chosen images' patients."""
    return np.array([rule(scores[patients == name]) for name in np.unique(patients[chosen])])


def threshold(scores, patients, positive, wanted):
    return highest_with(wanted, of_patients(scores, patients, positive, np.max), scores)


def per_image(scores, patients, positive, wanted):
    return highest_with(wanted, scores[positive], scores)


def of_the_mean(scores, patients, positive, wanted):
    return highest_with(wanted, of_patients(scores, patients, positive, np.mean), scores)


def of_all_images(scores, patients, positive, wanted):
    return highest_with(wanted, of_patients(scores, patients, positive, np.min), scores)


def benign_counted(scores, patients, positive, wanted):
    everyone = np.ones(len(scores), bool)
    return highest_with(wanted, of_patients(scores, patients, everyone, np.max), scores)


def strictly_above(scores, patients, positive, wanted):
    highest = of_patients(scores, patients, positive, np.max)
    return max(t for t in scores if (highest > t).mean() >= wanted)


def nine_patients():
    """(scores, patients, positive, wanted)."""
    scores = np.concatenate(list(IMAGES.values()))
    patients = np.repeat(list(IMAGES), [len(v) for v in IMAGES.values()])
    positive = patients < "f"
    return [(scores.copy(), patients.copy(), positive.copy(), wanted) for wanted in (0.8, 0.6)]


def called_positive(result, scores, *others):
    """The calls that a threshold leads to: two thresholds with the same calls are equally good."""
    t = plain(result)
    if not alike(t, np.array(0.0)):
        return None
    return nine_patients()[0][0] >= t.item() - 1e-6  # float32 rounds a score up or down


THRESHOLD = Function(
    hint="which one score of a malignant patient decides whether she is found?",
    hints=(
        "her highest score. Make one number per malignant patient, "
        "scores[patients == name].max(), and then choose the threshold on these numbers.",
    ),
    right=threshold,
    cases=nine_patients,
    observe=called_positive,
    form="return one number, the threshold",
    wrong=(
        Wrong(
            per_image,
            "that counts images: a patient is found when any of her images is, so take one "
            "number per patient.",
        ),
        Wrong(of_the_mean, "that uses the mean of her images; here one image is enough."),
        Wrong(of_all_images, "that asks for all of her images; here one image is enough."),
        Wrong(
            benign_counted,
            "the benign patients were counted, too: sensitivity is a share of the malignant.",
        ),
        Wrong(
            strictly_above, "an image exactly at the threshold is called positive: use >=, not >."
        ),
        Wrong(
            lambda scores, patients, positive, wanted: min(scores),
            "the lowest threshold calls everyone positive: take the highest that is good enough.",
        ),
    ),
    other=Wrong(
        lambda scores, patients, positive, wanted: 0.55,
        "another threshold is expected: the highest that finds the wanted share of the malignant "
        "patients.",
    ),
)

EXERCISES = {
    "6.1": PREVALENCE,
    "6.2": THRESHOLD,
    "6.3": Letters(
        hint="for each test image: does the network already know this patient, or this picture?",
        hints=(
            "compare hospital and number together. Look for a number that has lost its zero, a "
            "patient who came from elsewhere, and a copy of a picture.",
        ),
        right="aceg",
        wrong={
            "b": "b may stay: the number is the same, but the hospital and the year of birth "
            "differ.",
            "d": "d may stay: a shared scanner does not make a patient known. Name the scanner in "
            "the report.",
            "f": "f may stay: another patient, on the same day in the same room.",
            "a": "a must leave: the same patient, whichever breast and year.",
            "c": "c must leave: the picture itself was trained on.",
            "e": "e must leave: 87 is 087, read as a number.",
            "g": "g must leave: she is patient 233 of North, who is in the training set.",
        },
    ),
    "6.4": Letters(
        hint="what was split, what chose the epoch, what was drawn, and what do O:E and slope say?",
        hints=(
            "images were split and drawn, not patients. O:E below 1: fewer cancers than the "
            "probabilities promise. PPV needs the prevalence of the clinic.",
        ),
        right="adeg",
        wrong={
            "b": "b is wrong: the epoch with the best test AUC was kept, so the test set chose.",
            "c": "c is wrong: a PPV belongs to a prevalence. At 5 % Bayes' rule gives about 18 %.",
            "f": "f is wrong: the AUC knows only the order. O:E 0.70 says that they are not right.",
            "a": "a is right: images were split, and a patient has about three.",
            "d": "d is right: O:E is 0.70, and its interval excludes 1.",
            "e": "e is right: images were drawn, but patients are independent. The choice of the "
            "epoch is not in it either.",
            "g": "g is right: 0.95 lies above the whole interval, 0.81 to 0.93.",
        },
    ),
}
