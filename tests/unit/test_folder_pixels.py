"""Reading a folder of images: the pixels, the masks, and an archive as it is."""

import numpy as np
import pytest
import torch
from PIL import Image

from medtl_utils import load_task
from medtl_utils.datasets import folder_read, folder_table, image_files
from medtl_utils.datasets.folder import read_folder
from medtl_utils.paths import REPOSITORY
from tests.unit.test_folder import make_folder, noise, save

BUSI = REPOSITORY.parent / "shared" / "data" / "busi_folder"

# ---- pixels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tall", [True, False])
def test_the_square_in_the_centre_is_kept(tmp_path, monkeypatch, tall):
    root = make_folder(tmp_path / "mine")
    pixels = np.zeros((90, 30), np.uint8)
    pixels[30:60] = 200
    save(root / "benign" / "a.png", pixels if tall else pixels.T)
    index = [name for name, _ in read_folder(root, 16).report].index("benign/a.png")
    assert (read_folder(root, 16).images[index] == 200).all()
    monkeypatch.setattr(image_files, "_square", lambda image: image)  # stretched instead
    assert not (read_folder(root, 16).images[index] == 200).all()


def test_exif_turns_the_image(tmp_path):
    pixels = np.zeros((40, 40), np.uint8)
    pixels[:20] = 255  # bright above
    exif = Image.Exif()
    exif[274] = 3  # upside down
    save(tmp_path / "a.jpg", pixels, exif=exif)
    read, native = image_files.read_image(tmp_path / "a.jpg", 16)[:2]
    assert read[:6].max() < 30 and read[10:].min() > 225 and native == (40, 40)


def test_grey_and_colour(tmp_path):
    grey = make_folder(tmp_path / "grey")
    save(grey / "benign" / "as rgb.png", np.stack([noise("x")] * 3, -1))
    content = read_folder(grey, 16)
    assert content.images.shape == (17, 1, 16, 16) and not content.coloured.any()
    save(grey / "malignant" / "colour.png", noise("y", channels=3))
    mixed = read_folder(grey, 16)
    assert mixed.images.shape == (18, 3, 16, 16) and mixed.coloured.sum() == 1
    assert torch.equal(mixed.images[:9, 0], content.images[:9, 0])
    assert torch.equal(mixed.images[:9, 0], mixed.images[:9, 2])
    assert "1 in colour (0 benign, 1 malignant; marks may" in load_task(f"folder:{grey}").card


# ---- masks --------------------------------------------------------------------------------------


def disc(height=40, width=50, x=25, y=20) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 < 81


def with_masks(root, values=255):
    """Each image shows a bright disc, which is its mask; some masks come in two halves."""
    for label in ("benign", "malignant"):
        for i in range(8):
            lesion = disc(x=15 + 2 * i)
            save(
                root / label / f"{label} ({i}).png",
                noise(f"{label}{i}") // 4 + np.uint8(190) * lesion,
            )
            halves = [lesion & disc(x=10 + 2 * i), lesion & ~disc(x=10 + 2 * i)]
            for number, part in enumerate(halves if i % 2 else [lesion]):
                ending = f"_mask_{number}.png" if number else "_mask.png"
                part = (part * values).astype(np.uint8)
                save(root / label / f"{label} ({i}){ending}", np.stack([part] * 3, -1))
    return root


@pytest.mark.parametrize("values", [255, 1])
def test_masks_lie_on_their_images(tmp_path, values):
    root = with_masks(tmp_path / "mine", values)
    content = read_folder(root, 32)
    bright = content.images[:, 0] > 120
    overlap = (bright & content.masks).sum((1, 2)) / (bright | content.masks).sum((1, 2))
    assert content.masks.dtype == torch.bool and overlap.min() > 0.85
    shifted = torch.roll(content.masks, 1, 0)  # the masks of other images
    assert ((bright & shifted).sum((1, 2)) / (bright | shifted).sum((1, 2))).min() < 0.85
    task = load_task(f"folder:{root}", 32)
    assert task.train.masks.shape == (len(task.train), 32, 32) and task._test.masks is not None
    assert "union of its masks" in task.card and "24 taken as a mask (" in task.card


def test_a_mask_taken_for_an_image_is_found(tmp_path, monkeypatch):
    root = with_masks(tmp_path / "mine")
    assert len(read_folder(root, 16).images) == 16
    monkeypatch.setattr(folder_table, "image_of_mask", lambda name: None)  # the planted mistake
    assert len(read_folder(root, 16).images) == 40


def test_masks_that_are_not_complete_are_left(tmp_path):
    root = with_masks(tmp_path / "mine")
    (root / "benign" / "benign (0)_mask.png").unlink()
    content = read_folder(root, 16)
    assert content.masks is None and len(content.images) == 16
    assert dict(content.report)["benign/benign (1)_mask.png"] == folder_read.LEFT_MASK
    save(root / "benign" / "benign (0)_mask.png", noise("other size", 30, 30))
    content = read_folder(root, 16)
    assert dict(content.report)["benign/benign (0)_mask.png"] == image_files.OTHER_SIZE
    task = load_task(f"folder:{root}", 16, patients="one image each")  # discs look alike
    assert content.masks is None and task.train.masks is None


@pytest.mark.parametrize(
    "name, image",
    [
        ("benign (4)_mask_1.png", "benign (4)"),
        ("a/B-MASK.TIF", "a/B"),
        ("a mask 2.jpg", "a"),
        ("masked.png", None),
        ("mask.png", None),
        ("a_mask.txt", None),
        ("a_mask_left.png", None),
    ],
)
def test_names_of_masks(name, image):
    assert image_files.image_of_mask(name) == image


# ---- the archive of BUSI ------------------------------------------------------------------------


@pytest.mark.skipif(not BUSI.is_dir(), reason="the 26 cases lie beside the repository only")
def test_the_archive_of_busi_reads_without_a_word(capfd, recwarn):
    content = read_folder(BUSI)
    assert content.images.shape == (26, 3, 64, 64) and content.masks.shape == (26, 64, 64)
    assert content.classes == ("benign", "malignant", "normal")
    assert content.labels.bincount().tolist() == [10, 8, 8]
    empty = ~content.masks.flatten(1).any(1)
    assert torch.equal(empty, content.labels == 2)
    assert {reason for _, reason in content.report} == {
        folder_read.TAKEN,
        folder_read.TAKEN_AS_MASK,
    }
    assert load_task(f"folder:{BUSI}").positive is None
    assert capfd.readouterr() == ("", "") and not recwarn.list
