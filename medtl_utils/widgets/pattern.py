"""The pattern of an interactive figure: labelled controls, one image, and a static figure below.

A widget of a chapter is a function that returns `explore(draw, **controls)`. `draw` gets the value
of each control and returns (figure, text alternative).
"""

from __future__ import annotations

import html
from collections.abc import Callable

import anywidget
import ipywidgets as ipw
import matplotlib.pyplot as plt
import traitlets

from ..plots import figure_html, show

Draw = Callable[..., tuple[plt.Figure, str]]


class Slider(anywidget.AnyWidget):
    """The browser's own slider, and beside it a second way to set it: a number field, or a list.

    Each has a name that screen readers hear (the handle of ipywidgets' slider has none). A new
    value is reported when the handle is let go, at each arrow key, or when a typed number is
    entered. `value` is a whole number; with `options` it is an index into them.
    """

    _esm = """
    const element = (tag, properties) => Object.assign(document.createElement(tag), properties);
    export default { render({ model, el }) {
      const [name, options] = [model.get("label"), model.get("options")];
      const limits = { min: model.get("min"), max: model.get("max"), step: model.get("step") };
      const range = element("input", { type: "range", ...limits });
      const twin = options.length ? element("select")
        : element("input", { type: "number", ...limits });
      const hint = options.length ? "or pick" : "or type";
      options.forEach((text, index) => twin.append(new Option(text, index)));
      twin.setAttribute("aria-label", `${name}, ${hint}`);

      const output = element("output");
      const show = (value) => {
        const words = options[value] ?? String(value);
        output.textContent = ` ${words} `;
        range.setAttribute("aria-valuetext", words);
      };
      const update = () => {
        range.value = twin.value = model.get("value");
        show(model.get("value"));
      };
      const report = (event) => {
        if (event.target.value !== "") range.value = event.target.value;  // keeps to the limits
        model.set("value", Number(range.value));
        model.save_changes();
        update();
      };
      range.addEventListener("input", () => show(Number(range.value)));
      for (const control of [range, twin]) {
        control.addEventListener("change", report);
        control.dataset.lmSuppressShortcuts = "true";  // else JupyterLab takes the arrow keys
      }
      // inside JupyterLab, Enter alone does not make the browser send "change"
      twin.addEventListener("keydown", (event) => { if (event.key === "Enter") report(event); });
      model.on("change:value", update);

      const [first, second] = [element("label"), element("label")];
      second.style.marginLeft = "1em";
      first.append(`${name} `, range);
      second.append(`${hint}: `, twin);
      el.append(first, output, second);
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


class Picture(anywidget.AnyWidget):
    """HTML in a live region that stays; screen readers do not say a change that brings its own."""

    _esm = """
    export default { render({ model, el }) {
      const update = () => { el.innerHTML = model.get("value"); };
      el.setAttribute("aria-live", "polite");
      model.on("change:value", update);
      update();
    } };
    """
    value = traitlets.Unicode().tag(sync=True)


def slider(label: str, low: int, high: int, value: int, step: int = 1) -> Slider:
    """A slider over whole numbers from `low` to `high`."""
    return Slider(label=label, min=low, max=high, value=value, step=step)


def choice(label: str, options: list) -> Slider:
    """A slider over a list of values, in their order; it starts at the first."""
    control = Slider(label=label, min=0, max=len(options) - 1, options=[str(o) for o in options])
    control.choices = list(options)
    return control


def explore(draw: Draw, static: bool = True, **controls: Slider) -> ipw.VBox:
    """Show `draw(**values)` as one image that follows the controls, and a static figure below.

    `draw` returns (figure, text); the text becomes the caption, and screen readers say it when it
    changes. The static figure is that of the first values. For a value that `draw` cannot handle,
    its error message is shown in place of the figure. `static=False` leaves the static figure away.
    Returns the box of widgets: the controls, then the picture.
    """
    from IPython.display import HTML, display

    picture = Picture()

    def update(_change=None) -> None:
        picture.value = _figure_or_error(draw, controls)

    for control in controls.values():
        control.observe(update, "value")
    update()
    box = ipw.VBox([*controls.values(), picture])
    display(_view(box, "The figure below shows its first setting." if static else ""), raw=True)
    if static:
        words = "The same at its first setting, for reading without a kernel:"
        display(HTML(f"<p><em>{words}</em></p>"))
        show(*draw(**_values(controls)))
    return box


def _values(controls: dict[str, Slider]) -> dict:
    return {name: control.chosen for name, control in controls.items()}


def _figure_or_error(draw: Draw, controls: dict[str, Slider]) -> str:
    """HTML of the figure with its caption, or of the message of the error that `draw` raised."""
    try:
        return figure_html(*draw(**_values(controls)))
    except (ValueError, IndexError, KeyError) as error:
        plt.close("all")
        return f'<p role="alert">{html.escape(str(error))}</p>'


def _view(box: ipw.VBox, more: str) -> dict:
    """What is displayed: the widget, and a sentence for those without a kernel."""
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    words = f"Interactive figure: it needs a running kernel. {more}".strip()
    return {"application/vnd.jupyter.widget-view+json": view, "text/plain": f"[{words}]"}
