"""Notebook 11: Dice, the sum of gradients, uncertainty weights and PCGrad against other routes."""

import numpy as np
import torch
from torch import nn

from medtl_utils.exercises.chapter_11 import surgery
from studies import multi_task, two_heads
from tests.chapters.notebook_code import function, namespace

N, DEEP = namespace("11"), namespace("11_deep")


# ---- Dice ----------------------------------------------------------------------------------------


def masks(seed: int = 0, n: int = 6):
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.random((n, 5, 7)) < share) for share in (0.4, 0.3))
    a[1], b[2] = False, False  # nothing found; nothing there
    a[3] = b[3]
    return a, b


def dice_by_loop(a, b) -> list[float]:
    found = []
    for one, other in zip(a.tolist(), b.tolist()):
        both = sizes = there = 0
        for row, other_row in zip(one, other):
            for p, q in zip(row, other_row):
                both, sizes, there = both + (p and q), sizes + p + q, there + q
        found.append(2 * both / sizes if there else np.nan)
    return found


def is_dice(dice) -> bool:
    a, b = masks()
    return np.allclose(dice(a, b), dice_by_loop(a, b), equal_nan=True)


def test_dice_is_that_of_a_loop():
    assert is_dice(N["dice"]) and is_dice(multi_task.dice_of)
    for change in (("a & b", "a | b"), ("2 * both", "both"), ("b.any(2)", "a.any(2)")):
        assert not is_dice(function("11", "dice", change))


def groups_are_drawn(with_interval) -> bool:
    """Equal values within groups: as wide as the groups alone, and not as the images."""
    values = np.repeat(np.random.default_rng(0).normal(size=20), 10)
    ends = lambda words: [float(w.strip("()")) for w in words.split() if w != "to"]
    one, together = (
        ends(with_interval(values, groups)) for groups in (np.arange(200), np.repeat(range(20), 10))
    )
    ratio = (together[2] - together[1]) / (one[2] - one[1])
    return 2.2 < ratio < 4.2  # the root of 10, roughly


def test_the_interval_draws_whole_groups():
    assert groups_are_drawn(N["with_interval"])
    forgot = ("np.unique(groups[known], return_inverse=True)", "(0, np.arange(known.sum()))")
    assert not groups_are_drawn(function("11", "with_interval", forgot))


# ---- the shared gradient -------------------------------------------------------------------------


class Toy(nn.Module):
    """Shared weights, and two losses of them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shared, self.heads = nn.Linear(4, 3), nn.ModuleList([nn.Linear(3, 1) for _ in "ab"])

    def losses(self, x):
        h = torch.tanh(self.shared(x))
        return [head(h).square().mean() for head in self.heads]


def by_differences(w: list[float], x) -> torch.Tensor:
    """The gradient of the weighted sum of losses, number by number."""
    net, step, found = Toy().double(), 1e-6, []
    with torch.no_grad():
        for p in net.shared.parameters():
            for k in range(p.numel()):
                ends = []
                for sign in (1, -1):
                    p.view(-1)[k] += sign * step
                    ends.append(sum(a * b for a, b in zip(w, net.losses(x))))
                    p.view(-1)[k] -= sign * step
                found.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(found)


def sums(shared_gradients) -> bool:
    x, w = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).double(), [0.3, 0.7]
    net = Toy().double()
    shared = lambda: net.losses(x)
    rows = shared_gradients(net, [shared()[0], shared()[1]])
    return torch.allclose(torch.tensor(w).double() @ rows, by_differences(w, x), atol=1e-6)


def test_the_gradient_of_the_sum_is_the_sum_of_gradients():
    assert sums(N["shared_gradients"])
    kept = ("net.shared.zero_grad()", "pass")  # the second row holds the first one, too
    assert not sums(function("11", "shared_gradients", kept))


def set_back(set_gradient) -> bool:
    net = Toy()
    g = torch.arange(15.0)
    set_gradient(net, g)
    return torch.equal(torch.cat([p.grad.flatten() for p in net.shared.parameters()]), g)


def test_the_joined_gradient_goes_back_to_its_places():
    assert set_back(N["set_gradient"])
    assert not set_back(function("11", "set_gradient", ("view_as(p)", "view_as(p).flip(0)")))


# ---- uncertainty weights -------------------------------------------------------------------------


def has_closed_form(weighted) -> bool:
    """Its minimum over a fine grid lies at log L, for each loss; the gradient is zero there."""
    for loss in (0.02, 0.7, 5.0):
        grid = torch.linspace(-6, 4, 100_001, dtype=torch.float64)
        values = [weighted(s, torch.tensor([loss], dtype=torch.float64)) for s in grid[::500, None]]
        if abs(float(grid[::500][int(torch.stack(values).argmin())]) - np.log(loss)) > 0.03:
            return False
        s = torch.tensor([np.log(loss)], requires_grad=True)
        weighted(s, torch.tensor([loss], dtype=torch.float64)).backward()
        if abs(float(s.grad)) > 1e-9:
            return False
    return True


def test_uncertainty_weights_have_their_closed_form():
    assert has_closed_form(N["weighted"])
    for change in (("losses + s", "losses + s / 2"), ("losses + s", "losses"), ("-s", "s")):
        assert not has_closed_form(function("11", "weighted", change))


def descends_to_closed_form(two, joined) -> bool:
    """The study's own step: the gradient that it writes into s vanishes at log L, and no weight."""
    s, losses = torch.zeros(2), torch.tensor([0.02, 3.0])
    for _ in range(400):
        s -= 0.1 * (1 - losses * (-s).exp())
    rows = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    return torch.allclose(joined("uncertainty", s, rows), 1 / losses, rtol=1e-3)


