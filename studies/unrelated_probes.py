"""Probes and scores of a source, from the features that it gives: nothing is trained but lines."""

from __future__ import annotations

import torch
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from studies.source_net import HEADS
from studies.tables import auc
from studies.transferability import h_score, leep_of_heads, log_me, principal
from studies.unrelated_cells import PROBE_C, RANKED, labelled, sides

SIZES = {"ultrasound": list(HEADS.values()), "shapes": list(HEADS.values())}  # answers a question
SCORES = ("H-score", "LEEP", "LogME", "probe, cross-validated")


class Seen:
    """What a network made of a target: features of both sides, and its own answers."""

    def __init__(self, source: str, target: str, arrays: dict):
        self.source, (self.pool, self.out) = source, sides(target)
        self.features, self.held_out = arrays["pool"], arrays["out"]
        logits, place = arrays["logits"], 0
        self.answers = []
        for size in SIZES.get(source, [logits.shape[1]]):
            self.answers.append(special.softmax(logits[:, place : place + size], axis=1))
            place += size

    def probe(self, n: int | None, seed: int) -> torch.Tensor:
        """Held-out probabilities (N, 2) of a logistic regression on n labelled images."""
        rows = labelled(self.pool, n, seed)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=5000))
        model.fit(self.features[rows], self.pool.labels[rows].numpy())
        return torch.tensor(model.predict_proba(self.held_out), dtype=torch.float32)

    def scores(self, seed: int) -> list[float]:
        """SCORES, from RANKED labelled images."""
        rows = labelled(self.pool, RANKED, seed)
        x, y = self.features[rows], self.pool.labels[rows].numpy()
        model = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=5000))
        found = cross_val_predict(model, x, y, cv=5, method="predict_proba")
        answers = leep_of_heads([p[rows] for p in self.answers], y)
        inside = auc(found, self.pool[rows])
        return [h_score(principal(x), y), answers, log_me(x, y), inside]
