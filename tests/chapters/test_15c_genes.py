"""Notebook 15c: L2-SP, the intervals, the control and the leak, against other implementations."""

import numpy as np
import pytest
from scipy import optimize
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medtl_utils import delong
from medtl_utils.data import DataError
from medtl_utils.datasets import genes
from studies import genes as study
from tests.chapters.notebook_code import function, namespace, prose

N = namespace("15c")


def women(n=40, n_genes=90, seed=0, effect=0.4):
    """Made-up expression (n, n_genes), labels -1 and 1, weights of a source, and their scores."""
    rng = np.random.default_rng(seed)
    t = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    w = rng.normal(size=n_genes) / n_genes**0.5
    Z = rng.normal(size=(n, n_genes)) + effect * np.outer(t, w)
    return Z, t, w, Z @ w


# ---- L2-SP ---------------------------------------------------------------------------------------


def lowest(Z, t, w, penalty: float) -> np.ndarray:
    """The weights with the lowest loss, by a general minimiser."""
    loss = lambda v: ((t - Z @ v) ** 2).sum() + penalty * ((v - w) ** 2).sum()
    slope = lambda v: -2 * Z.T @ (t - Z @ v) + 2 * penalty * (v - w)
    return optimize.minimize(loss, np.zeros(len(w)), jac=slope, tol=1e-10).x


def is_ridge_on_the_rest(l2sp) -> bool:
    """Scikit-learn's ridge on y - Z w_s, plus the source; and the minimum of the loss itself."""
    Z, t, w, start = women()
    train, new = np.arange(0, 12), np.arange(12, 40)
    for penalty in (0.05, 3.0):
        got = l2sp(Z @ Z.T, t, start, train, new, penalty)
        ridge = Ridge(alpha=penalty, fit_intercept=False).fit(Z[train], t[train] - start[train])
        best = lowest(Z[train], t[train], w, penalty)
        if not np.allclose(got, start[new] + ridge.predict(Z[new]), atol=1e-9):
            return False
        if not np.allclose(got, Z[new] @ best, atol=1e-3):
            return False
    return True


L2SP_MUTANTS = [
    ("penalty * np.eye", "2 * penalty * np.eye"),
    ("t[train] - start[train]", "t[train]"),
    ("start[new] + K", "K"),
]


def test_l2sp_is_its_closed_form():
    assert is_ridge_on_the_rest(N["l2sp"])
    for change in L2SP_MUTANTS:
        assert not is_ridge_on_the_rest(function("15c", "l2sp", change))


def test_the_ends_of_the_penalty():
    """Check 2 of the notebook: the source as it is, or an exact fit."""
    Z, t, _, start = women()
    train, everyone = np.arange(12), np.arange(40)
    ends = lambda f: [f(Z @ Z.T, t, start, train, everyone, p) for p in (1e9, 1e-9)]
    far, near = ends(N["l2sp"])
    assert np.allclose(far, start, atol=1e-5) and np.allclose(near[train], t[train], atol=1e-5)
    far, near = ends(function("15c", "l2sp", L2SP_MUTANTS[1]))
    assert not np.allclose(near[train], t[train], atol=1e-5)


def test_the_copy_cell_has_the_same_closed_form():
    def agrees(l2sp):
        Z, t, w, start = women()
        ridge = Ridge(alpha=0.7, fit_intercept=False).fit(Z[:12], t[:12] - start[:12])
        return np.allclose(l2sp(Z[:12], t[:12], w, 0.7), w + ridge.coef_, atol=1e-9)

    assert agrees(function("15c", "l2sp", copy=True))
    assert not agrees(function("15c", "l2sp", ("y - Z @ w_s", "y"), copy=True))


def chooses_the_best(choose) -> bool:
    """The penalty with the least squared error; women of fold -1 are always in training."""
    for seed in range(4):
        Z, t, _, start = women(seed=seed, effect=1.5)
        train, fold = np.arange(30), np.repeat([-1, 0, 1, 2, 3, 4], 5)
        error = {}
        for penalty in N["PENALTIES"]:
            ridge = Ridge(alpha=penalty, fit_intercept=False)
            left = (t - start)[train]
            held = [
                left[fold == f]
                - ridge.fit(Z[:30][fold != f], left[fold != f]).predict(Z[:30][fold == f])
                for f in range(5)
            ]
            error[penalty] = (np.concatenate(held) ** 2).sum()
        if choose(Z @ Z.T, t, start, train, fold) != min(error, key=error.get):
            return False
    return True


