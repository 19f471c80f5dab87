"""What keeps sixteen notebooks good: every rule is a function from a notebook to the places that break it.

Each rule is shown to bite: beside it stands a planted mistake that is made in a copy of the template, and must be found.
"""

import copy
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tests.conftest import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
TEMPLATE = FOLDER / "template.ipynb"
GLOSSARY = (FOLDER / "GLOSSARY.md").read_text()
IGNORE = "nbval-ignore-output"
SECTIONS = (
    "What can go wrong",
    "Summary",
    "Exercises",
    "Copy into your own research",
    "References",
)
TERM = re.compile(r'<a id="([\w-]+)"></a>([^|]+)\|([^|]+)\|([^|]+)\|\s*(\d\d)')


def read(path):
    return nbformat.read(path, 4)


def prose(nb) -> list[tuple[str, str]]:
    """(cell id, text) of the Markdown cells, without code blocks and formulas."""
    clean = lambda s: re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", " ", s, flags=re.S)
    return [(c.id, clean(c.source)) for c in nb.cells if c.cell_type == "markdown"]


def code(nb) -> list:
    return [c for c in nb.cells if c.cell_type == "code"]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def html(output) -> str:
    return str(output.get("data", {}).get("text/html", ""))


# ---- the rules --------------------------------------------------------------------------------------------------------------


def headings(nb, path):
    found = [
        (i, len(m), t)
        for i, text in prose(nb)
        for m, t in re.findall(r"^(#{1,6}) (.+)$", text, re.M)
    ]
    levels = [level for _, level, _ in found]
    if levels.count(1) != 1 or levels[:1] != [1]:
        yield f"{levels.count(1)} H1 headings; exactly one is wanted, first"
    for (_, above, _), (cell, level, title) in zip(found, found[1:]):
        if level > above + 1:
            yield f"{cell}: heading {title!r} jumps from level {above} to {level}"


def header_and_sections(nb, path):
    text = "\n".join(t for _, t in prose(nb))
    for what in (
        "**After this notebook you can**",
        "| You need |",
        "| To teach |",
        "| To run |",
        *(f"\n## {s}" for s in SECTIONS),
    ):
        if what not in text:
            yield f"missing: {what.strip()}"
    if re.search(r"SECONDS|MEMORY", text):
        yield "seconds or memory not filled in"
    for tag in ("parameters", "copy"):
        if sum(tag in tags(c) for c in code(nb)) != 1:
            yield f"exactly one cell tagged {tag!r} is wanted"
    parameters = next((c.source for c in code(nb) if "parameters" in tags(c)), "")
    yield from (
        f"no parameter {name}"
        for name in ("TASK", "SOURCE", "SEED")
        if not re.search(rf"^{name} =", parameters, re.M)
    )


def exercises(nb, path):
    stubs = [
        c
        for c in code(nb)
        if re.search(r'^answer = \.\.\.\ncheck\("[\d.]+", answer\)$', c.source.strip())
    ]
    checks = sum("check(" in c.source and "def check" not in c.source for c in code(nb))
    solved = re.findall(
        r"<details><summary>Solution ([\d.]+)</summary>\s*```python\n",
        "\n".join(c.source for c in nb.cells),
    )
    if len(stubs) < 3 and path != TEMPLATE or checks != len(stubs):
        yield f"{len(stubs)} exercises with an empty answer and a check; at least 3 are wanted"
    if path != TEMPLATE and len(solved) != len(stubs):
        yield f"{len(solved)} folded solutions for {len(stubs)} exercises"


def executed(nb, path):
    counts = [c.execution_count for c in code(nb)]
    if counts != list(range(1, len(counts) + 1)):
        yield "not executed from start to end in one run"


def clean_outputs(nb, path):
    for cell in code(nb):
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                yield f"{cell.id}: error or stderr output"
            if "Warning" in str(output.get("text", "")):
                yield f"{cell.id}: a warning in the output"


def images_have_words(nb, path):
    for cell, text in prose(nb):
        yield from (
            f"{cell}: image {t!r} without alt text"
            for t in re.findall(r"!\[\s*\]\(([^)]*)\)", text)
        )
        yield from (
            f"{cell}: <img> without alt"
            for t in re.findall(r"<img[^>]*>", text)
            if 'alt="' not in t
        )
    for cell in code(nb):
        for output in cell.outputs:
            if any(key.startswith("image/") for key in output.get("data", {})):
                yield f"{cell.id}: figure without a text alternative; use plots.show(fig, text)"
            for tag in re.findall(r"<img[^>]*>", html(output)):
                if not re.search(r'alt="[^"]{8,}"', tag):
                    yield f"{cell.id}: <img> without alt text"
            if "<img" in html(output) and not re.search(
                r"<figcaption[^>]*>.{30,}</figcaption>", html(output), re.S
            ):
                yield f"{cell.id}: figure without words below it"


