"""Hostile folders, archives and model files: links, rings, pipes, pickles, bombs of numbers."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile

import numpy as np

from medtl_utils import load_model, load_task
from tests.hostile import Kind, encoded, noise


def nothing(root, rng):
    """A valid folder as it is."""
    return "mine"


def empty_all(root):
    for path in list(root.iterdir()):
        shutil.rmtree(path)


def one_class(root, rng):
    shutil.rmtree(root / ("benign", "malignant")[rng.integers(2)])
    return "mine"


def few_images(root, rng):
    for i in range(int(rng.integers(0, 5)), 8):
        (root / "benign" / f"benign ({i}).png").unlink()
    return "mine"


def alike_names(root, rng):
    names = ("Malignant", "MALIGNANT", "malignant ", "mAlignant", "Benign", "bEnign")
    label = names[rng.integers(len(names))]
    shutil.copytree(root / label.strip().lower(), root / label)
    return "mine"


def odd_class(root, rng):
    mark = ("\x1b[2J", "\x07", "\n", "\u202e", "\x7f")[rng.integers(5)]
    (root / "benign").rename(root / f"be{mark}nign")
    return "mine"


def too_deep(root, rng):
    empty_all(root)
    deep = root.joinpath(*["d"] * int(rng.integers(2, 60)))
    deep.mkdir(parents=True)
    for i in range(9):
        (deep / f"{i}.png").write_bytes(encoded(noise(rng), "PNG"))
    return "mine"


def only_masks(root, rng):
    for path in root.rglob("*.png"):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    return "mine"


def no_images(root, rng):
    empty_all(root)
    for i in range(int(rng.integers(0, 30))):
        (root / f"{i}.{('txt', 'npz', 'pt', 'pkl', 'exe')[i % 5]}").write_bytes(bytes(i))
    return "mine"


def mostly_broken(root, rng):
    files = sorted(root.rglob("*.png"))
    for path in rng.permutation(files)[: int(rng.integers(9, 16))]:
        path.write_bytes(path.read_bytes()[:40])
    return "mine"


def no_folder(root, rng):
    empty_all(root)
    root.rmdir()
    if rng.random() < 0.5:
        root.write_bytes(b"a file")
    return "mine"


def link(target):
    """A link in the folder: to a file or folder outside, to nothing, or to itself."""

    def plant(root, rng):
        outside = root.parent / "outside"
        outside.mkdir(exist_ok=True)
        (outside / "secret.png").write_bytes(encoded(noise(rng), "PNG"))
        name = f"benign/link {rng.integers(99)}" + (".png" if target != "folder" else "")
        places = {"file": outside / "secret.png", "folder": outside, "nothing": outside / "no.png"}
        os.symlink(places.get(target, root / name), root / name)
        return name

    return plant


def pipe(root, rng):
    name = f"benign/pipe {rng.integers(99)}.png"
    os.mkfifo(root / name)
    return name


def link_inside(root, rng):
    """A link to an image of the same folder is fine."""
    name = f"benign/again {rng.integers(99)}.png"
    os.symlink(root / "benign" / "benign (0).png", root / name)
    return name


# ---- archives and model files --------------------------------------------------------------------

PARTS = ("train", "val", "test")
COUNTS = {"train": 546, "val": 78, "test": 156}


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


def archive(change):
    """breastmnist.npz as it should be, with one thing changed."""

    def plant(root, rng):
        empty_all(root)
        arrays = {}
        for part, n in COUNTS.items():
            arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28), np.uint8)
            arrays[f"{part}_labels"] = (np.arange(n) % 2).astype(np.uint8)[:, None]
        change(arrays, rng)
        np.savez(root / "breastmnist.npz", **arrays)
        return "breastmnist.npz"

    return plant


def pickled(arrays, rng):
    name = list(arrays)[rng.integers(6)]
    arrays[name] = np.array([Attack()] * 2, object)


def odd_numbers(arrays, rng):
    part = PARTS[rng.integers(3)]
    images, labels = f"{part}_images", f"{part}_labels"
    odd = [
        (images, arrays[images].astype(float) * np.nan),
        (images, arrays[images].astype(np.int32) - 300),
        (images, arrays[images][:-1]),
        (images, arrays[images][..., None]),
        (images, arrays[images].astype("U3")),
        (labels, arrays[labels] + 7),
        (labels, arrays[labels] * 0),
        (labels, arrays[labels].astype(float)),
        (labels, arrays[labels][:, 0]),
    ]
    name, value = odd[rng.integers(len(odd))]
    arrays[name] = value


def broken_archive(root, rng):
    archive(lambda arrays, rng: None)(root, rng)
    file = root / "breastmnist.npz"
    whole = file.read_bytes()
    bodies = [whole[: rng.integers(0, len(whole) - 100)], pickle.dumps(Attack()), b"", bytes(999)]
    bodies += [whole[: len(whole) // 2] + bytes(99), b"PK\x05\x06" + bytes(18)]
    file.write_bytes(bodies[rng.integers(len(bodies))])
    return file.name


def header_bomb(root, rng):
    """An array that says it has more numbers than any machine holds."""
    archive(lambda arrays, rng: None)(root, rng)
    stream = io.BytesIO()
    shape = (int(rng.integers(10**13, 10**15)), 28, 28)
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(root / "breastmnist.npz", "w") as file:
        file.writestr("train_images.npy", stream.getvalue())
    return "breastmnist.npz"


def model_file(root, rng):
    """Bytes that are no safetensors, or say what cannot be."""
    huge = lambda n: struct.pack("<Q", n)
    head = lambda d: struct.pack("<Q", len(json.dumps(d))) + json.dumps(d).encode()
    far = {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    odd = {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}
    bodies = [pickle.dumps(Attack()), b"", bytes(7), huge(2**62) + bytes(99), head(far), head(odd)]
    bodies += [head({"x": 1}) + bytes(9), bytes(rng.integers(0, 256, 500, np.uint8)), head({})]
    bodies += [head({"__metadata__": {"architecture": "../x"}}), huge(5) + b"{]}xx"]
    (root / "model.safetensors").write_bytes(bodies[rng.integers(len(bodies))])
    return "model.safetensors"


def model_twin(root, rng):
    from medtl_utils import replace_head, save_model, source_model

    save_model(replace_head(source_model("random"), 2), root / "model.safetensors")
    return "model.safetensors"


def read_archive(root):
    load_task("breastmnist", 28, root=root)


def read_model(root):
    load_model(root / "model.safetensors")


def folder(name, plant, twin=nothing):
    return Kind(name, plant, twin, how="folder")


fine_archive = archive(lambda arrays, rng: None)
KINDS = [
    folder("one class", one_class),
    folder("few images", few_images),
    folder("classes that look alike", alike_names),
    folder("classes without a shape", odd_class),
    folder("images too deep", too_deep),
    folder("masks alone", only_masks),
    folder("no images", no_images),
    folder("most images broken", mostly_broken),
    folder("no folder", no_folder),
    *[Kind(f"link to {what}", link(what), link_inside) for what in ("file", "nothing", "itself")],
    Kind("link to a folder", link("folder"), link_inside),
    Kind("a pipe", pipe, link_inside),
    Kind("pickles in an archive", archive(pickled), fine_archive, call=read_archive),
    Kind("odd numbers in an archive", archive(odd_numbers), fine_archive, call=read_archive),
    Kind("an archive that is broken", broken_archive, fine_archive, call=read_archive),
    Kind("an archive too large to be", header_bomb, fine_archive, call=read_archive),
    Kind("a model file that is none", model_file, model_twin, call=read_model),
]
