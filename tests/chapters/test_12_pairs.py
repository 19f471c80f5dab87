"""Notebook 12: InfoNCE against loops, recall against brute force, pairs against shuffled pairs."""

import itertools
import math

import numpy as np
import pytest
import torch

from studies import cross_modal_fit, cross_modal_retrieval
from tests.chapters.notebook_code import function, namespace

N, DEEP = namespace("12"), namespace("12_deep")


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, d, generator=g, dtype=torch.float64), dim=1)


# ---- the loss ------------------------------------------------------------------------------------


def is_a_loop_over_pairs(loss) -> bool:
    """In plain Python numbers, pair by pair, both directions."""
    for n, d, temperature, seed in ((5, 3, 0.1, 0), (9, 4, 0.7, 1), (2, 2, 1.0, 2)):
        u, v = unit(n, d, seed), unit(n, d, seed + 10)
        a, b = u.tolist(), v.tolist()
        cos = lambda x, y: sum(p * q for p, q in zip(x, y))
        total = 0.0
        for i in range(n):
            own = math.exp(cos(a[i], b[i]) / temperature)
            to_text = sum(math.exp(cos(a[i], b[j]) / temperature) for j in range(n))
            to_image = sum(math.exp(cos(a[j], b[i]) / temperature) for j in range(n))
            total += -math.log(own / to_text) - math.log(own / to_image)
        if not math.isclose(float(loss(u, v, temperature)), total / 2 / n, rel_tol=1e-9):
            return False
    return True


def test_the_loss_is_a_loop_over_pairs():
    for loss in (N["info_nce"], DEEP["info_nce"], cross_modal_fit.info_nce):
        assert is_a_loop_over_pairs(loss)


@pytest.mark.parametrize(
    "change",
    [
        ("F.cross_entropy(similarity.T, own)", "F.cross_entropy(similarity, own)"),
        ("u @ v.T / temperature", "u @ v.T * temperature"),
        ("u @ v.T / temperature", "u @ u.T / temperature"),
        ("torch.arange(len(u))", "torch.arange(len(u)).flip(0)"),
        (") / 2", ")"),
    ],
)
def test_the_loss_test_bites(change):
    assert not is_a_loop_over_pairs(function("12", "info_nce", change))


def forces_are_autograd(forces) -> bool:
    for own, temperature in ((0, 0.1), (4, 0.8)):
        s = unit(1, 6, own)[0].requires_grad_(True)
        loss = -s[own] / temperature + torch.logsumexp(s / temperature, 0)
        (want,) = torch.autograd.grad(loss, s)
        if not torch.allclose(forces(s.detach(), own, temperature), want, atol=1e-12):
            return False
    return True


def test_the_forces():
    assert forces_are_autograd(DEEP["forces"])
    for change in (("p / temperature", "p"), ("p[own] -= 1", "p[own] -= 0.9")):
        assert not forces_are_autograd(function("12_deep", "forces", change))


def is_a_bound(bound) -> bool:
    """Never above log N, nor, but for noise, above the mutual information; near it if it is low."""
    rng = np.random.default_rng(0)
    for rho, n in itertools.product((0.6, 0.9999), (4, 64)):
        value, truth = bound(rho, n, 4000 // n, rng), -0.5 * math.log(1 - rho**2)
        if value > math.log(n) + 1e-9 or value > truth + 0.05:
            return False
        if rho == 0.6 and n == 64 and abs(value - truth) > 0.05:
            return False
    return True


def test_the_bound():
    assert is_a_bound(DEEP["bound"])
    wrong = (("np.log(n) - np.mean", "2 * np.log(n) - np.mean"), ("(1 - rho ** 2) ** 0.5", "1.0"))
    for change in wrong:
        assert not is_a_bound(function("12_deep", "bound", change))


def ratio_is_that_of_densities(log_ratio) -> bool:
    from scipy import stats

    x, y, rho = 0.7, -0.4, 0.8
    joint = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]]).logpdf([x, y])
    return bool(np.isclose(log_ratio(x, y, rho), joint - stats.norm.logpdf([x, y]).sum()))


def test_the_log_ratio():
    assert ratio_is_that_of_densities(DEEP["log_ratio"])
    change = ("np.log(rest)", "rest")
    assert not ratio_is_that_of_densities(function("12_deep", "log_ratio", change))


# ---- retrieval -----------------------------------------------------------------------------------


def galleries():
    for n, m, k, seed in ((6, 5, 2, 0), (4, 8, 3, 1), (7, 7, 1, 2)):
        rng = np.random.default_rng(seed)
        yield rng.normal(size=(n, m)), rng.random((n, m)) < 0.35, k


def hits_by_sorting(similarity, right, k) -> list[bool]:
    found = []
    for row, good in zip(similarity.tolist(), right.tolist()):
        ranked = sorted(range(len(row)), key=lambda j: -row[j])
        found.append(any(good[j] for j in ranked[:k]))
    return found


def counts_hits(recall) -> bool:
    return all(
        [bool(h) for h in recall(torch.tensor(s), torch.tensor(r), k)] == hits_by_sorting(s, r, k)
        for s, r, k in galleries()
    )


def test_recall_against_brute_force():
    assert counts_hits(N["recall"])
    assert counts_hits(lambda s, r, k: cross_modal_retrieval.hits_of(s.numpy(), r.numpy(), k))


