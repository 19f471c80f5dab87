"""Notebook 04: what it builds in sight equals scikit-learn, PyTorch and SciPy; its exercises; its widget; its kept table."""

import ast
import importlib.util
import json

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from medtl_utils import widgets
from tests.conftest import ROOT

NOTEBOOK = ROOT / "notebooks" / "04_gradient_descent.ipynb"


def in_place(theta, gradient, alpha):
    theta -= alpha * gradient(theta)
    return theta


def adam_step(
    theta,
    g,
    m,
    v,
    t,
    alpha,
    beta1,
    beta2,
    epsilon,
    correct=True,
    root=np.sqrt,
    inside=False,
    sign=1,
):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    mh, vh = (m / (1 - beta1**t), v / (1 - beta2**t)) if correct else (m, v)
    return theta - sign * alpha * mh / (root(vh + epsilon) if inside else root(vh) + epsilon), m, v


def with_hats(theta, g, m, v, t, alpha, beta1, beta2, epsilon):
    theta, m, v = adam_step(theta, g, m, v, t, alpha, beta1, beta2, epsilon)
    return theta, m / (1 - beta1**t), v / (1 - beta2**t)


MISTAKES = {
    "4.1": [(0.25, "1 / lambda_max"), (1, "2 / lambda_min"), (1 / 3, "trace"), (2 / 3, "diagonal"), (4.0, "divided by it"), ("half", "one number")],
    "4.2": [("converges", "-1.5"), ("Zigzags", "it grows"), ("stays", "exactly"), (0.25, "Hint")],
    "4.3": [
        (lambda theta, gradient, alpha: theta + alpha * gradient(theta), "minus"),
        (lambda theta, gradient, alpha: theta - gradient(theta), "alpha has no effect"),
        (in_place, "in place"),
        (lambda theta, gradient, alpha: -alpha * gradient(theta), "step alone"),
        (lambda theta, gradient, alpha: theta, "nothing moved"),
        (lambda theta, gradient, alpha: theta - 2 * alpha * gradient(theta), "another point"),
        (lambda theta, gradient, alpha: theta - alpha * gradient, "TypeError"),
        (lambda theta, gradient, alpha: None, "return"),
        (0.5, "function"),
    ],
    "4.4": [
        (lambda *a: adam_step(*a, correct=False), "hats are missing"),
        (lambda *a: adam_step(*a, root=lambda x: x), "square root"),
        (lambda *a: adam_step(*a, inside=True), "inside"),
        (lambda *a: adam_step(*a, sign=-1), "sign"),
        (with_hats, "this step only"),
        (lambda theta, g, m, v, *rest: adam_step(theta, g, m, v / 2, *rest), "g**2"),
        (lambda *a: adam_step(*a)[0], "three arrays"),
        (lambda theta, *rest: (theta, *adam_step(theta, *rest)[1:]), "theta is not"),
        (lambda theta: theta, "TypeError"),
        ("Adam", "function"),
    ],
}  # fmt: skip


def defined(*names, change=()):
    """Functions of the notebook, run together; `change`: (old, new) text, a planted mistake that must be found in them."""
    found = {}
    for cell in nbformat.read(NOTEBOOK, 4).cells:
        if cell.cell_type == "code" and "check(" not in cell.source:
            found |= {
                node.name: node
                for node in ast.parse(cell.source).body
                if isinstance(node, ast.FunctionDef)
            }  # the last one counts
    source = "\n".join(ast.unparse(found[name]) for name in names)
    for old, new in change:
        assert old in source, f"no {old!r} in the notebook's {names}"
        source = source.replace(old, new)
    namespace = {
        "np": np,
        "torch": torch,
        "nn": nn,
        "copy": __import__("copy"),
        "block_of": lambda name: name.split(".")[0],
    }
    exec(source, namespace)
    return namespace[names[0]] if len(names) == 1 else [namespace[name] for name in names]


# ---- the bound 2 / lambda_max ---------------------------------------------------------------------------------------------------


def bowls():
    for seed in range(5):
        root = np.random.default_rng(seed).normal(size=(4, 4))
        yield root @ root.T + 0.5 * np.eye(4)


def bound_is_sharp(bound) -> bool:
    """Half a per cent below `bound(H)` the notebook's gradient descent converges, half a per cent above it diverges."""
    descend = defined("descend")
    for H in bowls():
        far = {}
        for factor in (0.995, 1.005):
            with np.errstate(all="ignore"):  # what diverges overflows
                path = descend(lambda theta, H=H: H @ theta, np.ones(4), factor * bound(H), 3000)
            far[factor] = np.linalg.norm(path[-1]) / np.linalg.norm(path[0])
        if not far[0.995] < 1e-3 < 1e3 < far[1.005]:
            return False
    return True


