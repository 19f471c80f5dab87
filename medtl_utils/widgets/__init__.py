"""One small pattern for every interactive figure: labelled controls, one image, and a static figure for those who only read."""

from __future__ import annotations

import math
from collections.abc import Callable

import anywidget
import ipywidgets as ipw
import matplotlib.pyplot as plt
import numpy as np
import traitlets

from ..data import Split
from ..plots import BLUE, GREEN, GREY, INK, ORANGE, figure_html, show

Draw = Callable[
    ..., tuple[plt.Figure, str]
]  # (value of each control) -> (figure, its text alternative)


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
        twin = ipw.BoundedIntText(
            control.value, **limits, description="or type:", layout=ipw.Layout(width="11em")
        )
    else:
        pairs = [(text, index) for index, text in enumerate(control.options)]
        twin = ipw.Dropdown(
            options=pairs,
            value=control.value,
            description="or pick:",
            layout=ipw.Layout(width="13em"),
        )
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
    words = (
        "[Interactive figure: it needs a running kernel. The figure below shows its first setting.]"
    )
    display({"application/vnd.jupyter.widget-view+json": view, "text/plain": words}, raw=True)
    if static:
        display(
            HTML("<p><em>The same at its first setting, for reading without a kernel:</em></p>")
        )
        show(*draw(**{k: c.chosen for k, c in controls.items()}))
    return box


def transfer_against_n(table: dict, test: str = "official") -> ipw.VBox:
    """Number of labelled images -> what each source of a kept table buys over training from scratch.

    `table`: data/results/breastmnist_evidence.json or learning_curve.json as a dict. `test`: which of its test sets, "official"
    or "twin-free" (real images) or "simulated". Raises ValueError where the table has no such test set.
    """
    rows: dict[str, dict[int, dict]] = {}
    for r in table["summary"]:
        if r["metric"] == "auc" and r["test"] == test:
            rows.setdefault(r.get("source", "transfer"), {})[r["n_train"]] = r
    if not rows:
        raise ValueError(
            f"No test set {test!r}. It has: {', '.join(sorted({r['test'] for r in table['summary']}))}."
        )
    first, kind = next(iter(rows.values())), "simulated" if test == "simulated" else "real"
    numbers = list(first)

    def draw(n: int) -> tuple[plt.Figure, str]:
        fig, axis = plt.subplots(figsize=(6.5, 3.4 + 0.2 * len(rows)))
        axis.plot(
            numbers,
            [first[k]["b"] for k in numbers],
            color=ORANGE,
            linestyle="--",
            marker="o",
            label="from scratch",
        )
        for (source, row), color, line in zip(rows.items(), (BLUE, GREEN), ("-", "-.")):
            axis.plot(
                numbers,
                [row[k]["a"] for k in numbers],
                color=color,
                linestyle=line,
                marker="o",
                label=source,
            )
        axis.axvline(n, color=GREY, linestyle=":")
        axis.plot([n, n], [first[n]["b"], first[n]["a"]], color=INK, linestyle="-", linewidth=3)
        axis.set_xscale("log")
        axis.set_xticks(numbers, [str(k) for k in numbers])
        axis.minorticks_off()
        gain = {
            s: f"{r[n]['difference']:+.2f} ({r[n]['low']:+.2f} to {r[n]['high']:+.2f})"
            for s, r in rows.items()
        }
        title = "\n".join(f"{f'{s}: ' if len(rows) > 1 else ''}gain {g}" for s, g in gain.items())
        axis.set(
            title=f"{n} labelled images{': ' if len(rows) == 1 else chr(10)}{title}",
            xlabel="labelled images",
            ylabel="AUC",
        )
        axis.legend(loc="lower right")
        words = "; ".join(f"{r[n]['a']:.2f} with {s}, a gain of {gain[s]}" for s, r in rows.items())
        return (
            fig,
            f"With {n} labelled {kind} images the AUC is {first[n]['b']:.2f} from scratch and {words}.",
        )

    return explore(draw, n=choice("labelled images", numbers))


