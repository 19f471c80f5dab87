"""Hostile tables: paths that lead out, missing cells, wrong encodings, far too many columns."""

import os
import pickle

import numpy as np

from tests.hostile import Kind, valid_table

FIRST = "benign/benign (0).png"


def table(change=lambda lines: lines, encoding="utf-8"):
    """A function that writes the table and returns its name; change(lines, rng)."""

    def plant(root, rng):
        valid_table(root, lambda lines: change(lines, rng), encoding)
        return "index.csv"

    return plant


def fine(lines, rng):
    """A valid table, in another order each time."""
    return [lines[0], *[lines[i] for i in 1 + rng.permutation(len(lines) - 1)]]


def kind(name, change, twin=fine, encoding="utf-8"):
    return Kind(name, table(change, encoding), table(twin), how="folder")


def of_folder(change):
    """As `table`; the answer is about the folder, whose labels the table tells."""

    def plant(root, rng):
        table(change)(root, rng)
        return root.name

    return plant


def cell(column, choices):
    """One cell of one row is exchanged."""

    def change(lines, rng):
        row = int(rng.integers(1, len(lines)))
        cells = lines[row].split(",")
        cells[column] = choices[rng.integers(len(choices))]
        return [*lines[:row], ",".join(cells), *lines[row + 1 :]]

    return change


OUT = ["../secret.png", "/etc/passwd", "C:\\secret.png", "\\\\server\\share\\a.png", "~/secret.png"]
OUT += ["benign/../../secret.png", "file:///etc/passwd", "https://example.org/a.png", "..", "."]
OUT += [
    "benign/\0.png",
    "benign/link.png",
    "%2e%2e/secret.png",
    "$HOME/secret.png",
    "con",
    "nul.png",
]
EMPTY = ["", " ", "\t", "\u00a0", "\u3000"]


def link_out(root, rng):
    """The row names a link to a file outside."""
    (root.parent / "outside").mkdir(exist_ok=True)
    (root.parent / "outside" / "secret.png").write_bytes(b"secret")
    name = f"benign/link {rng.integers(99)}.png"
    os.symlink(root.parent / "outside" / "secret.png", root / name)
    valid_table(root, lambda lines: [*lines, f"{name},benign,p"])
    return "index.csv"


def wide(lines, rng):
    n = int(rng.integers(1_500, 100_000))
    head = ",".join([lines[0], *(f"c{i}" for i in range(n))])
    return [head, *(line + "," * n for line in lines[1:])]


def columns(lines, rng):
    heads = ["path,patient,class", "file,label,patient", "path,label,label", "patient,x,y"]
    heads += ["path,,patient", "path,label,patient,patient", "PATH,Path,label", "a,b,c", "\x00,b,c"]
    return [heads[rng.integers(len(heads))], *lines[1:]]


def marks(lines, rng):
    mark = ";\t|"[rng.integers(3)]
    return [line.replace(",", mark) for line in lines]


def ragged(lines, rng):
    row = int(rng.integers(1, len(lines)))
    odd = [lines[row] + ",x", lines[row].rsplit(",", 1)[0], "x", lines[row] + "," * 40]
    return [*lines[:row], odd[rng.integers(len(odd))], *lines[row + 1 :]]


def quotes(lines, rng):
    row = int(rng.integers(1, len(lines)))
    long = "x" * int(rng.integers(140_000, 200_000))
    odd = ['"' + lines[row], f"{FIRST},{long},p", f'"{FIRST}"x,benign,p', f'{FIRST},"benign,p']
    return [*lines[:row], odd[rng.integers(len(odd))], *lines[row + 1 :]]


def contradiction(lines, rng):
    row = lines[rng.integers(1, len(lines))].split(",")
    odd = [[row[0], "other", row[2]], [row[0], row[1], "somebody"], [f"./{row[0]}", "恶性", row[2]]]
    return [*lines, ",".join(odd[rng.integers(len(odd))])]


def said_twice(lines, rng):
    return [*lines, lines[rng.integers(1, len(lines))]]


def without_patients(lines, rng):
    return [line.rsplit(",", 1)[0] for line in fine(lines, rng)]