def test_the_penalty_is_chosen_by_cross_validation():
    assert chooses_the_best(N["choose"])
    for change in (
        ("min(error", "max(error"),
        ("train[fold != f]", "train"),
        ("max(fold) + 1", "1"),
    ):
        assert not chooses_the_best(function("15c", "choose", change))


def test_standardising_uses_the_women_it_is_told():
    def agrees(standardise):
        rng = np.random.default_rng(0)
        x, like = rng.normal(3, 2, (9, 5)), rng.normal(1, 4, (20, 5))
        return np.allclose(standardise(x, like), StandardScaler().fit(like).transform(x) / 5**0.5)

    assert agrees(N["standardise"])
    for change in (
        ("like.mean(0)", "x.mean(0)"),
        ("like.std(0)", "like.std()"),
        (" / np.sqrt", " * np.sqrt"),
    ):
        assert not agrees(function("15c", "standardise", change))


# ---- draws and intervals -------------------------------------------------------------------------


def draws_are_apart(draw) -> bool:
    y = np.arange(60) % 3 == 0
    rows = [draw(y, 5, number) for number in range(20)]
    counts = all(len(set(r)) == 10 and y[r].sum() == 5 for r in rows)
    return counts and len({tuple(sorted(r)) for r in rows}) == 20


def test_draws_have_equal_classes_and_differ():
    assert draws_are_apart(N["draw"])
    assert not draws_are_apart(function("15c", "draw", ("[SEED, n, number]", "[SEED, n]")))
    assert not draws_are_apart(function("15c", "draw", ("[:n]", "[:n + c]")))
    y = np.arange(122) % 5 < 2
    for number in range(3):  # the study's draws are the notebook's
        assert np.array_equal(N["draw"](y, 10, number), study.drawn(y.astype(int), 10, number))


def auc_is_scikits(weighted_auc) -> bool:
    rng = np.random.default_rng(1)
    y, score = rng.random(50) < 0.4, rng.normal(size=50).round(1)
    score[:6] = np.nan
    weights = rng.integers(0, 3, (8, 50))
    keep = ~np.isnan(score)
    rows = [np.repeat(np.flatnonzero(keep), w[keep]) for w in weights]
    want = [roc_auc_score(y[r], score[r]) for r in rows]
    return np.allclose(weighted_auc(score, y, weights), want)


def test_the_weighted_auc_is_that_of_repeated_women():
    assert auc_is_scikits(N["weighted_auc"]) and auc_is_scikits(study.weighted_auc)
    for change in (("0.5 * (gap == 0)", "(gap == 0)"), ("wins * weights[:, down]", "wins")):
        assert not auc_is_scikits(function("15c", "weighted_auc", change))


def covers_women_and_draws(crossed) -> bool:
    """Equal draws: the spread is DeLong's over women. Opposite draws: it is the draws', too."""
    rng = np.random.default_rng(2)
    y = np.arange(100) < 50
    score = 1.2 * y + rng.normal(size=100)
    found = delong(score, y)
    equal = crossed(np.stack([score] * 10), y)
    mixed = crossed(np.stack([score] * 5 + [-score] * 5), y)
    by_women = abs(equal[1:].std() / found["se"] - 1) < 0.15
    by_draws = mixed[1:].std() > 0.08  # half the draws at .8, half at .2
    return bool(by_women and by_draws and np.isclose(equal[0], found["auc"]))


def test_the_interval_covers_women_and_draws():
    assert covers_women_and_draws(N["crossed"]) and covers_women_and_draws(study.crossed)
    for left_out in (
        "women, draws = (np.ones((1 + N_BOOT, len(y))), again(len(scores)))",
        "women, draws = (again(len(y)), np.ones((1 + N_BOOT, len(scores))))",
    ):
        change = ("women, draws = (again(len(y)), again(len(scores)))", left_out)
        space = namespace("15c", change, within="crossed")
        assert not covers_women_and_draws(space["crossed"])


# ---- the leak ------------------------------------------------------------------------------------


def held_out_is_scikits(held_out) -> bool:
    Z, t, *_ = women(n=60, n_genes=200)
    fold = np.arange(60) // 2 % 5
    pipe = make_pipeline(SelectKBest(f_classif, k=50), Ridge(alpha=0.01, fit_intercept=False))
    inside = cross_val_predict(pipe, Z, t, cv=PredefinedSplit(fold))
    few = SelectKBest(f_classif, k=50).fit_transform(Z, t)
    before = cross_val_predict(pipe[-1], few, t, cv=PredefinedSplit(fold))
    same = lambda flag, want: np.allclose(held_out(Z, t, fold, flag), want, atol=1e-7)
    return same(True, inside) and same(False, before)


