"""Execute the notebooks in clean kernels, with one thread each.

python notebooks/execute.py run 05                      a copy, into outputs/; prints the report
python notebooks/execute.py run 05 --task phantom       the same on other data
python notebooks/execute.py refresh [05 04b 01_deep]    in place, two at a time; shows changes
python notebooks/execute.py refresh --header            on an idle machine: notes time and memory
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Two kernels with two threads each on two cores wait for each other, and are ten times slower.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
AT_ONCE = 2
TWO_THREADS = 0.55  # of the seconds that one thread needs
HEADER = re.compile(
    r"\| To run \| about (\d+) seconds with one thread, (\d+) with two; ([\d.]+) GB of memory"
)
ANY_HEADER = re.compile(r"\| To run \| .*?GB of memory(?: on two CPU cores)?")
VIEW = "application/vnd.jupyter.widget-view+json"
# Linux keeps a peak of its own for each program; getrusage adds the parent's.
PEAK = """
import re, sys
if sys.platform == "linux":
    print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1e6)
elif sys.platform == "darwin":
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9)
else:
    print("nan")
"""


# ---- which notebook --------------------------------------------------------------------


def notebooks() -> list[Path]:
    """All notebooks in the order of the course; the template is last."""
    return [*sorted(HERE.glob("[0-9]*.ipynb")), HERE / "template.ipynb"]


def short_name(path: Path) -> str:
    """What `find` takes: "04", "04b", "01_deep" or "template"."""
    return path.stem.split("_")[0] + ("_deep" if path.stem.endswith("_deep") else "")


def find(name: str) -> Path:
    """The notebook with this short name or file name; exits where there is none, or more."""
    found = [p for p in notebooks() if name in (short_name(p), p.stem, p.name)]
    if len(found) == 1:
        return found[0]
    if found:
        sys.exit(f"{name!r} fits {len(found)} notebooks: {', '.join(p.stem for p in found)}.")
    known = ", ".join(short_name(p) for p in notebooks())
    sys.exit(f"No notebook {name!r}. There are: {known}.")


# ---- the row of the header that says how long it takes ---------------------------------


def read_header(notebook: nbformat.NotebookNode) -> tuple[int, float] | None:
    """(seconds with one thread, GB of memory) from the row "To run", None where it is not there."""
    for cell in notebook.cells:
        found = HEADER.search(cell.source) if cell.cell_type == "markdown" else None
        if found:
            return int(found[1]), float(found[3])
    return None


def header_text(seconds: float, memory: float) -> str:
    """The row's beginning; seconds are rounded to fives, as two runs differ by more than one."""
    rounded = max(5, 5 * round(seconds / 5))
    two = max(3, round(TWO_THREADS * rounded))
    return (
        f"| To run | about {rounded} seconds with one thread, {two} with two; "
        f"{memory:.1f} GB of memory"
    )


def write_header(notebook: nbformat.NotebookNode, seconds: float, memory: float) -> bool:
    """Write the measured values, where they differ clearly from what stands; whether it did."""
    standing = read_header(notebook)
    if memory != memory or standing and not differs(standing, seconds, memory):
        return False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and ANY_HEADER.search(cell.source):
            cell.source = ANY_HEADER.sub(header_text(seconds, memory), cell.source, count=1)
            return True
    sys.exit("The notebook has no row '| To run | ... GB of memory ...' in its header: add it.")


def differs(standing: tuple[int, float], seconds: float, memory: float) -> bool:
    """More than 15 % and 3 s, or 15 % and 0.1 GB, from what stands: less is noise."""
    clearly = lambda new, old, least: abs(new - old) > max(least, 0.15 * old)
    return clearly(seconds, standing[0], 3) or clearly(memory, standing[1], 0.1)


# ---- execution -------------------------------------------------------------------------


