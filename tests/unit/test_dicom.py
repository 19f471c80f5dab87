"""DICOM: window, rescale, photometric interpretation, frames, and patient tags that stay unread."""

import io
import logging
import sys
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from medtl_utils import load_task
from medtl_utils.datasets import dicom_files, image_files
from medtl_utils.datasets.folder import read_folder
from medtl_utils.datasets.image_files import Refused
from tests.unit.test_folder import make_folder, noise

NAME, NUMBER, BIRTH = "ZZNACHNAME^ZZVORNAME", "ZZ-4711", "19010203"


def dicom(pixels, syntax=pydicom.uid.ExplicitVRLittleEndian, **tags) -> bytes:
    """A DICOM file with a patient; grey of 16 bits, or what `tags` say."""
    pixels = np.asarray(pixels)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=["one"])
    meta.TransferSyntaxUID = syntax
    data = Dataset()
    data.file_meta = meta
    data.PatientName, data.PatientID, data.PatientBirthDate = NAME, NUMBER, BIRTH
    bits = 8 * pixels.dtype.itemsize
    data.SamplesPerPixel = 3 if pixels.ndim == 3 and pixels.shape[-1] == 3 else 1
    data.PhotometricInterpretation = "RGB" if data.SamplesPerPixel == 3 else "MONOCHROME2"
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.Rows, data.Columns = (
        pixels.shape[-3:-1] if data.SamplesPerPixel == 3 else pixels.shape[-2:]
    )
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit, data.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    data.add_new("PixelData", "OB" if bits == 8 else "OW", pixels.tobytes())
    for name, value in tags.items():
        setattr(data, name, value)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def shown(content: bytes, frame=None) -> np.ndarray:
    return np.asarray(dicom_files.decode(content, frame)[0])


RAMP = np.arange(256, dtype=np.int16).reshape(16, 16) * 8 - 1000


def by_the_standard(stored, slope, intercept, center, width, inverted):
    """PS3.3 C.11.2.1.2.1, value by value, as it is written there."""
    result = np.zeros(stored.shape)
    for place, one in np.ndenumerate(stored):
        x = one * slope + intercept
        if x <= center - 0.5 - (width - 1) / 2:
            y = 0
        elif x > center - 0.5 + (width - 1) / 2:
            y = 255
        else:
            y = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
        result[place] = 255 - y if inverted else y
    return result


WINDOWS = [(40, 400), (-600, 1500), (0, 1), (100.5, 33.25)]


