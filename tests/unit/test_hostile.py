"""Hostile files, tables and folders in thousands: each a clear refusal, each with a valid twin."""

import re
import resource
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from medtl_utils.data import DataError
from medtl_utils.datasets import dicom_files, folder_read, folder_table, image_files
from tests.hostile import (
    VARIANTS,
    attacks,
    attacks_dicom,
    complaint,
    dicoms,
    encoded,
    folders,
    images,
    refused_twin,
    tables,
)

pytestmark = pytest.mark.skipif(
    not hasattr(__import__("os"), "mkfifo"), reason="links and pipes as on Linux and macOS"
)
PARTS = (images, dicoms, tables, folders, attacks, attacks_dicom)
KINDS = {kind.name: kind for part in PARTS for kind in part.KINDS}
MEMORY = 900  # MB more than before, over all kinds; one image of 50 megapixels is 150


def test_there_are_a_thousand():
    assert len(KINDS) * VARIANTS >= 1000 and VARIANTS >= 20
    assert len(KINDS) == sum(len(part.KINDS) for part in PARTS)


def test_each_attack_names_its_advisory():
    """Or says that there is none; most have one."""
    told = attacks.ADVISORIES | attacks_dicom.ADVISORIES
    assert {f"attack: {name}" for name in told} == {k for k in KINDS if k.startswith("attack: ")}
    named = [ids for ids in told.values() if not ids.startswith("none")]
    assert all(
        re.fullmatch(r"CVE-20\d\d-\d{4,7}|GHSA(-\w{4}){3}", one)
        for ids in named
        for one in ids.split()
    )
    assert len(named) >= 20 and len({one for ids in named for one in ids.split()}) >= 25


def complaints(kind, numbers, folder: Path) -> list[str]:
    told = [(n, complaint(kind, n, folder / f"{n}")) for n in numbers]
    return [f"{kind.name}, variant {n}: {words}" for n, words in told if words]


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_is_refused_and_its_twin_taken(name, tmp_path):
    assert complaints(KINDS[name], [0], tmp_path) == []
    assert refused_twin(KINDS[name], 0, tmp_path / "twin") is None


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_all_are_refused_and_their_twins_taken(name, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert complaints(KINDS[name], range(VARIANTS), tmp_path) == []
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert more < MEMORY
    refused = [refused_twin(KINDS[name], n, tmp_path / f"twin {n}") for n in range(1, VARIANTS)]
    assert [words for words in refused if words] == []


# ---- any bytes and any text ----------------------------------------------------------------------

HEADS = [
    b"",
    *images.SIGNATURES,
    bytes(128) + b"DICM",
    dicoms.valid(np.random.default_rng(0))[:300],
]
quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.sampled_from(HEADS), st.binary(max_size=400), st.sampled_from(image_files.ENDINGS))
def test_any_bytes_are_read_or_refused(tmp_path, head, body, ending):
    file = tmp_path / f"a{ending}"
    file.write_bytes(head + body)
    try:
        picture = image_files.read_image(file, 16)
        assert picture.pixels.shape[:2] == (16, 16)
    except image_files.Refused as reason:
        assert str(reason)


