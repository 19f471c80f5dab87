"""Exercises of chapter 04, Gradient descent."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Number, Word
from .reading import same

# ---- 4.3: one step of gradient descent ----

START = np.array([1.0, -2.0, 0.5])


def step(theta, gradient, alpha):
    return theta - alpha * gradient(theta)


def step_in_place(theta, gradient, alpha):
    theta -= alpha * gradient(theta)
    return theta


def one_start():
    """(theta, gradient, alpha)."""
    return [(START.copy(), lambda theta: np.array([2.0, 3.0, -1.0]) * theta, 0.1)]


STEP = Function(
    hint="write a function that takes (theta, gradient, alpha) and returns the new theta.",
    right=step,
    cases=one_start,
    form="return the new parameters, an array of the same shape as theta",
    wrong=(
        Wrong(
            lambda theta, gradient, alpha: theta + alpha * gradient(theta),
            "the step goes uphill: the sign before alpha should be a minus.",
        ),
        Wrong(
            lambda theta, gradient, alpha: theta - gradient(theta),
            "alpha has no effect: it multiplies the gradient.",
        ),
        Wrong(
            lambda theta, gradient, alpha: -alpha * gradient(theta),
            "that is the step alone: subtract it from theta.",
        ),
        Wrong(lambda theta, gradient, alpha: theta, "nothing moved."),
    ),
    other=Wrong(
        lambda theta, gradient, alpha: theta - 2 * alpha * gradient(theta),
        "another point is expected.",
    ),
    although_right=(
        Wrong(
            step_in_place,
            "right, but the array you were given has changed: -= works in place.",
            when=lambda attempt: not np.array_equal(attempt.inputs[0], START),
        ),
    ),
)

# ---- 4.4: one step of Adam (Kingma and Ba 2015, algorithm 1) ----


def averages(g, m, v, beta1, beta2):
    return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2


def hats(m, v, t, beta1, beta2):
    return m / (1 - beta1**t), v / (1 - beta2**t)


def adam(theta, g, m, v, t, alpha, beta1, beta2, epsilon):
    m, v = averages(g, m, v, beta1, beta2)
    m_hat, v_hat = hats(m, v, t, beta1, beta2)
    return theta - alpha * m_hat / (np.sqrt(v_hat) + epsilon), m, v


def without_hats(theta, g, m, v, t, alpha, beta1, beta2, epsilon):
    m, v = averages(g, m, v, beta1, beta2)
    return theta - alpha * m / (np.sqrt(v) + epsilon), m, v


def without_root(theta, g, m, v, t, alpha, beta1, beta2, epsilon):
    m, v = averages(g, m, v, beta1, beta2)
    m_hat, v_hat = hats(m, v, t, beta1, beta2)
    return theta - alpha * m_hat / (v_hat + epsilon), m, v


def epsilon_inside(theta, g, m, v, t, alpha, beta1, beta2, epsilon):
    m, v = averages(g, m, v, beta1, beta2)
    m_hat, v_hat = hats(m, v, t, beta1, beta2)
    return theta - alpha * m_hat / np.sqrt(v_hat + epsilon), m, v


def uphill(theta, *rest):
    new, m, v = adam(theta, *rest)
    return 2 * theta - new, m, v


def hats_handed_on(theta, g, m, v, t, alpha, beta1, beta2, epsilon):
    new, m, v = adam(theta, g, m, v, t, alpha, beta1, beta2, epsilon)
    return new, *hats(m, v, t, beta1, beta2)


def two_steps():
    """(theta, g, m, v, t, alpha, beta1, beta2, epsilon) for the first and the third step."""
    theta, g = np.array([1.0, -2.0]), np.array([0.3, -0.02])
    m, v = np.array([0.1, 0.05]), np.array([0.04, 0.001])
    copies = lambda: (theta.copy(), g.copy(), m.copy(), v.copy())
    return [(*copies(), t, 0.1, 0.8, 0.95, 0.05) for t in (1, 3)]


ADAM = Function(
    hint="write a function that returns three arrays: theta, m and v after one step.",
    right=adam,
    cases=two_steps,
    form="return three arrays: the new theta, m, v",
    wrong=(
        Wrong(hats_handed_on, "hand on m and v as they are; the hats are for this step only."),
        Wrong(
            lambda theta, g, m, v, *rest: adam(theta, g, m, v / 2, *rest),
            "the new averages are beta * old + (1 - beta) * g, and g**2 for v.",
            when=lambda attempt: not same(attempt.got[1:], attempt.want[1:]),
        ),
        Wrong(
            without_hats, "the hats are missing: divide m by 1 - beta1**t and v by 1 - beta2**t."
        ),
        Wrong(without_root, "the square root of v is missing."),
        Wrong(uphill, "the sign: the step goes against the gradient."),
        Wrong(epsilon_inside, "epsilon stands inside the root; it is added after it."),
    ),
    other=Wrong(
        lambda theta, *rest: (theta, *adam(theta, *rest)[1:]),
        "m and v are right, theta is not: look at the last formula again.",
    ),
)

EXERCISES = {
    "4.1": Number(
        hint="the Hessian's eigenvalues first; the steepest direction is the strictest.",
        right=0.5,
        wrong={
            0.25: "that is 1 / lambda_max, where the steepest direction needs one step only; it "
            "still converges up to twice that.",
            1.0: "that is 2 / lambda_min: the steep direction has diverged long before.",
            0.33: "that is 2 / trace: safe, but not the largest; the trace adds the eigenvalues.",
            0.67: "that is 2 / 3, from the diagonal: look at the eigenvalues.",
            4.0: "that is the largest eigenvalue; the rate is 2 divided by it.",
        },
    ),
    "4.2": Word(
        hint="what does one step multiply the error by, along each direction?",
        right="diverges",
        wrong={
            "converges": "along the flat direction (factor 0.75), yes; but the steep one has the "
            "factor 1 - 2.5 = -1.5.",
            "zigzags": "it does change sides, but with the factor -1.5 it grows: zigzags that "
            "shrink need alpha below 2/10.",
            "stays": "only at exactly 2/10 would the steep direction keep its size.",
        },
    ),
    "4.3": STEP,
    "4.4": ADAM,
}
