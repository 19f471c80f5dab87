"""Notebook 03: every loss equals PyTorch's, every gradient its finite differences; each check fails on planted mistakes."""

import ast
import re

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import special, stats
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torchvision.ops import sigmoid_focal_loss

from medtl_utils import phantom, widgets
from tests.conftest import ROOT

MISTAKES = {
    "3.1": [
        (-1.609, "minus"),
        (0.699, "base 10"),
        (2.3219, "base 2"),
        (0.22, "benign"),
        (0.8, "-log p"),
        (3, "another"),
        ("1.61", "one number"),
        ([1.61], "one number"),
    ],
    "3.2": [
        (lambda z: np.log(np.exp(z) / np.exp(z).sum(1, keepdims=True)), "overflow"),
        (lambda z: z - np.log(np.exp(z).sum(0)), "axis=1"),
        (lambda z: special.softmax(z, axis=1), "logarithm is asked"),
        (lambda z: np.log(special.softmax(z, axis=1)), "-inf"),
        (lambda z: z - z.max() - np.log(np.exp(z - z.max()).sum(1, keepdims=True)), "per row"),
        (lambda z: z - z.max(1, keepdims=True), "missing"),
        (lambda z: -special.log_softmax(z, axis=1), "sign"),
        (lambda z: special.log_softmax(z, axis=1) / np.log(2), "base 2"),
        (lambda z: special.log_softmax(z, axis=1) / np.log(10), "base 10"),
        (lambda z: special.logsumexp(z, axis=1), "shape"),
        (lambda z: np.clip(special.log_softmax(z, axis=1), -50, 0), "large logits"),
        (lambda z: z, "differ"),
        (lambda z: z.softmax(1), "AttributeError"),
        (0.5, "function"),
    ],
    "3.3": [
        (lambda z, y, price: (weights(y, 0, price) * each(z, y)).mean(), "divided by m"),
        (lambda z, y, price: np.average(each(z, y), weights=weights(y, 1, price)), "0 is malignant"),
        (lambda z, y, price: (weights(y, 1, price) * each(z, y)).mean(), "and the sum was divided by m"),
        (lambda z, y, price: each(z, y).mean(), "weights are missing"),
        (lambda z, y, price: (weights(y, 0, price) * each(z, y)).sum(), "that is the sum"),
        (lambda z, y, price: -np.average(each(z, y), weights=weights(y, 0, price)), "minus"),
        (lambda z, y, price: weights(y, 0, price) * each(z, y), "one number"),
        (lambda z, y, price: 0.5, "another"),
        (lambda z: 0.5, "TypeError"),
        (0.5, "function"),
    ],
    "3.4": [(0.4, "odds double"), (0.2, "without weights"), (0.11, "benign tumours"), (0.5, "odds"), (0.67, "for benign"), (0.9, "another")],
}  # fmt: skip


def weights(y, index, price):
    return np.where(y == index, price, 1.0)


def each(z, y):
    return -special.log_softmax(z, axis=1)[np.arange(len(y)), y]


# ---- the notebook's functions, as they stand or with a planted mistake ------------------------------------------------------


def functions(old: str | None = None, new: str = "") -> dict:
    """Every function that the notebook defines, in one namespace; `old` -> `new` plants a mistake in their text."""
    space = {
        "np": np,
        "torch": torch,
        "F": F,
        "stats": stats,
        "minimize": minimize,
        "phantom": phantom,
    }
    planted = 0
    for cell in nbformat.read(ROOT / "notebooks" / "03_loss.ipynb", 4).cells:
        for node in ast.parse(cell.source).body if cell.cell_type == "code" else []:
            if isinstance(node, ast.FunctionDef):
                text = ast.unparse(node)
                planted += old is not None and old in text
                exec(text.replace(old, new) if old else text, space)
    assert planted or old is None, f"no function holds {old!r}"
    return space


