import sys; sys.path.insert(0, "/root/dev")
from nbtools import NB
b = NB()
b.md(r"""
# What a source is worth: a deep dive

Notebook [01](01_source_and_target_tasks.ipynb) read what a source is worth from a table. Here you find the best that any reader of the seven descriptors can reach. You compute an interval by hand, use one source in three ways, train another source, and see why the table was made as it was.

**After this notebook you can**

1. compute a best possible AUC, exactly and by simulation, and say what a false assumption of independence costs;
2. compare ways to use a source with an interval that counts near-copies once;
3. explain why the evidence needs folds, groups, and several trainings of the source.

| | |
|---|---|
| You need | notebook 01; helpful: notebook 06 |
| To teach | 60 minutes |
| To run | about 30 seconds with one thread, 16 with two; 1.8 GB of memory; no network, no GPU |

`TASK = "busi"` takes real breast ultrasound for sections 3 and 4, `TASK = "phantom"` simulated images. In all arrays 1 = malignant.
""")
b.code('''
TASK = "busi"  # "busi": real ultrasound, ships | "phantom": simulated, made here
SOURCE = "ultrasound"  # "ultrasound": names descriptors, ships | "random": knows nothing
SEED = 11  # which images are labelled, and every random number below
''', tag="parameters")
b.code('''
import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import medtl_utils as mt
from medtl_utils import phantom, plots
from medtl_utils.data import Split
from medtl_utils.models import Normalisation
''')
b.md(r"""
## 1. The best that any reader can do

Suppose a reader names all seven descriptors without error. No score then orders the lesions better than the likelihood ratio (Neyman and Pearson 1933). There are 3 · 5 · 2 · 4 · 3 · 2 · 2 combinations of values. So we can go through all of them. The AUC follows exactly from its definition: how often does a malignant lesion score above a benign one? A tie counts one half.
""")
b.code('''
def all_lesions(chances):
    """P(combination | benign), P(combination | malignant) of all combinations, (n,) each."""
    sides = np.ones(1), np.ones(1)
    for tables in chances.values():
        sides = [np.outer(side, table).ravel() for side, table in zip(sides, tables)]
    return sides


def exact_auc(score, benign, malignant):
    """AUC of a score over combinations with these probabilities; ties count one half."""
    _, place = np.unique(np.round(score, 9), return_inverse=True)
    b, m = np.bincount(place, benign), np.bincount(place, malignant)
    return float(m @ (b.cumsum() - b / 2))
''')
b.code('''
benign, malignant = all_lesions(phantom.CHANCES)
log_ratio = np.log(malignant / benign)
best = exact_auc(log_ratio, benign, malignant)
print(f"{len(benign):,} combinations; best possible AUC {best:.4f}")
''')
b.md(r"""
A formula can be checked by counting. Draw 4,000 women: the disease first, then the descriptors. Score each by her likelihood ratio. The interval of the simulated AUC should contain the exact value.
""")
b.code('''
rng, prior = np.random.default_rng(SEED), phantom.PREVALENCE
ill = rng.random(4000) < prior
draw = lambda p: rng.choice(len(p), size=len(ill), p=p / p.sum())
who = np.where(ill, draw(malignant), draw(benign))  # a combination for each woman
found = mt.delong(log_ratio[who], ill)
print("simulated AUC {auc:.3f}, 95 % interval over women {low:.3f} to {high:.3f}".format(**found))
print("the exact value lies in the interval:", bool(found["low"] <= best <= found["high"]))

probability = lambda ratio: prior * ratio / (prior * ratio + 1 - prior)
p = probability(np.exp(log_ratio))
print(f"malignant, but P below 0.1: {malignant[p < 0.1].sum():.1%} of the malignant")
print(f"benign, but P above 0.9:    {benign[p > 0.9].sum():.1%} of the benign")
''')
b.md(r"""
So even a perfect reader errs: some malignant lesions look benign. A network that reads pixels also errs about the descriptors. Both limits matter when we ask what is left to gain.

## 2. What independence would cost

Notebook 01 counted shape and margin together. What if we multiply their two tables, as if they were independent within each class? We score with the product, and let the truth be as counted.

**Predict before you run.** Which suffers more: the order of the lesions (the AUC), or the probabilities?
""")
b.code('''
pair = ("shape", "margin")
product = tuple(np.outer(table.sum(1), table.sum(0)) for table in phantom.CHANCES[pair])
naive_benign, naive_malignant = all_lesions(phantom.CHANCES | {pair: product})
q = probability(naive_malignant / naive_benign)
everyone = prior * malignant + (1 - prior) * benign
log_loss = lambda p: -(prior * malignant @ np.log(p) + (1 - prior) * benign @ np.log(1 - p))

print(f"AUC       counted together {best:.4f}   multiplied {exact_auc(q, benign, malignant):.4f}")
print(f"log loss  counted together {log_loss(p):.4f}   multiplied {log_loss(q):.4f}")
print(f"women whose probability is wrong by more than 0.1: {everyone[abs(p - q) > 0.1].sum():.0%}")
''')
b.code('''
# draws: the probability by the product against the right one, a mark a combination (folded)
sizes = [len(values) for values in phantom.DESCRIPTORS.values()]
shape, margin, *_ = np.unravel_index(np.arange(len(p)), sizes)
kinds = {
    "irregular, not circumscribed": ((shape == 2) & (margin > 0), plots.ORANGE, "s"),
    "oval or round, circumscribed": ((shape < 2) & (margin == 0), plots.BLUE, "o"),
    "other pairs": ((shape == 2) == (margin == 0), plots.GREY, "^"),
}
fig, axis = plt.subplots(figsize=(7.6, 4.4))
for name, (rows, color, marker) in kinds.items():
    look = {"color": color, "marker": marker, "alpha": 0.6, "edgecolor": "none"}
    axis.scatter(p[rows], q[rows], s=2500 * everyone[rows] + 2, **look)
    axis.scatter([], [], color=color, marker=marker, label=name)
axis.plot([0, 1], [0, 1], color=plots.GREY, linestyle=":")
axis.set(xlabel="P(malignant), counted together", ylabel="P(malignant), multiplied")
axis.legend(loc="upper left", bbox_to_anchor=(1, 0.95), fontsize=9)
fig.suptitle("Counted twice, irregular lesions look too malignant", fontsize=12, fontweight="bold")
text = "; ".join(
    f"{name}: {everyone[rows].sum():.0%} of the women, P changes by "
    f"{(everyone[rows] @ (q - p)[rows]) / everyone[rows].sum():+.2f} on average"
    for name, (rows, *_) in kinds.items()
)
plots.show(
    fig,
    "A mark for each combination, its area by how frequent it is; on the dotted line both agree. "
    f"{text}.",
)
''', fold=True)
b.md(r"""
The AUC hardly changes: counting evidence twice leaves the order nearly as it was. The probabilities do change. A good AUC does not show that they are right (notebook [06](06_evaluate_honestly.ipynb)).

**Check 1.** Why does the log loss rise although the order is nearly the same?

<details><summary>Answer</summary>

The log loss is smallest for the right probabilities. Those of the product are too near 0 and 1, and each error there costs much.
</details>

## 3. An interval by hand: leave one group out

Now real images. Nobody knows their best possible AUC, because nobody recorded their descriptors. We need an interval, and near-copies must not count twice. The [jackknife](GLOSSARY.md#jackknife) (刀切法) is a simpler relative of the bootstrap. Leave out one group of near-copies, compute the value again, and do this for each of the $G$ groups. If the values are $v_1, \dots, v_G$ with mean $\bar v$, the standard error is

$$\text{SE} = \sqrt{\frac{G-1}{G} \sum_g (v_g - \bar v)^2} .$$

The evidence of notebook 01 uses this, because it also holds for a difference and for a mean over folds.
""")
b.code('''
def auc(score, y):
    """How often a malignant score is above another; ties count one half."""
    up, down = score[y == 1][:, None], score[y == 0]
    return float(((up > down) + 0.5 * (up == down)).mean())
''')
b.code('''
def jackknife(value, group):
    """Standard error of value(rows), leaving out one group at a time. `rows`: bool (N,)."""
    names = np.unique(group)
    without = np.array([value(group != name) for name in names])
    return float(np.sqrt((len(names) - 1) / len(names) * ((without - without.mean()) ** 2).sum()))


def interval(value, group):
    """(value, low, high) of all rows: value ± t · SE."""
    whole, reach = value(np.ones(len(group), bool)), jackknife(value, group)
    reach *= stats.t.ppf(0.975, len(np.unique(group)) - 1)
    return whole, whole - reach, whole + reach
''')
b.md(r"""
### Three ways to use one source

The source model offers three things: its 23 outputs (the descriptors), the 512 features below them, and all its weights, to be fine-tuned. First the two *probes*: a logistic regression on numbers that stay fixed. Four folds of the labelled images; the test fold stays locked. In each fold we label $n$ images, and score the held-out fold. Both probes see the same images, so their difference is paired.
""")
b.code('''
task = mt.load_task(TASK, seed=SEED)
folds = task.folds(k=4, seed=SEED)
source = mt.source_model(SOURCE).eval()
trunk = mt.source_model(SOURCE).eval()
trunk.fc = nn.Identity()


@torch.no_grad()
def described(split):
    """The 512 features and the outputs above them, for each image."""
    features = torch.cat([trunk(trunk.normalisation(x)) for x in split.images.split(128)])
    return {"512 features": features.numpy(), "outputs": source.fc(features).numpy()}
''')
b.code('''
parts = [described(fold.val) for fold in folds]  # each image once
y = np.concatenate([fold.val.labels.numpy() for fold in folds])
group = np.concatenate([fold.val.groups for fold in folds])
fold_of = np.repeat(range(4), [len(fold.val) for fold in folds])
x = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
print({name: values.shape[1] for name, values in x.items()}, "numbers for each image")
print(f"{len(y)} images in {len(np.unique(group))} groups")
''')
b.code('''
def scores_of(values, n, seed):
    """Scores of all images; those of a fold by a probe on n images of the other folds."""
    score, rng = np.zeros(len(y)), np.random.default_rng(seed)
    for k in range(4):
        rows = rng.permutation(np.flatnonzero(fold_of != k))[:n]
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=5000))
        probe.fit(values[rows], y[rows])
        score[fold_of == k] = probe.decision_function(values[fold_of == k])
    return score


def mean_auc(rows, scores):
    """AUC per fold, then the mean over folds and draws: models are never pooled."""
    inside = [(s, rows & (fold_of == k)) for s in scores for k in range(4)]
    return np.mean([auc(s[r], y[r]) for s, r in inside])
''')
b.code('''
show = lambda v, how=".3f": f"{v[0]:{how}} ({v[1]:{how}} to {v[2]:{how}})"
print("AUC, 95 % interval over groups; three draws of 25 and of 100 images, then all of three folds")
for n in (25, 100, len(y)):
    draws = {name: [scores_of(v, n, d) for d in range(3 if n < 200 else 1)] for name, v in x.items()}
    gap = lambda rows: mean_auc(rows, draws["512 features"]) - mean_auc(rows, draws["outputs"])
    for name, scores in draws.items():
        found = interval(lambda rows, scores=scores: mean_auc(rows, scores), group)
        print(f"{n if n < 200 else 'all':>4}  {name:13s} {show(found)}")
    print(f"      difference    {show(interval(gap, group), '+.3f')}")
''')
b.md(r"""
Read the differences first. The features are ahead with every number of labels, and zero lies outside each interval. They hold more than the seven descriptors. (The intervals cover images, not other labelled images and not another training of the source.)

The third way changes all weights. All folds would take minutes. So here is **one** run: one fold, 100 labelled images, a third of the evidence's epochs. One run shows how it is done, and no more.
""")
b.code('''
fold = folds[0]
rows = np.random.default_rng(SEED).permutation(len(fold.train))[:100]
few = SimpleNamespace(train=fold.train[rows], val=fold.val[::8])  # nothing is chosen on val
torch.manual_seed(SEED)
model = mt.freeze(mt.replace_head(mt.source_model(SOURCE), 2), through=None, batchnorm="eval")
mt.fine_tune(model, few, 8, mt.param_groups(model, lr=1e-3, decay=0.3), progress=False)

here = described(fold.train[rows])
ways = {"fine-tuned": mt.predict(model, fold.val)[:, 1].numpy()}
for name, values in described(fold.val).items():
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=5000))
    ways[name] = probe.fit(here[name], few.train.labels).decision_function(values)
''', ignore=True)
b.code('''
held, of = fold.val.labels.numpy(), fold.val.groups
rows = [(k, *interval(lambda r, s=s: auc(s[r], held[r]), of)) for k, s in ways.items()]
title = "One fold, 100 labels: intervals too wide to choose by"
plots.plot_intervals(rows, title, "AUC, 95 % interval over groups of images", reference=0.5)
''', ignore=True)
b.md(r"""
**Check 2.** Three intervals overlap widely. Does this show that the three ways are equally good?

<details><summary>Answer</summary>

No. The ways share the images, so only the interval of a paired difference can say. And even that would belong to one draw of 100 labels.
</details>

## 4. Another source, trained here: digits

Any labelled images can be a source. Here are 8×8 pixels of real handwritten digits (scikit-learn), enlarged. 600 train a ResNet-18 from random weights. Its normalisation is that of its own pixels, and nothing is mirrored: a mirrored 2 is no 2.
""")
b.code('''
bunch = load_digits()
small = torch.tensor(bunch.images[:, None] * 255 / 16, dtype=torch.float32)
pictures = nn.functional.interpolate(small, size=(32, 32), mode="bilinear").round().to(torch.uint8)
part = lambda rows: SimpleNamespace(images=pictures[rows], labels=torch.tensor(bunch.target[rows]))
digits = SimpleNamespace(train=part(slice(600)), val=part(slice(1700, None)))
shown = Split("digits", pictures[:6], torch.tensor(bunch.target[:6]), tuple("0123456789"))
mt.show_images(shown, title="Another source: which digit is it?", captions=list("012345"))
''')
b.code('''
torch.manual_seed(SEED)
reader = mt.replace_head(mt.source_model("random"), 10)
ink = digits.train.images.float() / 255
reader.normalisation = Normalisation((float(ink.mean()),) * 3, (float(ink.std()),) * 3)
mt.fine_tune(reader, digits, epochs=4, seed=SEED, augmented=False)
''', ignore=True)
b.md(r"""
It has learnt its task. Now the target, with 25 labelled simulated images: from scratch, from ultrasound, and from these digits. The first two repeat a row of the kept table (seed 1000), scored on the first 100 of its 400 test patients. They should come close to that row.
""")
b.code('''
few = mt.load_task("phantom", n_train=25, seed=1000)
made = phantom.simulate_target("test", 100, 64, seed=1000)  # the first 100 of 400 patients
fresh = Split("fresh", classes=few.classes, positive=1, **made)


def after_fine_tuning(model):
    """AUC with its 95 % interval over patients, after ten epochs on 25 images."""
    mt.replace_head(model, 2)
    mt.fine_tune(model, few, epochs=10, batch_size=8, seed=1000, progress=False)
    return mt.evaluate(mt.predict(model, fresh), fresh, n_boot=300)["auc"]
''')
b.code('''
in_sight = {}
for name in ("random", "ultrasound", "digits"):
    torch.manual_seed(1000)
    in_sight[name] = after_fine_tuning(reader if name == "digits" else mt.source_model(name))
    print(f"{name:10s} AUC {show(in_sight[name])}, one run, interval over patients")
''', ignore=True)
b.code('''
results = mt.data_folder() / "results"
read = lambda name: json.loads((results / f"{name}.json").read_text())
study = read("learning_curve")
kept = {r["source"]: r["auc"] for r in study["runs"]
        if (r["data"], r["n_train"], r["seed"]) == ("simulated", 25, 1000)}
apart = max(abs(in_sight[name][0] - kept[name]) for name in ("random", "ultrasound"))
print("a slice of the kept table comes out again, within 0.15:", apart < 0.15)
print("digits, kept table, six draws (gain over scratch, 95 % interval over patients and draws)")
for r in study["summary"]:
    if (r["test"], r["source"]) == ("simulated", "digits"):
        print(f"  {r['n_train']:3d} labels {show((r['difference'], r['low'], r['high']), '+.3f')}")
''')
b.md(r"""
One run has an interval over patients alone. It does not know that other labelled images, or another order of the batches, would give another number. The table's six paired draws do.

## 5. How far apart are source and target?

In the simulation we set the distance. No source image comes from a scanner near one of the target's three. The lobules of the gland have other sizes. No patient is in both.
""")
b.code('''
distance = lambda a, b: np.abs(a.position() - b.position()).max()  # settings scaled to 0..1
streams = [phantom.random_stream("source", 20_000_000, k) for k in range(500)]
people = [phantom.draw_patient(stream, "source") for stream in streams]
machines = phantom.TARGET_SCANNERS.values()
nearest = min(distance(person["scanner"], machine) for person in people for machine in machines)
print(f"source scanners stay {phantom.SCANNER_GAP} away:", bool(nearest > phantom.SCANNER_GAP))
(low, high), (small, large) = phantom.FIELD_MM["target"], phantom.LOBULE_MM["target"][0]
fields, sizes = ([person[name] for person in people] for name in ("field_mm", "lobule_mm"))
spread = f"source {min(fields):.0f} to {max(fields):.0f}, target {low:.0f} to {high:.0f}"
print("width of the picture, mm:", spread)
among = sum(small < size < large for size in sizes)
print(f"lobules between {small} and {large} mm, the target's: {among} of 500 source patients")
''')
b.code('''
# draws: two of six settings of 500 source scanners and of the target's three (folded)
fig, axis = plt.subplots(figsize=(6.2, 3.4))
across, range_db = np.array([(one["scanner"].lateral_mm, one["scanner"].range_db) for one in people]).T
axis.scatter(across, range_db, s=8, color=plots.BLUE, label="source")
for name, s in phantom.TARGET_SCANNERS.items():
    look = {"s": 90, "marker": "s", "color": plots.ORANGE, "edgecolor": plots.INK}
    axis.scatter(s.lateral_mm, s.range_db, **look, label="target" if name == "A" else None)
    axis.annotate(name, (s.lateral_mm, s.range_db), (8, 6), textcoords="offset points")
axis.set(xlabel="lateral blur, mm", ylabel="dynamic range, dB")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
fig.suptitle("Scanners of source and target", fontsize=12, fontweight="bold")
plots.show(
    fig,
    "Lateral blur against dynamic range. 500 source scanners fill the plane; the target's A, B and "
    "C lie among them. In two settings they can come close; in all settings together none does.",
)
''', fold=True)
b.md(r"""
And how far is the simulation from reality? Ask a classifier: real or simulated? An AUC of 0.5 would mean that it cannot tell them apart (a *classifier two-sample test*, Lopez-Paz and Oquab 2017). Mean and spread of the greys are made alike first. The intervals cover five splits, not patients.
""")
b.code('''
for r in read("real_or_simulated")["rows"]:
    if r["grey"] == "mean and SD alike":
        print(f"{r['simulated']:33s} {r['reader']:9s} {show((r['auc'], r['low'], r['high']))}")
''')
b.md(r"""
Simulated images can still be recognised: every interval lies above 0.5. A source can help nevertheless. It must be like the target in what the descriptors rest on, not in every pixel. Whether it is, only real images can show.

## 6. Why the evidence was made as it was

Four decisions, each against one way to be misled.

**Folds.** One test fold has few malignant images. Five folds test every image once, and the interval shrinks. We compare the standard errors of our own probe, with 100 labels and four folds.

**Groups.** Near-copies carry the same luck. If each image is left out alone, their luck is counted as independent, and the interval tends to be too short.
""")
b.code('''
scores = [scores_of(x["512 features"], 100, draw) for draw in range(3)]
value = lambda rows: mean_auc(rows, scores)
alone = np.flatnonzero(fold_of == 0)
one_fold = lambda rows: np.mean([auc(s[alone][rows], y[alone][rows]) for s in scores])
print(f"malignant in one fold: {y[alone].sum()}, in four: {y.sum()}")
print(f"one fold, groups left out:    SE {jackknife(one_fold, group[alone]):.4f}")
print(f"four folds, groups left out:  SE {jackknife(value, group):.4f}")
print(f"four folds, images left out:  SE {jackknife(value, np.arange(len(y))):.4f}")
''')
b.md(r"""
**Three trainings of each source.** All networks of one arm start from the same source file. If that training was lucky, every fold shares the luck, and no interval over images shows it. Three repetitions, each with its own training, its own folds and its own draws, make it visible. The variance between them is divided by 3 and added. But a variance from three values is itself uncertain, so the $t$ quantile grows: with 2 degrees of freedom it is 4.3, not 2.

A small calculation shows what this means for an AUC difference.
""")
b.code('''
def with_trainings(se_images, n_groups, sd, n_trainings):
    """Half the 95 % interval, from images and trainings together (Satterthwaite 1946)."""
    images, between = se_images**2, sd**2 / n_trainings
    df = (images + between) ** 2 / (images**2 / (n_groups - 1) + between**2 / (n_trainings - 1))
    return stats.t.ppf(0.975, df) * np.sqrt(images + between)


print(f"t quantile with 2 degrees of freedom {stats.t.ppf(0.975, 2):.1f}, with 547", end=" ")
print(f"{stats.t.ppf(0.975, 547):.2f}")
print("half an interval, SE over 548 groups 0.018; SD between trainings in the rows")
print("SD       2 trainings  3 trainings  10 trainings")
for sd in (0.0, 0.005, 0.01, 0.02):
    found = [with_trainings(0.018, 548, sd, k) for k in (2, 3, 10)]
    print(f"{sd:.3f}" + "".join(f"{half:13.3f}" for half in found))
''')
b.md(r"""
If trainings differ little, three are enough. If they differ much, three say so, and the interval becomes wide. One training says nothing about it. This is why notebook 01 claims nothing of another training as long as its table holds one.

**Recipes before results.** Epochs, rates and numbers of labels were fixed before any of these networks was scored on a real image. Otherwise we choose, without noticing, what favours one arm. Scratch got two to three times as many updates.

**Check 3.** The folds are drawn anew in each repetition, and each image is tested three times. Are there now 3 × 780 images?

<details><summary>Answer</summary>

No. The same 780 images are tested again. Repetitions are averaged; the number of groups stays 548.
</details>

**Discuss.** Two views of the same woman that look different lie in different folds, because nobody knows that they belong together. In which direction does this move the AUC? And the difference of two arms?

## Summary

- With the descriptors known, the best AUC of the simulated task is 0.963: exact by going through all combinations, and confirmed by simulation.
- Counting shape and margin as independent costs little in the order and much in the probabilities.
- A jackknife over groups gives an interval for a mean over folds and for a paired difference.
- One run shows how a method works. Six paired draws, or three trainings, show what it is worth.
- Folds use every image, groups count copies once, trainings show the luck of the source, recipes come first.

Back to [notebook 01](01_source_and_target_tasks.ipynb), or on to [what is inside a network](02_shared_and_specific_layers.ipynb).

## References

- Neyman & Pearson, "On the problem of the most efficient tests of statistical hypotheses", *Phil. Trans. A* 231 (1933) 289.
- Efron & Tibshirani, *An Introduction to the Bootstrap*, Chapman & Hall 1993 (bootstrap and jackknife).
- Satterthwaite, "An approximate distribution of estimates of variance components", *Biometrics Bulletin* 2 (1946) 110.
- Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", ICLR 2017.
- Alpaydin & Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository (the digits).
- Wang, Dai, Póczos & Carbonell, "Characterizing and avoiding negative transfer", CVPR 2019.
""")
if __name__ == "__main__":
    path = "/work/switch/notebooks/01_source_and_target_tasks_deep.ipynb"
    b.write(path)
    sys.path.insert(0, "/work/switch")
    import nbformat
    from tests.chapters.reading_rules import words, code
    nb = nbformat.read(path, 4)
    print("words", words(nb), "code", len(code(nb)))
    big = 0
    for c in code(nb):
        n = len(c.source.splitlines()); fold = bool(c.metadata.get("jupyter"))
        if n > 15 and not fold: big += 1
        if n > 15: print(c.id, n, "folded" if fold else "")
        for l in c.source.splitlines():
            if len(l) > 100: print(c.id, len(l), l[:60])
    print("big", big, "of", sum(not c.metadata.get("jupyter") for c in code(nb)))
