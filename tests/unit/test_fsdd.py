"""Spoken digits: what the loader gives, and how the shipped files are made."""

import numpy as np
import pytest
import torch

from medtl_utils.data import DataError
from medtl_utils.datasets import fsdd, shipped
from studies import fsdd_archive

COLUMNS = ("audio", "length", "digit", "speaker", "take")


@pytest.fixture(scope="module")
def words():
    return fsdd.load_words()


def test_every_speaker_says_every_word_fifty_times(words):
    assert words.images.shape == (3000, 1, 32, 48) and words.images.dtype == torch.uint8
    said = zip(words.patients, words.labels.tolist(), words.descriptors["take"].tolist())
    assert len(set(said)) == 3000 and len(set(words.patients)) == 6 == 3000 // (10 * 50)
    assert set(words.descriptors["take"]) == set(range(50)) and len(words.classes) == 10
    assert words.ids[0] == f"0_{words.patients[0]}_{words.descriptors['take'][0]}"
    assert len({image.numpy().tobytes() for image in words.images}) == 3000  # no exact copies


def test_the_loudest_value_of_each_picture_is_the_top(words):
    """0 dB is 255; of the longest recordings the loudest frame may be cut off."""
    assert (words.images.amax((1, 2, 3)) == 255).float().mean() > 0.98


def sounds_are_the_pictures(words, to_image) -> bool:
    """Each of the 60 recordings gives the picture of its word, speaker and take."""
    rows = {name: k for k, name in enumerate(words.ids)}
    sounds = fsdd.load_sounds()
    for sound in sounds:
        row = rows[f"{words.classes.index(sound.word)}_{sound.speaker}_{sound.take}"]
        if np.abs(to_image(sound.wave) - words.images[row, 0].numpy().astype(int)).max() > 1:
            return False
    return len({(s.word, s.speaker) for s in sounds}) == len(sounds) == 60


def test_what_is_heard_is_what_is_seen(words):
    right = lambda wave: fsdd_archive.as_image(fsdd_archive.log_mel(wave))
    assert sounds_are_the_pictures(words, right)
    assert not sounds_are_the_pictures(words, lambda wave: right(wave[::-1]))
    assert not sounds_are_the_pictures(words, lambda wave: right(wave)[::-1])


def test_the_card_names_source_licence_and_faults():
    for said in ("v1.0.10", "CC BY-SA 4.0", "six speakers", "no patient is meant", "microphone"):
        assert said in fsdd.CARD


# ---- how they are made ---------------------------------------------------------------------------


def miniature(folder, **changes):
    """Two recordings in the layout of the whole file; `changes` replace columns, None drops one."""
    rng = np.random.default_rng(0)
    length = np.array([3000, 9000], np.int32)
    columns = {
        "audio": rng.integers(-900, 900, 12_000).astype(np.int16),
        "length": length,
        "digit": np.array([3, 7], np.int8),
        "speaker": np.array(["ann", "bo"]),
        "take": np.array([0, 1], np.int16),
    }
    columns = {k: v for k, v in (columns | changes).items() if v is not None}
    np.savez(folder / "all.npz", **columns)
    return folder / "all.npz"


def test_the_files_are_made_from_the_recordings(tmp_path, capsys, monkeypatch):
    source = miniature(tmp_path)
    for out in ("one", "two"):
        fsdd_archive.main([str(source), "--out", str(tmp_path / out)])
    for name in (fsdd.LOGMEL, fsdd.SOUNDS):
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
        monkeypatch.setitem(shipped.SHA256, name, shipped.digest(name, content))
        assert shipped.SHA256[name] in capsys.readouterr().out or name == fsdd.SOUNDS
    made = fsdd.load_words(tmp_path / "one")
    assert made.ids.tolist() == ["3_ann_0", "7_bo_1"]
    padded = made.images[0, 0, 0].numpy()  # (3000 - 256) // 128 + 1 = 22 frames of 48
    assert not padded[:13].any() and not padded[35:].any() and padded[13:35].any()
    assert made.images[1, 0].amax(0).min() > 0  # the middle 48 of 69 frames
    (sound,) = fsdd.load_sounds(tmp_path / "one")
    assert (sound.word, sound.speaker, sound.take, len(sound.wave)) == ("three", "ann", 0, 3000)
    whole = np.load(source)["audio"]
    assert np.array_equal(np.round(sound.wave * 32768), whole[:3000])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"take": None}, "take missing"),
        ({"length": np.array([3000, 8999])}, "do not fit"),
        ({"length": np.array([11_900, 100])}, "do not fit"),
        ({"digit": np.array([3])}, "do not fit"),
        ({"audio": np.zeros(12_000)}, "do not fit"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(changes, said, tmp_path):
    assert len(fsdd_archive.read_archive(miniature(tmp_path))[0]) == 2
    with pytest.raises(ValueError, match=said):
        fsdd_archive.read_archive(miniature(tmp_path, **changes))


def test_a_column_that_is_missing_is_an_error(tmp_path, monkeypatch):
    np.savez(tmp_path / fsdd.LOGMEL, digit=np.zeros(1))
    content = (tmp_path / fsdd.LOGMEL).read_bytes()
    monkeypatch.setitem(shipped.SHA256, fsdd.LOGMEL, shipped.digest(fsdd.LOGMEL, content))
    with pytest.raises(DataError, match="logmel, speaker, take missing"):
        fsdd.load_words(tmp_path)
