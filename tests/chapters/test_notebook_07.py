"""Notebook 07: Grad-CAM against captum, maps with known answers, counterfactual pairs, the randomisation check, the kept table."""

import ast
import copy
import importlib.util
import json

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.stats import spearmanr
from torch import nn

from medtl_utils import phantom, replace_head, save_model, source_model, widgets
from medtl_utils.data import Split
from medtl_utils.models import ULTRASOUND_SHA256
from medtl_utils.phantom import simulate_source, simulate_target
from tests.conftest import ROOT, make_split

NOTEBOOK = ROOT / "notebooks" / "07_explain_honestly.ipynb"


def cam(weights):
    """An exercise answer: the map with the given weights of the channels."""
    return lambda A, gradient, c: (weights(gradient, c) * A).sum(0).relu()


mean = lambda gradient, c: gradient[c].mean((1, 2), keepdim=True)
MISTAKES = {
    "7.1": [
        (lambda A, gradient, c: (mean(gradient, c) * A).sum(0), "ReLU"),
        (cam(lambda gradient, c: gradient[c].sum((1, 2), keepdim=True)), "added up"),
        (cam(lambda gradient, c: gradient[c].abs().mean((1, 2), keepdim=True)), "sign is gone"),
        (cam(lambda gradient, c: mean(gradient, 1 - c)), "other class"),
        (cam(lambda gradient, c: gradient[c]), "one weight a channel"),
        (lambda A, gradient, c: (mean(gradient, c) * A).relu(), "shape of one channel"),
        (lambda A, gradient, c: float(A.sum()), "the map itself"),
        (cam(lambda gradient, c: 1.0), "another map"),
        (lambda A: A, "TypeError"),
        (0.5, "function"),
    ],
    "7.2": [
        (lambda heat, mask: mask.mean(), "mask's share"),
        (lambda heat, mask: heat[mask].max() / heat.max(), "highest values"),
        (lambda heat, mask: heat[mask].mean(), "mean inside"),
        (lambda heat, mask: heat[mask].sum(), "not a share yet"),
        (lambda heat, mask: heat[~mask].sum() / heat.sum(), "outside"),
        (lambda heat, mask: mask.flat[heat.argmax()], "pointing game"),
        (lambda heat, mask: heat * mask, "one number"),
        (lambda heat, mask: 0.123, "not yet"),
        (0.4, "function"),
    ],
    "7.3": [
        ("the reason is right", "place is not a reason"),
        ("The model is accurate", "how often"),
        ("yes", "Hint"),
        (0.85, "Hint"),
    ],
    "7.4": [
        ("ade", "same habit"),
        ("bde", "edge"),
        ("cde", "random weights"),
        ("d", "another habit"),
        ("e", "nobody needs to know"),
        (7, "letters"),
    ],
}


# ---- the notebook's own functions -------------------------------------------------------------------------------------------


def source_of(name: str) -> str:
    """The source of a function that the notebook defines (the first one of that name)."""
    for cell in nbformat.read(NOTEBOOK, 4).cells:
        if cell.cell_type == "code" and f"def {name}(" in cell.source:
            for node in ast.parse(cell.source).body:
                if getattr(node, "name", None) == name:
                    return ast.unparse(node)
    raise AssertionError(f"notebook 07 defines no {name}")


def notebook_function(name: str, change: tuple[str, str] = ("", ""), **known):
    """The function, as it stands or with a planted change of its source."""
    source = source_of(name)
    assert change[0] in source, f"{change[0]!r} is not in {name}: the mutant would be the original"
    namespace = {
        "torch": torch,
        "np": np,
        "F": F,
        "copy": copy,
        "spearmanr": spearmanr,
        "Split": Split,
        **known,
    }
    exec(source.replace(*change) if change[0] else source, namespace)
    return namespace[name]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """The source with a random head that has some contrast: enough for gradients of both signs."""
    torch.manual_seed(0)
    return replace_head(source_model("ultrasound"), 2).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return simulate_target("test", 4, seed=7079)["images"]


# ---- Grad-CAM equals captum's -----------------------------------------------------------------------------------------------