def test_largest_stable_alpha():
    assert bound_is_sharp(defined("largest_stable_alpha"))


@pytest.mark.parametrize(
    "mutant",
    [
        lambda H: 1 / np.linalg.eigvalsh(H).max(),
        lambda H: 2 / np.linalg.eigvalsh(H).min(),
        lambda H: 2 / np.trace(H),
    ],
    ids=["1/lambda_max", "2/lambda_min", "2/trace"],
)
def test_the_bound_test_bites(mutant):
    assert not bound_is_sharp(mutant)


def components_shrink_as_predicted(descend) -> bool:
    for H in bowls():
        eigenvalues, vectors = scipy.linalg.eigh(H)
        alpha = 1.3 / eigenvalues[-1]
        errors = descend(lambda theta, H=H: H @ (theta - 2), np.arange(4.0), alpha, 25) - 2
        want = (1 - alpha * eigenvalues) ** np.arange(26)[:, None] * (errors[0] @ vectors)
        if not np.allclose(errors @ vectors, want, atol=1e-9):
            return False
    return True


def test_each_component_shrinks_by_its_factor():
    assert components_shrink_as_predicted(defined("descend"))
    assert not components_shrink_as_predicted(
        defined("descend", change=[("path[-1] - alpha", "path[-1] + alpha")])
    )
    assert not components_shrink_as_predicted(lambda *a: defined("descend")(*a, beta=0.1))


def power_iteration_agrees(top_eigenvalue) -> bool:
    """Against SciPy on bowls whose two largest eigenvalues lie close together."""
    rotation = scipy.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    H = rotation @ np.diag([5.0, 4.6, 2, 1, 0.1]) @ rotation.T
    value, direction = top_eigenvalue(
        lambda theta: theta @ torch.tensor(H) @ theta / 2, torch.zeros(5, dtype=torch.float64)
    )
    return abs(value - 5) < 1e-6 and np.allclose(
        np.abs(direction.numpy()), np.abs(scipy.linalg.eigh(H)[1][:, -1]), atol=1e-3
    )


def test_power_iteration():
    assert power_iteration_agrees(defined("top_eigenvalue"))
    assert not power_iteration_agrees(defined("top_eigenvalue", change=[("steps=100", "steps=3")]))


# ---- logistic regression --------------------------------------------------------------------------------------------------------


def optimum_is_sklearns(gradient, C_of=lambda m, lam: 1 / (m * lam)) -> bool:
    """On the Wisconsin tumours: gradient descent with `gradient` ends where scikit-learn's solver does."""
    data = load_breast_cancer()
    X, y, lam = StandardScaler().fit_transform(data.data), 1.0 - data.target, 0.05
    theta = np.zeros(31)
    for _ in range(8000):
        theta = theta - 0.5 * gradient(theta, X, y, lam)
    other = LogisticRegression(C=C_of(len(y), lam), tol=1e-10, max_iter=10_000).fit(X, y)
    return np.abs(theta - np.append(other.coef_[0], other.intercept_)).max() < 1e-5


def test_the_logistic_optimum_is_sklearns():
    assert optimum_is_sklearns(defined("logistic_gradient"))


def test_the_logistic_test_bites():
    """Planted: the intercept penalised too, the weights not at all, a sum for a mean, and C taken for 1 / lambda."""
    for old, new in [
        ("np.mean(p - y)", "np.mean(p - y) + lam * theta[-1]"),
        ("+ lam * theta[:-1]", ""),
        ("/ len(y)", "/ len(y) / 2"),
    ]:
        assert not optimum_is_sklearns(defined("logistic_gradient", change=[(old, new)])), old
    assert not optimum_is_sklearns(defined("logistic_gradient"), lambda m, lam: 1 / lam)


def test_logistic_gradient_against_differences():
    loss, gradient = defined("logistic_loss", "logistic_gradient")
    rng = np.random.default_rng(0)
    X, y, theta = rng.normal(size=(9, 4)), (rng.random(9) > 0.5).astype(float), rng.normal(size=5)
    numerical = [
        (loss(theta + d, X, y, 0.3) - loss(theta - d, X, y, 0.3)) / 2e-6 for d in 1e-6 * np.eye(5)
    ]
    assert np.allclose(numerical, gradient(theta, X, y, 0.3), atol=1e-8)


# ---- momentum, Adam -------------------------------------------------------------------------------------------------------------