def links_are_alive(nb, path):
    for cell, text in prose(nb):
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            file, _, anchor = target.partition("#")
            if re.match(r"https?:", target):
                continue
            goal = FOLDER / file if file else path
            if (
                not goal.exists()
                or anchor
                and goal.suffix == ".md"
                and f'id="{anchor}"' not in goal.read_text()
            ):
                yield f"{cell}: dead link {target}"


def nothing_private(nb, path):
    if "widgets" in nb.metadata or any(
        "application/vnd.jupyter.widget-state+json" in str(c) for c in nb.cells
    ):
        yield "widget state is saved"
    for cell in nb.cells:
        text = cell.source + str(cell.get("outputs", ""))
        for found in re.findall(
            r"(?<![\w.])(?:/home/\w+|/root/|/work/|/tmp/|/Users/\w+|[A-Z]:\\+Users)", text
        ):
            yield f"{cell.id}: absolute path {found}"


def glossary_terms_linked(nb, path, glossary=GLOSSARY):
    """Each term that the glossary says this notebook introduces is linked where it first stands in the prose."""
    text = "\n".join(re.sub(r"^#+ .*$|^\|.*$", "", t, flags=re.M) for _, t in prose(nb))
    for anchor, term, _chinese, _, number in TERM.findall(glossary):
        if number != path.name[:2]:
            continue
        link = text.find(f"(GLOSSARY.md#{anchor})")
        first = re.search(rf"\b{re.escape(term.strip())}\b", text, re.I)
        if link < 0:
            yield f"term {term.strip()!r} is not linked to the glossary"
        elif (
            first and first.end() + 2 < link - 2 and "](" not in text[first.end() : first.end() + 2]
        ):
            yield f"term {term.strip()!r} stands unlinked before its link: {text[first.start() - 30 : first.end() + 10]!r}"


def outputs_are_compared(nb, path):
    logs = lambda c: any(re.search(r"epoch +\d+", str(o.get("text", ""))) for o in c.outputs)
    shown = [c for c in code(nb) if c.outputs and not logs(c)]
    compared = [c for c in shown if IGNORE not in tags(c)]
    if len(compared) < 0.7 * len(shown):
        yield f"only {len(compared)} of {len(shown)} outputs are compared: {[c.id for c in shown if c not in compared]}"


def cells_are_small(nb, path):
    sizes = {c.id: len(c.source.strip().splitlines()) for c in code(nb)}
    yield from (f"{cell}: {n} lines" for cell, n in sizes.items() if n > 25)
    if sum(n > 15 for n in sizes.values()) > 0.15 * len(sizes):
        yield f"too many cells over 15 lines: {[c for c, n in sizes.items() if n > 15]}"


def lines_fit_the_page(nb, path):
    for cell in code(nb):
        yield from (
            f"{cell.id}: a line of {len(line)} characters"
            for line in cell.source.splitlines()
            if len(line) > 125
        )


def stated_checks_hold(nb, path):
    """A check that was printed as False would be compared, found equal, and stay wrong for ever."""
    for cell in code(nb):
        for output in cell.outputs:
            yield from (
                f"{cell.id}: {line}"
                for line in re.findall(r"^.*: False\b.*$", str(output.get("text", "")), re.M)
            )


def prose_before_code(nb, path):
    run = 0
    for cell in nb.cells:
        run = run + 1 if cell.cell_type == "code" else 0
        if run > 4:
            yield f"{cell.id}: {run} code cells in a row without a word between them"


def stable_ids(nb, path):
    ids = [c.id for c in nb.cells]
    if len(set(ids)) != len(ids) or not all(re.fullmatch(r"(text|code)-[\w-]+", i) for i in ids):
        yield "cell ids must be unique and of the form text-... or code-..."


