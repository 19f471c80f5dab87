"""Reading a folder of images: what is taken, and what is not and why."""

import io
import os
import zlib

import numpy as np
import pytest
from PIL import Image

from medtl_utils import load_task
from medtl_utils.data import DataError
from medtl_utils.datasets import dicom_files, folder_table, image_files
from medtl_utils.datasets.folder import read_folder


def noise(name: str, height: int = 40, width: int = 50, channels: int = 1) -> np.ndarray:
    """An image like no other: uint8 (height, width) or (height, width, 3)."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return pixels if channels > 1 else pixels[..., 0]


def save(file, pixels, **how) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **how)


def make_folder(root, n=8, classes=("benign", "malignant"), channels=1):
    """n images a class, named as in an archive, with blanks and brackets."""
    for label in classes:
        for i in range(n):
            save(root / label / f"{label} ({i}).png", noise(f"{label}{i}", channels=channels))
    return root


def reasons_of(root) -> dict[str, str]:
    return dict(read_folder(root, 16).report)


# ---- traps: files that are no images, and images that cannot be taken ---------------------------


def as_png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def bare_png(width: int, height: int, bits: int, colour: int, body: bytes) -> bytes:
    """A PNG with any header, whatever the pixels are."""
    chunk = lambda kind, text: (
        len(text).to_bytes(4, "big") + kind + text + zlib.crc32(kind + text).to_bytes(4, "big")
    )
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    header = chunk(b"IHDR", sides + bytes([bits, colour, 0, 0, 0]))
    ends = chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + ends


TRAPS = {
    "benign/cmyk.jpg": image_files.COLOURS,
    "benign/glass.png": image_files.TRANSPARENT,
    "benign/deep.tif": image_files.TOO_DEEP,
    "benign/float.tiff": image_files.TOO_DEEP,
    "benign/negative.tif": image_files.WHITE_IS_ZERO,
    "benign/no.dcm": dicom_files.NO_DICOM,
    "benign/odd.tif": image_files.ODD_TIFF,
    "benign/cut.png": image_files.DAMAGED,
    "benign/cut.jpg": image_files.DAMAGED,
    "benign/animal.png": image_files.NO_IMAGE,
    "benign/empty.png": image_files.NO_IMAGE,
    "benign/stack.tif": image_files.FRAMES,
    "benign/alone_mask.png": folder_table.LONELY_MASK,
    "benign/notes.txt": folder_table.OTHER_ENDING,
    "benign/.DS_Store": image_files.HIDDEN,
    "benign/Thumbs.db": image_files.HIDDEN,
    "__MACOSX": image_files.HIDDEN,
    ".ipynb_checkpoints": image_files.HIDDEN,
    "stray.png": folder_table.NO_CLASS,
    "benign/patient 1/a.png": folder_table.TOO_DEEP,
    "masks/benign (1).png": folder_table.MASK_FOLDER,
    "masks/": folder_table.EMPTY_FOLDER,
    "nothing/": folder_table.EMPTY_FOLDER,
    "benign/link.png": image_files.LINK_OUT,
    "benign/broken.png": image_files.UNREADABLE,
    "linked": image_files.LINK_OUT,
    "around": image_files.FOLDER_LINK,
    "benign/pipe.png": image_files.NOT_A_FILE,
}


def set_traps(root, outside) -> None:
    """Put all traps into a folder of 12 benign and 12 malignant images."""
    b = root / "benign"
    grey, colour = noise("trap"), noise("trap", channels=3)
    transparent = np.dstack([colour, np.full(grey.shape, 9, np.uint8)])
    Image.fromarray(colour).convert("CMYK").save(b / "cmyk.jpg")
    save(b / "glass.png", transparent)
    save(b / "deep.tif", noise("deep").astype(np.int32) * 256)
    save(b / "float.tiff", noise("deep").astype(np.float32))
    save(b / "negative.tif", noise("deep").astype(np.uint16) * 256, tiffinfo={262: 0})
    save(b / "no.dcm", noise("deep"), format="PNG")
    (b / "odd.tif").write_bytes(b"II*\0" + bytes(60))
    (b / "cut.png").write_bytes(as_png(grey)[:-200])
    save(b / "cut.jpg", colour)
    (b / "cut.jpg").write_bytes((b / "cut.jpg").read_bytes()[:-300])
    save(b / "animal.png", grey, format="GIF")
    (b / "empty.png").write_bytes(b"")
    frames = [Image.fromarray(grey)] * 2
    frames[0].save(b / "stack.tif", save_all=True, append_images=frames[1:])
    save(b / "alone_mask.png", grey)
    (b / "notes.txt").write_text("malignant?")
    (b / ".DS_Store").write_bytes(b"x")
    (b / "Thumbs.db").write_bytes(b"x")
    save(root / "__MACOSX" / "benign" / "._a.png", grey)
    save(root / ".ipynb_checkpoints" / "a.png", grey)
    save(root / "stray.png", grey)
    save(root / "benign" / "patient 1" / "a.png", grey)
    save(root / "masks" / "benign (1).png", grey)
    (root / "nothing").mkdir()
    save(outside / "secret.png", grey)
    (b / "link.png").symlink_to(outside / "secret.png")
    (b / "broken.png").symlink_to(outside / "nobody.png")
    (root / "linked").symlink_to(outside)
    (root / "around").symlink_to(root)
    os.mkfifo(b / "pipe.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes as on Linux and macOS")
def test_every_trap_is_told_and_none_is_taken(tmp_path):
    root = make_folder(tmp_path / "mine", n=12)
    set_traps(root, tmp_path / "outside")
    content = read_folder(root, 16)
    report = dict(content.report)
    assert {name: report[name] for name in TRAPS} == TRAPS
    taken = [name for name, reason in report.items() if reason == "taken"]
    assert len(taken) == len(content.images) == 24 and len(report) == 24 + len(TRAPS)
    assert content.classes == ("benign", "malignant")
    card = load_task(f"folder:{root}", 16).card
    steps = content.flow
    assert [(what, n) for what, n, _ in steps[-2:]] == [("image files", 36), ("files read", 24)]
    assert steps[0][1] - sum(steps[0][2].values()) == 36 and sum(steps[1][2].values()) == 12
    assert "Files: 24 taken; " in card and f"2 {image_files.TOO_DEEP} (benign/deep.tif, " in card


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes as on Linux and macOS")
@pytest.mark.parametrize(
    "name, planted",
    [
        ("_check_header", lambda image, content: None),
        ("_choose_frame", lambda image, frame: None),
        ("_as_grey_or_rgb", lambda image: image.convert("RGB")),
        ("image_of_mask", lambda name: None),
    ],
)
def test_a_permissive_reader_is_found(tmp_path, monkeypatch, name, planted):
    root = make_folder(tmp_path / "mine", n=12)
    set_traps(root, tmp_path / "outside")
    monkeypatch.setattr(folder_table if name == "image_of_mask" else image_files, name, planted)
    report = reasons_of(root)
    assert {trap for trap in TRAPS if report[trap] == "taken"}


def test_unusual_files_are_taken(tmp_path):
    root = make_folder(tmp_path / "mine", classes=("健康", "恶性 [é]"))
    valid = root / "健康"
    save(valid / "UPPER.PNG", noise("a"))
    save(valid / "photo.JPG", noise("b", channels=3))
    save(valid / "scan.TIFF", noise("c"))
    save(valid / "jpeg inside.png", noise("d"), format="JPEG")
    Image.fromarray(noise("e")).convert("1").save(valid / "one bit.png")
    Image.fromarray(noise("f", channels=3)).quantize(16).save(valid / "palette.png")
    Image.fromarray(noise("g", channels=3)).convert("RGBA").save(valid / "opaque.png")
    save(valid / "mask.png", noise("h"))
    save(valid / "unmasked_1.png", noise("i"))
    save(valid / "windows.bmp", noise("j", channels=3))
    save(valid / "deep.png", noise("k").astype(np.uint16) * 256)
    (valid / "deep_rgb.png").write_bytes(bare_png(4, 4, 16, 2, (b"\0" + bytes(24)) * 4))
    assert set(reasons_of(root).values()) == {"taken"} and len(reasons_of(root)) == 28


@pytest.mark.skipif(os.name == "nt", reason="such names do not exist on Windows")
def test_names_that_are_no_text(tmp_path):
    root = make_folder(tmp_path / "mine")
    odd = [b"bad \xff.png", b"new\nline.png"]
    try:
        for name in odd:
            save(root / "benign" / os.fsdecode(name), noise(str(name)))
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    task = load_task(f"folder:{root}", 16)
    assert len(task.train) + len(task.val) + len(task.open_test("names")) == 18
    task.card.encode("utf-8")


def test_size_is_checked_before_decoding(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "mine")
    huge, bomb = root / "benign" / "huge.png", root / "benign" / "bomb.png"
    huge.write_bytes(bare_png(8000, 6300, 8, 0, bytes(9)))  # says 50.4 megapixels
    bomb.write_bytes(bare_png(15000, 12500, 8, 0, bytes(9)))  # Pillow refuses it, too
    report = reasons_of(root)
    assert report["benign/huge.png"] == report["benign/bomb.png"] == image_files.TOO_MANY_PIXELS
    monkeypatch.setattr(image_files, "MAX_PIXELS", 60_000_000)  # the planted mistake: it decodes
    assert reasons_of(root)["benign/huge.png"] == image_files.DAMAGED
    monkeypatch.setattr(image_files, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="18 of 18 images cannot be taken. 18 more than 400 MB"):
        read_folder(root)


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_FILES", 10)
    with pytest.raises(DataError, match="holds more than 10 files"):
        read_folder(make_folder(tmp_path / "mine"))
