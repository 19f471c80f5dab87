"""What index.csv may tell beside path and label, 16 bits, frames, and who the patients are."""

import numpy as np
import pytest
from PIL import Image

from medtl_utils import load_task
from medtl_utils.data import DataError
from medtl_utils.datasets import folder_read, folder_table, image_files
from medtl_utils.datasets.folder import read_folder
from tests.unit.test_folder import make_folder, noise, save
from tests.unit.test_folder_pixels import disc
from tests.unit.test_folder_table import lines_of, make_table, write_table

# ---- who the patients are ------------------------------------------------------------------------


def without_patients(root):
    return make_table(root, 24, ("path", "label"))


def test_a_table_without_patients_asks(tmp_path, monkeypatch):
    root = without_patients(tmp_path / "mine")
    with pytest.raises(DataError, match=r'index\.csv has no column patient.*"one image each"'):
        load_task(f"folder:{root}", 16)
    each = load_task(f"folder:{root}", 16, patients="one image each")
    assert len(set(each.train.patients)) == len(each.train)
    assert 'patients by your word, "one image each", which was believed' in each.card
    nobody = load_task(f"folder:{root}", 16, patients="unknown")
    assert nobody.train.patients is None and "no patient-level claim" in nobody.card
    guesses = lambda entries, patients, table: entries
    monkeypatch.setattr(folder_read, "decided", guesses)  # the planted mistake: it does not ask
    assert load_task(f"folder:{root}", 16).train.patients is None


def test_a_rule_makes_the_patients_of_names(tmp_path):
    root = tmp_path / "mine"
    for label in ("benign", "malignant"):
        for i in range(24):
            save(root / label / f"{label[0]}{i // 2}_{i % 2}.png", noise(f"{label}{i}"))
    rule = lambda name: name.split("/")[1].split("_")[0]
    task = load_task(f"folder:{root}", 16, patients=rule)
    people = [set(part.patients) for part in (task.train, task.val, task._test)]
    assert sorted(set.union(*people)) == sorted(f"{c}{i}" for c in "bm" for i in range(12))
    assert sum(map(len, people)) == 24 and "by a rule on the file's name" in task.card


@pytest.mark.parametrize(
    "patients, error, word",
    [
        (lambda name: name.split("?")[1], DataError, "The rule for patients fails for 'all/"),
        (lambda name: "", DataError, "gives '' for 'all/"),
        (lambda name: 7, DataError, "gives 7 for 'all/"),
        ("each", ValueError, "patients must be \"one image each\", .*got 'each'"),
        (3, ValueError, "got 3"),
    ],
)
def test_decisions_that_cannot_be_used(tmp_path, patients, error, word):
    root = without_patients(tmp_path / "mine")
    with pytest.raises(error, match=word):
        load_task(f"folder:{root}", 16, patients=patients)


def test_a_decision_against_the_table_is_refused(tmp_path):
    root = make_table(tmp_path / "mine")
    with pytest.raises(DataError, match="has the column patient. Leave out"):
        load_task(f"folder:{root}", 16, patients="one image each")
    with pytest.raises(ValueError, match="`patients` is for a folder of your own"):
        load_task("phantom", 16, patients="unknown")


# ---- site, age, mask, frame ----------------------------------------------------------------------


def full_table(root, change=lambda row: row):
    """24 patients, one image each, with site, age and two masks in another folder."""
    lines = ["path,label,patient,mask,site,age,comment"]
    for i in range(24):
        save(root / "all" / f"{i}.png", noise(f"{i}"))
        for side, part in (("l", disc(x=20)), ("r", disc(x=30))):
            save(root / "lesions" / f"{side}{i}.png", np.uint8(255) * part)
        label = ("benign", "malignant")[i % 2]
        masks, site = f"lesions/l{i}.png; lesions/r{i}.png", f"=site {i % 3}"
        row = [f"all/{i}.png", label, f"p{i}", masks, site, "" if i == 5 else str(30 + i), "恶性"]
        lines.append(",".join(change(row)))
    write_table(root, lines)
    return root


def test_site_age_and_masks(tmp_path):
    root = full_table(tmp_path / "mine")
    content = read_folder(root, 32)
    order = [int(name.split("/")[2].split(".")[0]) for name in content.ids]
    ages = content.descriptors["age"]
    assert [f"=site {i % 3}" for i in order] == content.descriptors["site"].tolist()
    known = [i for i in range(24) if order[i] != 5]
    assert ages[known].tolist() == [30 + order[i] for i in known] and np.isnan(ages).sum() == 1
    read = content.masks[0].numpy()
    for lesion, same in ((disc(x=20) | disc(x=30), True), (disc(x=20), False)):
        drawn = Image.fromarray(np.uint8(255) * lesion).crop((5, 0, 45, 40))
        drawn = np.asarray(drawn.resize((32, 32), Image.Resampling.BILINEAR)) > 127
        assert ((read == drawn).mean() > 0.98) == same
    task = load_task(f"folder:{root}", 32)
    assert set(task.train.descriptors) == {"site", "age"} and task.train.masks is not None
    assert "Descriptors: site of 24, age of 23 image(s)." in task.card
    assert set(task.folds(2)[0].train.descriptors) == {"site", "age"}


