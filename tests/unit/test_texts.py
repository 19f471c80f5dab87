"""README, model card and datasheet speak from the tables, to the last digit."""

import json
import re
from collections import Counter

import pytest

from medtl_utils import load_task, phantom, source_model
from medtl_utils.datasets import breast_lesions_usg, busi, fsdd
from medtl_utils.models import ULTRASOUND_SHA256
from studies import evidence_plan
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


# ---- sentences that are made from tables and data ---------------------------------------------


def of_the_recipes() -> dict[str, list[str]]:
    """Both chosen ways by cross-validation; the size of the test fold."""
    ways, chosen = table("recipes")["ways"], table("recipes")["chosen"]
    of = lambda side: row_of(ways, side=side, way=chosen[side])["value"]
    fold, kind = (busi.read_table()[key] for key in ("fold", "class"))
    n, ill = int((fold == 0).sum()), int(((fold == 0) & (kind == "malignant")).sum())
    both = f"give {of('transfer'):.3f} and {of('scratch'):.3f}"
    return {
        "README.md": [both, f"its {n} images ({ill} cancers)"],
        "data/MODEL_CARD.md": [f"{n} images ({ill} cancers) cannot settle it"],
    }


def of_the_data() -> dict[str, list[str]]:
    """How much of each data set ships."""
    eyes = [len(part) for part in _parts(load_task("retinamnist", size=28))]
    women = breast_lesions_usg.load_breast_descriptors()
    kinds = [int((women["classification"] == k).sum()) for k in ("benign", "malignant", "normal")]
    tumours = Counter(busi.read_table()["class"].tolist())
    said, heard = len(fsdd.load_words()), len(fsdd.load_sounds())
    finding = ", ".join(f"{tumours[f]} {f}" for f in busi.FINDINGS)
    return {
        "README.md": [
            f"{sum(tumours.values())} real breast-ultrasound images",
            f"{sum(eyes):,} fundus photographs",
            f"descriptors of {sum(kinds)} women's lesions",
            f"log-mel spectrograms of {said:,} recordings, six speakers, and {heard} recordings",
        ],
        "data/README.md": [
            f"{finding}.",
            f"{eyes[0]:,} to train, {eyes[1]} to validate, {eyes[2]} to test",
            f"{sum(kinds)} women, one scan each: {kinds[0]} benign, {kinds[1]} malignant, "
            f"{kinds[2]} normal",
            f"{said:,} recordings at 8 kHz",
        ],
    }


def _parts(task) -> tuple:
    return task.train, task.val, task._test


def of_the_source() -> dict[str, list[str]]:
    """How the source was trained, and what it reads worst, from chance to certainty."""
    made, normal = table("pretrain"), source_model("ultrasound").normalisation
    guess = {name: 1 / len(v) for name, v in phantom.DESCRIPTORS.items()}
    way = {n: (made["accuracy"][n] - g) / (1 - g) for n, g in guess.items()}
    worst = sorted(sorted(way, key=way.get)[:3], key=list(guess).index)
    words = {4: "four", 2: "two", 1: "one"}
    draws = [words[evidence_plan.DRAWS[n]] for n in (25, 100, 200, None)]
    size = (ROOT / "data" / "ultrasound_resnet18.safetensors").stat().st_size
    return {
        "data/MODEL_CARD.md": [
            "{}, {} and {} are named least well".format(*worst).capitalize(),
            f"learning rate up to {made['lr']}, weight decay 0.05, batches of {made['batch_size']}",
            f"(pixel / 255 − {normal.mean[0]:.2f}) / {normal.std[0]:.2f}",
            f"BatchNorm in float32, {size / 1e6:.1f} MB",
            "({}, {}, {} draws, {})".format(*draws),
        ]
    }


def of_the_phantom() -> dict[str, list[str]]:
    task = load_task("phantom")
    people = len({*task.train.patients, *task.val.patients})
    people = 240 if abs(people - 240) < 15 else people  # 2.5 images each on average
    images, tested = len(task.train) + len(task.val), len(set(task._test.patients))
    return {
        "data/README.md": [
            f"{images} labelled images of about {people} patients",
            f"about {round(len(task._test), -3):,} images of {tested} other patients",
        ]
    }


MAKERS = (of_the_recipes, of_the_data, of_the_source, of_the_phantom)


def unsaid(texts: dict[str, str], makers=MAKERS) -> list[str]:
    """Sentences that the tables make and the texts do not hold."""
    flat = {name: " ".join(text.split()) for name, text in texts.items()}
    made = [make() for make in makers]
    return [s for one in made for name, said in one.items() for s in said if s not in flat[name]]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_sentences_with_numbers_are_those_of_tables_and_data(make):
    assert unsaid(TEXTS, [make]) == []
    wanted = [said for of_one in make().values() for said in of_one]
    for said in wanted:  # planted: another digit, or another name
        other = re.sub(r"\d", lambda m: str((int(m[0]) + 1) % 10), said)
        other = other if other != said else said.swapcase()
        planted = {n: " ".join(t.split()).replace(said, other) for n, t in TEXTS.items()}
        assert said in unsaid(planted, [make])


def test_the_picture_is_told_as_it_is():
    """The headline figure's words: above scratch everywhere; no control interval without zero."""
    gains = table("evidence_first")["gains"]
    for n in (25, 100, 200, None):
        assert row_of(gains, arm="ultrasound", against="scratch", n=n)["low"] > 0
        assert row_of(gains, arm="ultrasound", against="shapes", n=n)["low"] > 0
    for name in ("README.md", "data/MODEL_CARD.md"):
        assert "above training from scratch at 25, 100, 200 and all images" in TEXTS[name]


def test_the_datasheet_quotes_notebook_12():
    page = (ROOT / "notebooks" / "12_cross_modal.ipynb").read_text(encoding="utf-8")
    (found,) = set(re.findall(r"descriptors alone: AUC 0(\.\d\d) \(", page))
    assert f"reaches {found} ([notebook 12]" in TEXTS["data/README.md"]
