"""What notebook 15 builds in sight, for the study: simulated ECG, RR features, a 1-D ResNet.

A test holds every constant, function and class here equal to the notebook's.
"""

import numpy as np
import torch
from scipy import signal
from torch import nn

from medtl_utils.datasets.ptbxl import CLASSES, Signals

FS = 128  # Hz: what every network gets
SECONDS = 10

# ---- the simulator -----------------------------------------------------------------------------

WAVES = [  # P, Q, R, S, T in lead II: delay from the R peak (s), width (s), height (mV)
    (-0.16, 0.022, 0.15), (-0.026, 0.008, -0.1), (0, 0.011, 1.0), (0.028, 0.01, -0.2),
    (0.28, 0.05, 0.3)]  # fmt: skip
RANGES = {  # narrow, wide, target; heights are factors on those of lead II
    "P": ((0.9, 1.1), (-0.5, 1.5), (0.2, 0.8)), "QRS": ((0.9, 1.1), (-1.0, 1.5), (0.15, 0.4)),
    "S": ((0.9, 1.1), (0.0, 6.0), (3.0, 6.0)), "T": ((0.9, 1.1), (-1.0, 1.5), (-0.8, 0.2)),
    "stretch": ((0.97, 1.03), (0.85, 1.2), (0.9, 1.15)),  # of delays and widths in time
    "rate": ((65, 85), (50, 110), (50, 110)),  # beats/min
    "breath": ((0.01, 0.03), (0.01, 0.1), (0.01, 0.1)),  # share of RR that breathing moves
    "early": ((0.6, 0.7), (0.55, 0.9), (0.6, 0.9)),  # RR before a premature beat / usual RR
    "irregular": ((0.22, 0.28), (0.1, 0.3), (0.1, 0.25)),  # SD of RR / mean RR, AF-like
    "noise": ((0.01, 0.02), (0.01, 0.1), (0.02, 0.08)),  # mV: muscle, and mains hum
    "wander": ((0, 0.05), (0, 0.4), (0.1, 0.5)), "burst": ((0, 0), (0, 0), (0, 0.2)),  # mV
}  # fmt: skip
SETUPS = {"narrow": (250, 50), "wide": (250, 50), "target": (128, 60)}  # Hz, mains hum in Hz


def rr_intervals(rng, patient, n=40):
    """n RR intervals in s, mean 60 / rate in every rhythm; and which beats are early."""
    early, k = np.zeros(n, bool), np.arange(n)
    mean = 60 / (patient["rate"] * rng.uniform(0.95, 1.05))
    phase = 2 * np.pi * (rng.uniform(0.2, 0.35) * mean * k + rng.random())
    rr = 1 + patient["breath"] * np.sin(phase) + 0.01 * rng.normal(size=n)
    if patient["rhythm"] == "premature beats":
        places = np.cumsum(rng.integers(3, 7, n))  # every third to sixth beat
        early[places[places < n - 1]] = True
        rr[early] = patient["early"]
        rr[1:][early[:-1]] = 2 - patient["early"]  # the pause makes up for it
    if patient["rhythm"] == "AF-like":
        rr = np.clip(1 + patient["irregular"] * rng.normal(size=n), 0.5, None)
    return rr * mean / rr.mean(), early


