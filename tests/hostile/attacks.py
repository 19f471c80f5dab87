"""Files as in the advisories of Pillow, of pydicom and of other DICOM readers, made by code.

The ids stand in ADVISORIES. Libraries that are up to date have mended most of these faults; a
reader that takes few formats and checks before it decodes does not depend on that.
"""

import functools
import gzip
import struct
import zlib

import numpy as np

from tests.hostile import Kind, chunk, encoded, noise, png
from tests.hostile.images import FORMATS, planted, tiff

ENDINGS = ("png", "jpg", "tif", "bmp")


def disguised(name, make):
    """A file of another format under an ending that is taken; the twin is of a format that is."""

    def plant(make):
        def put(root, rng):
            ending = ENDINGS[rng.integers(4)]
            return planted(ending, functools.partial(make, ending))(root, rng)

        return put

    twin = lambda ending, rng: encoded(noise(rng), FORMATS[ending])
    return Kind(name, plant(lambda ending, rng: make(rng)), plant(twin))


def sometimes(valid, attack):
    """Half of the files are valid ones of a format that is not taken; half are attacks."""
    return lambda rng: (attack if rng.integers(2) else valid)(rng)


def by_pillow(kind, changed=None):
    """A valid file, and the same with some bytes after its signature exchanged."""

    def attack(rng):
        whole = bytearray(encoded(noise(rng), kind))
        for place in rng.integers(12, len(whole), 6):
            whole[place] = rng.integers(256)
        return bytes(whole) if changed is None else changed(bytes(whole), rng)

    return sometimes(lambda rng: encoded(noise(rng), kind), attack)


def fli(rng):
    """One frame of 24 x 24 whose chunk does not move on (its size is 0), or is a plain copy."""
    size = int(rng.integers(2)) * (6 + 24 * 24)
    body = struct.pack("<IH", size, 16) + noise(rng).tobytes()
    frame = struct.pack("<IHH8x", 16 + len(body), 0xF1FA, 1) + body
    head = struct.pack("<IHHHHHHI", 128 + len(frame), 0xAF12, 1, 24, 24, 8, 3, 10)
    return head.ljust(128, b"\0") + frame


def psd(rng):
    """Raw pixels, and either no layer or a count of layers far beyond the block."""
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 1, 24, 24, 8, 1) + struct.pack(">II", 0, 0)
    if rng.integers(2):
        info = struct.pack(">h", -int(rng.integers(20_000, 32_000))) + bytes(6)
        layers = struct.pack(">II", len(info) + 4, len(info)) + info
    else:
        layers = struct.pack(">I", 0)
    return head + layers + struct.pack(">H", 0) + noise(rng).tobytes()


def eps(rng):
    """A header of many line ends, or a block of bytes of a negative length."""
    head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    if rng.integers(2):
        return head + b"%%BeginBinary: -" + str(rng.integers(1, 99)).encode() + b"\n" + bytes(99)
    return b"%!PS-Adobe-3.0 EPSF-3.0" + (b"\n\r", b"\r")[rng.integers(2)] * 50_000


@functools.cache
def gzipped(size: int) -> bytes:
    return gzip.compress(bytes(size), 1)


