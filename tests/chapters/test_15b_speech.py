"""Notebook 15b: log-mels against librosa, BatchNorm's statistics, draws, a real hum, the widget."""

import copy
import html
import re

import librosa
import numpy as np
import pytest
import torch
from torch import nn

from medtl_utils import check_disjoint, widgets
from medtl_utils.datasets.fsdd import load_sounds, load_words
from studies import fsdd_archive, speech
from tests.chapters.notebook_code import function, namespace
from tests.conftest import picture

N = namespace("15b")


# ---- log-mel spectrograms ------------------------------------------------------------------------


def is_librosas(log_mel) -> bool:
    """Within 1e-4 dB of librosa's, for real words and for noise."""
    waves = [sound.wave.astype(float) for sound in load_sounds()[::7]]
    waves.append(np.random.default_rng(1).normal(size=5000))
    for wave in waves:
        power = librosa.feature.melspectrogram(
            y=wave, sr=8000, n_fft=256, hop_length=128, center=False, n_mels=32, fmin=0, fmax=4000,
            htk=True, norm=None, dtype=np.float64,
        )  # fmt: skip
        want = librosa.power_to_db(power, ref=np.max, amin=1e-30, top_db=60)
        got = log_mel(wave)
        if got.shape != want.shape or not np.allclose(got, want, rtol=0, atol=1e-4):
            return False
    return True


def test_log_mels_are_librosas():
    assert is_librosas(N["log_mel"]) and is_librosas(fsdd_archive.log_mel)


@pytest.mark.parametrize(
    "change",
    [
        ("np.arange(frame) / frame", "np.arange(frame) / (frame - 1)"),  # a symmetric window
        (".T) ** 2", ".T)"),  # amplitude, not power
        ("hop=128", "hop=127"),
        ("1 + rate / 2 / 700", "1 + rate / 700"),  # filters beyond half the rate
        ("n_mels + 2", "n_mels + 3"),
        ("low) / (centre - low)", "low) / (high - low)"),
        ("10 * np.log10", "20 * np.log10"),
        ("power / power.max()", "power / power.mean()"),
    ],
)
def test_the_librosa_test_bites(change):
    assert not is_librosas(namespace("15b", change)["log_mel"])


# ---- what the notebook builds is what the study used ---------------------------------------------


def same_network(notebooks) -> bool:
    x = load_words().images[::300]
    outputs = []
    for module in (speech.WordNet, notebooks):
        torch.manual_seed(3)
        model = module().eval()
        outputs.append(model(model.normalisation(x)))
    return torch.equal(*outputs)


def test_the_network_is_the_studys():
    assert same_network(N["WordNet"])
    assert not same_network(function("15b", "WordNet", ("AdaptiveMaxPool2d", "AdaptiveAvgPool2d")))
    planted = ("images.float().mean(3, keepdim=True)", "images.float().mean(2, keepdim=True)")
    assert not same_network(function("15b", "WordNet", planted))


def moves_as_told(shifted) -> bool:
    """As the study's; every picture is a copy moved by at most 6 frames and 2 bands, 0 around."""
    x = torch.randint(1, 255, (40, 1, 32, 48), dtype=torch.uint8)
    torch.manual_seed(4)
    theirs = speech.shifted(x)
    torch.manual_seed(4)
    if not torch.equal(shifted(x), theirs):
        return False
    seen = set()
    for before, after in zip(x[:, 0], theirs[:, 0]):
        found = [
            (d, r)
            for d in range(-2, 3)
            for r in range(-6, 7)
            if torch.equal(
                after[max(0, d) : 32 + min(0, d), max(0, r) : 48 + min(0, r)],
                before[max(0, -d) : 32 - max(0, d), max(0, -r) : 48 - max(0, r)],
            )
        ]
        seen.update(found)
        if len(found) != 1:
            return False
    return len({d for d, _ in seen}) == 5 and len({r for _, r in seen}) >= 9


