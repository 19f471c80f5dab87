"""What keeps a notebook readable elsewhere: on GitHub, in VS Code, and for weak eyes.

As in reading_rules.py, a rule takes a notebook and its path, and yields a sentence for each place
that breaks it. GitHub cannot be run here: these are the forms that its documentation and its users
name as not rendered. VS Code draws formulas with KaTeX and Markdown with markdown-it.
"""

import ast
import re
from collections.abc import Iterator

from matplotlib.colors import is_color_like, to_rgb

from medtl_utils import plots
from tests.chapters.reading_rules import code, html

FENCE = re.compile(r"```.*?```|`[^`\n]*`", re.S)
DISPLAY = re.compile(r"\$\$.*?\$\$", re.S)
# GitHub refuses the first ones ("macros are not allowed"); KaTeX knows not the others
MACROS = re.compile(
    r"\\(operatorname|newcommand|renewcommand|def|let|require|href|style|class|cssId|unicode"
    r"|mbox|bbox|eqref|ref|label|phantom|enclose|mathchoice)\b"
)
TAGS = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)\b[^>]*>")
ALLOWED = {"details", "summary", "a", "br", "sub", "sup", "img"}
CONTRAST = 4.5  # WCAG 2.2, 1.4.3, level AA
WORDS = {"text", "annotate", "set_title", "set_xlabel", "set_ylabel", "suptitle", "figtext"}
WORDS |= {"legend", "tick_params", "bar_label", "clabel"}
COLOURS = {"color", "c", "colors", "labelcolor"}
# words on a coloured cell: black or white, whichever its darkness asks for
TWO = re.compile(r"'(?:white|w)' if .+ else '(?:black|k)'")


def markdown(nb) -> Iterator[tuple[str, str]]:
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            yield cell.id, FENCE.sub("C", cell.source)


# ---- formulas ----------------------------------------------------------------------------------


def formulas(nb, path):
    """Macros, and dollars that one of the readers does not take for a formula."""
    for cell, text in markdown(nb):
        for macro in MACROS.findall(text):
            yield f"{cell}: \\{macro} is not drawn everywhere (for a name: \\mathrm)"
        for line in re.findall(r"^(.*)\$\$.*$", DISPLAY.sub("$$", text), re.M):
            if line.strip() or line.startswith((" ", "\t")):
                yield f"{cell}: $$ does not begin its line: {line[-40:]!r}"
        for paragraph in re.split(r"\n\s*\n", DISPLAY.sub("D", text)):
            yield from (f"{cell}: {what}" for what in inline(paragraph))


def inline(paragraph: str):
    parts = paragraph.split("$")
    if len(parts) % 2 == 0:
        yield f"a dollar without its partner: {paragraph[:60]!r}"
        return
    for before, formula, after in zip(parts[::2], parts[1::2], parts[2::2]):
        if formula != formula.strip() or "\n" in formula:
            yield f"a blank at the edge of a formula, or a new line in it: ${formula}$"
        if re.search(r"[A-Za-z0-9]\Z", before) or re.match(r"[A-Za-z0-9]", after):
            yield f"a formula that touches a word: {before[-9:]}${formula}${after[:9]}"


# ---- HTML --------------------------------------------------------------------------------------


def folded_parts(nb, path):
    """Markdown in <details> is read only after an empty line; each part ends in its own cell."""
    for cell, text in markdown(nb):
        depth = 0
        for line in text.split("\n"):
            if re.match(r"#{1,6} ", line) and depth:
                yield f"{cell}: a heading inside a folded part: {line}"
            depth += line.count("<details") - line.count("</details>")
        if depth:
            yield f"{cell}: a folded part that is not closed"
        for summary in re.findall(r"</summary>[ \t]*(?!\s*\n[ \t]*\n)[^\n]*", text):
            yield f"{cell}: no empty line after {summary[:40]!r}"
        for line in re.findall(r"^(.+)</?details", text, re.M):
            yield f"{cell}: <details> does not begin its line: {line[:40]!r}"


def plain_tags(nb, path):
    """GitHub removes styles, scripts and frames from Markdown; tables are written with pipes."""
    for cell, text in markdown(nb):
        text = re.sub(r"\$[^$]*\$", "M", DISPLAY.sub("D", text))
        for found in TAGS.finditer(text):
            if found[1].lower() not in ALLOWED or re.search(r"\bstyle=|\bon\w+=", found[0]):
                yield f"{cell}: {found[0][:60]} is not shown everywhere"


def headings_in_outputs(nb, path):
    """A heading in an output stands in no order with those of the text."""
    for cell in code(nb):
        for output in cell.outputs:
            for tag in re.findall(r"<h[1-6][^>]*>", html(output), re.I):
                yield f"{cell.id}: {tag} in an output"


def colours_are_the_themes(nb, path):
    """A colour in an output is right in one theme, and too pale in another."""
    for cell in code(nb):
        for output in cell.outputs:
            for style in re.findall(
                r"""style=["'][^"']*\b(?:color|background)[^"']*""", html(output)
            ):
                yield f"{cell.id}: {style[:60]}"


def shown_without_a_kernel(nb, path):
    """Each output has a form that a page without a kernel can show."""
    for cell in code(nb):
        for output in cell.outputs:
            data = output.get("data", {})
            if data and not {"text/plain", "text/html"} & set(data):
                yield f"{cell.id}: only {', '.join(data)}"
            if re.search(r"<script|<iframe", html(output), re.I):
                yield f"{cell.id}: a script, which GitHub and an untrusted notebook do not run"


# ---- contrast of the words in figures ------------------------------------------------------------


def contrast(colour, ground="white") -> float:
    """Ratio of WCAG 2.2 between two colours of Matplotlib, 1 to 21."""

    def luminance(name):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(name)]
        return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear))

    low, high = sorted((luminance(colour), luminance(ground)))
    return (high + 0.05) / (low + 0.05)


def faint_words(source: str) -> Iterator[str]:
    """Calls that write words into a figure in a colour too weak on white, or not known."""
    tree = ast.parse(re.sub(r"^[%!].*$", "pass", source, flags=re.M))
    named = {
        node.targets[0].id: ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in WORDS:
            for key in node.keywords:
                said = ast.unparse(key.value)
                if key.arg in COLOURS and not is_strong(named.get(said, said)):
                    yield f"line {node.lineno}: {node.func.attr} in {said}"


def is_strong(said: str) -> bool:
    if TWO.fullmatch(said):
        return True
    colour = getattr(plots, said.removeprefix("plots."), said.strip("'\""))
    return is_color_like(colour) and contrast(colour) >= CONTRAST


def words_in_figures(nb, path):
    for cell in code(nb):
        yield from (f"{cell.id}: {what}" for what in faint_words(cell.source))


RULES = (
    formulas,
    folded_parts,
    plain_tags,
    headings_in_outputs,
    colours_are_the_themes,
    shown_without_a_kernel,
    words_in_figures,
)