def fits(rng):
    """Plain pixels, or compressed ones that become 100 MB."""

    def cards(*lines):
        text = "".join(f"{line:80s}" for line in (*lines, "END"))
        return text.ljust(-(-len(text) // 2880) * 2880).encode()

    simple = "SIMPLE  =                    T", "BITPIX  =                    8"
    if rng.integers(2):
        axes = "NAXIS   =                    2", "NAXIS1  =                   24"
        return cards(*simple, *axes, "NAXIS2  =                   24") + noise(rng).tobytes()
    table = (
        "XTENSION= 'BINTABLE'",
        "BITPIX  =                    8",
        "NAXIS   =                    2",
    )
    table += "NAXIS1  =                   24", "NAXIS2  =                   24"
    table += (
        "ZIMAGE  =                    T",
        "ZCMPTYPE= 'GZIP_1  '",
        "ZBITPIX =                    8",
    )
    table += "ZNAXIS  =                    2", "ZNAXIS1 =                   24"
    return cards(*simple, "NAXIS   =                    0") + cards(*table) + gzipped(100_000_000)


def gif_bomb(whole, rng):
    """The logical screen is of 65,535 x 65,535 pixels."""
    return whole[:6] + b"\xff\xff\xff\xff" + whole[10:]


OTHERS = {  # name of the format -> how it is made
    "jpeg 2000": by_pillow("JPEG2000"),
    "sgi": by_pillow("SGI"),
    "pcx": by_pillow("PCX"),
    "ico": by_pillow("ICO"),
    "icns": by_pillow("ICNS"),
    "tga": by_pillow("TGA"),
    "gif": by_pillow("GIF", gif_bomb),
    "fli": fli,
    "psd": psd,
    "eps": eps,
    "fits": fits,
}
BOMBS = (67_200_000, 70_000_000)  # bytes of zeros; Pillow takes 1 MB of text, and 64 in all


@functools.cache
def zeros(size: int) -> bytes:
    """So many of them, packed."""
    return zlib.compress(bytes(size))


def packed_bomb(rng, name, head):
    bomb = zeros(BOMBS[rng.integers(2)])
    return png(8, 8, (b"\0" + bytes(8)) * 8, chunk(name, head + bomb))


def many_texts(rng):
    """Each text is small enough; all together are 66 MB and more."""
    text = chunk(b"zTXt", b"Comment\0\0" + zeros(1_000_000))
    return png(8, 8, (b"\0" + bytes(8)) * 8, *[text] * int(rng.integers(68, 80)))


def exif_headers(rng):
    """The header of Exif, again and again: each one was cut away with a copy of the rest."""
    again = b"Exif\0\0" * int(rng.integers(3, 60_000))
    return png(8, 8, (b"\0" + bytes(8)) * 8, chunk(b"eXIf", again + b"II*\0\x08\0\0\0\0\0"))


def one_exif(rng):
    entry = struct.pack("<HHHII", 1, 274, 3, 1, 1)
    text = b"II*\0\x08\0\0\0" + entry + bytes(4)
    return png(8, 8, (b"\0" + bytes(8)) * 8, chunk(b"eXIf", text))


def plain_tiff(rng):
    return tiff(24, 24, noise(rng).tobytes())


def samples(rng):
    return tiff(4, 4, bytes(16), t277=(3, 1, int(rng.integers(7, 65_535))))


def tiles(rng):
    """Tiles larger than any memory, of no size, or far beyond the file."""
    sides = [(0, 0), (2**31 - 16, 16), (16, 2**31 - 16), (65_520, 65_520), (16, 16)]
    wide, high = sides[rng.integers(len(sides))]
    far = int(rng.integers(10_000, 2**31))
    return tiff(
        *(32, 32, bytes(256)),
        **{"t322": (4, 1, wide), "t323": (4, 1, high), "t324": (4, 1, far), "t325": (4, 1, far)},
    )


def ycbcr(rng):
    """YCbCr in deflated strips, with subsampling that does not fit the bytes that are there."""
    across, down = (1, 2, 4)[rng.integers(3)], (1, 2, 4)[rng.integers(3)]
    rows = {"t262": (3, 1, 6), "t277": (3, 1, 3), "t530": (3, 2, across | down << 16)}
    return tiff(64, 64, bytes(int(rng.integers(1, 900))), **rows)


def short_jpeg(rng):
    """A TIFF of 64 x 64 pixels whose only strip is a smaller JPEG."""
    sides = rng.integers(8, 64, 2) if rng.integers(2) else (64, rng.integers(8, 64))
    pixels = rng.integers(0, 256, (int(sides[1]), int(sides[0])), np.uint8)
    part = encoded(pixels, "JPEG")
    return tiff(64, 64, packed=part + bytes(len(part) % 2), t259=(3, 1, 7))


def of_jpegs(rng):
    """Several strips, and a last one that is lower."""
    return encoded(noise(rng, 3, side=int(rng.integers(150, 300))), "TIFF", compression="jpeg")


def looped_tiff(rng):
    """Directories of directories: two or more, the last one points at the first."""
    n = int(rng.integers(2, 40))
    entries = {256: (4, 4), 257: (4, 4), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 8)}
    entries |= {277: (3, 1), 278: (4, 4), 279: (4, 16)}
    one = struct.pack("<H", len(entries))
    one += b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, (kind, v) in entries.items())
    starts = [24 + k * (len(one) + 4) for k in range(n)]
    ring = b"".join(one + struct.pack("<I", starts[(k + 1) % n]) for k in range(n))
    return b"II*\0" + struct.pack("<I", 24) + noise(rng).tobytes()[:16] + ring