def equals_torch(path_of, optimiser, **settings) -> bool:
    """100 steps on a loss with gradients from tiny to large, in float64, to 1e-12."""
    scale = np.array([1e-7, 1e-3, 1.0, 30.0])
    theta = torch.ones(4, dtype=torch.float64, requires_grad=True)
    steps = optimiser([theta], **settings)
    for _ in range(100):
        steps.zero_grad()
        (torch.tensor(scale) * torch.log(torch.cosh(theta - 0.3))).sum().backward()
        steps.step()
    ours = path_of(lambda t: scale * np.tanh(t - 0.3), np.ones(4))[-1]
    return bool(np.abs(ours - theta.detach().numpy()).max() < 1e-12)


def test_adam_and_momentum_equal_torch():
    adam, descend = defined("adam"), defined("descend")
    assert equals_torch(lambda g, t: adam(g, t, 100), torch.optim.Adam, lr=0.001)
    assert equals_torch(
        lambda g, t: adam(g, t, 100, 0.02, 0.8, 0.95, 1e-6),
        torch.optim.Adam,
        lr=0.02,
        betas=(0.8, 0.95),
        eps=1e-6,
    )
    assert equals_torch(
        lambda g, t: adam(g, t, 100, decay=0.1), torch.optim.AdamW, lr=0.001, weight_decay=0.1
    )
    assert equals_torch(
        lambda g, t: descend(g, t, 0.01, 100, 0.9), torch.optim.SGD, lr=0.01, momentum=0.9
    )


@pytest.mark.parametrize(
    "change",
    [
        ("(m / (1 - beta1 ** t), v / (1 - beta2 ** t))", "(m, v)"),
        ("(np.sqrt(v_hat) + epsilon)", "np.sqrt(v_hat + epsilon)"),
        ("range(1, steps + 1)", "range(2, steps + 2)"),
    ],
    ids=["no bias correction", "epsilon inside the root", "t begins at 2"],
)
def test_the_adam_test_bites(change):
    adam = defined("adam", change=[change])
    assert not equals_torch(lambda g, t: adam(g, t, 100), torch.optim.Adam, lr=0.001)


def test_the_decay_test_bites():
    """Planted: decay that enters through the gradient (torch's Adam) is not AdamW's."""
    adam = defined("adam")
    assert not equals_torch(
        lambda g, t: adam(g, t, 100, decay=0.1), torch.optim.Adam, lr=0.001, weight_decay=0.1
    )


# ---- the head, and the line -----------------------------------------------------------------------------------------------------


def head_gradient_is_right(head_gradient) -> bool:
    """Against autograd and against differences of a loss written with NumPy."""
    rng = np.random.default_rng(0)
    h, labels, W, b = (
        rng.normal(size=(6, 5)),
        rng.integers(0, 3, 6),
        rng.normal(size=(3, 5)),
        rng.normal(size=3),
    )

    def loss(W):
        z = h @ W.T + b
        return np.mean(scipy.special.logsumexp(z, 1) - z[np.arange(6), labels])

    numerical = np.array(
        [
            [(loss(W + 1e-6 * d) - loss(W - 1e-6 * d)) / 2e-6 for d in row]
            for row in np.eye(15).reshape(3, 5, 3, 5)
        ]
    )
    Wt, bt = (torch.tensor(a, requires_grad=True) for a in (W, b))
    logits = torch.tensor(h) @ Wt.T + bt
    nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    dW, db = head_gradient(
        torch.tensor(h), logits.softmax(1).detach(), nn.functional.one_hot(torch.tensor(labels), 3)
    )
    return all(
        (
            np.abs(dW.numpy() - numerical).max() < 1e-8,
            torch.allclose(dW, Wt.grad),
            torch.allclose(db, bt.grad),
        )
    )


def test_head_gradient():
    assert head_gradient_is_right(defined("head_gradient"))
    for change in [
        ("(p - y).T", "(y - p).T"),
        (" / len(h)", ""),
        ("(p - y).mean(0)", "(p - y).sum(0)"),
    ]:
        assert not head_gradient_is_right(defined("head_gradient", change=[change])), change


def line_is_straight(between, travelled) -> bool:
    torch.manual_seed(0)
    start, end = (
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)) for _ in range(2)
    )
    vector = lambda model: nn.utils.parameters_to_vector(model.parameters()).detach()
    a, b = vector(start), vector(end)
    right = all(
        torch.allclose(vector(between(start, end, s)), a + s * (b - a), atol=1e-6)
        for s in (0, 0.25, 1, 1.25)
    )
    parts = travelled(start, end)
    return (
        right
        and np.isclose(sum(d**2 for d in parts.values()) ** 0.5, (a - b).norm().item())
        and set(parts) == {"0", "1", "2"}
    )