def equals_captum(grad_cam, model, images, layer="layer2") -> bool:
    """The notebook's map and captum's, both classes, relative to the highest value of a map."""
    from captum import attr as captum

    x, same = model.normalisation(images), []
    for target in (0, 1):
        other = lambda x, target=target: (lambda z: z[:, target] - z[:, 1 - target])(model(x))
        theirs = captum.LayerGradCam(other, getattr(model, layer)).attribute(
            x, relu_attributions=True
        )
        theirs = captum.LayerAttribution.interpolate(theirs, images.shape[2:], "bilinear").detach()[
            :, 0
        ]
        ours = grad_cam(model, images, target, layer=layer)
        same.append(
            ours.shape == theirs.shape and bool((ours - theirs).abs().max() < 1e-5 * theirs.max())
        )
    return all(same)


@pytest.mark.parametrize("layer", ["layer2", "layer3", "layer4"])
def test_grad_cam_equals_captum(model, images, layer):
    assert equals_captum(notebook_function("grad_cam"), model, images, layer)


@pytest.mark.parametrize(
    "mistake",
    [
        ("gradient.mean(", "gradient.sum("),
        (".relu()", ""),
        ("getattr(model, layer)", "getattr(model, 'layer1')"),
        ("z[:, target] - z[:, 1 - target]", "z[:, target]"),
        ("z[:, target] - z[:, 1 - target]", "z[:, 1 - target] - z[:, target]"),
        ("gradient.mean(", "gradient.abs().mean("),
        ("model.eval()", "model.train()"),
    ],
    ids=[
        "gradients summed",
        "no ReLU",
        "wrong layer",
        "one logit only",
        "wrong class",
        "sign lost",
        "training mode",
    ],
)
def test_the_captum_test_bites(model, images, mistake):
    assert not equals_captum(notebook_function("grad_cam", mistake), copy.deepcopy(model), images)


def test_the_copy_cells_function_is_the_same(model, images):
    """The copy cell repeats grad_cam in fewer lines."""
    cell = next(c for c in nbformat.read(NOTEBOOK, 4).cells if "copy" in c.metadata.get("tags", []))
    node = next(n for n in ast.parse(cell.source).body if getattr(n, "name", None) == "grad_cam")
    namespace = {"torch": torch, "F": F}
    exec(ast.unparse(node), namespace)
    assert torch.equal(
        namespace["grad_cam"](model, images, 1, "layer3"),
        notebook_function("grad_cam")(model, images, 1, "layer3"),
    )


# ---- maps with known answers ------------------------------------------------------------------------------------------------


def answers_are_known(pointing, energy) -> bool:
    """Four maps on a 4x4 picture whose lesion is the left half: peak inside, peak outside, flat, empty."""
    M = torch.zeros(4, 4, 4, dtype=torch.bool)
    M[:, :, :2] = True
    L = torch.zeros(4, 4, 4)
    L[0, 1, 1], L[0, 2, 3] = 3.0, 1.0  # three quarters inside
    L[1, 0, 0], L[1, 3, 2] = 1.0, 4.0  # one fifth inside
    L[2] = 0.5  # half; the first place, inside, counts as the peak
    return np.allclose(pointing(L, M), [1, 0, 1, 0]) and np.allclose(
        energy(L, M), [0.75, 0.2, 0.5, 0.0]
    )


def test_pointing_game_and_energy_on_known_maps():
    assert answers_are_known(notebook_function("pointing"), notebook_function("energy"))


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("pointing", ("argmax", "argmin")),
        ("pointing", (" & (L.amax(dim=(1, 2)) > 0)", "")),
        ("energy", ("(L * M).sum(dim=(1, 2))", "M.sum(dim=(1, 2))")),
        (
            "energy",
            (
                "(L * M).sum(dim=(1, 2)) / L.sum(dim=(1, 2))",
                "(L * M).amax(dim=(1, 2)) / L.amax(dim=(1, 2))",
            ),
        ),
    ],
    ids=["lowest point", "empty map hits", "mask area", "highest values"],
)
def test_the_known_maps_bite(name, mistake):
    right = {"pointing": notebook_function("pointing"), "energy": notebook_function("energy")}
    assert not answers_are_known(**right | {name: notebook_function(name, mistake)})


