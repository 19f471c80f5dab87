"""Build notebooks/00_start_here.ipynb (outputs empty): build00.py [OUT] [--no-test]"""

import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

OUT = Path("/work/switch/notebooks/00_start_here.ipynb")
cells = []


def text(source):
    cells.append(new_markdown_cell(source.strip("\n"), id=f"text-{len(cells) + 1:03d}"))


def code(source, tags=(), folded=False):
    metadata = {"tags": list(tags)} if tags else {}
    if folded:
        metadata["jupyter"] = {"source_hidden": True}
    cells.append(new_code_cell(source.strip("\n"), id=f"code-{len(cells) + 1:03d}", metadata=metadata))


IGNORE = "nbval-ignore-output"

text(r"""
# Start here

A network has learnt to describe *simulated* ultrasound images. Can it learn to judge *real* breast tumours from 400 labelled images? You will see in a few minutes.

**After this notebook you can**

1. say in one sentence what [transfer learning](GLOSSARY.md#transfer-learning) (迁移学习) is, and what a source was worth on real tumours;
2. fine-tune a network on real images in six lines, and read its report;
3. find your way: chapters, exercises, your machine.

| | |
|---|---|
| You need | a little Python |
| To teach | 45 minutes, exercises included; the open task is extra |
| To run | about 35 seconds with one thread, 19 with two; 1.6 GB of memory; no network, no GPU |

The next cell holds the *parameters*. Change a word, run all cells again (menu *Run → Run All Cells*), and the notebook works on other data. All of it is for teaching, never for diagnosis.
""")
code("""
TASK = "busi"  # "busi": real breast ultrasound, ships | "phantom": simulated, made here
SOURCE = "ultrasound"  # "ultrasound": simulated, ships | "imagenet": photographs | "random": none
SEED = 0  # which images are labelled, and every random number below
""", tags=["parameters"])
code("""
import json
import os
import platform
import socket

import matplotlib.pyplot as plt
import torch

import medtl_utils as mt
from medtl_utils import phantom, plots
from medtl_utils.exercises import check, hint  # noqa: F401
from medtl_utils.widgets import transfer_against_n
""")

