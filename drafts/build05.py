"""Builds notebooks/05_fine_tune_resnet.ipynb: python build05.py OUT.ipynb [--small]"""
import sys
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

cells = []


def md(name, text):
    cells.append(new_markdown_cell(text.strip("\n"), id=f"text-{name}"))


def code(name, text, *tags, folded=False):
    metadata = {"tags": list(tags)} if tags else {}
    if folded:
        metadata["jupyter"] = {"source_hidden": True}
    cells.append(new_code_cell(text.strip("\n"), id=f"code-{name}", metadata=metadata))


IGNORE = "nbval-ignore-output"

md("001", r"""
# Fine-tune a ResNet on real tumours

A network has learnt to *describe* lesions on simulated ultrasound. This is the [source task](GLOSSARY.md#source-task) (源任务). Now it learns to tell malignant tumours from other findings on real images. This is the [target task](GLOSSARY.md#target-task) (目标任务). You write every step yourself. At the end you have one number, and you can say how far to trust it.

**After this notebook you can**

1. fine-tune a pre-trained ResNet on your own images, with each of the five steps written by you;
2. build six ways to use a source model, and choose one by grouped [cross-validation](GLOSSARY.md#cross-validation) (交叉验证);
3. open a test set once, and say whether transfer helped, with an interval and what it covers.

| | |
|---|---|
| You need | notebooks [02](02_shared_and_specific_layers.ipynb) to [04b](04b_find_the_faults.ipynb), or some PyTorch |
| To teach | 90 minutes, exercises included; the open task is extra |
| To run | about 140 seconds with one thread, 77 with two; 1.8 GB of memory; no network, no GPU |

One word switches the data. `TASK = "busi"` is real breast ultrasound, `"phantom"` is simulated. The sentences below speak about `"busi"`.
""")
code("002", r'''
TASK = "busi"  # "busi": real tumours, ships | "phantom": simulated, made here | "breastmnist"
SOURCE = "ultrasound"  # "ultrasound": simulated, ships | "imagenet": photographs | "random": none
N_TRAIN = None  # labelled images, for training and validation together; None: all
EPOCHS = 10  # passes over the training images
SEED = 5  # the new head, the order of the images, the folds of section 7
''', "parameters")
code("003", r'''
import copy
import json
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset

import medtl_utils as mt
from medtl_utils import plots
from medtl_utils.augmentation import augment
from medtl_utils.data import output_folder
from medtl_utils.exercises import check, hint  # noqa: F401
from medtl_utils.widgets import case_viewer
''')

md("004", r"""
## 1. Real tumours

A task has three parts: a training set, a [validation set](GLOSSARY.md#validation-set) (验证集) for choices, and a locked [test set](GLOSSARY.md#test-set) (测试集). Before you use any data, read the card:
""")
code("005", r'''
task = mt.load_task(TASK, n_train=N_TRAIN, seed=SEED)
print(task)
print(task.card)
''')
md("006", r"""
There are **no patient identifiers**, so nobody can split by patient. But the card counts near-copies: images so alike that they show the same view. [Near-copies](GLOSSARY.md#near-copy) (近似副本) stay together, always on one side of a split.

The [positive class](GLOSSARY.md#positive-class) (阳性类) is the disease. Its index is 1 here and 0 in other archives. So we read it from the task:
""")
code("007", r'''
print("positive class:", task.classes[task.positive], "= index", task.positive)
mt.show_images(task.train, n=12, title="Real lesions: some are easy, many are not", seed=SEED)
''')
md("008", r"""
An irregular outline, a shape taller than wide, a shadow below: these speak for malignancy. None proves it. Images 3 and 6 of the upper row are near-copies.

## 2. A first result

The source model turns an image into 512 numbers. We freeze it and fit a logistic regression on these numbers. This is a [linear probe](GLOSSARY.md#linear-probe) (线性探针), also called [feature extraction](GLOSSARY.md#feature-extraction) (特征提取). The baseline is the same probe on a network with random weights.

We measure the [AUC](GLOSSARY.md#auc) (曲线下面积): how often does a malignant image score higher than an image without cancer? Chance is 0.5.
""")
code("009", r'''
def features(model, split):
    """The 512 numbers below the head, (N, 512)."""
    trunk = copy.deepcopy(model)
    trunk.fc = nn.Identity()
    return mt.predict(trunk, split, raw=True).numpy()


def fit_probe(x, y, C):
    """Logistic regression on standardised numbers; a small C is a strong penalty on weights."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-8, max_iter=10_000))
    return probe.fit(x, y)
''')
code("010", r'''
torch.manual_seed(SEED)
source, on_val = mt.source_model(SOURCE), {}
for name, start in {"random": mt.source_model("random"), SOURCE: source}.items():
    f_train, f_val = (features(start, split) for split in (task.train, task.val))
    probe = fit_probe(f_train, task.train.labels, C=0.01)
    scores = torch.tensor(probe.predict_proba(f_val))
    on_val[f"probe, {name}"] = value, low, high = mt.evaluate(scores, task.val)["auc"]
    print(f"{name:10s}  validation AUC {value:.2f} (95 % interval {low:.2f} to {high:.2f})")
''')
md("011", r"""
The source has seen no real image and no diagnosis. Still, its numbers separate malignant from other images. The interval is a [bootstrap](GLOSSARY.md#bootstrap) (自助法) over groups of near-copies. It says nothing about patients: nobody knows who they are.

**Check 1.** A program calls every validation image "normal or benign". What are its accuracy and its AUC?

<details><summary>Answer</summary>

114 of 156 images are right: accuracy 0.73. All scores are equal, so each pair is a tie: AUC 0.5.
</details>

## 3. A `Dataset` and a `DataLoader`

PyTorch asks a data set two things: how many items are there, and what is item *i*? The pixels must have the scale that the source was trained on ([normalisation](GLOSSARY.md#normalisation), 归一化). Its mean and standard deviation (SD) travel with the model.
""")
code("012", r'''
class TumourDataset(Dataset):
    """Item i: a normalised image (3, H, W) and its label."""

    def __init__(self, split, mean, std):
        self.split, self.mean, self.std = split, mean, std

    def __len__(self):
        return len(self.split)

    def __getitem__(self, i):
        grey_or_rgb = self.split.images[i].float() / 255
        three_channels = grey_or_rgb.expand(3, -1, -1)  # ResNet expects three
        return (three_channels - self.mean) / self.std, self.split.labels[i]
''')
md("013", r"""
The loader shuffles the images in every [epoch](GLOSSARY.md#epoch) (轮次) and hands them out in batches of 32:
""")
code("014", r'''
norm = source.normalisation
mean, std = (torch.tensor(v).view(3, 1, 1) for v in (norm.mean, norm.std))
train_loader = DataLoader(
    TumourDataset(task.train, mean, std),
    batch_size=32,
    shuffle=True,
    generator=torch.Generator().manual_seed(SEED),  # the order can be repeated
)
images, labels = next(iter(train_loader))
print("one batch:", tuple(images.shape), images.dtype, "| labels:", tuple(labels.shape))
print("pixel mean near 0 and SD near 1:", bool(abs(images.mean()) < 1 and 0.5 < images.std() < 2))
''')

