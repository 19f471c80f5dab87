"""What a folder says about its images: a folder a class, or the table index.csv."""

from __future__ import annotations

import csv
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from ..data import DataError
from .image_files import LINK_OUT, image_of_mask, is_hidden, is_image, without_ending

COLUMNS = ("path", "label")  # must be there
OPTIONAL = ("patient", "mask", "site", "age", "frame")  # others are not looked at
MAX_BYTES = 100_000_000
MAX_COLUMNS = 1000
OLDEST = 130  # years
EACH, UNKNOWN = "one image each", "unknown"
Decision = str | Callable[[str], str] | None  # who is the patient, where the table does not tell
MASK_FOLDERS = ("mask", "masks", "segmentation", "segmentations", "annotations", "ground_truth")

OTHER_ENDING = "no image: not .png, .jpg, .jpeg, .tif, .tiff, .bmp, .dcm or .dicom"
NO_CLASS = "in no class folder: put it into one, or write index.csv"
TOO_DEEP = "below a class folder: put it into the class folder, or write index.csv"
MASK_FOLDER = "in a folder of masks, which is no class"
MASK = "mask of an image"
LONELY_MASK = "mask by its name, without an image"
NOT_LISTED = "not in index.csv"
EMPTY_FOLDER = "folder without an image of its own: no class"
SAME_LINE = "says the same as a line above: counted once"


