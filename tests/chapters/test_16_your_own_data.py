"""Notebook 16: pixels, intervals and the made-up folder against other routes; prose and outputs."""

import re

import nbformat
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from medtl_utils import before_training, load_task, read_folder
from medtl_utils.data import Task
from medtl_utils.datasets import made_up
from medtl_utils.sample_size import auc_error
from tests.chapters.notebook_code import function, path_of, prose
from tests.conftest import make_split

NB = nbformat.read(path_of("16"), 4)


def printed() -> str:
    """Everything that the notebook printed, and the captions of its figures."""
    found = []
    for cell in NB.cells:
        for output in cell.get("outputs", []):
            page = str(output.get("data", {}).get("text/html", ""))
            found.append(output.get("text", "") + re.sub(r"<[^>]*>", " ", page))
    return "\n".join(found)


# ---- one pixel -----------------------------------------------------------------------------------


def is_the_auc_of_each_pixel(each_pixel) -> bool:
    split = make_split("train", 30, seed=4, size=8)
    got = each_pixel(split)
    pixels = split.images.float().mean(1).flatten(1).numpy()
    want = [roc_auc_score(split.labels == 1, column) for column in pixels.T]
    return np.allclose(got, want, atol=1e-12)


def test_the_auc_of_each_pixel():
    assert is_the_auc_of_each_pixel(function("16", "each_pixel"))


@pytest.mark.parametrize(
    "mistake",
    [
        ("/ (~ill).sum()", "/ ill.sum() * 1.01"),
        ("+ 1) / 2", "- 1) / 2"),
        ("len(split.classes) - 1", "len(split.classes) - 2"),
        ("axis=0", "axis=1"),
    ],
)
def test_the_test_of_pixels_bites(mistake):
    assert not is_the_auc_of_each_pixel(function("16", "each_pixel", mistake))


# ---- the standard error --------------------------------------------------------------------------


def spread_is_right(standard_error) -> bool:
    """Against the SD of AUCs of drawn patients; for normal scores the formula is nearly right."""
    rng, n, auc, ill = np.random.default_rng(16), 200, 0.85, 0.4
    shift, found = np.sqrt(2) * stats.norm.ppf(auc), []
    for _ in range(600):
        y = np.arange(n) < n * ill
        found.append(roc_auc_score(y, rng.normal(size=n) + shift * y))
    return abs(standard_error(auc, ill, n) / np.std(found) - 1) < 0.1


def test_the_standard_error_of_an_auc():
    assert spread_is_right(function("16", "standard_error"))
    assert np.isclose(function("16", "standard_error")(0.7, 0.1, 90), auc_error(0.7, 0.1, 90))


@pytest.mark.parametrize(
    "mistake", [("n / 2 - 1", "n - 1"), ("n ** 2", "n"), ("A / (1 + A)", "A / 2 / (1 + A)")]
)
def test_the_test_of_the_standard_error_bites(mistake):
    assert not spread_is_right(function("16", "standard_error", mistake))


# ---- the baseline --------------------------------------------------------------------------------


def test_the_baseline_reads_brightness_and_no_more():
    baseline = function("16", "baseline")
    train, new = make_split("train", 40, seed=1), make_split("val", 20, seed=2)
    scores = baseline(train, new)
    assert roc_auc_score(new.labels == 1, scores[:, 1]) > 0.95  # classes differ in brightness
    shuffled = make_split("val", 20, seed=2)
    order = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(0))
    shuffled.images = new.images.flatten(2)[:, :, order].view_as(new.images)
    assert torch.allclose(baseline(train, shuffled), scores, atol=1e-5)  # places do not matter


# ---- the made-up folder --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("made up")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_up, "PEOPLE", 40)
        for name in ("faulty", "clean"):
            made_up.write_folder(root / name, "phantom", 16, faults=name == "faulty")
    return root


def test_each_planted_fault_is_told(folders):
    report = dict(read_folder(folders / "faulty").report)
    assert "truncated or damaged" in report["img/0010.png"]
    assert report["img/forgotten.png"] == "not in index.csv"
    assert report["img/report.jpg"].startswith("not PNG")
    found = before_training(load_task(f"folder:{folders / 'faulty'}", seed=16))
    assert len(found.duplicates) == 1 and found.duplicates[0].turn == "flipped left and right"
    assert len(found.two_names) == 1 and len(found.alike) == 1
    assert found.marks[0].p < 0.05