@quick
@given(st.lists(st.lists(st.text(max_size=12), max_size=5), max_size=6))
def test_any_table_is_read_or_refused(tmp_path, cells):
    (tmp_path / "a.png").write_bytes(encoded(np.zeros((9, 9), np.uint8), "PNG"))
    text = "path,label,patient\n" + "\n".join(",".join(["a.png", *row]) for row in cells)
    (tmp_path / "index.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    files, skipped = image_files.list_files(tmp_path)
    try:
        entries, _ = folder_table.by_table("index.csv", files, skipped)
        assert len(entries) == 1 and entries[0].label.strip()
    except DataError as error:
        assert "index.csv" in str(error)


# ---- planted permissive readers ------------------------------------------------------------------


def decoded_somehow(content, convert, frame=None):
    """Whatever Pillow can make of it; what is missing is black."""
    import io

    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        return Image.open(io.BytesIO(content)).convert("L")
    except Exception:
        return Image.new("L", (9, 9))
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def first_rows(entries, patients, table):
    return [folder_table.replace(e, patient=e.patient or e.name) for e in entries]


def black(content, frame=None):
    """A DICOM reader that gives a picture whatever happens."""
    try:
        return decode(content, frame)
    except image_files.Refused:
        return Image.fromarray(np.zeros((9, 9), np.uint8)), ""


decode = dicom_files.decode
PERMISSIVE = {  # what is exchanged -> (module, name, planted, kinds that must complain)
    "cut files are filled": (
        image_files,
        "_decoded",
        decoded_somehow,
        ["png cut off", "nothing", *[k for k in KINDS if re.match("attack: (tiff|bmp|eps)", k)]],
    ),
    "no look at the header": (
        image_files,
        "_check_header",
        lambda image, content: None,
        [
            "tiff of 16 bits, white is zero",
            "attack: tiff of odd ycbcr",
            "attack: tiff with a smaller jpeg",
        ],
    ),
    "the first of several frames": (
        image_files,
        "_choose_frame",
        lambda image, frame: None,
        ["tiff of several frames", "png that moves"],
    ),
    "links are followed": (image_files, "LINK_OUT", None, ["link to file"]),
    "a black picture for a bad DICOM": (
        dicom_files,
        "decode",
        black,
        [k for k in KINDS if re.match("dicom (cut|of impossible size|nested)|attack: dicom o", k)],
    ),
    "any path will do": (
        folder_table,
        "_fault_of_row",
        lambda *arguments: None,
        ["path that leads out", "label that is missing"],
    ),
    "odd cells are passed over": (
        folder_table,
        "_fault_of_optional",
        lambda row, files: None,
        ["odd age", "odd mask"],
    ),
    "patients are guessed": (folder_read, "decided", first_rows, ["no patients"]),
    "any number of columns": (folder_table, "MAX_COLUMNS", 10**9, ["far too many columns"]),
    "classes are not looked at": (
        folder_read,
        "_check_classes",
        lambda root, entries, reasons: None,
        ["classes without a shape", "classes that look alike"],
    ),
}


@pytest.mark.parametrize("planted", PERMISSIVE)
def test_a_permissive_reader_fails(planted, tmp_path, monkeypatch):
    module, name, value, kinds = PERMISSIVE[planted]
    monkeypatch.setattr(module, name, value)
    for kind in kinds:
        assert complaints(KINDS[kind], range(6), tmp_path / kind) != [], kind


def cut_away(image):
    """All headers of Exif but one are cut away."""
    exif = image.info.get("exif", b"")
    image.info["exif"] = re.sub(rb"^(Exif\0\0)+", b"Exif\0\0", exif)


def test_a_reader_of_all_formats_fails(tmp_path, monkeypatch):
    """Not those of EPS: Pillow opens it with another program."""
    monkeypatch.setattr(image_files, "FORMATS", None)
    for name in set(attacks.OTHERS) - {"eps"}:
        assert complaints(KINDS[f"attack: {name}"], range(6), tmp_path / name) != [], name


def test_a_reader_without_limits_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 10**9)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 10**10)
    monkeypatch.setattr(image_files, "_check_exif", cut_away)
    for name in [name for name in KINDS if name.startswith("attack: png")]:
        told = complaints(KINDS[name], [0], tmp_path / name)
        assert told == [f"{name}, variant 0: it was taken"]


def test_a_reader_that_follows_a_directory_fails(tmp_path, monkeypatch):
    read = folder_read.read_image

    def follow(path, *arguments):
        try:
            return read(path, *arguments)
        except image_files.Refused:
            records = pydicom.dcmread(path).get("DirectoryRecordSequence")
            if not records:
                raise
            return read(path.parent.joinpath(*records[0].ReferencedFileID), *arguments)

    monkeypatch.setattr(folder_read, "read_image", follow)
    told = complaint(KINDS["attack: dicom directory that leads out"], 0, tmp_path)
    assert told == "it was taken"


def test_a_reader_that_writes_fails(tmp_path, monkeypatch):
    """Planted: the reader leaves a file beside the images, or deletes a bad one."""
    read = folder_read.read_image

    def and_write(path, *arguments):
        path.with_suffix(".cache").write_bytes(b"")
        return read(path, *arguments)

    def and_delete(path, *arguments):
        try:
            return read(path, *arguments)
        except image_files.Refused:
            path.unlink()
            raise

    for number, planted in enumerate((and_write, and_delete)):
        monkeypatch.setattr(folder_read, "read_image", planted)
        told = complaint(KINDS["png cut off"], 0, tmp_path / str(number))
        assert told == "something was written, changed or deleted"


@pytest.mark.parametrize("error", [MemoryError, RecursionError, AttributeError, KeyError])
def test_a_reader_that_crashes_fails(tmp_path, monkeypatch, error):
    def crash(path, *arguments):
        raise error("crash")

    monkeypatch.setattr(folder_read, "read_image", crash)
    told = complaint(KINDS["png cut off"], 0, tmp_path)
    assert told == f"{error.__name__} instead of a refusal: {error('crash')}"
