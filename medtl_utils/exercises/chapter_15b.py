"""Exercises of chapter 15b, Speech recognition."""

import numpy as np
from scipy import stats

from .functions import Function, Wrong
from .kinds import Letters

# ---- 15b.1: how many frames a recording gives, and how far apart the frequencies are ----


def frames_and_step(seconds, rate, frame_ms, hop_ms):
    return frames(seconds, frame_ms, hop_ms), 1000 / frame_ms


def frames(seconds, frame_ms, hop_ms):
    return np.floor((1000 * seconds - frame_ms) / hop_ms + 1e-9) + 1


def two_recordings():
    """(seconds, rate, frame_ms, hop_ms)."""
    return [(0.5, 8000, 32, 16), (2.0, 16000, 25, 10)]


RESOLUTION = Function(
    hint="count the starts of frames that still fit; then ask what a frame of so many samples "
    "can tell apart.",
    hints=(
        "in milliseconds, the last frame starts at most at 1000 * seconds - frame_ms. The "
        "frequencies of a Fourier transform are rate / (samples in a frame) apart.",
    ),
    right=frames_and_step,
    cases=two_recordings,
    form="return two numbers: how many frames, and the step in Hz",
    wrong=(
        Wrong(
            lambda s, r, f, h: (frames(s, f, h) - 1, 1000 / f),
            "one frame is missing: the first one starts at 0.",
        ),
        Wrong(
            lambda s, r, f, h: (np.floor(1000 * s / h + 1e-9), 1000 / f),
            "the last frames run over the end: a frame must fit in whole.",
        ),
        Wrong(
            lambda s, r, f, h: (np.floor(1000 * s / f + 1e-9), 1000 / f),
            "frames overlap: a new one starts every hop_ms, not every frame_ms.",
        ),
        Wrong(
            lambda s, r, f, h: (frames(s, f, h), 1000 / h),
            "the step comes from the length of a frame, not from the hop.",
        ),
        Wrong(
            lambda s, r, f, h: (frames(s, f, h), r / 2),
            "that is the highest frequency: the distance of two neighbours is asked for.",
        ),
        Wrong(
            lambda s, r, f, h: (frames(s, f, h), 1 / f),
            "that step is per millisecond: turn it into Hz.",
        ),
        Wrong(
            lambda s, r, f, h: (1000 / f, frames(s, f, h)),
            "the order is the other way round: frames first, then Hz.",
        ),
    ),
    other=Wrong(
        lambda s, r, f, h: (7.0, 7.0),
        "other numbers are expected: half a second in frames of 32 ms every 16 ms gives 30 frames.",
    ),
)

# ---- 15b.2: an interval that covers speakers ----

COUNTS = {"ann": (9, 10), "bo": (16, 20), "cy": (12, 20), "di": (36, 40)}  # right, recordings


def by_speaker(right, speakers):
    """Share of right recordings of each speaker."""
    return np.array([right[speakers == name].mean() for name in np.unique(speakers)])


def interval(values, quantile, ddof=1):
    reach = quantile * values.std(ddof=ddof) / len(values) ** 0.5
    return values.mean(), values.mean() - reach, values.mean() + reach


def over_speakers(right, speakers):
    values = by_speaker(right, speakers)
    return interval(values, stats.t.ppf(0.975, len(values) - 1))


def normal_quantile(right, speakers):
    return interval(by_speaker(right, speakers), stats.norm.ppf(0.975))


def over_recordings(right, speakers):
    return interval(right.astype(float), stats.t.ppf(0.975, len(right) - 1))


def over_recordings_normal(right, speakers):
    return interval(right.astype(float), stats.norm.ppf(0.975))


def divided_by_n(right, speakers):
    values = by_speaker(right, speakers)
    return interval(values, stats.t.ppf(0.975, len(values) - 1), ddof=0)


def without_root(right, speakers):
    values = by_speaker(right, speakers)
    reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1)
    return values.mean(), values.mean() - reach, values.mean() + reach


def one_sided(right, speakers):
    values = by_speaker(right, speakers)
    return interval(values, stats.t.ppf(0.95, len(values) - 1))


def pooled_middle(right, speakers):
    apart = right.mean() - by_speaker(right, speakers).mean()
    return tuple(end + apart for end in over_speakers(right, speakers))


def four_speakers():
    """(right, speakers), twice: four speakers, then three of them."""
    cases = []
    for names in (tuple(COUNTS), tuple(COUNTS)[1:]):
        right = [np.arange(COUNTS[name][1]) < COUNTS[name][0] for name in names]
        people = np.repeat(names, [COUNTS[name][1] for name in names])
        cases.append((np.concatenate(right), people))
    return cases


OVER_SPEAKERS = Function(
    hint="one number a speaker first; then the mean of these few numbers and its t interval.",
    hints=(
        "values = [right[speakers == s].mean() for each s]; half-width = t quantile (0.975, "
        "n - 1) * SD with ddof=1 / sqrt(n), n = number of speakers.",
    ),
    right=over_speakers,
    cases=four_speakers,
    form="return three numbers: mean, low, high",
    wrong=(
        Wrong(
            over_recordings,
            "that interval covers recordings: those of one speaker are not independent.",
        ),
        Wrong(
            over_recordings_normal,
            "that interval covers recordings: one number per speaker is the unit here.",
        ),
        Wrong(
            pooled_middle,
            "the middle is the mean over recordings: speakers with many count more. Take the mean "
            "of the speakers.",
        ),
        Wrong(
            normal_quantile,
            "1.96 is for many speakers: with few, take the t quantile with n - 1 degrees of "
            "freedom.",
        ),
        Wrong(divided_by_n, "the SD divides by n: use ddof=1, because the mean is estimated too."),
        Wrong(without_root, "that is the spread of speakers: divide the SD by sqrt(n)."),
        Wrong(one_sided, "95 % in the middle leaves 2.5 % on each side: take the 0.975 quantile."),
    ),
    other=Wrong(
        lambda right, speakers: (0.5, 0.4, 0.6),
        "other numbers are expected: mean of the speakers' shares, then low and high.",
    ),
)

EXERCISES = {
    "15b.1": RESOLUTION,
    "15b.2": OVER_SPEAKERS,
    "15b.3": Letters(
        hint="who is on both sides, where was each group recorded, and what is the unit of the "
        "interval?",
        hints=(
            "40 people gave 3,900 recordings. Patients and controls never share a microphone. "
            "What could a test on silence show?",
        ),
        right="acef",
        wrong={
            "a": "a is right: recordings were split, and each person has about a hundred.",
            "b": "b is wrong: deep layers do not undo a split. The network may know the voice.",
            "c": "c is right: every patient speaks in the clinic, every control at home.",
            "d": "d is wrong: more recordings of the same people are no new people.",
            "e": "e is right: without speech there is no sign of the disease, so a score above "
            "chance comes from the site.",
            "f": "f is right: 40 people are the unit, not 1,300 recordings.",
            "g": "g is wrong: at another clinic nobody has this site's noise; the score can fall "
            "to chance.",
        },
    ),
}
