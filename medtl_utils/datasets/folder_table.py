"""What a folder says about its images: a folder a class, or the table index.csv."""

from __future__ import annotations

import csv
import posixpath
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from ..data import DataError
from .image_files import LINK_OUT, image_of_mask, is_hidden, is_image, without_ending

COLUMNS = ("path", "label")  # and "patient", where it is known
MAX_BYTES = 100_000_000
MASK_FOLDERS = ("mask", "masks", "segmentation", "segmentations", "annotations", "ground_truth")

OTHER_ENDING = "no image: not .png, .jpg, .jpeg, .tif or .tiff"
NO_CLASS = "in no class folder: put it into one, or write index.csv"
TOO_DEEP = "below a class folder: put it into the class folder, or write index.csv"
MASK_FOLDER = "in a folder of masks, which is no class"
MASK = "mask of an image"
LONELY_MASK = "mask by its name, without an image"
NOT_LISTED = "not in index.csv"
EMPTY_FOLDER = "folder without an image of its own: no class"


@dataclass(frozen=True)
class Entry:
    """One image that should be read, its label, and its patient where the table tells."""

    name: str
    path: Path
    label: str
    patient: str | None = None


def stems_of_images(files: dict[str, Path]) -> set[str]:
    """The names of all image files, without their endings."""
    return {without_ending(name) for name in files if is_image(name)}


def by_folder(files: dict[str, Path], root: Path) -> tuple[list[Entry], dict[str, str]]:
    """Images that lie in a folder of their class, and name -> reason for all other files."""
    entries, reasons = [], {}
    stems = stems_of_images(files)
    for name, path in files.items():
        folder, _, rest = name.partition("/")
        if not is_image(name):
            reasons[name] = OTHER_ENDING
        elif mask_of := image_of_mask(name):
            reasons[name] = MASK if mask_of in stems else LONELY_MASK
        elif not rest:
            reasons[name] = NO_CLASS
        elif folder.lower() in MASK_FOLDERS:
            reasons[name] = MASK_FOLDER
        elif "/" in rest:
            reasons[name] = TOO_DEEP
        else:
            entries.append(Entry(name, path, folder))
    classes = {entry.label for entry in entries}
    for path in root.iterdir():
        name = unicodedata.normalize("NFC", path.name)
        if path.is_dir() and not path.is_symlink() and not is_hidden(name) and name not in classes:
            reasons[f"{name}/"] = EMPTY_FOLDER
    return entries, reasons


def by_table(
    table: str, files: dict[str, Path], skipped: dict[str, str]
) -> tuple[list[Entry], dict[str, str]]:
    """Images that index.csv names, and name -> reason for all other files.

    Columns path, label and, where it is known, patient; other columns are not looked at. Raises
    DataError that names the lines where the table and the files do not fit together.
    """
    file = files[table]
    rows = _rows(file)
    stems = stems_of_images(files)
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    faults = []
    for line, row in rows:
        name = _name_in(files, row.get("path") or "")
        fault = _fault_of_row(row, name, files, skipped, stems)
        if fault is None and name in entries:
            fault = f"{name!r} stands in line {lines[name]} already; delete one of the two"
        if fault:
            faults.append(f"line {line}: {fault}")
            continue
        label, patient = (_clean(row[c]) if c in row else None for c in ("label", "patient"))
        entries[name], lines[name] = Entry(name, files[name], label, patient), line
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise DataError(
            f"{file}: {len(faults)} line(s) cannot be used. {'; '.join(faults[:3])}{more}. Correct "
            "the table: each line needs the path of an image, relative to the table, and a label."
        )
    ordered = [entries[name] for name in files if name in entries]
    return ordered, _not_listed(files, entries, table)


def _not_listed(files: dict[str, Path], entries: dict[str, Entry], table: str) -> dict[str, str]:
    reasons = {}
    stems = {without_ending(name) for name in entries}
    for name in files:
        if name not in entries and name != table:
            is_mask = image_of_mask(name) in stems
            reasons[name] = MASK if is_mask else NOT_LISTED if is_image(name) else OTHER_ENDING
    return reasons


def _rows(file: Path) -> list[tuple[int, dict]]:
    """(line number, column -> text) of all lines that are not empty."""
    remedy = "Save it as CSV, UTF-8, with commas, and the columns path,label or path,label,patient."
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file} has more than 100 MB, too much for a table. {remedy}")
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = [_clean(column).lower() for column in reader.fieldnames or []]
            reader.fieldnames = header
            _check_header(file, header, remedy)
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text (byte {error.start}). {remedy}") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{file} cannot be read ({error}). {remedy}") from error
    if not rows:
        raise DataError(f"{file} has no line below its header. Write one line an image.")
    return rows


def _check_header(file: Path, header: list[str], remedy: str) -> None:
    found = ", ".join(map(repr, header[:8])) or "none"
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise DataError(f"{file}: the columns are not separated by commas: {found}. {remedy}")
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        lacks = " and ".join(missing)
        raise DataError(f"{file} has no column {lacks}; its columns: {found}. {remedy}")
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise DataError(f"{file} has the column {twice[0]!r} twice. Delete one of the two.")


def _clean(text: str | None) -> str:
    """Without blanks around it, with composed characters."""
    return unicodedata.normalize("NFC", text or "").strip()


def _name_in(files: dict[str, Path], text: str) -> str:
    """The path of a row as `files` names it; a path that is not there is returned as it stands."""
    name = unicodedata.normalize("NFC", text)
    for spelling in (name, name.strip(), name.strip().replace("\\", "/")):
        if (normal := posixpath.normpath(spelling)) in files:
            return normal
    return name.strip()


def _fault_of_row(row: dict, name: str, files: dict, skipped: dict, stems: set) -> str | None:
    """What is wrong with one row, or None. `name` is a key of `files`, or what the row says."""
    if None in row or None in row.values():
        return "it has more or fewer columns than the header"
    if not name:
        return "the path is missing"
    if name not in files:
        inside = posixpath.normpath(name.replace("\\", "/"))
        leaves = inside.startswith(("/", "../")) or inside == ".." or PureWindowsPath(name).drive
        if leaves or skipped.get(inside) == LINK_OUT:
            return f"{name!r} leads out of the folder"
        if inside in skipped:
            return f"{name!r} is not taken ({skipped[inside]})"
        return f"the file {name!r} is missing"
    if not is_image(name):
        return f"{name!r} is {OTHER_ENDING}"
    if image_of_mask(name) in stems:
        return f"{name!r} is the mask of an image beside it; delete this line"
    for column in ("label", "patient"):
        if column in row and not _clean(row[column]):
            return f"the {column} of {name!r} is missing"
    return None
