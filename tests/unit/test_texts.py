"""README, model card and datasheet speak from the tables, to the last digit."""

import json
import re

import pytest

from medtl_utils import phantom
from medtl_utils.models import ULTRASOUND_SHA256
from studies.evidence_shown import row_of
from studies.evidence_texts import FILES, PLACE, TABLES, Tables, filled
from tests.conftest import ROOT

RESULTS = ROOT / "data" / "results"
TEXTS = {name: (ROOT / name).read_text() for name in FILES}


def table(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", TEXTS)
def test_marked_tables_are_the_tables(name):
    text = TEXTS[name]
    assert PLACE.search(text) and filled(text, Tables()) == text
    assert "TABLE" not in PLACE.sub("", text).split() and not re.search(r"\b[A-Z]+_TEXT\b", text)


def test_a_changed_digit_is_seen():
    text = TEXTS["README.md"]
    place = PLACE.search(text)
    digit = re.search(r"\d\.\d{3}", place[3])[0]
    planted = text.replace(digit, digit[:-1] + str((int(digit[-1]) + 1) % 10), 1)
    assert filled(planted, Tables()) != planted


def test_every_kept_table_that_is_told_of_is_marked():
    """A table in words would not follow its numbers: what the studies make is marked."""
    told = {m[2] for text in TEXTS.values() for m in PLACE.finditer(text)}
    wanted = {"first", "first levels", "recipes", "recipes, test fold", "accuracies"}
    assert wanted | {"two samples"} <= told <= set(TABLES)


# ---- sentences ---------------------------------------------------------------------------------


def points(n: int | None) -> int:
    gain = row_of(table("evidence_first")["gains"], arm="ultrasound", against="scratch", n=n)
    assert gain["low"] > 0
    return round(100 * gain["value"])


def test_the_headline_says_the_tables_points():
    words = {12: "twelve", 10: "ten", 6: "six"}
    said = [words[points(n)] for n in (25, 100, None)]
    sentence = "{} points of AUC with 25 labelled images, {} with 100, {} with all (about 624)"
    assert sentence.format(*said) in " ".join(TEXTS["README.md"].split())


def test_the_control_does_not_help():
    """The card says that its interval against scratch holds zero at every number."""
    first = table("evidence_first")["gains"]
    for n in (25, 100, 200, None):
        gain = row_of(first, arm="shapes", against="scratch", n=n)
        assert gain["low"] <= 0 <= gain["high"], n
    assert "holds zero at every number" in TEXTS["data/MODEL_CARD.md"]


def test_scratch_has_two_to_three_times_the_updates():
    updates = table("evidence_first")["updates"]
    for n in (25, 100, 200, None):
        of = lambda arm, n=n: row_of(updates, arm=arm, n=n)["updates"]
        assert 2 <= of("scratch") / of("ultrasound") <= 3
    assert "two to three times as many updates" in " ".join(TEXTS["README.md"].split())


def test_the_card_names_the_file_that_ships():
    card, made = TEXTS["data/MODEL_CARD.md"], table("pretrain")
    assert ULTRASOUND_SHA256 in card and f"`{made['command']}`" in card
    assert f"{made['images']:,} simulated" in card and f"{made['passes']:,} image passes" in card
    assert f"({made['minutes']:.0f} minutes, {made['device']}" in card
    outputs = sum(map(len, phantom.DESCRIPTORS.values())) + 2
    assert f"{outputs} outputs" in card


def test_the_datasheet_names_the_best_auc():
    assert f"is {phantom.best_auc():.3f}"[3:].lstrip("0") in TEXTS["data/README.md"]