def test_the_clean_folder_has_no_fault(folders):
    content = read_folder(folders / "clean")
    assert {why for _, why in content.report} == {"taken", "taken as the table"}
    assert len(set(content.patients)) == 40
    found = before_training(load_task(f"folder:{folders / 'clean'}", seed=16))
    assert not found.duplicates and not found.alike and min(m.p for m in found.marks) > 0.05


def test_all_formats_read_the_same_picture(tmp_path):
    """PNG, TIFF of 16 bits, BMP and DICOM give the same pixels; JPEG nearly."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    pixels[:] = np.sort(pixels, axis=None).reshape(32, 32)  # smooth: JPEG keeps it
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for ending in made_up.ENDINGS:
            made_up.save(tmp_path / label / f"{label}{ending}", pixels)
    images = read_folder(tmp_path, size=32).images.int()
    assert len(images) == 10 and (images - torch.from_numpy(pixels).int()).abs().max() <= 3


def test_another_task_makes_a_folder(tmp_path):
    made_up.write_folder(tmp_path / "real", "busi", 3)
    content = read_folder(tmp_path / "real")
    assert content.classes == made_up.CLASSES and len(content.images) > 200


# ---- three classes, colour, both in the copy cell ------------------------------------------------


@pytest.mark.parametrize("patients", [None, "one image each"])
def test_the_copy_cell_takes_three_classes_in_colour(tmp_path, monkeypatch, capsys, patients):
    from PIL import Image

    rng = np.random.default_rng(0)
    for c, name in enumerate(("a", "b", "c")):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for k in range(14):
            pixels = rng.integers(0, 120, (20, 24, 3)) + 60 * c
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "mine" / name / f"{k}.png")
    monkeypatch.setenv("MEDTL_LEDGER", str(tmp_path / "ledger"))
    study = function("16", "study", copy=True)
    study(tmp_path / "mine", patients=patients, size=16, epochs=1)
    told = capsys.readouterr().out
    assert "balanced accuracy" in told and "opened 1 time(s)" in told and str(tmp_path) not in told
    assert ("patients unknown" in told) == (patients is None)


# ---- prose and outputs ---------------------------------------------------------------------------

SAID = {
    "of 295 files, 291 became images": ("files found: 295", "files read: 291"),
    "122 were counted, 120 were examined": ("patients: 122", "2. Patients: 120;"),
    "0.84 with the cross, 0.43 without it": ("bright pixel: 0.84", "bright pixel: 0.43"),
    "+0.28 (+0.17 to +0.39) of AUC over 96 patients": (
        "network - baseline, AUC: +0.28 (+0.17 to +0.39)",
        "patients, or groups: 96",
    ),
    "24 test patients give an interval 0.33 wide; a width of 0.10 needs 243": (
        "24 patients: the interval of an AUC of 0.85 is 0.33 wide",
        "243 patients for the usual width of: AUC",
        "24 scores",
    ),
}


def prose_follows(text: str) -> bool:
    told = printed()
    return all(s in text and all(line in told for line in lines) for s, lines in SAID.items())


def test_the_prose_says_what_was_printed():
    assert prose_follows(prose("16"))
    for wrong in (
        ("+0.28 (+0.17", "+0.38 (+0.17"),
        ("243", "143"),
        ("0.43 without", "0.53 without"),
    ):
        assert not prose_follows(prose("16").replace(*wrong))


def test_nothing_but_row_numbers_in_the_report_of_the_command():
    told = printed()
    assert "no file of the folder is named: True" in told
    assert "none was done twice: True" in told
    assert "no name in anything that was read: True" in told


def test_a_folder_of_the_reader_has_the_same_names():
    """What the cells use of a task with three classes and without patients."""
    task = Task("three", *(make_split(n, 30, classes=("a", "b", "c"), positive=None) for n in "tv"))
    assert function("16", "each_pixel")(task.train).shape == (32 * 32,)
    assert function("16", "baseline")(task.train, task.val).shape == (30, 3)
