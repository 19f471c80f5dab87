"""Lesions made to order: each descriptor looks as named, and changes nothing else."""

import numpy as np
import pytest
import torch
from scipy.signal import find_peaks

from medtl_utils import phantom
from medtl_utils.phantom import DESCRIPTORS, simulate_lesion

SEEDS = range(8)


def value(name: str, word: str) -> int:
    return phantom.DESCRIPTORS[name].index(word)


# ---- one descriptor changes one thing -----------------------------------------------------------


def around(mask: torch.Tensor, pixels: int) -> torch.Tensor:
    """The mask, wider by some pixels on every side."""
    grown = torch.nn.functional.max_pool2d(mask[None].float(), 2 * pixels + 1, 1, pixels)
    return grown[0] > 0


def untouched_far_away(name: str, word: str, pixels: int, behind: bool) -> bool:
    """98 % of the pixels beside and above the lesion are the same; `behind`: below it too."""
    far_away = []
    for seed in SEEDS:
        plain, mask = simulate_lesion({}, seed)
        other, new = simulate_lesion({name: value(name, word)}, seed)
        far, below = ~around(mask | new, pixels), int((mask | new).any(1).nonzero().max())
        if not behind:
            far[max(below - pixels, 0) :] = False
        difference = (plain.int() - other.int()).abs()[0]
        if difference.max() < 10:
            return False
        far_away.append(difference[far])
    changed = torch.cat(far_away) > 1
    return len(changed) > 500 and bool(changed.float().mean() < 0.02)


CHANGES = [  # pixels: how far the edge of such a lesion reaches
    ("shape", "round", 8, False),
    ("shape", "irregular", 8, False),
    ("margin", "microlobulated", 8, False),
    ("margin", "angular", 8, False),
    ("margin", "indistinct", 16, False),
    ("margin", "spiculated", 20, False),
    ("echo", "isoechoic", 4, True),
    ("echo", "anechoic", 4, True),
    ("echo", "heterogeneous", 4, True),
    ("calcifications", "present", 4, True),
    ("halo", "present", 16, True),
]


@pytest.mark.parametrize(("name", "word", "pixels", "behind"), CHANGES)
def test_one_descriptor_changes_nothing_far_away(name, word, pixels, behind):
    assert untouched_far_away(name, word, pixels, behind)


@pytest.mark.parametrize(("name", "word", "pixels", "behind"), CHANGES[2:4] + CHANGES[6:10])
def test_the_far_away_test_bites(name, word, pixels, behind, monkeypatch):
    """Planted mistake: a number is drawn for the changed value only, and all that follow move."""
    right = phantom._draw_lesion

    def wrong(rng, descriptors, field_mm):
        drawn = right(rng, descriptors, field_mm)
        if descriptors[name] == value(name, word) and name != "calcifications":
            rng.random()
        return drawn

    monkeypatch.setattr(phantom, "_draw_lesion", wrong)
    if name == "calcifications":  # or the places of calcifications only where there are some
        original = phantom.draw_patient
        keep = lambda *a, descriptors: original(*a, descriptors=descriptors | {name: 0})
        monkeypatch.setattr(phantom, "draw_patient", lambda *a, malignant, **d: keep(*a, **d))
    assert not untouched_far_away(name, word, pixels, behind)


def test_the_same_call_gives_the_same_lesion():
    first, mask = simulate_lesion({"margin": 4}, seed=5)
    again, _ = simulate_lesion({"margin": 4}, seed=5)
    assert first.shape == (1, 64, 64) and first.dtype == torch.uint8
    assert mask.shape == (64, 64) and mask.dtype == torch.bool and mask.any()
    assert torch.equal(first, again)
    assert not torch.equal(first, simulate_lesion({"margin": 4}, seed=6)[0])
    whole = dict.fromkeys(DESCRIPTORS, 0) | {"margin": 4}
    assert torch.equal(first, simulate_lesion(whole, seed=5)[0])  # what is missing has value 0
    assert simulate_lesion({}, size=128)[0].shape == (1, 128, 128)


