"""One small pattern for every interactive figure: labelled controls, one image, and a static figure for those who only read."""

from __future__ import annotations

from collections.abc import Callable

import anywidget
import ipywidgets as ipw
import matplotlib.pyplot as plt
import traitlets

from .data import Split
from .plots import BLUE, GREY, INK, ORANGE, figure_html, show

Draw = Callable[..., tuple[plt.Figure, str]]  # (value of each control) -> (figure, its text alternative)


class Slider(anywidget.AnyWidget):
    """The browser's own slider, with a label that screen readers hear (the handle of ipywidgets' slider has none).

    Reports when it is let go, or at each arrow key. `value` is a whole number; with `options` it is an index into them.
    """

    _esm = """
    export default { render({ model, el }) {
      const label = document.createElement("label"), input = document.createElement("input"), output = document.createElement("output");
      input.type = "range";
      for (const key of ["min", "max", "step"]) input[key] = model.get(key);
      const words = (value) => model.get("options")[value] ?? String(value);
      const show = (value) => { output.textContent = " " + words(value); input.setAttribute("aria-valuetext", words(value)); };
      const update = () => { input.value = model.get("value"); show(model.get("value")); };
      input.addEventListener("input", () => show(Number(input.value)));
      input.addEventListener("change", () => { model.set("value", Number(input.value)); model.save_changes(); });
      model.on("change:value", update);
      input.dataset.lmSuppressShortcuts = "true";  // else JupyterLab takes the arrow keys for itself
      label.append(model.get("label") + " ", input);
      el.append(label, output);
      update();
    } };
    """
    label = traitlets.Unicode().tag(sync=True)
    min = traitlets.Int(0).tag(sync=True)
    max = traitlets.Int(1).tag(sync=True)
    step = traitlets.Int(1).tag(sync=True)
    value = traitlets.Int(0).tag(sync=True)
    options = traitlets.List(traitlets.Unicode()).tag(sync=True)
    choices: list | None = None

    @property
    def chosen(self):
        """The value that a drawing function gets: the number, or the option it stands for."""
        return self.value if self.choices is None else self.choices[self.value]


def slider(label: str, low: int, high: int, value: int, step: int = 1) -> Slider:
    """A slider over whole numbers from `low` to `high`."""
    return Slider(label=label, min=low, max=high, value=value, step=step)


def choice(label: str, options: list) -> Slider:
    """A slider over a list of values, in their order; it starts at the first."""
    control = Slider(label=label, min=0, max=len(options) - 1, options=[str(o) for o in options])
    control.choices = list(options)
    return control


def _with_twin(control: Slider) -> ipw.HBox:
    """The slider with a second way to set it by keyboard: a number field, or a list of the options."""
    if control.choices is None:
        limits = {"min": control.min, "max": control.max, "step": control.step}
        twin = ipw.BoundedIntText(control.value, **limits, description="or type:", layout=ipw.Layout(width="11em"))
    else:
        pairs = [(text, index) for index, text in enumerate(control.options)]
        twin = ipw.Dropdown(options=pairs, value=control.value, description="or pick:", layout=ipw.Layout(width="13em"))
    ipw.link((control, "value"), (twin, "value"))
    return ipw.HBox([control, twin])


def explore(draw: Draw, static: bool = True, **controls: Slider) -> ipw.VBox:
    """Show `draw(**values)` as one image that follows the controls, and below it the static figure of their first values.

    `draw` returns (figure, text); the text becomes the caption and is read out by screen readers when it changes. A value
    that `draw` cannot handle shows its error message in place of the figure. Returns the box of widgets (for tests).
    """
    from IPython.display import HTML, display

    picture = ipw.HTML()

    def update(_change=None) -> None:
        try:
            picture.value = f'<div aria-live="polite">{figure_html(*draw(**{k: c.chosen for k, c in controls.items()}))}</div>'
        except (ValueError, IndexError, KeyError) as error:
            plt.close("all")
            picture.value = f'<p role="alert">{error}</p>'

    for control in controls.values():
        control.observe(update, "value")
    update()
    box = ipw.VBox([*(_with_twin(c) for c in controls.values()), picture])
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    words = "[Interactive figure: it needs a running kernel. The figure below shows its first setting.]"
    display({"application/vnd.jupyter.widget-view+json": view, "text/plain": words}, raw=True)
    if static:
        display(HTML("<p><em>The same at its first setting, for reading without a kernel:</em></p>"))
        show(*draw(**{k: c.chosen for k, c in controls.items()}))
    return box


def transfer_against_n(table: dict) -> ipw.VBox:
    """Number of labelled images -> what transfer buys on real images, official test set.

    `table`: data/results/breastmnist_transfer.json as a dict.
    """
    rows = {r["n_train"]: r for r in table["summary"] if r["metric"] == "auc" and r["test"] == "official"}

    def draw(n: int) -> tuple[plt.Figure, str]:
        fig, axis = plt.subplots(figsize=(6.5, 3.4))
        numbers = list(rows)
        axis.plot(numbers, [rows[k]["b"] for k in numbers], color=ORANGE, linestyle="--", marker="o", label="from scratch")
        axis.plot(numbers, [rows[k]["a"] for k in numbers], color=BLUE, linestyle="-", marker="o", label="transfer")
        row = rows[n]
        axis.plot([n, n], [row["b"], row["a"]], color=INK, linestyle="-", linewidth=3)
        axis.set_xscale("log")
        axis.set_xticks(numbers, [str(k) for k in numbers])
        axis.minorticks_off()
        gain = f"{row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
        axis.set(title=f"{n} labelled images: gain {gain}", xlabel="labelled images", ylabel="AUC")
        axis.legend(loc="lower right")
        text = f"With {n} labelled real images the AUC is {row['b']:.2f} from scratch and {row['a']:.2f} with transfer, a gain of {gain}."
        return fig, text

    return explore(draw, n=choice("labelled images", list(rows)))


def case_viewer(split: Split, probability) -> ipw.VBox:
    """Pick an image of a split -> the image, the probability of the positive class, and where it lies among all.

    `probability`: one number an image, e.g. predict(model, split)[:, split.positive].
    """
    probability = [float(p) for p in probability]
    positive = split.classes[split.positive]

    def draw(image: int) -> tuple[plt.Figure, str]:
        truth = split.classes[int(split.labels[image])]
        fig, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.7), width_ratios=[1, 1.7])
        left.imshow(split.images[image].permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255)
        left.set_title(f"image {image}", fontweight="normal")
        left.axis("off")
        right.hist(probability, bins=20, range=(0, 1), color=GREY)
        right.axvline(probability[image], color=BLUE, linestyle="-", linewidth=3)
        right.set(
            title=f"P({positive}) = {probability[image]:.2f}; truth: {truth}",
            xlabel=f"probability of {positive}",
            ylabel="images",
        )
        return fig, f"Image {image} gets a probability of {probability[image]:.2f} of being {positive}; in truth it is {truth}."

    return explore(draw, image=slider("test image", 0, len(split) - 1, 0))
