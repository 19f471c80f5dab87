"""What keeps the notebooks good: every rule is a function from a notebook to what breaks it.

A rule takes the notebook and its path, and yields a sentence for each place that breaks it.
"""

import re

import nbformat

from tests.conftest import ROOT

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
TEMPLATE = FOLDER / "template.ipynb"
GLOSSARY = (FOLDER / "GLOSSARY.md").read_text()
COLUMNS = 100
HEADER = ("**After this notebook you can**", "| You need |", "| To teach |", "| To run |")
IGNORE = "nbval-ignore-output"
SECTIONS = (
    "What can go wrong",
    "Summary",
    "Exercises",
    "Copy into your own research",
    "References",
)
DEEP_SECTIONS = ("Summary", "References")
# sizes: words of prose, code cells
CORE, DEEP = (1800, 22), (2000, 30)
LONGER = {"05_fine_tune_resnet": (2500, 40)}
# anchor, term, Chinese name with pinyin, English sentence, Chinese sentence ("" if none), number
TERM = re.compile(r'<a id="([\w-]+)"></a>([^|]+)\|([^|]+)\|([^|]+)\|(?:([^|\n]+)\|)?\s*(\d\d)')
CHINESE = re.compile(
    r'<details lang="zh-CN">.*?</details>', re.S
)  # tests/chapters/chinese_rules.py


def read(path):
    return nbformat.read(path, 4)


def prose(nb) -> list[tuple[str, str]]:
    """(cell id, text) of the Markdown cells, without code blocks and formulas."""
    clean = lambda s: re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", " ", s, flags=re.S)
    return [(c.id, clean(c.source)) for c in nb.cells if c.cell_type == "markdown"]


def code(nb) -> list:
    return [c for c in nb.cells if c.cell_type == "code"]


def is_deep(path) -> bool:
    """A deep dive: beside a core, without exercises and copy cell of its own."""
    return path.stem.endswith("_deep")


def words(nb) -> int:
    """Words of prose, outside tables, formulas, code, folded solutions and Chinese."""
    text = CHINESE.sub(" ", "\n\n".join(t for _, t in prose(nb)))
    text = re.sub(r"<details>.*?</details>", " ", text, flags=re.S)
    text = re.sub(r"^\s*\|.*$", "", text, flags=re.M)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def html(output) -> str:
    return str(output.get("data", {}).get("text/html", ""))


# ---- the rules ---------------------------------------------------------------------------------


def headings(nb, path):
    heading = re.compile(r"^(#{1,6}) (.+)$", re.M)
    found = [(i, len(m), t) for i, text in prose(nb) for m, t in heading.findall(text)]
    levels = [level for _, level, _ in found]
    if levels.count(1) != 1 or levels[:1] != [1]:
        yield f"{levels.count(1)} H1 headings; exactly one is wanted, first"
    for (_, above, _), (cell, level, title) in zip(found, found[1:]):
        if level > above + 1:
            yield f"{cell}: heading {title!r} jumps from level {above} to {level}"


def header_and_sections(nb, path):
    text = "\n".join(t for _, t in prose(nb))
    for what in (*HEADER, *(f"\n## {s}" for s in (DEEP_SECTIONS if is_deep(path) else SECTIONS))):
        if what not in text:
            yield f"missing: {what.strip()}"
    if re.search(r"SECONDS|MEMORY", text):
        yield "seconds or memory not filled in"
    for tag in ("parameters",) if is_deep(path) else ("parameters", "copy"):
        if sum(tag in tags(c) for c in code(nb)) != 1:
            yield f"exactly one cell tagged {tag!r} is wanted"
    parameters = next((c.source for c in code(nb) if "parameters" in tags(c)), "")
    for name in ("TASK", "SOURCE", "SEED"):
        if not re.search(rf"^{name} =", parameters, re.M):
            yield f"no parameter {name}"


def exercises(nb, path):
    stubs = [
        c
        for c in code(nb)
        if re.search(r'^answer = \.\.\.\ncheck\("[\w.]+", answer\)$', c.source.strip())
    ]
    checks = sum("check(" in c.source and "def check" not in c.source for c in code(nb))
    solved = re.findall(
        r"<details><summary>Solution ([\w.]+)</summary>\s*```python\n",
        "\n".join(c.source for c in nb.cells),
    )
    if len(stubs) < 3 and path != TEMPLATE and not is_deep(path) or checks != len(stubs):
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
        for target in re.findall(r"!\[\s*\]\(([^)]*)\)", text):
            yield f"{cell}: image {target!r} without alt text"
        for tag in re.findall(r"<img[^>]*>", text):
            if 'alt="' not in tag:
                yield f"{cell}: <img> without alt"
    for cell in code(nb):
        for output in cell.outputs:
            yield from (f"{cell.id}: {what}" for what in without_words(output))


def without_words(output):
    if any(key.startswith("image/") for key in output.get("data", {})):
        yield "figure without a text alternative; use plots.show(fig, text)"
    page = html(output)
    for tag in re.findall(r"<img[^>]*>", page):
        if not re.search(r'alt="[^"]{8,}"', tag):
            yield "<img> without alt text"
    if "<img" in page and not re.search(r"<figcaption[^>]*>.{30,}</figcaption>", page, re.S):
        yield "figure without words below it"