def inputs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Random logits of 2, 3 and 5 classes, and extreme ones: sure and right, sure and wrong, rows of very different size."""
    rng = np.random.default_rng(3)
    random = [
        (rng.normal(0, s, (9, k)), rng.integers(0, k, 9))
        for k, s in ((2, 1.0), (2, 30.0), (3, 3.0), (5, 10.0))
    ]
    far = np.array([[1e3, -1e3], [-1e3, 1e3], [-2e3, -2001], [5.0, 5.0], [0.0, 800.0]])
    return [*random, (far, np.array([0, 0, 1, 1, 0])), (far, np.array([1, 1, 0, 0, 1]))]


def class_weights(z) -> np.ndarray:
    return np.linspace(0.5, 4, z.shape[1])


def focal_oracle(z, y, gamma):
    """torchvision's loss knows two classes and one logit."""
    return sigmoid_focal_loss(
        z[:, 1] - z[:, 0], y.double(), alpha=-1, gamma=gamma, reduction="mean"
    )


GAMMAS, EPSILONS = (0.0, 0.5, 2.0, 5.0), (0.0, 0.1, 0.4)
# name -> (the notebook's function on z, y; the oracle on the same as tensors; which numbers of classes it is defined for)
ORACLES = {
    "log_softmax": (lambda f, z, y: f["log_softmax"](z), lambda z, y: z.log_softmax(1)),
    "softmax": (lambda f, z, y: f["softmax"](z), lambda z, y: z.softmax(1)),
    "cross_entropy": (lambda f, z, y: f["cross_entropy"](z, y), F.cross_entropy),
    "weighted": (
        lambda f, z, y: f["weighted_cross_entropy"](z, y, class_weights(z)),
        lambda z, y: F.cross_entropy(z, y, torch.tensor(class_weights(z))),
    ),
    "focal": (
        lambda f, z, y: [f["focal_loss"](z[:, :2], y % 2, g) for g in GAMMAS],
        lambda z, y: torch.stack([focal_oracle(z[:, :2], y % 2, g) for g in GAMMAS]),
    ),
    "focal, gamma 0": (lambda f, z, y: f["focal_loss"](z, y, 0.0), F.cross_entropy),
    "smoothed": (
        lambda f, z, y: [f["smoothed_cross_entropy"](z, y, e) for e in EPSILONS],
        lambda z, y: torch.stack([F.cross_entropy(z, y, label_smoothing=e) for e in EPSILONS]),
    ),
    "squared": (
        lambda f, z, y: f["squared_error"](z[:, 0], z[:, 1]),
        lambda z, y: F.mse_loss(z[:, 0], z[:, 1]),
    ),
    "absolute": (
        lambda f, z, y: f["absolute_error"](z[:, 0], z[:, 1]),
        lambda z, y: F.l1_loss(z[:, 0], z[:, 1]),
    ),
    "huber": (
        lambda f, z, y: f["huber"](z[:, 0], z[:, 1], 1.3),
        lambda z, y: F.huber_loss(z[:, 0], z[:, 1], delta=1.3),
    ),
}


def equals_the_oracle(name: str, space: dict) -> bool:
    """To 1e-12 in float64, on random and on extreme inputs."""
    ours, oracle = ORACLES[name]
    with np.errstate(all="ignore"):
        return all(
            np.allclose(
                ours(space, z, y),
                oracle(torch.tensor(z), torch.tensor(y)).numpy(),
                rtol=1e-12,
                atol=1e-12,
            )
            for z, y in inputs()
        )