# ---- each value looks as named ------------------------------------------------------------------


def ellipse(mask: torch.Tensor) -> tuple[float, float]:
    """Longer over shorter axis of the ellipse with the mask's moments; area outside of it."""
    rows, columns = mask.nonzero().numpy().T
    points = np.stack([columns - columns.mean(), rows - rows.mean()])
    lengths, directions = np.linalg.eigh(np.cov(points))
    inside = ((directions.T @ points) ** 2 / (4 * lengths[:, None])).sum(0) <= 1
    return float(np.sqrt(lengths[1] / lengths[0])), float(1 - inside.mean())


def shapes_look_as_named() -> bool:
    found = {}
    for word in ("oval", "round", "irregular"):
        made = [simulate_lesion({"shape": value("shape", word)}, seed, 128)[1] for seed in SEEDS]
        found[word] = np.mean([ellipse(mask) for mask in made], 0)
    axes = {word: float(a) for word, (a, _) in found.items()}
    outside = {word: float(o) for word, (_, o) in found.items()}
    long_and_round = axes["oval"] > 1.4 and axes["round"] < 1.25
    return long_and_round and outside["irregular"] > 1.6 * max(outside["oval"], outside["round"])


def test_shapes_look_as_named():
    assert shapes_look_as_named()


def peaks(curve: np.ndarray, prominence: float) -> int:
    """The peaks of a closed curve."""
    at, _ = find_peaks(np.tile(curve, 3), prominence=prominence)
    return int(((at >= len(curve)) & (at < 2 * len(curve))).sum())


def margins_look_as_named() -> bool:
    """Of 12 contours each: scallops and corners of the radius, lines of the edge, its width."""
    bumps, lines, width = {}, {}, {}
    for word in DESCRIPTORS["margin"]:
        plain = dict.fromkeys(DESCRIPTORS, 0) | {"margin": value("margin", word)}
        contours = []
        for seed in range(12):
            stream = phantom.random_stream("target", seed, 0)
            patient = phantom.draw_patient(stream, "target", False, descriptors=plain)
            contours.append(phantom._contour(phantom.random_stream("target", seed, 0, 0), patient))
        bumps[word] = np.mean([peaks(radius, 0.08) for radius, _ in contours])
        lines[word] = np.mean([peaks(edge, 0.2) for _, edge in contours])
        width[word] = np.mean([np.median(edge) for _, edge in contours])
    return bool(
        bumps["circumscribed"] < 1.5
        and bumps["microlobulated"] > 5
        and 3 <= bumps["angular"] <= 5
        and width["indistinct"] > 0.25
        and max(w for word, w in width.items() if word != "indistinct") < 0.15
        and lines["spiculated"] >= 5
        and max(n for word, n in lines.items() if word != "spiculated") < 2
    )


def test_margins_look_as_named():
    assert margins_look_as_named()


def mean_width_over_height(word: str) -> float:
    what = {"orientation": value("orientation", word)}
    masks = [simulate_lesion(what, seed, 128)[1] for seed in SEEDS]
    return float(np.mean([mask.any(0).sum() / mask.any(1).sum() for mask in masks]))


def orientations_look_as_named() -> bool:
    return mean_width_over_height("not parallel") < 0.9 < 1.2 < mean_width_over_height("parallel")


def test_orientations_look_as_named():
    assert orientations_look_as_named()


def echoes_look_as_named() -> bool:
    """Grey level inside, from dark to light; heterogeneous ones vary most."""
    inside = {word: [] for word in DESCRIPTORS["echo"]}
    for seed in SEEDS:
        for word, levels in inside.items():
            image, mask = simulate_lesion({"echo": value("echo", word)}, seed)
            level = image[0][~around(~mask, 2)].float()
            levels.append((float(level.mean()), float(level.std())))
    grey, spread = ({w: np.mean([v[k] for v in vs]) for w, vs in inside.items()} for k in (0, 1))
    darker = grey["anechoic"] < grey["hypoechoic"] < grey["isoechoic"]
    return bool(darker and spread["heterogeneous"] > 1.15 * spread["hypoechoic"])


