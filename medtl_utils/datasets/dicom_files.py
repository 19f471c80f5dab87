"""One DICOM image as grey or RGB: only the tags that describe pixels are read.

Modality rescale, window, photometric interpretation and frames follow DICOM PS3.3, C.7.6.3, C.11.1
and C.11.2. Names, dates and identifiers are passed over by the parser: they are never in memory as
values, never printed, never kept.
"""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np
from PIL import Image

from .image_files import FRAMES, MAX_PIXELS, NO_FRAME, TOO_MANY_PIXELS, Refused

NO_PYDICOM = "DICOM needs the package pydicom: pip install 'medtl-utils[dicom]'"
NO_DICOM = "no DICOM inside, whatever its name says: correct its ending"
NO_PIXELS = "DICOM without an image: take it out of the folder"
DAMAGED_DICOM = "DICOM that is truncated or contradicts itself: export it again"
COMPRESSION = "DICOM with a compression that is not read here: export it uncompressed"
DEFLATED = "deflated DICOM, whose size cannot be checked: export it uncompressed"
PHOTOMETRIC = "DICOM of a colour model that is not read: export it as MONOCHROME2 or RGB"
STRETCHED = "DICOM without a window, shown from its smallest to its largest value"

GREY, COLOUR = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT")
COLOUR += ("YBR_RCT", "PALETTE COLOR")
DEFLATED_SYNTAXES = (b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.8.1")
TAGS = (
    "SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns "
    "BitsAllocated BitsStored HighBit PixelRepresentation RescaleIntercept RescaleSlope "
    "ModalityLUTSequence WindowCenter WindowWidth VOILUTFunction VOILUTSequence PixelData "
    "ExtendedOffsetTable ExtendedOffsetTableLengths "
    "RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor "
    "BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData "
    "GreenPaletteColorLookupTableData BluePaletteColorLookupTableData"
).split()


def decode(content: bytes, frame: int | None = None) -> tuple[Image.Image, str]:
    """(image of mode L or RGB, note for the card) of one DICOM file. Raises Refused.

    Grey: stored value x slope + intercept, then the file's first window to 0..255; MONOCHROME1 is
    turned so that larger is brighter. Without a window: smallest to largest value. `frame`: which
    one, from 1, of several.
    """
    try:
        import pydicom
    except ImportError as error:
        raise Refused(NO_PYDICOM) from error
    if content[128:132] != b"DICM":
        raise Refused(NO_DICOM)
    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # pydicom's warnings quote values of tags
            if any(syntax in content for syntax in DEFLATED_SYNTAXES):
                raise Refused(DEFLATED)
            dataset = pydicom.dcmread(io.BytesIO(content), specific_tags=TAGS)
            _check_header(dataset)
            number = _frame_number(dataset, frame)
            return _image(dataset, number)
    except Refused:
        raise
    except (NotImplementedError, RuntimeError) as error:  # a decoder that is not installed
        deep = isinstance(error, RecursionError)
        raise Refused(DAMAGED_DICOM if deep else COMPRESSION) from error
    except Exception as error:  # the parser raises many kinds of errors on damaged files
        raise Refused(DAMAGED_DICOM) from error
    finally:
        logger.disabled = before


def _check_header(dataset) -> None:
    """Raise Refused before any pixel is decoded."""
    if "PixelData" not in dataset or not dataset.get("Rows") or not dataset.get("Columns"):
        raise Refused(NO_PIXELS)
    if int(dataset.Rows) * int(dataset.Columns) > MAX_PIXELS:
        raise Refused(TOO_MANY_PIXELS)
    if str(dataset.get("PhotometricInterpretation", "")) not in GREY + COLOUR:
        raise Refused(PHOTOMETRIC)


def _frame_number(dataset, frame: int | None) -> int:
    """The index, from 0, of the frame that is read."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frame is None and frames > 1:
        raise Refused(FRAMES)
    if frame is not None and frame > max(1, frames):
        raise Refused(NO_FRAME)
    return (frame or 1) - 1


def _image(dataset, number: int) -> tuple[Image.Image, str]:
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    stored = pixel_array(dataset, index=number)  # colours as RGB
    photometric = str(dataset.PhotometricInterpretation)
    if photometric in COLOUR:
        if photometric == "PALETTE COLOR":
            stored = apply_color_lut(stored, dataset)
        if stored.dtype.itemsize > 1:  # as for PNG: the upper 8 bits
            bits = 16 if photometric == "PALETTE COLOR" else int(dataset.BitsStored)
            stored = stored >> max(0, bits - 8)
        if stored.ndim != 3 or stored.shape[-1] != 3:
            raise Refused(DAMAGED_DICOM)
        return Image.fromarray(stored.astype(np.uint8)), ""
    values = np.asarray(apply_modality_lut(stored, dataset), np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise Refused(DAMAGED_DICOM)
    low, high, values, note = _window(values, dataset)
    grey = ((values - low) / max(high - low, 1e-12)).clip(0, 1) * 255
    if photometric == "MONOCHROME1":
        grey = 255 - grey
    return Image.fromarray(grey.round().astype(np.uint8)), note


def _window(values: np.ndarray, dataset) -> tuple[float, float, np.ndarray, str]:
    """(value shown black, value shown white, values to show, note)."""
    from pydicom.pixels import apply_voi_lut

    windowed = all(dataset.get(name) not in (None, "") for name in ("WindowCenter", "WindowWidth"))
    if not windowed and "VOILUTSequence" not in dataset:
        return float(values.min()), float(values.max()), values, STRETCHED
    if "VOILUTSequence" in dataset:
        lut = dataset.VOILUTSequence[0]
        bits = int(lut.LUTDescriptor[2])
        return 0.0, float(2**bits - 1), apply_voi_lut(values.astype(np.int64), dataset), ""
    center, width = (_first(dataset[name].value) for name in ("WindowCenter", "WindowWidth"))
    kind = str(dataset.get("VOILUTFunction") or "LINEAR")
    if not np.isfinite([center, width]).all() or width <= 0 or kind == "LINEAR" and width < 1:
        raise Refused(DAMAGED_DICOM)
    if kind == "SIGMOID":
        return 0.0, 1.0, 1 / (1 + np.exp(-4 * (values - center) / width)), ""
    if kind == "LINEAR":  # C.11.2.1.2.1: the window counts whole values
        center, width = center - 0.5, max(width - 1, 1e-12)
    return center - width / 2, center + width / 2, values, ""


def _first(value) -> float:
    """The first of several windows."""
    return float(value if isinstance(value, (int, float, str)) else value[0])
