"""Exercises of chapter 04, Gradient descent."""

import numpy as np

from .functions import Function, Wrong
from .kinds import Number
from .reading import same

# ---- 4.2: gradient clipping, by the length of all gradients together ----


def length(*gradients):
    return np.sqrt(sum(np.sum(g**2) for g in gradients))


def clip(g1, g2, limit):
    factor = min(1.0, limit / length(g1, g2))
    return g1 * factor, g2 * factor


def clip_each(g1, g2, limit):
    return tuple(g * min(1.0, limit / length(g)) for g in (g1, g2))


def clip_always(g1, g2, limit):
    return tuple(g * limit / length(g1, g2) for g in (g1, g2))


def clip_by_square(g1, g2, limit):
    factor = min(1.0, limit / length(g1, g2) ** 2)
    return g1 * factor, g2 * factor


def gradients_and_limits():
    """(g1, g2, limit): too long together, short enough, too long because of g2 alone."""
    g1, g2 = np.array([3.0, -4.0]), np.array([[10.0, 6.0], [0.0, 1.0]])
    pairs = ((1.0, 1.0, 6.0), (0.1, 0.1, 6.0), (0.1, 1.0, 2.0))
    return [(a * g1, b * g2, limit) for a, b, limit in pairs]


CLIPPING = Function(
    hint="first the length of all gradients together, then one factor for both arrays.",
    hints=(
        "length: the square root of the sum of all squares, g1 and g2. The factor is "
        "limit / length, but never more than 1.",
    ),
    right=clip,
    cases=gradients_and_limits,
    form="return two arrays, of the shapes of g1 and g2",
    wrong=(
        Wrong(
            clip_each,
            "each array was clipped alone, which turns the direction: take one length for both.",
        ),
        Wrong(
            lambda g1, g2, limit: (np.clip(g1, -limit, limit), np.clip(g2, -limit, limit)),
            "that clips every number by itself, which turns the direction: shorten the length.",
        ),
        Wrong(
            clip_always,
            "a gradient that is short enough was made longer: the factor is 1 at most.",
            when=lambda attempt: attempt.case == 1,
        ),
        Wrong(clip_by_square, "the square root is missing: a length, not its square."),
        Wrong(lambda g1, g2, limit: (g1, g2), "nothing was shortened."),
    ),
    other=Wrong(
        lambda g1, g2, limit: (g1 * min(1.0, limit / length(g1, g2)), g2),
        "other arrays are expected. Do both get the same factor?",
    ),
)

# ---- 4.3: one step with Nesterov momentum, as in torch.optim.SGD ----


def nesterov(theta, v, g, alpha, beta):
    v = beta * v + g
    return theta - alpha * (g + beta * v), v


def heavy_ball(theta, v, g, alpha, beta):
    v = beta * v + g
    return theta - alpha * v, v


def nesterov_without_beta(theta, v, g, alpha, beta):
    v = beta * v + g
    return theta - alpha * (g + v), v


def averaged(theta, v, g, alpha, beta):
    v = beta * v + (1 - beta) * g
    return theta - alpha * (g + beta * v), v


def steps_along_v():
    """(theta, v, g, alpha, beta)."""
    theta, v, g = np.array([1.0, -2.0, 0.5]), np.array([0.4, -0.1, 0.0]), np.array([2.0, 3.0, -1.0])
    settings = ((0.1, 0.9), (0.3, 0.6))
    return [(theta.copy(), v.copy(), g.copy(), alpha, beta) for alpha, beta in settings]


NESTEROV = Function(
    hint="two lines: the new v, then the new theta from the new v.",
    hints=("v = beta * v + g; then the step is -alpha * (g + beta * v).",),
    right=nesterov,
    cases=steps_along_v,
    form="return two arrays: the new theta and the new v",
    wrong=(
        Wrong(heavy_ball, "that is plain momentum: step along g + beta * v, with the new v."),
        Wrong(nesterov_without_beta, "beta is missing before v in the step."),
        Wrong(
            lambda theta, v, g, alpha, beta: (
                2 * theta - nesterov(theta, v, g, alpha, beta)[0],
                nesterov(theta, v, g, alpha, beta)[1],
            ),
            "the step goes uphill: it is subtracted from theta.",
        ),
        Wrong(
            lambda theta, v, g, alpha, beta: (nesterov(theta, v, g, alpha, beta)[0], v),
            "the old v came back: hand on the new one.",
        ),
        Wrong(
            averaged,
            "the new v is beta * v + g; the factor 1 - beta belongs to Adam.",
            when=lambda attempt: not same(attempt.got[1], attempt.want[1]),
        ),
    ),
    other=Wrong(
        lambda theta, v, g, alpha, beta: (theta, nesterov(theta, v, g, alpha, beta)[1]),
        "v is right, theta is not: look at the step again.",
    ),
)