def test_the_studys_uncertainty_weights_are_one_over_the_losses():
    assert descends_to_closed_form(two_heads, two_heads.joined)
    wrong = lambda how, s, rows: two_heads.joined(how, s / 2, rows)
    assert not descends_to_closed_form(two_heads, wrong)


def noise_is_found(last_term) -> bool:
    """The exact last term by a loop over images and classes."""
    f, variance = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.0, 0.1]]).double(), 0.5
    wanted = [
        np.log(sum(np.exp(v / variance) for v in row) / sum(np.exp(row)) ** (1 / variance))
        for row in f.numpy()
    ]
    return np.allclose(last_term(f, variance), wanted)


def test_the_deep_dives_last_term():
    assert noise_is_found(DEEP["last_term"])
    wrong = ("torch.logsumexp(f, 1) / variance", "torch.logsumexp(f, 1)")
    assert not noise_is_found(function("11_deep", "last_term", wrong))


# ---- PCGrad --------------------------------------------------------------------------------------


def pairs():
    rng = np.random.default_rng(3)
    return [torch.tensor(rng.normal(size=(2, 6))) for _ in range(40)]


def nearest_by_search(a, b):
    """The nearest vector to a, on the line a + t b, that does not point against b."""
    steps = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    allowed = steps[(a @ b + steps * (b @ b)) >= 0]
    return a + allowed[allowed.abs().argmin()] * b


def projects(without_conflict) -> bool:
    seen = set()
    for a, b in pairs():
        found, conflict = without_conflict(a, b), bool(a @ b < 0)
        seen.add(conflict)
        if not torch.allclose(found, nearest_by_search(a, b), atol=1e-3):
            return False
        if found @ b < -1e-9 or not conflict and not torch.equal(found, a):
            return False
    return seen == {True, False}


def test_pcgrad_projects():
    for right in (N["without_conflict"], two_heads.without_conflict, DEEP["without_conflict"]):
        assert projects(right)
    for change in (
        ("if dot < 0", "if dot > 0"),
        ("dot / (b @ b)", "dot / b.norm()"),
        ("* b if", "* a if"),
        ("a - dot", "a + dot"),
    ):
        assert not projects(function("11", "without_conflict", change))


def same_surgery(pcgrad) -> bool:
    rows = [(g, pcgrad(g).numpy()) for g in pairs()]
    return all(np.allclose(found, surgery(g.numpy())) for g, found in rows)


def test_notebook_study_and_exercise_join_alike():
    assert same_surgery(N["pcgrad"])
    study = lambda g: 2 * two_heads.joined("PCGrad", torch.zeros(2), list(g))
    assert same_surgery(study)  # the study halves the sum, as for weights of a half
    swapped = ("without_conflict(G[1], G[0])", "without_conflict(G[0], G[1])")
    assert not same_surgery(function("11", "pcgrad", swapped))
