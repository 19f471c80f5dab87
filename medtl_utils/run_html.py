"""Pieces of HTML for the report of `medtl_utils.run`: text that is escaped, tables, figures."""

from __future__ import annotations

import html

from . import plots


def escape(text: object) -> str:
    """For HTML; characters without a shape are shown as codes."""
    shown = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in str(text))
    return html.escape(shown, quote=True)


def table(head: list[str], rows: list[list[object]], caption: str) -> str:
    """A table with a caption; the first cell of a row is its heading."""
    cells = lambda row, tag: "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{cells(row[1:], "td")}</tr>' for row in rows
    )
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def picture(draw, *arguments, **named) -> str:
    """What a function of `plots` shows in a notebook, as HTML."""
    kept, show = [], plots.show
    plots.show = lambda fig, text: kept.append(plots.figure_html(fig, text))
    try:
        draw(*arguments, **named)
    finally:
        plots.show = show
    return "".join(kept)
