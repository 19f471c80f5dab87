"""Attack files of DICOM: directories that lead out, packed pixels that lie, lengths without end.

pydicom decodes run lengths by itself; DCMTK and GDCM had faults there that a file alone could use.
"""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from tests.hostile import Kind, noise
from tests.hostile.dicoms import _group_length, valid
from tests.hostile.images import planted
from tests.unit.test_dicom import dicom

PIXELS = b"\xe0\x7f\x10\x00"
PLAIN = b"1.2.840.10008.1.2.1\0"


def item(content: bytes, length: int | None = None) -> bytes:
    return (
        b"\xfe\xff\x00\xe0"
        + struct.pack("<I", len(content) if length is None else length)
        + content
    )


END = b"\xfe\xff\xdd\xe0" + bytes(4)


def packed(rng, *items: bytes, end: bytes = END) -> bytes:
    """A DICOM file of 24 x 24 pixels of 8 bits, its pixels in run lengths, in these items."""
    whole = dicom(noise(rng))
    whole = whole[: whole.index(PIXELS)]
    name = str(pydicom.uid.RLELossless).encode()
    name += b"\0" * (len(name) % 2)
    at = whole.index(b"\x02\x00\x10\x00UI") + 6
    whole = whole[:at] + struct.pack("<H", len(name)) + name + whole[at + 2 + len(PLAIN) :]
    whole = _group_length(whole, len(name) - len(PLAIN))
    return whole + PIXELS + b"OB\0\0\xff\xff\xff\xff" + b"".join(items) + end


def frame(rng, segments: int = 1, first: int = 64, rows: int = 24) -> bytes:
    """One frame in run lengths: a header of 64 bytes, then the rows as they are."""
    head = struct.pack("<II", segments, first).ljust(64, b"\0")
    return head + b"".join(bytes([23]) + row.tobytes() for row in noise(rng)[:rows])


def run_lengths(rng):
    """Too short for a header; places beyond the end; other numbers of segments; rows missing."""
    far = int(rng.integers(700, 2**31))
    choices = [
        lambda: [item(b""), item(frame(rng)[: 2 * int(rng.integers(0, 32))])],
        lambda: [item(b""), item(frame(rng, first=far))],
        lambda: [item(b""), item(frame(rng, segments=int(rng.integers(2, 16))))],
        lambda: [item(b""), item(frame(rng, segments=far))],
        lambda: [item(b""), item(frame(rng, segments=0))],
        lambda: [item(b""), item(frame(rng, rows=2 * int(rng.integers(0, 12))))],
    ]
    return packed(rng, *choices[rng.integers(len(choices))]())


def fragments(rng):
    """No fragment at all; a table of places that is no table; lengths beyond the file."""
    far = 2 * int(rng.integers(1000, 2**30))
    choices = [
        lambda: packed(rng),
        lambda: packed(rng, item(b"")),
        lambda: packed(rng, item(bytes(6)), item(frame(rng))),
        lambda: packed(rng, item(b""), item(frame(rng), far), end=b""),
        lambda: packed(rng, item(b"", far), end=b""),
    ]
    return choices[rng.integers(len(choices))]()


def valid_run_lengths(rng):
    return packed(rng, item(b""), item(frame(rng)))


def lengths(rng):
    """An element before the pixels with a length of gigabytes, or a sequence that never ends."""
    whole = dicom(noise(rng).astype(np.int16), WindowCenter=100, WindowWidth=200)
    at = whole.index(b"\x28\x00\x02\x00US")
    kind = (b"OB", b"OW", b"UN", b"UT", b"SQ")[rng.integers(5)]
    size = int(rng.integers(2**24, 2**32 - 2)) if kind != b"SQ" else 0xFFFFFFFF
    return whole[:at] + b"\x21\x00\x01\x10" + kind + bytes(2) + struct.pack("<I", size) + whole[at:]


def directory(root: Path, rng) -> str:
    """A DICOMDIR, called .dcm, whose image lies outside of the folder."""
    outside = root.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.dcm").write_bytes(valid(rng))
    record = Dataset()
    record.DirectoryRecordType, record.OffsetOfTheNextDirectoryRecord = "IMAGE", 0
    record.RecordInUseFlag, record.OffsetOfReferencedLowerLevelDirectoryEntity = 0xFFFF, 0
    data, meta = Dataset(), FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(rng.integers(99))])
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta, data.DirectoryRecordSequence = meta, Sequence([record])
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of two dots in a name
        record.ReferencedFileID = [*[".."] * 2, "outside", "secret.dcm"]
        data.save_as(stream, enforce_file_format=True)
    name = f"benign/planted {rng.integers(1000)}.dcm"
    (root / name).write_bytes(stream.getvalue())
    return name


def of_dicom(name, make, twin=valid):
    return Kind(name, planted("dcm", make), planted("dcm", twin))


KINDS = [
    Kind("attack: dicom directory that leads out", directory, planted("dcm", valid)),
    of_dicom("attack: dicom of odd run lengths", run_lengths, valid_run_lengths),
    of_dicom("attack: dicom of odd fragments", fragments, valid_run_lengths),
    of_dicom("attack: dicom with lengths of gigabytes", lengths),
]
ADVISORIES = {
    "dicom directory that leads out": "CVE-2026-32711",
    "dicom of odd run lengths": "CVE-2019-1010228 CVE-2025-48429 CVE-2026-44034",
    "dicom of odd fragments": "none",
    "dicom with lengths of gigabytes": "none",
}
