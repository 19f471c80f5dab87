"""The simulator: same numbers everywhere, physics the right way round, source and target apart."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medtl_utils import phantom, phantom_render
from tests.conftest import ROOT

REFERENCE = ROOT / "tests" / "reference" / "phantom_v1.npz"


def lesion(seed: int, size: int = 64, kind: str = "target", **descriptors):
    """One image of a patient with these descriptors; the rest depends on the seed alone."""
    patient = phantom.draw_patient(phantom.random_stream(kind, seed, 0), kind, malignant=False)
    plain = dict.fromkeys(phantom.DESCRIPTORS, 0) | descriptors
    patient.update(
        descriptors=plain,
        size_mm=14.0,
        ratio=1.4 if plain["orientation"] else 0.65,
        fat_mm=4.0,
        gland_mm=30.0,
    )
    patient["echo_db"] = {0: -13.0, 1: -5.0, 2: -28.0}[plain["echo"]]
    patient["posterior_db"] = {0: 0.0, 1: 8.0, 2: -18.0}[plain["posterior"]]
    image, mask = phantom.simulate([(phantom.random_stream(kind, seed, 0, 0), patient)], size)
    return image[0, 0].float(), mask[0]


def test_images_are_the_pinned_ones():
    """The committed reference, up to another processor's last bit.

    That may change one grey level in 0.1 % of the pixels.
    """
    made = phantom.simulate_target("train", 4, 64, seed=0)
    with np.load(REFERENCE, allow_pickle=False) as z:
        images, labels = z["images"], z["labels"]
    difference = np.abs(made["images"].numpy().astype(int) - images.astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() <= 0.001
    assert made["labels"].tolist() == labels.tolist()
    assert not np.array_equal(
        phantom.simulate_target("train", 4, 64, seed=1)["images"][:4].numpy(), images[:4]
    )


def test_an_image_does_not_depend_on_its_batch():
    stream = lambda i: phantom.random_stream("target", 3, i)
    draws = lambda: [(stream(i), phantom.draw_patient(stream(i), "target", True)) for i in range(5)]
    together, _ = phantom.simulate(draws(), 64, batch=5)
    alone, _ = phantom.simulate(draws(), 64, batch=1)
    assert (together.int() - alone.int()).abs().max() <= 1


def test_images_do_not_depend_on_the_number_of_threads():
    threads = torch.get_num_threads()
    made = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            made.append(phantom.simulate_source(0, 24, 32)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*made)


@pytest.mark.parametrize("name", ["draw_view", "draw_patient", "_contour", "render"])
def test_each_part_can_be_replaced(name, monkeypatch):
    """Studies take one thing out of the simulator by replacing a function of the module."""
    original, calls = getattr(phantom, name), []

    def counted(*arguments, **named):
        calls.append(1)
        return original(*arguments, **named)

    monkeypatch.setattr(phantom, name, counted)
    phantom.simulate_source(0, 2, 16)
    assert calls


def shadow_lies_behind() -> bool:
    """Shadow minus no shadow, same patient: the same above the lesion, darker behind it."""
    darker, untouched = [], []
    for seed in range(6):
        plain, mask = lesion(seed)
        shadow, _ = lesion(seed, posterior=2)
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        middle = slice(int(columns[0]) + 2, int(columns[-1]) - 1)
        darker.append((plain - shadow)[int(rows[-1]) + 2 :, middle].mean())
        untouched.append((plain - shadow)[: int(rows[0]) - 3].abs().mean())
    return bool(torch.stack(darker).mean() > 15 and torch.stack(untouched).max() < 1)


def test_shadows_lie_behind_the_lesion():
    assert shadow_lies_behind()


def test_the_shadow_test_bites(monkeypatch):
    """Planted mistake: attenuation added up towards the probe."""
    right = torch.cumsum
    monkeypatch.setattr(torch, "cumsum", lambda x, dim: right(x.flip(dim), dim).flip(dim))
    assert not shadow_lies_behind()


def test_enhancement_brightens_behind():
    gain = [(lesion(s, posterior=1)[0] - lesion(s)[0])[48:].mean() for s in range(6)]
    assert torch.stack(gain).mean() > 2


def test_descriptors_look_as_named():
    def inside(echo: int) -> float:
        pictures = [lesion(seed, echo=echo) for seed in range(5)]
        return float(np.mean([image[mask].mean() for image, mask in pictures]))

    def height_over_width(orientation: int) -> float:
        masks = [lesion(seed, orientation=orientation)[1] for seed in range(6)]
        return float(np.mean([mask.any(1).sum() / mask.any(0).sum() for mask in masks]))

    assert inside(2) < inside(0) < inside(1)  # anechoic, hypoechoic, isoechoic
    assert height_over_width(0) < 0.9 < 1.1 < height_over_width(1)
    brighter, around = [], []
    for seed in range(6):
        plain, mask = lesion(seed)
        brighter.append((lesion(seed, calcifications=1)[0] - plain)[mask].max())
        around.append((lesion(seed, halo=1)[0] - plain)[~mask].mean())
    assert min(brighter) > 40 and np.mean(around) > 0.5


def test_mask_has_the_size_that_was_drawn():
    widths = [float(lesion(s)[1].any(0).sum()) * 40 / 64 for s in range(6)]
    assert 12 < np.mean(widths) < 16.5  # mm; drawn: 14


def test_best_auc_equals_simulated_readers():
    """Independent route: draw descriptors, score by the log likelihood ratio, ask scikit-learn."""
    rng = np.random.default_rng(0)
    n, score = 60_000, np.zeros(120_000)
    for benign, malignant in phantom.LIKELIHOODS.values():
        values = np.concatenate(
            [rng.choice(len(benign), n, p=benign), rng.choice(len(malignant), n, p=malignant)]
        )
        score += np.log(np.array(malignant) / np.array(benign))[values]
    labels = np.repeat([0, 1], n)
    exact = phantom.best_auc()
    assert abs(roc_auc_score(labels, score) - exact) < 0.003
    assert 0.95 < exact < 0.97
    fewer = {k: v for k, v in phantom.LIKELIHOODS.items() if k != "posterior"}
    # planted mistake: a descriptor forgotten
    assert abs(roc_auc_score(labels, score) - phantom.best_auc(fewer)) > 0.01


def test_drawn_descriptors_follow_the_published_counts():
    rng = np.random.default_rng(0)
    malignant = [phantom.draw_descriptors(rng, True) for _ in range(4000)]
    benign = [phantom.draw_descriptors(rng, False) for _ in range(4000)]
    assert abs(np.mean([d["margin"] == 3 for d in malignant]) - 19 / 141) < 0.02
    assert abs(np.mean([d["orientation"] == 0 for d in benign]) - 228 / 262) < 0.02
    for chances in (c for pair in phantom.LIKELIHOODS.values() for c in pair):
        assert sum(chances) == pytest.approx(1) and min(chances) > 0


def test_source_and_target_are_disjoint():
    rng = np.random.default_rng(0)
    source = [phantom.draw_patient(rng, "source") for _ in range(300)]
    target = [phantom.draw_patient(rng, "target", True) for _ in range(300)]
    gap = min(
        np.abs(p["scanner"].position() - s.position()).max()
        for p in source
        for s in phantom.TARGET_SCANNERS.values()
    )
    assert gap > phantom.SCANNER_GAP
    low, high = min(p["lobule_mm"] for p in target), max(p["lobule_mm"] for p in target)
    assert not any(low <= p["lobule_mm"] <= high for p in source)
    assert (
        phantom.random_stream("source", 0, 1).random()
        != phantom.random_stream("target", 0, 1).random()
    )


def test_source_descriptors_carry_no_malignancy():
    """No pair of source descriptors is correlated: no joint pattern stands for malignancy."""
    _, _, targets = phantom.simulate_source(0, 600, size=16)
    lesions = targets[targets[:, 6] == 1][:, :6].float()
    correlation = torch.corrcoef(lesions.T) - torch.eye(6)
    assert correlation.abs().max() < 0.16
    assert 0.10 < (targets[:, 6] == 0).float().mean() < 0.20


def test_patients_keep_their_scanner_and_descriptors():
    made = phantom.simulate_target("val", 12, 16, seed=4)
    for patient in set(made["patients"]):
        rows = made["patients"] == patient
        assert all(len(set(values[rows])) == 1 for values in made["descriptors"].values())
        assert len(set(made["labels"][rows].tolist())) == 1


def test_128_pixels():
    image, mask = lesion(0, size=128)
    assert image.shape == mask.shape == (128, 128) and mask.any()


# ---- what source images have beyond the target's ------------------------------------------------


def source_pair(seed: int, **changed):
    """The same source patient, plain and with some numbers changed: two float images, a mask."""
    pictures = []
    for numbers in ({}, changed):
        patient = phantom.draw_patient(phantom.random_stream("source", seed, 0), "source")
        patient.update(dict.fromkeys(phantom.EXTRAS, 0.0), exposure=0.0, streak_db=0.0)
        patient.update(
            {"lesion": True, "size_mm": 14.0, "field_mm": 40.0, "fat_mm": 4.0, "gland_mm": 30.0}
            | numbers
        )
        image, mask = phantom.simulate([(phantom.random_stream("source", seed, 0, 0), patient)], 64)
        pictures.append(image[0, 0].float())
    return *pictures, mask[0]


def test_the_target_varies_in_nothing_but_its_own():
    target = phantom.draw_patient(phantom.random_stream("target", 0, 0), "target", True)
    assert all(target[name] == fixed for name, (_, fixed) in phantom.WIDER.items())
    assert all(target[name] == 0 for name in phantom.EXTRAS)
    source = [
        phantom.draw_patient(phantom.random_stream("source", k, 0), "source") for k in range(400)
    ]
    for name, ((low, high), _) in phantom.WIDER.items():
        values, tenth = np.array([p[name] for p in source]), 0.1 * (high - low)
        assert low <= values.min() < low + tenth and high - tenth < values.max() <= high
    for name, (probability, _) in phantom.EXTRAS.items():
        assert abs(np.mean([p[name] != 0 for p in source]) - probability) < 0.08


def test_calipers_mark_the_lesions_ends_and_nothing_else():
    for seed in range(4):
        plain, marked, mask = source_pair(seed, calipers=1.0)
        changed = (marked - plain).abs() > 0
        columns = mask.any(0).nonzero().flatten()
        away = changed.nonzero()[:, 1]
        near_an_end = torch.minimum((away - columns[0]).abs(), (away - columns[-1]).abs()) <= 6
        assert changed.any() and near_an_end.all() and changed.float().mean() < 0.05
        assert marked[changed].max() > 200 and (marked >= plain).all()


def test_a_rib_shades_what_lies_behind_it():
    darkest = []
    for seed in range(6):
        plain, rib, _ = source_pair(seed, rib_db=25.0)
        change = rib - plain
        bright = int(change.amax(1).argmax())
        assert change[bright].max() > 8  # the bone's face
        assert change[: max(bright - 6, 1)].abs().max() < 6  # nothing between probe and bone
        darkest.append(float(change[min(bright + 4, 62) :].min()))
    assert max(darkest) < 0 and np.mean(darkest) < -10  # deep down the picture may be black already


def test_a_curved_probe_spreads_the_beams():
    """In the sector the corners beside the probe are black; a shadow is wider below than above."""
    plain, sector, _ = source_pair(1, convex=0.45)
    assert sector[:4, :4].max() == 0 and sector[:4, -4:].max() == 0 and plain[:4, :4].max() > 0
    column = torch.zeros(1, 1, 80, 80)
    column[..., 34:46] = 1.0
    bent = phantom_render._sector(column, torch.full((1, 1, 1), 0.45))[0, 0] > 0.5
    assert bent[75].sum() > 1.5 * bent[5].sum()


def test_exposure_sets_the_brightness():
    dark, bright = (source_pair(2, exposure=e)[1].mean() for e in (0.35, 0.55))
    assert bright > dark + 15


def test_edits_make_counterfactual_pairs():
    plain = phantom.simulate_target("test", 3, 64, seed=9)
    marked = phantom.simulate_target(
        "test", 3, 64, seed=9, edit=lambda patient: patient.update(calipers=1.0)
    )
    changed = (plain["images"] != marked["images"]).float().mean()
    assert 0 < changed < 0.05 and plain["patients"].tolist() == marked["patients"].tolist()
