"""Words of a new speaker, from five other speakers; who speaks; and words split by recording.

    python -m studies.speech

"words": each of the six speakers is the target once. Source: ten words said by the other five
(2,500 recordings, 8 epochs). Target: takes 0 to 24 of the sixth are there to learn from, takes 25
to 49 to test (250 recordings). Of each word 1, 2 or 5 recordings are labelled. All arms that train
make 100 updates with ten recordings at one rate, fixed beforehand; seed 0 also tries a third and
three times that rate, for the table alone. Five seeds: another source, other recordings labelled.
Draws are averaged within a speaker; intervals are t over the six speakers, paired.
"voices": the same log-mels, another question, who of the six speaks. The source knows ten words
from takes 0 to 24 of these very speakers. Intervals: t over five seeds, for these six speakers.
"mixed": words, with a sixth of all recordings held out at random, so that every speaker is on both
sides. Interval: t over six speakers, as in "words".
"""

import copy
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import nn

from medtl_utils import fine_tune, freeze, predict, replace_head
from medtl_utils.datasets.fsdd import load_words
from studies.cache import HELPER
from studies.runner import Study, main
from studies.tables import over_seeds

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SEEDS, SHOTS, VOICE_SHOTS = range(5), (1, 2, 5), (2, 5, 10)
RATE, OTHER_RATES = 3e-3, (1e-3, 9e-3)
FIRST_TEST_TAKE = 25
BLOCKS = (("features", "features"), ("head", "head"))
SCRATCH, AS_IS, STATISTICS = "from scratch", "source as it is", "statistics re-estimated"
HEAD, NEW, ALL = "head only", "new head", "all layers"
LINEAR = "logistic regression"
TRAINED = (SCRATCH, HEAD, NEW, ALL)
ARMS = (LINEAR, SCRATCH, AS_IS, STATISTICS, HEAD, NEW, ALL)
CELLS = [{"part": "words", "speaker": name, "seed": seed} for name in SPEAKERS for seed in SEEDS]
CELLS += [
    {"part": part, "speaker": "", "seed": seed} for part in ("voices", "mixed") for seed in SEEDS
]


class WordNet(nn.Module):
    """Four convolutions, then the largest answer in each third of the time."""

    def __init__(self, n_classes: int = 10):
        super().__init__()
        channels = (1, 16, 32, 64, 96)
        layers = []
        for c_in, c_out in zip(channels, channels[1:]):
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)]
        layers[-1] = nn.AdaptiveMaxPool2d((1, 3))
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3))
        self.head = nn.Linear(3 * channels[-1], n_classes)

    def normalisation(self, images: torch.Tensor) -> torch.Tensor:
        """Each band minus its mean over time: what a microphone adds to a band goes away."""
        x = images.float()
        return (x - x.mean(3, keepdim=True)) / 40

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def shifted(images: torch.Tensor, frames: int = 6, bands: int = 2) -> torch.Tensor:
    """Each image moved at random, by up to 6 frames in time and 2 bands in pitch."""
    height, width = images.shape[2:]
    padded = F.pad(images, (frames, frames, bands, bands))
    down = torch.randint(0, 2 * bands + 1, (len(images),)).tolist()
    right = torch.randint(0, 2 * frames + 1, (len(images),)).tolist()
    moved = (p[:, d : d + height, r : r + width] for p, d, r in zip(padded, down, right))
    return torch.stack(list(moved))


def train(model, images, labels, seed: int, epochs=1, rate=RATE, batch_size=10) -> nn.Module:
    """fine_tune; nothing is chosen, so ten of the training images stand in for validation."""
    few = torch.linspace(0, len(labels) - 1, 10).long()
    sides = {"train": slice(None), "val": few}
    task = {name: SimpleNamespace(images=images[k], labels=labels[k]) for name, k in sides.items()}
    task = SimpleNamespace(**task)
    fine_tune(model, task, epochs, rate, batch_size, seed, augment=shifted, progress=False)
    return model