@dataclass(frozen=True)
class Entry:
    """One image that should be read, its label, and what else the table tells.

    frame: from 1, of a file with several. masks: names of files, where there is such a column.
    age: a number of years, or "".
    """

    name: str
    path: Path
    label: str
    patient: str | None = None
    masks: tuple[str, ...] | None = None
    site: str | None = None
    age: str | None = None
    frame: int | None = None


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

    Columns path, label and, where they are known, patient, mask (several: between semicolons),
    site, age and frame; other columns are not looked at. Raises DataError that names the lines
    where the table and the files do not fit together.
    """
    file = files[table]
    rows = _rows(file)
    stems = stems_of_images(files)
    entries: dict[tuple[str, int], Entry] = {}
    lines: dict[tuple[str, int], int] = {}
    faults, reasons = [], {}
    for line, row in rows:
        name = _name_in(files, row.get("path") or "")
        fault = _fault_of_row(row, name, files, skipped, stems) or _fault_of_optional(row, files)
        if fault is None:
            entry = _entry(row, name, files)
            key = name, entry.frame or 1
            if key not in entries:
                entries[key], lines[key] = entry, line
                continue
            if entries[key] == entry:
                reasons[f"{table}, line {line}"] = SAME_LINE
                continue
            fault = f"{name!r} stands in line {lines[key]} already and says otherwise; delete one"
        faults.append(f"line {line}: {fault}")
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise DataError(
            f"{file}: {len(faults)} line(s) cannot be used. {'; '.join(faults[:3])}{more}. Correct "
            "the table: each line needs the path of an image, relative to the table, and a label."
        )
    place = {name: number for number, name in enumerate(files)}
    ordered = sorted(entries, key=lambda key: (place[key[0]], key[1]))
    ordered = [entries[key] for key in ordered]
    return ordered, reasons | _not_listed(files, ordered, table)


def _entry(row: dict, name: str, files: dict[str, Path]) -> Entry:
    """A row without a fault."""
    text = {column: _clean(row[column]) for column in ("label", *OPTIONAL) if column in row}
    masks = [_name_in(files, part) for part in text.get("mask", "").split(";") if part.strip()]
    return Entry(
        name,
        files[name],
        text["label"],
        text.get("patient"),
        tuple(masks) if "mask" in text else None,
        text.get("site"),
        text.get("age"),
        int(text["frame"]) if text.get("frame") else None,
    )


def decided(entries: list[Entry], patients: Decision, table: Path | None) -> list[Entry]:
    """The entries with the patients that the caller decided on.

    `table`: the file index.csv, or None for a folder a class. Raises DataError where a table tells
    no patients and nobody decided, and where table and caller both do.
    """
    if entries[0].patient is not None:
        if patients is None:
            return entries
        raise DataError(f"{table} has the column patient. Leave out `patients`, or the column.")
    if patients is None and table is not None:
        raise DataError(
            f"{table} has no column patient, so nobody knows which images belong together. Add it "
            f'(best), or decide: patients="{EACH}" if each image shows another patient; '
            "patients=lambda name: name.split('_')[0] or the like if the file's name tells; "
            f'patients="{UNKNOWN}" if nobody knows, and then nothing can be said about patients.'
        )
    if patients in (None, UNKNOWN):
        return entries
    if patients == EACH:
        return [replace(entry, patient=entry.name) for entry in entries]
    if not callable(patients):
        raise ValueError(
            f'patients must be "{EACH}", "{UNKNOWN}", or a function that makes the patient of a '
            f"file's name; got {patients!r}."
        )
    return [replace(entry, patient=_by_rule(patients, entry.name)) for entry in entries]


def _by_rule(rule: Callable[[str], str], name: str) -> str:
    try:
        patient = rule(name)
    except Exception as error:
        raise DataError(f"The rule for patients fails for {name!r}: {error!r}. Mend it.") from error
    if not isinstance(patient, str) or not patient.strip():
        raise DataError(
            f"The rule for patients gives {patient!r} for {name!r}, and a text is needed. Mend it."
        )
    return patient


def _not_listed(files: dict[str, Path], entries: list[Entry], table: str) -> dict[str, str]:
    reasons, listed = {}, {entry.name for entry in entries}
    stems = {without_ending(name) for name in listed}
    named = {mask for entry in entries for mask in entry.masks or ()}
    for name in files:
        if name not in listed and name != table:
            is_mask = name in named or image_of_mask(name) in stems
            reasons[name] = MASK if is_mask else NOT_LISTED if is_image(name) else OTHER_ENDING
    return reasons


def _rows(file: Path) -> list[tuple[int, dict]]:
    """(line number, column -> text of the columns that count) of all lines that are not empty.

    A line of another length than the header has the key None.
    """
    remedy = "Save it as CSV, UTF-8, with commas, and the columns path,label or path,label,patient."
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file} has more than 100 MB, too much for a table. {remedy}")
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [_clean(column).lower() for column in next(reader, [])]
            _check_header(file, header, remedy)
            known = [c for c in header if c in COLUMNS + OPTIONAL]
            at = [header.index(column) for column in known]
            rows = []
            for cells in reader:
                fits = len(cells) == len(header)
                row = {c: cells[i] for c, i in zip(known, at)} if fits else {None: None}
                rows += [(reader.line_num, row)] if cells else []
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
    if len(header) > MAX_COLUMNS:
        raise DataError(
            f"{file} has {len(header):,} columns, and {MAX_COLUMNS:,} at most are read. Keep path, "
            f"label, {', '.join(OPTIONAL)} and delete the others."
        )
    twice = sorted(column for column, times in Counter(header).items() if times > 1)
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
    if None in row:
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


def _fault_of_optional(row: dict, files: dict) -> str | None:
    """What is wrong with the mask, age or frame of a row, or None."""
    for part in filter(None, map(str.strip, (row.get("mask") or "").split(";"))):
        if (mask := _name_in(files, part)) not in files:
            return f"the mask {part!r} is missing, or leads out of the folder"
        if not is_image(mask):
            return f"the mask {part!r} is {OTHER_ENDING}"
    if age := _clean(row.get("age")):
        try:
            possible = 0 <= float(age) <= OLDEST
        except ValueError:
            possible = False
        if not possible:
            return f"the age {age!r} is no number of years from 0 to {OLDEST}"
    frame = _clean(row.get("frame"))
    if frame and not (frame.isascii() and frame.isdigit() and 1 <= len(frame) <= 6 and int(frame)):
        return f"the frame {frame!r} is no whole number from 1"
    return None
