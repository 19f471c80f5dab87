"""Retrieval between images and sentences: hits, chance, intervals; mirrored sentences."""

from __future__ import annotations

import functools
import itertools

import numpy as np
from scipy import stats
from scipy.special import gammaln

from medtl_utils.evaluation import _crossed
from studies.cross_modal import GALLERY_SEED, MIRRORS, data, gallery
from studies.report_sentences import FACT_NAMES, facts_of, is_true, write_all

KS = (1, 5, 10)


def hits_of(similarity: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """bool (queries,): is one of the k most similar items right? `right`: bool (queries, items)."""
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(right, best, 1).any(1)


def chance_of(right: np.ndarray, k: int) -> float:
    """Mean over queries of the chance that k random items hold a right one."""
    n, m = right.shape[1], right.sum(1)
    logs = gammaln(n - m + 1) - gammaln(np.maximum(n - m - k, 0) + 1)
    logs = logs - gammaln(n + 1) + gammaln(n - k + 1)
    return float(np.where(n - m >= k, 1 - np.exp(logs), 1.0).mean())


def share(hits: np.ndarray) -> dict:
    """Mean of hits (seeds, queries), with an interval over queries and seeds."""
    hits = hits.astype(float)
    n = hits.shape[1]
    jack = (hits.sum(1, keepdims=True) - hits) / (n - 1)
    mean, _, error, freedom = _crossed(hits.mean(1), jack)
    reach = stats.t.ppf(0.975, freedom) * error if error > 0 else 0.0
    return {"value": mean, "low": max(0.0, mean - reach), "high": min(1.0, mean + reach)}


@functools.cache
def truths() -> np.ndarray:
    """bool (images, sentences) of the gallery: what is said is true of the lesion."""
    facts = facts_of(data()["test"].descriptors)[gallery()]
    return is_true(write_all(facts, GALLERY_SEED)[1], facts).T


def retrieval(arms: dict[str, list[dict]]) -> list[dict]:
    rows, places = [], gallery()
    for (arm, each), way, k in itertools.product(arms.items(), ("to text", "to image"), KS):
        for counted, right in (("own", np.eye(len(places), dtype=bool)), ("any true", truths())):
            tables = [one["test"][places] @ one["sentences"].T for one in each]
            if way == "to image":
                tables, right = [s.T for s in tables], right.T
            row = share(np.stack([hits_of(s, right, k) for s in tables]))
            what = {"arm": arm, "way": way, "k": k, "counted": counted}
            rows.append(what | row | {"chance": chance_of(right, k), "of": len(places)})
    return rows


def mirrored(arms: dict[str, list[dict]]) -> list[dict]:
    """Of two sentences with the same words: how often the true one is the nearer one."""
    facts, rows = facts_of(data()["test"].descriptors)[gallery()], []
    for arm in ("ultrasound", "bag of words"):
        place = 0
        for kind, pairs in MIRRORS.items():
            hits = []
            for _, _, a, b in pairs:
                a, b = (facts[:, FACT_NAMES.index(name)] for name in (a, b))
                here = np.flatnonzero(a != b)
                gaps = [
                    one["test"][gallery()][here]
                    @ (one["mirrors"][place] - one["mirrors"][place + 1])
                    for one in arms[arm]
                ]
                gaps, place = np.stack(gaps) * np.where(a[here], 1, -1), place + 2
                hits.append(np.where(abs(gaps) < 1e-5, 0.5, gaps > 0))  # a tie is half right
            row = share(np.concatenate(hits, 1))
            rows.append({"arm": arm, "kind": kind, "cases": sum(h.shape[1] for h in hits)} | row)
    return rows