# ---- 4.4: one step of a scale and a shift on a frozen layer ----


def scale_and_shift(x_hat, du, gamma, beta, alpha):
    return gamma - alpha * (du * x_hat).sum(0), beta - alpha * du.sum(0)


def of_means(x_hat, du, gamma, beta, alpha):
    return gamma - alpha * (du * x_hat).mean(0), beta - alpha * du.mean(0)


def two_channels():
    """(x_hat, du, gamma, beta, alpha): four images, two channels."""
    x_hat = np.array([[1.0, -0.5], [-1.0, 1.5], [0.3, -1.2], [-0.4, 0.7]])
    du = np.array([[0.2, -0.4], [-0.1, 0.3], [0.5, 0.1], [-0.7, 0.6]])
    gamma, beta = np.array([1.0, 1.2]), np.array([0.1, -0.2])
    copies = lambda: (x_hat.copy(), du.copy(), gamma.copy(), beta.copy())
    return [(*copies(), 0.1), (*copies(), 0.5)]


SCALE_AND_SHIFT = Function(
    hint="du by gamma is x_hat, du by beta is 1. Which images does one gamma touch?",
    hints=("dgamma = (du * x_hat).sum(0) and dbeta = du.sum(0): one number per channel.",),
    right=scale_and_shift,
    cases=two_channels,
    form="return two arrays, gamma and beta, one number per channel each",
    wrong=(
        Wrong(
            lambda x_hat, du, gamma, beta, alpha: (
                gamma - alpha * du.sum(0),
                beta - alpha * du.sum(0),
            ),
            "for gamma the chain rule has a second factor: du/dgamma is x_hat.",
        ),
        Wrong(
            lambda x_hat, du, gamma, beta, alpha: (
                gamma - alpha * (du * x_hat * gamma).sum(0),
                beta - alpha * du.sum(0),
            ),
            "gamma does not stand in its own derivative: du/dgamma is x_hat alone.",
        ),
        Wrong(of_means, "add over the images; du holds the division by their number already."),
        Wrong(
            lambda *inputs: scale_and_shift(*inputs[:4], -inputs[4]),
            "the step goes uphill: the sign before alpha should be a minus.",
        ),
        Wrong(
            lambda x_hat, du, gamma, beta, alpha: ((du * x_hat).sum(0), du.sum(0)),
            "those are the gradients: take the step with them.",
        ),
        Wrong(
            lambda *inputs: scale_and_shift(*inputs)[::-1], "the order is gamma first, then beta."
        ),
    ),
    other=Wrong(
        lambda x_hat, du, gamma, beta, alpha: (gamma, beta - alpha * du.sum(0)),
        "other numbers are expected. Do both change?",
    ),
)

EXERCISES = {
    "4.1": Number(
        hint="the eigenvalues of the Hessian first; then the bound of section 4, with momentum.",
        hints=("the eigenvalues are 2 and 4; the bound is 2 (1 + beta) / lambda_max.",),
        right=0.75,
        wrong={
            0.5: "that is 2 / lambda_max, without momentum: momentum raises the bound.",
            1.5: "that is 2 (1 + beta) / lambda_min: the steepest direction sets the limit.",
            1.0: "that comes from the diagonal, 3, or from lambda_min: take the largest "
            "eigenvalue.",
            0.25: "momentum raises the bound: the factor is 1 + beta, not 1 - beta.",
            0.38: "the 2 is missing: 2 (1 + beta) / lambda_max.",
            4.0: "that is the largest eigenvalue; the rate is 2 (1 + beta) divided by it.",
        },
    ),
    "4.2": CLIPPING,
    "4.3": NESTEROV,
    "4.4": SCALE_AND_SHIFT,
}