@pytest.mark.parametrize(
    "change",
    [
        ("descending=True", "descending=False"),
        ("[:, :k]", "[:, :k + 1]"),
        (".any(1)", ".all(1)"),
        ("similarity.argsort(1,", "similarity.argsort(0,"),
    ],
)
def test_the_recall_test_bites(change):
    try:
        assert not counts_hits(function("12", "recall", change))
    except (RuntimeError, IndexError):
        pass  # another shape: it cannot be run at all


def is_the_mean_over_all_draws(chance) -> bool:
    """Every set of k items, counted."""
    for _, right, k in galleries():
        sets = list(itertools.combinations(range(right.shape[1]), k))
        want = np.mean([[row[list(one)].any() for one in sets] for row in right])
        if not np.isclose(chance(right, k), want):
            return False
    return True


def test_chance_against_all_draws():
    assert is_the_mean_over_all_draws(lambda right, k: N["chance"](torch.tensor(right), k))
    assert is_the_mean_over_all_draws(cross_modal_retrieval.chance_of)
    for change in (
        ("n - m - j", "n - m"),
        ("/ (n - j)", "/ n"),
        ("right.sum(1)", "1 + 0 * right.sum(1)"),
    ):
        wrong = function("12", "chance", change)
        assert not is_the_mean_over_all_draws(lambda right, k, f=wrong: f(torch.tensor(right), k))


def covers(share, rounds: int = 300) -> float:
    """How often the interval holds the truth: patients differ, and so do trainings."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(rounds):
        patients, seeds = rng.normal(0, 1, 150), rng.normal(0, 0.3, 5)
        chances = 1 / (1 + np.exp(-(patients[None] + seeds[:, None])))
        row = share(rng.random(chances.shape) < chances)
        inside += row["low"] <= 0.5 <= row["high"]
    return inside / rounds


def test_the_interval_of_a_share_covers():
    assert covers(cross_modal_retrieval.share) > 0.92

    def of_one_training_alone(hits):  # planted: all (training, patient) as independent cases
        mean, n = hits.mean(), hits.size
        reach = 1.96 * (mean * (1 - mean) / n) ** 0.5
        return {"low": mean - reach, "high": mean + reach}

    assert covers(of_one_training_alone) < 0.92


# ---- true pairs and shuffled pairs ---------------------------------------------------------------


def learnt(align, shuffled: bool) -> float:
    """Recall@1 of 60 new pairs by the notebook's `align`: each hidden kind has words of its own."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 12, 360)
    centres = rng.normal(size=(12, 20))
    x = torch.tensor(centres[kinds] + 0.3 * rng.normal(size=(360, 20))).float()
    rows = torch.tensor(np.stack([1 + kinds, 13 + rng.integers(0, 3, 360)], 1))
    other = rng.permutation(300) if shuffled else np.arange(300)
    image, text, _ = align(x[:300], rows[:300][other], 0)
    s = (image(x[300:]) @ text(rows[300:]).T).detach()
    right = torch.tensor(kinds[300:, None] == kinds[None, 300:])
    return float(N["recall"](s, right, 1).mean())


def notebooks_align(*changes):
    space = namespace("12", *changes, within="align")
    space["VOCABULARY"] = ["", *map(str, range(15))]
    return space["align"]


def test_true_pairs_teach_and_shuffled_pairs_do_not():
    align = lambda x, rows, seed: notebooks_align()(x, rows, seed, updates=120)
    assert learnt(align, shuffled=False) > 0.9
    assert learnt(align, shuffled=True) < 0.35
    broken = notebooks_align(("text(rows[i])", "text(rows[i.flip(0)])"))
    assert learnt(lambda x, rows, seed: broken(x, rows, seed, updates=120), shuffled=False) < 0.35


def reads_order(encoder) -> bool:
    """Two orders of the same words get different vectors; padding changes nothing."""
    torch.manual_seed(0)
    text = encoder(9).eval()
    a, b, padded = (torch.tensor([row]) for row in ([1, 2, 3], [3, 2, 1], [1, 2, 3, 0, 0]))
    with torch.no_grad():
        same = torch.allclose(text(a), text(padded), atol=1e-6)
        return same and not torch.allclose(text(a), text(b), atol=1e-3)


def test_the_text_encoder_reads_the_order():
    assert reads_order(N["TextEncoder"])
    change = ("self.read(self.words(rows))[0]", "self.words(rows)")
    try:
        assert not reads_order(function("12", "TextEncoder", change))
    except RuntimeError:
        pass  # 24 numbers do not fit the projection of 48
    padded = ("(states * real).sum(1) / real.sum(1)", "states.mean(1)")
    assert not reads_order(function("12", "TextEncoder", padded))


def test_the_studys_encoder_is_the_notebooks():
    torch.manual_seed(3)
    study = cross_modal_fit.TextEncoder().eval()
    here = N["TextEncoder"](len(cross_modal_fit.vocabulary())).eval()
    here.load_state_dict(study.state_dict())
    rows = torch.tensor([[4, 5, 6, 0], [7, 8, 9, 10]])
    with torch.no_grad():
        assert torch.allclose(study(rows), here(rows), atol=1e-6)
        bag = cross_modal_fit.TextEncoder(order=False).eval()
        assert torch.allclose(bag(rows[1:]), bag(rows[1:].flip(1)), atol=1e-6)
        assert not torch.allclose(study(rows[1:]), study(rows[1:].flip(1)), atol=1e-3)