@pytest.mark.parametrize("name", ORACLES)
def test_the_loss_equals_pytorch(name):
    assert equals_the_oracle(name, functions())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("log_softmax", "c = z.max(axis=-1, keepdims=True)", "c = 0"),  # overflow: nan and inf
        (
            "log_softmax",
            "c = z.max(axis=-1, keepdims=True)",
            "c = z.max()",
        ),  # a row of small logits vanishes
        ("log_softmax", "np.log(", "np.log2("),
        ("softmax", "return np.exp(log_softmax(z))", "return softmax_naive(z)"),
        ("softmax", "sum(axis=-1", "sum(axis=0"),
        (
            "cross_entropy",
            "-log_softmax(z)",
            "-np.log(softmax(z))",
        ),  # the log of a softmax that has rounded to 0
        ("cross_entropy", "log_softmax(z)[", "log_softmax(softmax(z))["),  # softmax twice
        ("cross_entropy", "y].mean()", "y].sum()"),
        ("weighted", "/ w[y].sum()", "/ len(y)"),
        ("weighted", "(w[y] * l)", "(w[::-1][y] * l)"),
        ("focal", "-np.expm1(log_p)", "np.exp(log_p)"),  # p for 1 - p
        ("focal", "** gamma * log_p", "** (gamma + 1) * log_p"),
        ("focal, gamma 0", "** gamma * log_p", "** (gamma + 1) * log_p"),
        (
            "smoothed",
            "epsilon / n_classes",
            "epsilon / (n_classes - 1)",
        ),  # the mass goes to another number of classes
        ("smoothed", "(1 - epsilon) * np.eye", "np.eye"),  # more than 1 in all
        ("squared", "** 2).mean()", "** 2).mean() / 2"),
        ("squared", "(y - y_hat) ** 2", "(y - y_hat[:, None]) ** 2"),  # everyone against everyone
        ("absolute", "np.abs(y - y_hat).mean()", "np.abs((y - y_hat).mean())"),
        ("huber", "0.5 * r ** 2", "r ** 2"),
        ("huber", "r - 0.5 * delta", "r - delta"),
    ],
)
def test_the_loss_test_bites(name, old, new):
    assert not equals_the_oracle(name, functions(old, new))


# ---- gradients --------------------------------------------------------------------------------------------------------------

GRADIENTS = {
    "cross_entropy": (lambda f, z, y: f["cross_entropy_gradient"](z, y), F.cross_entropy),
    "weighted": (
        lambda f, z, y: f["weighted_gradient"](z, y, class_weights(z)),
        ORACLES["weighted"][1],
    ),
    "focal": (lambda f, z, y: f["focal_gradient"](z, y, 2.0), lambda z, y: focal_oracle(z, y, 2.0)),
    "focal, gamma 0.5": (
        lambda f, z, y: f["focal_gradient"](z, y, 0.5),
        lambda z, y: focal_oracle(z, y, 0.5),
    ),
    "smoothed": (
        lambda f, z, y: f["smoothed_gradient"](z, y, 0.1),
        lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1),
    ),
}


def equals_finite_differences(name: str, space: dict) -> bool:
    """Against central differences of PyTorch's loss, one logit at a time; and finite where logits are extreme."""
    gradient, loss = GRADIENTS[name]
    rng = np.random.default_rng(5)
    z, y = rng.normal(0, 2, (6, 2)), np.array([0, 1, 1, 0, 1, 1])
    value = lambda z: float(loss(torch.tensor(z), torch.tensor(y)))
    numerical = np.zeros_like(z)
    for place in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[place] = 1e-5
        numerical[place] = (value(z + step) - value(z - step)) / 2e-5
    with np.errstate(all="ignore"):
        far = gradient(space, np.array([[1e3, -1e3], [-1e3, 1e3]]), np.array([0, 0]))
    return bool(
        np.allclose(gradient(space, z, y), numerical, rtol=1e-6, atol=1e-9)
        and np.isfinite(far).all()
    )


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_gradient_equals_finite_differences(name):
    assert equals_finite_differences(name, functions())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("cross_entropy", " / len(y)", ""),
        ("cross_entropy", "softmax(z) - one_hot", "one_hot - softmax(z)"),
        ("weighted", "/ w[y].sum()", "/ len(y)"),
        (
            "focal",
            "- gamma * p * miss ** (gamma - 1) * log_p",
            "",
        ),  # the factor itself depends on z
        (
            "focal, gamma 0.5",
            "np.maximum(-np.expm1(log_p), 1e-300)",
            "-np.expm1(log_p)",
        ),  # 0 to a negative power
        (
            "smoothed",
            "softmax(z) - smooth_labels(y, z.shape[1], epsilon)",
            "softmax(z) - np.eye(z.shape[1])[y]",
        ),
    ],
)
def test_the_gradient_test_bites(name, old, new):
    assert not equals_finite_differences(name, functions(old, new))