def case_viewer(split: Split, probability) -> ipw.VBox:
    """Pick an image of a split -> the image, the probability of the positive class, and where it lies among all.

    `probability`: one number an image, e.g. predict(model, split)[:, split.positive].
    """
    probability = [float(p) for p in probability]
    positive = split.classes[split.positive]

    def draw(image: int) -> tuple[plt.Figure, str]:
        truth = split.classes[int(split.labels[image])]
        fig, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.7), width_ratios=[1, 1.7])
        left.imshow(
            split.images[image].permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255
        )
        left.set_title(f"image {image}", fontweight="normal")
        left.axis("off")
        right.hist(probability, bins=20, range=(0, 1), color=GREY)
        right.axvline(probability[image], color=BLUE, linestyle="-", linewidth=3)
        right.set(
            title=f"P({positive}) = {probability[image]:.2f}; truth: {truth}",
            xlabel=f"probability of {positive}",
            ylabel="images",
        )
        return (
            fig,
            f"Image {image} gets a probability of {probability[image]:.2f} of being {positive}; in truth it is {truth}.",
        )

    return explore(draw, image=slider("test image", 0, len(split) - 1, 0))


def posterior_by_descriptor(likelihoods: dict, values: dict, prevalence: int = 40) -> ipw.VBox:
    """What a lesion looks like, and how common the disease is -> P(malignant) by Bayes' rule, and what each descriptor says.

    `likelihoods`: name -> (P(value | benign), P(value | malignant)), `values`: name -> words, as in medtl_utils.phantom.
    `prevalence`: malignant patients in 100, where the slider starts.
    """
    signs = ("orientation", "calcifications", "halo")
    others = {
        "none": (0, 0, 0),
        "not parallel": (1, 0, 0),
        "calcifications": (0, 1, 0),
        "halo": (0, 0, 1),
        "all three": (1, 1, 1),
    }

    def draw(prevalence: int, others_present: str, **seen: str) -> tuple[plt.Figure, str]:
        index = {name: values[name].index(word) for name, word in seen.items()} | dict(
            zip(signs, others[others_present])
        )
        ratios = {
            name: likelihoods[name][1][k] / likelihoods[name][0][k] for name, k in index.items()
        }
        odds = prevalence / (100 - prevalence) * math.prod(ratios.values())
        probability = odds / (1 + odds)
        fig, axis = plt.subplots(figsize=(7, 3.2))
        bars = [math.log2(r) for r in ratios.values()]
        axis.barh(
            range(len(bars)), bars, color=[ORANGE if b > 0 else BLUE for b in bars], edgecolor=INK
        )
        axis.axvline(0, color=INK, linestyle="-", linewidth=1)
        axis.set_yticks(
            range(len(bars)), [f"{name}: {values[name][k]}" for name, k in index.items()]
        )
        axis.set_xticks(range(-4, 6, 2), ["1/16", "1/4", "1", "4", "16"])
        axis.set(
            xlim=(-5, 5.2), xlabel="likelihood ratio: left speaks against malignancy, right for it"
        )
        axis.invert_yaxis()
        fig.suptitle(
            f"P(malignant) = {probability:.2f} where {prevalence} in 100 are malignant",
            fontsize=12,
            fontweight="bold",
        )
        words = ", ".join(
            f"{name} {values[name][k]} {ratios[name]:.2f}" for name, k in index.items()
        )
        return (
            fig,
            f"Likelihood ratios: {words}. With {prevalence} malignant in 100, the probability of malignancy is {probability:.2f}.",
        )

    controls = {
        name: choice(name, list(words)) for name, words in values.items() if name not in signs
    }
    return explore(
        draw,
        **controls,
        others_present=choice("other signs", list(others)),
        prevalence=slider("prevalence, %", 1, 60, prevalence),
    )


