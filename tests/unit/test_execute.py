"""The runner of the notebooks, and what their headers promise about time and memory."""

import importlib.util
import math
import re
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
execute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(execute)

ALL, CORE, CORE_05, DEEP, MEMORY = 1800, 90, 150, 40, 2.0  # seconds with one thread; GB
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
TAIL = "; no network, no GPU |"
OLD = "| To run | about 65 seconds and 1.6 GB of memory on two CPU cores" + TAIL
NEW = "| To run | about 90 seconds with one thread, 50 with two; 1.6 GB of memory" + TAIL


def with_header(row: str) -> nbformat.NotebookNode:
    return new_notebook(cells=[new_markdown_cell(f"# Title\n\n{row}"), new_code_cell("1")])


# ---- what the headers promise --------------------------------------------------------------------


def over_budget(headers: dict) -> list[str]:
    """Which budgets these headers break; name of a notebook -> (seconds, GB), or None."""
    found = [
        f"{name}: no row 'To run' with seconds of one thread: execute.py refresh --header {name}"
        for name, header in headers.items()
        if header is None
    ]
    known = {name: header for name, header in headers.items() if header}
    for name, (seconds, memory) in known.items():
        limit = DEEP if name.endswith("_deep") else CORE_05 if name == "05" else CORE
        if seconds > limit:
            found.append(f"{name}: {seconds} seconds, {limit} at most")
        if memory > MEMORY:
            found.append(f"{name}: {memory} GB, {MEMORY} at most")
    total = sum(seconds for seconds, _ in known.values())
    if total > ALL:
        found.append(f"all together: {total} seconds, {ALL} at most")
    return found


@pytest.mark.check
def test_all_notebooks_together_keep_the_budget():
    paths = execute.notebooks()
    headers = {execute.short_name(p): execute.read_header(nbformat.read(p, 4)) for p in paths}
    found = over_budget(headers)
    assert found == [], "\n".join(found)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"03": (90, 2.0), "05": (150, 1.0), "01_deep": (40, 1.0)}, []),
        ({"03": (95, 1.0)}, ["03: 95 seconds, 90"]),
        ({"05": (155, 1.0)}, ["05: 155 seconds, 150"]),
        ({"01_deep": (45, 1.0)}, ["01_deep: 45 seconds, 40"]),
        ({"04b": (90, 2.1)}, ["04b: 2.1 GB"]),
        ({f"{n:02d}": (86, 1.0) for n in range(10, 31)}, ["all together: 1806 seconds"]),
        ({"03": None}, ["03: no row"]),
    ],
)
def test_the_budget_bites(headers, words):
    found = over_budget(headers)
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found))


def test_the_header_is_read_in_its_wording():
    assert execute.read_header(with_header(NEW)) == (90, 1.6)
    assert execute.read_header(with_header(OLD)) is None  # seconds with two threads


def test_the_header_is_written_where_it_differs_clearly():
    notebook = with_header(OLD)
    assert execute.write_header(notebook, 91.8, 1.58)
    row = notebook.cells[0].source.splitlines()[-1]
    assert row == NEW
    for seconds, memory, changes in [
        (103, 1.6, False),  # within 15 %
        (104, 1.6, True),
        (76, 1.6, True),
        (90, 1.8, False),
        (90, 1.9, True),
        (200, math.nan, False),  # a system that cannot tell the memory
    ]:
        notebook = with_header(NEW)
        assert execute.write_header(notebook, seconds, memory) == changes, (seconds, memory)
        assert (NEW in notebook.cells[0].source) != changes
    small = with_header(NEW.replace("90", "5"))
    assert not execute.write_header(small, 7.5, 1.6)  # 50 %, but less than 3 s


def test_the_written_header_can_be_read():
    for seconds, memory in [(0.4, 0.6), (5, 0.9), (88, 1.96), (1234, 12.34)]:
        notebook = with_header(execute.header_text(seconds, memory) + TAIL)
        read = execute.read_header(notebook)
        assert abs(read[0] - seconds) <= 5 and read[1] == round(memory, 1)