md("015", r"""
## 4. The five steps, once, by hand

1. **Load** the source model and give it a new head.
2. **Forward**: compute predictions for a batch of target images.
3. **Loss and backward**: measure the error, and how it changes with every parameter.
4. **Update** the parameters.
5. **Repeat** 2 to 4 until the performance on validation images is good enough.

### Step 1: load

The head of the source names descriptors. It is the [specific layer](GLOSSARY.md#specific-layer) (特定层). We replace it by `nn.Linear(512, 2)` and keep the [shared layers](GLOSSARY.md#shared-layers) (共享层).
""")
code("016", r'''
torch.manual_seed(SEED)
model = copy.deepcopy(source)
print("head of the source:", model.fc)
model.fc = nn.Linear(512, 2)  # the specific layer of the target task
print("head of the target:", model.fc)
n_all = sum(p.numel() for p in model.parameters())
n_head = sum(p.numel() for p in model.fc.parameters())
print(f"parameters: {n_head:,} new, {n_all - n_head:,} from the source")
''')
md("017", r"""
### Steps 2 and 3: forward, loss, backward

The model returns two [logits](GLOSSARY.md#logits) (对数几率) per image. [Softmax](GLOSSARY.md#softmax) (归一化指数函数) turns them into probabilities $\hat y$. The loss is the [cross-entropy](GLOSSARY.md#cross-entropy) (交叉熵) of [notebook 03](03_loss.ipynb):

$$L(\theta) = \frac{1}{m}\sum_{i=1}^{m} l(y_i, \hat y_i), \qquad l(y_i, \hat y_i) = -\log \hat y_{i,y_i}$$
""")
code("018", r'''
logits = model(images)
probabilities = logits.softmax(dim=1)
by_hand = -probabilities[torch.arange(len(labels)), labels].log().mean()
loss = nn.functional.cross_entropy(logits, labels)  # it takes logits, not probabilities
print("logits:", tuple(logits.shape), "| by hand and by PyTorch:", bool(by_hand.isclose(loss)))

loss.backward()  # the gradient of L for every parameter, by the chain rule
with_gradient = sum(p.grad is not None for p in model.parameters())
print("tensors with a gradient:", with_gradient, "of", len(list(model.parameters())))
''')
md("019", r"""
### Step 4: update

[Gradient descent](GLOSSARY.md#gradient-descent) (梯度下降) takes a small step: $\theta_{t+1} = \theta_t - \alpha \nabla L(\theta_t)$ with [learning rate](GLOSSARY.md#learning-rate) (学习率) $\alpha$. On the *same* batch the loss must go down. If it does not, $\alpha$ is too large or the gradient is wrong.
""")
code("020", r'''
alpha = 0.01
with torch.no_grad():
    for theta in model.parameters():
        theta -= alpha * theta.grad  # theta_{t+1} = theta_t - alpha * grad L(theta_t)
    new_loss = nn.functional.cross_entropy(model(images), labels)
print("the loss on this batch went down:", bool(new_loss < loss))
''')
md("021", r"""
### Step 5: repeat

One function repeats steps 2 to 4 for every batch. Another one looks at images that were not learnt from, in evaluation mode.
""")
code("022", r'''
def train_one_epoch(model, loader, optimizer):
    """Steps 2 to 4 for every batch; returns the mean loss."""
    model.train()
    total, n = 0.0, 0
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images), labels)  # steps 2 and 3
        optimizer.zero_grad()  # forget the gradient of the last batch
        loss.backward()  # step 3
        optimizer.step()  # step 4
        total, n = total + loss.item() * len(labels), n + len(labels)
    return total / n


def validate(model, split):
    """Mean loss and AUC on a split, in evaluation mode."""
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(x) for x, _ in DataLoader(TumourDataset(split, mean, std), 128)])
    loss = nn.functional.cross_entropy(logits, split.labels)
    auc = roc_auc_score(split.labels == split.positive, logits.softmax(1)[:, split.positive])
    return loss.item(), auc
''')
md("023", r"""
## 5. The textbook recipe, exactly

ResNet-18, `nn.Linear(512, 2)`, cross-entropy, Adam with learning rate 0.001, batches of 32, ten epochs. After each epoch we look at the validation images.

**Predict before you run.** An uninformed model has a loss of $\log 2 = 0.69$. What will epoch 10 say: training loss, validation loss, validation AUC? Write down three numbers.
""")
code("024", r'''
torch.manual_seed(SEED)
model = copy.deepcopy(source)
model.fc = nn.Linear(512, 2)
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
log = {"train_loss": [], "val_loss": [], "val_auc": []}
for epoch in range(EPOCHS):
    train_loss = train_one_epoch(model, train_loader, optimizer)
    for name, value in zip(log, (train_loss, *validate(model, task.val))):
        log[name].append(value)
    now = "  ".join(f"{name.replace('_', ' ')} {values[-1]:.3f}" for name, values in log.items())
    print(f"epoch {epoch + 1:2d}  {now}")
model.zero_grad()
del optimizer, logits, probabilities, loss, by_hand, new_loss  # frees memory
''', IGNORE)
code("025", r'''
# draws: losses and validation AUC of the textbook recipe, by epoch (folded)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
epochs = range(1, EPOCHS + 1)
left.plot(epochs, log["train_loss"], marker="o", label="training images")
left.plot(epochs, log["val_loss"], marker="s", label="validation images")
left.axhline(math.log(2), color=plots.GREY, linestyle=":")
left.set(title="The training images are memorised", xlabel="epoch", ylabel="loss")
left.legend(fontsize=9)
right.plot(epochs, log["val_auc"], marker="o", color=plots.INK, linestyle="-")
right.axhline(0.5, color=plots.GREY, linestyle=":")
right.set(title="The order of new images", xlabel="epoch", ylabel="validation AUC", ylim=(0.45, 1))
ends = {name: f"{v[0]:.2f} to {v[-1]:.2f}" for name, v in log.items()}
plots.show(
    fig,
    f"Left: the training loss goes from {ends['train_loss']}, the validation loss from "
    f"{ends['val_loss']}; dotted: log 2. Right: the validation AUC goes from {ends['val_auc']} and "
    f"lies between {min(log['val_auc']):.2f} and {max(log['val_auc']):.2f}; dotted: chance.",
)
''', IGNORE, folded=True)
code("026", r'''
print("training loss below a third of log 2:", log["train_loss"][-1] < math.log(2) / 3)
print("validation loss above the training loss:", log["val_loss"][-1] > log["train_loss"][-1])
print("validation AUC above 0.75:", log["val_auc"][-1] > 0.75)
on_val["textbook"] = mt.evaluate(mt.predict(model, task.val), task.val)["auc"]
''')
md("027", r"""
It learns. The training loss ends near zero: the network has memorised its images. The validation AUC moves up and down. Do not keep the epoch with the highest one: the maximum of ten noisy numbers is too high ([notebook 04b](04b_find_the_faults.ipynb)).

## 6. Six ways to use a source

The textbook leaves four questions open. How fast should the network learn at the end? Can 468 images be made to count for more? Which layers should move? What does BatchNorm do meanwhile?

| way | what learns | rate | BatchNorm |
|---|---|---|---|
| textbook | all layers | 0.001, constant | by the batch |
| full rate | all layers | 0.001, rises, then falls to 0 | by the batch |
| one low rate | all layers | 0.0001, rises, then falls to 0 | by the batch |
| feature extraction | the head alone | – | the source's statistics |
| head first, then all | the head, then all layers | 0.0001, rises, then falls to 0 | the source's statistics |
| discriminative rates | all layers | 0.001 at the head, 0.3 times as much per block below | the source's statistics |

All ways whose rate falls to 0 also learn from changed copies of the images.

### More from the same images

[Augmentation](GLOSSARY.md#augmentation) (数据增强) makes these copies. A change must leave the diagnosis as it is. Left and right may be swapped. Top and bottom may not: shadows fall away from the probe.
""")
code("028", r'''
torch.manual_seed(SEED)
six = np.random.default_rng(SEED).permutation(len(task.train))[:6]
batch = task.train[np.tile(six, 2)]
batch.images[6:] = augment(batch.images[6:], group=1)  # a new draw for each image
captions = ["original"] * 6 + ["augmented"] * 6
mt.show_images(batch, captions=captions, title="The same six images, as the network sees them")
''')
md("029", r"""
The images are mirrored, shifted, turned by up to 5°, scaled, and made brighter or darker.

### What BatchNorm does

[BatchNorm](GLOSSARY.md#batchnorm) (批归一化) has statistics (mean and variance) and two parameters (scale and shift). [Notebook 02](02_shared_and_specific_layers.ipynb) took it apart. Three modes are in use:

- `"train"`: normalise by the batch, and move the stored statistics;
- `"eval"`: normalise by the source's statistics, which stay; scale and shift learn;
- `"frozen"`: as `"eval"`, and scale and shift stay, too.
""")
code("030", r'''
def hold(layer, inputs):
    """Before each forward pass: use the stored statistics, whatever model.train() said."""
    layer.eval()


def set_batchnorm(model, mode):
    """Put every BatchNorm into mode "train", "eval" or "frozen"; returns the model."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(mode != "frozen")
            if mode != "train":
                layer.register_forward_pre_hook(hold)
    return model


for mode in ("train", "eval", "frozen"):
    trial = set_batchnorm(copy.deepcopy(source), mode).train()
    trial(images)  # a forward pass alone: no loss, no update
    stay = torch.equal(trial.bn1.running_mean, source.bn1.running_mean)
    learn = "learn" if trial.bn1.weight.requires_grad else "stay"
    print(f"{mode:7s} statistics {'stay' if stay else 'move':5s} scale and shift {learn}")
    del trial
''')
md("031", r"""
**Check 2.** You set `requires_grad = False` for all shared layers, call `model.train()`, and train the head. In which mode is BatchNorm? Does the network that you save have the shared layers of the source?

<details><summary>Answer</summary>

BatchNorm is in mode "train". Its stored statistics move with each forward pass. The weights are those of the source, the statistics are not. Frozen needs both: no gradient, and `"frozen"` or `"eval"`.
</details>

### One rate for each block

Layers near the image see edges, layers near the head see what a task needs. So the lower blocks may learn more slowly. These are [discriminative rates](GLOSSARY.md#discriminative-rates) (判别式学习率).
""")
code("032", r'''
BLOCKS = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",), ("fc",))


def rates_by_block(model, lr, decay):
    """Groups for an optimizer: `lr` for the head, `decay` times as much for each block below."""
    groups = []
    for depth, names in enumerate(reversed(BLOCKS)):
        parameters = [p for name in names for p in getattr(model, name).parameters()]
        groups.append({"params": parameters, "lr": lr * decay**depth})
    return groups[::-1]


for names, group in zip(BLOCKS, rates_by_block(model, lr=0.001, decay=0.3)):
    n = sum(p.numel() for p in group["params"])
    print(f"{' + '.join(names):12s} lr {group['lr']:.6f}  {n:>9,} parameters")
''')
md("033", r"""
### The probe becomes a head

With frozen layers an image always has the same 512 numbers. So the probe of section 2 *is* a trained head. We write it into `nn.Linear(512, 2)`. The two logits share the probe's log-odds: $-z/2$ and $+z/2$.
""")
code("034", r'''
def set_head(model, probe):
    """Write a probe for two classes into the head; the probabilities stay the same."""
    scaler, regression = probe
    w = torch.tensor(regression.coef_[0] / scaler.scale_)
    b = torch.tensor(regression.intercept_[0]) - w @ torch.tensor(scaler.mean_)
    with torch.no_grad():
        model.fc.weight.copy_(torch.stack([-w / 2, w / 2]))
        model.fc.bias.copy_(torch.stack([-b / 2, b / 2]))
    return model


with_probe = set_head(mt.replace_head(copy.deepcopy(source), 2), probe)
ours, theirs = mt.predict(with_probe, task.val), probe.predict_proba(f_val)
print("same probabilities as scikit-learn:", np.allclose(ours, theirs, atol=1e-4))
''')
md("035", r"""
### Six functions

`mt.fine_tune` is the loop of section 4 with three additions. The rate rises and then falls to 0, so the last epoch is the one to keep. The images are augmented. Large weights decay a little (AdamW). A test holds the loop and `mt.fine_tune` equal.
""")
code("036", r'''
def fresh():
    torch.manual_seed(SEED)
    return mt.replace_head(copy.deepcopy(source), 2)


def tuned(model, lr):
    mt.fine_tune(model, task, epochs=EPOCHS, lr=lr, seed=SEED)
    return model


def discriminative():
    start = set_batchnorm(fresh(), "eval")
    return tuned(start, rates_by_block(start, lr=1e-3, decay=0.3))


ways = {
    "textbook": lambda: model,  # section 5
    "full rate": lambda: tuned(fresh(), 1e-3),
    "one low rate": lambda: tuned(fresh(), 1e-4),
    "feature extraction": lambda: copy.deepcopy(with_probe),
    "head first, then all": lambda: tuned(set_batchnorm(copy.deepcopy(with_probe), "eval"), 1e-4),
    "discriminative rates": discriminative,
}
''')
md("037", r"""
## 7. Choose by grouped cross-validation

156 validation images cannot rank six ways: the intervals are too wide. Cross-validation uses all labelled images. Cut them into four folds. Learn from three, score the fourth, four times. *Grouped*: near-copies stay in one fold.

### Live: how strong should the probe's penalty be?

`task.folds` makes the folds from training and validation images.
""")
code("038", r'''
folds = task.folds(k=4, seed=SEED)
x, y = zip(*[(features(source, fold.val), fold.val.labels.numpy()) for fold in folds])
print("groups on both sides:", sum(len(set(f.train.groups) & set(f.val.groups)) for f in folds))


def cross_validated(x, y, C):
    """AUC on each fold, of a probe that learnt from the other folds; (k,)."""
    aucs = []
    for k in range(len(x)):
        others = [np.concatenate([part for j, part in enumerate(of) if j != k]) for of in (x, y)]
        aucs.append(roc_auc_score(y[k], fit_probe(*others, C).decision_function(x[k])))
    return np.array(aucs)
''')
code("039", r'''
def said(value, low, high):
    """A difference and its interval; "cannot say" where zero is inside."""
    word = "cannot say" if low <= 0 <= high else "above 0" if low > 0 else "below 0"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f}) {word}"


tried = {C: cross_validated(x, y, C) for C in (0.0001, 0.001, 0.01, 0.1, 1.0)}
best = max(tried, key=lambda C: tried[C].mean())
print("     C  AUC of the four folds    mean   minus the best (95 %, paired t over 4 folds)")
for C, aucs in tried.items():
    gap = aucs - tried[best]
    reach = stats.t.ppf(0.975, len(gap) - 1) * stats.sem(gap)
    text = "the best" if C == best else said(gap.mean(), gap.mean() - reach, gap.mean() + reach)
    print(f"{C:6}  {' '.join(f'{a:.3f}' for a in aucs)}  {aucs.mean():.3f}  {text}")
_ = set_head(with_probe, fit_probe(f_train, task.train.labels, C=best))
''')
md("040", r"""
Some folds are easier than others. So compare *within* folds, as the last column does. "Cannot say" means that zero is inside the interval. Our rule is the highest mean; the head now has this C.

**Check 3.** You try 50 values of C and report the mean AUC of the best one. Is this number fair?

<details><summary>Answer</summary>

No. The same folds chose and reported: the maximum of 50 noisy means is too high. Report on images that took no part in the choice, or choose inside each fold (nested cross-validation, [notebook 06](06_evaluate_honestly_deep.ipynb)).
</details>

### From a study: which of the six ways?

Six ways, four folds, twice: from the source, and [from scratch](GLOSSARY.md#training-from-scratch) (从头训练). This takes hours, so a script made the table once. **Both sides got the same search**: six ways each. From scratch, they vary rate, length and augmentation. The test images (fold 0) took no part.
""")
code("041", r'''
ENDS = ("value", "low", "high")
study = json.loads((mt.data_folder() / "results" / "recipes.json").read_text())
print(f"made by: {study['command']}; intervals: {study['interval']}")
both = [sorted(study[k], key=lambda r: r["side"], reverse=True) for k in ("ways", "differences")]
gaps = {(r["side"], r["way"]): [r[end] for end in ENDS] for r in both[1]}
print(f"{'side, way':41s} updates  AUC                     minus the textbook")
for row in both[0]:
    auc, key = "{value:.3f} ({low:.3f} to {high:.3f})".format_map(row), (row["side"], row["way"])
    text = said(*gaps[key]) if key in gaps else "-"
    print(f"{', '.join(key):42s}{row['updates']:6d}  {auc}  {text}")
print("chosen:", "; ".join(f"{side}: {way}" for side, way in study["chosen"].items()))
title = "Ten ways, each against the textbook of its side"
label = "AUC minus that of the textbook, cross-validated"
rows = [(f"{side}: {way}", *gap) for (side, way), gap in gaps.items()]
plots.plot_intervals(rows, title, label, reference=0.0)
''')
md("043", r"""
The rule was fixed before the look: take the highest mean. It is a rule, not a proof: read the last column. Each network was trained once. **No gentle way is above the textbook, and some are below.** Gentle ways hold the source's layers back, by low rates or by freezing. A likely reason: features of *simulated* ultrasound must change to fit real tumours. So choose on your own data.

**Discuss.** From scratch, the longest training came out best, at the edge of what was tried. Is the comparison fair to this side? What else would you try, and at which cost?

### Live: the chosen way

Now one training, with the chosen way, on this notebook's training images:
""")
code("044", r'''
chosen = study["chosen"]["transfer"]
print("chosen:", chosen)
final = ways[chosen]()
''', IGNORE)
code("045", r'''
val_scores = mt.predict(final, task.val)
on_val[f"chosen: {chosen}"] = mt.evaluate(val_scores, task.val)["auc"]
title = f"What {len(task.val)} validation images can say"
label = "validation AUC, 95 % interval over groups of near-copies"
plots.plot_intervals([(name, *auc) for name, auc in on_val.items()], title, label, reference=0.5)

a, b = (scores[:, task.positive].numpy() for scores in (val_scores, mt.predict(model, task.val)))
pair = mt.delong(a, task.val.labels == task.positive, b, patients=task.val.groups)
gap = (pair[key] for key in ("difference", "difference_low", "difference_high"))
print("chosen way minus textbook, paired on these images:", said(*gap))
del model, with_probe  # frees memory
''', IGNORE)
md("047", r"""
Each interval is wide. The last line, a difference on the same images, says more than two intervals side by side. But it rests on one training of each way.

## 8. Look at the worst errors

Here are the validation images with the largest errors. The outline is the lesion as the archive drew it; the network never saw it.
""")
code("048", r'''
# draws: the four malignant images with the lowest, four others with the highest score (folded)
p, split = val_scores[:, task.val.positive].numpy(), task.val
ill = (split.labels == split.positive).numpy()
order = np.argsort(p, kind="stable")
worst = [*order[ill[order]][:4], *order[~ill[order]][::-1][:4]]
known = split.descriptors or {}
fig, axes = plt.subplots(2, 4, figsize=(8, 4.9))
words = []
for axis, row in zip(axes.flat, worst):
    plots.draw_image(axis, split.images[row])
    if split.masks is not None and split.masks[row].any():
        axis.contour(split.masks[row].float(), [0.5], colors=plots.ORANGE, linewidths=1)
    truth = str(known["finding"][row]) if "finding" in known else split.classes[split.labels[row]]
    marks = [m for m in ("calipers", "text", "other_marks") if m in known and known[m][row]]
    axis.set_title(f"{truth}, P = {p[row]:.2f}", fontsize=10, fontweight="normal")
    words.append(f"{truth} {p[row]:.2f}" + (f" ({', '.join(marks)})" if marks else ""))
fig.suptitle("Missed cancers (above) and false alarms (below)", fontsize=12, fontweight="bold")
plots.show(
    fig,
    "Eight validation images with their probability of malignancy and burnt-in marks. Malignant, "
    f"with the lowest: {'; '.join(words[:4])}. Not malignant, with the highest: "
    f"{'; '.join(words[4:])}. An orange line is the outline of the lesion.",
)
''', IGNORE, folded=True)
md("049", r"""
What do the missed cancers share: size, outline, shadow, depth, marks that somebody drew into the image? Four images give an idea, not a finding. **Try it:** the widget shows all images. Form a hypothesis, then count.
""")
code("050", r'''
widget = case_viewer(task.val, val_scores[:, task.val.positive])
''', IGNORE)