def feature_maps(model, split: Split) -> ipw.VBox:
    """Choose a layer and an image -> the image, and the eight feature maps of that layer that vary most over the picture.

    `model`: a ResNet with its `normalisation`; it looks in evaluation mode and is left in the mode it was in.
    """
    import torch

    from ..models import BLOCKS

    def draw(layer: str, image: int) -> tuple[plt.Figure, str]:
        caught, mode = [], model.training
        module = model.maxpool if layer == "stem" else getattr(model, layer)
        handle = module.register_forward_hook(
            lambda _module, _inputs, output: caught.append(output[0])
        )
        with torch.no_grad():
            model.eval()(model.normalisation(split.images[[image]]))
        handle.remove()
        model.train(mode)
        maps = caught[0]
        chosen = maps.flatten(1).std(1).argsort(descending=True, stable=True)[:8].tolist()
        fig = plt.figure(figsize=(8.4, 3.5))
        grid = fig.add_gridspec(2, 6)
        axes = [
            fig.add_subplot(grid[:, :2]),
            *(fig.add_subplot(grid[k // 4, 2 + k % 4]) for k in range(8)),
        ]
        axes[0].imshow(
            split.images[image].permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255
        )
        truth = split.classes[int(split.labels[image])]
        axes[0].set_title(f"image {image}: {truth}", fontsize=11, fontweight="normal")
        for axis, channel in zip(axes[1:], chosen):
            axis.imshow(maps[channel].numpy(), cmap="gray")
            axis.set_title(f"channel {channel}", fontsize=10, fontweight="normal")
        for axis in axes:
            axis.axis("off")
        size = "×".join(map(str, maps.shape[1:]))
        fig.suptitle(f"{layer}: {len(maps)} feature maps of {size}", fontsize=12, fontweight="bold")
        silent = float((maps.flatten(1).amax(1) == 0).float().mean())
        text = (
            f"Image {image} ({truth}) and the eight of {len(maps)} feature maps of {layer} that vary most: channels "
            f"{', '.join(map(str, chosen))}, each of {size} squares, bright where the channel answers. {silent:.0%} of the maps "
            "are silent on this image (zero everywhere)."
        )
        return fig, text

    return explore(
        draw, layer=choice("layer", list(BLOCKS)), image=slider("image", 0, len(split) - 1, 0)
    )


def freeze_slider(model) -> ipw.VBox:
    """Freeze through a block -> what still learns and what stays, BatchNorm's statistics included; see `freeze`.

    `model`: a ResNet with its new head; it is only counted, not changed.
    """
    from ..models import BLOCKS, block_of

    weights, statistics = dict.fromkeys([*BLOCKS, "fc"], 0), dict.fromkeys([*BLOCKS, "fc"], 0)
    for name, parameter in model.named_parameters():
        weights[block_of(name)] += parameter.numel()
    for name, buffer in model.named_buffers():
        statistics[block_of(name)] += buffer.numel() * ("running" in name)

    def draw(through: str) -> tuple[plt.Figure, str]:
        frozen = [] if through == "nothing" else list(BLOCKS[: BLOCKS.index(through) + 1])
        fig, axis = plt.subplots(figsize=(8.4, 3.6))
        for height, block in enumerate(weights):
            still = block in frozen
            look = (
                {"facecolor": "#dbe9f6", "linestyle": "--"}
                if still
                else {"facecolor": ORANGE, "linestyle": "-"}
            )
            axis.add_patch(plt.Rectangle((0, height), 2.2, 0.85, edgecolor=INK, **look))
            axis.text(
                1.1,
                height + 0.42,
                "head (fc)" if block == "fc" else block,
                ha="center",
                va="center",
                color=INK,
            )
            fate = (
                f"FROZEN: {weights[block]:,} parameters and {statistics[block]:,} statistics stay"
            )
            moves = f"learns: {weights[block]:,} parameters" + (
                f", {statistics[block]:,} statistics follow" * (block != "fc")
            )
            axis.text(2.4, height + 0.42, fate if still else moves, va="center", color=INK)
        learn, stay = (
            sum(n for b, n in weights.items() if b not in frozen),
            sum(statistics[b] for b in frozen),
        )
        head = f"Frozen through {through}" if frozen else "Nothing frozen"
        axis.set_title(
            f"{head}: {learn:,} of {sum(weights.values()):,} parameters learn", loc="left"
        )
        axis.set(xlim=(-0.05, 8.4), ylim=(-0.1, len(weights)))
        axis.axis("off")
        text = (
            f"Six boxes from the stem, next to the image, up to the head. Frozen: {', '.join(frozen) or 'nothing'}. "
            f"{learn:,} of {sum(weights.values()):,} parameters learn; {stay:,} of {sum(statistics.values()):,} running means and "
            "variances of BatchNorm are held still."
        )
        return fig, text

    return explore(draw, through=choice("frozen through", ["nothing", *BLOCKS]))


def loss_curves() -> ipw.VBox:
    """Class weight and gamma -> what a case costs and how hard it pulls on its logit, by the probability of its truth.

    Two classes, natural logarithm. Focal loss: Lin et al., ICCV 2017; label smoothing (0.1): Szegedy et al., CVPR 2016.
    """
    p = np.linspace(0.01, 0.99, 99)
    cross, smooth = -np.log(p), -0.95 * np.log(p) - 0.05 * np.log(1 - p)

    def draw(weight: float, gamma: float) -> tuple[plt.Figure, str]:
        focal = weight * (1 - p) ** gamma * cross
        pull = weight * ((1 - p) ** gamma + gamma * p * (1 - p) ** (gamma - 1) * cross) * (1 - p)
        fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.3))
        name = f"focal, weight {weight}, gamma {gamma}"
        lines = [
            ("cross-entropy", GREY, ":", cross, 1 - p),
            ("smoothing 0.1", ORANGE, "--", smooth, 0.95 - p),
        ]
        for label, color, style, cost, slope in [*lines, (name, BLUE, "-", focal, pull)]:
            left.plot(
                p,
                cost,
                color=color,
                linestyle=style,
                linewidth=2.5 if style == ":" else 1.8,
                label=label,
            )
            right.plot(
                p, slope, color=color, linestyle=style, linewidth=2.5 if style == ":" else 1.8
            )
        right.axhline(0, color=INK, linestyle="-", linewidth=0.7)
        left.set(
            title="What a case costs", xlabel="probability of the truth", ylabel="loss", ylim=(0, 5)
        )
        right.set(
            title="How hard it pulls on its logit",
            xlabel="probability of the truth",
            ylabel="pull upwards",
        )
        left.legend()
        low = -0.2 * max(1.0, pull.max())
        right.annotate(
            "smoothing pulls back",
            (0.98, -0.03),
            (0.4, low / 2),
            arrowprops={"arrowstyle": "->"},
            va="center",
            fontsize=10,
        )
        right.set_ylim(low, None)
        at = {q: int(np.abs(p - q).argmin()) for q in (0.1, 0.9)}
        words = [
            f"at {q:.1f} it costs {focal[k]:.3f} (cross-entropy {cross[k]:.3f}) and pulls {pull[k]:.3f} ({1 - p[k]:.3f})"
            for q, k in at.items()
        ]
        return (
            fig,
            f"Class weight {weight}, gamma {gamma}, by the probability of the truth: {'; '.join(words)}. Smoothing pulls back above 0.95.",
        )

    power = choice("gamma", [0, 1, 2, 3, 5])
    power.value = 2
    return explore(draw, weight=choice("class weight", [1, 2, 5]), gamma=power)


def gradient_descent_path(H, theta_star, theta_0, steps: int = 40) -> ipw.VBox:
    """Learning rate and momentum -> the path of gradient descent on the bowl (θ - θ*)ᵀH(θ - θ*)/2, and its loss per step.

    `H`: (2, 2), symmetric, positive definite; `theta_star`, `theta_0`: (2,), minimum and start. The learning rate is given in % of
    2/λ_max, above which plain gradient descent diverges; with momentum β (Polyak 1964) the bound is (1 + β) times as high.
    """
    H, theta_star, theta_0 = (np.asarray(a, dtype=float) for a in (H, theta_star, theta_0))
    if H.shape != (2, 2) or not np.allclose(H, H.T) or np.linalg.eigvalsh(H).min() <= 0:
        raise ValueError(
            "H must be a symmetric 2 × 2 matrix with positive eigenvalues: the Hessian of a bowl."
        )
    bound = 2 / np.linalg.eigvalsh(H).max()
    height = lambda theta: np.einsum("...i,ij,...j", theta - theta_star, H, theta - theta_star) / 2

    def path(alpha: float, beta: float) -> np.ndarray:
        theta, v = [theta_0], np.zeros(2)
        for _ in range(steps):
            v = beta * v + H @ (theta[-1] - theta_star)
            theta.append(theta[-1] - alpha * v)
        return np.array(theta)

    shares, reach = np.arange(5, 206, 5) / 100, 1.5 * np.abs(theta_0 - theta_star).max()
    x, y = np.meshgrid(*(np.linspace(c - reach, c + reach, 80) for c in theta_star))

    def draw(percent: int, beta: float) -> tuple[plt.Figure, str]:
        walk, limit = path(percent / 100 * bound, beta), 100 * (1 + beta)
        loss, ends = height(walk), [height(path(share * bound, beta)[-1]) for share in shares]
        fig, axes = plt.subplot_mosaic("ab;ac", figsize=(9, 4.4), width_ratios=[1.15, 1])
        levels = height(theta_0) * np.geomspace(0.003, 3, 9)
        axes["a"].contour(
            x, y, height(np.stack([x, y], -1)), levels=levels, colors=GREY, linewidths=0.8
        )
        axes["a"].plot(*walk.T, color=BLUE, marker="o", markersize=4, linestyle="-", linewidth=1)
        axes["a"].plot(*theta_star, color=ORANGE, marker="*", markersize=13, linestyle="none")
        axes["a"].set(
            xlim=theta_star[0] + reach * np.array([-1, 1]),
            ylim=theta_star[1] + reach * np.array([-1, 1]),
            xlabel="θ₁",
            ylabel="θ₂",
        )
        axes["b"].semilogy(np.maximum(loss, 1e-12), color=BLUE, linestyle="-")
        axes["b"].set(xlabel="step", ylabel="loss - minimum", ylim=(1e-8, 1e4))
        axes["c"].semilogy(100 * shares, np.maximum(ends, 1e-12), color=INK, linestyle="-")
        axes["c"].plot(percent, max(loss[-1], 1e-12), "o", color=BLUE, markersize=8)
        axes["c"].axvline(limit, color=ORANGE, linestyle="--")
        axes["c"].set(
            xlabel="rate, % of 2/λ_max (dashed: bound)",
            ylabel=f"at step {steps}",
            ylim=(1e-12, 1e8),
        )
        verdict = (
            "converges"
            if percent < limit
            else "stays on the edge"
            if percent == limit
            else "diverges"
        )
        fig.suptitle(
            f"α = {percent} % of 2/λ_max, momentum {beta}: {verdict}",
            fontsize=12,
            fontweight="bold",
        )
        return fig, (f"Learning rate {percent} % of 2/λ_max, momentum {beta}; the bound is {limit:.0f} %. In {steps} steps the loss above its "
                     f"minimum goes from {loss[0]:.3g} to {loss[-1]:.3g}: it {verdict}.")  # fmt: skip

    return explore(
        draw,
        percent=slider("learning rate, % of 2/λ_max", 10, 200, 50, 10),
        beta=choice("momentum", [0, 0.5, 0.9]),
    )


def threshold_explorer(scores, split: Split, start: int = 50) -> ipw.VBox:
    """Move the threshold and the prevalence -> 1,000 people sorted into found, missed, false alarm and cleared, and the four rates.

    `scores`: probabilities (N, 2) as from `predict`, on an opened test set. `start`: the threshold in percent. Sensitivity and
    specificity are the split's; predictive values follow by Bayes' rule; percentile bootstrap intervals over patients.
    """
    from ..evaluation import _bootstrap_weights, _units

    probability, y = np.asarray(scores)[:, split.positive], (split.labels == split.positive).numpy()
    unit, stratum = _units(split)
    drawn = _bootstrap_weights(stratum, 500, np.random.default_rng(0))
    weights = np.concatenate([np.ones((1, len(stratum))), drawn])[
        :, unit
    ]  # the first row is the test set as it is
    share = lambda event, among: weights[:, among] @ event[among] / weights[:, among].sum(1)
    looks = {
        "found": (ORANGE, "s", 16),
        "missed": (INK, "X", 34),
        "false alarms": (BLUE, "^", 22),
        "cleared": (GREY, ".", 8),
    }

    def draw(threshold: int, prevalence: float) -> tuple[plt.Figure, str]:
        called, ill = probability >= threshold / 100, prevalence / 100
        rates = {"sensitivity": share(called, y), "specificity": share(~called, ~y)}
        found, alarms = rates["sensitivity"] * ill, (1 - rates["specificity"]) * (1 - ill)
        with np.errstate(invalid="ignore"):  # nobody positive: no predictive value
            rates |= {
                "PPV": found / (found + alarms),
                "NPV": (1 - ill - alarms) / (1 - found - alarms),
            }
        n_ill, n_found = round(1000 * ill), round(1000 * ill * rates["sensitivity"][0])
        n_alarms = round((1000 - n_ill) * (1 - rates["specificity"][0]))
        counts = dict(zip(looks, (n_found, n_ill - n_found, n_alarms, 1000 - n_ill - n_alarms)))
        fig, (left, right) = plt.subplots(1, 2, figsize=(8.8, 4.3), width_ratios=[1.5, 1])
        places = np.split(np.arange(1000), np.cumsum(list(counts.values()))[:-1])
        for at, (name, (color, marker, size)) in zip(places, looks.items()):
            left.scatter(
                at % 50, -(at // 50), c=color, marker=marker, s=size, label=f"{counts[name]} {name}"
            )
        left.legend(
            loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=2, fontsize=11, markerscale=1.4
        )
        left.axis("off")
        rows = {}  # value, low, high in percent; nan where nobody is positive
        for name, v in rates.items():
            rows[name] = 100 * np.array(
                [
                    v[0],
                    *np.quantile(v[np.isfinite(v)] if np.isfinite(v).any() else v, [0.025, 0.975]),
                ]
            )
        said = {
            name: f"{v:.1f} % ({low:.1f} to {high:.1f})" for name, (v, low, high) in rows.items()
        }
        right.hlines(
            range(4),
            [r[1] for r in rows.values()],
            [r[2] for r in rows.values()],
            color=BLUE,
            linewidth=2,
        )
        right.plot([r[0] for r in rows.values()], range(4), "o", color=INK)
        right.set_yticks(range(4), [f"{name}\n{words}" for name, words in said.items()])
        right.set(xlim=(-2, 102), ylim=(3.5, -0.5), xlabel="percent, 95 % interval")
        fig.suptitle(
            f"1,000 people, {n_ill} ill; positive from {threshold} % on",
            fontsize=12,
            fontweight="bold",
        )
        sorted_into = ", ".join(f"{n} {name}" for name, n in counts.items())
        rest = "; ".join(f"{name} {words}" for name, words in said.items())
        return (
            fig,
            f"Of 1,000 people {n_ill} are ill. With a threshold of {threshold} %: {sorted_into}. {rest}.",
        )

    options = [40, 20, 10, 5, 2, 1, 0.5]
    return explore(
        draw,
        threshold=slider("threshold, %", 1, 99, start),
        prevalence=choice("prevalence, %", options),
    )


def explanation_viewer(split: Split, maps: dict, probabilities: dict) -> ipw.VBox:
    """Pick an image and a model -> the image, the model's heat map beside it with its highest point, and the probability.

    `maps`: name of a model -> its heat maps (N, H, W), not negative; `probabilities`: name -> one number an image, that of
    the positive class. Where the split has masks, the lesion's outline is drawn and the map is measured against it.
    """
    positive = split.classes[split.positive]

    def draw(image: int, model: str) -> tuple[plt.Figure, str]:
        heat, p = np.asarray(maps[model][image], float), float(probabilities[model][image])
        truth, peak = (
            split.classes[int(split.labels[image])],
            np.unravel_index(heat.argmax(), heat.shape),
        )
        fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.9))
        left.imshow(
            split.images[image].permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255
        )
        right.imshow(heat, cmap="cividis", vmin=0, vmax=heat.max() or 1)
        left.set_title(f"image {image}: {truth}", fontsize=11, fontweight="normal")
        right.set_title(f"heat map of the {model} model", fontsize=11, fontweight="normal")
        words = "" if heat.max() > 0 else "The map is empty: nothing speaks for the class. "
        if heat.max() > 0:
            right.plot(peak[1], peak[0], "X", color="white", markeredgecolor=INK, markersize=11)
        if split.masks is not None:
            mask = split.masks[image].numpy()
            for axis in (left, right):
                axis.contour(
                    mask,
                    levels=[0.5],
                    colors=[ORANGE if axis is left else "white"],
                    linestyles="--",
                    linewidths=1.8,
                )
            if heat.max() > 0:
                place, share = "inside" if mask[peak] else "outside", heat[mask].sum() / heat.sum()
                words = f"The highest point (X) lies {place} the lesion (dashed), which holds {share:.0%} of the map. "
        for axis in (left, right):
            axis.axis("off")
        fig.suptitle(f"{model}: P({positive}) = {p:.2f}", fontsize=12, fontweight="bold")
        return (
            fig,
            f"Image {image}, in truth {truth}; the {model} model says {p:.2f} for {positive}. {words}".strip(),
        )

    return explore(
        draw, image=slider("image", 0, len(split) - 1, 0), model=choice("model", list(maps))
    )