def test_echoes_look_as_named():
    assert echoes_look_as_named()


def marks_look_as_named() -> bool:
    """Calcifications are bright points inside; a halo brightens around."""
    brighter, around_it = [], []
    for seed in SEEDS:
        plain, mask = simulate_lesion({}, seed)
        calcified, _ = simulate_lesion({"calcifications": value("calcifications", "present")}, seed)
        halo, _ = simulate_lesion({"halo": value("halo", "present")}, seed)
        brighter.append(float((calcified.int() - plain.int())[0][mask].max()))
        around_it.append(float((halo.int() - plain.int())[0][around(mask, 4) & ~mask].sum()))
    return min(brighter) > 40 and min(around_it) > 0


def test_calcifications_and_halo_look_as_named():
    assert marks_look_as_named()


LOOKS = {
    "shape": shapes_look_as_named,
    "margin": margins_look_as_named,
    "orientation": orientations_look_as_named,
    "echo": echoes_look_as_named,
    "calcifications": marks_look_as_named,
    "halo": marks_look_as_named,
}


@pytest.mark.parametrize(
    ("name", "left", "right"),
    [
        (name, left, right)
        for name in LOOKS
        for left, right in zip(range(9), range(1, len(DESCRIPTORS[name])))
    ],
)
def test_the_looks_bite(name, left, right, monkeypatch):
    """Planted mistake: two words of a descriptor swapped."""
    words = list(DESCRIPTORS[name])
    words[left], words[right] = words[right], words[left]
    swapped, original = dict(DESCRIPTORS) | {name: tuple(words)}, value
    at = lambda n, word: swapped[n].index(word)
    monkeypatch.setitem(globals(), "value", at)
    assert original(name, words[0]) != at(name, words[0]) or left > 0
    assert not LOOKS[name]()


# ---- counterfactual patients --------------------------------------------------------------------


def same_above_the_lesion(edit) -> bool:
    """Women as they are and edited: other pictures, but the same tissue above each lesion."""
    plain, other = (phantom.simulate_target("test", 8, 64, seed=9, edit=e) for e in (None, edit))
    for key in ("patients", "labels"):
        if plain[key].tolist() != other[key].tolist():
            return False
    different = (plain["images"].int() - other["images"].int()).abs()[:, 0]
    for change, mask in zip(different, plain["masks"]):
        top = int(mask.any(1).nonzero().min())
        if change.max() == 0 or change[: max(top - 8, 0)].float().mean() > 0.5:
            return False
    return True


EDITS = {
    "calipers": lambda patient: patient.update(calipers=1.0),
    "posterior_db": lambda patient: patient.update(posterior_db=patient["posterior_db"] - 15),
    "echo_db": lambda patient: patient.update(echo_db=-30.0),
    "halo": lambda patient: patient["descriptors"].update(halo=1 - patient["descriptors"]["halo"]),
    "lesion": lambda patient: patient.update(lesion=False),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_make_counterfactual_pairs(name):
    assert same_above_the_lesion(EDITS[name])


@pytest.mark.parametrize(
    "mistake",
    [
        lambda patient: patient.update(field_mm=1.2 * patient["field_mm"]),
        lambda patient: patient.update(scanner=phantom.Scanner(0.5, 0.3, 1, 60, 1, 30, 0)),
        lambda patient: None,
    ],
    ids=["another field", "another scanner", "nothing"],
)
def test_the_counterfactual_test_bites(mistake):
    assert not same_above_the_lesion(mistake)


def test_calipers_change_few_pixels_and_no_lesion_has_no_mask():
    made = {name: phantom.simulate_target("test", 3, 64, 9, e) for name, e in EDITS.items()}
    plain = phantom.simulate_target("test", 3, 64, 9)
    assert (plain["images"] != made["calipers"]["images"]).float().mean() < 0.05
    assert torch.equal(plain["masks"], made["calipers"]["masks"])
    assert plain["masks"].any() and not made["lesion"]["masks"].any()
