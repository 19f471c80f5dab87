"""Figures with one message each, readable in grey, and a text alternative under every one."""

from __future__ import annotations

import base64
import html
import io
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import torch

from .data import Split

# Okabe & Ito's colour-blind-safe colours, ordered so that neighbours also differ in grey;
# line styles repeat the message
INK, BLUE, ORANGE, GREEN, GREY = "#222222", "#0072B2", "#E69F00", "#009E73", "#8A8A8A"
plt.rcParams.update(
    {
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": plt.cycler(
            color=[BLUE, ORANGE, GREEN, INK], linestyle=["-", "--", "-.", ":"]
        ),
        "figure.constrained_layout.use": True,
        "savefig.dpi": 110,
        "legend.frameon": False,
    }
)


def figure_html(fig: plt.Figure, text: str) -> str:
    """The figure as HTML: a PNG, its title as alt text, and `text` as caption; closes `fig`."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(fig)
    titles = [fig.get_suptitle(), *(axes.get_title() for axes in fig.axes)]
    title = next((t for t in titles if t), "") or text
    alt = html.escape("Figure: " + title.replace("\n", " "), quote=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        '<figure style="margin:0 0 1em 0">'
        f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{data}"/>'
        '<figcaption style="max-width:50em">'
        f"<em>In words:</em> {html.escape(text)}</figcaption></figure>"
    )


def show(fig: plt.Figure, text: str) -> None:
    """Show a Matplotlib figure in a notebook with its text alternative, and close it.

    `text`: what a reader who cannot see the figure must know: the axes and the message. Raises
    ValueError if it is empty.
    """
    from IPython.display import HTML, display

    if not text.strip():
        raise ValueError("Give show(fig, text) a sentence that says what the figure shows.")
    display(HTML(figure_html(fig, text)))


def plain(text: object) -> str:
    """A name of the reader's for a figure: dollars are no formula, all characters have a shape."""
    shown = str(text) if str(text).isprintable() else repr(str(text))[1:-1]
    return shown.replace("$", r"\$")


def draw_image(axis: plt.Axes, image: torch.Tensor) -> None:
    """One image of a split, uint8 (C, H, W), grey or RGB, on axes without ticks."""
    pixels = image.permute(1, 2, 0).squeeze(-1).numpy()
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    axis.axis("off")


