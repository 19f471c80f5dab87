"""Image files of strangers: which files are images, which are masks, and one image read safely.

Only Pillow's PNG, JPEG, TIFF and BMP decoders are used, and never before the header was checked.
DICOM: see `dicom_files`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import unicodedata
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..data import DataError

DICOM_ENDINGS = (".dcm", ".dicom")
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", *DICOM_ENDINGS)
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
EXIF_HEADER = b"Exif\0\0"  # a file has one; Pillow puts a second one before it
TIFF_MARKS = (b"II*\0", b"MM\0*")
DEPTHS = (8, 10, 12, 14, 16)  # bits of a pixel in files that store 16
MAX_PIXELS = 50_000_000
MAX_BYTES = 400_000_000
MAX_FILES = 200_000
SYSTEM_NAMES = ("__macosx", "thumbs.db", "desktop.ini")
MASK = re.compile(r"(?P<image>.+?)[ _-]+mask(?:[ _-]*\d+)?", re.IGNORECASE | re.DOTALL)

HIDDEN = "hidden or system file"
LINK_OUT = "link that leads out of the folder"
FOLDER_LINK = "link to a folder: not followed"
NOT_A_FILE = "no regular file"
UNREADABLE = "cannot be opened: no permission, or gone"
TOO_LARGE = "more than 400 MB: save it smaller"
TOO_MANY_PIXELS = "more than 50 megapixels: save it smaller"
NO_IMAGE = "not PNG, JPEG, TIFF or BMP inside, whatever its name says: save it as PNG"
ODD_TIFF = "a kind of TIFF that cannot be read: save it as PNG"
DAMAGED = "truncated or damaged: copy it again from the original"
FRAMES = "several frames: name one in the column frame of index.csv, or save one frame a file"
NO_FRAME = "it has fewer frames than index.csv says: correct the column frame"
TOO_DEEP = "more than 16 bit a channel, or fractions: save it with 8 or 16 bits"
WHITE_IS_ZERO = "16 bit with white as zero: save it with black as zero"
COLOURS = "neither grey nor RGB: save it as 8-bit grey or RGB"
TRANSPARENT = "partly transparent: save it without transparency"
OTHER_SIZE = "mask of another size than its image"
MASK_KIND = "mask that is no PNG, JPEG, TIFF or BMP: save it as PNG"


class Refused(Exception):
    """A file that is not taken; the text is the reason, the same for all files of one kind."""


class Picture(NamedTuple):
    """One image as it was read.

    pixels: uint8 (size, size), or (size, size, 3) if it has colours; uint16 (size, size) for a
    grey file of 16 bits, as it stands there. native: its width and height. digest: the first 12
    hex digits of the SHA-256 of its file. largest: the largest value of a file of 16 bits, else 0.
    note: what the card should tell, or "".
    """

    pixels: np.ndarray
    native: tuple[int, int]
    digest: str
    largest: int = 0
    note: str = ""


def list_files(root: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """All files below a folder: (name -> path of what may be read, name -> reason for the rest).

    Names are relative to `root`, with "/" and composed Unicode characters, and sorted: nothing
    depends on the order on disk. Folders of other programs and links to folders are not entered.
    Raises DataError where there are more than 200,000 files.
    """
    found, skipped = {}, {}

    def cannot_enter(error: OSError) -> None:
        skipped[_plain_name(Path(error.filename), root)] = UNREADABLE

    for folder, subfolders, files in os.walk(root, onerror=cannot_enter):
        entries = [(Path(folder) / name, name in subfolders) for name in [*subfolders, *files]]
        subfolders[:] = [n for n in subfolders if not is_hidden(n)]  # os.walk enters no links
        for path, is_folder in entries:
            name = _plain_name(path, root)
            if reason := _reason_to_skip(path, is_folder, root):
                skipped[name] = reason
            elif not is_folder:
                found[name] = path
        if len(found) + len(skipped) > MAX_FILES:
            raise DataError(
                f"{root} holds more than {MAX_FILES:,} files. Name the folder that has one folder "
                "a class, or an index.csv, and nothing else."
            )
    return in_order(found), skipped


def in_order(files: dict) -> dict:
    """The same entries, sorted by name."""
    return dict(sorted(files.items()))


def _plain_name(path: Path, root: Path) -> str:
    """The name below `root`; macOS writes é as two characters, other systems as one."""
    name = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
    return name.encode("utf-8", "backslashreplace").decode()  # names that are no Unicode


def is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden file, or of what macOS and Windows leave behind."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def _reason_to_skip(path: Path, is_folder: bool, root: Path) -> str | None:
    if is_hidden(path.name):
        return HIDDEN
    try:
        if path.is_symlink():
            if not path.resolve(strict=True).is_relative_to(root.resolve()):
                return LINK_OUT
            if is_folder:
                return FOLDER_LINK
        return None if is_folder or path.is_file() else NOT_A_FILE  # a pipe would wait for ever
    except (OSError, RuntimeError):  # RuntimeError: a ring of links, before Python 3.13
        return UNREADABLE


def is_image(name: str) -> bool:
    """Whether the ending is that of an image, in small or capital letters."""
    return name.lower().endswith(ENDINGS)


def without_ending(name: str) -> str:
    return name.rsplit(".", 1)[0]


def image_of_mask(name: str) -> str | None:
    """For "a/NAME_mask.png", "a/NAME_mask_1.png" and the like "a/NAME"; None for other names."""
    match = MASK.fullmatch(without_ending(name))
    return match["image"] if match and is_image(name) else None


def read_image(path: Path, size: int, frame: int | None = None) -> Picture:
    """One image. The largest square in the centre is resized (bicubic, antialiased).

    `frame`: which one, from 1, of a file with several. Turned as its EXIF entry says. Raises
    Refused.
    """
    content = _content(path)
    if path.name.lower().endswith(DICOM_ENDINGS):
        from .dicom_files import decode

        image, note = decode(content, frame)
    else:
        image, note = _decoded(content, _as_grey_or_rgb, frame), ""
    resized = np.asarray(_square(image).resize((size, size), Image.Resampling.BICUBIC))
    digest, largest = hashlib.sha256(content).hexdigest()[:12], 0
    if image.mode == "F":
        largest = int(image.getextrema()[1])
        resized = resized.round().clip(0, 2**16 - 1).astype(np.uint16)
    if resized.ndim == 3 and (resized == resized[..., :1]).all():
        resized = resized[..., 0]
    return Picture(resized, image.size, digest, largest, note)


def depth(largest: int) -> int:
    """The bits a pixel of files that store 16, from the largest value in all of them."""
    return next(bits for bits in DEPTHS if largest < 2**bits)


def read_mask(path: Path, size: int, native: tuple[int, int]) -> np.ndarray:
    """A mask as bool (size, size), cut and resized as its image (bilinear, then half).

    Bright pixels (above 127) are the lesion; where there are none, and the file is no JPEG, all
    pixels above 0: some programs write 0 and 1. Raises Refused, also where width and height are
    not those of the image, `native`.
    """
    if path.name.lower().endswith(DICOM_ENDINGS):
        raise Refused(MASK_KIND)
    image = _decoded(_content(path), lambda image: image.convert("L"))
    if image.size != native:
        raise Refused(OTHER_SIZE)
    brightest = image.getextrema()[1]
    above = 127 if brightest > 127 or path.suffix.lower() in (".jpg", ".jpeg") else 0
    image = image.point([255 * (value > above) for value in range(256)])
    resized = _square(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized) > 127


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Refused(TOO_LARGE)
        return path.read_bytes()
    except OSError as error:
        raise Refused(UNREADABLE) from error


def _decoded(content: bytes, convert, frame: int | None = None) -> Image.Image:
    """The image in memory, after its header was checked; `convert` gives the mode that is used."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow: we refuse, or read without a word
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                _choose_frame(image, frame)
                _check_header(image, content)
                image.load()
                _check_exif(image)
                return convert(ImageOps.exif_transpose(image))
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused(TOO_MANY_PIXELS) from error
    except UnidentifiedImageError as error:
        raise Refused(ODD_TIFF if content[:4] in TIFF_MARKS else NO_IMAGE) from error
    except Exception as error:  # decoders raise many kinds of errors on damaged files
        raise Refused(DAMAGED) from error