def test_the_held_out_scores_are_scikits():
    assert held_out_is_scikits(N["held_out"])
    assert not held_out_is_scikits(
        function("15c", "held_out", ("if inside else", "if not inside else"))
    )
    for change in (("np.abs(", "("), ("np.sqrt((centred ** 2).sum(0))", "1")):
        assert not held_out_is_scikits(namespace("15c", change, within="select")["held_out"])


def mean_on_random_labels(inside: bool) -> float:
    rng, found = np.random.default_rng(0), []
    for _ in range(30):
        Z, t = rng.normal(size=(60, 1000)), rng.permutation(np.repeat([-1.0, 1.0], 30))
        fold = np.argsort(np.argsort(t, kind="stable")) % 5
        found.append(roc_auc_score(t > 0, N["held_out"](Z, t, fold, inside)))
    return float(np.mean(found))


def test_genes_selected_outside_the_folds_find_a_signal_in_noise():
    assert abs(mean_on_random_labels(inside=True) - 0.5) < 0.06
    assert mean_on_random_labels(inside=False) > 0.65  # the leak is the planted mistake


# ---- the data ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohorts():
    return {name: genes.read_cohort(name) for name in genes.SHA256}


def test_the_cohorts_are_what_the_notebook_says(cohorts):
    (x_s, level), (x_t, status) = cohorts.values()
    shared = set(x_s) & set(x_t)
    assert len(shared) == 8282 and "ESR1" in shared and not {"erlev", "age", "size"} & shared
    assert level.value_counts().to_dict() == {0: 48, 1: 40, 2: 34, 3: 36}
    assert status.value_counts().to_dict() == {1: 72, 0: 50}
    assert "8,282 numbers" in prose("15c") and "all share the same 122 women" in prose("15c")


def shares_women(a, b) -> bool:
    """An identifier in both, or a pair of profiles that are nearly the same."""
    shared = sorted(set(a) & set(b))
    scale = lambda x: ((x[shared] - x[shared].mean()) / x[shared].std(ddof=0)).to_numpy()
    alike = np.corrcoef(scale(a), scale(b))[: len(a), len(a) :].max()
    return bool(set(a.index) & set(b.index)) or alike > 0.9


def test_the_cohorts_share_no_woman(cohorts):
    source, target = (x for x, _ in cohorts.values())
    assert not shares_women(source, target)
    assert shares_women(target.rename(index=lambda name: f"again {name}"), target)  # planted
    planted_copy = source.rename(index={source.index[0]: target.index[0]})
    assert shares_women(planted_copy, target)


def test_another_pickle_is_not_read(monkeypatch, tmp_path):
    (tmp_path / "gse1992.pickle").write_bytes(b"cos\nabort\n(tR.")  # would end the process
    monkeypatch.setattr(genes, "pickle_path", lambda name: tmp_path / f"{name}.pickle")
    with pytest.raises(DataError, match="gse1992.pickle is not the file we know.*was not read"):
        genes.read_cohort("gse1992")
    with pytest.raises(ValueError, match="Unknown cohort 'gse4335'"):
        genes.read_cohort("gse4335")


def mean_of_controls(cohorts, shuffle) -> float:
    """Mean target AUC of 60 sources whose labels went through `shuffle`."""
    (x_s, level), (x_t, status) = cohorts.values()
    shared = sorted(set(x_s) & set(x_t))
    Z = np.vstack(
        [N["standardise"](x[shared].to_numpy(), x[shared].to_numpy()) for x in (x_s, x_t)]
    )
    K, S, T = Z @ Z.T, np.arange(158), np.arange(158, 280)
    t = np.r_[np.where(level >= 1, 1.0, -1.0), np.zeros(122)]
    found = []
    for _ in range(60):
        own = np.r_[shuffle(t[S] - t[S].mean()), np.zeros(122)]
        score = N["l2sp"](K, own, np.zeros(280), S, T, 0.1)
        found.append(roc_auc_score(status == 1, score))
    return float(np.mean(found))


def test_shuffled_sources_average_one_half(cohorts):
    rng = np.random.default_rng(5)
    assert abs(mean_of_controls(cohorts, rng.permutation) - 0.5) < 0.07
    assert abs(mean_of_controls(cohorts, lambda t: t) - 0.5) > 0.3  # planted: not shuffled
