"""Exercises of chapter 15c, Genes."""

import numpy as np
from scipy import stats

from .functions import Function, Wrong
from .kinds import Letters

# ---- 15c.1: a pull towards the source that is stronger for some genes ----


def pulled(X, y, w_source, penalties):
    left = y - X @ w_source
    return w_source + np.linalg.solve(X.T @ X + np.diag(penalties), X.T @ left)


def towards_zero(X, y, w_source, penalties):
    return np.linalg.solve(X.T @ X + np.diag(penalties), X.T @ y)


def source_forgotten(X, y, w_source, penalties):
    return pulled(X, y, w_source, penalties) - w_source


def labels_kept(X, y, w_source, penalties):
    return w_source + towards_zero(X, y, w_source, penalties)


def one_penalty(X, y, w_source, penalties):
    return pulled(X, y, w_source, np.full(len(penalties), np.mean(penalties)))


def squared(X, y, w_source, penalties):
    return pulled(X, y, w_source, penalties**2)


def five_women():
    """(X, y, w_source, penalties)."""
    rng = np.random.default_rng(3)
    cases = []
    for women, genes in ((5, 3), (4, 6)):
        X, w = rng.normal(size=(women, genes)), rng.normal(size=genes)
        penalties = 0.5 + np.arange(genes) ** 2
        cases.append((X, np.where(rng.random(women) < 0.5, -1.0, 1.0), w, penalties))
    return cases


PULLED = Function(
    hint="write the loss with one penalty for each gene, and set its gradient to zero.",
    hints=(
        "with v = w - w_source the loss is the squared error of (y - X w_source) - X v, plus the "
        "sum of penalties * v**2. The gradient is zero where "
        "(X'X + diag(penalties)) v = X'(y - X w_source).",
    ),
    right=pulled,
    cases=five_women,
    form="return the weights, one number for each gene",
    wrong=(
        Wrong(towards_zero, "these weights are pulled towards zero, not towards w_source."),
        Wrong(
            source_forgotten,
            "that is v, the distance from the source: the weights are w_source + v.",
        ),
        Wrong(labels_kept, "v must fit what the source leaves over, y - X @ w_source, not y."),
        Wrong(one_penalty, "each gene has its own penalty: put them on the diagonal."),
        Wrong(squared, "the penalties stand in the loss as they are: do not square them."),
        Wrong(
            lambda X, y, w, p: w + 0.0,
            "these are the source's weights as they are: the labelled women must count, too.",
        ),
    ),
    other=Wrong(
        lambda X, y, w, p: w + 1.0,
        "other weights are expected: set the gradient of the loss to zero.",
    ),
)

# ---- 15c.2: standardise a woman without other women ----


def own_ranks(X):
    ranks = stats.rankdata(X, axis=1)
    return (ranks - ranks.mean(1, keepdims=True)) / ranks.std(1, keepdims=True)


def across_women(X):
    return own_ranks(X.T).T


def ranks_alone(X):
    return stats.rankdata(X, axis=1)


def centred_ranks(X):
    ranks = stats.rankdata(X, axis=1)
    return ranks - ranks.mean(1, keepdims=True)


def ties_by_place(X):
    ranks = stats.rankdata(X, axis=1, method="ordinal")
    return (ranks - ranks.mean(1, keepdims=True)) / ranks.std(1, keepdims=True)


def no_ranks(X):
    return (X - X.mean(1, keepdims=True)) / X.std(1, keepdims=True)


def argsorted(X):
    ranks = np.argsort(X, axis=1) + 1.0
    return (ranks - ranks.mean(1, keepdims=True)) / ranks.std(1, keepdims=True)


def three_women():
    """(X,): log expression with ties."""
    return [
        (
            np.array(
                [[2.0, 9.5, 4.0, 4.0, 7.0], [12.5, 3.0, 8.0, 1.0, 8.0], [6.0, 2.5, 0.5, 5.0, 11.0]]
            ),
        ),
        (np.array([[1.0, 5.0, 2.0, 4.0], [8.0, 8.0, 3.0, 9.0], [0.0, 2.0, 2.0, 7.0]]),),
    ]


OWN_RANKS = Function(
    hint="which numbers may you use, if tomorrow only one woman comes?",
    hints=(
        "her own genes only. Rank them with scipy.stats.rankdata(X, axis=1). Then subtract the "
        "mean of her ranks, and divide by their standard deviation.",
    ),
    right=own_ranks,
    cases=three_women,
    form="return an array of the shape of X",
    wrong=(
        Wrong(
            across_women,
            "that ranks each gene across the women: the result of one woman then depends on the "
            "others.",
        ),
        Wrong(ranks_alone, "those are the ranks: bring each woman to mean 0 and SD 1."),
        Wrong(centred_ranks, "the mean of each woman is 0; now divide by the SD of her ranks."),
        Wrong(ties_by_place, "genes with equal values get the same rank, the mean of their ranks."),
        Wrong(no_ranks, "each woman has mean 0 and SD 1, but these are no ranks."),
        Wrong(
            argsorted, "argsort gives the places of the sorted genes, not the ranks: use rankdata."
        ),
        Wrong(lambda X: -own_ranks(X), "the signs are turned round: high expression, high rank."),
    ),
    other=Wrong(
        lambda X: own_ranks(X) + 1,
        "other numbers are expected: rank the genes of each woman, then mean 0 and SD 1.",
    ),
)

EXERCISES = {
    "15c.1": PULLED,
    "15c.2": OWN_RANKS,
    "15c.3": Letters(
        hint="for each step: does it use the receptor status of a woman who is tested later?",
        hints=(
            "look for steps that need labels, and ask whose labels. A step without labels may "
            "need other women, but it cannot tell the model their status.",
        ),
        right="cdg",
        wrong={
            "a": "a leaks no label: the lists of genes were fixed before anyone was tested.",
            "b": "b leaks no label: it uses expression alone. It needs a group of women, though.",
            "c": "c leaks: the t statistic uses the status of all women, also of those tested.",
            "d": "d leaks: the penalty was chosen by the status of the tested women.",
            "e": "e leaks no label of the target: only source women take part in it.",
            "f": "f leaks no label: variance does not know the status.",
            "g": "g leaks: the level of the receptor is the label itself, as a column of numbers.",
        },
    ),
}
