"""The command: from a folder to a report that names nobody, and goes on where it stopped."""

import csv
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medtl_utils import run as run_module
from medtl_utils import run_html, run_report
from medtl_utils.run import main
from medtl_utils.spreadsheet import safe_cell
from tests.conftest import make_split
from tests.hostile import snapshot
from tests.unit.test_folder import noise, save
from tests.unit.test_folder_table import write_table

LABELS = ("=SUM(A1) <script>alert(1)</script>", "malignant")


def folder(root):
    """24 patients, two images each; names that must not be told."""
    lines = ["path,label,patient"]
    for i in range(48):
        name, label = f"all/ZZfile{i}.png", LABELS[i // 2 % 2]
        save(root / name, noise(f"{i}", 20, 20) // 2 + 60 * (label == "malignant"))
        lines.append(f"{name},{label},ZZpatient{i // 2}")
    write_table(root, lines)
    return root


FAST = ["--size", "16", "--epochs", "1", "--folds", "2", "--source", "random", "--batch-size", "8"]


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "action", "data")]


def faults(text: str) -> list[str]:
    """What a report must not have."""
    seen, found = Page(text), []
    found += ["a script"] * ("script" in seen.tags)
    found += ["the network"] * any(not link.startswith("data:image/png") for link in seen.links)
    told = re.sub(r'base64,[^"]*', "", text)
    found += ["a name"] * ("ZZ" in told)
    found += ["no warning on top"] * (text.find("Not for diagnosis.") > text.find("<h1>"))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    images = folder(root / "mine")
    before = snapshot(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDTL_LEDGER", str(root / "ledger"))
        assert main([str(images), "--out", str(root / "results"), *FAST]) == 0
    assert snapshot(images) == before
    return root


def text_of(root, out="results"):
    return (root / out / "report.html").read_text(encoding="utf-8")


def test_the_report_names_nobody_and_needs_nothing(finished):
    text = text_of(finished)
    assert faults(text) == [] and len(text) < 2_000_000
    assert "=SUM(A1) &lt;script&gt;" in text and text.count("<h2>") == 6 and text.count("<h3>") == 2
    empty = re.findall(r"^([a-z ]+) \[.*: NOT REPORTED$", text, re.M)
    assert empty == ["reference standard", "sample size", "limitations"]
    assert "calibration [23a | 37]: too few" in text and "no column site or age" in text
    assert "images (patients unknown)" not in text and "95 % intervals over patients" in text
    assert str(finished) not in text


def test_the_look_at_the_report_bites(finished, monkeypatch):
    """Planted: text that is not escaped, a picture from the network, names, no warning."""
    text = text_of(finished)
    assert "a script" in faults(text.replace("&lt;", "<").replace("&gt;", ">"))
    assert "the network" in faults(
        text.replace("<h1>", '<img src="https://example.org/a.png"><h1>')
    )
    assert "a name" in faults(text.replace("<h2>", "<h2>ZZpatient3"))
    assert "no warning on top" in faults(text.replace(run_report.WARNING, ""))


def rows(root, out="results"):
    with open(root / out / "scores.csv", encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def test_one_score_a_patient_and_no_formula(finished):
    head, *cases = rows(finished)
    assert head == ["row", "label", f"'{LABELS[0]}", "malignant"]
    assert len(cases) == 5 and {case[1] for case in cases} <= {f"'{LABELS[0]}", "malignant"}
    assert all(abs(float(case[2]) + float(case[3]) - 1) < 2e-4 for case in cases)
    for text in ("=1", "+1", "-1", "@a", "\t=1", " =1", "＝1"):
        assert safe_cell(text) == f"'{text}"
    assert safe_cell("a=1") == "a=1" and safe_cell("恶性") == "恶性" and safe_cell("") == ""


def test_a_run_that_was_stopped_goes_on(finished, tmp_path, monkeypatch, capsys):
    trained, fine_tune = [], run_module.fine_tune

    def stops(model, *arguments, **named):
        trained.append(1)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return fine_tune(model, *arguments, **named)

    command = [str(finished / "mine"), "--out", str(tmp_path / "again"), *FAST, "--names"]
    monkeypatch.setattr(run_module, "fine_tune", stops)
    assert main(command) == 130 and "goes on from here" in capsys.readouterr().err
    assert main(command) == 0 and len(trained) == 3 + 3  # two of five were done
    told = rows(tmp_path, "again")
    assert [row[:4] for row in told] == rows(finished)
    assert told[0][-1] == "patient" and told[1][-1].startswith("ZZpatient")
    for name in ("0_0", "1_1", "test"):
        pair = [
            np.load(p / "cells" / f"{name}.npz", allow_pickle=False)["scores"]
            for p in (finished / "results", tmp_path / "again")
        ]
        assert (pair[0] == pair[1]).all()


def test_worst_errors_and_odd_names():
    test = make_split("test", 8, classes=("$\\frac", "b\x1b$"))
    test.ids = np.array([f"ZZ{i}" for i in range(8)])
    wrong = torch.nn.functional.one_hot(1 - test.labels, 2).float()
    quiet, loud = (run_report._errors(wrong, test, names) for names in (False, True))
    assert "ZZ" not in re.sub('base64,[^"]*', "", quiet) and "test image 0 (ZZ0), $" in loud
    assert "No test image" in run_report._errors(1 - wrong, test, False)
    assert "\x1b" not in run_html.escape("b\x1b")


def test_what_cannot_be_run(finished, tmp_path, capsys):
    mine = finished / "mine"
    for command, word in (
        ([str(tmp_path / "no")], "does not exist"),
        ([str(mine), "--out", str(mine / "results")], "lies in the folder of images"),
        ([str(mine), "--out", str(tmp_path / "a"), *FAST, "--folds", "1"], "k must be"),
        ([str(mine), "--out", str(tmp_path / "a"), "--size", "3"], "size must be"),
        ([str(mine), "--out", str(tmp_path / "a"), "--patients", "unknown"], "Leave out"),
    ):
        assert main(command) == 2
        told = capsys.readouterr().err
        assert told.startswith("Stopped: ") and word in told, told


def test_a_folder_smaller_than_a_batch_is_one_batch(monkeypatch):
    asked = {}
    monkeypatch.setattr(run_module, "fine_tune", lambda *_, **how: asked.update(how))
    for size in (8, 32):
        given = run_module.parser().parse_args(["folder", "--batch-size", str(size)])
        small = SimpleNamespace(train=make_split(n=12), classes=("benign", "malignant"))
        run_module._trained(None, small, given, None)
        assert asked["batch_size"] == min(size, len(small.train)) <= 12