def heart(rng, patient, hz):
    """(signal in mV, times of the R peaks in s): Gaussian waves on a beat clock."""
    (rr, early), af = rr_intervals(rng, patient), patient["rhythm"] == "AF-like"
    beats = np.cumsum(rr) - rr[0] - rng.uniform(1, 2)
    delay, width, height = np.tile(patient["waves"], (len(rr), 1, 1)).T
    delay[4] *= np.sqrt(rr)  # Bazett: in a fast rhythm T comes sooner
    width[1:4] *= 1 + 1.5 * early  # from the ventricle: a wide QRS,
    height[[0, 4]] *= [~early & (not af), 1 - 2 * early]  # no P wave, T turned over
    at = np.rint(beats * hz).astype(int)[:, None] + np.arange(-hz // 2, hz)
    t, inside = at / hz - beats[:, None], (at >= 0) & (at < SECONDS * hz)
    z = (t[..., None] - delay.T[:, None]) / width.T[:, None]
    x = (height.T[:, None] * np.exp(-0.5 * z**2)).sum(-1)  # the formula above
    x, t = np.bincount(at[inside], x[inside], SECONDS * hz), np.arange(SECONDS * hz) / hz
    atria = rng.uniform(0, 0.08) * np.sin(2 * np.pi * (rng.uniform(4, 9) * t + rng.random()))
    return x + af * atria, beats[(beats >= 0) & (beats < SECONDS)]


def draw_patient(rng, label, column):
    """What all records of one patient share."""
    drawn = {name: rng.uniform(*row[column]) for name, row in RANGES.items()}
    lead = [drawn[k] for k in ("P", "QRS", "QRS", "S", "T")]
    stretch = rng.uniform(*RANGES["stretch"][column], (5, 2))
    waves = WAVES * np.column_stack([stretch, lead])
    return drawn | {"rhythm": CLASSES[label], "waves": waves}


def noise(rng, patient, hz, mains):
    """Muscle noise with one burst, mains hum and wander, in mV."""
    t, wave = np.arange(SECONDS * hz) / hz, lambda f: np.sin(2 * np.pi * (f * t + rng.random()))
    burst = patient["burst"] * np.exp(-0.5 * ((t - rng.uniform(0, SECONDS)) / 0.7) ** 2)
    slow = patient["wander"] * wave(rng.uniform(0.1, 0.5)) + patient["noise"] * wave(mains)
    return slow + (patient["noise"] + burst) * rng.normal(size=len(t))


def simulate(setup, n_patients, seed, each=1):
    """`n_patients` patients, a third of each rhythm, with `each` records at 128 Hz."""
    (hz, mains), column = SETUPS[setup], list(SETUPS).index(setup)
    rng, rows = np.random.default_rng([seed, column]), []
    for k in range(n_patients):
        patient = draw_patient(rng, k % 3, column)
        for _ in range(each):
            x, beats = heart(rng, patient, hz)
            x = signal.resample_poly(x + noise(rng, patient, hz, mains), FS, hz)
            rows.append((x, k % 3, 60 / np.diff(beats).mean(), f"{setup}-{seed}-{k}"))
    x, labels, rates, patients = map(np.array, zip(*rows))
    x, labels, rates = torch.tensor(x).float(), torch.tensor(labels), torch.tensor(rates).float()
    return Signals(x[:, None], labels, patients, rates, setup)


# ---- R peaks and what a cardiologist would count -------------------------------------------------


def r_peaks(x, hz=FS):
    """Sample numbers of the R peaks: where the slope is steep (Pan & Tompkins 1985)."""
    band = signal.butter(2, [5, 18], "band", fs=hz, output="sos")
    slope = np.gradient(signal.sosfiltfilt(band, x)) ** 2
    energy = np.sqrt(np.convolve(slope, np.ones(hz // 10) / (hz // 10), "same"))
    high = np.quantile(energy, 0.9)
    return signal.find_peaks(energy, 0.4 * high, distance=int(0.3 * hz), prominence=0.5 * high)[0]


def rr_features(x):
    """Nine numbers of the RR intervals of a record (1280,): rate, spread, steps, extremes."""
    rr = np.diff(r_peaks(x)) / FS
    rr = rr if len(rr) > 3 else np.full(4, SECONDS / 4)  # nothing found
    step, mean, middle = np.abs(np.diff(rr)), rr.mean(), np.median(rr)
    both = np.cov(rr[1:], rr[:-1]) / mean**2
    spread = [rr.std() / mean, (step**2).mean() ** 0.5 / mean, np.median(step) / middle]
    shares = [(step > 0.05).mean(), (abs(rr / middle - 1) > 0.15).mean()]
    return np.array([60 / mean, *spread, *shares, min(rr) / middle, max(rr) / middle, both[0, 1]])


# ---- the network -------------------------------------------------------------------------------


def conv(c_in, c_out, width, stride):
    layer = nn.Conv1d(c_in, c_out, width, stride, padding=width // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm1d(c_out))


class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.first, self.second, self.around = conv(a, b, 7, 2), conv(b, b, 7, 1), conv(a, b, 1, 2)

    def forward(self, x):
        return (self.around(x) + self.second(self.first(x).relu())).relu()


class ResNet1d(nn.Module):
    def __init__(self, n_outputs=3):
        super().__init__()
        self.stem, self.head = conv(1, 16, 15, 4), nn.Linear(64, n_outputs)
        self.body = nn.Sequential(Block(16, 16), Block(16, 32), Block(32, 64))

    def normalisation(self, x):  # each record for itself: leads and devices differ in gain
        return (x - x.mean(2, keepdim=True)) / x.std(2, keepdim=True)

    def forward(self, x):
        return self.head(self.body(self.stem(x).relu()).mean(2))