def numerical_gradient_is_right(space: dict) -> bool:
    z = torch.tensor(np.random.default_rng(6).normal(0, 2, (4, 3)), requires_grad=True)
    y = torch.tensor([0, 1, 2, 2])
    F.cross_entropy(z, y).backward()
    found = space["numerical_gradient"](
        lambda values: float(F.cross_entropy(torch.tensor(values), y)), z.detach().numpy()
    )
    return bool(np.allclose(found, z.grad, rtol=1e-7, atol=1e-10))


def test_the_notebooks_finite_differences():
    assert numerical_gradient_is_right(functions())
    assert not numerical_gradient_is_right(functions("(2 * step)", "step"))
    assert not numerical_gradient_is_right(functions("down[place] -= step", "pass"))


# ---- the fit, the weights, the intervals ------------------------------------------------------------------------------------


def tumours() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_breast_cancer(return_X_y=True)
    x = x[:, [1, 4, 8]]
    return np.column_stack([(x - x.mean(0)) / x.std(0), np.ones(len(y))]), y


def fit_equals_sklearn(space: dict) -> bool:
    """The loss at the notebook's optimum equals scikit-learn's log_loss at its own."""
    x, y = tumours()
    theta = space["fit"](x, y, space["cross_entropy"], space["cross_entropy_gradient"])
    witness = (
        LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        .fit(x[:, :-1], y)
        .predict_proba(x[:, :-1])
    )
    same = np.allclose(space["softmax"](x @ theta), witness, atol=1e-5)
    return bool(same and abs(space["cross_entropy"](x @ theta, y) - log_loss(y, witness)) < 1e-9)


def test_the_fit_equals_sklearn():
    assert fit_equals_sklearn(functions())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("np.log(", "np.log2("),
        ("softmax(z) - one_hot", "one_hot - softmax(z)"),
        ("'gtol': 1e-08", "'gtol': 0.01"),
    ],
)
def test_the_fit_test_bites(old, new):
    assert not fit_equals_sklearn(functions(old, new))


def weight_is_a_shift(space: dict, price=7.0) -> bool:
    """With an intercept alone the weighted optimum is log(n1 / n0) + log(price), by counting."""
    _, y = tumours()
    w = np.array([price, 1.0])
    losses = [
        lambda z, y, name=name: space[name](z, y, w)
        for name in ("weighted_cross_entropy", "weighted_gradient")
    ]
    theta = space["fit"](np.ones((len(y), 1)), y, *losses)
    return bool(
        np.isclose(
            theta[0, 0] - theta[0, 1],
            np.log((y == 0).sum() / (y == 1).sum()) + np.log(price),
            atol=1e-5,
        )
    )


def test_a_weight_is_a_shift_of_the_logit():
    assert weight_is_a_shift(functions())
    assert not weight_is_a_shift(functions("w[y]", "w[::-1][y]"))
    assert not weight_is_a_shift(functions("w[y]", "(w[y] ** 2)"))


def unshift_is_right(space: dict) -> bool:
    p = np.array([0.01, 0.3, 0.5, 0.97])
    return np.allclose(
        space["unshift"](p, np.log(5)), special.expit(special.logit(p) - np.log(5)), rtol=1e-12
    )


def test_the_shift_is_taken_back():
    assert unshift_is_right(functions())
    assert not unshift_is_right(functions("np.exp(-log_ratio)", "np.exp(log_ratio)"))
    assert not unshift_is_right(functions("odds / (1 + odds)", "odds"))


