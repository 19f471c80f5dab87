"""Notebook 15: DICOM waveforms and PTB-XL, read from made-up files in the same layout."""

import hashlib
import json
import shutil

import numpy as np
import pydicom
import pytest
import torch
import wfdb
from pydicom.dataset import Dataset, FileMetaDataset

from medtl_utils import check_disjoint
from medtl_utils.data import DataError
from medtl_utils.datasets import ptbxl
from tests.chapters.notebook_code import namespace, path_of

N = namespace("15")


# ---- a made-up DICOM waveform --------------------------------------------------------------------


def code_item(value: str, meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "X", meaning
    return [item]


def write_dicom(path, unit: str, scale: float) -> np.ndarray:
    """Two leads of four samples with a patient's name; returns the stored numbers (4, 2)."""
    stored = np.array([[0, 10], [100, -20], [-50, 30], [7, 7]], np.int16)
    group, file = Dataset(), Dataset()
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = 2, 4
    group.SamplingFrequency, group.WaveformBitsAllocated = 500, 16
    group.WaveformSampleInterpretation, group.WaveformData = "SS", stored.tobytes()
    group.ChannelDefinitionSequence = []
    for name in ("Lead I", "Lead aVR"):
        channel = Dataset()
        channel.ChannelSourceSequence = code_item("1", name)
        channel.ChannelSensitivityUnitsSequence = code_item(unit, unit)
        channel.ChannelSensitivity, channel.ChannelBaseline = scale, 0
        channel.ChannelSensitivityCorrectionFactor, channel.WaveformBitsStored = 1, 16
        group.ChannelDefinitionSequence.append(channel)
    file.WaveformSequence, file.PatientName, file.PatientID = [group], "Doe^Jane", "4711"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    file.file_meta, file.SOPClassUID = meta, meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = "1.2.3"
    file.save_as(path, enforce_file_format=True)
    return stored


def reads_millivolts(space: dict, folder) -> bool:
    for unit, scale, factor in (("uV", 2.5, 0.0025), ("mV", 0.005, 0.005)):
        stored = write_dicom(folder / f"{unit}.dcm", unit, scale)
        hz, leads = space["read_ecg"](folder / f"{unit}.dcm")
        got = np.column_stack([leads["I"], leads["aVR"]])
        if hz != 500 or not np.allclose(got, factor * stored):
            return False
    return True


def test_a_made_up_dicom_in_both_units(tmp_path):
    assert reads_millivolts(N, tmp_path)
    wrong = namespace("15", ("'uV': 1000", "'uV': 1"), within="read_ecg")
    assert not reads_millivolts(wrong, tmp_path)


def patient_tags_read(space: dict, path) -> list[str]:
    """Names of the patient's tags in what the reader had in memory."""
    seen, dcmread = [], pydicom.dcmread

    def watched(*arguments, **options):
        seen.append(dcmread(*arguments, **options))
        return seen[-1]

    space["read_ecg"].__globals__["dcmread"] = watched
    space["read_ecg"](path)
    return [e.keyword for file in seen for e in file if e.keyword.startswith("Patient")]


def test_no_patient_tag_is_read(tmp_path):
    write_dicom(tmp_path / "a.dcm", "uV", 1)
    assert patient_tags_read(namespace("15"), tmp_path / "a.dcm") == []
    change = ("specific_tags=['WaveformSequence']", "specific_tags=None")
    wrong = namespace("15", change, within="read_ecg")
    assert "PatientName" in patient_tags_read(wrong, tmp_path / "a.dcm")


# ---- PTB-XL: a made-up miniature in the same layout ---------------------------------------------

EACH = {"train": 4, "val": 4, "test": 4}
LEADS = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
CODES = [
    "{'NORM': 100.0, 'SR': 0.0}",
    "{'PVC': 100.0, 'SR': 0.0}",
    "{'AFIB': 0.0}",
    "{'PACE': 0.0}",
]


def write_ptbxl(root, fold_of=lambda k: k // 8 % 10 + 1):
    """80 patients, eight a fold, the four kinds of statements in turn; one has two records."""
    (root / "records100" / "00000").mkdir(parents=True)
    lines = ["ecg_id,patient_id,scp_codes,strat_fold,filename_lr"]
    for k in range(81):
        name, patient = f"{k + 1:05d}_lr", 5000 + (k if k < 80 else 0)
        fold, kind = (fold_of(k), k % 4) if k < 80 else (fold_of(0), 0)
        lines.append(f'{k + 1},{patient}.0,"{CODES[kind]}",{fold},records100/00000/{name}')
        values = np.tile(np.arange(12) / 10, (1000, 1))
        values[::100] += kind + 1
        options = {"fs": 100, "units": ["mV"] * 12, "sig_name": LEADS, "fmt": ["16"] * 12}
        folder = str(root / "records100" / "00000")
        wfdb.wrsamp(name, p_signal=values, write_dir=folder, **options)
    (root / "ptbxl_database.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    root = tmp_path_factory.mktemp("ptbxl")
    write_ptbxl(root)
    return root


def test_ptbxl_by_published_folds(miniature):
    parts = ptbxl.read_ptbxl(miniature, EACH, hz=128, rate_of=len)
    sizes = {name: torch.bincount(s.labels).tolist() for name, s in parts.items()}
    assert sizes == {"train": [4, 4, 4], "val": [2, 2, 2], "test": [2, 2, 2]}
    check_disjoint(*parts.values())
    for name, folds in (("train", range(1, 9)), ("val", [9]), ("test", [10])):
        s = parts[name]
        assert {(int(p) - 5000) // 8 + 1 for p in s.patients} <= set(folds)
        kinds = [(int(p) - 5000) % 4 for p in s.patients]
        assert kinds == s.labels.tolist()  # nobody with a pacemaker alone
        assert len(set(s.patients)) == len(s) and s.rates.tolist() == [1280.0] * len(s)
        assert s.images.shape == (len(s), 1, 1280) and s.images.dtype == torch.float32
        assert torch.allclose(s.images.median(2).values, torch.tensor(0.1), atol=0.05)  # lead II


def test_the_notebook_takes_ptbxl_by_one_word(miniature, capsys):
    """The cell of the baselines, as it stands, on the miniature; another word is an error."""
    cells = json.loads(path_of("15").read_text())["cells"]
    (cell,) = ["".join(c["source"]) for c in cells if c["id"] == "code-baseline"]
    space = namespace("15") | {"TASK": "ptbxl", "ROOT": miniature, "N_EACH": 10, "SEED": 15}
    exec(cell, space)
    assert space["test"].name == "PTB-XL, test" and len(space["labelled"]) == 30
    assert torch.isfinite(space["labelled"].rates).all()
    assert capsys.readouterr().out.count("accuracy") == 2
    wrong = namespace("15") | {"TASK": "ptb-xl", "ROOT": miniature, "N_EACH": 1, "SEED": 15}
    with pytest.raises(NameError):  # no other data in its place
        exec(cell, wrong)


def test_ptbxl_another_lead(miniature):
    v1 = ptbxl.read_ptbxl(miniature, EACH, lead="V1")["val"]
    assert torch.allclose(v1.images.median(2).values, torch.tensor(0.6), atol=0.05)
    with pytest.raises(DataError, match="has no lead V9"):
        ptbxl.read_ptbxl(miniature, EACH, lead="V9")


def test_ptbxl_refuses_a_patient_in_two_folds(tmp_path):
    """Planted: the folds are by record, so the patient with two records is in two."""
    write_ptbxl(tmp_path, fold_of=lambda k: k // 8 % 10 + 1)
    table = tmp_path / "ptbxl_database.csv"
    *lines, last = table.read_text().strip().split("\n")
    table.write_text("\n".join([*lines, last.replace(",1,records", ",10,records")]))
    with pytest.raises(DataError, match="a patient is in two folds"):
        ptbxl.read_ptbxl(tmp_path, EACH)


def test_ptbxl_that_is_none(tmp_path):
    (tmp_path / "ptbxl_database.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is no table of PTB-XL"):
        ptbxl.read_ptbxl(tmp_path, EACH)


def serve(monkeypatch, server, spoil: str = ""):
    """wfdb.dl_files as PhysioNet would answer it; `spoil`: a file that arrives changed."""

    def dl_files(db, folder, names):
        assert db == "ptb-xl"
        for name in names:
            goal = ptbxl.Path(folder) / name
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(server / name, goal)
            if name == spoil:
                goal.write_bytes(goal.read_bytes() + b"x")

    monkeypatch.setattr(wfdb, "dl_files", dl_files)


@pytest.fixture(scope="module")
def server(miniature, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server") / "ptb-xl"
    shutil.copytree(miniature, folder)
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    digest = lambda f: hashlib.sha256(f.read_bytes()).hexdigest()
    sums = [f"{digest(f)} {f.relative_to(folder)}" for f in files]
    (folder / "SHA256SUMS.txt").write_text("\n".join(sums) + "\n")
    return folder


def test_ptbxl_is_fetched_once_and_checked(monkeypatch, server, miniature, tmp_path):
    serve(monkeypatch, server)
    fetched = ptbxl.read_ptbxl(tmp_path, EACH)
    monkeypatch.setattr(wfdb, "dl_files", None)  # nothing is asked for again
    again, there = ptbxl.read_ptbxl(tmp_path, EACH), ptbxl.read_ptbxl(miniature, EACH)
    for part in EACH:
        assert torch.equal(fetched[part].images, again[part].images)
        assert torch.equal(fetched[part].images, there[part].images)


@pytest.mark.parametrize("spoil", ["ptbxl_database.csv", "records100/00000/00073_lr.dat"])
def test_a_wrong_hash_is_an_error(monkeypatch, server, tmp_path, spoil):
    serve(monkeypatch, server, spoil)
    with pytest.raises(DataError, match="SHA-256.*expected"):
        ptbxl.read_ptbxl(tmp_path, EACH)
    assert not (tmp_path / spoil).exists()


def test_without_a_network_the_remedy_is_named(monkeypatch, tmp_path):
    def offline(*_):
        raise OSError("no route to host")

    monkeypatch.setattr(wfdb, "dl_files", offline)
    with pytest.raises(DataError, match="missing and could not be downloaded.*physionet.org"):
        ptbxl.read_ptbxl(tmp_path, EACH)
