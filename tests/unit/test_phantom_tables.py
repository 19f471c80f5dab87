"""How often the simulator draws what: as counted, and the exact reader of the counts."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medtl_utils import phantom
from medtl_utils.datasets.breast_lesions_usg import load_breast_descriptors
from medtl_utils.phantom_tables import COUNTS

ORIENTATION = ([228, 34], [66, 75])  # parallel, not parallel: Hong et al. 2005, benign, malignant

# ---- counts -------------------------------------------------------------------------------------

# BrEaST's words -> the simulator's. Of several margins the most suspicious counts: the first that
# the source's text names, in this order.
MARGINS = ("spiculated", "angular", "microlobulated", "indistinct", "circumscribed")
ECHO = {
    **{word: word for word in ("hypoechoic", "isoechoic", "anechoic", "heterogeneous")},
    "hyperechoic": "isoechoic",
    "complex cystic/solid": "heterogeneous",
}
POSTERIOR = {"no": "none", "enhancement": "enhancement", "shadowing": "shadow"}
POSTERIOR |= {"combined": "shadow"}
CALCIFIED = {
    "no": "absent",
    **dict.fromkeys(("in a mass", "intraductal", "indefinable"), "present"),
}
HALO = {"no": "absent", "yes": "present"}


def margin_of(text: str, order=MARGINS) -> str:
    """One margin from the source's words: "not circumscribed - angular&indistinct" -> angular."""
    named = text.removeprefix("not circumscribed - ").split("&")
    return next(margin for margin in order if margin in named)


def recounted(order=MARGINS) -> dict[tuple[str, ...], tuple[list, list]]:
    """The counts of BrEaST's 252 lesions, woman by woman, in plain Python."""
    table = load_breast_descriptors()
    columns = {
        "shape": table["shape"].tolist(),
        "margin": [margin_of(t, order) if "circ" in t else None for t in table["margin"].tolist()],
        "echo": [ECHO.get(word) for word in table["echogenicity"].tolist()],
        "posterior": [POSTERIOR.get(word) for word in table["posterior_features"].tolist()],
        "calcifications": [CALCIFIED.get(word) for word in table["calcifications"].tolist()],
        "halo": [HALO.get(word) for word in table["halo"].tolist()],
    }
    found = {}
    for names in COUNTS:
        if names == ("orientation",):  # BrEaST has none
            found[names] = ORIENTATION
            continue
        counts = [np.zeros([len(phantom.DESCRIPTORS[n]) for n in names], int) for _ in range(2)]
        for row, label in enumerate(table["classification"].tolist()):
            if label != "normal":
                at = tuple(phantom.DESCRIPTORS[n].index(columns[n][row]) for n in names)
                counts[label == "malignant"][at] += 1
        found[names] = tuple(c.tolist() for c in counts)
    return found


def test_the_counts_are_those_of_the_data():
    assert recounted() == COUNTS
    sums = [np.sum(COUNTS["shape", "margin"][label]) for label in (0, 1)]
    assert sums == [154, 98]


@pytest.mark.parametrize(
    "order",
    [
        ("angular", "spiculated", "microlobulated", "indistinct", "circumscribed"),
        ("indistinct", "spiculated", "angular", "microlobulated", "circumscribed"),
    ],
    ids=["angular above spiculated", "indistinct first"],
)
def test_the_recount_bites(order):
    """Planted mistakes: of several margins another one counts."""
    assert recounted(order) != COUNTS


def half_a_count_more(chances: dict) -> bool:
    """Jeffreys' prior, in fractions: (count + 1/2) / (sum + cells / 2)."""
    for names, by_class in COUNTS.items():
        for label, counts in enumerate(by_class):
            flat = np.ravel(counts).tolist()
            total = sum(flat) + Fraction(len(flat), 2)
            want = [float((c + Fraction(1, 2)) / total) for c in flat]
            got = np.ravel(chances[names][label])
            if not (np.allclose(got, want, atol=1e-15) and got.min() > 0):
                return False
    return True


def test_chances_are_counts_and_half():
    assert half_a_count_more(phantom.CHANCES)
    plain = {
        names: tuple(np.asarray(c) / np.sum(c) for c in counts) for names, counts in COUNTS.items()
    }
    assert not half_a_count_more(plain)  # planted: no half added


# ---- draws --------------------------------------------------------------------------------------

DRAWN = 4000


def cramers_v(table) -> float:
    """How strongly rows and columns of a table of counts hang together: 0 not at all, 1 wholly."""
    table = np.asarray(table, float)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    chi2 = ((table - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi2 / table.sum() / (min(table.shape) - 1)))