def more_columns(name, cells):
    """A column more, with one odd cell among valid ones."""

    def make(odd):
        def change(lines, rng):
            row = int(rng.integers(1, len(lines)))
            told = [
                "" if not odd or i != row else cells[rng.integers(len(cells))] for i in range(99)
            ]
            return [
                f"{lines[0]},{name}",
                *[f"{line},{told[i]}" for i, line in enumerate(lines)][1:],
            ]

        return change

    return make(True), make(False)


def classes(lines, rng):
    """Classes from which nothing can be learnt."""
    one = [line.replace(",malignant", ",benign") for line in lines]
    case = [line.replace(",benign,b1", ",Benign,b1") for line in lines]
    odd = [line.replace(",benign", ",be\x1b[2Jnign") for line in lines]
    few = [lines[0], *lines[1:9], *lines[9:12]]
    return (one, case, odd, few)[rng.integers(4)]


def one_patient(lines, rng):
    """All images of a class are of one or two patients."""
    n = int(rng.integers(1, 3))
    return [lines[0], *[f"{line.rsplit(',', 1)[0]},p{i % n}" for i, line in enumerate(lines[1:])]]


def binary(root, rng):
    """No text at all."""
    bodies = [pickle.dumps(list(range(99))), bytes(rng.integers(128, 256, 500, np.uint8)), b""]
    bodies += [b"PK\x03\x04" + bytes(200), b"\n" * 50, b"\xef\xbb\xbf", b"path,label,patient\n"]
    (root / "index.csv").write_bytes(bodies[rng.integers(len(bodies))])
    return "index.csv"


def giant(root, rng):
    """Sparse: some gigabytes for the reader, nothing on disk."""
    with open(root / "index.csv", "wb") as file:
        file.truncate(int(rng.integers(101_000_000, 9_000_000_000)))
    return "index.csv"


ENCODINGS = ("utf-16", "utf-32", "gb18030", "latin-1", "utf-16-be")


def encoded(root, rng):
    name = ENCODINGS[rng.integers(len(ENCODINGS))]
    grave = "恶性" if name.startswith(("utf", "gb")) else "gutartig é"
    valid_table(root, lambda lines: [line.replace(",benign", f",{grave}") for line in lines], name)
    return "index.csv"


def in_utf8(root, rng):
    encoding = ("utf-8", "utf-8-sig")[rng.integers(2)]
    swap = lambda lines: [line.replace(",benign", ",恶性") for line in lines]
    valid_table(root, swap, encoding)
    return "index.csv"


OPTIONAL = {
    "age": ["old", "-1", "nan", "inf", "1e9", "131", "0x10", "1,5", "=1+1", "１２３４"],
    "frame": ["0", "-1", "1.5", "x", "²", "1e3", "99999999", "=1", "None"],
    "mask": ["no.png", "../secret.png", "/etc/passwd", "index.csv", "benign", ";a.png;", "\0"],
}

KINDS = [
    kind("path that leads out", cell(0, OUT)),
    Kind("path through a link", link_out, table(fine), how="folder"),
    kind(
        "path of no file", cell(0, ["benign/no.png", "BENIGN/BENIGN (0).PNG", "x" * 5000, "benign"])
    ),
    kind("path that is missing", cell(0, EMPTY)),
    kind("label that is missing", cell(1, EMPTY)),
    kind("patient that is missing", cell(2, EMPTY)),
    kind("far too many columns", wide),
    kind("other columns", columns),
    kind("other marks than commas", marks),
    kind("rows of other lengths", ragged),
    kind("quotes without an end", quotes),
    kind("rows that contradict", contradiction, said_twice),
    kind("no patients", without_patients),
    Kind("classes that cannot be learnt", of_folder(classes), table(fine), how="folder"),
    Kind("one patient", of_folder(one_patient), table(fine), how="folder"),
    Kind("a table that is no text", binary, table(fine), how="folder"),
    Kind("a table without end", giant, table(fine), how="folder"),
    Kind("other encodings", encoded, in_utf8, how="folder"),
    *[
        Kind(f"odd {name}", *map(table, more_columns(name, cells)), how="folder")
        for name, cells in OPTIONAL.items()
    ],
]
