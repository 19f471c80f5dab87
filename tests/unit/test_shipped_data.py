"""The data that ship: bytes, licences, and what the datasheet says of them, held to the tables."""

import csv
import hashlib
import re
import subprocess
import tomllib
from collections import Counter

import numpy as np
import pytest
from medmnist import INFO

from medtl_utils.data import DataError
from medtl_utils.datasets import breast_lesions_usg, busi, load_task, shipped
from studies import busi_archive
from tests.conftest import ROOT

DATA = ROOT / "data"
README = (DATA / "README.md").read_text(encoding="utf-8")
NOTICE = (DATA / "NOTICE.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def table():
    return busi.read_table()


# ---- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped.SHA256)
def test_a_file_is_whole_and_a_changed_byte_is_found(name, tmp_path):
    content = shipped.read(name)
    assert content == (DATA / name).read_bytes()
    for place in (0, len(content) // 3, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(DataError, match=rf"{name}: its SHA-256 is .*expected .*again"):
            shipped.read(name, tmp_path)
    (tmp_path / name).write_bytes(content[:-1])
    with pytest.raises(DataError, match="changed or cut off"):
        shipped.read(name, tmp_path)


def test_line_ends_of_windows_are_no_change(tmp_path):
    for name in ("busi_images.csv", "breast_lesions_usg.csv"):
        text = (DATA / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        (tmp_path / name).write_bytes(text)
        assert shipped.read_table(name, tmp_path) == shipped.read_table(name)


@pytest.mark.parametrize("name", ["breastmnist", "retinamnist"])
def test_medmnists_files_are_the_official_ones(name):
    content = shipped.read(f"{name}.npz")
    assert hashlib.md5(content).hexdigest() == INFO[name]["MD5"]
    assert hashlib.md5(content[::-1]).hexdigest() != INFO[name]["MD5"]


def test_retinamnist_ships():
    task = load_task("retinamnist", size=28)
    assert [len(s) for s in (task.train, task.val, task._test)] == [1080, 120, 400]
    assert task.train.images.shape[1:] == (3, 28, 28) and len(task.classes) == 5
    for words in ("DeepDRiD", "CC BY 4.0", "several photographs of each patient", "are ordered"):
        assert words in task.card


def not_in_its_place(names, readme: str, notice: str, wheel: dict) -> set[str]:
    """Files that the datasheet, the notice or the wheel forgets."""
    carried = {"data/" + n for n in names} & set(wheel)
    return {
        name
        for name in names
        if f"`{name}`" not in readme or f"`{name}`" not in notice or f"data/{name}" not in carried
    }


def test_each_file_has_its_notice_and_is_carried_by_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert not_in_its_place(shipped.SHA256, README, NOTICE, wheel) == set()
    assert wheel["data/NOTICE.md"] == "medtl_utils/data/NOTICE.md"
    assert all(goal == f"medtl_utils/{source}" for source, goal in wheel.items())
    forgotten = {k: v for k, v in wheel.items() if "retina" not in k}
    without = NOTICE.replace("`busi_128.npz`", "")
    found = not_in_its_place(shipped.SHA256, README, without, forgotten)
    assert found == {"busi_128.npz", "retinamnist.npz"}


def test_git_takes_what_ships_and_leaves_the_rest():
    ignored = lambda name: subprocess.run(["git", "check-ignore", f"data/{name}"], cwd=ROOT)
    if ignored("nothing.txt").returncode == 128:
        pytest.skip("this is no git checkout")
    assert all(ignored(name).returncode == 1 for name in [*shipped.SHA256, "NOTICE.md"])
    assert ignored("pathmnist.npz").returncode == ignored("busi_224.npz").returncode == 0


# ---- BrEaST --------------------------------------------------------------------------------------


def test_descriptors_of_breast():
    """Counts by class as published; no column that could tell more of a woman than is used."""
    found = breast_lesions_usg.load_breast_descriptors()
    assert {len(values) for values in found.values()} == {256}
    assert set(found) == {
        "case", "age", "shape", "margin", "echogenicity", "posterior_features", "halo",
        "calcifications", "birads", "verification", "classification",
    }  # fmt: skip
    malignant, benign = (found["classification"] == c for c in ("malignant", "benign"))
    irregular = found["shape"] == "irregular"
    fuzzy = np.char.startswith(found["margin"], "not circumscribed")
    counts = lambda what: (int((what & malignant).sum()), int((what & benign).sum()))
    assert counts(irregular) == (92, 48) and counts(fuzzy) == (95, 42)
    assert (malignant.sum(), benign.sum()) == (98, 154)
    assert np.isnan(found["age"]).sum() == 42 and 18 <= np.nanmin(found["age"]) < 100
    assert set(found["birads"]) == {"1", "2", "3", "4a", "4b", "4c", "5"}
    biopsy = found["verification"] == "confirmed by biopsy"
    assert counts(biopsy) == (98, 99)
    shuffled = np.roll(irregular, 1)  # a row that slipped is found
    assert counts(shuffled) != (92, 48)
    for number in ("92 of 98", "48 of 154", "95 and 42", "99 of the 154", "42 ages"):
        assert number in README
    assert "Scientific Data 11 (2024) 148" in breast_lesions_usg.CARD


# ---- what the datasheet says ---------------------------------------------------------------------


def marks_by_class(table) -> list[str]:
    """The rows of the datasheet's table of burnt-in marks."""
    classes = [table["class"] == finding for finding in busi.FINDINGS]
    three = [table[mark] for mark in ("calipers", "text", "other_marks")]
    named = {"calipers": three[0], "text": three[1], "other marks": three[2]}
    named |= {"any of these": np.any(three, axis=0), "axilla, by a label": table["axilla"]}
    rows = []
    for name, has in named.items():
        numbers = " | ".join(str(int((has & of).sum())) for of in classes)
        rows.append(f"| {name} | {numbers} |")
    return rows


def folds_by_class(table) -> list[str]:
    rows = []
    for fold in range(5):
        counts = Counter(table["class"][table["fold"] == fold].tolist())
        name = {0: "0 (test)", 1: "1 (validation)"}.get(fold, fold)
        rows.append(f"| {name} | {' | '.join(str(counts[f]) for f in busi.FINDINGS)} |")
    return rows


def sentences_on_groups(table) -> list[str]:
    number, two = {}, []
    for column in ("group", "group_looser", "group_stricter"):
        number[column] = len(set(table[column].tolist()))
    sizes = np.bincount(np.bincount(table["group"]))
    for group in range(number["group"]):
        found = set(table["class"][table["group"] == group].tolist())
        two += [found] * (len(found) > 1)
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    cancer = words[sum("malignant" in found for found in two)]
    return [
        f"form {number['group']} groups: {sizes[1]} images alone, {sizes[2]} pairs, {sizes[3]} "
        f"groups of three, {sizes[4]} of four, {sizes[5]} of five, {sizes[7]} of seven",
        f"`group_looser` (.80 and the pairs, {number['group_looser']} groups)",
        f"`group_stricter` (.95, {number['group_stricter']} groups)",
        f"{words[len(two)].capitalize()} groups hold two findings; in {cancer} of them these are",
    ]


def sentences_on_breastmnist(table) -> list[str]:
    part = table["breastmnist"]
    test, train = part == "test", part == "train"
    shared = lambda column, of: np.isin(table[column][test], table[column][of]).sum()
    parts = [set(part[table["group"] == g].tolist()) for g in set(table["group"].tolist())]
    return [
        f"{shared('group', train)} of the {test.sum()} test images have a near-copy in the "
        f"training set ({shared('group_stricter', train)} by the stricter groups), "
        f"{shared('group', ~test)} in training or validation",
        f"{sum(len(found) > 1 for found in parts)} groups lie in more than one official part",
    ]


def missing(table, text: str) -> list[str]:
    """What the tables tell and the text does not."""
    flat = re.sub(r"\s+", " ", text)
    told = [*marks_by_class(table), *folds_by_class(table)]
    told += [*sentences_on_groups(table), *sentences_on_breastmnist(table)]
    return [words for words in told if words not in flat]


def test_the_datasheet_prose_says_what_the_table_holds(table):
    assert missing(table, README) == []
    wrong = README.replace("| calipers | 0 | 97 | 30 |", "| calipers | 0 | 79 | 30 |")
    wrong = wrong.replace("548 groups", "584 groups").replace("71 of the", "17 of the")
    assert len(missing(table, wrong)) == 3
    changed = {**table, "calipers": np.roll(table["calipers"], 1)}
    assert len(missing(changed, README)) == 2  # calipers, any of these
    sizes = [f"{table[c].min():,}" for c in ("width", "height")]
    sizes += [f"{table[c].max():,}" for c in ("width", "height")]
    assert "{0} to {2} pixels wide and {1} to {3} high".format(*sizes) in README


def test_the_datasheet_prose_says_how_many_groups_need_no_eye(table):
    with np.load(DATA / "busi_128.npz", allow_pickle=False) as file:
        correlation = busi_archive.residual_correlation(file["images"])
    alone = lambda t: int((np.bincount(busi_archive.near_copies(correlation, t)) > 1).sum())
    words = f"There are {alone(0.90)} groups of two and more at .90 without the pairs"
    assert words in README and alone(0.90) != alone(0.95)


def test_the_card_and_the_notice_name_a_contact_for_withdrawal():
    card = load_task("busi", size=16).card
    for text in (card, README, NOTICE):
        flat = re.sub(r"\s+", " ", text)
        assert re.search("have something withdrawn.{,90}open an issue in this course's repo", flat)
        assert "names no licence" in flat and "ever for diagnosis" in flat


def test_the_pairs_are_images_of_the_table(table):
    with open(DATA / "busi_pairs.csv", newline="", encoding="utf-8") as file:
        names = [name for pair in csv.DictReader(file) for name in pair.values()]
    assert len(names) > 20 and set(names) <= set(table["file"].tolist())
