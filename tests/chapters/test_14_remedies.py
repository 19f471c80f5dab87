"""Notebook 14: AdaBN, recalibration, its exercises, and one lesion on many machines."""

import html
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, fsolve
from scipy.special import expit
from torch import nn

from medtl_utils import phantom, predict, replace_head, source_model, widgets
from medtl_utils.exercises import chapter_14 as exercises
from medtl_utils.phantom_tables import TARGET_SCANNERS, Scanner
from medtl_utils.widgets import chapter_14 as dial
from studies import domain_generalization as study
from studies import domain_methods as methods
from tests.chapters.notebook_code import function, namespace
from tests.conftest import picture

N = namespace("14")


# ---- AdaBN ---------------------------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    model = source_model("ultrasound").eval()
    model.layer4, model.fc = nn.Identity(), nn.Linear(256, 2)
    return model


def statistics_are_those_of(images, model, moved) -> bool:
    """Each layer holds mean and variance of what reaches it, computed apart; no weight moved."""
    norms = {k: m for k, m in moved.named_modules() if isinstance(m, nn.BatchNorm2d)}
    seen, kept = {}, {k: (m.running_mean.clone(), m.running_var.clone()) for k, m in norms.items()}
    hooks = [
        m.register_forward_pre_hook(lambda _m, x, k=k: seen.__setitem__(k, x[0].double()))
        for k, m in norms.items()
    ]
    with torch.no_grad():
        moved.train()(moved.normalisation(images))  # each layer by the mean of this very batch
    for hook in hooks:
        hook.remove()
    for name, (its_mean, its_var) in kept.items():
        x = seen[name].transpose(0, 1).flatten(1).numpy()
        mean, var = x.mean(1), x.var(1, ddof=1)
        if np.abs(its_mean.numpy() - mean).max() > 1e-3 * np.sqrt(var).mean():
            return False
        if not np.allclose(its_var.numpy(), var, rtol=1e-3, atol=1e-3 * var.mean()):
            return False
    weights = zip(model.parameters(), moved.parameters())
    return len(norms) == 15 and all(torch.equal(a, b) for a, b in weights)


def adapts(adabn) -> bool:
    images = phantom.simulate_target("train", 12, 32, 7)["images"]
    model = network()
    before = model.bn1.running_mean.clone()
    moved = adabn(model, images)
    return torch.equal(model.bn1.running_mean, before) and statistics_are_those_of(
        images, model, moved
    )


def test_adabn_statistics_equal_a_direct_computation():
    assert adapts(N["adabn"])
    for change in (
        ("momentum = 1.0", "momentum = 0.1"),
        ("layer.train().momentum", "layer.momentum"),
        ("copy.deepcopy(model)", "model"),
    ):
        assert not adapts(function("14", "adabn", change))


def test_the_studys_adabn_is_the_same():
    images = phantom.simulate_target("train", 12, 32, 7)["images"]
    torch.manual_seed(0)
    net = methods.Net("ultrasound").eval()
    moved = methods.adapted(net, images)
    assert statistics_are_those_of(images, net.trunk, moved.trunk)


# ---- recalibration -------------------------------------------------------------------------------