def test_pictures_are_moved_not_changed():
    assert moves_as_told(N["shifted"])
    assert not moves_as_told(lambda images: torch.roll(images, 1, 3))
    assert not moves_as_told(function("15b", "shifted", ("r:r + width", "r:width + r - 1")))


# ---- adaptive BatchNorm --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_net():
    """A network whose statistics were gathered on other speakers."""
    torch.manual_seed(0)
    model, data = speech.WordNet(), load_words()
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(model.normalisation(data.images[data.patients != "george"][::25]))
    return model.eval()


def standardises(re_estimated, model) -> bool:
    """On the images that were used, each channel leaves BatchNorm with mean 0 and variance 1.

    The weights stay, and the source model stays as it was.
    """
    data, found = load_words(), []
    images = data.images[data.patients == "george"][::4]
    before = copy.deepcopy(model.state_dict())
    adapted = re_estimated(model, images)
    for layer in adapted.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(lambda m, i, out: found.append(out.transpose(0, 1)))
    with torch.no_grad():
        adapted(adapted.normalisation(images))
    spread = [out.flatten(1).var(1) for out in found]
    centred = all(out.flatten(1).mean(1).abs().max() < 1e-3 for out in found)
    same = all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    weights = zip(adapted.parameters(), model.parameters())
    scaled = all(torch.allclose(s, torch.ones_like(s), atol=1e-2) for s in spread)
    return centred and scaled and same and all(torch.equal(a, b) for a, b in weights)


def test_the_statistics_are_those_of_the_new_speaker(trained_net):
    for right in (N["re_estimated"], speech.re_estimated):
        assert standardises(right, trained_net)
    assert not standardises(lambda model, images: copy.deepcopy(model), trained_net)


@pytest.mark.parametrize(
    "change",
    [
        ("layer.train().momentum = None", "layer.train()"),  # a tenth of the new statistics
        ("layer.reset_running_stats()", "pass"),  # mixed with the old ones
        ("copy.deepcopy(model)", "model"),  # the source itself is changed
        ("adapted.normalisation(images)", "images.float()"),
    ],
)
def test_the_statistics_test_bites(change, trained_net):
    model = copy.deepcopy(trained_net)
    assert not standardises(function("15b", "re_estimated", change), model)


# ---- who is on which side ------------------------------------------------------------------------


def draws_are_right(draw) -> bool:
    """As many of each word, all from the pool, fewer among more, other seeds other recordings."""
    data = load_words()
    own, later = data.patients == "theo", data.descriptors["take"] >= speech.FIRST_TEST_TAKE
    pool, labels, found = np.flatnonzero(own & ~later), data.labels.numpy(), {}
    for shots in speech.SHOTS:
        rows = found[shots] = draw(labels, pool, shots, [0, 1])
        counts = np.bincount(labels[rows], minlength=10)
        if (counts != shots).any() or len(set(rows)) != 10 * shots or not set(rows) <= set(pool):
            return False
    nested = set(found[1]) < set(found[2]) < set(found[5])
    return nested and set(draw(labels, pool, 1, [1, 1])) != set(found[1])


def test_labelled_recordings_come_from_the_pool():
    assert draws_are_right(speech.draw)
    everyone = lambda labels, pool, shots, seed: speech.draw(labels, np.arange(3000), shots, seed)
    one_seed = lambda labels, pool, shots, seed: speech.draw(labels, pool, shots, 0)
    by_shots = lambda labels, pool, shots, seed: speech.draw(labels, pool, shots, [*seed, shots])
    for wrong in (everyone, one_seed, by_shots):
        assert not draws_are_right(wrong)


def test_no_speaker_is_on_both_sides():
    data = load_words()
    for name in speech.SPEAKERS:
        own = data.patients == name
        known, new = data[~own], data[own]
        known.name, new.name = "known", "new"
        assert "no patient is in two" in check_disjoint(known, new)
    with pytest.raises(ValueError, match="1 patient"):
        known.patients[0] = new.patients[0]
        check_disjoint(known, new)


