"""The table of notebook 15b: it follows from its runs, the prose quotes it, cells are repeated."""

import copy
import json

import numpy as np
import pytest
import torch
from scipy import stats

from medtl_utils.datasets.fsdd import load_words
from studies import speech
from tests.chapters.notebook_code import prose
from tests.conftest import ROOT
from tests.studies.test_slices import flattered, reproduced

TABLE = json.loads((ROOT / "data" / "results" / "speech.json").read_text(encoding="utf-8"))


# ---- the study's table ---------------------------------------------------------------------------


def follows(row: dict, values) -> bool:
    ends = stats.ttest_1samp(values, 0).confidence_interval()
    bounded = (0, 1) if "each" in row else (-1, 1)
    want = [np.mean(values), max(ends.low, bounded[0]), min(ends.high, bounded[1])]
    return bool(np.allclose([row[k] for k in ("value", "low", "high")], want, atol=2e-4))


def table_follows(table: dict) -> bool:
    """Draws are averaged within a speaker; t intervals over six speakers, or over five seeds."""
    of = lambda part: [r for r in table["runs"] if r["part"] == part]
    by_speaker = np.array(
        [
            np.mean([r["accuracy"] for r in of("words") if r["speaker"] == name], axis=0)
            for name in speech.SPEAKERS
        ]
    )
    voices = np.array([r["accuracy"] for r in of("voices")])
    shots, arms = list(speech.SHOTS), list(speech.ARMS)
    at = lambda n, arm: by_speaker[:, shots.index(n), arms.index(arm)]
    who = lambda n, arm: voices[
        :, list(speech.VOICE_SHOTS).index(n), list(speech.VOICE_ARMS).index(arm)
    ]
    checks = [follows(r, at(r["shots"], r["arm"])) for r in table["levels"]]
    checks += [
        follows(r, at(r["shots"], r["arm"]) - at(r["shots"], r["against"]))
        for r in table["differences"]
    ]
    checks += [follows(r, who(r["shots"], r["arm"])) for r in table["voices"]]
    checks += [
        follows(r, who(r["shots"], r["arm"]) - who(r["shots"], r["against"]))
        for r in table["voices_differences"]
    ]
    mixed = np.mean([r["accuracy"] for r in of("mixed")], axis=0)
    new = at(1, speech.AS_IS)
    checks += [follows(r, v) for r, v in zip(table["splits"], (mixed, new, mixed - new))]
    return all(checks) and len(checks) > 60 and len(table["seeds"]) >= 5


def test_the_speech_summary_follows_from_the_runs():
    assert table_follows(TABLE)
    for key in ("levels", "differences", "voices", "voices_differences", "splits"):
        wrong = copy.deepcopy(TABLE)
        wrong[key][-1]["high"] += 0.01
        assert not table_follows(wrong)
    wrong = copy.deepcopy(TABLE)
    wrong["runs"][0]["accuracy"][0][0] += 0.1
    assert not table_follows(wrong)


def test_every_row_holds_its_value_and_stays_between_0_and_1():
    rows = TABLE["levels"] + TABLE["voices"] + TABLE["splits"][:2] + [TABLE["statistics_of_10"]]
    bounded = lambda rows: all(0 <= r["low"] <= r["value"] <= r["high"] <= 1 for r in rows)
    assert bounded(rows) and len(rows) > 30
    assert not bounded([*rows, {**rows[0], "high": 1.1}])


def words_of(row: dict) -> str:
    """With two decimals, or three where an end would be 0.00."""
    near = min(abs(row["low"]), abs(row["high"])) < 0.005
    text = "{value:+.2f} ({low:+.2f} to {high:+.2f})".replace(".2f", ".3f" if near else ".2f")
    return text.format_map(row).replace("-", "−")


def told() -> list[str]:
    """What the summary and sections 3 and 4 must quote."""
    pick = lambda rows, **what: next(r for r in rows if what.items() <= r.items())
    gap, voice = TABLE["differences"], TABLE["voices_differences"]
    rows = [pick(gap, shots=1, arm=speech.ALL, against=speech.SCRATCH)]
    rows += [pick(gap, shots=1, arm=speech.ALL, against=speech.AS_IS)]
    rows += [pick(gap, shots=5, arm=speech.AS_IS, against=speech.SCRATCH)]
    rows += [pick(gap, shots=1, arm=speech.STATISTICS, against=speech.AS_IS)]
    rows += [
        pick(voice, shots=10, arm=arm, against=speech.SCRATCH) for arm in ("new head", "all layers")
    ]
    rows += [TABLE["splits"][2]]
    return [words_of(row) for row in rows]


def test_the_prose_says_what_the_speech_table_says():
    text = prose("15b")
    assert [words for words in told() if words not in text] == []
    assert all(words not in text.replace(words, "") for words in told())


# ---- slices of the study -------------------------------------------------------------------------


def kept(part: str, speaker: str = "") -> dict[int, np.ndarray]:
    runs = [r for r in TABLE["runs"] if (r["part"], r["speaker"]) == (part, speaker)]
    return {r["seed"]: np.array(r["accuracy"]) for r in runs}


def test_the_baseline_of_a_cell_is_computed_again():
    """Logistic regression of two cells: nothing is trained that takes longer than a second."""
    data, found = load_words(), {}
    own, later = data.patients == "theo", data.descriptors["take"] >= speech.FIRST_TEST_TAKE
    pool, test = np.flatnonzero(own & ~later), np.flatnonzero(own & later)
    for seed in (1, 3):
        few = speech.draw(data.labels.numpy(), pool, 2, [seed, speech.SPEAKERS.index("theo")])
        sides = (data.images[few], data.labels[few], data.images[test], data.labels[test])
        found[seed] = speech.linear(*sides)
    theirs = {
        seed: v[1, speech.ARMS.index(speech.LINEAR)] for seed, v in kept("words", "theo").items()
    }
    near = lambda a, b: all(abs(a[s] - b[s]) < 0.01 for s in (1, 3))
    assert near(found, theirs) and not near({1: found[3], 3: found[1]}, theirs)


@pytest.mark.slow
def test_a_cell_of_the_speech_study_is_reproduced(monkeypatch):
    """One speaker, one seed, all arms; planted: the labels of the source dealt anew."""
    theirs = {s: v.mean(0)[[2, 3, 4, 6]] for s, v in kept("words", "lucas").items()}
    again = lambda: {1: speech.words("lucas", 1)["accuracy"].mean(0)[[2, 3, 4, 6]]}
    found = again()
    assert reproduced(theirs, found)
    assert not reproduced(flattered(theirs, 0.2), found)
    right = speech.source
    dealt = lambda x, y, seed: right(x, y[torch.randperm(len(y))], seed)
    monkeypatch.setattr(speech, "source", dealt)
    assert not reproduced(theirs, again())
