"""Every widget alone: a small cell each, with small data and a few steps of training at most.

A notebook made of these cells is driven in a browser.
"""

GALLERY: dict[str, str] = {
    "transfer_against_n": """\
import json
from medtl_utils.paths import data_folder
from medtl_utils.widgets import transfer_against_n

text = (data_folder() / "results" / "learning_curve.json").read_text(encoding="utf-8")
widget = transfer_against_n(json.loads(text), test="simulated")
""",
    "descriptor_explorer": """\
from medtl_utils import phantom, source_model
from medtl_utils.widgets import descriptor_explorer

model = source_model("ultrasound")
widget = descriptor_explorer(phantom.CHANCES, phantom.DESCRIPTORS, model)
""",
    "feature_maps": """\
from medtl_utils import load_task, source_model
from medtl_utils.widgets import feature_maps

task = load_task("phantom", n_train=25)
widget = feature_maps(source_model("random"), task.val)
""",
    "freeze_and_train": """\
from medtl_utils import load_task, replace_head, source_model
from medtl_utils.widgets import freeze_and_train

task = load_task("phantom", size=32, n_train=25)
widget = freeze_and_train(replace_head(source_model("random"), 2), task.val)
""",
    "probability_shift": """\
from medtl_utils.widgets import probability_shift

widget = probability_shift(prevalence=0.27)
""",
    "loss_curves": """\
from medtl_utils.widgets import loss_curves

widget = loss_curves()
""",
    "gradient_descent_path": """\
from medtl_utils.widgets import gradient_descent_path

widget = gradient_descent_path(H=[[2, 0.6], [0.6, 1]], theta_star=[1, -0.5], theta_0=[-1, 1])
""",
    "best_of_many": """\
from medtl_utils.widgets import best_of_many

widget = best_of_many()
""",
    "case_viewer": """\
import torch
from medtl_utils import load_task
from medtl_utils.widgets import case_viewer

task = load_task("phantom", n_train=25)
widget = case_viewer(task.val, probability=torch.linspace(0.05, 0.95, len(task.val)))
""",
    "threshold_explorer": """\
import torch
from medtl_utils import load_task
from medtl_utils.widgets import threshold_explorer

task = load_task("phantom", n_train=25)
p = torch.linspace(0.05, 0.95, len(task.train))
widget = threshold_explorer(torch.stack([1 - p, p], dim=1), task.train)
""",
    "explanation_viewer": """\
from medtl_utils import load_task
from medtl_utils.widgets import explanation_viewer

val = load_task("phantom", n_train=25).val
light = val.images[:, 0] / 255
maps = {"one": {"light": light, "dark": 1 - light}, "other": {"light": light.sqrt(), "dark": light}}
probabilities = {name: kinds["light"].mean((1, 2)) for name, kinds in maps.items()}
widget = explanation_viewer(val, maps, probabilities)
""",
    "pull_to_source": """\
import numpy as np
from medtl_utils.widgets import pull_to_source

rng, y = np.random.default_rng(0), np.arange(70) % 2 == 0
X = rng.normal(size=(70, 40)) + 0.3 * np.outer(y - 0.5, rng.normal(size=40))
widget = pull_to_source(X @ X.T / 40, y, start=0.3 * y + rng.normal(size=70))
""",
    "augmentation_bench": """\
from medtl_utils import load_task
from medtl_utils.widgets import augmentation_bench

turned = lambda axis: lambda x, s: x.flip(axis)
changes = {"flip left-right": turned(3), "flip top-bottom": turned(2)}
changes |= {"gain": lambda x, s: x + 5 * s, "speckle": lambda x, s: x * (1 - s / 2)}
changes |= {"shift": lambda x, s: x.roll(int(64 * s), 3), "scale": lambda x, s: x * s}
widget = augmentation_bench(load_task("phantom", n_train=25).train, changes)
""",
    "ecg_explorer": """\
import numpy as np
from medtl_utils.widgets import ecg_explorer

beats = lambda rate: np.arange(0.5, 9.5, 60 / rate)
spikes = lambda rate: np.isin(np.arange(1280), np.rint(128 * beats(rate)))
record = lambda rhythm, rate, noise: (spikes(rate) * (1.0 + rhythm) - noise / 1000, beats(rate))
widget = ecg_explorer(record, lambda x: np.flatnonzero(x > 0.3), 128, ("one", "other"))
""",
    "adapter_dial": """\
import json
from medtl_utils.paths import data_folder
from medtl_utils.widgets import adapter_dial

table = json.loads((data_folder() / "results" / "unrelated_tasks.json").read_text())
widget = adapter_dial(table, "busi")
""",
    "retrieval_board": """\
import numpy as np
from medtl_utils import load_task
from medtl_utils.widgets import retrieval_board

split, rng = load_task("phantom", n_train=25).train, np.random.default_rng(0)
right = rng.random((3, len(split))) < 0.3
cosines = {"true pairs": right + 0.9 * rng.random(right.shape), "shuffled": rng.random(right.shape)}
widget = retrieval_board(split, ["round mass", "oval lesion, no halo", "shadow"], cosines, right)
""",
    "rounding_dial": """\
from medtl_utils import source_model
from medtl_utils.widgets import rounding_dial

widget = rounding_dial(source_model("ultrasound"))
""",
    "scanner_dial": """\
import torch
from medtl_utils import replace_head, source_model
from medtl_utils.widgets import scanner_dial

torch.manual_seed(0)
models = {name: replace_head(source_model("ultrasound"), 2) for name in ("one", "other")}
widget = scanner_dial(models, lesions=3, size=32)
""",
    "inner_loop_player": """\
import numpy as np
from medtl_utils.widgets import inner_loop_player

x, points = np.linspace(-5, 5, 50), lambda shots: np.linspace(-4, 4, shots)
wave, near = lambda c, x: (1 + c) / 2 * np.sin(x + c), lambda k, n: (1 - 0.5**k) * (1 - 0.5**n)
lines = lambda c, k, n: {"true": wave(c, x), "MAML": near(k, n) * wave(c, x), "joint": 0 * x}
play = lambda c, k, n: (points(k), wave(c, points(k)), x, lines(c, k, n))
widget = inner_loop_player(play, curves=4)
""",
    "loss_weight_dial": """\
import json
from medtl_utils.paths import data_folder
from medtl_utils.widgets import loss_weight_dial

table = json.loads((data_folder() / "results" / "multi_task.json").read_text())
widget = loss_weight_dial(table)
""",
    "frame_explorer": """\
from medtl_utils.datasets import fsdd
from medtl_utils.widgets import frame_explorer

widget = frame_explorer(fsdd.load_sounds())
""",
    "sample_size_dial": """\
from medtl_utils.widgets import sample_size_dial

widget = sample_size_dial()
""",
    "scaling_dial": """\
from medtl_utils.widgets import scaling_dial

widget = scaling_dial()
""",
}
