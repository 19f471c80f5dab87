"""Hostile DICOM files: absurd tags, cut off, deflated, nested without end."""

import struct
import zlib

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.hostile import Kind, noise
from tests.hostile.images import planted
from tests.unit.test_dicom import dicom


def valid(rng, **tags):
    return dicom(noise(rng).astype(np.int16), WindowCenter=100, WindowWidth=200, **tags)


def kind(name, make):
    return Kind(name, planted("dcm", make), planted("dcm", valid))


def with_tags(choices):
    """One of several sets of absurd tags."""

    def make(rng):
        tags = choices[rng.integers(len(choices))]
        return valid_with(rng, **tags)

    return make


def valid_with(rng, **tags):
    return dicom(noise(rng).astype(np.int16), **{"WindowCenter": 100, "WindowWidth": 200} | tags)


SIZES = [
    {"Rows": 65535, "Columns": 65535},
    {"Rows": 65535, "Columns": 800},
    {"Rows": 0},
    {"Columns": 0},
    {"Rows": 25},
    {"Rows": 4000, "Columns": 4000},
    {"NumberOfFrames": 2},
    {"NumberOfFrames": 2_000_000_000},
    {"NumberOfFrames": -5},
    {"SamplesPerPixel": 200},
    {"SamplesPerPixel": 0},
]
BITS = [
    {"BitsAllocated": 7},
    {"BitsAllocated": 0},
    {"BitsAllocated": 64},
    {"BitsStored": 40},
    {"PixelRepresentation": 9},
    {"PhotometricInterpretation": "HSV"},
    {"PhotometricInterpretation": ""},
    {"PhotometricInterpretation": "CMYK"},
    {"PhotometricInterpretation": "RGB"},
    {"PhotometricInterpretation": "PALETTE COLOR"},
]
WINDOWS = [
    {"WindowWidth": 0},
    {"WindowWidth": -3},
    {"WindowWidth": "1e400"},
    {"WindowCenter": "1e400"},
    {"RescaleSlope": "1e400", "RescaleIntercept": 0},
    {"RescaleSlope": 1, "RescaleIntercept": "-1e400"},
    {"WindowWidth": "0.5"},
]


def cut(rng):
    whole = valid(rng)
    return whole[: int(rng.integers(132, len(whole) - 8))]


def deflated(rng):
    head = dicom(noise(rng).astype(np.int16), pydicom.uid.DeflatedExplicitVRLittleEndian)
    return head + zlib.compress(bytes(int(rng.integers(1, 4)) * 10_000_000))


def nested(rng):
    """Sequences in sequences, deeper than any parser wants to go."""
    item = b""
    for _ in range(int(rng.integers(600, 2500))):
        size = struct.pack("<I", len(item) + 8 if item else 8)
        item = (
            b"\x08\x00\x40\x11SQ\0\0"
            + size
            + b"\xfe\xff\x00\xe0"
            + struct.pack("<I", len(item))
            + item
        )
    whole = valid(rng)
    at = whole.index(b"\x28\x00\x02\x00US")
    return whole[:at][: int(rng.integers(140, at))] + item


def lengths(rng):
    """The length of one element is far beyond the file."""
    whole = bytearray(valid(rng))
    at = whole.index(b"\x28\x00\x10\x00US") + 6
    whole[at : at + 2] = struct.pack("<H", int(rng.integers(500, 65_000)))
    return bytes(whole)


def garbage(rng):
    return bytes(128) + b"DICM" + bytes(rng.integers(0, 256, rng.integers(0, 3000), np.uint8))


def not_dicom(rng):
    return bytes(rng.integers(0, 256, rng.integers(0, 3000), np.uint8))


def no_pixels(rng):
    data = Dataset()
    data.PatientName = "ZZ"
    data.StructureSetROISequence = Sequence([])
    whole = valid(rng)
    return whole[: whole.index(b"\x28\x00\x02\x00US")]


def compressed(rng):
    kinds = pydicom.uid.JPEGLSLossless, pydicom.uid.JPEG2000, pydicom.uid.MPEG2MPML
    kinds += (pydicom.uid.JPEGBaseline8Bit, pydicom.uid.HTJ2K, pydicom.uid.RLELossless)
    name = str(kinds[rng.integers(len(kinds))]).encode()
    whole = valid(rng)
    old = b"1.2.840.10008.1.2.1\0"
    at = whole.index(b"\x02\x00\x10\x00UI") + 6
    name += b"\0" * (len(name) % 2)
    return _group_length(
        whole[:at] + struct.pack("<H", len(name)) + name + whole[at + 2 + len(old) :],
        len(name) - len(old),
    )


def _group_length(whole: bytes, more: int) -> bytes:
    at = 132 + 8
    (length,) = struct.unpack("<I", whole[at : at + 4])
    return whole[:at] + struct.pack("<I", length + more) + whole[at + 4 :]


KINDS = [
    kind("dicom of impossible size", with_tags(SIZES)),
    kind("dicom of impossible pixels", with_tags(BITS)),
    kind("dicom of an impossible window", with_tags(WINDOWS)),
    kind("dicom cut off", cut),
    kind("dicom that is deflated", deflated),
    kind("dicom nested without end", nested),
    kind("dicom with a length beyond the file", lengths),
    kind("dicom and garbage", garbage),
    kind("no dicom at all", not_dicom),
    kind("dicom without an image", no_pixels),
    kind("dicom said to be compressed", compressed),
]