def set_parameter(notebook: nbformat.NotebookNode, name: str, value: str) -> None:
    """Replace NAME = "..." in the cell tagged "parameters"."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source, count = re.subn(
                rf'^{name} = "[^"]*"', f'{name} = "{value}"', cell.source, flags=re.M
            )
            if count == 1:
                return
    sys.exit(f"The notebook has no parameter {name}.")


def progress(notebook: nbformat.NotebookNode, name: str):
    """A hook for nbclient that prints one line a section."""
    heading = {}
    for index, cell in enumerate(notebook.cells):
        titles = re.findall(r"^#{1,2} (.+)$", cell.source, re.M)
        if cell.cell_type == "markdown" and titles:
            heading[index] = titles[-1]
    began, total = time.time(), len(notebook.cells)

    def say(cell, cell_index):
        if cell_index in heading:
            at = f"[{cell_index + 1:3d}/{total}] {time.time() - began:4.0f} s"
            print(f"  {name} {at}  {heading[cell_index]}", flush=True)

    return say


def execute(
    notebook: nbformat.NotebookNode, name: str, output: Path | None, ledger: Path | None
) -> tuple[float, float]:
    """Run all cells in a fresh kernel; (seconds, peak memory of this kernel in GB, or nan).

    `output`, `ledger`: folders for what it writes and for openings of test sets; None: the
    reader's own. Raises CellExecutionError.
    """
    folders = {"MEDTL_OUTPUT": output, "MEDTL_LEDGER": ledger}
    environment = {**os.environ, **THREADS, **{k: str(v) for k, v in folders.items() if v}}
    client = NotebookClient(
        notebook,
        timeout=1800,
        resources={"metadata": {"path": str(HERE)}},
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=40"],
        on_cell_start=progress(notebook, name),
    )
    began, seconds, memory = time.time(), 0.0, float("nan")
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
    try:
        client.execute(env=environment)
        seconds = time.time() - began
        memory = float(notebook.cells[-1].outputs[0].text)
    finally:
        notebook.cells.pop()
    told = "" if memory != memory else f", peak memory of the kernel {memory:.1f} GB"
    print(f"{name}: {seconds:.0f} s with one thread{told}", flush=True)
    return seconds, memory


def run(name: str, task: str) -> None:
    """Execute a copy into outputs/ and print its report.

    Openings of the reader's own test set (folder:...) are counted, of the course's data not.
    """
    path = find(name)
    notebook = nbformat.read(path, 4)
    set_parameter(notebook, "TASK", task)
    outputs = Path(os.environ.get("MEDTL_OUTPUT") or ROOT / "outputs").resolve()
    outputs.mkdir(parents=True, exist_ok=True)
    executed = outputs / path.name
    print(f"{path.name}: {len(notebook.cells)} cells")
    with tempfile.TemporaryDirectory() as ledger:
        own = task.startswith("folder:")
        try:
            execute(notebook, short_name(path), outputs, None if own else Path(ledger))
        except CellExecutionError as error:
            nbformat.write(notebook, executed)
            sys.exit(f"{error}\nThe notebook stopped; {executed} shows how far it came.")
    nbformat.write(notebook, executed)
    report = outputs / f"report_{short_name(path)}.txt"
    if report.is_file():
        print(f"\n{'=' * 80}\n{report.read_text(encoding='utf-8')}{'=' * 80}")
    print(f"executed notebook: {executed}")
    if name == "05":
        print(f"saved model:       {outputs / 'tumour_classifier.safetensors'}")


# ---- refreshing what is stored ---------------------------------------------------------


def tidy(notebook: nbformat.NotebookNode, output: Path) -> None:
    """Keep what a reader needs: no path of this machine, no widget of a kernel that is gone."""
    kept = {"language_info": {"name": "python"}}
    if "kernelspec" in notebook.metadata:
        kept["kernelspec"] = notebook.metadata["kernelspec"]
    notebook.metadata = nbformat.from_dict(kept)
    for cell in notebook.cells:
        metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            metadata["jupyter"] = {"source_hidden": True}
        cell.metadata = nbformat.from_dict(metadata)
        for out in cell.get("outputs", []):
            out.get("data", {}).pop(VIEW, None)
            for holder in (out, out.get("data", {})):
                for key, text in holder.items():
                    if key in ("text", "text/plain", "text/html"):
                        holder[key] = without_paths(text, output)


def without_paths(text: str, output: Path) -> str:
    """`text` with the folders of this machine made relative, or "~"."""
    for folder, short in ((output, "outputs"), (f"{ROOT}/", ""), (Path.home(), "~")):
        text = text.replace(str(folder), short)
    return text


def text_outputs(notebook: nbformat.NotebookNode) -> list[str]:
    """Text of all outputs, a line each, with figures as a word, for the readable difference."""
    lines = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = output.get("text") or data.get("text/html") or data.get("text/plain", "")
            text = re.sub(r"base64,[^\"]*", "base64", str(text))
            lines += [f"{cell.id}: {line}" for line in text.splitlines()]
    return lines


def refresh_one(path: Path, header: bool) -> None:
    """Execute in place, in folders of its own; print what changed. A failure changes nothing."""
    notebook = nbformat.read(path, 4)
    before, name = text_outputs(notebook), short_name(path)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "outputs"
        try:
            measured = execute(notebook, name, output, Path(folder) / "ledger")
        except CellExecutionError as error:
            sys.exit(f"{error}\n{path.name} stopped and is left as it was.")
        tidy(notebook, output)
    if header and write_header(notebook, *measured):
        print(f"    {name} header: {header_text(*measured)}")
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    for line in difflib.unified_diff(before, text_outputs(notebook), n=0, lineterm=""):
        print(f"    {name} {line[:160]}")


def refresh(names: list[str], header: bool) -> None:
    """One notebook here; several, each in a process of its own, AT_ONCE at a time."""
    paths = [find(n) for n in names] or notebooks()
    if len(paths) == 1:
        return refresh_one(paths[0], header)
    options = ["--header"] if header else []
    command = [sys.executable, str(Path(__file__).resolve()), "refresh", *options]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        codes = pool.map(lambda p: subprocess.run([*command, p.name]).returncode, paths)
        failed = [p.name for p, code in zip(paths, codes) if code]
    if failed:
        sys.exit(f"These stopped and are left as they were: {', '.join(failed)}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="a copy, into outputs/; prints its report")
    one.add_argument("number", help='such as "05"')
    one.add_argument(
        "--task", default="busi", help="what TASK is set to (%(default)s: real tumours)"
    )
    many = commands.add_parser("refresh", help="in place; shows what changed")
    many.add_argument("numbers", nargs="*")
    many.add_argument("--header", action="store_true", help="note seconds and memory, if idle")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.number, arguments.task)
    else:
        refresh(arguments.numbers, arguments.header)


if __name__ == "__main__":
    main()
