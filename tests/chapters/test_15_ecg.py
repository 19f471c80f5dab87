"""Notebook 15: the simulator, R peaks, features and the network, against plain computations."""

import ast
import json

import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file
from torch.nn import functional as F

from medtl_utils import check_disjoint
from tests.chapters.notebook_code import namespace, path_of, prose
from tests.conftest import ROOT

N = namespace("15")


# ---- one text for the notebook and the study -----------------------------------------------------


def definitions(sources: list[str]) -> dict[str, str]:
    found = {}
    for statement in (s for text in sources for s in ast.parse(text).body):
        name = getattr(statement, "name", None)
        if isinstance(statement, ast.Assign):
            name = getattr(statement.targets[0], "id", None)
        if name:
            found[name] = ast.dump(statement)
    return found


def same_code(study: str) -> bool:
    cells = json.loads(path_of("15").read_text())["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    theirs = definitions([study])
    ours = definitions([t for t in code if "medtl_utils.datasets.ptbxl import Signals\n" not in t])
    return len(theirs) >= 13 and all(ours.get(name) == text for name, text in theirs.items())


def test_the_study_runs_the_notebooks_code():
    study = (ROOT / "studies" / "ecg_signals.py").read_text()
    assert same_code(study)
    assert not same_code(study.replace("0.4 * high", "0.5 * high"))


# ---- the simulator -------------------------------------------------------------------------------


def patient(rhythm: str, **more) -> dict:
    waves = np.array(N["WAVES"])
    usual = {"rate": 60, "breath": 0.0, "early": 0.6, "irregular": 0.2}
    return {"rhythm": rhythm, "waves": waves} | usual | more


def is_the_formula(space: dict) -> bool:
    """Regular beats: the double sum of the chapter, in two loops."""
    beats, rr, early = np.arange(-1.3, 12, 0.9), 0.9, np.zeros(15, bool)
    space["heart"].__globals__["rr_intervals"] = lambda *_: (np.full(15, rr), early)

    class Fixed:
        uniform = staticmethod(lambda low, high: 1.3)
        random = staticmethod(lambda: 0.0)

    x, peaks = space["heart"](Fixed(), patient("sinus rhythm"), 100)
    t, want = np.arange(1000) / 100, np.zeros(1000)
    for beat in beats:
        for k, (d, w, a) in enumerate(N["WAVES"]):
            d = d * rr**0.5 if k == 4 else d
            want += a * np.exp(-((t - beat - d) ** 2) / (2 * w**2))
    inside = beats[(beats >= 0) & (beats < 10)]
    return bool(np.allclose(x, want, atol=1e-5) and np.allclose(peaks, inside))


def test_the_waves_are_the_formula():
    assert is_the_formula(namespace("15"))
    for right, wrong in [("-0.5 * z", "-z"), ("at / hz - beats", "at / hz + beats")]:
        assert not is_the_formula(namespace("15", (right, wrong), within="heart"))


def has_equal_rates(function) -> bool:
    """60 / mean RR is the rate drawn in each rhythm; only AF and early beats are irregular."""
    spread = {}
    for rhythm in N["CLASSES"]:
        rates, cvs = [], []
        for seed in range(60):
            rr, early = function(np.random.default_rng(seed), patient(rhythm))
            rates.append(60 / rr.mean())
            cvs.append(rr.std() / rr.mean())
            if early.any() != (rhythm == "premature beats"):
                return False
        if not (57 <= min(rates) and max(rates) <= 63 and abs(np.mean(rates) - 60) < 0.6):
            return False
        spread[rhythm] = np.mean(cvs)
    return spread["sinus rhythm"] < 0.02 < 0.15 < min(spread["premature beats"], spread["AF-like"])


def test_all_rhythms_have_the_same_mean_rate():
    assert has_equal_rates(N["rr_intervals"])
    for change in [
        ("rr * mean / rr.mean()", "rr * mean * (0.8 if patient['rhythm'] == 'AF-like' else 1)"),
        ("patient['irregular'] *", "0.02 *"),
    ]:
        wrong = namespace("15", change, within="rr_intervals")["rr_intervals"]
        assert not has_equal_rates(wrong)


def p_waves(space: dict, rhythm: str) -> float:
    """Mean height at the P wave over many beats, mV."""
    heights = []
    for seed in range(20):
        x, beats = space["heart"](np.random.default_rng(seed), patient(rhythm), 250)
        at = np.rint((beats[(beats > 1) & (beats < 9)] - 0.16) * 250).astype(int)
        heights.append(x[at].mean())
    return float(np.mean(heights))


def test_only_af_has_no_p_wave():
    assert p_waves(N, "sinus rhythm") > 0.12 and abs(p_waves(N, "AF-like")) < 0.04
    wrong = namespace("15", ("& (not af)", "& True"), within="heart")
    assert p_waves(wrong, "AF-like") > 0.08


def patients_are_whole(space: dict) -> bool:
    """Names repeat as often as records; other seeds and set-ups share nobody; classes are equal."""
    one, other = space["simulate"]("target", 6, 1, each=3), space["simulate"]("target", 6, 2)
    third = space["simulate"]("wide", 6, 1)
    counts = np.unique(one.patients, return_counts=True)[1]
    try:
        check_disjoint(one, other, third)
    except ValueError:
        return False
    rhythm_of = {p: set(one.labels[one.patients == p].tolist()) for p in one.patients}
    whole = all(len(labels) == 1 for labels in rhythm_of.values())
    return whole and (counts == 3).all() and one.images.shape == (18, 1, 1280)


def test_patients_are_disjoint_and_whole():
    assert patients_are_whole(N)
    wrong = namespace("15", ("f'{setup}-{seed}-{k}'", "f'{setup}-{k}'"), within="simulate")
    assert not patients_are_whole(wrong)


# ---- R peaks and features ------------------------------------------------------------------------


def finds_r_peaks(function) -> bool:
    """98 % of the true peaks of clean records within 0.08 s, and hardly anything else."""
    rng, found, true, hits = np.random.default_rng(0), 0, 0, 0
    for k in range(30):
        drawn = N["draw_patient"](rng, k % 3, 0)
        x, beats = N["heart"](rng, drawn, 128)
        at = function(x + N["noise"](rng, drawn, 128, 50)) / 128
        near = abs(at[:, None] - beats) < 0.08
        hits, found, true = hits + near.any(0).sum(), found + len(at), true + len(beats)
    return hits > 0.98 * true and found < 1.02 * true


def test_r_peaks_are_the_true_ones():
    assert finds_r_peaks(N["r_peaks"])
    wrong = namespace("15", ("0.4 * high", "1.5 * high"), within="r_peaks")["r_peaks"]
    assert not finds_r_peaks(wrong)


def machine_rr() -> float:
    """The mean RR interval, ms, that the ECG machine stored with the real record."""
    file = pydicom.dcmread(get_testdata_file("waveform_ecg.dcm", download=False))
    for note in file.WaveformAnnotationSequence:
        concept = note.get("ConceptNameCodeSequence")
        if concept and concept[0].CodeMeaning == "RR Interval":
            return float(note.NumericValue)
    raise AssertionError("no RR interval in the record")


def agrees_with_the_machine(hz_of_record: int | None = None) -> bool:
    hz, leads = N["read_ecg"](get_testdata_file("waveform_ecg.dcm", download=False))
    used = hz_of_record or hz
    rr = 1000 * np.diff(N["r_peaks"](leads["II"], used)).mean() / used
    return bool(abs(rr - machine_rr()) < 10)


def test_the_real_records_rr_is_the_machines():
    assert agrees_with_the_machine()
    assert not agrees_with_the_machine(500)
    assert f"mean RR of {machine_rr():.0f} ms" in prose("15")


def features_by_hand(rr: np.ndarray) -> list[float]:
    n, mean, middle = len(rr), sum(rr) / len(rr), sorted(rr)[len(rr) // 2]
    steps = [abs(rr[k + 1] - rr[k]) for k in range(n - 1)]
    left, right = rr[:-1], rr[1:]
    together = sum((a - left.mean()) * (b - right.mean()) for a, b in zip(left, right)) / (n - 2)
    return [
        60 / mean,
        (sum((v - mean) ** 2 for v in rr) / n) ** 0.5 / mean,
        (sum(s * s for s in steps) / len(steps)) ** 0.5 / mean,
        sorted(steps)[len(steps) // 2 - 1] / 2 / middle
        + sorted(steps)[len(steps) // 2] / 2 / middle,
        sum(s > 0.05 for s in steps) / len(steps),
        sum(abs(v / middle - 1) > 0.15 for v in rr) / n,
        min(rr) / middle,
        max(rr) / middle,
        together / mean**2,
    ]


def features_are_right(space: dict) -> bool:
    rr = np.array([0.8, 0.82, 0.6, 1.1, 0.79, 0.9, 0.7, 0.81, 0.88])
    peaks = np.rint(np.cumsum(np.concatenate([[0.5], rr])) * 128).astype(int)
    space["rr_features"].__globals__["r_peaks"] = lambda x: peaks
    return np.allclose(space["rr_features"](None), features_by_hand(np.diff(peaks) / 128))


def test_the_nine_features_by_hand():
    assert features_are_right(namespace("15"))
    for change in [("step > 0.05", "step > 0.5"), ("60 / mean", "mean")]:
        assert not features_are_right(namespace("15", change, within="rr_features"))


# ---- the network ---------------------------------------------------------------------------------


def block_is_residual(space: dict) -> bool:
    """A block in evaluation mode, by torch's functions."""
    torch.manual_seed(0)
    block = space["Block"](4, 6).eval()
    x = torch.randn(2, 4, 40)

    def by_hand(pair, x, padding, stride):
        conv, bn = pair
        y = F.conv1d(x, conv.weight, None, stride, padding)
        return F.batch_norm(y, bn.running_mean, bn.running_var, bn.weight, bn.bias)

    inner = F.relu(by_hand(block.first, x, 3, 2))
    want = F.relu(by_hand(block.around, x, 0, 2) + by_hand(block.second, inner, 3, 1))
    return bool(torch.allclose(block(x), want, atol=1e-6))


def test_a_block_by_torchs_functions():
    assert block_is_residual(N)
    wrong = namespace("15", ("self.around(x) + ", ""), within="Block")
    assert not block_is_residual(wrong)


@pytest.mark.parametrize("n_outputs", [3, 4])
def test_shapes_of_the_network(n_outputs):
    model = N["ResNet1d"](n_outputs)
    assert model(torch.randn(2, 1, 1280)).shape == (2, n_outputs)
    assert model.stem(torch.randn(2, 1, 1280)).shape == (2, 16, 320)
    x = model.normalisation(5 + 3 * torch.randn(4, 1, 1280))
    assert torch.allclose(x.mean(2), torch.zeros(4, 1), atol=1e-5)
    assert torch.allclose(x.std(2), torch.ones(4, 1), atol=1e-5)