def interval_is_by_patient(with_interval) -> bool:
    """Images of one patient agree: their interval is that of as many images as there are patients, drawn one by one."""
    rng = np.random.default_rng(1)
    per_patient = rng.random(60)
    patients, values = np.repeat(np.arange(60), 4), np.repeat(per_patient, 4)
    mean, low, high = with_interval(values, patients)
    loop = [
        np.concatenate([values[patients == p] for p in rng.integers(60, size=60)]).mean()
        for _ in range(2000)
    ]
    wanted = np.quantile(loop, [0.025, 0.975])
    return bool(
        np.isclose(mean, per_patient.mean()) and np.allclose([low, high], wanted, atol=0.012)
    )


def test_intervals_draw_whole_patients():
    assert interval_is_by_patient(notebook_function("with_interval"))


def test_the_interval_test_bites():
    """Planted: images drawn one by one, which is half as wide here; and a 68 % interval."""
    assert not interval_is_by_patient(
        notebook_function("with_interval", ("if patients is None", "if True"))
    )
    assert not interval_is_by_patient(
        notebook_function("with_interval", ("[0.025, 0.975]", "[0.16, 0.84]"))
    )


# ---- counterfactual pairs ---------------------------------------------------------------------------------------------------


def only_marks_differ(edit) -> bool:
    """With and without the edit: nothing but at most two small bright spots an image differs."""
    plain, other = (simulate_target("test", 12, seed=7078, edit=e) for e in (None, edit))
    if not all(np.array_equal(plain[k], other[k]) for k in ("labels", "patients", "masks")):
        return False
    for before, after in zip(
        plain["images"][:, 0].int().numpy(), other["images"][:, 0].int().numpy()
    ):
        spots, n = ndimage.label(after != before, np.ones((3, 3)))
        sizes = [
            max(s.stop - s.start for s in place) * 40 / 64 for place in ndimage.find_objects(spots)
        ]  # mm
        if (after < before).any() or not 1 <= n <= 2 or max(sizes) > 4.0:
            return False
    return True


def test_counterfactual_pairs_are_identical_outside_the_marks():
    assert only_marks_differ(notebook_function("mark"))


@pytest.mark.parametrize(
    "edit",
    [
        lambda p: p.update(posterior_db=-18.0),
        lambda p: p.update(calipers=1.0, echo_db=-4.0),
        lambda p: None,
    ],
)
def test_the_pair_test_bites(edit):
    """Planted: another thing changed, a second thing changed, nothing changed."""
    assert not only_marks_differ(edit)


def habit_is_kept(mark_some) -> bool:
    """95 % of the malignant and 5 % of the benign patients, all images of a patient alike."""
    patients = np.repeat([f"p{i:04d}" for i in range(2000)], 2)
    plain = make_split("fresh", 4000, patients, size=2)
    plain.labels[:] = torch.arange(2000).repeat_interleave(2) % 2
    marked = Split(
        "fresh", torch.full_like(plain.images, 255), plain.labels, plain.classes, 1, patients
    )
    scope = mark_some.__globals__
    scope.update(
        plain={"fresh": plain}, marked={"fresh": marked}, HABITS={"h": (0.05, 0.95)}, SEED=3
    )
    split, chosen = mark_some("fresh", "h")
    y, white = plain.labels.numpy() == 1, (split.images == 255).all(dim=3).all(dim=2)[:, 0].numpy()
    shares = abs(chosen[~y].mean() - 0.05) < 0.02 and abs(chosen[y].mean() - 0.95) < 0.02
    return bool(shares and np.array_equal(white, chosen) and (chosen[::2] == chosen[1::2]).all())


def test_marks_follow_the_habit_by_patient():
    import dataclasses

    assert habit_is_kept(notebook_function("mark_some", dataclasses=dataclasses))
    for mistake in (
        ("split.positive, share[1], share[0]", "split.positive, share[0], share[1]"),
        (".random(len(who))[unit]", ".random(len(split))"),
    ):
        assert not habit_is_kept(notebook_function("mark_some", mistake, dataclasses=dataclasses))


# ---- the randomisation check ------------------------------------------------------------------------------------------------


def depends_on_the_weights(explain, model, images) -> bool:
    """Does the map of an all-random network lose its resemblance to the original?"""
    cell = next(c.source for c in nbformat.read(NOTEBOOK, 4).cells if c.source.startswith("DOWN ="))
    namespace = {"copy": copy, "np": np, "spearmanr": spearmanr}
    exec(cell, namespace)
    torch.manual_seed(0)
    broken = namespace["randomise"](model, len(namespace["DOWN"]))
    return bool(
        namespace["resemblance"](explain(model, images, 1), explain(broken, images, 1)).mean() < 0.7
    )


