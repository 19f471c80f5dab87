"""The shipped files of busi: made again from the archive, its faults, groups and folds."""

import csv
import hashlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from studies import busi_archive
from studies.busi_archive import ArchiveError
from tests.conftest import ROOT

DATA = ROOT / "data"
ARCHIVE = ROOT.parent / "shared" / "data" / "busi_folder"
MARKS = ("calipers", "text", "other_marks", "axilla")


@pytest.fixture(scope="module")
def table() -> list[dict[str, str]]:
    return busi_archive.read_table()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    with np.load(DATA / "busi_128.npz", allow_pickle=False) as file:
        assert file.files == ["images"]
        return file["images"]


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    with np.load(DATA / "busi_masks_128.npz", allow_pickle=False) as file:
        return np.unpackbits(file["masks"], axis=1).reshape(780, 128, 128).astype(bool)


def integers(table, column) -> np.ndarray:
    return np.array([int(entry[column]) for entry in table])


def test_shipped_files_belong_together(table, images, masks):
    assert images.shape == (780, 128, 128) and images.dtype == np.uint8
    classes = [entry["class"] for entry in table]
    assert Counter(classes) == {"benign": 437, "malignant": 210, "normal": 133}
    assert Counter(e["breastmnist"] for e in table) == {"train": 546, "val": 78, "test": 156}
    outside = [entry["note"].startswith("lesion outside") for entry in table]
    lesion = (np.array(classes) != "normal") & ~np.array(outside)
    assert sum(outside) == 2 and np.array_equal(masks.any((1, 2)), lesion)
    counts = [int(integers(table, column).sum()) for column in MARKS]
    assert counts == [127, 129, 31, 28]
    axilla = [entry for entry in table if entry["axilla"] == "1"]
    assert all(entry["text"] == "1" and entry["class"] != "normal" for entry in axilla)


def test_rows_are_breastmnists_images(table, images):
    """Labels in order, and each picture correlates with its own 28 px picture."""
    with np.load(DATA / "breastmnist.npz") as official:
        labels = np.concatenate([official[f"{s}_labels"][:, 0] for s in busi_archive.SPLITS])
        small = np.concatenate([official[f"{s}_images"] for s in busi_archive.SPLITS])
    malignant = np.array([entry["class"] == "malignant" for entry in table])
    assert np.array_equal(labels == 0, malignant)  # 0 is malignant there
    both = zip(busi_archive.area_sums(images, 28), small, np.roll(small, 1, axis=0))
    own, next_row = np.array(
        [[np.corrcoef(a.ravel(), b.ravel())[0, 1] for b in others] for a, *others in both]
    ).T
    assert own.min() > 0.95
    assert np.median(next_row) < 0.9  # rows that do not match are found


def test_archive_gives_the_shipped_rows(table, images, masks):
    if not ARCHIVE.is_dir():
        pytest.skip(f"{ARCHIVE}, 26 cases of the archive, is not there")
    large, lesions, rows = busi_archive.read_folder(ARCHIVE, table, only_present=True)
    small, small_lesions = busi_archive.reduce(large, lesions, 128)
    assert len(rows) == 26
    assert np.array_equal(small, images[rows]) and np.array_equal(small_lesions, masks[rows])
    assert not np.array_equal(small, images[np.roll(rows, 1)])  # another order is found


def test_same_input_gives_the_same_bytes(tmp_path, monkeypatch, images):
    first = busi_archive.write_npz(tmp_path / "a.npz", images=images[:9])
    monkeypatch.setattr("time.time", lambda: 2e9)  # much later
    again = busi_archive.write_npz(tmp_path / "b.npz", images=images[:9])
    assert first == again == hashlib.sha256((tmp_path / "b.npz").read_bytes()).hexdigest()
    changed = images[:9].copy()
    changed[3, 4, 5] ^= 1
    assert busi_archive.write_npz(tmp_path / "c.npz", images=changed) != first
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert np.array_equal(file["images"], images[:9])


def test_area_sums_share_pixels():
    """3 to 2: the middle row and column belong to both halves; nothing is lost."""
    pixels = np.arange(9).reshape(1, 3, 3)
    sums = busi_archive.area_sums(pixels, 2)
    assert sums[0, 0, 0] == 4 * 0 + 2 * 1 + 2 * 3 + 4
    assert sums.sum() == pixels.sum() * 4
    assert np.all(busi_archive.area_sums(np.ones((1, 224, 224)), 128) == 224**2)


SIZE = (40, 30)  # width, height
ONE, OTHER = "benign/benign (1).png", "normal/normal (7).png"
MASK, LAST_MASK = "benign/benign (1)_mask.png", "benign/benign (1)_mask_2.png"


def write(path, pixels, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path)