def bmp(rng):
    """A header that contradicts itself: bits, colours, sides, compression."""
    whole = bytearray(encoded(noise(rng), "BMP"))
    odd = [("<H", 28, 7), ("<H", 28, 0), ("<I", 14, 13), ("<I", 14, 2**31), ("<I", 30, 99)]
    odd += [("<i", 18, 0), ("<i", 22, 0), ("<i", 22, -(2**31)), ("<I", 46, 2**31), ("<I", 30, 2)]
    kind, place, value = odd[rng.integers(len(odd))]
    struct.pack_into(kind, whole, place, value)
    return bytes(whole)


def plain_bmp(rng):
    return encoded(noise(rng, 3), "BMP")


def of_png(name, make, twin=None):
    valid = twin or (lambda rng: encoded(noise(rng), "PNG"))
    return Kind(name, planted("png", make), planted("png", valid))


def of_tiff(name, make, twin=plain_tiff):
    return Kind(name, planted("tif", make), planted("tif", twin))


KINDS = [
    *[disguised(f"attack: {name}", make) for name, make in OTHERS.items()],
    of_png("attack: png with a packed profile", lambda rng: packed_bomb(rng, b"iCCP", b"a\0\0")),
    of_png(
        "attack: png with a packed text of any language",
        lambda rng: packed_bomb(rng, b"iTXt", b"Comment\0\1\0\0\0"),
    ),
    of_png("attack: png with many packed texts", many_texts),
    of_png("attack: png with many headers of exif", exif_headers, one_exif),
    of_tiff("attack: tiff of thousands of samples", samples),
    of_tiff("attack: tiff of absurd tiles", tiles),
    of_tiff("attack: tiff of odd ycbcr", ycbcr),
    of_tiff("attack: tiff in a ring", looped_tiff),
    of_tiff("attack: tiff with a smaller jpeg", short_jpeg, of_jpegs),
    Kind("attack: bmp of an absurd header", planted("bmp", bmp), planted("bmp", plain_bmp)),
]
ADVISORIES = {  # kind -> ids; a kind without one says so
    "jpeg 2000": "CVE-2020-10994 CVE-2021-25287 CVE-2021-25288 CVE-2026-59204",
    "sgi": "CVE-2020-11538 CVE-2021-25293",
    "pcx": "CVE-2020-10378 CVE-2020-35653",
    "ico": "CVE-2021-27923",
    "icns": "CVE-2021-27922",
    "tga": "CVE-2022-30595",
    "gif": "CVE-2022-45198",
    "fli": "CVE-2020-10177 CVE-2021-28676",
    "psd": "CVE-2021-28675 CVE-2026-25990 CVE-2026-42311",
    "eps": "CVE-2021-28677 CVE-2026-59203",
    "fits": "CVE-2026-40192",
    "png with a packed profile": "CVE-2014-9601",
    "png with a packed text of any language": "CVE-2014-9601",
    "png with many packed texts": "CVE-2014-9601",
    "png with many headers of exif": "CVE-2026-96643",
    "tiff of thousands of samples": "CVE-2022-45199",
    "tiff of absurd tiles": "CVE-2021-25291 CVE-2026-112395",
    "tiff of odd ycbcr": "CVE-2020-35654 CVE-2021-25289",
    "tiff with a smaller jpeg": "GHSA-q45j-58j2-45rg",
    "tiff in a ring": "none: it was mended without one",
    "bmp of an absurd header": "none",
}