def show_images(
    split: Split, n: int = 10, title: str = "", captions: list[str] | None = None, seed: int = 0
) -> None:
    """`n` images of a split, as many of each class, named by class; or all, named by `captions`."""
    if captions is None:
        split = split[_rows_of_each_class(split, n // len(split.classes), seed)]
        captions = [split.classes[label] for label in split.labels.tolist()]
    columns = min(len(split), 6)
    rows = -(-len(split) // columns)
    size = (1.55 * columns, 1.75 * rows + 0.3)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, caption in zip(axes.flat, split.images, captions):
        draw_image(axis, image)
        axis.set_title(plain(caption), fontsize=10, fontweight="normal")
    fig.suptitle(title, fontweight="bold")
    pixels = "×".join(map(str, split.images.shape[2:]))
    all_captions = ", ".join(captions)
    show(fig, f"{len(split)} images of the {split.name} set of {pixels} pixels: {all_captions}.")


def _rows_of_each_class(split: Split, each: int, seed: int) -> np.ndarray:
    """`each` random rows of every class, class by class."""
    rng, labels = np.random.default_rng(seed), split.labels.numpy()
    of_class = [np.flatnonzero(labels == c) for c in range(len(split.classes))]
    return np.concatenate([rng.permutation(rows)[:each] for rows in of_class])


def plot_intervals(
    rows: list[tuple[str, float, float, float]],
    title: str,
    xlabel: str,
    reference: float | None = None,
) -> None:
    """Points with whiskers for values with intervals: (label, value, low, high).

    One row each. Where all labels read "row: series" and every row has the same series, a row holds
    its series side by side, told apart by colour and marker.
    """
    names, series = _rows_and_series([row[0] for row in rows])
    height = 0.9 + (0.42 if len(series) == 1 else 0.12 + 0.2 * len(series)) * len(names)
    fig, axis = plt.subplots(figsize=(7.5, height + 0.3 * (len(series) > 1)))
    for number, (_label, value, low, high) in enumerate(rows):
        row, which = divmod(number, len(series))
        place = row + (which - (len(series) - 1) / 2) * 0.72 / len(series)
        color, marker = (BLUE, ORANGE, GREEN, GREY)[which % 4], "osD^"[which % 4]
        axis.plot([low, high], [place, place], color=color, linestyle="-", linewidth=2)
        face = INK if len(series) == 1 else color
        axis.plot(value, place, marker, color=face, label=None if row else series[which])
    if reference is not None:
        axis.axvline(reference, color=GREY, linestyle=":")
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.locator_params(axis="x", nbins=8)
    # over the whole width: long row labels leave the axes narrow
    fig.suptitle(title, fontsize=12, fontweight="bold")
    if len(series) == 1:
        fig.supxlabel(xlabel, fontsize=11)
    else:
        axis.set_xlabel(xlabel)  # the legend would lie on a label of the whole figure
        handles = [h for h in axis.lines if not h.get_label().startswith("_")]
        fig.legend(handles=handles, loc="outside lower center", ncols=len(series), fontsize=10)
    words = "; ".join(f"{name} {v:z.2f} ({a:z.2f} to {b:z.2f})" for name, v, a, b in rows)
    show(fig, f"{xlabel}, value and 95 % interval: {words}.")


def _rows_and_series(labels: list[str]) -> tuple[list[str], list[str]]:
    """Labels "row: series" taken apart, where each row has the same series; else one series."""
    pairs = [tuple(label.split(": ", 1)) for label in labels]
    names, series = (list(dict.fromkeys(part)) for part in zip(*((p[0], p[-1]) for p in pairs)))
    if 2 <= len(series) <= 4 and pairs == [(name, one) for name in names for one in series]:
        return names, series
    return labels, [""]


def plot_flow(
    steps: list[tuple[str, int, dict[str, int]]],
    title: str = "What was taken, and what was not",
    parts: dict[str, int] | None = None,
) -> None:
    """A flow diagram: one box a step, and beside it what was left out there and why.

    `steps`: (what, how many, reason -> how many were left out), as of `read_folder(path).flow`.
    `parts`: name -> number, such as of training, validation and test images; the last box.
    """
    boxes = [(f"{what}\n{n:,}", out) for what, n, out in steps]
    if parts:
        boxes.append(("\n".join(f"{name}: {n:,}" for name, n in parts.items()), {}))
    sides = ["\n".join(_reasons(out)) for _, out in boxes]
    heights = [
        0.5 + 0.2 * max(b.count("\n") + 1, s.count("\n") + 1) for (b, _), s in zip(boxes, sides)
    ]
    fig, axis = plt.subplots(figsize=(7.5, sum(heights) + 0.5))
    frame = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": INK}
    y = 0.0
    for number, ((text, _), side, height) in enumerate(zip(boxes, sides, heights)):
        middle = y - height / 2
        if number:
            above = y + heights[number - 1] / 2
            ends = [9.0 * (boxes[n][0].count("\n") + 1) + 4 for n in (number - 1, number)]
            arrow = {"arrowstyle": "->", "shrinkA": ends[0], "shrinkB": ends[1], "color": INK}
            axis.annotate("", (0.2, middle), (0.2, above), arrowprops=arrow)
        axis.text(0.2, middle, text, ha="center", va="center", fontsize=11, bbox=frame)
        if side:
            axis.plot([0.2, 0.42], [middle, middle], color=INK, linestyle="-", zorder=0)
            pale = frame | {"edgecolor": GREY}
            axis.text(0.43, middle, side, ha="left", va="center", fontsize=10, bbox=pale)
        y -= height
    axis.set(xlim=(0, 1.15), ylim=(y, 0))
    axis.axis("off")
    fig.suptitle(title, fontweight="bold")
    words = [
        f"{what}: {n:,}" + "".join(f"; {r}: {k:,}" for r, k in out.items())
        for what, n, out in steps
    ]
    words += [f"{name}: {n:,}" for name, n in (parts or {}).items()]
    show(fig, f"Flow diagram. {'. '.join(words)}.")


def _reasons(out: dict[str, int]) -> list[str]:
    """Lines for the box of what was left out, the most frequent first."""
    lines = []
    for reason, n in sorted(out.items(), key=lambda item: -item[1]):
        lines += textwrap.wrap(f"{n:,} {reason}", 52, subsequent_indent="    ")
    return lines