def test_few_recordings_make_a_hundred_updates():
    for n, batch in ((10, 10), (20, 10), (50, 10), (12, 6), (30, 6), (60, 6)):
        again = speech.hundred_batches(np.arange(n), batch)
        assert len(again) == 100 * batch and (np.bincount(again) == 100 * batch // n).all()


# ---- the hum -------------------------------------------------------------------------------------


def is_a_real_hum(with_hum) -> bool:
    """As a real tone of 100 Hz, added to the sound: its band is raised to one level, in 60 words.

    Elsewhere the real pictures hardly change, and the built ones not at all.
    """
    image = lambda wave: fsdd_archive.as_image(fsdd_archive.log_mel(wave)).astype(int)
    close, others = [], []
    for sound in load_sounds():
        wave = sound.wave.astype(float)
        time, plain = np.arange(len(wave)) / 8000, image(wave)
        loudest = fsdd_archive.mel_power(wave).max()
        of_one = fsdd_archive.mel_power(np.sin(2 * np.pi * 100 * time))[1].mean()
        level = 10 ** (60 / 10 * (90 / 255 - 1))  # grey value 90 as a share of the loudest
        tone = np.sqrt(loudest * level / of_one) * np.sin(2 * np.pi * 100 * time)
        real, built = image(wave + tone), with_hum(plain[None], np.array([True]))[0]
        frames = plain.max(0) > 0  # not the padding
        apart = np.abs(real - built)[:, frames]
        close.append(np.median(apart[1]))
        others.append(np.median(apart[5:]))
        if (built[[0, *range(2, 32)]] != plain[[0, *range(2, 32)]]).any():
            return False
    return np.mean(close) < 8 and np.mean(others) < 2


def test_the_hum_is_like_a_real_one():
    right = N["with_hum"]
    assert is_a_real_hum(right)
    assert not is_a_real_hum(lambda images, where: images)
    assert not is_a_real_hum(lambda images, where: right(images, where, level=140))
    assert not is_a_real_hum(lambda images, where: right(images, where, band=6))
    untouched = right(np.zeros((2, 32, 48)), np.array([False, True]))
    assert not untouched[0].any() and untouched[1, 1].all()


# ---- the widget ----------------------------------------------------------------------------------


def said(box) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", picture(box))))


def explorer_is_fourier() -> bool:
    """Where each recording is loudest, by a plain sum over sines and cosines, frame by frame."""
    sounds = load_sounds()
    box = widgets.frame_explorer(sounds)
    word, speaker, frame = box.children[:3]
    for k, sound in enumerate(sounds[:60:19]):
        word.value = word.choices.index(sound.word)
        speaker.value = speaker.choices.index(sound.speaker)
        frame.value = k % len(frame.choices)
        ms, wave = frame.choices[frame.value], sound.wave.astype(float)
        n = 8 * ms
        window = np.sin(np.pi * np.arange(n) / n) ** 2
        wheel = np.exp(-2j * np.pi * np.outer(np.arange(n // 2 + 1), np.arange(n)) / n)
        starts = range(0, len(wave) - n + 1, 32)
        power = np.array([abs(wheel @ (window * wave[s : s + n])) ** 2 for s in starts]).T
        row, column = np.unravel_index(power.argmax(), power.shape)
        place = f"Loudest at {(starts[column] + n / 2) / 8:.0f} ms and {row * 1000 / ms:.0f} Hz"
        if place not in said(box) or f"{1000 / ms:.1f} Hz apart" not in said(box):
            return False
    return True


def test_frame_explorer(shown, monkeypatch):
    assert explorer_is_fourier()
    monkeypatch.setattr("medtl_utils.widgets.chapter_15b.STEP", 8)
    assert not explorer_is_fourier()
