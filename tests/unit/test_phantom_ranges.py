"""Source and target of the simulator apart: scanners, tissue, descriptors, and all ranges."""

import numpy as np
import pytest

from medtl_utils import phantom


def drawn_patients(kind: str, n: int = 400) -> list[dict]:
    malignant = None if kind == "source" else True
    return [
        phantom.draw_patient(phantom.random_stream(kind, k, 0), kind, malignant) for k in range(n)
    ]


def disjoint() -> bool:
    source, target = drawn_patients("source"), drawn_patients("target")
    gap = min(
        np.abs(p["scanner"].position() - s.position()).max()
        for p in source
        for s in phantom.TARGET_SCANNERS.values()
    )
    low, high = (end(p["lobule_mm"] for p in target) for end in (min, max))
    streams = {phantom.random_stream(kind, 0, 1).random() for kind in ("source", "target")}
    apart = not any(low <= p["lobule_mm"] <= high for p in source)
    return bool(gap > phantom.SCANNER_GAP and apart and len(streams) == 2)


def test_source_and_target_are_disjoint():
    assert disjoint()


@pytest.mark.parametrize("mistake", ["scanners", "lobules", "streams"])
def test_the_disjoint_test_bites(mistake, monkeypatch):
    both = dict.fromkeys(("source", "target"), ((2.0, 6.0),))
    name, wrong = {
        "scanners": ("draw_scanner", lambda rng: phantom.TARGET_SCANNERS["A"]),
        "lobules": ("LOBULE_MM", both),
        "streams": ("_STREAM", dict.fromkeys(("source", "target"), 1)),
    }[mistake]
    monkeypatch.setattr(phantom, name, wrong)
    assert not disjoint()


def strongest_correlation() -> float:
    """Among the seven source descriptors, of 1,500 lesions; by chance alone about 0.07."""
    lesions = [list(p["descriptors"].values()) for p in drawn_patients("source", 1500)]
    return float(np.abs(np.corrcoef(np.transpose(lesions)) - np.eye(7)).max())


def test_source_descriptors_carry_no_malignancy(monkeypatch):
    """No pair of source descriptors is correlated: no joint pattern stands for malignancy."""
    assert strongest_correlation() < 0.1
    right = phantom.draw_descriptors
    monkeypatch.setattr(  # planted: drawn like patients, 40 % of them malignant
        phantom, "draw_descriptors", lambda rng, malignant: right(rng, bool(rng.random() < 0.4))
    )
    assert strongest_correlation() > 0.3


def test_source_targets_are_seven_descriptors_and_the_lesion():
    _, _, targets = phantom.simulate_source(0, 600, size=16)
    assert targets.shape == (600, 8)
    largest = [len(values) - 1 for values in phantom.DESCRIPTORS.values()]
    assert targets.amax(0).tolist() == [*largest, 1] and targets.min() == 0
    assert 0.10 < (targets[:, 7] == 0).float().mean() < 0.20


def test_patients_keep_their_scanner_and_descriptors():
    made = phantom.simulate_target("val", 12, 16, seed=4)
    assert set(made["descriptors"]) == {*phantom.DESCRIPTORS, "size_mm", "scanner"}
    for patient in set(made["patients"]):
        rows = made["patients"] == patient
        assert all(len(set(values[rows])) == 1 for values in made["descriptors"].values())
        assert len(set(made["labels"][rows].tolist())) == 1


def ranges_hold(kind: str, people: list[dict]) -> bool:
    """Each number of WIDER fills its range, each of EXTRAS is as frequent and strong as stated."""
    which = ("source", "target").index(kind)
    for name, ranges in phantom.WIDER.items():
        low, high = ranges[which]
        values, tenth = np.array([p[name] for p in people]), 0.1 * (high - low)
        if not low <= values.min() <= low + tenth <= high - tenth <= values.max() <= high:
            return False
    for name, (chances, strength) in phantom.EXTRAS.items():
        values = np.array([p[name] for p in people])
        there = values[values != 0]
        if abs(len(there) / len(values) - chances[which]) > 0.08:
            return False
        if len(there) and not min(strength) <= there.min() <= there.max() <= max(strength):
            return False
    return True


@pytest.mark.parametrize("kind", ["source", "target"])
def test_what_varies_beyond_machine_and_tissue(kind):
    assert ranges_hold(kind, drawn_patients(kind))
    other = {"source": "target", "target": "source"}[kind]
    assert not ranges_hold(kind, drawn_patients(other))  # planted: the other's numbers


def test_the_source_has_seen_more_than_it_will_meet():
    for name, (source, target) in phantom.WIDER.items():
        if name != "exposure":  # the target's pictures are as they come
            assert source[0] <= target[0] and target[1] <= source[1], name
    for name, (chances, _) in phantom.EXTRAS.items():
        assert chances[0] >= chances[1], name
    assert all(phantom.EXTRAS[name][0][1] == 0 for name in ("convex", "calipers"))
