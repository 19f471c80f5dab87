"""The table of notebook 14: it follows from its runs, choices are honest, the prose quotes it."""

import copy
import json

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit

from studies import domain_generalization as study
from studies import domain_methods as methods
from studies import domain_rows as rows
from tests.chapters.notebook_code import namespace, prose
from tests.conftest import ROOT

TABLE = json.loads((ROOT / "data/results/domain_generalization.json").read_text(encoding="utf-8"))
MEAN = "mean of A, B, C"


def follows(row: dict, values) -> bool:
    ends = stats.ttest_1samp(values, 0).confidence_interval()
    want = [np.mean(values), ends.low, ends.high]
    return bool(np.allclose([row[k] for k in ("value", "low", "high")], want, atol=3e-4))


def table_follows(table: dict) -> bool:
    """Gains over ERM, paired by seed or fold; busi's intervals hold the images, too."""
    runs = {(r["target"], r["arm"], r["how"]): np.array(r["auc"]) for r in table["runs"]}
    checks = []
    for row in table["gains"]:
        chosen = [runs[row["target"], arm, "chosen"] for arm in (row["arm"], "ERM")]
        gap = chosen[0] - chosen[1]
        if row["target"] == "busi":
            checks.append(abs(row["value"] - gap.mean()) < 3e-4)
        else:
            checks.append(follows(row, gap))
        checks.append(len(gap) == (4 if row["target"] == "phantom" else 5))
    for row in table["choices"]:
        best, honest = (runs[row["target"], row["arm"], h] for h in ("best on test", "chosen"))
        checks.append(follows(row["pretended"], best - honest) or not (best - honest).any())
        checks.append(bool((best >= honest).all()))
    return all(checks) and len(checks) > 100


def test_the_summary_follows_from_the_runs():
    assert table_follows(TABLE)
    for key, change in (("gains", "value"), ("gains", "value")):
        wrong = copy.deepcopy(TABLE)
        wrong[key][-1][change] += 0.01
        assert not table_follows(wrong)
    wrong = copy.deepcopy(TABLE)
    wrong["runs"][4]["auc"][0] += 0.1
    assert not table_follows(wrong)


# ---- choices -------------------------------------------------------------------------------------


def cell() -> dict:
    """Setting 0 is best where one may choose, setting 1 on the test."""
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[0.1, 0.9, 0.2, 0.8], [0.1, 0.2, 0.8, 0.9]])
    return {"CORAL/val": np.array([0.8, 0.7]), "CORAL/C": scores, "labels": labels}


def chooses_on_training_domains(at) -> bool:
    found = cell()
    honest, best = at(found, "CORAL", "C"), at(found, "CORAL", "C", "best on test")
    return np.array_equal(honest, found["CORAL/C"][0]) and np.array_equal(best, found["CORAL/C"][1])


def test_settings_are_chosen_on_training_domains():
    assert chooses_on_training_domains(rows.at)
    peeks = lambda found, arm, test, how="": rows.at(found, arm, test, "best on test")
    assert not chooses_on_training_domains(peeks)


# ---- patients ------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(study, "PEOPLE", {"train": 12, "val": 6, "test": 6})
    monkeypatch.setattr(study, "SIZE", 24)
    study.patients.cache_clear()
    yield study.patients(1)
    study.patients.cache_clear()


def shared_fairly(shared_out, people) -> bool:
    """Each woman at one machine, as many at each, with the image that this machine makes of her."""
    part = people["train"]
    got = shared_out(part, ("A", "C"))
    where = got["domains"].numpy()
    one = all(len(set(where[part["who"] == w])) == 1 for w in set(part["who"]))
    shown = [torch.equal(got["images"][k], part["AC"[w]][k]) for k, w in enumerate(where)]
    return one and all(shown) and (where == 0).sum() == (where == 1).sum()


def test_each_woman_is_examined_with_one_machine(few):
    assert shared_fairly(study.shared_out, few)

    def by_image(part, scanners):
        right = study.shared_out(part, scanners)
        return right | {"domains": torch.arange(len(part["who"])) % len(scanners)}

    assert not shared_fairly(by_image, few)


def test_no_image_is_in_two_parts(few):
    names = [{image.numpy().tobytes() for s in "ABCD" for image in few[part][s]}
             for part in ("train", "val", "test")]  # fmt: skip
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    assert len(names[0]) == 4 * 24  # and machines make different images