ODD_CELLS = {  # a fault -> (column, cell)
    "the mask 'lesions/no.png' is missing": (3, "lesions/no.png"),
    "the mask '../../secret.png' is missing, or leads": (3, "../../secret.png"),
    "the mask 'index.csv' is no image": (3, "index.csv"),
    "the age 'old' is no number of years": (5, "old"),
    "the age '-1' is no": (5, "-1"),
    "the age 'nan' is no": (5, "nan"),
    "the age '1e9' is no": (5, "1e9"),
}


@pytest.mark.parametrize("word", ODD_CELLS)
def test_odd_cells(tmp_path, word):
    column, cell = ODD_CELLS[word]
    change = lambda row: row[:column] + [cell] + row[column + 1 :] if row[2] == "p3" else row
    root = full_table(tmp_path / "mine", change)
    with pytest.raises(DataError, match=f"index.csv: 1 line.*line 5: {word}"):
        read_folder(root, 16)


def test_frames_of_one_file(tmp_path):
    root = make_folder(tmp_path / "mine", n=12)
    frames = [Image.fromarray(noise(f"frame {i}")) for i in range(3)]
    frames[0].save(root / "benign" / "film.tif", save_all=True, append_images=frames[1:])
    for i in range(3):
        save(root / "still" / f"{i}.png", np.asarray(frames[i]))
    lines = ["path,label,frame"]
    lines += [f"{c}/{c} ({i}).png,{c}," for c in ("benign", "malignant") for i in range(12)]
    lines += [f"benign/film.tif,benign,{i}" for i in (3, 1)]
    lines += [f"still/{i}.png,malignant," for i in (0, 2)]
    write_table(root, lines)
    content = read_folder(root, 16, "one image each")
    ids = [name.split("#")[0] for name in content.ids]
    assert ids[12:14] == ["folder/benign/film.tif frame 1", "folder/benign/film.tif frame 3"]
    assert (content.images[12:14] == content.images[-2:]).all()
    assert len(set(content.patients)) == len(ids) - 1  # two frames are one patient
    assert dict(content.report)["benign/film.tif"] == "taken"
    write_table(root, [*lines, "benign/film.tif,benign,9"])
    assert dict(read_folder(root, 16, "unknown").report)["benign/film.tif"] == image_files.NO_FRAME
    for cell in ("0", "x", "²", "1.5", "99999999"):
        write_table(root, [*lines, f"benign/film.tif,benign,{cell}"])
        with pytest.raises(DataError, match=f"the frame '{cell}' is no whole number"):
            read_folder(root, 16, "unknown")


def test_a_line_said_twice_counts_once(tmp_path):
    root = make_table(tmp_path / "mine", 20)
    lines = lines_of(root)
    before = read_folder(root, 16)
    write_table(root, [*lines, lines[1], lines[4].replace("all/", "./all/")])
    after = read_folder(root, 16)
    assert (after.ids == before.ids).all()
    said = {name for name, reason in after.report if reason == folder_table.SAME_LINE}
    assert said == {f"index.csv, line {len(lines) + 1}", f"index.csv, line {len(lines) + 2}"}


def test_many_columns(tmp_path):
    root = make_table(tmp_path / "mine", 20)
    lines = lines_of(root)
    wide = lambda n: [f"{line}," + ",".join(f"c{i}" for i in range(n)) for line in lines]
    write_table(root, wide(900))
    assert len(read_folder(root, 16).labels)
    write_table(root, wide(100_000)[:3])
    with pytest.raises(DataError, match="index.csv has 100,00. columns, and 1,000 at most"):
        read_folder(root, 16)


# ---- 16 bits -------------------------------------------------------------------------------------


def deep_folder(root, top):
    for label in ("benign", "malignant"):
        for i in range(8):
            pixels = noise(f"{label}{i}").astype(np.uint16) * np.uint16(top // 255) // (1 + i)
            save(root / label / f"{i}.png", pixels)
    return root


@pytest.mark.parametrize("top", [4095, 65535, 1023])
def test_one_scale_for_all_files_of_16_bits(tmp_path, monkeypatch, top):
    root = deep_folder(tmp_path / "mine", top)
    content = read_folder(root, 40)
    for row, name in enumerate(content.ids):
        file = root / name.removeprefix("folder/").split("#")[0]
        native = np.asarray(Image.open(file)).astype(float)[:, 5:45]  # 40 x 40: no resizing
        assert np.abs(content.images[row, 0].numpy() - native * 255 / top).max() <= 0.5
    assert content.notes == {f"of 16 bits, shown from 0 to {top} (one scale for all of them)": 16}
    assert f"16 image(s) of 16 bits, shown from 0 to {top}" in load_task(f"folder:{root}").card
    if top < 65535:
        monkeypatch.setattr(folder_read, "depth", lambda largest: 16)  # planted: too dark
        assert read_folder(root, 40).images.max() < 130


def test_the_memory_of_originals_is_let_go(tmp_path):
    pixels = folder_read.Pixels(3, 8)
    for n in range(3):
        colour = np.full((8, 8, 3), n, np.uint8)
        picture = image_files.Picture(colour if n == 1 else colour[..., 0], (9, 9), "a")
        pixels.add(picture)
    images, notes = pixels.done()
    assert images.shape == (3, 3, 8, 8) and notes == {}
    assert [int(image.unique()) for image in images] == [0, 1, 2]
    assert all(picture.pixels.size == 0 for picture in pixels.read)
