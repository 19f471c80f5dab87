"""The table index.csv: tables as programs write them, and what is refused."""

import unicodedata

import pytest

from medtl_utils import load_task
from medtl_utils.data import DataError
from medtl_utils.datasets.folder import read_folder
from tests.unit.test_folder import make_folder, noise, save

LABELS = ("normal", "benign")


def make_table(root, n_patients=30, columns=("path", "label", "patient"), **how):
    """1 to 3 images a patient, with no sense in the names; returns the folder."""
    lines = []
    for i in range(n_patients):
        for view in range(1 + i % 3):
            name = f"{(i * 7 + view * 31) % 97:02d}-{i}.png"
            save(root / "all" / name, noise(name))
            values = {"path": f"all/{name}", "label": LABELS[i % 2], "patient": f"P{i}", "age": "7"}
            lines.append(",".join(values[column] for column in columns))
    write_table(root, [",".join(columns), *lines], **how)
    return root


def write_table(root, lines, encoding="utf-8", end="\n"):
    root.mkdir(parents=True, exist_ok=True)
    (root / "index.csv").write_bytes((end.join(lines) + end).encode(encoding))


def lines_of(root):
    return (root / "index.csv").read_text().splitlines()


@pytest.mark.parametrize("how", [{"encoding": "utf-8-sig"}, {"end": "\r\n"}, {}])
def test_tables_as_programs_write_them(tmp_path, how):
    columns = ("label", "age", "path")  # no patients, another order, one column more
    content = read_folder(make_table(tmp_path / "mine", 12, columns, **how), 16, "unknown")
    assert len(content.images) == 24 and content.patients is None
    assert content.classes == ("benign", "normal")


def test_valid_though_unusual_tables(tmp_path):
    root = make_folder(tmp_path / "mine", n=3)
    decomposed = unicodedata.normalize("NFD", "é.png")
    save(root / "benign" / decomposed, noise("e"))
    save(root / "benign" / "a, b.png", noise("a"))
    lines = [
        "Path, LABEL ,Patient",
        "benign\\benign (0).png,=cmd(),a",
        "./benign/benign (1).png, =cmd() ,b",
        '"benign/a, b.png",=cmd(),"c, d"',
        "",
        "malignant/../benign/é.png,__import__('os'),b",
    ]
    write_table(root, lines)
    content = read_folder(root, 16)
    assert content.classes == ("=cmd()", "__import__('os')")
    assert sorted(content.patients) == ["a", "b", "b", "c, d"]
    assert content.labels.bincount().tolist() == [3, 1]
    report = dict(content.report)
    assert report["malignant/malignant (0).png"] == "not in index.csv"
    assert report["index.csv"] == "taken as the table" and report["benign/é.png"] == "taken"


def test_a_patient_of_two_classes_is_told(tmp_path):
    root = make_table(tmp_path / "mine")
    lines = lines_of(root)
    mine = [i for i, line in enumerate(lines) if line.endswith(",P2")]
    lines[mine[0]] = lines[mine[0]].replace("normal", "benign")
    write_table(root, lines)
    assert " 1 with images of more than one class." in load_task(f"folder:{root}", 16).card


ROW_FAULTS = {
    "the file 'all/nobody.png' is missing": "all/nobody.png,benign,P1",
    "the label of 'all/00-0.png' is missing": "all/00-0.png, ,P1",
    "the patient of 'all/00-0.png' is missing": "all/00-0.png,normal,",
    "the path is missing": ",benign,P1",
    "'../secret.png' leads out": "../secret.png,benign,P1",
    "'all/../../secret.png' leads out": "all/../../secret.png,benign,P1",
    "'/etc/passwd' leads out": "/etc/passwd,benign,P1",
    "'C:.*secret.png' leads out": "C:\\secret.png,benign,P1",
    "'all/link.png' leads out": "all/link.png,benign,P1",
    "'all/.hidden.png' is not taken": "all/.hidden.png,benign,P1",
    "'notes.txt' is no image": "notes.txt,benign,P1",
    "is the mask of an image beside it": "all/00-0_mask.png,benign,P1",
    "'all/00-0.png' stands in line 2 already and says otherwise": "./all/00-0.png,benign,P1",
    "more or fewer columns": "all/00-0.png,benign",
    "more or fewer columns than": "all/00-0.png,benign,P1,P2",
}


@pytest.mark.parametrize("word", ROW_FAULTS)
def test_a_row_that_cannot_be_used(tmp_path, word):
    root = make_table(tmp_path / "mine", 20)
    for file in (root / "all" / ".hidden.png", root / "all" / "00-0_mask.png"):
        save(file, noise("x"))
    save(tmp_path / "secret.png", noise("secret"))
    (root / "all" / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "notes.txt").write_text("no image")
    lines = lines_of(root)
    load_task(f"folder:{root}", 16)  # the valid twin
    first = [lines[1]] if "stands" in word else []
    write_table(root, [lines[0], *first, ROW_FAULTS[word], *lines[2:]])
    number = 3 if first else 2
    expected = (
        rf"(?s)mine.index\.csv: 1 line\(s\) cannot be used\. line {number}: .*{word}.*Correct"
    )
    with pytest.raises(DataError, match=expected):
        load_task(f"folder:{root}", 16)


TABLE_FAULTS = {
    "no column label; its columns: 'path', 'class'": b"path,class\na.png,x\n",
    "no column path and label": b"a.png,benign\n",
    "not separated by commas: 'path;label'": b"path;label\na.png;x\n",
    "not UTF-8 text": "path,label\na.png,gutartig é\n".encode("latin-1"),
    "not UTF-8": "path,label\n".encode("utf-16"),
    "column 'label' twice": b"path,label,label\na.png,x,x\n",
    "no line below its header": b"path,label\n",
    "its columns: none": b"",
    "cannot be read": b'path,label\n"a.png,x\n',
    "cannot be read .field larger": b"path,label\na.png," + b"x" * 200_000 + b"\n",
}


@pytest.mark.parametrize("word", TABLE_FAULTS)
def test_a_table_that_cannot_be_used(tmp_path, word):
    root = make_folder(tmp_path / "mine")
    (root / "index.csv").write_bytes(TABLE_FAULTS[word])
    with pytest.raises(DataError, match=rf"index\.csv.*{word}"):
        read_folder(root)


def test_a_table_that_is_a_link(tmp_path):
    root = make_folder(tmp_path / "mine")
    (tmp_path / "other.csv").write_text("path,label\n")
    (root / "index.csv").symlink_to(tmp_path / "other.csv")
    with pytest.raises(DataError, match="index.csv: link that leads out"):
        read_folder(root)
