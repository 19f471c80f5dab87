"""A made-up folder of images in five formats, with or without faults, to practise reading on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from .. import phantom

ENDINGS = (".png", ".jpg", ".tif", ".bmp", ".dcm")
CLASSES = ("benign", "malignant")
PEOPLE, SIZE = 120, 96


def write_folder(root: Path, task: str = "phantom", seed: int = 0, faults: bool = False) -> Path:
    """Images of `task` with index.csv below `root`, which must not exist yet; returns `root`.

    "phantom": 120 simulated patients. Another name: 300 images of `load_task`, and groups of
    near-copies in place of patients. `faults`: a damaged file, a text called .jpg, a file that the
    table does not name, a flipped copy under another patient, a patient with two names, and a
    bright cross in two of three malignant images. Needs pydicom.
    """
    images, labels, patients = _images(task, seed)
    (root / "img").mkdir(parents=True)
    rows = []
    for k, (image, label, patient) in enumerate(zip(images, labels, patients)):
        pixels = image.copy()
        if faults and label == 1 and k % 3:
            pixels[8:17, 12] = pixels[12, 8:17] = 255
        name = f"img/{k:04d}{ENDINGS[k % len(ENDINGS)]}"
        save(root / name, pixels)
        rows.append([name, CLASSES[label], patient])
    if faults:
        rows = _with_faults(root, rows, images)
    write_table(root, rows)
    return root


def write_table(root: Path, rows: list, columns: tuple = ("path", "label", "patient")) -> None:
    """index.csv."""
    with open(root / "index.csv", "w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([columns, *rows])


def _images(task: str, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(uint8 (N, H, W), labels, names of patients)."""
    if task == "phantom":
        made = phantom.simulate_target("train", PEOPLE, SIZE, seed)
        images, labels, groups = made["images"], made["labels"], made["patients"]
    else:
        from . import load_task

        part = load_task(task, SIZE, 300, seed).train
        images, labels, groups = part.images, (part.labels > 0).long(), part.groups
    numbers = np.unique(groups, return_inverse=True)[1]
    return images[:, 0].numpy(), labels.numpy(), [f"P{number:03d}" for number in numbers]


def _with_faults(root: Path, rows: list, images: np.ndarray) -> list:
    """The rows of a table with two faults of its own; damages and adds files."""
    damaged = root / rows[10][0]
    damaged.write_bytes(damaged.read_bytes()[:900])
    (root / "img" / "report.jpg").write_text("No image at all.", encoding="utf-8")
    save(root / "img" / "forgotten.png", images[0])
    save(root / "img" / "copy.png", np.ascontiguousarray(images[21][:, ::-1]))
    patients = [row[2] for row in rows]
    again = next(k for k in range(30, len(rows)) if patients[k] == patients[k - 1])
    rows[again] = [*rows[again][:2], patients[again].replace("P0", "p-")]
    return [*rows, ["img/report.jpg", rows[0][1], "P900"], ["img/copy.png", rows[21][1], "P901"]]


def save(file: Path, pixels: np.ndarray) -> None:
    """uint8 (H, W), in the format of the file's ending; .tif has 16 bits."""
    if file.suffix == ".dcm":
        save_dicom(file, pixels)
    elif file.suffix == ".tif":
        Image.fromarray(pixels.astype(np.uint16) * 257).save(file)
    elif file.suffix == ".jpg":
        Image.fromarray(pixels).save(file, quality=95)
    else:
        Image.fromarray(pixels).save(file)


def save_dicom(file: Path, pixels: np.ndarray, **tags) -> None:
    """Grey pixels (H, W) as DICOM, with a made-up patient; `tags`: more, or other values."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[file.name])
    data.PatientName, data.PatientID = "MADE^UP", "4711"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = bits = 8 * pixels.itemsize
    data.HighBit, data.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    data.WindowCenter, data.WindowWidth = 128, 256
    data.add_new("PixelData", "OB" if bits == 8 else "OW", pixels.tobytes())
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(file, enforce_file_format=True)
