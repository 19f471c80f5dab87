"""Scores of a source before any training: H-score, LEEP and LogME, from features and labels."""

from __future__ import annotations

import numpy as np

DIRECTIONS = 32  # principal components that the H-score sees: the same number for every source


def principal(features: np.ndarray, k: int = DIRECTIONS) -> np.ndarray:
    """The k largest principal components of (n, p) features: (n, min(k, n - 1))."""
    centred = features - features.mean(0)
    u, s, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    k = min(k, len(features) - 1, len(s))
    return u[:, :k] * s[:k]


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """tr(cov(f)^-1 cov(E[f | y])); Bao et al., "An information-theoretic approach", ICIP 2019."""
    centred = features - features.mean(0)
    means = np.stack([centred[labels == c].mean(0) for c in np.unique(labels)])
    of_class = means[np.unique(labels, return_inverse=True)[1]]
    both, between = (x.T @ x / len(x) for x in (centred, of_class))
    return float(np.trace(np.linalg.pinv(both, hermitian=True) @ between))


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean log of the expected empirical prediction; Nguyen et al., ICML 2020.

    `probabilities`: (n, z), those of the source's own answers.
    """
    joint = np.stack([probabilities[labels == c].sum(0) for c in np.unique(labels)])
    given = joint / np.maximum(joint.sum(0), 1e-12)  # P(y | z)
    prediction = probabilities @ given.T
    place = np.unique(labels, return_inverse=True)[1]
    return float(np.log(prediction[np.arange(len(labels)), place]).mean())


def leep_of_heads(probabilities: list[np.ndarray], labels: np.ndarray) -> float:
    """The source's best question: the largest LEEP over its heads."""
    return max(leep(p, labels) for p in probabilities)


def log_evidence(features: np.ndarray, y: np.ndarray, rounds: int = 100) -> float:
    """Log evidence per image of a Bayesian linear regression of y (n,) on features (n, p).

    The precisions of weights, alpha, and noise, beta, are those that maximise it.
    """
    n = len(y)
    u, s, _ = np.linalg.svd(features.astype(np.float64), full_matrices=False)
    s2, z = s**2, u.T @ y
    outside = max(float(y @ y - z @ z), 0.0)  # what no combination of features reaches
    alpha = beta = 1.0
    for _ in range(rounds):
        t = alpha / beta
        gamma = (s2 / (s2 + t)).sum()
        m2 = (s2 * z**2 / (s2 + t) ** 2).sum()
        residual = (z**2 * t**2 / (s2 + t) ** 2).sum() + outside
        alpha, beta = gamma / max(m2, 1e-12), (n - gamma) / max(residual, 1e-12)
        if abs(alpha / beta / t - 1) < 1e-6:
            break
    t = alpha / beta
    m2 = (s2 * z**2 / (s2 + t) ** 2).sum()
    residual = (z**2 * t**2 / (s2 + t) ** 2).sum() + outside
    logs = n * np.log(beta) - np.log1p(s2 / t).sum() - n * np.log(2 * np.pi)
    return float((logs - beta * residual - alpha * m2) / 2 / n)


def log_me(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of the log evidence; You et al., "LogME", ICML 2021."""
    each = [log_evidence(features, (labels == c).astype(float)) for c in np.unique(labels)]
    return float(np.mean(each))


def rank_correlation(a, b) -> float:
    """Kendall's tau-b; 0 where one of the two does not vary."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    upper = np.triu_indices(len(a), 1)
    da, db = (np.sign(x[:, None] - x[None])[upper] for x in (a, b))
    size = np.sqrt((da**2).sum() * (db**2).sum())
    return float((da * db).sum() / size) if size > 0 else 0.0