def _choose_frame(image: Image.Image, frame: int | None) -> None:
    if frame is None:
        if getattr(image, "is_animated", False):
            raise Refused(FRAMES)
    elif frame > 1:
        try:
            image.seek(frame - 1)
        except EOFError as error:
            raise Refused(NO_FRAME) from error


def _check_header(image: Image.Image, content: bytes) -> None:
    """Raise Refused before any pixel is decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise Refused(TOO_MANY_PIXELS)
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if max(tags.get(258, (1,))) > 16 or image.mode in ("I", "F"):
        raise Refused(TOO_DEEP)
    if tags.get(262) == 6 and tags.get(259) != 7:  # YCbCr that is no JPEG: libtiff fills gaps
        raise Refused(COLOURS)
    if tags.get(259) == 7:
        _check_strips(tags, content)
    if image.mode.startswith("I;16") and tags.get(262) == 0:
        raise Refused(WHITE_IS_ZERO)  # Pillow would show the negative


def _check_strips(tags, content: bytes) -> None:
    """Raise Refused where a JPEG in a TIFF is smaller than its strip or tile: the rest would be
    black, or what was in memory (GHSA-q45j-58j2-45rg).
    """
    tiled, height = 322 in tags, tags[257]
    starts, lengths = (tags[tag] for tag in ((324, 325) if tiled else (273, 279)))
    if len(starts) > tags[256] * height / 128 + 3:  # bounds the time: tiles have 16 x 16 and more
        raise Refused(ODD_TIFF)
    rows = min(tags.get(278, height), height)
    for number, (start, length) in enumerate(zip(starts, lengths)):
        left = height - number % -(-height // rows) * rows
        wanted = (tags[322], tags[323]) if tiled else (tags[256], min(rows, left))
        with Image.open(io.BytesIO(content[start : start + length]), formats=["JPEG"]) as part:
            if part.width < wanted[0] or part.height < wanted[1]:
                raise Refused(DAMAGED)


def _check_exif(image: Image.Image) -> None:
    """Raise Refused for many headers in a row: some Pillows never end there (CVE-2026-96643)."""
    exif = image.info.get("exif", b"")
    if isinstance(exif, bytes) and exif.startswith(EXIF_HEADER * 3):
        raise Refused(DAMAGED)


def _as_grey_or_rgb(image: Image.Image) -> Image.Image:
    """Mode L or RGB, or F for grey of 16 bits; an alpha channel that hides nothing is dropped.

    Of 16 bits a colour, Pillow keeps the upper 8.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.asarray(image).astype(np.float32))
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "RGBA"):
        if image.getchannel("A").getextrema()[0] < 255:
            raise Refused(TRANSPARENT)
        return image.convert(image.mode[:-1])
    if image.mode not in ("1", "L", "RGB"):
        raise Refused(COLOURS)
    return image.convert("L") if image.mode == "1" else image


def _square(image: Image.Image) -> Image.Image:
    """The largest square in the centre."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