RULES = [
    headings, header_and_sections, exercises, executed, clean_outputs, images_have_words, links_are_alive, nothing_private,
    glossary_terms_linked, outputs_are_compared, cells_are_small, lines_fit_the_page,
    stated_checks_hold, prose_before_code, stable_ids,
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
@pytest.mark.parametrize("path", [*NOTEBOOKS, TEMPLATE], ids=lambda p: p.stem)
def test_notebook_keeps_the_rule(path, rule):
    assert list(rule(read(path), path)) == []


# ---- planted mistakes -------------------------------------------------------------------------------------------------------


def plant(nb, cell):
    nb.cells.append(cell)


def shown(source="x", tag=None, **output):
    cell = new_code_cell(source, execution_count=99, outputs=[new_output(**output)])
    cell.metadata = {"tags": [tag]} if tag else {}
    return cell


def replace_text(nb, old, new):
    for cell in nb.cells:
        cell.source = cell.source.replace(old, new)


def figure(alt, words):
    return {
        "text/html": f'<figure><img alt="{alt}" src="data:image/png;base64,AA"/><figcaption>{words}</figcaption></figure>'
    }


LONG_ALT, LONG_WORDS = (
    "Figure: a title",
    "In words: what the figure shows, for a reader who cannot see it.",
)
PLANTED = [
    (headings, lambda nb: plant(nb, new_markdown_cell("# A second title"))),
    (headings, lambda nb: plant(nb, new_markdown_cell("## Two\n\n#### Four"))),
    (header_and_sections, lambda nb: replace_text(nb, "## What can go wrong", "## Pitfalls")),
    (header_and_sections, lambda nb: replace_text(nb, "about 5 seconds", "about SECONDS seconds")),
    (header_and_sections, lambda nb: [c.metadata.pop("tags", None) for c in nb.cells]),
    (header_and_sections, lambda nb: replace_text(nb, "SEED =", "seed =")),
    (exercises, lambda nb: replace_text(nb, "answer = ...", "answer = 42")),
    (executed, lambda nb: plant(nb, new_code_cell("print(1)"))),
    (executed, lambda nb: nb.cells.reverse()),
    (clean_outputs, lambda nb: plant(nb, shown(output_type="stream", name="stderr", text="careful"))),
    (clean_outputs, lambda nb: plant(nb, shown(output_type="error", ename="E", evalue="", traceback=[]))),
    (clean_outputs, lambda nb: plant(nb, shown(output_type="stream", name="stdout", text="FutureWarning: soon"))),
    (images_have_words, lambda nb: plant(nb, new_markdown_cell("![](figure.png)"))),
    (images_have_words, lambda nb: plant(nb, shown(output_type="display_data", data={"image/png": "AA"}))),
    (images_have_words, lambda nb: plant(nb, shown(output_type="display_data", data=figure("", LONG_WORDS)))),
    (images_have_words, lambda nb: plant(nb, shown(output_type="display_data", data=figure(LONG_ALT, "")))),
    (links_are_alive, lambda nb: plant(nb, new_markdown_cell("[gone](99_nowhere.ipynb)"))),
    (links_are_alive, lambda nb: plant(nb, new_markdown_cell("[gone](GLOSSARY.md#no-such-term)"))),
    (nothing_private, lambda nb: plant(nb, shown(output_type="stream", name="stdout", text="/home/ann/data.csv"))),
    (nothing_private, lambda nb: nb.metadata.update(widgets={"state": {}})),
    (outputs_are_compared, lambda nb: [plant(nb, shown(tag=IGNORE, output_type="stream", name="stdout", text="0.91")) for _ in range(9)]),
    (cells_are_small, lambda nb: plant(nb, new_code_cell("x = 1\n" * 26))),
    (cells_are_small, lambda nb: [plant(nb, new_code_cell("x = 1\n" * 16)) for _ in range(3)]),
    (lines_fit_the_page, lambda nb: plant(nb, new_code_cell("x = " + "1 + " * 40 + "1"))),
    (stated_checks_hold, lambda nb: plant(nb, shown(output_type="stream", name="stdout", text="identical logits: False"))),
    (prose_before_code, lambda nb: [plant(nb, new_code_cell("x = 1")) for _ in range(5)]),
    (stable_ids, lambda nb: nb.cells[0].update(id=nb.cells[1].id)),
    (stable_ids, lambda nb: nb.cells[0].update(id="8f3c2a1b")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "mistake"), PLANTED, ids=[f"{i}-{r.__name__}" for i, (r, _) in enumerate(PLANTED)]
)
def test_the_rule_bites(rule, mistake):
    notebook = copy.deepcopy(read(TEMPLATE))
    assert list(rule(notebook, TEMPLATE)) == []
    mistake(notebook)
    assert list(rule(notebook, TEMPLATE))


def test_the_glossary_rule_bites():
    glossary = '| <a id="odds"></a>odds | 比值 | p / (1 - p). | 99 |'
    linked = nbformat.v4.new_notebook(
        cells=[new_markdown_cell("The [odds](GLOSSARY.md#odds) (比值), again odds.")]
    )
    late = nbformat.v4.new_notebook(
        cells=[new_markdown_cell("The odds first, and [odds](GLOSSARY.md#odds) later.")]
    )
    never = nbformat.v4.new_notebook(cells=[new_markdown_cell("The odds.")])
    path = FOLDER / "99_x.ipynb"
    assert not list(glossary_terms_linked(linked, path, glossary))
    assert list(glossary_terms_linked(late, path, glossary)) and list(
        glossary_terms_linked(never, path, glossary)
    )


def test_glossary_is_sorted_and_complete():
    rows = TERM.findall((FOLDER / "GLOSSARY.md").read_text())
    names = [term.strip().lower() for _, term, *_ in rows]
    assert len(rows) >= 20 and names == sorted(names) and len(set(names)) == len(names)
    for anchor, term, chinese, sentence, _ in rows:
        assert re.search(r"[\u4e00-\u9fff]", chinese), term
        assert sentence.strip().endswith(".") and len(sentence) > 30, term
        assert anchor == term.strip().lower().replace(" ", "-"), term