def source(images, labels, seed: int, epochs: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    return train(WordNet(int(labels.max()) + 1), images, labels, seed, epochs, batch_size=64)


def hundred_batches(rows: np.ndarray, batch_size: int = 10) -> np.ndarray:
    """The same few rows again and again: one epoch makes 100 updates, however few they are."""
    return np.tile(rows, 100 * batch_size // len(rows))


@torch.no_grad()
def re_estimated(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """A copy whose BatchNorm statistics are those of `images`; no label is used (AdaBN)."""
    adapted = copy.deepcopy(model).eval()
    for layer in adapted.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over all batches
            layer.train()
    adapted(adapted.normalisation(images))
    return adapted.eval()


def start_of(arm: str, model: nn.Module, n_classes: int, seed: int) -> nn.Module:
    """The network that an arm begins with; `model`, the source, stays as it is."""
    torch.manual_seed(seed)
    if arm == SCRATCH:
        return WordNet(n_classes)
    begun = copy.deepcopy(model)
    if arm == NEW or begun.head.out_features != n_classes:
        replace_head(begun, n_classes)
    if arm == ALL:
        return freeze(begun, through=None, batchnorm="eval")
    return freeze(begun, blocks=BLOCKS)


def accuracy(model: nn.Module, images, labels) -> float:
    found = predict(model, SimpleNamespace(images=images)).argmax(1)
    return float((found == labels).float().mean())


def linear(images, labels, test_images, test_labels) -> float:
    """Accuracy of logistic regression on the 1,536 numbers of a log-mel spectrogram."""
    flat = lambda x: x.flatten(1).numpy() / 255
    model = LogisticRegression(max_iter=5000).fit(flat(images), labels)
    return float(model.score(flat(test_images), test_labels))


def draw(labels: np.ndarray, pool: np.ndarray, shots: int, seed) -> np.ndarray:
    """`shots` rows of the pool of each class; those of fewer shots are among those of more."""
    rng = np.random.default_rng(seed)
    order = [rng.permutation(pool[labels[pool] == c]) for c in np.unique(labels)]
    return np.concatenate([rows[:shots] for rows in order])


def words(speaker: str, seed: int) -> dict:
    """Accuracy of each arm on the target speaker; rows: SHOTS, columns: ARMS."""
    data = load_words()
    x, y, own = data.images, data.labels, data.patients == speaker
    later = data.descriptors["take"] >= FIRST_TEST_TAKE
    pool, test = np.flatnonzero(own & ~later), np.flatnonzero(own & later)
    model = source(x[~own], y[~own], seed)
    fixed = {AS_IS: model, STATISTICS: re_estimated(model, x[pool])}
    fixed = {arm: accuracy(net, x[test], y[test]) for arm, net in fixed.items()}
    same_10 = draw(y.numpy(), pool, 1, [seed, SPEAKERS.index(speaker)])
    of_10 = accuracy(re_estimated(model, x[same_10]), x[test], y[test])
    rows, others = [], []
    for shots in SHOTS:
        few = draw(y.numpy(), pool, shots, [seed, SPEAKERS.index(speaker)])
        again = hundred_batches(few)

        def learn(arm: str, rate: float = RATE, again=again) -> float:
            net = train(start_of(arm, model, 10, seed), x[again], y[again], seed, rate=rate)
            return accuracy(net, x[test], y[test])

        ready = fixed | {LINEAR: linear(x[few], y[few], x[test], y[test])}
        ready |= {arm: learn(arm) for arm in TRAINED}
        rows.append([ready[arm] for arm in ARMS])
        if seed == 0:
            others.append([[learn(arm, rate) for rate in OTHER_RATES] for arm in (SCRATCH, ALL)])
    found = {"accuracy": np.array(rows), "statistics_of_10": of_10}
    return found | ({"other_rates": np.array(others)} if others else {})


def voices(seed: int) -> dict:
    """Who speaks: accuracy; rows: VOICE_SHOTS, columns: logistic regression and three arms."""
    data = load_words()
    x, y = data.images, torch.from_numpy(np.unique(data.patients, return_inverse=True)[1])
    later = data.descriptors["take"] >= FIRST_TEST_TAKE
    pool, test = np.flatnonzero(~later), np.flatnonzero(later)
    model = source(x[pool], data.labels[pool], seed)
    rows = []
    for shots in VOICE_SHOTS:
        few = draw(y.numpy(), pool, shots, [seed, 100])
        again = hundred_batches(few, 6)
        row = [linear(x[few], y[few], x[test], y[test])]
        for arm in (SCRATCH, NEW, ALL):
            net = train(start_of(arm, model, 6, seed), x[again], y[again], seed, batch_size=6)
            row.append(accuracy(net, x[test], y[test]))
        rows.append(row)
    return {"accuracy": np.array(rows)}


def mixed(seed: int) -> dict:
    """Words with every speaker on both sides: accuracy on the held-out recordings of each."""
    data = load_words()
    out = np.random.default_rng([seed, 200]).permutation(len(data)) < len(data) // 6
    model = source(data.images[~out], data.labels[~out], seed)
    of = [out & (data.patients == name) for name in SPEAKERS]
    return {"accuracy": np.array([accuracy(model, data.images[m], data.labels[m]) for m in of])}


def run(part: str, speaker: str, seed: int) -> dict:
    return (
        words(speaker, seed) if part == "words" else {"voices": voices, "mixed": mixed}[part](seed)
    )


# ---- the table -----------------------------------------------------------------------------------

PAIRS = ((ALL, SCRATCH), (ALL, AS_IS), (AS_IS, SCRATCH), (STATISTICS, AS_IS), (HEAD, AS_IS))
PAIRS += ((ALL, HEAD), (ALL, NEW), (SCRATCH, LINEAR))
VOICE_ARMS = (LINEAR, SCRATCH, NEW, ALL)
VOICE_PAIRS = ((NEW, SCRATCH), (ALL, SCRATCH), (SCRATCH, LINEAR))


def level(what: dict, values) -> dict:
    """A row: mean and t interval of accuracies, (n,), cut at 0 and 1, and the accuracies."""
    return what | over_seeds(values, bounds=(0, 1)) | {"each": values}


def arms_and_pairs(values: np.ndarray, shots, arms, pairs) -> tuple[list[dict], list[dict]]:
    """Rows of levels and of paired differences from (units, shots, arms)."""
    levels, differences = [], []
    for row, n in enumerate(shots):
        at = {arm: values[:, row, column] for column, arm in enumerate(arms)}
        levels += [level({"shots": n, "arm": arm}, at[arm]) for arm in arms]
        for a, b in pairs:
            differences.append({"shots": n, "arm": a, "against": b} | over_seeds(at[a] - at[b]))
    return levels, differences


def rates_tried(cells: list[dict]) -> list[dict]:
    """Mean over the speakers of seed 0 at each other rate, for two of the arms that train."""
    mean = np.mean([r["other_rates"] for r in cells], axis=0)  # shots, arms, rates
    return [
        {"shots": n, "arm": arm, "rate": rate, "value": mean[row, column, place]}
        for row, n in enumerate(SHOTS)
        for column, arm in enumerate((SCRATCH, ALL))
        for place, rate in enumerate(OTHER_RATES)
    ]


def table(results: list[tuple[dict, dict]]) -> dict:
    def pick(part: str, key: str = "accuracy") -> np.ndarray:
        """One row a seed; where speakers are left out, one a speaker: the mean over seeds."""
        of = lambda name: [r[key] for c, r in results if (c["part"], c["speaker"]) == (part, name)]
        return np.array(of("") or [np.mean(of(name), axis=0) for name in SPEAKERS])

    found = pick("words")  # speakers, shots, arms
    levels, differences = arms_and_pairs(found, SHOTS, ARMS, PAIRS)
    voice_rows, voice_gaps = arms_and_pairs(pick("voices"), VOICE_SHOTS, VOICE_ARMS, VOICE_PAIRS)
    by_recording, by_speaker = pick("mixed").mean(0), found[:, 0, ARMS.index(AS_IS)]
    seed_0 = [r for c, r in results if (c["part"], c["seed"]) == ("words", 0)]
    return {
        "levels": levels,
        "differences": differences,
        "statistics_of_10": level({"shots": 1}, pick("words", "statistics_of_10")),
        "other_rates": rates_tried(seed_0),
        "voices": voice_rows,
        "voices_differences": voice_gaps,
        "splits": [
            level({"what": "by recording"}, by_recording),
            level({"what": "by speaker"}, by_speaker),
            {"what": "by recording - by speaker"} | over_seeds(by_recording - by_speaker),
        ],
        "runs": [{**c, **{k: v for k, v in r.items() if k != "seconds"}} for c, r in results],
    }


STUDY = Study(
    name="speech",
    cells=CELLS,
    run=run,
    table=table,
    recipe="WordNet on log-mels, band means subtracted; source: 8 epochs of 64; target: 100 "
    "updates of 10 (voices: of 6), rate 0.003, moved by up to 6 frames and 2 bands",
    seeds=SEEDS,
    code=(*HELPER, "medtl_utils.datasets.fsdd"),
    weights=None,
)

if __name__ == "__main__":
    main(STUDY)