md("051", r"""
## 9. The test set, once

One opening scores the final model. The reason goes into a log, and a second attempt is refused:
""")
code("052", r'''
test = task.open_test("notebook 05: the final model")
try:
    task.open_test("just one more look")
except mt.TestSetOpened as refusal:
    print("refused.", str(refusal).split(". ")[0])
''')
code("053", r'''
scores = mt.predict(final, test)
result = mt.evaluate(scores, test, train=task.train)
report = mt.report(result, test, task)
if test.twins is not None:  # BreastMNIST: some test images have near-copies in training
    free = test[~test.twins]
    report += "\n\nWithout near-copies of training images, which is what to believe:\n"
    report += mt.report(mt.evaluate(scores[~test.twins], free), free, task)
print(report)
print(f"always {test.classes[1 - test.positive]!r}: accuracy", end=" ")
print(f"{(test.labels != test.positive).float().mean():.3f}, AUC 0.500")
''', IGNORE)
md("054", r"""
Sensitivity and specificity belong to the threshold 0.5, which nobody tuned. [Notebook 06](06_evaluate_honestly.ipynb) chooses one.

### Was it the transfer?

One run against one run proves nothing. A second script trained the best way of either side five times on folds 1 to 4. It tested all ten networks on fold 0. This is a [paired comparison](GLOSSARY.md#paired-comparison) (配对比较): both sides of a seed had the same images, and the difference is taken before the mean.
""")
code("055", r'''
duel = json.loads((mt.data_folder() / "results" / "recipes_test.json").read_text())
print(f"made by: {duel['command']}; {duel['n_seeds']} seeds; intervals: {duel['interval']}")
crossed = {(r["side"], r["way"]): r for r in study["ways"]}
for row in duel["levels"]:
    side, way = row["side"], duel["chosen"][row["side"]]
    print(f"{side}: {way}, {duel['updates'][side]} updates")
    for where, r in {"fold 0": row, "cross-validated": crossed[side, way]}.items():
        print(f"    AUC {where:15s}", "{value:.3f} ({low:.3f} to {high:.3f})".format_map(r))
gain = said(*(duel["gain"][key] for key in ("difference", "low", "high")))
print("transfer minus scratch on fold 0:", gain)
''')
md("056", r"""
**Fold 0 alone cannot say whether transfer helped.** Zero is inside: 156 images hold only 42 cancers. Both sides are lower here than in cross-validation, because some folds are harder. Which AUC should you believe? Cross-validation tested 624 images, so look at it first. But its best of six is slightly too high, because the same folds chose it.

## 10. The evidence, in plain words

How much does the source help, and is it the *ultrasound* that helps? A third study asked this.

- **Why cross-validation over all 780 images?** The 156 images of fold 0 are too few, as you saw. Here each image is tested, by a network that saw neither it nor a near-copy.
- **Why no borrowed labels?** "25 labelled images" must mean 25. If 780 labels chose the recipe, the 25 would have help. So each recipe was fixed on simulated images, before any real label was seen. There discriminative rates had won; section 7 says that other ways suit real tumours better.
- **Why a control?** The *shapes* network had as many images and passes as the source, but no ultrasound. Would any training do?
- **Why three trainings of each source?** Training is random. Another training of the same source could be better or worse. A claim about a *source* needs several. If the table below says ONE training, it claims nothing about others.
""")
code("057", r'''
results = mt.data_folder() / "results"
complete = (results / "evidence.json").is_file()  # until then: the first of three repetitions
evidence = json.loads((results / f"evidence{'' if complete else '_first'}.json").read_text())
covers = "images and trainings" if complete else "images; ONE training of each source"
print(f"made by: {evidence['command']}; 95 % intervals over {covers}")
auc = {(r["arm"], r["n"]): r["value"] for r in evidence["levels"] if r["metric"] == "auc"}
steps, rows = {(r["arm"], r["n"]): r["updates"] for r in evidence["updates"]}, []
for r in sorted(evidence["gains"], key=lambda r: (r["against"], r["n"] or 1000)):
    if r["arm"] == "ultrasound" and r["copies"] == "group":
        pair = [(arm, r["n"]) for arm in (r["arm"], r["against"])]
        words = f"{r['n'] or 'all'} labels, minus {r['against']}"
        rows.append((words, *(r[end] for end in ENDS)))
        holm = f"; Holm-adjusted p {r['holm']:.3f}" if "holm" in r else ""
        numbers = f"{auc[pair[0]]:.3f} - {auc[pair[1]]:.3f} = {said(*rows[-1][1:])}"
        print(f"{words:27s}{numbers}; updates {steps[pair[0]]} and {steps[pair[1]]}{holm}")
''')
code("058", r'''
title, label = "What simulated ultrasound adds on real tumours", f"gain in AUC; 95 % over {covers}"
plots.plot_intervals(rows, title, label, reference=0.0)
''')
md("059", r"""
Minus *scratch*: how much better is a network that starts from the source? Minus *shapes*: how much of this belongs to ultrasound, and not to training as such? Look at the updates, too: scratch was allowed more of them.

**What nobody can claim.** Without patient identifiers, another view of the same woman can be on both sides. So the AUCs may be too good by an unknown amount. The differences may suffer less, because both arms had the same images. And fold 0 of section 9 is a part of these 780 images: it confirms nothing. Images from a new hospital would.

## 11. Save, reload, use

[Safetensors](GLOSSARY.md#safetensors) (安全张量格式) is a file format for weights that cannot run code when it is opened. The normalisation travels with them. The reloaded model must give *identical* logits.
""")
code("060", r'''
path = output_folder() / "tumour_classifier.safetensors"
mt.save_model(final, path, task=task.name, recipe=chosen)
again = mt.load_model(path)
with torch.no_grad():
    inputs = final.normalisation(task.val.images[:8])
    print("identical logits:", torch.equal(final.eval()(inputs), again(inputs)))

notes = {
    "model": f"ResNet-18, source {SOURCE!r}, new head",
    "training": f"{chosen}, chosen by grouped cross-validation; {EPOCHS} epochs",
    "operating point": "probability 0.5, not tuned",
    "limitations": f"one archive; transfer minus scratch, a study on busi: {gain}",
}
text = f"recipe: {chosen}\n{report}\n\n{mt.tripod_report(task, test, result, notes)}\n"
written = (output_folder() / "report_05.txt").write_text(text, encoding="utf-8")
''')
md("061", r"""
### One image file

A clinic has files, not tensors. We write the first test image as a PNG, read it back, and ask the reloaded model.
""")
code("062", r'''
def write_png(image, file):
    """One image of a split, uint8 (C, H, W), as a file."""
    Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()).save(file)


file = output_folder() / "one_image.png"
write_png(test.images[0], file)
pixels = torch.from_numpy(np.atleast_3d(np.array(Image.open(file)))).permute(2, 0, 1)
with torch.no_grad():
    p = again(again.normalisation(pixels[None])).softmax(1)[0, test.positive]
print("same pixels:", torch.equal(pixels, test.images[0]))
print(f"P({test.classes[test.positive]}) = {p:.2f}; truth: {test.classes[test.labels[0]]}")
''', IGNORE)
md("063", r"""
### Your own folder, in three lines

Put your images into one folder per class. Here a few training images make such a folder. Three lines follow:
""")
code("064", r'''
folder = output_folder() / f"my_images_{TASK}"
_, first = np.unique(task.train.groups, return_index=True)  # one image of each group
for label, name in enumerate(task.classes):
    (folder / name).mkdir(parents=True, exist_ok=True)
    for row in first[task.train.labels.numpy()[first] == label][:12]:
        write_png(task.train.images[row], folder / name / f"{row}.png")

mine = mt.load_task(f"folder:{folder}")
history = mt.fine_tune(again, mine, epochs=2, batch_size=8, progress=False)
print(mine.train, mine.val, sep="\n")
''')
md("065", r"""
So few images show that it works, no more. If you know the patients, add a table `index.csv` with the columns path, label and patient.

## What can go wrong

| mistake | what you see | what to do |
|---|---|---|
| the test set chooses the epoch or the way | a number that nobody can repeat | cross-validation chooses, the test set opens once |
| near-copies, or images of one patient, on both sides | too good to be true | split by patient, or by group of near-copies |
| a "frozen" network in training mode | the source's statistics drift away | `mt.freeze(model, batchnorm="frozen")` |
| softmax before `cross_entropy` | slow learning | pass logits |
| ImageNet's normalisation for another source | points lost, without a message | keep the normalisation with the model |
| positive class assumed to be 1 | sensitivity and specificity swapped | read it from the card |
| vertical flips | shadows above lesions | only changes that the physics allows |
| six recipes for one side, one for the other | a "gain" from the search | the same search on both sides |
| one training of a source | luck, read as knowledge | three or more |

## Summary

- Fine-tuning is five steps: load, forward, loss and backward, update, repeat. You wrote each of them.
- A probe on frozen features takes seconds. Start with it, and see what training all layers adds.
- BatchNorm has statistics and parameters. Say what happens to both.
- With few images, choose by grouped cross-validation. Where zero is inside an interval, say "cannot say".
- Open the test set once, and name what each interval covers.
- Fold 0 could not say whether transfer helped. Cross-validation over all images could, for one training of each source (section 10).
- A claim about a source needs the same search on both sides, pairs, and three trainings.

## Exercises

`hint("5.1")` gives a hint; ask again for a second one.

**5.1** Write a function of `model` (a ResNet) and `lr`. All convolutions are frozen. Every BatchNorm uses the stored statistics, also after `model.train()`. Scale and shift learn with a tenth of `lr`, the head with `lr`. Return the groups for the optimizer.
""")
code("066", 'answer = ...\ncheck("5.1", answer)')
md("067", r'''
<details><summary>Solution 5.1</summary>

```python
from medtl_utils import freeze


def answer(model, lr):
    freeze(model, through="layer4", batchnorm="eval")   # holds statistics; scale and shift may learn
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    scale_and_shift = [p for layer in norms for p in layer.parameters()]
    return [{"params": scale_and_shift, "lr": lr / 10}, {"params": list(model.fc.parameters()), "lr": lr}]
```
</details>

**5.2** Choose a rate by grouped cross-validation. Write a function of `scores`, `malignant` and `fold`. The dictionary `scores` gives the held-out scores of each rate. `malignant` is true or false. `fold` says in which fold an image was held out. Each fold had its own network. All arrays are (N,). Return the best rate and its cross-validated AUC.
''')
code("068", 'answer = ...\ncheck("5.2", answer)')
md("069", r'''
<details><summary>Solution 5.2</summary>

```python
from sklearn.metrics import roc_auc_score


def answer(scores, malignant, fold):
    auc = {}
    for rate, score in scores.items():   # per fold, then the mean: scores of two networks share no scale
        auc[rate] = np.mean([roc_auc_score(malignant[fold == k], score[fold == k]) for k in np.unique(fold)])
    best = max(auc, key=auc.get)
    return best, auc[best]
```
</details>

**5.3** Find the leaks in this split. `groups` holds the number of each image's group of near-copies.

```python
images, labels, groups = read("tumours")                      # a   624 images
images = images - images.mean(axis=0)                         # b   the mean image of all 624
images, labels = with_mirrored_copies(images, labels)         # c   1,248 images
train, val = split(images, labels, groups=range(1248))        # d
model = source("simulated ultrasound")                        # e
weights = class_weights(labels[train])                        # f
model = fit(model, train, weights)                            # g
threshold = threshold_for(model, val, sensitivity=0.90)       # h
print("specificity:", specificity(model, val, threshold))     # i   reported as the result
```

Which lines let validation images into training, or report on images that made a choice? Answer with letters, such as `"ab"`.
''')
code("070", 'answer = ...\ncheck("5.3", answer)')
md("071", r'''
<details><summary>Solution 5.3</summary>

```python
answer = "bcdi"   # h may choose on validation images; then i must report on others
```
</details>

**5.4** Read this report. *"We started from ImageNet, or from random weights. The archive has no patient numbers; 400 images train and 100 test. For transfer we tried eight recipes and took the one with the best test AUC. From scratch we used the recipe of an earlier paper. Transfer took 1,200 updates, scratch 400. Over three seeds the AUC was 0.91 with transfer and 0.86 from scratch. The gain is +0.05 (95 % interval over the seeds: +0.03 to +0.07)."*

Which sentences are right? (a) The two sides did not get the same search. (b) The interval says what other test images would give. (c) The test images chose a recipe. (d) No patient is on both sides. (e) Longer training could explain a part of the gain. (f) The gain holds for other trainings of the source. (g) On other images, the gain could be below +0.03.
''')
code("072", 'answer = ...\ncheck("5.4", answer)')
md("073", r'''
<details><summary>Solution 5.4</summary>

```python
answer = "aceg"   # b: seeds alone are covered; d: nobody knows; f: the source was trained once
```
</details>

### Open task (45 to 90 minutes)

Take a folder of your own images, or another data set (`"breastmnist"`, `"phantom"`). Compare two of the six ways by grouped cross-validation. Choose one, open the test set once, and write one page.

| rubric | 0 points | 1 point | 2 points |
|---|---|---|---|
| the data | no card | source, licence, classes | also the unit of the split, near-copies and known faults |
| the split | by image | by patient or group | also checked in code, and the check printed |
| the choice | by the test set, or not said | cross-validated means | paired differences with an interval, and the rule fixed before |
| the errors | not looked at | worst cases shown | a hypothesis, and how to test it on other images |
| the claim | stronger than the numbers | interval given | says what the interval covers and what cannot be claimed |

## Copy into your own research

Cross-validation first; then, with `FINAL = True`, one training and one opening. Grey or RGB, any number of classes. For your own data change the line with `load_task`. For a real study use 10 epochs and five folds.
''')
code("074", r'''
import torch

import medtl_utils as mt

task = mt.load_task("busi", n_train=160, seed=7)  # change: for example "folder:PATH"
FINAL = False  # True when all choices are made: then the test set opens, once


def trained(task, seed=0):
    """The full rate for all layers, with a schedule and augmentation."""
    torch.manual_seed(seed)
    model = mt.replace_head(mt.source_model("ultrasound"), len(task.classes))
    mt.fine_tune(model, task, epochs=3, lr=1e-3, batch_size=16, seed=seed, progress=False)
    return model


for fold in task.folds(k=2):
    auc = mt.evaluate(mt.predict(trained(fold), fold.val), fold.val)["auc"]
    print(f"{fold.name}: AUC {auc[0]:.2f} ({auc[1]:.2f} to {auc[2]:.2f})")
if FINAL:
    model, test = trained(task), task.open_test("final result of my study")
    print(mt.report(mt.evaluate(mt.predict(model, test), test), test, task))
    mt.save_model(model, "my_model.safetensors")
''', "copy", IGNORE)
md("075", r"""
## References

- He, Zhang, Ren & Sun, "Deep residual learning for image recognition", CVPR 2016.
- Howard & Ruder, "Universal language model fine-tuning for text classification", ACL 2018 (discriminative rates).
- Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution", ICLR 2022 (head first, then all).
- Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019; Smith & Topin, "Super-convergence", 2018 (the schedule).
- Al-Dhabyani et al., "Dataset of breast ultrasound images", *Data in Brief* 28 (2020) 104863; Pawłowska et al., *Data in Brief* 48 (2023) 109247 (its duplicates and faults).
""")

nb = new_notebook(cells=cells)
nb.metadata = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
if "--small" in sys.argv:
    for c in nb.cells:
        c.source = c.source.replace("N_TRAIN = None ", "N_TRAIN = 100 ").replace("EPOCHS = 10 ", "EPOCHS = 2 ")
if "--keep" in sys.argv:  # outputs of cells whose source did not change
    old = {c.id: c for c in nbformat.read(sys.argv[1], 4).cells if c.cell_type == "code"}
    for c in nb.cells:
        if c.cell_type == "code" and c.id in old:
            c.outputs, c.execution_count = old[c.id].outputs, old[c.id].execution_count
            if c.source != old[c.id].source:
                print("changed source, old output:", c.id)
nbformat.validate(nb)
nbformat.write(nb, sys.argv[1])
print(sum(c.cell_type == "code" for c in nb.cells), "code cells")
