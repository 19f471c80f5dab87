"""Execute the notebooks in clean kernels, with fixed threads.

python notebooks/execute.py run 05 --task breastmnist     execute a copy into outputs/, print the final report
python notebooks/execute.py refresh [05 ...]              execute in place, store outputs, show what changed
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

try:
    import resource
except ImportError:  # Windows
    resource = None

HERE = Path(__file__).resolve().parent
OUTPUTS = HERE.parent / "outputs"
THREADS = {name: "2" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def find(number: str) -> Path:
    """The notebook whose name begins with `number`, e.g. "05"."""
    found = sorted(HERE.glob(f"{number}_*.ipynb"))
    if len(found) != 1:
        sys.exit(
            f"No notebook {number!r}. There are: {', '.join(p.name[:2] for p in sorted(HERE.glob('[0-9]*.ipynb')))}."
        )
    return found[0]


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


def execute(notebook: nbformat.NotebookNode, name: str) -> float:
    """Run all cells in a fresh kernel, one line of progress a section; returns the seconds. Raises CellExecutionError."""
    heading = {}
    for index, cell in enumerate(notebook.cells):
        titles = (
            re.findall(r"^#{1,2} (.+)$", cell.source, re.M) if cell.cell_type == "markdown" else []
        )
        if titles:
            heading[index] = titles[-1]
    began = time.time()

    def progress(cell, cell_index):
        if cell_index in heading:
            print(
                f"  [{cell_index + 1:3d}/{len(notebook.cells)}] {time.time() - began:4.0f} s  {heading[cell_index]}",
                flush=True,
            )

    os.environ.update(THREADS)
    print(f"{name}: {len(notebook.cells)} cells")
    NotebookClient(
        notebook,
        timeout=1800,
        resources={"metadata": {"path": str(HERE)}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=40"],
        on_cell_start=progress,
    ).execute()
    seconds = time.time() - began
    memory = ""
    if resource is not None:
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (
            1e9 if sys.platform == "darwin" else 1e6
        )
        memory = f", peak memory of the kernel {peak:.1f} GB"
    print(f"{name}: {seconds:.0f} s{memory}")
    return seconds


def run(number: str, task: str) -> None:
    path = find(number)
    notebook = nbformat.read(path, 4)
    set_parameter(notebook, "TASK", task)
    OUTPUTS.mkdir(exist_ok=True)
    executed = OUTPUTS / path.name
    try:
        execute(notebook, path.name)
    except CellExecutionError as error:
        nbformat.write(notebook, executed)
        sys.exit(f"{error}\nThe notebook stopped; outputs/{executed.name} shows how far it came.")
    nbformat.write(notebook, executed)
    report = OUTPUTS / f"report_{number}.txt"
    if report.is_file():
        print(f"\n{'=' * 80}\n{report.read_text(encoding='utf-8')}{'=' * 80}")
    print(f"executed notebook: outputs/{executed.name}")
    if number == "05":
        print("saved model:       outputs/tumour_classifier.safetensors")


def text_outputs(notebook: nbformat.NotebookNode) -> list[str]:
    """Text of every code cell's outputs, with figures as a word, for the readable difference."""
    lines = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = (
                output.get("text")
                or output.get("data", {}).get("text/html")
                or output.get("data", {}).get("text/plain", "")
            )
            lines += [
                f"{cell.id}: {line}"
                for line in re.sub(r"base64,[^\"]*", "base64", str(text)).splitlines()
            ]
    return lines


def refresh(numbers: list[str]) -> None:
    paths = [find(n) for n in numbers] or [
        *sorted(HERE.glob("[0-9]*.ipynb")),
        HERE / "template.ipynb",
    ]
    for path in paths:
        notebook = nbformat.read(path, 4)
        before = text_outputs(notebook)
        execute(notebook, path.name)
        notebook.metadata = {
            k: notebook.metadata[k]
            for k in ("kernelspec", "language_info")
            if k in notebook.metadata
        }
        notebook.metadata["language_info"] = {"name": "python"}
        for cell in notebook.cells:
            cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        nbformat.validate(notebook)
        nbformat.write(notebook, path)
        for line in difflib.unified_diff(
            before, text_outputs(notebook), "before", "after", n=0, lineterm=""
        ):
            print("   ", line[:160])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("number")
    one.add_argument("--task", default="phantom")
    many = commands.add_parser("refresh")
    many.add_argument("numbers", nargs="*")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.number, arguments.task)
    else:
        refresh(arguments.numbers)


if __name__ == "__main__":
    main()
