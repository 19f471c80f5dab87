"""The simulator: same numbers everywhere, physics the right way round, marks where they belong.

What it draws is tested in test_phantom_tables.py, lesions made to order in test_phantom_lesions.py.
"""

import numpy as np
import pytest
import torch

from medtl_utils import phantom, phantom_render
from tests.conftest import ROOT

REFERENCE = ROOT / "tests" / "reference" / "phantom_v2.npz"
FIELD = 40.0  # mm, of the pictures made here


def lesion(seed: int, size: int = 64, kind: str = "target", **descriptors):
    """One image of a patient with these descriptors; the rest depends on the seed alone."""
    plain = dict.fromkeys(phantom.DESCRIPTORS, 0) | descriptors
    patient = phantom.draw_patient(
        phantom.random_stream(kind, seed, 0), kind, malignant=False, descriptors=plain
    )
    patient.update(size_mm=14.0, field_mm=FIELD, fat_mm=4.0, gland_mm=30.0, lobule_like=0.0)
    image, mask = phantom.simulate([(phantom.random_stream(kind, seed, 0, 0), patient)], size)
    return image[0, 0].float(), mask[0]


def test_images_are_the_pinned_ones():
    """The committed reference, up to another processor's last bit.

    That may change one grey level in 0.1 % of the pixels.
    """
    assert phantom.VERSION == 2, "another version has a reference of its own"
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


# ---- shadow and enhancement ---------------------------------------------------------------------


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


def enhancement_brightens() -> bool:
    gain = []
    for seed in range(6):
        plain, mask = lesion(seed)
        below = int(mask.any(1).nonzero().max()) + 2
        gain.append((lesion(seed, posterior=1)[0] - plain)[below:, mask.any(0)].mean())
    return bool(torch.stack(gain).mean() > 5)


def test_enhancement_brightens_behind():
    assert enhancement_brightens()


def test_the_enhancement_test_bites(monkeypatch):
    """Planted mistake: a lesion's gain taken for a loss."""
    right = phantom._draw_lesion

    def wrong(rng, descriptors, field_mm):
        drawn = right(rng, descriptors, field_mm)
        return drawn | {"posterior_db": -drawn["posterior_db"]}

    monkeypatch.setattr(phantom, "_draw_lesion", wrong)
    assert not enhancement_brightens()


# ---- size and resolution ------------------------------------------------------------------------


def widths_mm(size: int) -> list[float]:
    return [float(lesion(seed, size)[1].any(0).sum()) * FIELD / size for seed in range(6)]


def test_mask_has_the_size_that_was_drawn():
    assert 12 < np.mean(widths_mm(64)) < 16  # mm; drawn: 14


def test_128_pixels():
    """The same lesion in mm, on a finer raster of its own noise."""
    image, mask = lesion(0, size=128)
    assert image.shape == mask.shape == (128, 128)
    assert abs(np.mean(widths_mm(128)) - np.mean(widths_mm(64))) < 1


def test_the_sizes_bite(monkeypatch):
    """Planted mistake: a grid step for another size."""
    monkeypatch.setattr(phantom, "draw_view", halve_the_field(phantom.draw_view))
    assert not 12 < np.mean(widths_mm(64)) < 16


def halve_the_field(draw_view):
    def wrong(rng, patient, grid):
        view = draw_view(rng, patient, grid)
        view["numbers"][view["names"].index("field_mm")] *= 1.5
        return view

    return wrong


# ---- what only some images have -----------------------------------------------------------------


def pair(seed: int, **changed):
    """The same source patient, plain and with some numbers changed: two float images, a mask."""
    pictures = []
    for numbers in ({}, changed):
        oval = dict.fromkeys(phantom.DESCRIPTORS, 0)
        stream = phantom.random_stream("source", seed, 0)
        patient = phantom.draw_patient(stream, "source", descriptors=oval)
        patient.update(dict.fromkeys(phantom.EXTRAS, 0.0), exposure=0.0, pedestal=0.0, warp=0.0)
        patient.update(
            {"lesion": True, "size_mm": 14.0, "field_mm": FIELD, "fat_mm": 4.0, "gland_mm": 30.0}
            | numbers
        )
        image, mask = phantom.simulate([(phantom.random_stream("source", seed, 0, 0), patient)], 64)
        pictures.append(image[0, 0].float())
    return *pictures, mask[0]


def calipers_mark_the_ends() -> bool:
    for seed in range(4):
        plain, marked, mask = pair(seed, calipers=1.0)
        changed = (marked - plain).abs() > 0
        columns = mask.any(0).nonzero().flatten()
        away = changed.nonzero()[:, 1]
        near_an_end = torch.minimum((away - columns[0]).abs(), (away - columns[-1]).abs()) <= 7
        if not (changed.any() and near_an_end.all() and changed.float().mean() < 0.05):
            return False
        if not (marked[changed].max() > 200 and (marked >= plain).all()):
            return False
    return True


def test_calipers_mark_the_lesions_ends_and_nothing_else():
    assert calipers_mark_the_ends()


def test_the_caliper_test_bites(monkeypatch):
    """Planted mistake: marks at the ends of the height."""
    right = phantom_render._calipers
    turned = lambda scene: right(scene).transpose(1, 2)
    monkeypatch.setattr(phantom_render, "_calipers", turned)
    assert not calipers_mark_the_ends()


def a_rib_shades() -> bool:
    darkest = []
    for seed in range(6):
        plain, rib, _ = pair(seed, rib_db=25.0)
        change = rib - plain
        bright = int(change.amax(1).argmax())
        above = change[: max(bright - 6, 1)].abs().max()  # nothing between probe and bone
        if change[bright].max() <= 8 or above >= 6:
            return False
        darkest.append(float(change[min(bright + 4, 62) :].min()))
    return max(darkest) < 0 and np.mean(darkest) < -10  # deep down it may be black already


def test_a_rib_shades_what_lies_behind_it():
    assert a_rib_shades()


def test_the_rib_test_bites(monkeypatch):
    right = torch.cumsum
    monkeypatch.setattr(torch, "cumsum", lambda x, dim: right(x.flip(dim), dim).flip(dim))
    assert not a_rib_shades()


def spread_beams() -> bool:
    """In the sector the corners beside the probe are black; a beam is wider below than above."""
    plain, sector, _ = pair(1, convex=0.45)
    black = sector[:4, :4].max() == 0 and sector[:4, -4:].max() == 0 and plain[:4, :4].max() > 0
    column = torch.zeros(1, 1, 80, 80)
    column[..., 34:46] = 1.0
    bent = phantom_render._sector(column, torch.full((1, 1, 1), 0.45))[0, 0] > 0.5
    return bool(black and bent[75].sum() > 1.5 * bent[5].sum())


def test_a_curved_probe_spreads_the_beams():
    assert spread_beams()


def test_the_sector_test_bites(monkeypatch):
    """Planted mistake: the sector upside down."""
    right = phantom_render._sector
    turned = lambda pictures, half: right(pictures.flip(2), half).flip(2)
    monkeypatch.setattr(phantom_render, "_sector", turned)
    assert not spread_beams()


def test_exposure_sets_the_brightness():
    dark, bright = (pair(2, exposure=e)[1].mean() for e in (0.35, 0.55))
    assert bright > dark + 15
    # 0 stands for "as it comes", not for black
    assert pair(2, exposure=0.0)[1].mean() > pair(2, exposure=0.05)[1].mean()


def test_the_pedestal_is_the_darkest_grey():
    plain, lifted, _ = pair(3, pedestal=0.1)
    assert lifted.min() >= 24 and plain.min() < 10 and (lifted >= plain - 1).all()