def test_line_and_distance():
    assert line_is_straight(defined("between"), defined("travelled"))
    assert not line_is_straight(
        defined("between", change=[("(1 - s) * a + s * b", "s * a + (1 - s) * b")]),
        defined("travelled"),
    )
    assert not line_is_straight(
        defined("between"), defined("travelled", change=[("value ** 0.5", "value")])
    )


# ---- the widget -----------------------------------------------------------------------------------------------------------------


H, STAR, START = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([1.0, -0.5]), np.array([-1.0, 1.0])


def test_gradient_descent_path(shown):
    """Both controls to both ends; the loss it names is that of the notebook's own gradient descent."""
    box = widgets.gradient_descent_path(H, STAR, START)
    rate, momentum = (row.children[0] for row in box.children[:2])
    descend, pictures = defined("descend"), set()
    for percent in (50, rate.max, rate.min, 100, 140, 150, 190):
        for index, beta in enumerate(momentum.choices):
            rate.value, momentum.value = percent, index
            path = descend(
                lambda theta: H @ (theta - STAR),
                START,
                percent / 100 * 2 / np.linalg.eigvalsh(H)[-1],
                40,
                beta,
            )
            loss = (path[-1] - STAR) @ H @ (path[-1] - STAR) / 2
            text = box.children[-1].value
            assert (
                f"momentum {beta}; the bound is {100 * (1 + beta):.0f} %" in text
                and f"to {loss:.3g}: it " in text
            )
            verdict = (
                "converges"
                if percent < 100 * (1 + beta)
                else "edge"
                if percent == 100 * (1 + beta)
                else "diverges"
            )
            assert verdict in text.split("it ")[-1]
            pictures.add(text)
    assert len(pictures) == 7 * 3 and not plt.get_fignums()  # every setting has its own picture
    assert "Learning rate 50 %" in shown[-1].data


@pytest.mark.parametrize(
    "wrong", [np.eye(3), np.array([[1.0, 2.0], [0.0, 1.0]]), np.diag([1.0, -1.0])]
)
def test_only_bowls(wrong, shown):
    with pytest.raises(ValueError, match="symmetric 2 × 2"):
        widgets.gradient_descent_path(wrong, STAR, START)


# ---- the kept table -------------------------------------------------------------------------------------------------------------

TABLE = ROOT / "data" / "results" / "snippet.json"


def summary_follows_from_runs(table) -> bool:
    """Every difference is the mean over seeds of the runs' own numbers, and lies inside its interval."""
    value = {(r["what"], r["seed"]): r for r in table["runs"]}
    for row in table["summary"]:
        gaps = [
            value[row["what"], s][row["metric"]] - value[row["against"], s][row["metric"]]
            for s in table["seeds"]
        ]
        if (
            abs(np.mean(gaps) - row["difference"]) > 1e-4
            or not row["low"] <= row["difference"] <= row["high"]
        ):
            return False
    return len(table["seeds"]) >= 6 and table["test_images"] >= 500


def test_the_kept_summary_follows_from_its_runs():
    table = json.loads(TABLE.read_text())
    assert summary_follows_from_runs(table)
    table["summary"][0]["difference"] += 0.01
    assert not summary_follows_from_runs(table)


def slice_agrees(table, seed, again) -> bool:
    """`again`: AUC of two rows, recomputed: each within four seed SDs of its kept value, and in the same order."""
    for what, auc in again.items():
        kept = {run["seed"]: run["auc"] for run in table["runs"] if run["what"] == what}
        if abs(auc - kept[seed]) > 4 * np.std(list(kept.values()), ddof=1):
            return False
    return again["complete"] > again["0..255 at prediction only"] + 0.05


def test_a_slice_of_the_kept_table_is_reproduced():
    """One seed: the complete recipe, and the same network shown pixels 0..255."""
    from medtl_utils import load_task

    spec = importlib.util.spec_from_file_location("make", TABLE.with_name("make_snippet.py"))
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    table, seed, test = json.loads(TABLE.read_text()), 4003, make.test_split()
    assert len(test) == table["test_images"] and len(set(test.patients)) == table["test_patients"]
    model = make.train(load_task("phantom", n_train=200, seed=seed).train, seed)
    scores = {
        "complete": make.predict(model, test),
        "0..255 at prediction only": make.predict(model, test, "0..255"),
    }
    again = {what: roc_auc_score(test.labels, s[:, 1]) for what, s in scores.items()}
    assert slice_agrees(table, seed, again)
    assert not slice_agrees(
        table, seed, dict(zip(again, reversed(again.values())))
    )  # planted: the two rows swapped