@pytest.fixture
def small_archive(tmp_path):
    """Two cases: RGB with three masks (1-bit, RGB, grey), and grey with an empty mask."""
    folder, noise = tmp_path / "my archive", np.random.default_rng(0)
    write(folder / ONE, noise.integers(0, 256, SIZE[::-1]), "RGB")
    for name, left, mode in (("", 6, "1"), ("_1", 16, "RGB"), ("_2", 26, "L")):
        mask = np.zeros(SIZE[::-1])
        mask[5:13, left : left + 8] = 255
        write(folder / f"benign/benign (1)_mask{name}.png", mask, mode)
    write(folder / OTHER, noise.integers(0, 256, SIZE[::-1]))
    write(folder / "normal/normal (7)_mask.png", np.zeros(SIZE[::-1]), "1")
    size = {"width": str(SIZE[0]), "height": str(SIZE[1])}
    table = [
        {"row": str(row), "file": name, "class": name.split("/")[0], **size}
        for row, name in enumerate((OTHER, ONE))
    ]
    return folder, table


def test_names_modes_and_several_masks(small_archive):
    folder, table = small_archive
    (folder / "benign/._benign (1).png").write_bytes(b"macOS")
    images, masks, rows = busi_archive.read_folder(folder, table)
    assert images.shape == masks.shape == (2, 224, 224) and rows.tolist() == [0, 1]
    assert images.dtype == np.uint8 and masks.dtype == bool and not masks[0].any()
    scale = 224 / SIZE[1]  # the crop begins at column (40 - 30) // 2 = 5
    for left in (6, 16, 26):
        assert masks[1, int(9 * scale), int((left - 5 + 4) * scale)]
    assert abs(masks[1].mean() - 3 * 64 / 900) < 0.01
    (folder / LAST_MASK).unlink()  # a mask that is not read is found
    assert abs(busi_archive.read_folder(folder, table)[1][1].mean() - 2 * 64 / 900) < 0.01


def test_a_mask_of_another_size_is_scaled(small_archive):
    folder, table = small_archive
    before = busi_archive.read_folder(folder, table)[1]
    for path in folder.glob("benign/*_mask*.png"):
        with Image.open(path) as mask:
            mask.resize((80, 60), Image.Resampling.NEAREST).save(path)
    assert np.mean(before != busi_archive.read_folder(folder, table)[1]) < 0.01


RAMP = np.arange(1200).reshape(30, 40)
FAULTS = {  # name: (what is done to the folder, the file that must be named, words of the message)
    "no mask": (lambda f: (f / "normal/normal (7)_mask.png").unlink(), OTHER, "has no mask"),
    "truncated": (
        lambda f: (f / ONE).write_bytes((f / ONE).read_bytes()[:500]), ONE, "expected a PNG"),
    "text": (lambda f: (f / LAST_MASK).write_text("no image"), LAST_MASK, "expected a PNG"),
    "a mask": (lambda f: (f / ONE).write_bytes((f / MASK).read_bytes()), ONE, "as a mask has"),
    "size": (lambda f: write(f / ONE, RAMP.T % 251), ONE, "30 x 40 px, expected 40 x 30"),
    "lonely mask": (lambda f: (f / OTHER).unlink(), "normal (7)_mask.png", "a mask without"),
    "unknown": (lambda f: write(f / "benign/x (9).png", RAMP % 251), "x (9).png", "Move it out"),
    "missing": (lambda f: missing(f), OTHER, "1 of 2 images are not there"),
    "renamed": (lambda f: f.rename(f"{f} 2"), "my archive", "Name the unpacked archive"),
    "16 bits": (
        lambda f: Image.fromarray(RAMP.astype(np.uint16)).save(f / ONE), ONE, "mode I;16"),
}  # fmt: skip


def missing(folder):
    [path.unlink() for path in folder.glob("normal/*.png")]


@pytest.mark.parametrize(("fault", "file", "words"), FAULTS.values(), ids=FAULTS)
def test_faults_are_named_with_their_file(small_archive, fault, file, words):
    folder, table = small_archive
    fault(folder)
    with pytest.raises(ArchiveError) as caught:
        busi_archive.read_folder(folder, table)
    assert file in str(caught.value) and words in str(caught.value)


def test_a_huge_file_is_not_decoded(small_archive, monkeypatch):
    folder, table = small_archive
    monkeypatch.setattr(busi_archive, "MOST_PIXELS", 1199)
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(ArchiveError, match="40 x 30 px, mode L"):
        busi_archive.read_folder(folder, table)


def test_a_table_whose_rows_do_not_match(tmp_path, small_archive):
    folder, table = small_archive
    images, masks, _ = busi_archive.read_folder(folder, table)
    packed = np.packbits(masks.reshape(2, -1), axis=1)
    path = tmp_path / "busi_224.npz"
    np.savez(path, images=images, masks=packed, files=[entry["file"] for entry in table])
    assert np.array_equal(busi_archive.read_224(path, table)[1], masks)
    for other in (table[::-1], table[:1]):
        with pytest.raises(ArchiveError, match="busi_images.csv has"):
            busi_archive.read_224(path, other)