def links_are_alive(nb, path):
    for cell, text in prose(nb):
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"https?:", target) and not is_alive(target, path):
                yield f"{cell}: dead link {target}"


def is_alive(target: str, path) -> bool:
    """Whether a link to a file, or to an anchor of a Markdown file, leads somewhere."""
    file, _, anchor = target.partition("#")
    goal = FOLDER / file if file else path
    if not goal.exists():
        return False
    return not anchor or goal.suffix != ".md" or f'id="{anchor}"' in goal.read_text()


def nothing_private(nb, path):
    state = "application/vnd.jupyter.widget-state+json"
    if "widgets" in nb.metadata or any(state in str(c) for c in nb.cells):
        yield "widget state is saved"
    places = re.compile(r"(?<![\w.])(?:/home/\w+|/root/|/work/|/tmp/|/Users/\w+|[A-Z]:\\+Users)")
    for cell in nb.cells:
        for found in places.findall(cell.source + str(cell.get("outputs", ""))):
            yield f"{cell.id}: absolute path {found}"


def glossary_terms_linked(nb, path, glossary=GLOSSARY):
    """Each term that this notebook introduces is linked where it first stands in English prose.

    The glossary says which terms these are.
    """
    text = "\n".join(re.sub(r"^#+ .*$|^\|.*$", "", t, flags=re.M) for _, t in prose(nb))
    text = CHINESE.sub(" ", text)
    beside = [p for p in NOTEBOOKS if p.name[:2] == path.name[:2] and p != path]
    elsewhere = "\n".join(p.read_text() for p in beside)  # deep dive, lab
    for anchor, term, *_, number in TERM.findall(glossary):
        if number != path.name[:2]:
            continue
        link = text.find(f"(GLOSSARY.md#{anchor})")
        first = re.search(rf"\b{re.escape(term.strip())}\b", text, re.I)
        if link < 0 and f"(GLOSSARY.md#{anchor})" in elsewhere:
            continue
        if link < 0:
            yield f"term {term.strip()!r} is not linked to the glossary"
        elif first and first.end() + 4 < link and "](" not in text[first.end() : first.end() + 2]:
            place = text[first.start() - 30 : first.end() + 10]
            yield f"term {term.strip()!r} stands unlinked before its link: {place!r}"


def outputs_are_compared(nb, path):
    logs = lambda c: any(re.search(r"epoch +\d+", str(o.get("text", ""))) for o in c.outputs)
    shown = [c for c in code(nb) if c.outputs and not logs(c)]
    compared = [c for c in shown if IGNORE not in tags(c)]
    if len(compared) < 0.7 * len(shown):
        others = [c.id for c in shown if c not in compared]
        yield f"only {len(compared)} of {len(shown)} outputs are compared, not {others}"


def folded(cell) -> bool:
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def cells_are_small(nb, path):
    """One idea a cell. Code that only draws is folded, says so, and may be longer."""
    sizes = {c.id: len(c.source.strip().splitlines()) for c in code(nb) if not folded(c)}
    copied = {c.id for c in code(nb) if "copy" in tags(c)}
    most = lambda cell: 30 if cell in copied else 25
    yield from (f"{cell}: {n} lines" for cell, n in sizes.items() if n > most(cell))
    if sum(n > 15 for n in sizes.values()) > 0.15 * len(sizes):
        yield f"too many cells over 15 lines: {[c for c, n in sizes.items() if n > 15]}"
    for cell in filter(folded, code(nb)):
        if not cell.source.startswith("# draws: ") or "plots.show" not in cell.source:
            yield f"{cell.id}: a folded cell says what it draws (# draws: ...), and only draws"
        if len(cell.source.strip().splitlines()) > 50:
            yield f"{cell.id}: a folded cell of over 50 lines"


def lines_fit_the_page(nb, path):
    for cell in code(nb):
        for line in cell.source.splitlines():
            if len(line) > COLUMNS:
                yield f"{cell.id}: a line of {len(line)} characters; at most {COLUMNS} fit"


def stated_checks_hold(nb, path):
    """A check that was printed as False would be compared, found equal, and stay wrong for ever."""
    for cell in code(nb):
        for output in cell.outputs:
            for line in re.findall(r"^.*: False\b.*$", str(output.get("text", "")), re.M):
                yield f"{cell.id}: {line}"


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


def chapters_are_short(nb, path):
    """A core is taught in an hour; what goes deeper is a deep dive."""
    most = DEEP if is_deep(path) else LONGER.get(path.stem, CORE)
    for what, count, limit in zip(
        ("words of prose", "code cells"), (words(nb), len(code(nb))), most
    ):
        if count > limit:
            yield f"{count} {what}, at most {limit} in {path.stem}"


RULES = (
    headings,
    header_and_sections,
    exercises,
    executed,
    clean_outputs,
    images_have_words,
    links_are_alive,
    nothing_private,
    glossary_terms_linked,
    outputs_are_compared,
    cells_are_small,
    lines_fit_the_page,
    stated_checks_hold,
    prose_before_code,
    stable_ids,
    chapters_are_short,
)
