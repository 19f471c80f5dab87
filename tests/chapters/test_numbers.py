"""Each decimal number and interval that a notebook's prose states stands in an output or its table.

Outputs are compared with a new run, so prose that follows them follows the tables. Not held to
this: headers, questions with invented numbers, exercises, folded answers, tables of mistakes.
"""

import copy
import json
import re

import pytest

from tests.chapters.reading_rules import CHINESE, NOTEBOOKS, code, html, prose, read
from tests.conftest import ROOT

pytestmark = pytest.mark.check
DECIMAL = re.compile(r"(?<![\w.,])-?\d+\.\d+(?![\w.]*\d)")
TRIPLE = re.compile(r"(-?\d+\.\d+) \((?:95 % interval )?(-?\d+\.\d+) to (-?\d+\.\d+)\)")
# paragraphs whose numbers are invented, and are said to be
INVENTED = re.compile(r"^\*\*(?:Check|Predict|Discuss)\b|^\| ")
# numbers that come from elsewhere: papers, file formats, formulas worked out in the text
CITED = {
    "00": {"0.91", "0.89", "4.0"},  # a sentence to discuss; a licence
    "04": {"1.7"},  # 0.96 to the power of 100, in per cent
    "04_deep": {"0.69"},  # log 2
    "07_deep": {"7.1", "84.1", "45.8"},  # an exercise; Winkler et al. 2019
    "08": {"2.0"},  # a licence
    "09": {"1.28", "9.1"},  # millions of photographs; an exercise
    "09_deep": {"9.1"},
    "10_deep": {"2.5"},  # half of 5 per cent
    "13": {"0.002"},  # in a question
    "14": {"66.6", "67.5", "66.1"},  # Gulrajani & Lopez-Paz 2021
    "15b": {"4.0"},  # a licence
    "16": {"0.001"},  # 1e-3 in the code
    # the race: tests/studies/test_speed_table.py holds them to their table
    "16b": {"0.04", "0.9", *(f"{k / 10:.1f}" for k in (11, 12, 14, 15, 16, 18, 19, 20, 21))},
}
# chapters that quote rows of their table which no output prints
TABLE = {"15": "ecg", "15b": "speech"}


def plain(text: str) -> str:
    """With hyphens for minus signs, and no plus signs before digits."""
    return re.sub(r"\+(?=[\d.])", "", text.replace("−", "-"))


def shown(nb) -> str:
    """All that the outputs and the code of a notebook say."""
    said = []
    for cell in code(nb):
        said.append(cell.source)
        for output in cell.outputs:
            page = re.sub(r'base64,[^"]*', "", html(output))
            said += [str(output.get("text", "")), re.sub(r"<[^>]+>", " ", page)]
            said += re.findall(r'alt="([^"]*)"', page)
    return plain("\n".join(said))


def stated(nb) -> list[str]:
    """The paragraphs of prose that are held to the outputs, without the first cell."""
    text = "\n\n".join(t for _, t in prose(nb)[1:]).split("\n## References")[0]
    text = CHINESE.sub(" ", text).split("\n## Exercises")[0]
    text = re.sub(r"<details>.*?</details>", " ", text, flags=re.S)
    text = re.sub(r"\]\([^)\s]*\)", "]", text)
    return [plain(p) for p in re.split(r"\n\s*\n|\n(?=[-*|] )", text) if not INVENTED.match(p)]


def is_near(said: str, value: float) -> bool:
    """Whether the value, with as many decimals or more, rounds to what is said."""
    return abs(float(said) - value) <= 0.5001 * 10.0 ** -len(said.split(".")[1])


def rows_of(name: str) -> list[tuple[float, float, float]]:
    """(value, low, high) of all rows of a kept table."""
    found, left = [], [json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())]
    while left:
        one = left.pop()
        if isinstance(one, dict) and {"value", "low", "high"} <= set(one):
            found.append((one["value"], one["low"], one["high"]))
        left += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return found


def faults(nb, path) -> list[str]:
    name = path.stem.split("_")[0] + "_deep" * path.stem.endswith("_deep")
    out = shown(nb)
    triples = [tuple(map(float, t)) for t in TRIPLE.findall(out)]
    triples += rows_of(TABLE[name]) if name in TABLE else []
    triples += [(-value, -high, -low) for value, low, high in triples]  # "loses 0.1 (0.0 to 0.2)"
    values = [*map(float, DECIMAL.findall(out)), *(v for t in triples for v in t)]
    found = []
    for part in stated(nb):
        for number in set(DECIMAL.findall(part)) - CITED.get(name, set()):
            if not any(is_near(number, v) or is_near(number, -v) for v in values):
                found.append(f"{number} is in no output: {part[:60]!r}")
        for triple in TRIPLE.findall(part):
            if not any(all(map(is_near, triple, t)) for t in triples):
                found.append(f"{triple} is in no output: {part[:60]!r}")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_numbers_of_the_prose_stand_in_an_output(path):
    assert faults(read(path), path) == []


def with_words(path, old: str, new: str):
    nb = copy.deepcopy(read(path))
    assert any(old in cell.source for cell in nb.cells), old
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace(old, new)
    return nb


@pytest.mark.parametrize(
    ("stem", "old", "new"),
    [
        ("00_start_here", "+0.12 with 25 labels", "+0.127 with 25 labels"),
        ("00_start_here", "+0.12 (+0.08 to +0.15)", "+0.12 (+0.09 to +0.15)"),
        ("06_evaluate_honestly", "0.69 (95 % interval 0.67", "0.69 (95 % interval 0.61"),
        ("13_meta_learning", "−0.04 (−0.06 to −0.02)", "−0.04 (−0.09 to −0.02)"),
        ("13_meta_learning", "−0.04 (−0.06 to −0.02)", "+0.04 (−0.06 to −0.02)"),
        ("15_ecg", "0.35 (0.33 to 0.37)", "0.35 (0.33 to 0.39)"),
        ("16_your_own_data", "AUC of 0.84 with", "AUC of 0.89 with"),
    ],
)
def test_a_planted_number_is_found(stem, old, new):
    (path,) = (p for p in NOTEBOOKS if p.stem == stem)
    assert faults(with_words(path, old, new), path)