def clinic(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    z = rng.normal(size=n) * 1.5
    return z, (rng.random(n) < expit(-1.2 + 0.6 * z)).astype(int)


def intercept_is_right(intercept) -> bool:
    z, y = clinic()
    root = brentq(lambda a: (y - expit(a + z)).sum(), -10, 10)
    return (
        abs(intercept(z, y) - root) < 1e-6
        and intercept(z, 0 * y) is None  # nobody is ill
        and intercept(z, 0 * y + 1) is None
    )


def both_are_right(both) -> bool:
    """Against the score equations of both numbers, solved by SciPy."""
    z, y = clinic()
    score = lambda w: [((y - expit(w[0] + w[1] * z)) * v).sum() for v in (1, z)]
    return np.allclose(both(z, y), fsolve(score, [0.0, 1.0]), atol=1e-3) and (
        both(z, 0 * y) is None and both(np.arange(6) - 2.5, np.arange(6) // 3) is None
    )


def test_recalibration_equals_a_root_finder():
    assert intercept_is_right(N["intercept"]) and both_are_right(N["both"])
    for change in (("a + z", "z"), ("y - p", "p - y"), ("0 < y.mean() < 1", "y.mean() < 1")):
        assert not passes(intercept_is_right, function("14", "intercept", change))
    for change in (
        ("C=1000000.0", "C=0.01"),
        ("line.intercept_[0]", "0.0"),
        ("ill.min() > well.max()", "False"),
    ):
        assert not passes(both_are_right, function("14", "both", change))


def passes(check, planted) -> bool:
    try:
        with np.errstate(all="ignore"):
            return check(planted)
    except (TypeError, ValueError, FloatingPointError, ZeroDivisionError):
        return False


def another_prevalence_is_bayes(moved) -> bool:
    """From two densities and a prior, at both prevalences."""
    x = np.linspace(-2, 3, 9)
    ill, well = np.exp(-((x - 1) ** 2) / 2), np.exp(-(x**2) / 2)
    bayes = lambda share: share * ill / (share * ill + (1 - share) * well)
    return all(np.allclose(moved(bayes(a), a, b), bayes(b)) for a, b in ((0.4, 0.1), (0.2, 0.7)))


def test_another_prevalence_is_bayes():
    assert another_prevalence_is_bayes(exercises.moved)
    assert not another_prevalence_is_bayes(exercises.numerator_only)
    assert not another_prevalence_is_bayes(exercises.times_ratio)


def pools(pooled) -> bool:
    rng = np.random.default_rng(1)
    parts = [rng.normal(k, 1 + k, n) for k, n in ((0, 40), (2, 7), (-1, 90))]
    whole = np.concatenate(parts)
    got = pooled(*(np.array(v) for v in zip(*((p.mean(), p.var(), len(p)) for p in parts))))
    return np.allclose(got, [whole.mean(), whole.var()])


def test_pooled_statistics_are_those_of_all_pixels():
    assert pools(exercises.pooled)
    assert not pools(exercises.within_only) and not pools(exercises.between_unweighted)


# ---- one lesion, many machines -------------------------------------------------------------------


def view_with(scanner: Scanner) -> dict:
    patient = phantom.draw_patient(phantom.random_stream("target", 3, 14), "target", malignant=True)
    patient["scanner"] = scanner
    return phantom.draw_view(phantom.random_stream("target", 3, 14, 0), patient, 40)


def shows_the_same_lesion(seen_by, monkeypatch) -> bool:
    """A machine with as many looks as C: its views can be drawn directly, and agree."""
    other = Scanner(0.26, 0.16, TARGET_SCANNERS["C"].looks, 50.0, 1.2, 20.0, 0.45)
    for module in (dial, study):
        monkeypatch.setitem(module.SCANNERS, "X", other)
    view = view_with(TARGET_SCANNERS["C"])
    moved, direct = seen_by(view, "X"), view_with(other)
    few = seen_by(view, "B")
    return (
        np.allclose(moved["numbers"], direct["numbers"], rtol=1e-5)
        and np.array_equal(moved["noise"], direct["noise"])
        and len(few["noise"]) == 5 + 2 * TARGET_SCANNERS["B"].looks
    )


def test_the_machines_show_the_same_lesion(monkeypatch):
    assert shows_the_same_lesion(dial._seen_by, monkeypatch)
    assert shows_the_same_lesion(study.seen_by, monkeypatch)
    assert study.FAR == dial.SCANNERS["D"] and study.MOST == dial.MOST

    def forgets_gamma(view, scanner):
        right, at = dial._seen_by(view, scanner), view["names"].index("gamma")
        right["numbers"][at] = view["numbers"][at]
        return right

    assert not shows_the_same_lesion(forgets_gamma, monkeypatch)


def dial_is_right(models) -> bool:
    """Each setting gives another picture, and says what the model says."""
    box = widgets.scanner_dial(models, lesions=2, size=32)
    lesion, scanner, model = box.children[:3]
    seen = set()
    for number in (0, 1):
        images, _ = dial.lesion_on_all(number + 1, 32)
        for place in range(4):
            for which, name in enumerate(models):
                lesion.value, scanner.value, model.value = number, place, which
                page = picture(box)
                seen.add(page)
                told = predict(models[name], SimpleNamespace(images=images))[:, 1]
                words = html.unescape(re.sub(r"<[^>]*>", "", page))
                if f"probability of malignancy of {float(told[place]):.2f}" not in words:
                    return False
    return len(seen) == 16


def test_the_scanner_dial_says_what_the_models_say(monkeypatch):
    torch.manual_seed(0)
    models = {k: replace_head(source_model("ultrasound"), 2).eval() for k in ("one", "other")}
    assert dial_is_right(models)
    with pytest.raises(ValueError, match="at least one model"):
        widgets.scanner_dial({})
    right = dial.predict
    monkeypatch.setattr(dial, "predict", lambda *how: right(*how).flip(1))
    assert not dial_is_right(models)
