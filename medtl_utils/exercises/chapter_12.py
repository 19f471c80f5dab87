"""Exercises of chapter 12, Cross-modal learning."""

import numpy as np
import torch

from .functions import Function, Wrong
from .kinds import Letters

# ---- 12.1: recall by chance, when several items are right ----


def chance(right, k):
    """Mean over queries of the chance that k different random items hold a right one."""
    n, m = right.shape[1], right.sum(1)
    none = np.ones(len(m))
    for drawn in range(k):
        none = none * np.clip(n - m - drawn, 0, None) / (n - drawn)
    return float(np.mean(1 - none))


def two_galleries():
    """(right, k): bool (queries, items), between one and many right items for a query."""
    rng, cases = np.random.default_rng(12), []
    for n, k in ((12, 3), (20, 5)):
        right = rng.random((n, n)) < np.linspace(0.02, 0.3, n)[:, None]
        cases.append((right | np.eye(n, dtype=bool), k))
    return cases


CHANCE = Function(
    hint="for one query with m right items of n: what is the chance that k different items, drawn "
    "at random, are all wrong?",
    hints=(
        "the first is wrong with (n - m) / n, the next with (n - m - 1) / (n - 1), and so on. One "
        "minus the product; then the mean over the queries.",
    ),
    right=chance,
    cases=two_galleries,
    form="return one number",
    wrong=(
        Wrong(
            lambda right, k: k / right.shape[1],
            "this counts the own partner alone: queries with several right items are easier.",
        ),
        Wrong(
            lambda right, k: float(np.mean(1 - (1 - right.mean(1)) ** k)),
            "the k items are different ones: the second is drawn from one item fewer.",
        ),
        Wrong(
            lambda right, k: float(np.mean(np.minimum(1, k * right.mean(1)))),
            "k times the share counts a query twice when two of its items are right.",
        ),
        Wrong(
            lambda right, k: chance(right.mean(0, keepdims=True) > 0.1, k),
            "a mean of the chances is asked for: one chance for each query (row).",
        ),
        Wrong(
            lambda right, k: 1 - chance(right, k),
            "this is the chance that all k are wrong; one minus it is asked for.",
        ),
        Wrong(
            lambda right, k: chance(right.T, k),
            "rows are queries, columns are items: yours takes them the other way round.",
        ),
    ),
    other=Wrong(
        lambda right, k: 0.5,
        "another number is expected: the mean over rows of 1 - P(all k items are wrong).",
    ),
)

# ---- 12.2: sentences that are true as well are no negatives ----


def spared(similarity, same):
    """InfoNCE from image to sentence; other true sentences are left out of the denominator."""
    own = torch.eye(len(similarity), dtype=torch.bool)
    kept = similarity.masked_fill(same & ~own, -torch.inf)
    return torch.nn.functional.cross_entropy(kept, torch.arange(len(similarity)))


def two_batches():
    """(similarity / temperature, which sentences are true): (N, N) each; the diagonal is true."""
    cases = []
    for seed, n in ((0, 6), (1, 9)):
        g = torch.Generator().manual_seed(seed)
        same = torch.rand(n, n, generator=g) < 0.3
        cases.append((2 * torch.randn(n, n, generator=g), same | torch.eye(n, dtype=torch.bool)))
    return cases


def plain_loss(similarity, same):
    return torch.nn.functional.cross_entropy(similarity, torch.arange(len(similarity)))


def also_own(similarity, same):
    own = similarity.diagonal()
    return (similarity.masked_fill(same, -torch.inf).logsumexp(1) - own).mean()


def attracted(similarity, same):
    top = similarity.masked_fill(~same, -torch.inf).logsumexp(1)
    return (similarity.logsumexp(1) - top).mean()


def zeroed(similarity, same):
    own = torch.eye(len(similarity), dtype=torch.bool)
    kept = similarity.masked_fill(same & ~own, 0.0)
    return torch.nn.functional.cross_entropy(kept, torch.arange(len(similarity)))


SPARED = Function(
    hint="the denominator holds the own sentence and the sentences that are not true.",
    hints=(
        "a similarity of minus infinity adds exp(-inf) = 0. masked_fill(same & ~own, -torch.inf), "
        "with own = torch.eye(N, dtype=bool); then cross_entropy as before.",
    ),
    right=spared,
    cases=two_batches,
    form="return one number (a tensor without dimensions)",
    wrong=(
        Wrong(plain_loss, "that is InfoNCE as it was: true sentences are still pushed away."),
        Wrong(also_own, "the own sentence must stay in the denominator."),
        Wrong(attracted, "this draws all true sentences near. They shall only not be pushed away."),
        Wrong(zeroed, "a similarity of 0 still adds exp(0) = 1 to the sum; minus infinity adds 0."),
        Wrong(
            lambda similarity, same: spared(similarity.T, same.T),
            "this is the direction from sentence to image; the other one is asked for.",
        ),
        Wrong(
            lambda similarity, same: spared(similarity, same) * len(same),
            "the mean over the images is asked for, not the sum.",
        ),
    ),
    other=Wrong(
        lambda similarity, same: similarity.mean() + 7,
        "another number is expected: the mean of -s_ii + log of the sum over what is kept.",
    ),
)

EXERCISES = {
    "12.1": CHANCE,
    "12.2": SPARED,
    "12.3": Letters(
        hint="where did the prompts come from, what did the trunk know before, which retrieval is "
        "counted, and what was compared?",
        hints=(
            "prompts chosen on the test labels use labels. A trunk that learnt the words of the "
            "reports has seen their content. Recall needs the chance level and the gallery's size.",
        ),
        right="acdf",
        wrong={
            "a": "a is right: the best of 50 prompts was chosen with the test labels.",
            "b": "b is wrong: InfoNCE needs pairs, but no labels of malignancy.",
            "c": "c is right: the trunk had been trained to name what the reports say.",
            "d": "d is right: recall without the gallery's size and the chance level says nothing.",
            "e": "e is wrong: a larger temperature changes the loss, not who is on which side.",
            "f": "f is right: the table of descriptors alone may be as good or better.",
            "g": "g is wrong: shuffled pairs at chance exclude one leak; they show no good model.",
        },
    ),
}
