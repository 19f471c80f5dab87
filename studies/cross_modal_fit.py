"""Two encoders and the symmetric InfoNCE loss: image features and sentences in one space."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from studies.report_sentences import PROMPTS, encode, vocabulary, write_all

DIM, EMBED, HIDDEN = 32, 24, 48
UPDATES, BATCH, RATE = 600, 128, 3e-3
START_TEMPERATURE = 0.1


class TextEncoder(nn.Module):
    """Sentences, int64 (N, length), as unit vectors (N, DIM); with `order` by a GRU.

    Without `order` it is a bag of words: a mean over the words, whatever their order.
    """

    def __init__(self, order: bool = True):
        super().__init__()
        self.words = nn.Embedding(len(vocabulary()), EMBED, padding_idx=0)
        self.read = nn.GRU(EMBED, HIDDEN, batch_first=True) if order else nn.Linear(EMBED, HIDDEN)
        self.project = nn.Linear(HIDDEN, DIM)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        rows = rows[:, : int((rows > 0).sum(1).max())]
        states = self.read(self.words(rows))
        states = states[0] if isinstance(states, tuple) else torch.relu(states)
        real = (rows > 0).unsqueeze(2)
        mean = (states * real).sum(1) / real.sum(1)
        return F.normalize(self.project(mean), dim=1)


class ImageEncoder(nn.Module):
    """Features of a frozen trunk (N, p), standardised, then one linear layer: unit vectors."""

    def __init__(self, features: torch.Tensor):
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("sd", features.std(0) + 1e-6)
        self.project = nn.Linear(features.shape[1], DIM)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.project((features - self.mean) / self.sd), dim=1)


def info_nce(u: torch.Tensor, v: torch.Tensor, temperature) -> torch.Tensor:
    """Symmetric InfoNCE of unit vectors u, v (N, d): row i of u belongs to row i of v."""
    similarity = u @ v.T / temperature
    own = torch.arange(len(u))
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


def batches(n: int, seed: int, updates: int = UPDATES, size: int = BATCH) -> list[torch.Tensor]:
    """Rows of all batches: pass after pass over n pairs, each in a new order."""
    rng, size = torch.Generator().manual_seed(seed), min(size, n)
    passes = -(-updates * size // n)
    order = torch.cat([torch.randperm(n, generator=rng) for _ in range(passes)])
    return list(order[: updates * size].split(size))


def align(
    features: torch.Tensor, facts: np.ndarray, seed: int, order: bool, shuffled: bool
) -> tuple[ImageEncoder, TextEncoder, torch.Tensor]:
    """Both encoders and the log of the temperature after UPDATES updates on pairs.

    Each image has two sentences; each pass over the images takes the next. `shuffled`: the
    sentences of other images, the control.
    """
    torch.manual_seed(seed)
    written = [torch.from_numpy(encode(write_all(facts, 100 * seed + k)[0])) for k in range(2)]
    if shuffled:
        other = torch.randperm(len(features))
        written = [rows[other] for rows in written]
    image, text = ImageEncoder(features), TextEncoder(order)
    log_t = nn.Parameter(torch.tensor(START_TEMPERATURE).log())
    weights = [*image.parameters(), *text.parameters(), log_t]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=UPDATES)
    for step, rows in enumerate(batches(len(features), seed)):
        version = step * len(rows) // len(features) % 2
        loss = info_nce(image(features[rows]), text(written[version][rows]), log_t.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return image.eval(), text.eval(), log_t.detach()


@torch.no_grad()
def prompt_vectors(text: TextEncoder) -> torch.Tensor:
    """Unit vectors (2, DIM) of the benign and the malignant prompts, each a mean of four."""
    sides = [text(torch.from_numpy(encode(list(PROMPTS[c])))) for c in ("benign", "malignant")]
    return F.normalize(torch.stack([side.mean(0) for side in sides]), dim=1)