@pytest.mark.parametrize("n_domains", [1, 2, 3])
def test_batches_are_balanced(n_domains):
    domains = torch.arange(90) % n_domains
    made = methods.batches(domains, 3)
    assert len(made) == methods.UPDATES and {len(b) for b in made} == {methods.BATCH}
    for rows_of in made:
        assert domains[rows_of].bincount().tolist() == [methods.BATCH // n_domains] * n_domains


def test_busis_test_fold_stays_closed():
    assert set(study.small_data.real()[1].tolist()) == set(study.FOLDS) == {1, 2, 3, 4}


# ---- the prose -----------------------------------------------------------------------------------


def words_of(row: dict) -> str:
    return "{value:+z.3f} ({low:+z.3f} to {high:+z.3f})".format_map(row).replace("-", "−")


def pick(kind: str, **what) -> dict:
    (row,) = (r for r in TABLE[kind] if what.items() <= r.items())
    return row


def told() -> list[str]:
    """What the core quotes of the table."""
    said = [words_of(pick("gaps", scanner=MEAN, against="seen in training"))]
    said.append(words_of(pick("gaps", scanner="D", against="the scanners seen")))
    said.append(words_of(pick("choices", target="D", arm="ERM")["pretended"]))
    said.append(words_of(pick("gains", target="D", arm="physics")))
    said += [words_of(row) for row in TABLE["real"]]
    part = lambda kind, k: words_of(pick("risks", arm=f"AdaBN, {k}")[kind])
    said += [part("risk - ERM", k) for k in ("all", "benign", "malignant")]
    return said + [part("auc - ERM", k) for k in ("benign", "malignant")]


def test_the_prose_says_what_the_table_says():
    text = prose("14")
    assert [words for words in told() if words not in text] == []


def verdicts(table: dict) -> dict[str, int]:
    """How many cells of the map helped, harmed, or cannot say."""
    shown = [r for r in table["gains"] if r["target"] != MEAN]
    helped, harmed = (sum(r["low"] > 0 for r in shown), sum(r["high"] < 0 for r in shown))
    return {"cells": len(shown), "helped": helped, "harmed": harmed}


def test_the_prose_counts_the_map():
    count = verdicts(TABLE)
    words = "Of {cells} intervals {helped} lies above zero, {harmed} below".format_map(count)
    assert words in prose("14") and f"{count['cells']} comparisons" in prose("14")
    moved = copy.deepcopy(TABLE)
    moved["gains"] = [r | {k: r[k] + 0.5 for k in ("low", "high")} for r in moved["gains"]]
    assert verdicts(moved)["helped"] == count["cells"] != count["helped"]


def words_of_probe(row: dict) -> str:
    value, low, high = (f"{100 * row['chosen'][k]:.0f}" for k in ("value", "low", "high"))
    return f"{value} % ({low} to {high}) with {row['arm']}"


def words_of_clinic(odds: np.ndarray, ill: np.ndarray, both) -> list[str]:
    """One network's mean risk, and the slopes of single networks."""
    networks = np.split(np.arange(len(ill)), 5)
    slopes = [both(odds[rows], ill[rows])[1] for rows in networks]
    worst = max(networks, key=lambda rows: ill[rows].mean() - expit(odds[rows]).mean())
    b = both(odds, ill)[1]
    return [
        f"one network states {expit(odds[worst]).mean():.2f} where {ill[worst].mean():.2f} are ill",
        f"The slope is {b:.2f}, in single networks {min(slopes):.2f} to {max(slopes):.2f}",
    ]


def test_the_prose_tells_of_the_probe_and_the_clinic():
    text = prose("14")
    for arm in ("ERM", "CORAL", "DANN"):
        row = pick("scanner told", arm=arm)
        assert words_of_probe(row) in text
        wrong = {k: v - 0.02 for k, v in row["chosen"].items()}
        assert words_of_probe(row | {"chosen": wrong}) not in text
    odds, ill = (np.array(TABLE["clinic"][k]) for k in ("log-odds", "malignant"))
    both = namespace("14")["both"]
    assert [words for words in words_of_clinic(odds, ill, both) if words not in text] == []
    no_repair = words_of_clinic(2 * odds + 1, ill, lambda z, y: (0.0, 1.0))
    assert not any(words in text for words in no_repair)


def said_in_words(table: dict) -> bool:
    """Cells of the map: only controls harm, only physics on D helps; as much as a peek at D."""
    shown = [r for r in table["gains"] if r["target"] != MEAN]
    harmed = {r["arm"] for r in shown if r["high"] < 0}
    helped = [(r["arm"], r["target"]) for r in shown if r["low"] > 0]
    peek, gain = (
        next(r for r in table[kind] if (r["target"], r["arm"]) == ("D", arm))
        for kind, arm in (("choices", "ERM"), ("gains", "physics"))
    )
    risk = next(r["risk - ERM"] for r in table["risks"] if r["arm"] == "AdaBN, all")
    return (
        harmed == {"greys", "ERM from random"}
        and helped == [("physics", "D")]
        and peek["against ERM"]["value"] >= gain["value"]
        and risk["low"] < 0 < risk["high"]
    )


def test_what_is_said_in_words_holds():
    assert said_in_words(TABLE)
    for kind, part in (("gains", None), ("choices", "against ERM"), ("risks", "risk - ERM")):
        wrong = copy.deepcopy(TABLE)
        for row in wrong[kind]:
            row = row[part] if part else row
            row |= {k: row[k] - 0.1 for k in ("value", "low", "high")}
        assert not said_in_words(wrong)


@pytest.mark.slow
def test_a_cell_is_reproduced():
    found = study.run("scanner", "A", 0)
    kept = next(
        r["auc"][0] for r in TABLE["runs"]
        if (r["target"], r["arm"], r["how"]) == ("A", "ERM", "chosen")
    )  # fmt: skip
    assert abs(rows.of_cell(found, "ERM", ("A",)) - kept) < 0.02
