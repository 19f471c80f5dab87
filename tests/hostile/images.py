"""Hostile image files: cut off, bombs, wrong endings, odd numbers of bits, several frames."""

import io
import pickle
import struct
import zlib

import numpy as np
from PIL import Image

from tests.hostile import Kind, chunk, encoded, noise, png

FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "bmp": "BMP"}


def planted(ending, make):
    """A function that puts what `make(rng)` returns into the folder, as an image."""

    def plant(root, rng):
        name = f"benign/planted {rng.integers(1000)}.{ending}"
        (root / name).write_bytes(make(rng))
        return name

    return plant


def kind(name, ending, make, twin=None):
    valid = twin or (lambda rng: encoded(noise(rng), FORMATS[ending]))
    return Kind(name, planted(ending, make), planted(ending, valid))


def cut(ending, least, most):
    def make(rng):
        whole = encoded(noise(rng), FORMATS[ending])
        return whole[: int(len(whole) * rng.uniform(least, most))]

    return make


def flipped(rng):
    """One bit of the pixels is turned."""
    whole = bytearray(encoded(noise(rng), "PNG"))
    start = whole.index(b"IDAT") + 4
    whole[rng.integers(start, len(whole) - 16)] ^= 1 << int(rng.integers(8))
    return bytes(whole)


def huge_sides(rng) -> tuple[int, int]:
    width = int(rng.integers(8_000, 60_000))
    return width, int(rng.integers(51_000_000 // width + 1, 65_000))


def real_bomb(rng):
    """All pixels are there: 60 megapixels in some kilobytes."""
    width = int(rng.integers(6_000, 12_000))
    height = 60_000_000 // width
    return png(width, height, bytes((width + 1) * height))


def tiff(width, height, body=b"\0", packed=b"", **other) -> bytes:
    """A TIFF, deflated, with any header: other entries are t273=(kind, count, value) and so on."""
    packed = packed or zlib.compress(body)
    entries = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 8)}
    entries |= {262: (3, 1, 1), 273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, height)}
    entries |= {279: (4, 1, len(packed))} | {int(tag[1:]): value for tag, value in other.items()}
    start = 8 + len(packed)
    head = b"II*\0" + struct.pack("<I", start) + packed + struct.pack("<H", len(entries))
    rows = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries))
    return head + rows + struct.pack("<I", 0)


def odd_tiff(rng):
    """Counts and places far beyond the file."""
    far = [int(rng.integers(10_000, 2**32 - 1)) for _ in range(2)]
    tag = ("t273", "t258", "t279")[rng.integers(3)]
    return tiff(4, 4, bytes(16), **{tag: (4, 1 if tag == "t273" else far[0], far[1])})


