"""What notebook 15 builds in sight, for the study: simulated ECG, RR features, a 1-D ResNet.

A test holds every function and constant here equal to the notebook's.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import signal
from torch import nn

CLASSES = ("sinus rhythm", "premature beats", "AF-like")
FS, SECONDS = 128, 10  # what every network gets

# ---- the simulator -----------------------------------------------------------------------------

WAVES = {  # delay from the R peak (s), width (s), height in lead II (mV)
    "P": (-0.16, 0.022, 0.15),
    "Q": (-0.026, 0.008, -0.10),
    "R": (0.0, 0.011, 1.00),
    "S": (0.028, 0.010, -0.20),
    "T": (0.28, 0.050, 0.30),
}

SETUPS = {  # ranges from which a patient or a record is drawn; "lead": factors of P, Q, R, S, T
    "narrow": {
        "fs": 250, "lead": [(0.9, 0.9, 0.9, 0.9, 0.9), (1.1, 1.1, 1.1, 1.1, 1.1)],
        "stretch": (0.97, 1.03), "rate": (65, 85), "breath": (0.01, 0.03), "early": (0.60, 0.70),
        "irregular": (0.22, 0.28), "wander": (0.0, 0.05), "muscle": (0.01, 0.02),
        "hum": (0.0, 0.01), "mains": 50, "burst": (0.0, 0.0),
    },
    "wide": {
        "fs": 250, "lead": [(-0.5, 0.0, -1.0, 0.0, -1.0), (1.5, 2.0, 1.5, 6.0, 1.5)],
        "stretch": (0.85, 1.20), "rate": (50, 110), "breath": (0.01, 0.10), "early": (0.55, 0.90),
        "irregular": (0.10, 0.30), "wander": (0.0, 0.40), "muscle": (0.01, 0.10),
        "hum": (0.0, 0.10), "mains": 50, "burst": (0.0, 0.0),
    },
    "target": {
        "fs": 128, "lead": [(0.2, 0.0, 0.15, 3.0, -0.8), (0.8, 0.5, 0.40, 6.0, 0.2)],
        "stretch": (0.90, 1.15), "rate": (50, 110), "breath": (0.01, 0.10), "early": (0.60, 0.90),
        "irregular": (0.10, 0.25), "wander": (0.1, 0.50), "muscle": (0.02, 0.08),
        "hum": (0.0, 0.10), "mains": 60, "burst": (0.1, 0.40),
    },
}  # fmt: skip


def draw_patient(rng, label, setup):
    """What all records of one patient share: her waves (5, 3), her rate, how irregular she is."""
    waves = np.array(list(WAVES.values()))
    waves[:, :2] *= rng.uniform(*setup["stretch"], (5, 2))
    waves[:, 2] *= rng.uniform(*setup["lead"])
    ranges = ("rate", "breath", "early", "irregular")
    return {"label": label, "waves": waves} | {k: rng.uniform(*setup[k]) for k in ranges}


def rr_intervals(rng, patient, n=40):
    """n intervals in seconds, of mean 60 / rate in all three rhythms, and which beats are early."""
    mean, k, early = 60 / (patient["rate"] * rng.uniform(0.95, 1.05)), np.arange(n), np.zeros(n, bool)
    phase = 2 * np.pi * (rng.uniform(0.2, 0.35) * mean * k + rng.random())
    rr = 1 + patient["breath"] * np.sin(phase) + 0.01 * rng.normal(size=n)
    if CLASSES[patient["label"]] == "premature beats":
        places = np.cumsum(rng.integers(3, 7, n))
        early[places[places < n - 1]] = True
        rr[early] = patient["early"]
        rr[1:][early[:-1]] = 2 - patient["early"]  # the pause makes up for it
    if CLASSES[patient["label"]] == "AF-like":
        rr = np.clip(1 + patient["irregular"] * rng.normal(size=n), 0.5, None)
    return rr * mean / rr.mean(), early


def heart(rng, patient, fs):
    """(signal in mV, times of the R peaks in s): a sum of Gaussian waves on a beat clock."""
    rr, early = rr_intervals(rng, patient)
    beats = np.cumsum(rr) - rr[0] - rng.uniform(1, 2)
    rr, early = (a[beats < SECONDS + 1, None] for a in (rr, early))
    beats, t = beats[beats < SECONDS + 1, None], np.arange(SECONDS * fs) / fs
    delay, width, height = (np.tile(column, (len(beats), 1)) for column in patient["waves"].T)
    delay[:, 4:] *= np.sqrt(rr)  # Bazett: the T wave comes sooner in a fast rhythm
    atrium = CLASSES[patient["label"]] == "AF-like"
    height[:, :1] *= 0 if atrium else ~early  # no P wave
    width[:, 1:4] *= 1 + 1.5 * early  # from the ventricle: a wide QRS, and T turned over
    height[:, 4:] *= 1 - 2 * early
    x = np.zeros(len(t))
    for d, w, h in zip(delay.T, width.T, height.T):
        x += h @ np.exp(-0.5 * ((t - beats - d[:, None]) / w[:, None]) ** 2)
    if atrium:
        flutter = rng.uniform(4, 9) * t + 0.3 * np.sin(2 * np.pi * rng.uniform(0.2, 1) * t)
        x += rng.uniform(0, 0.08) * np.sin(2 * np.pi * (flutter + rng.random()))
    return x, beats[(beats >= 0) & (beats < SECONDS)]


def noise(rng, setup, n):
    """Wander, mains hum, muscle noise and one burst of it, in mV; (n,)."""
    t, wave = np.arange(n) / setup["fs"], lambda hz: np.sin(2 * np.pi * (hz * t + rng.random()))
    size = {k: rng.uniform(*setup[k]) for k in ("wander", "hum", "muscle", "burst")}
    burst = size["burst"] * np.exp(-0.5 * ((t - rng.uniform(0, SECONDS)) / 0.7) ** 2)
    x = size["wander"] * wave(rng.uniform(0.1, 0.5)) + size["hum"] * wave(setup["mains"])
    return x + (size["muscle"] + burst) * rng.normal(size=n)


def resampled(x, fs):
    """From fs to FS: the filter in it removes what lies above half of the lower rate."""
    common = np.gcd(fs, FS)
    return x if fs == FS else signal.resample_poly(x, FS // common, fs // common)


@dataclass
class Records:
    """Signals (N, 1, 1280) float32 in mV, rhythm (N,), heart rate in beats/min (N,), patients."""

    images: torch.Tensor
    labels: torch.Tensor
    rates: torch.Tensor
    patients: np.ndarray
    name: str = "records"
    classes: tuple = CLASSES
    positive: None = None

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, rows):
        parts = {k: getattr(self, k)[rows] for k in ("images", "labels", "rates", "patients")}
        return replace(self, **parts)


def simulate(name, n_patients, seed, each=1):
    """`n_patients` patients, a third of each rhythm, with `each` records of ten seconds."""
    setup, rng = SETUPS[name], np.random.default_rng([seed, list(SETUPS).index(name)])
    signals, labels, rates, people = [], [], [], []
    for k in range(n_patients):
        patient = draw_patient(rng, k % 3, setup)
        for _ in range(each):
            x, beats = heart(rng, patient, setup["fs"])
            signals.append(resampled(x + noise(rng, setup, len(x)), setup["fs"]))
            labels.append(k % 3)
            rates.append(60 / np.diff(beats).mean())
            people.append(f"{name}-{seed}-{k}")
    images = torch.from_numpy(np.array(signals, np.float32)[:, None])
    numbers = torch.tensor(labels), torch.tensor(np.array(rates, np.float32))
    return Records(images, *numbers, np.array(people), name)


# ---- R peaks and what a cardiologist would count -------------------------------------------------


def r_peaks(x, fs=FS):
    """Sample numbers of the R peaks: bursts of steep slope, 0.25 s apart (Pan & Tompkins 1985)."""
    band = signal.butter(2, [5, 25], "band", fs=fs, output="sos")
    slope = np.gradient(signal.sosfiltfilt(band, x)) ** 2
    energy = np.sqrt(np.convolve(slope, np.ones(fs // 10) / (fs // 10), "same"))
    level = 0.4 * np.quantile(energy, 0.95)
    return signal.find_peaks(energy, height=level, distance=fs // 4)[0]


def rr_features(x):
    """Nine numbers of the RR intervals of one record (1280,)."""
    rr = np.diff(r_peaks(x)) / FS
    if len(rr) < 4:
        return np.zeros(9)
    step, middle = np.abs(np.diff(rr)), np.median(rr)
    away = np.corrcoef(rr[1:], rr[:-1])[0, 1] if rr[1:].std() * rr[:-1].std() > 0 else 0.0
    spread = [rr.std() / rr.mean(), np.sqrt((step**2).mean()) / rr.mean(), np.median(step) / middle]
    shares = [(step > 0.05).mean(), (np.abs(rr / middle - 1) > 0.15).mean()]
    return np.array([60 / rr.mean(), *spread, *shares, rr.min() / middle, rr.max() / middle, away])


# ---- the network -------------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions in time and a path around them."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        conv = lambda a, b, s: nn.Conv1d(a, b, 7, s, padding=3, bias=False)
        self.conv1, self.bn1 = conv(c_in, c_out, stride), nn.BatchNorm1d(c_out)
        self.conv2, self.bn2 = conv(c_out, c_out, 1), nn.BatchNorm1d(c_out)
        self.around = nn.Conv1d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        return (self.around(x) + self.bn2(self.conv2(y))).relu()


class ResNet1d(nn.Module):
    """(N, 1, T) -> n_outputs: a stem, four residual blocks, the mean over time, a head."""

    def __init__(self, n_outputs=3):
        super().__init__()
        stem = nn.Conv1d(1, 16, 15, 4, padding=7, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm1d(16), nn.ReLU())
        sizes = [(16, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 2)]
        self.body = nn.Sequential(*(Block(*size) for size in sizes))
        self.head = nn.Linear(64, n_outputs)

    def normalisation(self, x):
        return (x - x.mean(2, keepdim=True)) / x.std(2, keepdim=True)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean(2))
