"""Notebook 07: pointing game, energy and intervals, on maps with known answers."""

import numpy as np
import pytest
import torch

from tests.chapters.notebook_code import function


def answers_are_known(pointing, energy) -> bool:
    """Four maps of 4 x 4; the lesion is the left half: peak inside, peak outside, flat, empty."""
    M = torch.zeros(4, 4, 4, dtype=torch.bool)
    M[:, :, :2] = True
    L = torch.zeros(4, 4, 4)
    L[0, 1, 1], L[0, 2, 3] = 3.0, 1.0  # three quarters inside
    L[1, 0, 0], L[1, 3, 2] = 1.0, 4.0  # one fifth inside
    L[2] = 0.5  # flat: half of the highest points, and half of the map
    hits, shares = pointing(L, M), energy(L, M)
    return np.allclose(hits, [1, 0, 0.5, 0]) and np.allclose(shares, [0.75, 0.2, 0.5, 0.0])


def test_pointing_game_and_energy_on_known_maps():
    assert answers_are_known(function("07", "pointing"), function("07_deep", "energy"))


@pytest.mark.parametrize(
    "mistake",
    [("L == L.amax(", "L == L.amin("), (" & (L > 0)", "")],
    ids=["lowest point", "an empty map hits"],
)
def test_the_known_maps_bite_on_pointing(mistake):
    assert not answers_are_known(function("07", "pointing", mistake), function("07_deep", "energy"))


@pytest.mark.parametrize(
    "mistakes",
    [
        [("(L * M).sum(dim=(1, 2))", "M.sum(dim=(1, 2))")],
        [
            ("(L * M).sum(dim=(1, 2))", "(L * M).amax(dim=(1, 2))"),
            ("L.sum(dim=(1, 2))", "L.amax(dim=(1, 2))"),
        ],
    ],
    ids=["mask area", "highest values"],
)
def test_the_known_maps_bite_on_energy(mistakes):
    planted = function("07_deep", "energy", *mistakes)
    assert not answers_are_known(function("07", "pointing"), planted)


def interval_is_by_group(with_interval) -> bool:
    """Images of one group agree: the interval is that of as many images as groups."""
    rng = np.random.default_rng(1)
    per_group = rng.random(60)
    groups, values = np.repeat(np.arange(60), 4), np.repeat(per_group, 4)
    mean, low, high = with_interval(values, groups)
    loop = [per_group[rng.integers(60, size=60)].mean() for _ in range(2000)]
    same = np.allclose([low, high], np.quantile(loop, [0.025, 0.975]), atol=0.012)
    return bool(same and np.isclose(mean, per_group.mean()))


def test_intervals_draw_whole_groups():
    assert interval_is_by_group(function("07", "with_interval"))


@pytest.mark.parametrize(
    "mistake",
    [
        ("np.unique(groups,", "np.unique(np.arange(len(groups)),"),
        ("[0.025, 0.975]", "[0.16, 0.84]"),
    ],
    ids=["images drawn one by one", "a 68 % interval"],
)
def test_the_interval_test_bites(mistake):
    assert not interval_is_by_group(function("07", "with_interval", mistake))