text(r"""
## 1. The idea in one picture

Medicine has few labelled images. Each label needs a biopsy or an expert. Transfer learning uses two tasks:

- The [source task](GLOSSARY.md#source-task) (源任务) has plenty of data. Here: describe a *simulated* lesion in words. A computer draws the images, so it knows the words.
- The [target task](GLOSSARY.md#target-task) (目标任务) has few labels. Here: is a *real* tumour malignant?

First a network learns the source task. Then we copy its weights, give it a new last layer, and go on training on the target.
""")
code('''
# draws: simulated and real images beside two networks, one made from the other (folded)
names = [f"busi/{w}" for w in ("benign/benign (350).png", "benign/benign (186).png")]
names += [f"busi/malignant/malignant ({k}).png" for k in (102, 144)]
known = mt.load_task("busi", size=128).train
real = {name: image for name, image in zip(known.ids, known.images) if name in names}
top, bottom = [], [(real[name], name.split("/")[1]) for name in names]
for number in (62, 60, 212, 170):  # simulated patients that no training used
    image, _, (values,) = phantom.simulate_source(20_000_000 + number, 1, size=128)
    shape, margin = list(phantom.DESCRIPTORS.values())[:2]
    top.append((image[0], f"{shape[values[0]]}, {margin[values[1]]}"))

made = json.loads((mt.data_folder() / "results" / "pretrain.json").read_text())["images"]
heads = {
    0.56: ("shape?\\nmargin?\\nshadow?\\n…", "#fdae6b", "last layer:\\nwords"),
    0.06: ("malignant\\nor not?", "#a1d99b", "last layer:\\nnew"),
}
fig = plt.figure(figsize=(11, 5.9), layout="none")
fig.suptitle("Learn where data are plenty, copy the weights, go on", fontweight="bold")
titles = (f"source task: {made:,} simulated images", "target task: a few hundred real images")
for y, row, title in zip(heads, (top, bottom), titles):
    fig.text(0.01, y + 0.345, title, fontsize=12)
    for k, (image, caption) in enumerate(row):
        axis = fig.add_axes((0.01 + 0.155 * k, y + 0.035, 0.148, 0.28))
        plots.draw_image(axis, image)
        axis.text(0.5, -0.04, caption, ha="center", va="top", fontsize=10, transform=axis.transAxes)
page = fig.add_axes((0.62, 0, 0.38, 0.95), xlim=(0, 10), ylim=(0, 0.95))
page.axis("off")
arrow = {"arrowstyle": "-|>", "lw": 2, "color": plots.INK, "shrinkA": 0, "shrinkB": 0}
for y, (question, color, name) in heads.items():
    page.annotate("", (1.2, y + 0.175), (0.3, y + 0.175), arrowprops=arrow)
    for k, height in enumerate((0.28, 0.23, 0.18, 0.13)):
        box = (1.4 + 0.95 * k, y + 0.175 - height / 2), 0.75, height
        page.add_patch(plt.Rectangle(*box, facecolor="#9ecae1", edgecolor="black"))
    box = (5.2, y + 0.1), 0.75, 0.15
    page.add_patch(plt.Rectangle(*box, facecolor=color, edgecolor="black"))
    page.text(5.6, y + 0.085, name, ha="center", va="top", fontsize=10)
    page.annotate("", (7.1, y + 0.175), (6.1, y + 0.175), arrowprops=arrow)
    page.text(7.3, y + 0.175, question, va="center", fontsize=12)
page.annotate("", (2.9, 0.4), (2.9, 0.56), arrowprops=arrow | {"lw": 5, "color": plots.BLUE})
page.text(3.4, 0.475, "copy the weights", va="center", fontsize=12, color=plots.BLUE)
plots.show(
    fig,
    f"Above: four simulated images, called {'; '.join(words for _, words in top)}; an arrow leads "
    "to a network of four layers and a last layer that asks for shape, margin and shadow. Below: "
    "two benign and two malignant real images, and the same network with a new last layer, "
    "malignant or not. A thick arrow copies the weights of the four layers.",
)
''', folded=True)
text(r"""
The words describe the lesion. *Circumscribed*: a sharp border. *Indistinct*: a blurred one. *Microlobulated*: small bumps. *Spiculated*: spikes. Chapter 01 explains them with real images. The source network has never seen a real image, and nobody told it what is malignant.

**Check 1.** Which part of the source network is *not* copied, and why?

<details><summary>Answer</summary>

The last layer. Its outputs are words such as "round" or "spiculated". The target asks another question. So the network gets a new last layer, which starts with random weights.
</details>

## 2. Six lines on real tumours

Load the task. Fix the random numbers. Give the source network a new last layer. [Fine-tune](GLOSSARY.md#fine-tuning) (微调) it, in small steps that keep what was copied. Open the locked [test set](GLOSSARY.md#test-set) (测试集), once. Evaluate.

The score is the [AUC](GLOSSARY.md#auc) (曲线下面积): the probability that a malignant image gets a higher score than one that is not malignant. 0.5 is chance, 1 is perfect.

**Predict before you run.** The log prints the AUC on *validation* images, on which the network does not train. What will it be after one pass over the training images, and what after the last? Write both numbers down.
""")
code("""
task = mt.load_task(TASK, n_train=400, seed=SEED)
torch.manual_seed(SEED)
model = mt.replace_head(mt.source_model(SOURCE), len(task.classes))
mt.fine_tune(model, task, epochs=5, lr=3e-4, seed=SEED)
test = task.open_test("the first model of notebook 00")
result = mt.evaluate(mt.predict(model, test), test, train=task.train)
""", tags=[IGNORE])
text(r"""
One row is one [epoch](GLOSSARY.md#epoch) (轮次), a pass over the training images. *Train loss* says how wrong the network is on them: it falls. *Val auc* rises, fastest at the beginning. Was your prediction close?

Now the test images, which played no part until here. First six of them, with the truth and the network's probability of cancer. Then the report on all:
""")
code("""
p = mt.predict(model, test)[:, test.positive]
order = (1 - test.positive, test.positive)
rows = [int(k) for c in order for k in torch.nonzero(test.labels == c)[:3]]
captions = [f"{test.classes[test.labels[k]]}\\nnetwork: {p[k]:.2f}" for k in rows]
mt.show_images(test[rows], captions=captions, title="Truth, and the network's probability")
print(mt.report(result, test, task))
""", tags=[IGNORE])
text(r"""
- **auc** stands with its 95 % [confidence interval](GLOSSARY.md#confidence-interval) (置信区间). It says how much the number would vary with other test images. Near-copies of one picture stay together.
- **accuracy** is the share of images that are called right. Alone it says little: see below.
- **[sensitivity](GLOSSARY.md#sensitivity)** (灵敏度) is the share of malignant images that are found. **[specificity](GLOSSARY.md#specificity)** (特异度) is the share of the others that are cleared. Chapter 06 explains the rest.
- **patients unknown**: another image of the same woman can be in the training set. So the numbers may be too good, and we never say "per patient" here.
- The last line counts how often the test set was opened. (The study in section 3 used these images, too.)

A number needs a *trivial baseline* beside it. This one never says malignant:
""")
code("""
n = len(test)
ill = int((test.labels == test.positive).sum())
print(f"{n} test images, {ill} malignant")
print(f"never malignant: accuracy {(n - ill) / n:.3f}, sensitivity 0, specificity 1, AUC 0.5")
print("the network's AUC, whole interval above 0.5:", result["auc"][1] > 0.5)
""")
text(r"""
The baseline has a good accuracy and finds no cancer. The network's accuracy is above it, with its whole interval. With the baseline inside the interval, the accuracy could not say whether the network learnt anything.

**Check 2.** A report says: 40 malignant test images, sensitivity 0.80 (0.65 to 0.90). How many cancers did this network miss? Between which numbers might it be with other images?

<details><summary>Answer</summary>

It missed 40 × (1 − 0.80) = 8. With other images, 40 × (1 − 0.90) = 4 to 40 × (1 − 0.65) = 14 would be no surprise. An accuracy alone would hide them.
</details>

## 3. What the source is worth on real tumours

Did the source help, or would any network have learnt this? One run on one test set cannot say. A study used all images, by cross-validation: each image was scored by networks that had learnt neither from it nor from a near-copy. It compared three starts, always one network against one:

- **[from scratch](GLOSSARY.md#training-from-scratch)** (从头训练): random weights, and more updates;
- **simulated ultrasound**: a source trained as that of section 1;
- **the control**: a source that was trained in the same way, on shapes that are no ultrasound.

Move the slider. Where does the source add most? Which interval of a gain includes zero?
""")
code("""
results = mt.data_folder() / "results"
tables = [results / f"{name}.json" for name in ("evidence", "evidence_first")]
table = json.loads(next(file for file in tables if file.is_file()).read_text())
print("made by:", table["command"], "| images:", table["images"])
covers = "95 %, over groups of images and trainings of the source"
print("interval:", table.get("interval", covers))
widget = transfer_against_n(table)
""")
code("""
pairs = [("ultrasound", "scratch"), ("shapes", "scratch"), ("ultrasound", "shapes")]
updates = {(row["arm"], row["n"]): row["updates"] for row in table["updates"]}
print("difference in AUC (95 % interval), and updates of both")
for arm, against in pairs:
    rows = [row for row in table["gains"] if (row["arm"], row["against"]) == (arm, against)]
    for row in sorted(rows, key=lambda row: row["n"] or 624):
        n = row["n"]
        gain = f"{row['value']:+z.2f} ({row['low']:+z.2f} to {row['high']:+z.2f})"
        labels = f"{n or 'all'} labels"
        steps = f"{updates[arm, n]} and {updates[against, n]}"
        print(f"{arm} - {against:8s} {labels:>10s}   {gain}   {steps}")
""")
text(r"""
**Simulated ultrasound.** The gain is +0.12 with 25 labels, +0.10 with 100, +0.08 with 200 and +0.06 with all. No interval includes zero. The estimates fall as labels become more; the intervals overlap, so the fall itself is not certain.

**The control.** Over scratch, every interval includes zero: we cannot say whether shapes help. Between ultrasound and the control, no interval includes zero. So it mattered *what* the source had learnt.

**What this table does not say.** It holds the first of three repetitions, with one training of each source. The intervals cover the images alone. Another training of the same source might gain more or less.

**Check 3.** With all labels, the control minus scratch is −0.03 (−0.07 to +0.01). A colleague says: "Shapes do harm." Is this shown?

<details><summary>Answer</summary>

No. The interval includes zero. The true value may be a loss of 7 points of AUC, nothing, or a gain of 1 point. We cannot say.
</details>

**Discuss.** A hospital has 5,000 labelled images of this kind. Would you still look for a source? Which comparison would convince you, and what would it need?

## 4. The map

| notebook | question | deeper |
|---|---|---|
| **first morning** | | |
| 00 Start here | what is transfer learning, and does it work? | |
| [01 Source and target tasks](01_source_and_target_tasks.ipynb) | what is transferred from where to where, and when does it help? | |
| [02 Shared and specific layers](02_shared_and_specific_layers.ipynb) | what is inside a ResNet, and what does "frozen" mean? | [02 deep](02_shared_and_specific_layers_deep.ipynb) |
| [03 The loss](03_loss.ipynb) | what does a wrong answer cost, and if a missed tumour is worse? | [03 deep](03_loss_deep.ipynb) |
| **second morning** | | |
| [04 Gradient descent](04_gradient_descent.ipynb) | how large may a step be? | [04 deep](04_gradient_descent_deep.ipynb) |
| [05 Fine-tune a ResNet](05_fine_tune_resnet.ipynb) | how do I fine-tune on real tumours, choose, and compare? | [04b Find the faults](04b_find_the_faults.ipynb) |
| [06 Evaluate honestly](06_evaluate_honestly.ipynb) | what may I report, with which interval? | [06 deep](06_evaluate_honestly_deep.ipynb) |
| [07 Explain honestly](07_explain_honestly.ipynb) | what does a heat map show, and what does it hide? | [07 deep](07_explain_honestly_deep.ipynb) |
| **then** | | |
| 08 to 10, in preparation | few data, unrelated sources, small models | |
| 11 to 14, 16, in preparation | several tasks, several kinds of data, other hospitals, your own data | |
| [15 ECG](15_ecg.ipynb), [15b speech](15b_speech.ipynb), [15c genes](15c_genes.ipynb) | the same steps without images | |

The path from 00 to 07 takes eight hours with its exercises: two mornings. With one afternoon, read 00, 05 and 06. Words in blue lead to the [glossary](GLOSSARY.md), in English and Chinese.

## 5. Your machine, the exercises, teaching

The course needs no GPU and no network.
""")
code("""
def online(host="example.org"):
    try:
        socket.create_connection((host, 443), timeout=2).close()
        return True
    except OSError:
        return False


torch_version = torch.__version__.split("+")[0]
print("Python", platform.python_version(), "| torch", torch_version, "| CPU cores:", os.cpu_count())
print("device that fine_tune will use:", mt.best_device().type)
print("network:", "there" if online() else "none (fine: the course's own data need none)")
""", tags=[IGNORE])
code("""
for name in ("ultrasound_resnet18.safetensors", "busi_128.npz", "busi_images.csv"):
    there = (mt.data_folder() / name).is_file()
    print(f"{name}: {'there' if there else 'MISSING: run git checkout -- data'}")
print("torch new enough:", tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 10))
""")
text(r"""
**Exercises.** Replace the three dots in `answer = ...` and run the cell. A wrong answer gets a sentence that names the mistake. For help run `hint("0.1")` in a new cell; the second time it says more. The solution is folded below.

**Teachers.**

- Let people write their prediction down before the cell runs. Then discuss the difference.
- Sentences to discuss: "0.91 is better than 0.89", "accuracy 0.73 is not bad", "the interval includes zero, so there is no effect".
- On a shared server start `make lab SEATS=30`. You may copy and change everything: text and figures CC BY 4.0, code MIT.

## What can go wrong

| mistake | what you see | what to do |
|---|---|---|
| cells run out of order | `NameError`, or numbers of an older cell | menu *Kernel → Restart Kernel and Run All Cells* |
| another Python than the course's | `No module named medtl_utils` | start with `make lab` |
| the test set opened twice | `TestSetOpened` | choose on validation; restart for a new study |
| two trainings at a time on two cores | each takes ten times as long | one at a time |
| accuracy without a baseline | "0.73, not bad" | say what a constant answer gets |

## Summary

- Transfer learning copies weights from a task with plenty of data, and goes on training where labels are few.
- On real tumours the simulated source added +0.12 (+0.08 to +0.15) of AUC with 25 labels, +0.06 (+0.03 to +0.09) with all. The intervals cover images, not other trainings of the source.
- For the control, every interval includes zero: we cannot say whether shapes help.
- A result is a value, an interval, a baseline, and a test set that opens once.

## Exercises

**0.1** Which of these projects are transfer learning? Answer with letters, such as `"bd"`.

(a) A network that marks the vessels of the eye is trained further to grade diabetic eye disease. (b) A finished network of hospital A is used, unchanged, on the patients of hospital B. (c) A network learnt to recognise words from thousands of hours of speech. It is fine-tuned on 200 recordings to detect Parkinson's disease. (d) A network with random weights learns from 50,000 labelled X-rays. (e) Each training image is shown a second time, mirrored. (f) A network that knows photographs gets a new last layer. Only this layer learns, from 300 skin images.
""")
EXERCISE = 'answer = ...\ncheck("{}", answer)'
code(EXERCISE.format("0.1"))
text(r"""
<details><summary>Solution 0.1</summary>

```python
answer = "acf"   # b learns nothing new, d has no source task, e is augmentation
```
</details>

**0.2** Write a function of `labels` and `called`, NumPy arrays of 0 and 1 (1 = malignant). It returns the accuracy of the calls *minus* the accuracy of the best constant answer. The benign need not be the majority.
""")
code(EXERCISE.format("0.2"))
text(r"""
<details><summary>Solution 0.2</summary>

```python
def answer(labels, called):
    baseline = max(labels.mean(), 1 - labels.mean())   # always 1, or always 0
    return (called == labels).mean() - baseline
```
</details>

**0.3** A test set has 120 benign and 40 malignant images. Sensitivity is 0.85, specificity 0.90. How many images were called malignant?
""")
code(EXERCISE.format("0.3"))
text(r"""
<details><summary>Solution 0.3</summary>

```python
answer = 46   # 0.85 * 40 = 34 found, and (1 - 0.90) * 120 = 12 false alarms
```
</details>

### Open task (45 minutes)

Plan a transfer project of your own on one page. The rubric says what it needs.

| rubric | 0 points | 1 point | 2 points |
|---|---|---|---|
| two tasks | one is missing | both named | input and label of both, and what they share |
| the labels | no number | a number | number per class, who labels, and the unit (patient or image) |
| the comparison | "high accuracy" | against training from scratch | also the trivial baseline and a control source, one network against one |
| the limits | none | one named | says which result would make you stop |

## Copy into your own research

From data to report, for grey and RGB images and any number of classes. For your own data change the name of the task to `"folder:PATH"`, with a folder for each class.
""")
code("""
import torch

import medtl_utils as mt

task = mt.load_task("phantom", n_train=100, seed=2)  # change: "folder:PATH"
torch.manual_seed(0)
model = mt.replace_head(mt.source_model("ultrasound"), len(task.classes))
mt.fine_tune(model, task, epochs=3, progress=False)  # real work: 10 epochs and more
test = task.open_test("final result of my study")
result = mt.evaluate(mt.predict(model, test), test, train=task.train)
print(mt.report(result, test, task))
""", tags=["copy", IGNORE])
text(r"""
## References

- Pan & Yang, "A survey on transfer learning", *IEEE TKDE* 22 (2010) 1345.
- Raghu, Zhang, Kleinberg & Bengio, "Transfusion: understanding transfer learning for medical imaging", NeurIPS 2019: where it helps, and where it does not.
- Al-Dhabyani et al., "Dataset of breast ultrasound images", *Data in Brief* 28 (2020) 104863: the real images.
""")

if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    if out.exists():  # outputs stay where the code did: the test set need not be opened again
        old = {c.id: c for c in nbformat.read(out, 4).cells if c.cell_type == "code"}
        new = [c for c in cells if c.cell_type == "code"]
        if all(c.id in old and old[c.id].source == c.source for c in new):
            for c in new:
                c.outputs, c.execution_count = old[c.id].outputs, old[c.id].execution_count
    nb = new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.validate(nb)
    nbformat.write(nb, out)
    print(out, len(cells), "cells")
