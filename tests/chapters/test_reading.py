"""Every notebook keeps the rules of reading_rules.py.

Each rule is shown to bite: beside it stands a mistake that is planted in a copy of the template,
and must be found.
"""

import copy
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tests.chapters import reading_rules as rules
from tests.chapters.reading_rules import FOLDER, IGNORE, TEMPLATE, read

pytestmark = pytest.mark.check


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda r: r.__name__)
@pytest.mark.parametrize("path", [*rules.NOTEBOOKS, TEMPLATE], ids=lambda p: p.stem)
def test_notebook_keeps_the_rule(path, rule):
    assert list(rule(read(path), path)) == []


# ---- planted mistakes ---------------------------------------------------------------------------


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
    picture = f'<img alt="{alt}" src="data:image/png;base64,AA"/>'
    return {"text/html": f"<figure>{picture}<figcaption>{words}</figcaption></figure>"}


def printing(text, name="stdout", tag=None):
    """A mistake: a cell that printed `text`."""
    return lambda nb: plant(nb, shown(tag=tag, output_type="stream", name=name, text=text))


def displaying(data):
    """A mistake: a cell that displayed `data`."""
    return lambda nb: plant(nb, shown(output_type="display_data", data=data))


def saying(text):
    """A mistake: a Markdown cell."""
    return lambda nb: plant(nb, new_markdown_cell(text))


def coding(source, times=1):
    """A mistake: code cells that were not run."""
    return lambda nb: [plant(nb, new_code_cell(source)) for _ in range(times)]


def folding(source):
    """A mistake: a folded cell."""
    hidden = {"jupyter": {"source_hidden": True}}
    return lambda nb: plant(nb, new_code_cell(source, metadata=hidden))


def replacing(old, new):
    """A mistake: other words in the template."""
    return lambda nb: replace_text(nb, old, new)


ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
ALT = "Figure: a title"
WORDS = "In words: what the figure shows, for a reader who cannot see it."
UNCOMPARED = printing("0.91", tag=IGNORE)
PLANTED = [
    (rules.headings, saying("# A second title")),
    (rules.headings, saying("## Two\n\n#### Four")),
    (rules.header_and_sections, replacing("## What can go wrong", "## Pitfalls")),
    (rules.header_and_sections, replacing("seconds with one thread", "SECONDS with one thread")),
    (rules.header_and_sections, lambda nb: [c.metadata.pop("tags", None) for c in nb.cells]),
    (rules.header_and_sections, replacing("SEED =", "seed =")),
    (rules.exercises, replacing("answer = ...", "answer = 42")),
    (rules.executed, coding("print(1)")),
    (rules.executed, lambda nb: nb.cells.reverse()),
    (rules.clean_outputs, printing("careful", name="stderr")),
    (rules.clean_outputs, lambda nb: plant(nb, shown(**ERROR))),
    (rules.clean_outputs, printing("FutureWarning: soon")),
    (rules.images_have_words, saying("![](figure.png)")),
    (rules.images_have_words, displaying({"image/png": "AA"})),
    (rules.images_have_words, displaying(figure("", WORDS))),
    (rules.images_have_words, displaying(figure(ALT, ""))),
    (rules.links_are_alive, saying("[gone](99_nowhere.ipynb)")),
    (rules.links_are_alive, saying("[gone](GLOSSARY.md#no-such-term)")),
    (rules.nothing_private, printing("/home/ann/data.csv")),
    (rules.nothing_private, lambda nb: nb.metadata.update(widgets={"state": {}})),
    (rules.outputs_are_compared, lambda nb: [UNCOMPARED(nb) for _ in range(9)]),
    (rules.cells_are_small, coding("x = 1\n" * 26)),
    (rules.cells_are_small, coding("x = 1\n" * 16, times=3)),
    (rules.cells_are_small, folding("fig, axis = plt.subplots()\nplots.show(fig, 'a line')")),
    (rules.cells_are_small, folding("# draws: nothing\nx = 1")),
    (
        rules.cells_are_small,
        folding("# draws: a line\nplots.show(fig, 'a line')\n" + "x = 1\n" * 50),
    ),
    (rules.lines_fit_the_page, coding("x = " + "1 + " * 24 + "1")),
    (rules.stated_checks_hold, printing("identical logits: False")),
    (rules.prose_before_code, coding("x = 1", times=5)),
    (rules.stable_ids, lambda nb: nb.cells[0].update(id=nb.cells[1].id)),
    (rules.stable_ids, lambda nb: nb.cells[0].update(id="8f3c2a1b")),
]


@pytest.mark.parametrize(
    ("rule", "mistake"), PLANTED, ids=[f"{i}-{r.__name__}" for i, (r, _) in enumerate(PLANTED)]
)
def test_the_rule_bites(rule, mistake):
    notebook = copy.deepcopy(read(TEMPLATE))
    assert list(rule(notebook, TEMPLATE)) == []
    mistake(notebook)
    assert list(rule(notebook, TEMPLATE))


def test_the_longest_line_that_fits():
    notebook = copy.deepcopy(read(TEMPLATE))
    plant(notebook, new_code_cell("x" * 100))
    assert not list(rules.lines_fit_the_page(notebook, TEMPLATE))
    plant(notebook, new_code_cell("x" * 101))
    assert list(rules.lines_fit_the_page(notebook, TEMPLATE))


def test_the_size_rule_bites():
    """Words of prose count; solutions, Chinese, tables, formulas and code do not."""
    core, deep = FOLDER / "03_loss.ipynb", FOLDER / "03_loss_deep.ipynb"
    other = "<details>" + "word " * 900 + "</details>\n\n| " + "word " * 900 + "|\n\n`a b c`"
    other += '\n\n<details lang="zh-CN">' + "字 " * 900 + "</details>"

    def found(path, n_words, n_cells):
        notebook = nbformat.v4.new_notebook(cells=[new_markdown_cell("word " * n_words + other)])
        notebook.cells += [new_code_cell("x = 1") for _ in range(n_cells)]
        return list(rules.chapters_are_short(notebook, path))

    assert not found(core, 1800, 22) and not found(deep, 2000, 30)
    assert len(found(core, 1801, 23)) == len(found(deep, 2001, 31)) == 2


def test_the_glossary_rule_bites():
    glossary = '| <a id="odds"></a>odds | 比值 | p / (1 - p). | 99 |'

    def found(text):
        notebook = nbformat.v4.new_notebook(cells=[new_markdown_cell(text)])
        return list(rules.glossary_terms_linked(notebook, FOLDER / "99_x.ipynb", glossary))

    assert not found("The [odds](GLOSSARY.md#odds) (比值), again odds.")
    assert not found('<details lang="zh-CN">odds</details> [odds](GLOSSARY.md#odds) (比值)')
    assert found("The odds first, and [odds](GLOSSARY.md#odds) later.")
    assert found("The odds.")


def test_glossary_is_sorted_and_complete():
    rows = rules.TERM.findall(rules.GLOSSARY)
    names = [term.strip().lower() for _, term, *_ in rows]
    assert len(rows) >= 20 and names == sorted(names) and len(set(names)) == len(names)
    for anchor, term, chinese, sentence, *_ in rows:
        assert re.search(r"[\u4e00-\u9fff]", chinese), term
        assert sentence.strip().endswith(".") and len(sentence) > 30, term
        name = term.strip().lower().removeprefix("model ") if anchor == "evidence" else term.strip()
        assert anchor == name.lower().replace(" ", "-"), term  # "evidence" is older than its name
