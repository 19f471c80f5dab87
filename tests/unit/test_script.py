"""The script of 60 lines for a reader's own images: it stands alone, offline, in another folder."""

import csv
import os
import re
import sys

import pytest

from tests.conftest import ROOT, own_folders, run_offline
from tests.hostile import snapshot
from tests.unit.test_run import LABELS, folder

SCRIPT = ROOT / "notebooks" / "your_own_study.py"
SIZES = "SIZE, EPOCHS, FOLDS, BATCH, SEED = 64, 10, 5, 32, 0"


def run_in(place, text: str):
    """The script, with smaller sizes, beside nothing else; its folder of images is made up."""
    (place / "alone").mkdir()
    (place / "alone" / "mine.py").write_text(
        text.replace(SIZES, "SIZE, EPOCHS, FOLDS, BATCH, SEED = 16, 1, 2, 8, 0"), encoding="utf-8"
    )
    images = folder(place / "images")
    before = snapshot(images)
    offline = os.pathsep.join([str(ROOT / "tests" / "offline"), str(ROOT)])
    command = [sys.executable, str(place / "alone" / "mine.py"), str(images), str(place / "out")]
    done = run_offline(command, PYTHONPATH=offline, **own_folders(place))
    assert snapshot(images) == before
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("script")
    done = run_in(place, SCRIPT.read_text(encoding="utf-8"))
    assert done.returncode == 0, done.stderr[-2000:]
    return place, done.stdout


def test_it_is_short_and_linked():
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60 and SIZES in text
    for file in ("README.md", "README.zh-CN.md", "notebooks/16_your_own_data.ipynb"):
        assert SCRIPT.name in (ROOT / file).read_text(encoding="utf-8"), file


def test_it_writes_a_report_and_names_nobody(finished):
    place, told = finished
    names = {p.name for p in (place / "out").iterdir()}
    assert names == {"report.txt", "scores.csv", "model.safetensors"}
    report = (place / "out" / "report.txt").read_text(encoding="utf-8")
    assert report.startswith("Not for diagnosis.") and "opened 1 time(s) in this run" in report
    assert re.search(r"auc +[01]\.\d{3}  \([01]\.\d{3} to [01]\.\d{3}\)", report)
    assert "ZZ" not in report + told and str(place) not in report + told
    assert told.count("rate 0.001: AUC") == told.count("rate 0.0001: AUC") == 1
    with open(place / "out" / "scores.csv", encoding="utf-8-sig", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["row", "label", f"'{LABELS[0]}", LABELS[1]] and len(rows) == 5  # patients
    assert all(abs(float(row[2]) + float(row[3]) - 1) < 2e-4 for row in rows)


def test_the_network_is_cut(tmp_path):
    """Planted: a script that fetches something."""
    text = SCRIPT.read_text(encoding="utf-8")
    wanted = 'import urllib.request\nurllib.request.urlopen("http://example.org", timeout=5)\n'
    done = run_in(tmp_path, text.replace("import torch\n", f"{wanted}import torch\n", 1))
    assert done.returncode != 0 and "urlopen" in done.stderr