def test_a_header_without_the_row_is_an_error():
    with pytest.raises(SystemExit, match="has no row"):
        execute.write_header(with_header("| To teach | x |"), 10, 1.0)


# ---- names -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Notebooks of every kind of name, in place of the course's."""
    names = "04_a 04b_b 01_c 01_c_deep 15_d 15b_d 15c_d template 02_e_deep 02_f_deep 02_g"
    for name in names.split():
        nbformat.write(with_header(OLD), tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(execute, "HERE", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("04", "04_a"),
        ("04b", "04b_b"),
        ("01", "01_c"),
        ("01_deep", "01_c_deep"),
        ("15c", "15c_d"),
        ("02_e_deep", "02_e_deep"),
        ("02_f_deep.ipynb", "02_f_deep"),
        ("template", "template"),
    ],
)
def test_find(folder, name, stem):
    assert execute.find(name).stem == stem


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("99", "No notebook '99'. There are: 01, 01_deep, 02_deep"),
        ("0", "No notebook '0'"),
        ("", "No notebook ''"),
        ("02_deep", "fits 2 notebooks: 02_e_deep, 02_f_deep"),
    ],
)
def test_find_names_what_there_is(folder, name, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        execute.find(name)


# ---- execution ---------------------------------------------------------------------------------


SCRIPT = """
import os, sys, pathlib
sys.stdout.write(os.environ["OMP_NUM_THREADS"] + os.environ["MKL_NUM_THREADS"])
folder = pathlib.Path(os.environ["MEDTL_OUTPUT"])
folder.mkdir(exist_ok=True)
print("", list(folder.iterdir()), pathlib.Path(os.environ["MEDTL_LEDGER"]).exists())
print("written:", folder / "x.txt", pathlib.Path.home() / "y")
"""
WIDGET = """
import ipywidgets
from IPython.display import display
view = {"model_id": ipywidgets.IntSlider().model_id, "version_major": 2, "version_minor": 0}
display({"application/vnd.jupyter.widget-view+json": view, "text/plain": "words"}, raw=True)
"""


@pytest.fixture
def refreshed(folder, monkeypatch, capsys):
    """A notebook that was refreshed in a process whose memory was large, and what was printed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    notebook = with_header(OLD)
    notebook.cells[1] = new_code_cell(SCRIPT, id="code-001", metadata={"collapsed": True})
    notebook.cells.append(new_code_cell(WIDGET, id="code-002", metadata={"tags": ["copy"]}))
    notebook.cells[2].metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    notebook.metadata = {**KERNEL, "widgets": {"state": {}}}
    nbformat.write(notebook, folder / "04_a.ipynb")
    held = bytearray(300_000_000)
    execute.refresh(["04"], header=True)
    del held
    return nbformat.read(folder / "04_a.ipynb", 4), capsys.readouterr().out


def test_refresh_runs_with_one_thread_in_empty_folders(refreshed):
    notebook, _ = refreshed
    (out,) = notebook.cells[1].outputs
    threads, written = out.text.splitlines()
    assert threads == "11 [] False"
    assert written == "written: outputs/x.txt ~/y"


def test_refresh_keeps_only_what_a_reader_needs(refreshed):
    notebook, _ = refreshed
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert [c.id for c in notebook.cells[1:]] == ["code-001", "code-002"]
    assert notebook.cells[1].metadata == {}
    assert notebook.cells[2].metadata == {"tags": ["copy"], "jupyter": {"source_hidden": True}}
    assert notebook.cells[2].outputs[0].data == {"text/plain": "words"}
    assert [c.execution_count for c in notebook.cells[1:]] == [1, 2]


def test_refresh_says_what_changed_and_notes_the_kernels_own_memory(refreshed):
    notebook, printed = refreshed
    assert "+code-001: written: outputs/x.txt" in printed
    seconds, memory = execute.read_header(notebook)
    assert seconds <= 30 and f"{memory:.1f} GB" in printed
    if sys.platform.startswith("linux"):
        assert 0 < memory <= 0.2  # not that of this process, and not of kernels before


def test_memory_is_that_of_the_kernel(folder):
    """A kernel that holds half a GB says so; one that is run after it does not."""
    measured = []
    for source in ("x = bytearray(b'1') * 500_000_000", "x = 1"):
        notebook = new_notebook(cells=[new_code_cell(source)], metadata=KERNEL)
        measured.append(execute.execute(notebook, "x", folder / "o", folder / "l")[1])
        assert len(notebook.cells) == 1
    assert measured[0] > 0.5 > 0.2 > measured[1]


def test_a_notebook_that_stops_is_left_as_it_was(folder, capfd, monkeypatch):
    """Two at a time: one stops, the other is refreshed, and the exit says which."""
    good, bad = (new_notebook(cells=[new_code_cell(s)], metadata=KERNEL) for s in ("1 + 1", "1/0"))
    nbformat.write(good, folder / "04_a.ipynb")
    nbformat.write(bad, folder / "04b_b.ipynb")
    before = (folder / "04b_b.ipynb").read_bytes()
    copy = folder / "execute.py"
    copy.write_bytes((ROOT / "notebooks" / "execute.py").read_bytes())
    monkeypatch.setattr(execute, "__file__", str(copy))
    with pytest.raises(SystemExit, match="left as they were: 04b_b.ipynb"):
        execute.refresh(["04", "04b"], header=False)
    assert (folder / "04b_b.ipynb").read_bytes() == before
    assert nbformat.read(folder / "04_a.ipynb", 4).cells[0].outputs[0].data["text/plain"] == "2"
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_run_writes_a_copy_and_prints_the_report(folder, monkeypatch, capsys, tmp_path):
    source = "import os, pathlib\nfolder = pathlib.Path(os.environ['MEDTL_OUTPUT'])\n"
    report = "(folder / 'report_04b.txt').write_text(f'the report on {TASK}\\n')"
    parameters = new_code_cell('TASK = "phantom"', metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[parameters, new_code_cell(source + report)], metadata=KERNEL)
    nbformat.write(notebook, folder / "04b_b.ipynb")
    monkeypatch.setenv("MEDTL_OUTPUT", str(tmp_path / "made"))
    before = (folder / "04b_b.ipynb").read_bytes()
    execute.run("04b", "busi")
    assert "the report on busi" in capsys.readouterr().out
    assert (tmp_path / "made" / "04b_b.ipynb").is_file()
    assert (folder / "04b_b.ipynb").read_bytes() == before


@pytest.mark.parametrize(("options", "task"), [([], "busi"), (["--task", "phantom"], "phantom")])
def test_run_is_on_real_tumours_unless_told(monkeypatch, options, task):
    called = []
    monkeypatch.setattr(execute, "run", lambda *arguments: called.append(arguments))
    monkeypatch.setattr(sys, "argv", ["execute.py", "run", "05", *options])
    execute.main()
    assert called == [("05", task)]


def test_make_run_is_on_real_tumours():
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"^TASK \?= (.+)$", makefile, re.M) == ["busi"]
    assert "$(PY) notebooks/execute.py run 05 --task $(TASK)\n" in makefile


def test_run_counts_openings_of_the_readers_own_test_set(folder, monkeypatch):
    """The ledger is empty for data of the course, the reader's for a folder of theirs."""
    parameters = new_code_cell('TASK = "phantom"', metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[parameters], metadata=KERNEL), folder / "04_a.ipynb")
    ledgers = []
    monkeypatch.setattr(execute, "execute", lambda nb, name, out, ledger: ledgers.append(ledger))
    for task in ("phantom", "busi", "folder:mine"):
        execute.run("04", task)
    assert [ledger is None for ledger in ledgers] == [False, False, True]


def test_paths_of_this_machine_are_shortened(tmp_path):
    home = execute.Path.home()
    text = f"{tmp_path}/outputs/a.txt {ROOT}/data/x.npz {home}/b"
    assert execute.without_paths(text, tmp_path / "outputs") == "outputs/a.txt data/x.npz ~/b"
    cell = new_code_cell(outputs=[new_output("stream", text=text)])
    notebook = new_notebook(cells=[cell])
    execute.tidy(notebook, tmp_path / "outputs")
    assert str(tmp_path) not in str(notebook) and str(ROOT) not in str(notebook)