def test_the_explanations_pass_the_randomisation_check(model, images):
    assert depends_on_the_weights(notebook_function("grad_cam"), model, images)
    assert depends_on_the_weights(notebook_function("input_gradient"), model, images)


def test_the_randomisation_check_bites(model, images):
    """An edge detector, and Grad-CAM of the picture instead of the model, do not change with the weights."""
    assert not depends_on_the_weights(notebook_function("edges"), model, images)
    assert not depends_on_the_weights(lambda m, x, target: x[:, 0].float(), model, images)


def randomises_from_the_head(randomise, model) -> bool:
    broken = randomise(model, 2)
    new = {
        n.split(".")[0]
        for (n, a), b in zip(model.named_parameters(), broken.parameters())
        if not torch.equal(a, b)
    }
    return new == {"fc", "layer4"}


def test_randomise_starts_at_the_head_and_spares_the_original(model):
    known = {
        "DOWN": [("fc",), ("layer4",), ("layer3",), ("layer2",), ("layer1",), ("conv1", "bn1")]
    }
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert randomises_from_the_head(notebook_function("randomise", **known), model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not randomises_from_the_head(
        notebook_function("randomise", ("DOWN[:n_blocks]", "DOWN[n_blocks:]"), **known), model
    )
    in_place = notebook_function("randomise", ("copy.deepcopy(model)", "model"), **known)
    assert not randomises_from_the_head(in_place, copy.deepcopy(model))


# ---- the widget -------------------------------------------------------------------------------------------------------------


def test_explanation_viewer(shown):
    split = make_split("fresh", 6)
    split.masks = torch.zeros(6, 32, 32, dtype=torch.bool)
    split.masks[:, 8:16, 8:16] = True
    inside, outside = torch.zeros(6, 32, 32), torch.zeros(6, 32, 32)
    inside[:, 10, 10], inside[:, 20, 20], outside[:, 30, 30] = 3.0, 1.0, 1.0
    outside[5] = 0
    maps, p = (
        {"clean": inside, "shortcut": outside},
        {"clean": [0.1] * 6, "shortcut": torch.linspace(0.2, 0.7, 6)},
    )
    box = widgets.explanation_viewer(split, maps, p)
    picture = lambda: box.children[-1].value
    image, model = (row.children[0] for row in box.children[:2])
    assert (
        "inside the lesion (dashed), which holds 75% of the map" in picture()
        and "says 0.10 for malignant" in picture()
    )
    seen = {picture()}
    model.value = 1
    assert (
        "outside the lesion (dashed), which holds 0% of the map" in picture()
        and "the shortcut model says 0.20" in picture()
    )
    seen.add(picture())
    image.value = 5
    assert "The map is empty" in picture() and "says 0.70" in picture()
    seen.add(picture())
    model.value = 0
    assert len(seen | {picture()}) == 4
    split.masks = None  # real images: nothing is claimed about the lesion
    box = widgets.explanation_viewer(split, maps, p)
    assert "lesion" not in box.children[-1].value


# ---- the kept table ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> dict:
    return json.loads((ROOT / "data" / "results" / "shortcut.json").read_text())


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location(
        "make_shortcut", ROOT / "data" / "results" / "make_shortcut.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def levels_are_means_of_runs(table: dict) -> bool:
    """Every AUC level is the mean over the runs it names (official test set or all), inside its interval."""
    for row in table["levels"]:
        if row["metric"] == "auc" and row["part"] != "twin-free":
            same = [
                r["auc"][row["test"]]
                for r in table["runs"]
                if all(r[k] == row[k] for k in ("data", "recipe", "trained_on"))
            ]
            if (
                len(same) != len(table["seeds"])
                or abs(np.mean(same) - row["value"]) > 2e-4
                or not row["low"] < row["value"] < row["high"]
            ):
                return False
    return True


def test_the_summary_follows_from_the_runs(table):
    assert levels_are_means_of_runs(table)
    wrong = copy.deepcopy(table)
    wrong["runs"][0]["auc"]["no marks"] += 0.01
    assert not levels_are_means_of_runs(wrong)


def test_the_table_was_made_with_the_shipped_source(table):
    assert table["source_sha256"] == ULTRASOUND_SHA256, (
        "another source model: run data/results/make_shortcut.py again"
    )
    assert min(table["seeds"]) >= 7000 and len(table["seeds"]) >= 5


def agrees_with_the_table(table: dict, seed: int, trained_on: str, got: dict[str, float]) -> bool:
    """Each AUC within four SDs over seeds, which another processor may need."""
    runs = [
        r
        for r in table["runs"]
        if (r["data"], r["recipe"], r["trained_on"]) == ("simulated", "full", trained_on)
    ]
    kept = next(r for r in runs if r["seed"] == seed)["auc"]
    return all(
        abs(auc - kept[test]) < 4 * np.std([r["auc"][test] for r in runs], ddof=1)
        for test, auc in got.items()
    )


def test_a_slice_of_the_table_is_reproduced(make, table):
    """One model with the shortcut, seed 7000: its AUCs under two habits, and the loss when the habit is reversed."""
    scores = make.scores_of(make.run("simulated", "full", "shortcut", 7000), "simulated")
    test = make.test_images("simulated")["plain"]
    got = {
        habit: make.interval([scores[habit]] * 2, test)["value"]
        for habit in ("same habit", "reversed habit")
    }
    assert agrees_with_the_table(table, 7000, "shortcut", got)
    assert got["same habit"] - got["reversed habit"] > 0.03
    assert not agrees_with_the_table(
        table, 7000, "shortcut", {"same habit": got["same habit"] - 0.3}
    )


def differ_in_marks_alone(marked: torch.Tensor, plain: torch.Tensor) -> bool:
    """Most images are the same, a few brighter in a few pixels."""
    change = marked.int() - plain.int()
    share = (change != 0).flatten(1).float().mean(1)
    return bool(
        1 <= (share > 0).sum() <= len(share) / 3 and share.max() < 0.03 and change.min() >= 0
    )


def test_the_two_small_sources_differ_in_the_marks_alone(monkeypatch):
    marked = simulate_source(0, 48)[0]
    monkeypatch.setitem(phantom.EXTRAS, "calipers", (0.0, phantom.EXTRAS["calipers"][1]))
    assert differ_in_marks_alone(marked, simulate_source(0, 48)[0])
    monkeypatch.setitem(
        phantom.EXTRAS, "rib_db", (0.0, phantom.EXTRAS["rib_db"][1])
    )  # planted: something else goes as well
    assert not differ_in_marks_alone(marked, simulate_source(0, 48)[0])


def test_a_small_source_is_made_once_and_leaves_the_simulator_as_it_was(
    make, monkeypatch, tmp_path
):
    usual, seen = dict(phantom.EXTRAS), []

    def quick(n_images, passes, out):
        seen.append(phantom.EXTRAS["calipers"][0])
        save_model(source_model("random"), out / make.ULTRASOUND_FILE)

    monkeypatch.setattr(make, "CACHE", tmp_path)
    monkeypatch.setattr(make, "pretrain", quick)
    for marks in (False, False, True):
        assert isinstance(make.small_source(marks), nn.Module) and phantom.EXTRAS == usual
    assert seen == [0.0, usual["calipers"][0]] and len(list(tmp_path.iterdir())) == 2


def test_the_prose_says_what_the_table_says(table):
    """Section 8: the dependence on the habit, as quoted; and the intervals that are said not to meet, or to overlap."""
    of = {
        (r["data"], r["recipe"], r["trained_on"]): (r["difference"], r["low"], r["high"])
        for r in table["dependence"]
        if r["metric"] == "auc" and r["part"] != "twin-free"
    }
    text = "\n".join(
        c.source for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "markdown"
    ).replace("95 % interval ", "")
    saw, none = (of["simulated", f"source saw {what}", "shortcut"] for what in ("marks", "none"))
    gentle, full = (of["real", recipe, "shortcut"] for recipe in ("gentle", "full"))
    for row in (saw, none, of["simulated", "gentle", "shortcut"], gentle, full):
        assert "{:.2f} ({:.2f} to {:.2f})".format(*row) in text, row
    assert saw[2] < none[1] and gentle[2] > full[1]


def test_the_script_and_the_notebook_paint_alike(make):
    import dataclasses

    split = make_split("x", 3, size=64)
    ours = notebook_function("paint", dataclasses=dataclasses)(split).images
    assert torch.equal(ours, make.paint(split).images) and int((ours == 255).sum()) >= 3 * 2 * 9