def interval_draws_patients(space: dict) -> bool:
    """One image a patient: near Student's interval. Each image shown twice: the very same, for no patient was added."""
    values = np.random.default_rng(8).normal(2, 1, 150)
    people = np.arange(150)
    once = space["patient_interval"](values, people)
    twice = space["patient_interval"](np.tile(values, 2), np.tile(people, 2))
    student = stats.t.interval(0.95, 149, values.mean(), stats.sem(values))
    near = np.allclose(once[1:], student, atol=0.15 * (student[1] - student[0])) and np.isclose(
        once[0], values.mean()
    )
    return bool(near and np.allclose(once, twice))


def test_the_interval_draws_patients():
    assert interval_draws_patients(functions())
    images = "np.unique(np.arange(len(values)), return_inverse=True)"
    assert not interval_draws_patients(
        functions("np.unique(patients, return_inverse=True)", images)
    )
    assert not interval_draws_patients(
        functions("of(total.sum(axis) / n.sum(axis))", "of(np.median(total / n, axis))")
    )


def ideal_reader_is_right(space: dict) -> bool:
    """Bayes' rule as a product of probabilities, for one patient at a time."""
    rng = np.random.default_rng(9)
    seen = {name: rng.integers(0, len(values), 40) for name, values in phantom.DESCRIPTORS.items()}
    odds = [phantom.PREVALENCE / (1 - phantom.PREVALENCE)] * 40
    for name, values in seen.items():
        odds = [
            o * phantom.LIKELIHOODS[name][1][v] / phantom.LIKELIHOODS[name][0][v]
            for o, v in zip(odds, values)
        ]
    return np.allclose(space["ideal_logit"](seen), np.log(odds), rtol=1e-10)


def test_the_ideal_reader():
    assert ideal_reader_is_right(functions())
    assert not ideal_reader_is_right(
        functions(
            "np.array(malignant) / np.array(benign)", "np.array(benign) / np.array(malignant)"
        )
    )
    assert not ideal_reader_is_right(
        functions("np.log(phantom.PREVALENCE / (1 - phantom.PREVALENCE))", "0")
    )


# ---- the widget -------------------------------------------------------------------------------------------------------------


def said_by(box) -> list[float]:
    """Cost and pull at 0.1, then at 0.9, as the caption says them, each with that of cross-entropy."""
    caption = re.search(r"<figcaption.*</figcaption>", box.children[-1].value, re.S)[0]
    return [
        float(v)
        for v in re.findall(r"(?:costs|cross-entropy|pulls|\() ?\(?(-?\d+\.\d{3})", caption)
    ]


def test_loss_curves(shown):
    box = widgets.loss_curves()
    weight, gamma = (row.children[0] for row in box.children[:2])
    pictures = set()
    for w in range(len(weight.options)):
        for g in range(len(gamma.options)):
            weight.value, gamma.value = w, g
            pictures.add(box.children[-1].value)
            price, power = float(weight.options[w]), float(gamma.options[g])
            gap = torch.tensor([0.1, 0.9], dtype=torch.float64).logit().requires_grad_()
            cost = price * sigmoid_focal_loss(gap, torch.ones(2).double(), alpha=-1, gamma=power)
            cost.sum().backward()
            cross = [-np.log(0.1), -np.log(0.9)]
            want = [
                v
                for k in (0, 1)
                for v in (cost[k].item(), cross[k], -gap.grad[k].item(), (0.9, 0.1)[k])
            ]
            assert np.allclose(said_by(box), want, atol=6e-4)
    assert len(pictures) == len(weight.options) * len(
        gamma.options
    )  # every step changes the picture
    assert "needs a running kernel" in shown[0]["text/plain"]
    gamma.value = 0
    weight.value = 0
    assert np.allclose(
        said_by(box)[0], said_by(box)[1], atol=6e-4
    )  # gamma 0, weight 1: cross-entropy