def bmp_huge(rng):
    width, height = huge_sides(rng)
    head = struct.pack("<2sIHHI", b"BM", 1000, 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return head + info + bytes(900)


def text_bomb(rng):
    bomb = zlib.compress(bytes(int(rng.integers(70, 90)) * 1_000_000))
    return png(8, 8, (b"\0" + bytes(8)) * 8, chunk(b"zTXt", b"Comment\0\0" + bomb))


OTHERS = [  # what is no image at all
    lambda rng: encoded(noise(rng), "GIF"),
    lambda rng: encoded(noise(rng), "WEBP"),
    lambda rng: encoded(noise(rng), "PPM"),
    lambda rng: b"MZ" + bytes(rng.integers(0, 256, 300, np.uint8)),
    lambda rng: b"%PDF-1.7\n" + bytes(300),
    lambda rng: b"PK\x03\x04" + bytes(rng.integers(0, 256, 300, np.uint8)),
    lambda rng: pickle.dumps({"weights": list(range(int(rng.integers(9, 99))))}),
    lambda rng: b"<svg onload='alert(1)' xmlns='http://www.w3.org/2000/svg'/>" * 9,
    lambda rng: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    lambda rng: b"#!/bin/sh\nrm -rf /\n",
    lambda rng: "恶性".encode() * int(rng.integers(1, 99)),
]
SIGNATURES = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0\x08\0\0\0", b"BM"]


def garbage(rng):
    head = SIGNATURES[rng.integers(len(SIGNATURES))]
    return head + bytes(rng.integers(0, 256, rng.integers(1, 3000), np.uint8))


def other(rng):
    return OTHERS[rng.integers(len(OTHERS))](rng)


def deep(rng):
    kinds = (np.float32, np.int32)
    pixels = noise(rng).astype(kinds[rng.integers(2)]) * 1000
    if pixels.dtype == np.float32:
        pixels[0, 0] = (np.nan, np.inf, -np.inf)[rng.integers(3)]
    return encoded(pixels, "TIFF")


def sixteen(rng):
    return encoded(noise(rng).astype(np.uint16) * int(rng.integers(1, 256)), "TIFF")


def negative(rng):
    return encoded(noise(rng).astype(np.uint16), "TIFF", tiffinfo={262: 0})


def frames(kind):
    def make(rng):
        stack = [Image.fromarray(noise(rng)) for _ in range(rng.integers(2, 9))]
        stream = io.BytesIO()
        stack[0].save(stream, kind, save_all=True, append_images=stack[1:])
        return stream.getvalue()

    return make


def glass(rng):
    pixels = noise(rng, 4)
    pixels[..., 3] = rng.integers(0, 255)
    return encoded(pixels, "PNG")


def opaque(rng):
    pixels = noise(rng, 4)
    pixels[..., 3] = 255
    return encoded(pixels, "PNG")


def colours(rng):
    mode = ("CMYK", "LAB", "YCbCr")[rng.integers(3)]
    stream, image = io.BytesIO(), Image.fromarray(noise(rng, 3))
    image = image.convert("CMYK") if mode == "CMYK" else Image.merge(mode, image.split())
    image.save(stream, "TIFF")
    return stream.getvalue()


def rgb(ending):
    return lambda rng: encoded(noise(rng, 3), FORMATS[ending])


def tiny(rng):
    return bytes(rng.integers(0, 256, rng.integers(0, 9), np.uint8))


KINDS = [
    kind("png cut off", "png", cut("png", 0.05, 0.95)),
    kind("jpeg cut off", "jpg", cut("jpg", 0.05, 0.8)),
    kind("tiff cut off", "tif", cut("tif", 0.05, 0.8)),
    kind("bmp cut off", "bmp", cut("bmp", 0.05, 0.95)),
    kind("a bit of a png turned", "png", flipped),
    kind("png that says it is huge", "png", lambda rng: png(*huge_sides(rng), bytes(99))),
    kind("png that is huge", "png", real_bomb, lambda rng: png(600, 500, bytes(601 * 500))),
    kind("tiff that says it is huge", "tif", lambda rng: tiff(*huge_sides(rng))),
    kind("bmp that says it is huge", "bmp", bmp_huge),
    kind("tiff with places far away", "tif", odd_tiff, lambda rng: tiff(4, 4, bytes(16))),
    kind("png with a bomb of text", "png", text_bomb),
    *[kind(f"{e} that is something else", e, other) for e in FORMATS],
    kind("a signature and garbage", "png", garbage),
    kind("some bytes", "jpg", tiny),
    kind("nothing", "png", lambda rng: bytes(int(rng.integers(0, 2)) * 99)),
    kind("tiff of fractions or 32 bits", "tif", deep, sixteen),
    kind("tiff of 16 bits, white is zero", "tif", negative, sixteen),
    kind("tiff of several frames", "tif", frames("TIFF")),
    kind("png that moves", "png", frames("PNG")),
    kind("jpeg of several pictures", "jpg", frames("MPO")),
    kind("png that one sees through", "png", glass, opaque),
    kind("tiff of other colours", "tif", colours, rgb("tif")),
]
