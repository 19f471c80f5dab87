"""Late fusion of an image and a short table, and what happens when one of them is missing."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from medtl_utils.data import Split
from medtl_utils.grouping import draw_labelled
from medtl_utils.phantom_tables import DESCRIPTORS

SHORT = ("orientation", "posterior", "calcifications", "halo")  # what the short table holds
# RATE: the best of 3e-4, 1e-3 and 3e-3, with both sides there, on the patients of the pairs
LABELS, UPDATES, BATCH, RATE, WIDTH, DROPPED = 300, 300, 32, 3e-4, 16, 0.3
ARMS = ("two models", "one network", "one network, modality dropout")
GIVEN = ("both", "image only", "table only")
IMAGE_C, TABLE_C = 0.01, 1.0


def one_hot(split: Split, names: tuple[str, ...] = SHORT) -> np.ndarray:
    """float32 (N, columns): a column for each value of each descriptor."""
    parts = [np.eye(len(DESCRIPTORS[name]))[split.descriptors[name]] for name in names]
    return np.concatenate(parts, 1).astype(np.float32)


class TwoBranches(nn.Module):
    """A branch for the image's features, one for the table, and a head on both, side by side.

    `has` (N, 2): 1 where the image, or the table, is there; else the branch's output is 0.
    """

    def __init__(self, p: int, q: int):
        super().__init__()
        self.image, self.table = nn.Linear(p, WIDTH), nn.Linear(q, WIDTH)
        self.head = nn.Linear(2 * WIDTH, 1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, has: torch.Tensor) -> torch.Tensor:
        sides = (torch.relu(self.image(x)) * has[:, :1], torch.relu(self.table(t)) * has[:, 1:])
        return self.head(torch.cat(sides, 1))[:, 0]


def dropped(n: int, rng: torch.Generator) -> torch.Tensor:
    """Which sides n images keep in an update, (n, 2): DROPPED lack the image, as many the table."""
    u = torch.rand(n, generator=rng)
    return torch.stack([u >= DROPPED, (u < DROPPED) | (u >= 2 * DROPPED)], 1).float()


def trained(x, t, y, seed: int, dropout: bool) -> TwoBranches:
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    model = TwoBranches(x.shape[1], t.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1)
    for _ in range(UPDATES):
        rows = torch.randint(len(y), (BATCH,), generator=rng)
        keeps = dropped(BATCH, rng)
        has = keeps if dropout else torch.ones(BATCH, 2)
        outputs = model(x[rows], t[rows], has)
        loss = nn.functional.binary_cross_entropy_with_logits(outputs, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def log_odds(x, y, x_new, C: float) -> np.ndarray:
    return LogisticRegression(C=C, max_iter=5000).fit(x, y).decision_function(x_new)


@torch.no_grad()
def fused(seen: torch.Tensor, pool: Split, seen_new: torch.Tensor, test: Split, seed: int) -> dict:
    """Probabilities of the test images, (arms, GIVEN, N); and those of the full table without and
    with the image, (2, N). LABELS images of the pool are labelled, whole patients."""
    rng = np.random.default_rng([12, seed])
    rows = np.concatenate(draw_labelled(pool.labels.numpy(), pool.patients, LABELS, rng, "pool"))
    mean, sd = seen[rows].mean(0), seen[rows].std(0) + 1e-6
    x, x_new = (seen[rows] - mean) / sd, (seen_new - mean) / sd
    y, t, t_new = pool.labels[rows].float(), one_hot(pool)[rows], one_hot(test)
    prior = float(torch.logit(y.mean()))
    image = log_odds(x.numpy(), y.numpy(), x_new.numpy(), IMAGE_C)
    table = log_odds(t, y.numpy(), t_new, TABLE_C)
    logits = [[image + table - prior, image, table]]  # Bayes, if both are independent given y
    t, t_new = torch.from_numpy(t), torch.from_numpy(t_new)
    has = {name: torch.ones(len(test), 2) for name in GIVEN}
    has["image only"][:, 1], has["table only"][:, 0] = 0, 0
    for dropout in (False, True):
        with torch.enable_grad():
            model = trained(x, t, y, seed, dropout)
        logits.append([model(x_new, t_new, has[name]).numpy() for name in GIVEN])
    full, full_new = one_hot(pool, tuple(DESCRIPTORS))[rows], one_hot(test, tuple(DESCRIPTORS))
    whole = log_odds(full, y.numpy(), full_new, TABLE_C)
    sigmoid = lambda z: 1 / (1 + np.exp(-np.array(z, np.float64)))
    return {"fused": sigmoid(logits), "full": sigmoid([whole, whole + image - prior])}
