import sys; sys.path.insert(0, "/root/dev")
from nbtools import NB
b = NB()
b.md(r"""
# Source and target tasks

A network has learnt to describe lesions in words. Now it learns to judge them, from few labelled images. Does the first skill help with the second? What is it worth in labels?

**After this notebook you can**

1. say what differs between two data sets: the [domain](GLOSSARY.md#domain) (领域), the [task](GLOSSARY.md#task) (任务), or both;
2. explain seven descriptors of a lesion in plain words, and turn them into a probability;
3. read what a source is worth: gains with intervals, a control, labels saved, and a source that knows something else.

| | |
|---|---|
| You need | Python, school calculus; notebook 00 |
| To teach | 60 minutes, exercises included; the open task and the [deep dive](01_source_and_target_tasks_deep.ipynb) are extra |
| To run | about 15 seconds with one thread, 8 with two; 1.6 GB of memory; no network, no GPU |

`TASK = "busi"` is real breast ultrasound, without patient names: each image counts as one. In all arrays 1 = malignant, the [positive class](GLOSSARY.md#positive-class) (阳性类).
""")
b.code('''
TASK = "busi"  # "busi": real ultrasound, ships | "phantom": simulated, made here
SOURCE = "ultrasound"  # "ultrasound": names descriptors, ships | "random": knows nothing
SEED = 0  # which images are shown, and every random number below
''', tag="parameters")
b.code('''
import json

import matplotlib.pyplot as plt
import numpy as np

import medtl_utils as mt
from medtl_utils import phantom, plots
from medtl_utils.exercises import check, hint  # noqa: F401
from medtl_utils.models import ULTRASOUND_SHA256
from medtl_utils.phantom_tables import COUNTS
from medtl_utils.widgets import descriptor_explorer

results = mt.data_folder() / "results"
read = lambda name: json.loads((results / f"{name}.json").read_text())
''')
b.md(r"""
## 1. Domain and task

Pan and Yang (2010) split a learning problem in two.

- The **domain** $\mathcal D = \{\mathcal X, P(X)\}$ is what comes in: the space $\mathcal X$ of inputs, and how often each input occurs, $P(X)$.
- The **task** $\mathcal T = \{\mathcal Y, f\}$ is what is asked: the space $\mathcal Y$ of labels, and the function $f:\mathcal X\to\mathcal Y$ that gives the right label. Where the label is not certain, $f(x) = P(y\mid x)$.

Transfer uses a *source* with many labels to learn a *target* with few. Here are ours. A [descriptor](GLOSSARY.md#descriptor) (描述特征) is a feature of a lesion that radiologists name in words.
""")
b.code('''
task = mt.load_task(TASK, size=128, seed=SEED)
# numbers far beyond the images that the source learnt from
images, _, targets = phantom.simulate_source(20_000_000, 40, size=128)
shown = [12, 27, 20, 14, 17, 5]  # six in which a lesion is easy to see

names = [f"{name} ({len(values)})" for name, values in phantom.DESCRIPTORS.items()]
words = [f"{n} {v[k]}" for (n, v), k in zip(phantom.DESCRIPTORS.items(), targets[shown[0]])]
print("Y of the source:", ", ".join(names), "and lesion (2)")
print("a source label: ", ", ".join(words))
print("Y of the target:", " / ".join(task.classes))
print("a target label: ", task.classes[task.train.labels[0]])
''')
b.code('''
# draws: images of source and target with their labels, and the grey levels of both (folded)
labels, rng = task.train.labels.numpy(), np.random.default_rng(SEED)
_, first = np.unique(task.train.groups, return_index=True)  # one image of each group
rows = [k for c in (0, 1) for k in rng.permutation(first[labels[first] == c])[:3]]
named = lambda k, n: list(phantom.DESCRIPTORS.values())[n][targets[k, n]]
upper = [(images[k], f"{named(k, 0)}\\n{named(k, 1)}\\n{named(k, 3)}") for k in shown]
lower = [(task.train.images[k], task.classes[labels[k]]) for k in rows]
fig, axes = plt.subplots(2, 7, figsize=(9.6, 4.1), width_ratios=[1.25] + 6 * [1])
sides = [
    ("SOURCE", "simulated,\\nmany scanners", "describe it", upper),
    ("TARGET", "real images" if TASK == "busi" else "simulated,\\n3 scanners", "judge it", lower),
]
for line, (name, domain, question, pictures) in zip(axes, sides):
    line[0].text(0, 0.5, f"{name}\\n\\nP(X): {domain}\\n\\nf: {question}", va="center", fontsize=10)
    line[0].axis("off")
    for axis, (image, caption) in zip(line[1:], pictures):
        plots.draw_image(axis, image)
        axis.set_title(caption, fontsize=8.5, fontweight="normal")
fig.suptitle("Same kind of input, other images, another question", fontweight="bold")
plots.show(
    fig,
    "Two rows of six grey images. Source, simulated, with shape, margin and echo: "
    + "; ".join(caption.replace("\\n", ", ") for _, caption in upper)
    + f". Target, {sides[1][1]}: ".replace("\\n", " ")
    + ", ".join(caption for _, caption in lower)
    + ".",
)

fig, axis = plt.subplots(figsize=(6.5, 2.8))
dark = {}
for name, pixels, line in [("source", images, "-"), ("target", task.train.images, "--")]:
    share, edges = np.histogram(pixels.numpy(), bins=16, range=(0, 256))
    share = 100 * share / share.sum()
    dark[name] = f"{name} {share[0]:.0f} %"
    axis.plot((edges[1:] + edges[:-1]) / 2, share, linestyle=line, marker=".", label=name)
axis.set(xlabel="grey level, 0 black to 255 white", ylabel="% of all pixels")
axis.legend()
fig.suptitle("P(X) differs: the greys are not equally frequent", fontsize=12, fontweight="bold")
plots.show(
    fig,
    "Share of the pixels in 16 bands of grey. In the darkest band: "
    f"{', '.join(dark.values())}. The two curves have a like form and do not coincide.",
)
''', fold=True)
b.md(r"""
$\mathcal X$ is the same: grey images (our networks see 64×64 pixels). $P(X)$ is not, as the grey levels show: a [domain shift](GLOSSARY.md#domain-shift) (领域偏移). The tasks differ, too. The source names descriptors; it draws them equally often, so none hints at malignancy. The target asks one question. What differs gives a transfer its name:

| kind of transfer | domains | tasks | target labels | example |
|---|---|---|---|---|
| none | the same | the same | many | train and test in one hospital |
| inductive | the same or different | **different** | **some** | describe lesions, then judge them: **our case** |
| transductive | **different** | the same | none | a classifier moves to another scanner (notebook 14) |
| unsupervised | the same or different | different | none | group the cells of a new tissue |

**Check 1.** A network finds pneumonia on chest radiographs of hospital A. Hospital B asks the same, with another machine, and has 50 labelled images. Domain, task, or both?

<details><summary>Answer</summary>

The domain: the question stays, the images look different. If B's patients are ill more often, $f$ changes as well (section 3).
</details>

## 2. The radiologist's words

[BI-RADS](GLOSSARY.md#bi-rads) (乳腺影像报告和数据系统) is the standard vocabulary for breast images. We use seven descriptors:

- **Shape**: [oval](GLOSSARY.md#oval) (椭圆形), [round](GLOSSARY.md#round) (圆形) or [irregular](GLOSSARY.md#irregular) (不规则形). **Orientation**: parallel to the skin (wider than tall), or not.
- **Margin**, the edge: [circumscribed](GLOSSARY.md#circumscribed) (边界清晰), sharp and smooth; [microlobulated](GLOSSARY.md#microlobulated) (微分叶), with small waves; [indistinct](GLOSSARY.md#indistinct) (边界模糊), fading away; [angular](GLOSSARY.md#angular) (成角), with sharp corners; [spiculated](GLOSSARY.md#spiculated) (毛刺状), with thin lines that leave it.
- **Echo**, the grey inside: [hypoechoic](GLOSSARY.md#hypoechoic) (低回声), darker than fat; [isoechoic](GLOSSARY.md#isoechoic) (等回声), as bright as fat; [anechoic](GLOSSARY.md#anechoic) (无回声), black, as fluid is; [heterogeneous](GLOSSARY.md#heterogeneous) (不均匀回声), mixed.
- **Posterior**, what lies behind: nothing special; [enhancement](GLOSSARY.md#enhancement) (后方回声增强), brighter; a shadow, darker.
- **Calcifications**: bright dots of calcium. **[Halo](GLOSSARY.md#halo)** (高回声晕): a bright rim.

Each figure shows one simulated lesion. One descriptor changes at a time.
""")
b.code('''
# draws: every value of the seven descriptors on two simulated lesions (folded)
outline = [("shape", 0), ("shape", 1), ("shape", 2), ("orientation", 0), ("orientation", 1)]
outline += [("margin", k) for k in range(5)]
inside = [("echo", 0), ("echo", 1), ("echo", 2), ("echo", 3), ("calcifications", 1)]
inside += [("posterior", 0), ("posterior", 1), ("posterior", 2), ("halo", 0), ("halo", 1)]
for shown, seed, title in (
    (outline, 155, "The outline: shape, orientation, margin"),
    (inside, 121, "Inside, behind and around: echo, calcifications, posterior, halo"),
):
    fig, axes = plt.subplots(2, 5, figsize=(9.4, 4.5))
    for axis, (name, k) in zip(axes.flat, shown):
        irregular = {"shape": 2} if name == "margin" and k > 2 else {}
        plots.draw_image(axis, phantom.simulate_lesion(irregular | {name: k}, seed)[0])
        caption = f"{name}:\\n{phantom.DESCRIPTORS[name][k]}"
        axis.set_title(caption, fontsize=9.5, fontweight="normal")
    fig.suptitle(title, fontweight="bold")
    text = ", ".join(f"{name} {phantom.DESCRIPTORS[name][k]}" for name, k in shown)
    plots.show(
        fig,
        f"Ten pictures of one simulated lesion, dark in grey tissue; one word changes: {text}. "
        "Angular and spiculated margins are shown on the irregular shape.",
    )
''', fold=True)
b.md(r"""
Real lesions, cut out by their masks. Nobody recorded their descriptors. **What might a radiologist call them?** Write down shape, margin, echo and posterior for each.
""")
b.code('''
# draws: six real lesions, cut out around their masks (folded)
chosen = [268, 273, 388, 246, 160, 108]  # numbers of training images
fig, axes = plt.subplots(1, 6, figsize=(9.6, 2.3))
for axis, row, letter in zip(axes, chosen, "abcdef"):
    mask = task.train.masks[row].numpy()
    place = [np.flatnonzero(mask.any(side)) for side in (1, 0)]
    top, left = (max(0, p[0] - 14) for p in place)
    bottom, right = (p[-1] + 15 for p in place)
    plots.draw_image(axis, task.train.images[row][:, top:bottom, left:right])
    axis.set_title(f"{letter}: {task.classes[labels[row]]}", fontsize=9, fontweight="normal")
fig.suptitle("Six lesions of the target task", fontweight="bold")
plots.show(
    fig,
    "Six lesions with the tissue around them, three of each class, a to f. With real images: a, b "
    "and c are smooth ovals, a black, b dark grey, c of mixed grey. d is dark, taller than wide, "
    "with no clear edge. e is dark with pointed corners. f is small, grey, with no clear edge.",
)
''', fold=True)
b.md(r"""
## 3. Why this source should help

In the simulation we know the chain. The disease makes some descriptors more likely, and they make the picture.

$$\text{malignant or benign} \;\to\; \text{descriptors } d \;\to\; \text{image } x$$

The source model has learnt to go back from image to descriptors. The rest of the way is short: seven descriptors in place of 4,096 pixels. How often they occur was counted in 154 benign and 98 malignant lesions (BrEaST; orientation: Hong et al. 2005).
""")
b.code('''
benign, malignant = (np.array(table) for table in COUNTS["shape", "margin"])
margins, shapes = phantom.DESCRIPTORS["margin"], phantom.DESCRIPTORS["shape"]
print(f"counts, benign/malignant; in all {benign.sum()}/{malignant.sum()}")
print(" " * 16 + "".join(f"{margin:>16s}" for margin in margins))
for shape, row in zip(shapes, zip(benign, malignant)):
    print(f"{shape:16s}" + "".join(f"{f'{b}/{m}':>16s}" for b, m in zip(*row)))

both, irregular, indistinct = (2, 2), (2, slice(None)), (slice(None), 2)
joint, one, other = (
    malignant[at].sum() / 98 / (benign[at].sum() / 154) for at in (both, irregular, indistinct)
)
print(f"\\nlikelihood ratio: irregular {one:.1f}, indistinct {other:.1f}, product {one * other:.1f}")
print(f"irregular and indistinct, counted together: {joint:.1f}")
''')
b.md(r"""
A [likelihood ratio](GLOSSARY.md#likelihood-ratio) (似然比) says how much more often malignant lesions show a sign than benign ones. Shape and margin go together. If we multiply their ratios, we count the same evidence twice. So we count the pair.

### How sure is a share? A bootstrap in one minute

Of 98 malignant lesions 28 are irregular and spiculated. Other women would give another share. The [bootstrap](GLOSSARY.md#bootstrap) (自助法) imitates this. Draw 98 of *these* women, some twice, some not at all, and count again. Do it often. The middle 95 % of the shares are a 95 % [confidence interval](GLOSSARY.md#confidence-interval) (置信区间).
""")
b.code('''
women = np.repeat([1, 0], [28, 98 - 28])  # 1: irregular and spiculated
drawn = np.random.default_rng(SEED).choice(women, size=(2000, 98)).mean(1)  # 2,000 draws of 98
low, high = np.quantile(drawn, [0.025, 0.975])
print("five draws:", ", ".join(f"{share:.2f}" for share in drawn[:5]))
print(f"share {women.mean():.2f}, 95 % interval over women {low:.2f} to {high:.2f}")
''')
b.md(r"""
**Check 2.** None of the 252 lesions is oval and spiculated. The table of the simulator adds half a lesion to each count. What is this pair's likelihood ratio worth?

<details><summary>Answer</summary>

Nearly nothing: it rests on zero lesions. A bootstrap does not even show the doubt, because zero stays zero in every draw. In the interactive figure below such pairs are a guess.
</details>

### One lesion by hand

Before a look, the probability of malignancy is the [prevalence](GLOSSARY.md#prevalence) (患病率) $\pi$, and the [odds](GLOSSARY.md#odds) (比值) are $\pi / (1 - \pi)$. By Bayes' rule each likelihood ratio multiplies the odds. Logarithms add:

$$\log\frac{P(\text{malignant}\mid d)}{P(\text{benign}\mid d)} = \log\frac{\pi}{1-\pi} + \sum_g \log\frac{P(d_g\mid \text{malignant})}{P(d_g\mid \text{benign})}$$

The groups $g$ are shape with margin, and each other descriptor.

**Predict before you run.** A lesion is irregular, indistinct, not parallel, hypoechoic, with enhancement, without calcifications or halo. In a clinic 40 of 100 lesions are malignant, in screening 1 of 100. Guess both probabilities.
""")
b.code('''
lesion = {"shape": 2, "margin": 2, "orientation": 1, "echo": 0, "posterior": 1}
lesion |= {"calcifications": 0, "halo": 0}


def posterior(seen, prevalence):
    """P(malignant | descriptors) by Bayes' rule. `seen`: name -> index of its value."""
    malignant, benign = prevalence, 1 - prevalence
    for names, (p_benign, p_malignant) in phantom.CHANCES.items():
        at = tuple(seen[name] for name in names)
        malignant, benign = malignant * p_malignant[at], benign * p_benign[at]
    return malignant / (malignant + benign)


def log_odds_steps(seen, prevalence):
    """What is known -> how far it moves the log-odds: the prevalence, then each group."""
    steps = {"prevalence": np.log(prevalence / (1 - prevalence))}
    for names, (p_benign, p_malignant) in phantom.CHANCES.items():
        at = tuple(seen[name] for name in names)
        steps[" and ".join(names)] = np.log(p_malignant[at] / p_benign[at])
    return steps
''')
b.code('''
for name, step in log_odds_steps(lesion, prevalence=0.40).items():
    print(f"{name:20s} log-odds {step:+.2f}   odds × {np.exp(step):.2f}")
for place, prevalence in (("clinic", 0.40), ("screening", 0.01)):
    total = sum(log_odds_steps(lesion, prevalence).values())
    by_odds, by_rule = 1 / (1 + np.exp(-total)), posterior(lesion, prevalence)
    same = np.isclose(by_odds, by_rule)
    print(f"{place}: P(malignant | d) = {by_rule:.3f}; the same from the sum: {same}")
''')
b.md(r"""
The picture is the same, but $f(x) = P(y\mid x)$ is not. **Another prevalence is another task.** As a waterfall, each bar starts where the last one ended:
""")
b.code('''
# draws: the waterfall of log-odds of one lesion (folded)
steps, start = log_odds_steps(lesion, 0.40), 0.0
fig, axis = plt.subplots(figsize=(7.8, 3.9))
for row, (name, step) in enumerate(steps.items()):
    color = plots.GREY if row == 0 else plots.ORANGE if step > 0 else plots.BLUE
    axis.barh(row, step, left=start, color=color, edgecolor=plots.INK)
    axis.text(max(start, start + step) + 0.06, row, f"{step:+.2f}", va="center", fontsize=10)
    start += step
    axis.plot([start, start], [row, row + 1], color=plots.INK, linestyle=":", linewidth=1)
axis.plot(start, len(steps), "D", color=plots.INK)
chance = 1 / (1 + np.exp(-start))
axis.text(start + 0.12, len(steps), f"{start:+.2f}: P = {chance:.2f}", va="center", fontsize=10)
axis.axvline(0, color=plots.GREY, linestyle="-", linewidth=1)
axis.set_yticks(range(len(steps) + 1), [*steps, "all together"])
axis.set(xlabel="log-odds of malignancy (0: as likely as not)", ylim=(len(steps) + 0.6, -0.6))
axis.set_xlim(-1, 2.6)
fig.suptitle("Each sign moves the log-odds; together they give P", fontsize=12, fontweight="bold")
text = ", ".join(f"{name} {step:+.2f}" for name, step in steps.items())
plots.show(
    fig,
    f"Eight rows, a bar each from where the last one ended: {text}. Orange speaks for malignancy, "
    f"blue against. They end at {start:+.2f}, a probability of {chance:.2f}.",
)
''', fold=True)
b.md(r"""
**Try it.** Change one descriptor. Look at the image, the waterfall, and what the source model says about this image: what does it read badly? Then move only the prevalence. What stays?
""")
b.code('''
source = mt.source_model(SOURCE)
widget = descriptor_explorer(phantom.CHANCES, phantom.DESCRIPTORS, source)
''')
b.md(r"""
**Discuss.** In the simulation the seven descriptors carry all that an image says about the disease. Is this so for a real patient?

## 4. What the source is worth on real tumours

*Traditional learning* starts from random weights: [training from scratch](GLOSSARY.md#training-from-scratch) (从头训练). Transfer starts from the source model and trains on: [fine-tuning](GLOSSARY.md#fine-tuning) (微调). The loop is the same ([notebook 05](05_fine_tune_resnet.ipynb)).

A study did both on all 780 images, in five folds; near-copies stay together. Networks learn from $n$ labelled images of four folds and score the fifth. A third start is the *control*: a network trained just as long on drawn shapes that are no ultrasound. It is always one network against one network, on the same images, with recipes fixed beforehand. The score is the [AUC](GLOSSARY.md#auc) (曲线下面积): how often a malignant image scores above a non-malignant one.
""")
b.code('''
evidence = read("evidence" if (results / "evidence.json").is_file() else "evidence_first")
level = {(r["arm"], r["n"]): r for r in evidence["levels"] if r["metric"] == "auc"}
gain = {(r["arm"], r["against"], r["n"]): r for r in evidence["gains"]}
updates = {(r["arm"], r["n"]): r["updates"] for r in evidence["updates"]}
numbers = sorted({n for _, n in level}, key=lambda n: n or 624)  # None: all of four folds, 624
show = lambda r: f"{r['value']:+z.3f} ({r['low']:+z.3f} to {r['high']:+z.3f})"
PAIRS = (("ultrasound", "scratch"), ("ultrasound", "shapes"), ("shapes", "scratch"))
print(f"{evidence['images']}; trainings of each source: {evidence.get('repetitions', 3)}")
if ULTRASOUND_SHA256 not in evidence.get("source_sha256", [ULTRASOUND_SHA256]):
    print("The file that ships is a further training of this source.")
print("labels  updates (scratch)  " + "".join(f"{f'{a} - {b}':26s}" for a, b in PAIRS).rstrip())
for n in numbers:
    print(f"{n or 'all':>6} {updates['ultrasound', n]:8d} {updates['scratch', n]:9d}", end="    ")
    print("  ".join(show(gain[a, b, n]) for a, b in PAIRS))
''')
b.code('''
# draws: AUC by number of labels for three starts, and the differences (folded)
LOOKS = {
    "scratch": ("from scratch", plots.ORANGE, "o", "--"),
    "ultrasound": ("from ultrasound", plots.BLUE, "s", "-"),
    "shapes": ("from shapes (control)", plots.GREEN, "^", "-."),
}
fig, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4.3), width_ratios=[1.15, 1])
places = np.array([n or 624 for n in numbers])
for shift, (arm, (name, color, marker, line)) in zip((0.96, 1.0, 1.04), LOOKS.items()):
    value, low, high = (np.array([level[arm, n][k] for n in numbers]) for k in ("value", "low", "high"))
    look = {"color": color, "marker": marker, "linestyle": line, "label": name, "capsize": 3}
    left.errorbar(places * shift, value, [value - low, high - value], **look)
left.set(xscale="log", xlabel="labelled images (log scale)", ylabel="AUC, 95 % interval")
left.set_xticks(places, [n or "all" for n in numbers])
left.minorticks_off()
left.legend(loc="lower right", fontsize=9)
looks = {PAIRS[0]: (plots.BLUE, "s"), PAIRS[1]: (plots.INK, "D"), PAIRS[2]: (plots.GREEN, "^")}
for k, n in enumerate(numbers):
    for j, (pair, (color, marker)) in enumerate(looks.items()):
        r, y = gain[*pair, n], k + 0.22 * (j - 1)
        right.plot([r["low"], r["high"]], [y, y], color=color, linestyle="-", linewidth=2)
        label = " − ".join(pair) if k == 0 else None
        right.plot(r["value"], y, marker, color=color, linestyle="none", label=label)
right.axvline(0, color=plots.GREY, linestyle=":")
right.set_yticks(range(len(numbers)), [f"{n or 'all'} labels" for n in numbers])
right.set(xlabel="difference in AUC, 95 % interval", ylim=(len(numbers) - 0.4, -0.6))
right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
fig.suptitle("The right start is above scratch and above the control", fontsize=12, fontweight="bold")
three = "; ".join(
    f"{LOOKS[arm][0]} " + ", ".join(f"{level[arm, n]['value']:.2f} with {n or 'all'}" for n in numbers)
    for arm in LOOKS
)
text = f"Left, AUC on real images: {three}. Right, differences: "
text += "; ".join(f"{a} minus {b}, {n or 'all'} labels {show(gain[a, b, n])}" for a, b in PAIRS for n in numbers)
plots.show(fig, text + ".")
''', fold=True)
b.md(r"""
- **The gain over scratch** is above zero with every number of labels. The [learning curves](GLOSSARY.md#learning-curve) (学习曲线) come closer with more labels, though the intervals of the gains overlap. Scratch even had two to three times as many updates.
- **The control.** Is any pre-training enough? For shapes against scratch, zero is inside every interval: we cannot say whether shapes help. Ultrasound is above the shapes with every number of labels. So pre-training as such does not explain the gain.
- **What the intervals cover**: other images, in groups of near-copies. Not patients, whom these data do not name. Not another training of the source: each source was trained once. Two repetitions with new trainings will follow; until then nothing is claimed of another training, such as the file that ships.

How many labels does scratch need for transfer's AUC $A$? Between two points $(n_a, A_a)$ and $(n_b, A_b)$ of its curve we interpolate over $\log n$:

$$n = \exp\left(\log n_a + \frac{A - A_a}{A_b - A_a}\,(\log n_b - \log n_a)\right)$$
""")
b.code('''
def labels_needed(wanted, numbers, aucs):
    """Labels with which a learning curve first reaches an AUC; inf where it never does."""
    if aucs[0] >= wanted:
        return numbers[0]
    for n_a, n_b, A_a, A_b in zip(numbers, numbers[1:], aucs, aucs[1:]):
        if A_a < wanted <= A_b:
            return np.exp(np.log(n_a) + (wanted - A_a) / (A_b - A_a) * (np.log(n_b) - np.log(n_a)))
    return np.inf


count, curve = [n or 624 for n in numbers], [level["scratch", n]["value"] for n in numbers]
needed = {n: labels_needed(level["ultrasound", n]["value"], count, curve) for n in numbers}
for n, found in needed.items():
    words = f"about {found:.0f}" if found < np.inf else f"more than all {count[-1]}"
    print(f"transfer with {n or 'all'} labels: scratch needs {words}")
''')
b.md(r"""
These are readings from two curves, without intervals. "More than all" does not mean "never".

## 5. Would any source help? Digits

Now a source that names handwritten digits. The target is the *simulated* task, whose patients are known. Six draws, paired; the intervals cover patients and draws.
""")
b.code('''
def verdict(low, high):
    """What the interval of a gain says."""
    if low > 0:
        return "helps"
    return "hurts" if high < 0 else "cannot say"


study = read("learning_curve")
print(f"the digits' network names {study['digits']['accuracy']:.0%} of new digits rightly")
rows = [r for r in study["summary"] if r["test"] == "simulated"]
for r in sorted(rows, key=lambda r: (r["source"] == "digits", r["n_train"])):
    found = f"{show(r | {'value': r['difference']})}  {verdict(r['low'], r['high'])}"
    print(f"{r['source']:10s} {r['n_train']:4d} labels: gain {found}")
ends = [end for r in rows if r["source"] == "digits" for end in (r["low"], r["high"])]
print(f"all ends of the digits' intervals lie within ±{np.abs(ends).max():.3f}")
''')
b.md(r"""
*Cannot say* is not *no effect*: look at the ends of the intervals. Those of the digits lie within ±0.05: whatever digits are worth here, it is little. Ultrasound gains on the same images. A source that makes the target worse is called [negative transfer](GLOSSARY.md#negative-transfer) (负迁移).

Digits share strokes and edges with lesions, but none of the seven descriptors. (They were also far fewer; the control of section 4 saw as many images as the source.) Notebook 09 (in preparation) measures how related two tasks are.

**Check 3.** A gain is +0.04 (−0.01 to +0.09). A colleague says: "no effect". Another says: "plus four points". Who is right?

<details><summary>Answer</summary>

Neither. Zero lies inside, so we cannot say that it helps. The interval also holds +0.09, so "no effect" is not shown.
</details>

## 6. Advantages and drawbacks, each a number
""")
b.code('''
made, auc = read("pretrain"), "{value:.3f} ({low:.3f} to {high:.3f})".format_map
chance = {k: 1 / len(v) for k, v in phantom.DESCRIPTORS.items() if k in made["accuracy"]}
worst = min(chance, key=lambda k: (made["accuracy"][k] - chance[k]) / (1 - chance[k]))
body = sum(p.numel() for name, p in source.named_parameters() if not name.startswith("fc"))
print(f"{'':36s}{'transfer':26s}from scratch")
for what, transfer, scratch in [
    *((f"AUC, {n or 'all'} labels", *(auc(level[a, n]) for a in PAIRS[0])) for n in numbers),
    ("updates with 100 labels", *(updates[a, 100] for a in PAIRS[0])),
    ("labels for transfer's AUC with 25", 25, f"{needed[25]:.0f}"),
    ("simulated images beforehand", f"{made['images']:,}", 0),
    ("minutes of training beforehand", f"{made['minutes']:.0f}", 0),
    ("parameters from elsewhere", f"{body / (body + 2 * 513):.2%}", 0),
    (f"right about the {worst}", f"{made['accuracy'][worst]:.0%}, chance {chance[worst]:.0%}", "-"),
]:
    print(f"{what:36s}{transfer!s:26s}{scratch}")
''')
b.md(r"""
*Advantages*: a higher AUC, fewer labels, fewer updates. *Drawbacks*: images and training are needed beforehand. Nearly all parameters come from a file that you must trust. What the source reads badly, the target may inherit. Another source may give nothing.

### Questions that everybody asks

**How does transfer learning differ from traditional learning?** In the start, and in nothing else. "Traditional learning is for large data" says where it is *common*. Both ran above with 25 labels and with all.

**What are its advantages and drawbacks?** The table says it in numbers.

**Where in medicine is it used?**

| field | source task | target task | example | here |
|---|---|---|---|---|
| images | photographs of objects | which skin disease? | Esteva et al. 2017 | 00 to 10 |
| voice | large collections of sounds | Parkinson's disease or not | Tougui et al. 2024 | [15b](15b_speech.ipynb) |
| genes | which genes are active together, in many cells | gene networks and disease, few samples | Theodoris et al. 2023 | [15c](15c_genes.ipynb) |

## What can go wrong

| mistake | what you see | what to do |
|---|---|---|
| one run against one run | a "gain" of any sign | pairs, repetitions, an interval |
| no control source | "pre-training helps", whatever it was | a source that knows something else |
| an average of networks against one network | a gain that is due to averaging | one against one |
| scratch gets fewer updates | a large gain | at least the same budget, printed |
| "zero is inside" read as "no effect" | a useful source is thrown away | *cannot say*; look at the ends |
| dependent signs multiplied | probabilities too near 0 and 1 | count them together |
| images counted as patients | intervals that promise too much | say what the interval covers |
| a simulated gain quoted for patients | disappointment in the clinic | the real table beside it |

## Summary

- A domain is what comes in, $\{\mathcal X, P(X)\}$; a task is what is asked, $\{\mathcal Y, f\}$. Ours differ in both: inductive transfer with a domain shift.
- A source helps if both tasks rest on the same description. Here it is the seven descriptors, and Bayes' rule leads from them to the disease.
- On real tumours, one network against one, the simulated source is above scratch with 25 labels and with all (intervals over images, one training of the source).
- The control showed no gain that excludes zero; ultrasound is above it.

The [deep dive](01_source_and_target_tasks_deep.ipynb) finds the best possible AUC, and says why the evidence was made as it was. Next: [what is inside a network](02_shared_and_specific_layers.ipynb).

## Exercises

**1.1** What differs from source to target: `"domain"`, `"task"` or `"both"`? A list of four words.

- a: malignant or not → halo or no halo, on the same images
- b: malignant or not, in a clinic (40 of 100 lesions malignant) → the same question and scanner in screening (1 of 100)
- c: malignant or not with scanner A → the same women, examined again with scanner C
- d: cats or dogs on photographs → malignant or not on ultrasound
""")
b.code('''
answer = ...
check("1.1", answer)
''')
b.md(r"""
<details><summary>Solution 1.1</summary>

```python
answer = ["task", "both", "domain", "both"]   # b: the same picture has another P(y | x), and malignant pictures are rarer
```
</details>

**1.2** P(malignant | shape, margin, echo) as a function of `prevalence, pair, echo, i, j, k`. `pair` and `echo` are arrays of shape (2, 3, 5) and (2, 4): [0] is P(· | benign), [1] is P(· | malignant). The lesion has shape `i`, margin `j`, echo `k`.
""")
b.code('''
answer = ...
check("1.2", answer)
''')
b.md(r"""
<details><summary>Solution 1.2</summary>

```python
def answer(prevalence, pair, echo, i, j, k):
    odds = prevalence / (1 - prevalence) * pair[1][i, j] / pair[0][i, j] * echo[1][k] / echo[0][k]
    return odds / (1 + odds)
```
</details>

**1.3** Write a function of `low`, `high` and `worth` that returns `"helps"`, `"hurts"`, `"too small"` (zero is inside, and neither end is beyond ±`worth`), or else `"cannot say"`. An interval that touches zero has zero inside.
""")
b.code('''
answer = ...
check("1.3", answer)
''')
b.md(r"""
<details><summary>Solution 1.3</summary>

```python
def answer(low, high, worth):
    if low > 0 or high < 0:
        return "helps" if low > 0 else "hurts"
    return "too small" if -worth <= low and high <= worth else "cannot say"
```
</details>

**1.4** By which *factor* does a source save labels? The rising curves `scratch` and `transfer` belong to the same `numbers` of labels. For the AUC `wanted`, which both reach, return labels of scratch divided by labels of transfer, interpolated as in section 4. Arguments: `wanted, numbers, scratch, transfer`.
""")
b.code('''
answer = ...
check("1.4", answer)
''')
b.md(r"""
<details><summary>Solution 1.4</summary>

```python
def answer(wanted, numbers, scratch, transfer):
    log_n = lambda aucs: np.interp(wanted, aucs, np.log(numbers))   # the curves rise
    return np.exp(log_n(scratch) - log_n(transfer))
```
</details>

### Open task (45 to 90 minutes)

Take a target task of your own, or the five grades of `"retinamnist"`. Choose two sources and a control. Plan a study of what each is worth, on one page.

| rubric | 0 points | 1 point | 2 points |
|---|---|---|---|
| domain and task | not named | all four parts named for the target | for each source too, with what differs |
| why it should help | "pre-trained" | a shared description is named | with a way to check it before training |
| control | none | a source that knows something else | as many images and updates as the source |
| like with like | not considered | same images, same search | budgets in updates, one against one, recipe fixed first |
| the interval | none | what it covers is named | patients or groups, and trainings of the source; what you could not claim |

## Copy into your own research

Two starts, the same images, paired gains; grey or RGB, any number of classes. For your own data change the line with `load_task`, and use five draws or more.
""")
b.code('''
from types import SimpleNamespace

import numpy as np
import torch

import medtl_utils as mt

task = mt.load_task("busi")  # change: for example "folder:PATH"
scored = task.val[:100]  # change to task.val; the test set stays locked
n = 32  # labelled images; repeat with other numbers for a learning curve
recipe = {"random": (1.0, "train"), "ultrasound": (0.3, "eval")}  # decay of the rate, BatchNorm
scores = {source: [] for source in recipe}
for seed in range(3):  # draws; in a study at least 5, and some hundred updates
    rows = np.random.default_rng(seed).permutation(len(task.train))[:n]
    few = SimpleNamespace(train=task.train[rows], val=task.val[::8])  # nothing is chosen on val
    for source, (decay, batchnorm) in recipe.items():
        torch.manual_seed(seed)
        model = mt.replace_head(mt.source_model(source), len(task.classes))
        mt.freeze(model, through=None, batchnorm=batchnorm)
        rates = mt.param_groups(model, lr=1e-3, decay=decay)
        mt.fine_tune(model, few, 2, rates, batch_size=8, seed=seed, progress=False)
        scores[source].append(mt.predict(model, scored))

gain = mt.compare(scores["ultrasound"], scores["random"], scored)
print(f"{n} labels: AUC {gain['b']:.2f} from scratch, {gain['a']:.2f} with transfer")
interval = f"95 % interval over images and draws {gain['low']:+.2f} to {gain['high']:+.2f}"
print(f"gain {gain['difference']:+.2f} ({interval})")
''', tag="copy", ignore=True)
b.md(r"""
## References

- Pan & Yang, "A survey on transfer learning", *IEEE TKDE* 22 (2010) 1345.
- Pawłowska et al., BrEaST, *Scientific Data* 11 (2024) 148; Hong et al., *AJR* 184 (2005) 1260; Al-Dhabyani et al., *Data in Brief* 28 (2020) 104863 (the counts and the images).
- Zhang et al., "A survey on negative transfer", *IEEE/CAA J. Autom. Sinica* 10 (2023) 305.
- Esteva et al., *Nature* 542 (2017) 115; Tougui et al., *Scientific Reports* 14 (2024), doi 10.1038/s41598-024-81824-x; Theodoris et al., *Nature* 618 (2023) 616.
""")
if __name__ == "__main__":
    b.write("/work/switch/notebooks/01_source_and_target_tasks.ipynb")
    sys.path.insert(0, "/work/switch")
    import nbformat
    from tests.chapters.reading_rules import words, code, prose
    nb = nbformat.read("/work/switch/notebooks/01_source_and_target_tasks.ipynb", 4)
    print("words", words(nb), "code", len(code(nb)))
    for c in code(nb):
        n=len(c.source.splitlines()); 
        if n>15: print(c.id,n,"folded" if c.metadata.get("jupyter") else "")
        for l in c.source.splitlines():
            if len(l)>100: print(c.id,len(l),l[:60])