def save(path, table):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    return path


WRONG = [("row", "1", "row=0"), ("file", ONE, "row=0"), ("class", "benign", "as class")]


@pytest.mark.parametrize(("column", "value", "words"), [*WRONG, ("file", MASK, "is a mask")])
def test_a_wrong_table_is_refused(tmp_path, small_archive, column, value, words):
    table = small_archive[1]
    assert busi_archive.read_table(save(tmp_path / "table.csv", table)) == table
    table[0][column] = value
    with pytest.raises(ArchiveError, match=words):
        busi_archive.read_table(save(tmp_path / "table.csv", table))


def test_part_of_the_archive_goes_elsewhere(tmp_path, monkeypatch, small_archive, capsys):
    folder, table = small_archive
    missing(folder)
    monkeypatch.setattr(busi_archive, "read_table", lambda: table)
    with pytest.raises(ArchiveError, match="normal .7..png"):
        busi_archive.main([str(folder), "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        busi_archive.main([str(folder), "--only-present"])
    assert "needs --out" in capsys.readouterr().err
    command = [str(folder), "--only-present", "--size", "64", "--out", str(tmp_path / "out")]
    busi_archive.main(command)
    with np.load(tmp_path / "out" / "busi_64.npz", allow_pickle=False) as file:
        assert file["images"].shape == (1, 64, 64) and file["rows"].tolist() == [1]
    assert "SHA-256" in capsys.readouterr().out


def test_groups_command_finds_a_changed_table(monkeypatch, capsys, table):
    busi_archive.main(["groups"])
    assert capsys.readouterr().out.count("as in the table") == 3
    changed = [dict(entry) for entry in table]
    changed[5]["group"] = changed[6]["group"]
    monkeypatch.setattr(busi_archive, "read_table", lambda: changed)
    with pytest.raises(SystemExit, match="groups differ"):
        busi_archive.main(["groups"])
    assert "group: 548 groups" in (out := capsys.readouterr().out) and "NOT as" in out


def test_groups_follow_from_the_shipped_images(table, images):
    """And no pair lies so near a threshold that rounding decides."""
    for column, groups in busi_archive.all_groups(images, table).items():
        assert np.array_equal(groups, integers(table, column)), column
    upper = busi_archive.residual_correlation(images)[np.triu_indices(780, 1)]
    for threshold, _ in busi_archive.GROUPINGS.values():
        assert np.abs(upper - threshold).min() > 1e-4


def test_pairs_by_eye_are_of_use(table, images):
    """Each joins two groups that correlation alone leaves apart, or a group to another."""
    alone = busi_archive.near_copies(busi_archive.residual_correlation(images), 0.90)
    rows = {entry["file"]: int(entry["row"]) for entry in table}
    with open(DATA / "busi_pairs.csv", newline="", encoding="utf-8") as file:
        pairs = [(rows[pair["file"]], rows[pair["other"]]) for pair in csv.DictReader(file)]
    assert all(alone[one] != alone[other] for one, other in pairs)
    assert len(set(alone)) - len(set(integers(table, "group"))) == len(pairs)


def test_a_chain_of_links_is_one_group():
    correlation = np.eye(5)
    correlation[0, 2] = correlation[2, 0] = correlation[2, 4] = correlation[4, 2] = 0.95
    assert busi_archive.near_copies(correlation, 0.9).tolist() == [0, 1, 0, 2, 0]
    assert busi_archive.near_copies(correlation, 0.9, [(1, 3)]).tolist() == [0, 1, 0, 1, 0]
    assert len(set(busi_archive.near_copies(correlation, 0.96))) == 5


def straddling(groups: np.ndarray, folds: np.ndarray) -> list[int]:
    """Groups with images in more than one fold."""
    return [g for g in set(groups.tolist()) if len(set(folds[groups == g].tolist())) > 1]


def test_no_group_straddles_folds(table):
    folds = integers(table, "fold")
    groups = integers(table, "group")
    assert straddling(groups, folds) == straddling(integers(table, "group_stricter"), folds) == []
    twin = np.flatnonzero(groups == np.bincount(groups).argmax())[0]
    moved = folds.copy()
    moved[twin] = (moved[twin] + 1) % 5
    assert straddling(groups, moved) == [groups[twin]]


def test_folds_are_balanced(table):
    folds, classes = integers(table, "fold"), np.array([entry["class"] for entry in table])
    for kind in busi_archive.CLASSES:
        counts = np.bincount(folds[classes == kind], minlength=5)
        assert np.abs(counts - counts.mean()).max() <= 2, (kind, counts)
    groups = integers(table, "group")
    assert straddling(groups, busi_archive.make_folds(groups, classes)) == []
