"""MedMNIST+: larger files of BreastMNIST's images, downloaded and hashed, and their names."""

import hashlib

import medmnist as package
import numpy as np
import pytest
from PIL import Image

from medtl_utils.data import DataError
from medtl_utils.datasets import load_task, medmnist, medmnist_files
from tests.conftest import BREAST
from tests.unit.test_medmnist import with_near_copies

PARTS = ("train", "val", "test")
IMAGES = ("train_images", "val_images", "test_images")


def enlarged(side: int) -> dict[str, np.ndarray]:
    """The made-up BreastMNIST with each pixel repeated; `side` is a multiple of 28."""
    repeat = lambda x: np.repeat(np.repeat(x, side // 28, axis=1), side // 28, axis=2)
    return {k: repeat(v) if k.endswith("images") else v for k, v in with_near_copies().items()}


def publish(monkeypatch, side: int, content: bytes) -> list:
    """The package downloads `content` as the file of this size; returns the files it was asked."""
    asked = []

    def store(self):
        asked.append(f"{self.flag}{self.size_flag}.npz")
        with open(f"{self.root}/{asked[-1]}", "wb") as file:
            file.write(content)

    monkeypatch.setitem(
        package.INFO["breastmnist"], f"MD5_{side}", hashlib.md5(content).hexdigest()
    )
    monkeypatch.setattr(package.BreastMNIST, "download", store)
    return asked


def test_medmnist_plus_is_downloaded_hashed_and_kept(tmp_path, monkeypatch):
    np.savez(tmp_path / "made.npz", **enlarged(224))
    asked = publish(monkeypatch, 224, (tmp_path / "made.npz").read_bytes())
    task = load_task("breastmnist_224", size=56, n_train=200, root=tmp_path / "data")
    assert asked == ["breastmnist_224.npz"]
    assert [f.name for f in (tmp_path / "data").iterdir()] == asked
    assert "Native size 224×224, shown at 56×56 (bilinear, antialiased)" in task.card
    assert "are on one side" in task.card and task.positive == 0
    load_task("breastmnist_224", size=28, root=tmp_path / "data")
    assert len(asked) == 1, "the file that is there is used"


def test_medmnist_plus_with_a_wrong_hash_or_of_another_size(tmp_path, monkeypatch):
    np.savez(tmp_path / "made.npz", **with_near_copies())
    content = (tmp_path / "made.npz").read_bytes()
    publish(monkeypatch, 64, content)
    monkeypatch.setitem(package.INFO["breastmnist"], "MD5_64", "0" * 32)
    with pytest.raises(DataError, match="breastmnist_64.npz has the MD5 .*breastmnist_64.npz"):
        load_task("breastmnist_64", root=tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []
    (tmp_path / "breastmnist_64.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"breastmnist_64.npz: .*expected uint8 \(546, 64, 64\)"):
        load_task("breastmnist_64", root=tmp_path)


@pytest.mark.parametrize("side", [64, 128, 224])
def test_the_package_still_publishes_each_size(side):
    """Its names for hash and address, as they are used here, and another file a size."""
    info = medmnist_files.published(f"breastmnist_{side}")
    assert info["side"] == side and f"breastmnist_{side}.npz" in info["url"]
    assert len(info["MD5"]) == 32 and info["MD5"] != medmnist_files.published("breastmnist")["MD5"]


def test_only_the_published_file_has_busis_names(tmp_path, monkeypatch):
    """Planted: busi's images at 64 px stand for the file, at first unknown, then as published."""
    with np.load(BREAST.parent / "busi_128.npz") as file:
        bicubic = Image.Resampling.BICUBIC
        images = np.stack([Image.fromarray(i).resize((64, 64), bicubic) for i in file["images"]])
    with np.load(BREAST) as file:
        arrays = dict(file) | dict(zip(IMAGES, np.split(images, [546, 624])))
    np.savez(tmp_path / "breastmnist_64.npz", **arrays)
    other = load_task("breastmnist_64", root=tmp_path)
    assert other._test.ids[0] == "breastmnist_64/test/0"
    assert "not the published one: its MD5 differs" in other.card
    digest = hashlib.md5((tmp_path / "breastmnist_64.npz").read_bytes()).hexdigest()
    monkeypatch.setitem(package.INFO["breastmnist"], "MD5_64", digest)
    large, small = load_task("breastmnist_64", root=tmp_path), load_task("breastmnist", size=28)
    assert large._test_key == small._test_key and "the task busi" in large.card
    assert "64×64 (as stored)" in large.card


def test_the_same_images_are_labelled_and_twins_at_any_size(tmp_path, monkeypatch):
    """Near-copies are those of the file that ships; found in the larger file, others would be."""
    test_only_the_published_file_has_busis_names(tmp_path, monkeypatch)
    tasks = lambda n: (load_task("breastmnist_64", n_train=n, root=tmp_path), official[n])
    official = {n: load_task("breastmnist", n_train=n) for n in (None, 100)}
    for n in official:
        large, small = tasks(n)
        for one, other in ((large.train, small.train), (large.val, small.val)):
            assert one.ids.tolist() == other.ids.tolist()
            assert np.array_equal(one.near_copies, other.near_copies)
        assert np.array_equal(large._test.twins, small._test.twins)
    of_parts = lambda name, file, arrays: {part: arrays[f"{part}_images"] for part in PARTS}
    monkeypatch.setattr(medmnist, "_compared", of_parts)
    large, small = tasks(None)
    assert not np.array_equal(large._test.twins, small._test.twins)