def drawn_as_counted(draw) -> bool:
    """The share of each (joint) value, and Cramér's V of shape and margin, within each class."""
    rng = np.random.default_rng(0)
    for label in (0, 1):
        lesions = [draw(rng, bool(label)) for _ in range(DRAWN)]
        for names, by_class in COUNTS.items():
            want = np.asarray(by_class[label]) + 0.5
            found = np.zeros_like(want)
            for lesion in lesions:
                found[tuple(lesion[name] for name in names)] += 1
            if np.abs(found / DRAWN - want / want.sum()).max() > 0.02:
                return False
            if len(names) == 2 and abs(cramers_v(found) - cramers_v(want)) > 0.04:
                return False
    return True


def test_drawn_descriptors_follow_the_published_counts():
    assert drawn_as_counted(phantom.draw_descriptors)
    strengths = [cramers_v(np.asarray(c) + 0.5) for c in COUNTS["shape", "margin"]]
    assert np.round(strengths, 2).tolist() == [0.45, 0.33]


def as_if_independent() -> dict:
    """CHANCES with shape and margin as if they knew nothing of each other within a class."""
    joint = phantom.CHANCES["shape", "margin"]
    return phantom.CHANCES | {
        ("shape", "margin"): tuple(np.outer(c.sum(1), c.sum(0)) for c in joint)
    }


@pytest.mark.parametrize("mistake", ["shape and margin apart", "classes swapped"])
def test_the_draws_bite(mistake, monkeypatch):
    swapped = {names: by_class[::-1] for names, by_class in phantom.CHANCES.items()}
    wrong = swapped if mistake == "classes swapped" else as_if_independent()
    monkeypatch.setattr(phantom, "CHANCES", wrong)
    assert not drawn_as_counted(phantom.draw_descriptors)


# ---- the exact reader ---------------------------------------------------------------------------


def plain_ratio(values: dict[str, int]) -> float:
    """P(values | malignant) / P(values | benign), cell by cell from COUNTS, in plain Python."""
    p = [1.0, 1.0]
    for names, by_class in COUNTS.items():
        for label, counts in enumerate(by_class):
            cell, flat = counts, np.ravel(counts).tolist()
            for name in names:
                cell = cell[values[name]]
            p[label] *= (cell + 0.5) / (sum(flat) + len(flat) / 2)
    return p[1] / p[0]


def every_lesion() -> list[dict[str, int]]:
    values = itertools.product(*(range(len(v)) for v in phantom.DESCRIPTORS.values()))
    return [dict(zip(phantom.DESCRIPTORS, v)) for v in values]


def equals_the_joint_table(likelihood_ratio) -> bool:
    """For each of the 1,440 combinations, one by one and all at once."""
    lesions = every_lesion()
    want = [plain_ratio(lesion) for lesion in lesions]
    one_by_one = [likelihood_ratio(lesion) for lesion in lesions[::97]]
    columns = {name: np.array([d[name] for d in lesions]) for name in phantom.DESCRIPTORS}
    got = likelihood_ratio(columns)
    return np.allclose(got, want, rtol=1e-12) and np.allclose(one_by_one, want[::97], rtol=1e-12)


def test_the_likelihood_ratio_is_the_joint_tables():
    assert len(every_lesion()) == 1440
    assert equals_the_joint_table(phantom.likelihood_ratio)


def test_the_likelihood_ratio_test_bites(monkeypatch):
    """Planted mistake: shape and margin multiplied as if they were independent."""
    monkeypatch.setattr(phantom, "CHANCES", as_if_independent())
    assert not equals_the_joint_table(phantom.likelihood_ratio)


def test_best_auc_equals_simulated_readers():
    """Independent route: draw lesions, score them by the log likelihood ratio, ask scikit-learn."""
    rng = np.random.default_rng(0)
    n, score = 200_000, np.zeros(400_000)
    for benign, malignant in phantom.CHANCES.values():  # a joint draw: cells, not values
        cells = [rng.choice(p.size, n, p=p.ravel()) for p in (benign, malignant)]
        score += np.log(malignant.ravel() / benign.ravel())[np.concatenate(cells)]
    auc, exact = roc_auc_score(np.repeat([0, 1], n), score), phantom.best_auc()
    assert abs(auc - exact) < 0.001
    assert 0.95 < exact < 0.975
    # planted mistakes: a descriptor forgotten; shape and margin apart
    fewer = {k: v for k, v in phantom.CHANCES.items() if k != ("posterior",)}
    for wrong in (fewer, as_if_independent()):
        assert abs(auc - phantom.best_auc(wrong)) > 0.002
