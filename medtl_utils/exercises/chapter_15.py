"""Exercises of chapter 15, ECG analysis."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Letters

# ---- 15.1: stored whole numbers -> mV, as DICOM defines it ----


def millivolts(stored, sensitivity, factor, baseline, unit):
    in_unit = stored * sensitivity * factor + baseline
    return in_unit / 1000 if unit == "uV" else in_unit


def unit_ignored(stored, sensitivity, factor, baseline, unit):
    return stored * sensitivity * factor + baseline


def without_baseline(stored, sensitivity, factor, baseline, unit):
    return millivolts(stored, sensitivity, factor, 0.0, unit)


def without_factor(stored, sensitivity, factor, baseline, unit):
    return millivolts(stored, sensitivity, 1.0, baseline, unit)


def baseline_first(stored, sensitivity, factor, baseline, unit):
    return millivolts(stored + baseline, sensitivity, factor, 0.0, unit)


def always_micro(stored, sensitivity, factor, baseline, unit):
    return unit_ignored(stored, sensitivity, factor, baseline, unit) / 1000


def times_a_thousand(stored, sensitivity, factor, baseline, unit):
    in_unit = unit_ignored(stored, sensitivity, factor, baseline, unit)
    return in_unit * 1000 if unit == "uV" else in_unit


def two_leads():
    """(stored, sensitivity, factor, baseline, unit)."""
    stored = np.array([0, 100, -240, 1000])
    return [(stored.copy(), 1.25, 0.9, 20.0, "uV"), (stored.copy(), 0.005, 1.1, -0.3, "mV")]


MILLIVOLTS = Function(
    hint="three steps: scale the stored numbers, add the baseline, then bring the unit to mV.",
    hints=(
        "the baseline has the unit of the sensitivity, so it is added after the scaling. "
        "1 mV is 1,000 uV.",
    ),
    right=millivolts,
    cases=two_leads,
    form="return an array with one number in mV for each stored number",
    wrong=(
        Wrong(unit_ignored, "the unit is not used: a lead in uV is still 1,000 times too large."),
        Wrong(without_baseline, "the baseline is missing: add it after the scaling."),
        Wrong(without_factor, "the factor is missing: it multiplies, too."),
        Wrong(
            baseline_first,
            "the baseline was scaled: it has the unit already, so add it after the scaling.",
        ),
        Wrong(times_a_thousand, "the wrong way round: 1 uV is 0.001 mV."),
        Wrong(
            always_micro,
            "a lead that is in mV already was divided by 1,000: look at the unit.",
            lambda attempt: (
                attempt.case == 1
                and np.allclose(np.asarray(attempt.result, float), always_micro(*attempt.inputs))
            ),
        ),
    ),
    other=Wrong(
        lambda stored, *others: stored - stored.mean(),
        "other numbers are expected: stored * sensitivity * factor + baseline, then to mV.",
    ),
)

# ---- 15.2: premature beats with a pause, from RR intervals ----


def premature(rr):
    middle = np.median(rr)
    return int(((rr[:-1] < 0.85 * middle) & (rr[1:] > 1.15 * middle)).sum())


def by_the_mean(rr):
    return int(((rr[:-1] < 0.85 * rr.mean()) & (rr[1:] > 1.15 * rr.mean())).sum())


def short_alone(rr):
    return int((rr < 0.85 * np.median(rr)).sum())


def long_alone(rr):
    return int((rr > 1.15 * np.median(rr)).sum())


def pause_first(rr):
    middle = np.median(rr)
    return int(((rr[1:] < 0.85 * middle) & (rr[:-1] > 1.15 * middle)).sum())


def either(rr):
    return short_alone(rr) + long_alone(rr)


def share(rr):
    return premature(rr) / len(rr)


def two_strips():
    """RR intervals in seconds. The first has two early beats; its mean lies high."""
    first = [0.80, 0.80, 0.60, 1.20, 0.80, 0.80, 0.66, 1.00, 0.80, 1.60, 1.60, 0.80, 0.82, 0.60]
    second = [1.00, 0.98, 1.60, 0.70, 1.00, 0.70, 1.30, 1.02, 0.80, 1.00, 1.01]
    return [(np.array(first),), (np.array(second),)]


PREMATURE = Function(
    hint="compare each interval and the one after it with the median of all.",
    hints=(
        "rr[:-1] are the intervals that have a next one, rr[1:] the next ones. Combine with &.",
    ),
    right=premature,
    cases=two_strips,
    form="return one whole number",
    wrong=(
        Wrong(
            by_the_mean,
            "that compares with the mean: pauses and early beats move it. Use the median.",
        ),
        Wrong(
            short_alone,
            "that counts short intervals alone: the pause after them is asked for, too.",
        ),
        Wrong(long_alone, "that counts pauses alone: a short interval must come just before."),
        Wrong(pause_first, "that counts a pause before a short interval: the order is reversed."),
        Wrong(either, "that adds short and long intervals: both are asked for, one after another."),
        Wrong(share, "that is a share of the intervals: the number of beats is asked for."),
    ),
    other=Wrong(lambda rr: 40, "another number is expected: count the pairs by hand and compare."),
)

EXERCISES = {
    "15.1": MILLIVOLTS,
    "15.2": PREMATURE,
    "15.3": Letters(
        hint="what was split, what could the rate alone do, and what did the device change?",
        hints=(
            "segments of one recording are no new patients. AF patients were faster, so ask for "
            "the baseline. The interval counts segments.",
        ),
        right="abdf",
        wrong={
            "c": "c is wrong: 0.97 is for segments of patients who are partly known.",
            "e": "e is wrong: the interval draws segments as if independent. 45 patients give a "
            "much wider one.",
            "g": "g is wrong: other devices have other rates, filters and leads. Test it.",
            "a": "a is right: a split by segment puts one patient on both sides.",
            "b": "b is right: 112 against 71 beats/min. Give the result of the rate alone.",
            "d": "d is right: 250 Hz must be resampled, or the rate comes out wrong.",
            "f": "f is right: the 45 patients are independent, the 9,000 segments are not.",
        },
    ),
}