@pytest.mark.parametrize("center, width", WINDOWS)
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("slope, intercept", [(1, 0), (2.5, -24)])
def test_window_and_rescale_follow_the_standard(center, width, inverted, slope, intercept):
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    tags = {"WindowCenter": center, "WindowWidth": width, "RescaleSlope": slope}
    tags |= {"RescaleIntercept": intercept, "PhotometricInterpretation": photometric}
    expected = by_the_standard(RAMP, slope, intercept, center, width, inverted)
    assert np.abs(shown(dicom(RAMP, **tags)) - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("forgotten", ["RescaleSlope", "PhotometricInterpretation"])
def test_the_window_test_bites(monkeypatch, forgotten):
    """Planted mistake: a reader that does not look at one of the tags."""
    tags = {"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 2.5, "RescaleIntercept": -24}
    content = dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **tags)
    window = dicom_files._window
    if forgotten == "RescaleSlope":
        monkeypatch.setattr(
            dicom_files, "_window", lambda values, d: window((values + 24) / 2.5, d)
        )
        expected = by_the_standard(RAMP, 2.5, -24, 40, 400, True)
    else:
        expected = by_the_standard(RAMP, 2.5, -24, 40, 400, False)
    assert np.abs(shown(content) - expected).max() > 50


def test_other_windows():
    linear = {"WindowCenter": 0, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    expected = ((RAMP + 500) / 1000).clip(0, 1) * 255
    assert np.abs(shown(dicom(RAMP, **linear)) - expected).max() <= 0.5 + 1e-9
    curve = {**linear, "VOILUTFunction": "SIGMOID"}
    expected = 255 / (1 + np.exp(-4 * RAMP / 1000))
    assert np.abs(shown(dicom(RAMP, **curve)) - expected).max() <= 0.5 + 1e-9
    several = dicom(RAMP, WindowCenter=[0, 9], WindowWidth=[1000, 1], VOILUTFunction="LINEAR_EXACT")
    assert (shown(several) == shown(dicom(RAMP, **linear))).all()
    image, note = dicom_files.decode(dicom(RAMP, WindowCenter=None, WindowWidth=None))
    assert note == dicom_files.STRETCHED
    assert np.asarray(image).min() == 0 and np.asarray(image).max() == 255


def test_colours_and_palettes():
    colour = noise("c", channels=3)
    assert (shown(dicom(colour)) == colour).all()
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, values in zip(("Red", "Green", "Blue"), (colour.reshape(-1, 3)[:256].T)):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        table = (values.astype(np.uint16) * 256).tobytes()
        palette[f"{name}PaletteColorLookupTableData"] = table
    index = noise("p")
    assert (shown(dicom(index, **palette)) == colour.reshape(-1, 3)[index]).all()


def test_frames():
    stack = np.stack([noise(str(i)) for i in range(3)])
    content = dicom(stack, NumberOfFrames=3, WindowCenter=128, WindowWidth=256)
    with pytest.raises(Refused, match="several frames: name one in the column frame"):
        shown(content)
    assert (shown(content, 2) == stack[1]).all() and not (shown(content, 3) == stack[1]).all()
    with pytest.raises(Refused, match="fewer frames than index.csv says"):
        shown(content, 4)


def test_a_compressed_file():
    data = pydicom.dcmread(io.BytesIO(dicom(noise("a"), WindowCenter=128, WindowWidth=256)))
    data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    stream = io.BytesIO()
    data.save_as(stream)
    assert (shown(stream.getvalue()) == noise("a")).all()


BAD = {
    dicom_files.NO_DICOM: lambda: b"\x89PNG",
    dicom_files.NO_PIXELS: lambda: dicom(RAMP, Rows=0),
    image_files.TOO_MANY_PIXELS: lambda: dicom(RAMP, Rows=65535, Columns=65535),
    dicom_files.DAMAGED_DICOM: lambda: dicom(RAMP)[:-100],
    dicom_files.DEFLATED: lambda: dicom(RAMP, pydicom.uid.DeflatedExplicitVRLittleEndian),
    dicom_files.PHOTOMETRIC: lambda: dicom(RAMP, PhotometricInterpretation="HSV"),
}


@pytest.mark.parametrize("reason", BAD)
def test_files_that_are_not_taken(reason):
    with pytest.raises(Refused) as error:
        shown(BAD[reason]())
    assert str(error.value) == reason
    assert shown(dicom(RAMP)).shape == RAMP.shape  # the valid twin


def patient_leaks(text: str) -> bool:
    return any(word in text for word in (NAME, NUMBER, BIRTH, "ZZNACHNAME"))


def dicom_folder(root):
    for number, label in enumerate(("benign", "malignant")):
        (root / label).mkdir(parents=True)
        for i in range(8):
            pixels = noise(f"{label}{i}").astype(np.int16) + 100 * number
            tags = {"PatientAge": "not an age ZZ-4711", "WindowWidth": "300", "WindowCenter": "150"}
            (root / label / f"{i}.dcm").write_bytes(dicom(pixels, **tags))
    (root / "benign" / "0.dcm").write_bytes(dicom(RAMP)[:-50])
    return root


def everything_told(root, capfd, caplog) -> str:
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        task, content = load_task(f"folder:{root}", 16), read_folder(root, 16)
    out, err = capfd.readouterr()
    return "\n".join([out, err, caplog.text, task.card, repr(task), repr(content)])


def test_patient_tags_are_neither_printed_nor_kept(tmp_path, capfd, caplog, recwarn, monkeypatch):
    root = dicom_folder(tmp_path / "mine")
    recwarn.clear()
    assert not patient_leaks(everything_told(root, capfd, caplog)) and not recwarn.list
    seen = []
    read = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *a, **k: seen.append(read(*a, **k)) or seen[-1])
    read_folder(root, 16)
    assert seen and not any(patient_leaks(str(dataset)) for dataset in seen)
    assert not any("PatientID" in dataset for dataset in seen)

    def keeps_all(content, specific_tags):  # the planted mistake: all tags are read
        return seen.append(read(content)) or seen[-1]

    monkeypatch.setattr(pydicom, "dcmread", keeps_all)
    read_folder(root, 16)
    assert any(patient_leaks(str(dataset)) for dataset in seen)


def test_without_pydicom(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "mine")
    (root / "benign" / "a.dcm").write_bytes(dicom(RAMP))
    assert dict(read_folder(root, 16).report)["benign/a.dcm"] == "taken"
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "pip install 'medtl-utils[dicom]'" in dict(read_folder(root, 16).report)["benign/a.dcm"]
