"""Checks of the exercises: one table, one function. Each answer gets a sentence; none gets a traceback."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch


def _probability_function(answer) -> str | None:
    """None if `answer(model, images)` gives P(class 1) in evaluation mode, else the hint for the mistake it makes."""
    if not callable(answer):
        return "answer should be a function: def answer(model, images): ..."
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.BatchNorm1d(12), torch.nn.Dropout(0.5), torch.nn.Linear(12, 2)
    )
    images = torch.randn(7, 3, 2, 2) * 2 + 1
    want = model.eval()(images).softmax(1).detach()
    model.train()
    try:
        got = answer(model, images)
    except Exception as error:
        return f"your function stopped with {type(error).__name__}: {error}"
    if not isinstance(got, torch.Tensor):
        return "return the tensor of probabilities itself."
    got = got.detach()
    if got.shape == (7, 2):
        return "one number an image is asked for: take the column of class 1."
    if got.shape != (7,):
        return f"the result should have shape (7,), one probability an image; yours has {tuple(got.shape)}."
    if torch.allclose(got, want[:, 1], atol=1e-5):
        tracked = answer(model, images).requires_grad
        return (
            "the result requires a gradient: wrap the forward pass in torch.no_grad()."
            if tracked
            else None
        )
    if torch.allclose(got, want[:, 0], atol=1e-5):
        return "that is the probability of class 0. Which index is malignant here?"
    if torch.allclose(got, model.eval()(images)[:, 1].detach(), atol=1e-5):
        return "those are logits, not probabilities: a softmax over the classes is missing."
    if torch.allclose(got, model.eval()(images).softmax(0)[:, 1].detach(), atol=1e-5):
        return "the softmax runs over the images (dim 0); it must run over the classes (dim 1)."
    if torch.allclose(got, want.softmax(1)[:, 1], atol=1e-5):
        return "softmax was taken twice, which pushes every probability towards one half."
    return "the numbers differ from the expected ones. Was the model in evaluation mode? BatchNorm and dropout behave otherwise in training."


def _tried(answer, *inputs):
    """(result, None), or (None, what went wrong) where `answer` is no function or stops."""
    if not callable(answer):
        return None, "answer should be a function: def answer(...): ..."
    try:
        return answer(*inputs), None
    except Exception as error:
        return None, f"your function stopped with {type(error).__name__}: {error}"


def _shifts(answer) -> str | None:
    cases = {"a": ("domain", "the question stays, the pictures change"), "b": ("task", "the pictures stay, the question changes"),
             "c": ("both", "both of them change"), "d": ("domain", "the question stays; children make other pictures")}  # fmt: skip
    if not isinstance(answer, (list, tuple)) or len(answer) != 4:
        return (
            'a list of four words is asked for, such as ["domain", "domain", "domain", "domain"].'
        )
    wrong = [
        f"case {c}: {why}."
        for (c, (word, why)), w in zip(cases.items(), answer)
        if str(w).strip().lower() != word
    ]
    return wrong[0] if wrong else None


def _posterior(answer) -> str | None:
    for prior, p, q in ((0.1, (0.5, 0.3, 0.8), (0.2, 0.6, 0.1)), (0.4, (0.7, 0.2), (0.1, 0.4))):
        p, q = np.array(p), np.array(q)
        got, problem = _tried(answer, prior, p, q)
        if (
            problem
            or not isinstance(got, (int, float, np.generic))
            and np.shape(got) != ()
            or got is None
        ):
            return (
                problem
                or f"return one number, the probability; yours is {type(got).__name__} of shape {np.shape(got)}."
            )
        m, b, sum_m, sum_b = (
            prior * p.prod(),
            (1 - prior) * q.prod(),
            prior * p.sum(),
            (1 - prior) * q.sum(),
        )
        known = {
            b / (m + b): "that is P(benign | descriptors): malignant belongs into the numerator.",
            p.prod()
            / (
                p.prod() + q.prod()
            ): "the prior is missing: how common is the disease before anyone looks?",
            sum_m
            / (sum_m + sum_b): "the likelihoods were added: independent descriptors multiply.",
            m: "not normalised: divide by the sum over both classes.",
            m / b: "those are the odds: odds / (1 + odds) is the probability.",
        }
        if not np.isclose(got, m / (m + b)):
            return next(
                (text for value, text in known.items() if np.isclose(got, value)),
                "Bayes' rule gives another number.",
            )
    return None


def _verdict(answer) -> str | None:
    cases = ((0.02, 0.1), (-0.1, -0.02), (-0.01, 0.2), (-0.2, 0.01), (0.0, 0.1))
    words, problems = zip(*(_tried(answer, *case) for case in cases))
    if any(problems) or not {*map(str, words)} <= {"helps", "hurts", "cannot say"}:
        return problems[0] or 'return one of "helps", "hurts", "cannot say".'
    if words[:2] == ("hurts", "helps"):
        return "the signs are swapped: above zero, transfer is better."
    if words[2] == "helps" or words[3] == "hurts":
        return "the middle of the interval does not decide: in (-0.01, 0.2) zero is possible too."
    if words[:2] != ("helps", "hurts"):
        return "an interval that lies on one side of zero as a whole does say something."
    return None if words[4] == "cannot say" else "an interval that begins at zero includes zero."


def _freezes_the_trunk(answer) -> str | None:
    from torchvision.models import resnet18

    model, x = resnet18(num_classes=2), torch.linspace(-2, 2, 12288).sin().view(4, 3, 32, 32)
    returned, problem = _tried(answer, model)
    if problem:
        return problem
    model = returned if isinstance(returned, torch.nn.Module) else model
    free = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    if "fc" not in free:
        return "the head is frozen too, so nothing can learn: leave `fc` alone."
    if free != {"fc"}:
        return f"weights that can still move: {', '.join(sorted(free - {'fc'}))}. The trunk is everything but the head."
    before = {name: b.clone() for name, b in model.train().named_buffers() if "running" in name}
    trained, after = model(x), dict(model.named_buffers())
    if any(not torch.equal(b, after[name]) for name, b in before.items()):
        return "after model.train() the statistics of BatchNorm moved: requires_grad or a single eval() does not hold them."
    stored = torch.allclose(trained, model.eval()(x), atol=1e-4)
    return (
        None
        if stored
        else "in training mode BatchNorm still normalises by the batch: it should use its stored statistics."
    )


def _millimetres(answer) -> str | None:
    z, size, mean, sd = (
        torch.tensor([[0.5], [-1.0], [2.0], [0.1]]),
        torch.tensor([15.0, 9.0, 20.0, 16.0]),
        13.0,
        4.0,
    )
    got, problem = _tried(answer, z, mean, sd, size)
    got, no_number = _tried(float, got)
    if problem or no_number:
        return problem or "return one number: the mean absolute error in mm."
    mm = z[:, 0] * sd + mean
    known = {
        (z[:, 0] - size)
        .abs()
        .mean(): "z is still in standard deviations: undo the standardisation, z[:, 0] * sd + mean.",
        (z * sd + mean - size)
        .abs()
        .mean(): "(4, 1) minus (4,) makes a table of 16 differences: take the column z[:, 0] first.",
        (
            (mm - size) ** 2
        ).mean(): "those are squared millimetres: take the absolute value, not the square.",
        ((mm - size) ** 2).mean()
        ** 0.5: "that is the root mean square error, which counts large errors more.",
        (mm - size).mean(): "errors of opposite sign cancel: the absolute value is missing.",
        (mm - size).abs().mean()
        / sd: "that error is in standard deviations, not in mm: multiply by sd.",
        (mm - size).abs().mean(): None,
    }
    return next(
        (text for value, text in known.items() if abs(got - value) < 1e-4),
        "another number is expected. Is the mean in it?",
    )


def _near(want: float, known: dict[float, str]) -> Callable:
    """A check for a number to two decimals; `known`: wrong number -> what it shows."""

    def right(answer) -> str | None:
        if isinstance(answer, str) or np.ndim(answer) or np.iscomplexobj(answer):
            return "one number is asked for."
        close = lambda value: abs(float(answer) - value) < 0.006
        return (
            None
            if close(want)
            else next(
                (text for value, text in known.items() if close(value)),
                "another number is expected.",
            )
        )

    return right


def _log_softmax_function(answer) -> str | None:
    z, far = (
        torch.tensor([[2.0, 0, -1], [0.5, 0.5, 3]]).double(),
        torch.tensor([[1e3, 0, -1e3], [-1e3, -1001, -1002]]).double(),
    )
    with np.errstate(all="ignore"):
        (got, problem), (big, _) = (
            _tried(answer, z.numpy().copy()),
            _tried(answer, far.numpy().copy()),
        )
    if problem or np.shape(got) != (2, 3):
        return (
            problem or f"the result should have the shape of z, (2, 3); yours has {np.shape(got)}."
        )
    want, shifted = z.log_softmax(1), z - z.max(1, keepdim=True)[0]
    known = [
        (want, None), (want.exp(), "that is the softmax itself: its logarithm is asked for."),
        (z.log_softmax(0), "the sum runs over the images (axis 0): it must run over the classes, axis=1."),
        (-want, "the sign is wrong: the logarithm of a probability is negative."),
        (want / np.log(2), "that is the logarithm to base 2: use np.log."), (want / np.log(10), "base 10: use np.log."),
        (shifted, "only the largest logit was subtracted: the log of the sum of exponentials is missing."),
    ]  # fmt: skip
    if not np.allclose(got, want, atol=1e-9):
        return next(
            (text for value, text in known if np.allclose(got, value)),
            "the numbers differ from log_softmax of each row.",
        )
    if np.isnan(big).any():
        return "overflow: logits of 1000 give nan. Subtract the largest logit of each row before np.exp."
    if np.isposinf(big).any():
        return "a row of small logits vanished: the largest logit must be taken per row, max(axis=1, keepdims=True)."
    if np.isneginf(big).any():
        return "-inf: the softmax had rounded to 0 before its logarithm. Subtract log-sum-exp from the logits instead."
    return (
        None
        if np.allclose(big, far.log_softmax(1))
        else "large logits give other numbers than log_softmax."
    )


def _malignant_weight(answer) -> str | None:
    z, y, price = (
        torch.tensor([[2.0, 0], [0.5, 1], [-1, 3], [0, -2], [1, 1.5]]).double(),
        torch.tensor([0, 0, 1, 1, 1]),
        4.0,
    )
    got, problem = _tried(answer, z.numpy().copy(), y.numpy().copy(), price)
    got, no_number = _tried(float, got)
    loss = lambda *w, how="mean": torch.nn.functional.cross_entropy(
        z, y, torch.tensor(w).double(), reduction=how
    )
    known = {
        loss(price, 1, how="sum") / 5: "divided by m: PyTorch divides by the sum of the weights.",
        loss(1, price): "the benign tumours were made dearer: in these labels 0 is malignant.",
        loss(1, price, how="sum") / 5: "the benign tumours were made dearer (0 is malignant), and the sum was divided by m.",
        loss(1, 1): "the weights are missing, or cancelled.",
        loss(price, 1, how="sum"): "that is the sum: divide by the sum of the weights.",
        -loss(price, 1): "the minus is missing.", loss(price, 1): None,
    }  # fmt: skip
    if problem or no_number:
        return problem or "return one number, the loss."
    return next(
        (text for value, text in known.items() if np.isclose(got, value)),
        "another number is expected.",
    )


def _ppv(answer) -> str | None:
    for a, b, p in ((0.9, 0.8, 0.1), (0.6, 0.95, 0.02)):
        got, problem = _tried(answer, a, b, p)
        got, no_number = _tried(float, got)
        bayes = lambda a, b, p: a * p / (a * p + (1 - b) * (1 - p))
        known = {
            bayes(a, b, p): None,
            bayes(
                a, b, 0.5
            ): "the prevalence is missing: how many ill and how many healthy people are tested?",
            bayes(b, a, p): "sensitivity and specificity are swapped.",
            bayes(b, a, 1 - p): "that is the negative predictive value.",
            1
            - bayes(a, b, p): "that is the share of false alarms among the positives: 1 minus it.",
            a * p: "those are the found among all people: divide by all who test positive.",
            100 * bayes(a, b, p): "a share between 0 and 1 is asked for, not per cent.",
        }
        if problem or no_number:
            return problem or "return one number between 0 and 1."
        if said := next(
            (text for value, text in known.items() if np.isclose(got, value)),
            "Bayes' rule gives another number.",
        ):
            return said
    return None


def _threshold_for_specificity(answer) -> str | None:
    ill, well = (
        [0.95, 0.9, 0.8, 0.7, 0.6, 0.55, 0.45, 0.4, 0.3, 0.15],
        [0.85, 0.65, 0.5, 0.42, 0.28, 0.25, 0.2, 0.1, 0.05, 0.02],
    )
    scores, positive, wanted = np.array(ill + well), np.repeat([True, False], 10), 0.8
    got, problem = _tried(answer, scores.copy(), positive.copy(), wanted)
    got, no_number = _tried(float, got)
    if problem or no_number:
        return problem or "return one number, the threshold."
    lowest = lambda group: min(t for t in scores if (group < t).mean() >= wanted)
    known = {
        lowest(scores[~positive]): None,
        0.5: "a benign case exactly at the threshold is called positive: use < for the cleared, not <=.",
        lowest(
            scores[positive]
        ): "wrong class: specificity counts the benign, yours counted the malignant.",
        0.4: "wrong class: that is the threshold for a sensitivity; specificity counts the benign.",
        0.3: "that threshold has the highest accuracy; a specificity was asked for.",
        max(
            scores
        ): "the highest threshold misses nearly all the malignant: take the lowest that is good enough.",
    }
    same = lambda t: ((scores >= got) == (scores >= t)).all()
    return next(
        (text for t, text in known.items() if same(t)),
        f"specificity {(scores[~positive] < got).mean():.1f}: not the one.",
    )


def _leaks(answer) -> str | None:
    letters = (
        {c for c in "".join(map(str, answer)).lower() if c.isalpha()}
        if isinstance(answer, (str, list, set))
        else set()
    )
    said = {"c": "c does not leak: choosing is what the validation set is for.",
            "f": "f does not leak: the source has seen neither these women nor these labels.",
            "a": "a leaks too: the test images have told their mean and spread.", "b": "b leaks too: one woman on both sides.",
            "d": "d leaks too: the test set has chosen.", "e": "e leaks too: copies of test images are trained on."}  # fmt: skip
    if not letters or letters - set(said):
        return 'answer with letters out of a to f, e.g. "ab".'
    return next(
        (text for letter, text in said.items() if (letter in letters) == (letter in "cf")), None
    )


def _descent_step(answer) -> str | None:
    start, gradient, alpha = (
        np.array([1.0, -2.0, 0.5]),
        lambda theta: np.array([2.0, 3.0, -1.0]) * theta,
        0.1,
    )
    theta = start.copy()
    got, problem = _tried(answer, theta, gradient, alpha)
    if problem or got is None or np.shape(got) != (3,):
        return problem or "return the new parameters, an array of the same shape as theta."
    known = {
        "the step goes uphill: the sign before alpha should be a minus.": start
        + alpha * gradient(start),
        "alpha has no effect: it multiplies the gradient.": start - gradient(start),
        "that is the step alone: subtract it from theta.": -alpha * gradient(start),
        "nothing moved.": start,
    }
    if not np.allclose(got, start - alpha * gradient(start)):
        return next(
            (text for text, value in known.items() if np.allclose(got, value)),
            "another point is expected.",
        )
    return (
        None
        if np.array_equal(theta, start)
        else "right, but the array you were given has changed: -= works in place."
    )


def _adam_step(answer) -> str | None:
    theta, g, m, v = (np.array(a) for a in ([1.0, -2.0], [0.3, -0.02], [0.1, 0.05], [0.04, 0.001]))
    a, b1, b2, eps = 0.1, 0.8, 0.95, 0.05
    for t in (1, 3):
        got, problem = _tried(answer, theta.copy(), g, m.copy(), v.copy(), t, a, b1, b2, eps)
        if (
            problem
            or not isinstance(got, tuple)
            or len(got) != 3
            or any(np.shape(part) != (2,) for part in got)
        ):
            return problem or "return three arrays: the new theta, m, v."
        m1, v1 = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        mh, vh = m1 / (1 - b1**t), v1 / (1 - b2**t)
        if not (np.allclose(got[1], m1) and np.allclose(got[2], v1)):
            hats = np.allclose(got[1], mh) or np.allclose(got[2], vh)
            new = "the new averages are beta * old + (1 - beta) * g, and g**2 for v."
            return "hand on m and v as they are; the hats are for this step only." if hats else new
        right, wrong = (
            mh / (np.sqrt(vh) + eps),
            "m and v are right, theta is not: look at the last formula again.",
        )
        known = [(m1 / (np.sqrt(v1) + eps), "the hats are missing: divide m by 1 - beta1**t and v by 1 - beta2**t."),
                 (mh / (vh + eps), "the square root of v is missing."), (-right, "the sign: the step goes against the gradient."),
                 (mh / np.sqrt(vh + eps), "epsilon stands inside the root; it is added after it.")]  # fmt: skip
        if not np.allclose(got[0], theta - a * right):
            return next(
                (text for step, text in known if np.allclose(got[0], theta - a * step)), wrong
            )
    return None


def _cam_function(answer) -> str | None:
    rng = np.random.default_rng(25)
    A, gradient = (
        torch.tensor(draw, dtype=torch.float32)
        for draw in (rng.random((5, 3, 4)), rng.normal(size=(2, 5, 3, 4)))
    )
    got, problem = _tried(answer, A, gradient, 0)
    if problem or not isinstance(got, (torch.Tensor, np.ndarray)):
        return (
            problem
            or f"return the map itself, a tensor of shape (3, 4); yours is {type(got).__name__}."
        )
    got = torch.as_tensor(got).detach().float()
    if got.shape != (3, 4):
        return f"the map should have the shape of one channel, (3, 4): sum over the channels k. Yours has {tuple(got.shape)}."
    of = lambda alpha: (alpha * A).sum(0)
    mean = lambda g: g.mean((1, 2), keepdim=True)
    right = of(mean(gradient[0]))
    known = [
        (right, "negative values are left: ReLU keeps only what speaks for the class."),
        (
            of(gradient[0].sum((1, 2), keepdim=True)),
            "the gradients were added up: alpha is their mean over the places.",
        ),
        (
            of(mean(gradient[0].abs())),
            "the gradients' sign is gone: what speaks against the class must weigh negatively.",
        ),
        (of(mean(gradient[1])), "that is the map of the other class: take gradient[c]."),
        (
            of(gradient[0]),
            "one weight a channel is asked for: average the gradient over its places first.",
        ),
    ]
    found = [
        text
        for value, text in [(right.relu(), None), *known]
        for v in (value, value.relu())
        if torch.allclose(got, v, atol=1e-5)
    ]
    return (
        found[0]
        if found
        else "another map is expected: ReLU(sum alpha_k A_k), with alpha_k the mean gradient of channel k."
    )


def _energy_function(answer) -> str | None:
    heat = np.arange(12, dtype=float).reshape(3, 4) ** 2
    mask = np.isin(np.arange(12).reshape(3, 4), (5, 6, 10))
    got, problem = _tried(answer, heat, mask)
    if problem or np.size(got) != 1 or got is None:
        return problem or "return one number between 0 and 1."
    known = {
        mask.mean(): "that is the mask's share of the picture, whatever the map says.",
        heat[
            mask
        ].mean(): "that is the mean inside the mask: add up, and divide by the sum over the whole map.",
        heat[mask].max() / heat.max(): "those are the highest values: add up instead.",
        heat[mask].sum(): "not a share yet: divide by the sum over the whole map.",
        1 - heat[mask].sum() / heat.sum(): "that is the share outside the mask.",
        float(
            mask.flat[heat.argmax()]
        ): "that is the pointing game: hit or miss. The energy is a share.",
    }
    known = {heat[mask].sum() / heat.sum(): None} | known
    return next(
        (text for value, text in known.items() if np.isclose(float(got), value)),
        "not yet: divide inside by everything.",
    )


def _finds_the_shortcut(answer) -> str | None:
    said = {c for c in str(answer).lower() if c.isalpha()}
    why = {
        "a": "test patients of the same hospital carry the same habit: there the shortcut looks like skill.",
        "b": "the marks sit at the lesion's edge, so a map can point at the lesion for the wrong reason.",
        "c": "random weights tell whether the map depends on the model, not whether the model is right.",
        "d": "a model that ranks pictures without a lesion uses something else: nobody needs to know what.",
        "e": "a hospital with another habit breaks the link between mark and diagnosis, and the AUC falls.",
    }
    if not said or not said <= set(why):
        return 'letters from "a" to "e" are asked for, such as "ab".'
    wrong = said ^ {"d", "e"}
    return f"look at ({min(wrong)}) again: {why[min(wrong)]}" if wrong else None


# name -> (hint for an empty answer, {wrong answer: what it shows}, right answer or a function that returns a hint or None)
EXERCISES: dict[str, tuple[str, dict, object | Callable]] = {
    "0.1": (
        "the source is the task that has plenty of data and gives its knowledge away.",
        {
            "parkinson detection": "that is the target: it has 200 recordings and receives the knowledge.",
            "both": "the two tasks have different roles: one gives, one receives.",
            "speech": "name the task, not the kind of data.",
        },
        "word recognition",
    ),
    "0.2": (
        "look at the two intervals, and at who was tested.",
        {
            "yes": "0.89 lies inside A's interval and 0.91 inside B's: the difference may be luck.",
            "no": "A may well be better: no evidence of a difference is not evidence of no difference.",
            "a": "0.89 lies inside A's interval and 0.91 inside B's: the difference may be luck.",
        },
        "cannot say",
    ),
    "0.3": (
        "a whole number. Which set is for choosing?",
        {
            20: "then the test set has chosen, and its number is too good: choose on validation.",
            1: "one look at the chosen model comes after choosing; before it, none.",
            19: "every look before choosing lets the test set choose.",
        },
        0,
    ),
    # ---- 01 ----
    "1.1": ('a list of four words out of "domain", "task", "both".', {}, _shifts),
    "1.2": (
        "write a function that takes (prior, p_malignant, p_benign) and returns one number.",
        {},
        _posterior,
    ),
    "1.3": (
        'write a function that takes (low, high) and returns "helps", "hurts" or "cannot say".',
        {},
        _verdict,
    ),
    "1.4": (
        "0.78 lies half-way between 0.72 and 0.84; half-way on a log axis is a geometric mean.",
        {
            250: "half-way on a linear axis; the curve is drawn over log n.",
            400: "at 400 the curve is at 0.84 already.",
            100: "at 100 the curve is at 0.72 only.",
            40000: "take the square root of the product.",
        },
        200,
    ),  # fmt: skip
    # ---- 02 ----
    "2.1": (
        "C_out * C_in * 3 * 3 for the convolution, and scale and shift for each channel of BatchNorm.",
        {
            73_728: "BatchNorm's scale and shift are missing: two for each of its 128 channels.",
            74_112: "the convolution has no bias here: BatchNorm's shift does its work.",
            74_240: "running mean and variance are buffers, not parameters: no gradient reaches them.",
        },
        73_984,
    ),
    "2.2": (
        "write a function that takes a ResNet and leaves only its head `fc` able to change.",
        {},
        _freezes_the_trunk,
    ),
    "2.3": (
        "write a function that takes (z, mean, sd, size_mm) and returns one number in mm.",
        {},
        _millimetres,
    ),
    "2.4": (
        "one whole number, k. Whose interval is the first to leave out zero?",
        {
            1: "its interval includes zero: a gain of nothing is compatible with these data.",
            **dict.fromkeys((3, 4, 5), "a smaller k already has an interval without zero."),
        },
        2,
    ),
    # ---- 03 ----
    "3.1": (
        "minus the natural logarithm of the probability that the truth got.",
        {},
        _near(
            1.609,
            {
                -1.609: "the minus is missing: a price is positive.",
                0.699: "that is the logarithm to base 10: use np.log.",
                2.322: "that is the logarithm to base 2: use np.log.",
                0.8: "that is 1 - p: the price is -log p.",
                0.223: "that is the price if the tumour were benign: the truth got 0.2, not 0.8.",
            },
        ),
    ),
    "3.2": (
        "write a function that takes z (m, K) and returns an array of the same shape.",
        {},
        _log_softmax_function,
    ),
    "3.3": (
        "write a function that takes (z, y, price) and returns one number.",
        {},
        _malignant_weight,
    ),
    "3.4": (
        "the weight acts like more patients: 20 malignant of weight 2, 80 benign of weight 1.",
        {},
        _near(
            1 / 3,
            {
                0.4: "the odds double, not the probability: the benign tumours still count.",
                0.11: "the benign tumours were doubled.",
                0.5: "those are the odds, 40 : 80; the probability is asked for.",
                0.67: "that is the constant for benign.",
                0.2: "that is the cheapest constant without weights.",
            },
        ),
    ),
    # ---- 04 ----
    "4.1": (
        "the Hessian's eigenvalues first; the steepest direction is the strictest.",
        {},
        _near(
            0.5,
            {
                0.25: "that is 1 / lambda_max, where the steepest direction needs one step only; it still converges up to twice that.",
                1.0: "that is 2 / lambda_min: the steep direction has diverged long before.",
                0.33: "that is 2 / trace: safe, but not the largest; the trace adds the eigenvalues.",
                0.67: "that is 2 / 3, from the diagonal: look at the eigenvalues.",
                4.0: "that is the largest eigenvalue; the rate is 2 divided by it.",
            },
        ),
    ),  # fmt: skip
    "4.2": (
        "what does one step multiply the error by, along each direction?",
        {
            "converges": "along the flat direction (factor 0.75), yes; but the steep one has the factor 1 - 2.5 = -1.5.",
            "zigzags": "it does change sides, but with the factor -1.5 it grows: zigzags that shrink need alpha below 2/10.",
            "stays": "only at exactly 2/10 would the steep direction keep its size.",
        },
        "diverges",
    ),
    "4.3": (
        "write a function that takes (theta, gradient, alpha) and returns the new theta.",
        {},
        _descent_step,
    ),
    "4.4": (
        "write a function that returns three arrays: theta, m and v after one step.",
        {},
        _adam_step,
    ),
    # ---- 05 ----
    "5.1": (
        "count the weights of Linear(512, 2), then its biases.",
        {
            1024: "the biases are missing.",
            513: "that is a head with one output.",
            11_177_538: "that is the whole network; only the head learns.",
            11_176_512: "those are the frozen ones.",
        },
        1026,
    ),
    "5.2": (
        'answer with one word: "weights", "statistics" or "nothing".',
        {
            "weights": "requires_grad=False does stop the weights.",
            "nothing": "look at running_mean: the forward pass itself changes it.",
            "both": "requires_grad=False does stop the weights.",
        },
        "statistics",
    ),
    "5.3": (
        "write a function that takes (model, images) and returns one probability an image.",
        {},
        _probability_function,
    ),
    "5.4": (
        'answer "yes", "no" or "cannot say".',
        {
            "yes": "the interval includes zero: a difference of 0 is compatible with these data.",
            "no": "no evidence of a difference is not evidence of no difference: the interval reaches +0.09.",
        },
        "cannot say",
    ),
    # ---- 06 ----
    "6.1": (
        "write a function that takes (sensitivity, specificity, prevalence) and returns one number.",
        {},
        _ppv,
    ),
    "6.2": (
        "write a function that takes (scores, positive, wanted) and returns one threshold.",
        {},
        _threshold_for_specificity,
    ),
    "6.3": (
        'a string of letters, such as "bc". What has the model, or the one who chose, seen of the test set?',
        {},
        _leaks,
    ),
    "6.4": (
        'answer "yes", "no" or "cannot say". Which interval is about the difference?',
        {
            "cannot say": "the two intervals overlap, but the images are the same: the paired interval, +0.01 to +0.05, decides.",
            "no": "the paired difference is above zero over its whole interval.",
        },
        "yes",
    ),
    # ---- 07 ----
    "7.1": (
        "write a function that takes (A, gradient, c) and returns the map, a tensor of shape (h, w).",
        {},
        _cam_function,
    ),
    "7.2": (
        "write a function that takes (heat, mask) and returns one number between 0 and 1.",
        {},
        _energy_function,
    ),
    "7.3": (
        'answer "the reason is right", "the model is accurate" or "nothing by itself".',
        {
            "the reason is right": "marks at the lesion's edge gave such a map too: a place is not a reason.",
            "the model is accurate": "the map says where, not how often the model is right.",
        },
        "nothing by itself",
    ),
    "7.4": (
        'letters, such as "ab": which of the five break the link between mark and diagnosis, or take the lesion away?',
        {},
        _finds_the_shortcut,
    ),
}


def check(name: str, answer) -> None:
    """Print whether `answer` solves exercise `name`, or a hint that names the mistake. `...` means not answered yet."""
    if name not in EXERCISES:
        raise ValueError(f"There is no exercise {name!r}. There are: {', '.join(EXERCISES)}.")
    hint, mistakes, right = EXERCISES[name]
    if answer is ... or answer is None:
        print(f"Exercise {name}: not answered yet. Hint: {hint}")
        return
    if callable(right):
        problem = right(answer)
    else:
        answer = answer.strip().lower() if isinstance(answer, str) else answer
        try:
            problem = None if answer == right else mistakes.get(answer, f"not yet. Hint: {hint}")
        except TypeError:  # a list or another thing that cannot be looked up
            problem = f"not yet. Hint: {hint}"
    print(f"Exercise {name}: correct." if problem is None else f"Exercise {name}: {problem}")
