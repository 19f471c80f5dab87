"""The picture in data/README.md: simulated beside real breast ultrasound, one thing varied a row.

python -m studies.simulated_and_real
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from medtl_utils import load_task, phantom
from medtl_utils.data import Split
from medtl_utils.paths import data_folder

COLUMNS = 8


def one_a_patient(made: dict, keep) -> torch.Tensor:
    """The first image of each patient that `keep` allows, (n, 1, H, W)."""
    firsts = [i for i, p in enumerate(made["patients"]) if i == 0 or made["patients"][i - 1] != p]
    return torch.stack([made["images"][i] for i in firsts if keep(i)][:COLUMNS])


def coarse(images: torch.Tensor) -> torch.Tensor:
    """At 28 pixels, as BreastMNIST stores them, and back."""
    return F.interpolate(
        F.interpolate(images.float(), size=(28, 28), mode="area"), size=(64, 64), mode="bilinear"
    )


def pictures(made: dict, real: Split) -> dict[str, torch.Tensor]:
    """Row of the picture -> its images, (COLUMNS, 1, H, W)."""
    scanner, labels = made["descriptors"]["scanner"], made["labels"]
    of = lambda machine, label: one_a_patient(
        made, lambda i: scanner[i] == machine and labels[i] == label
    )
    pick = lambda label: real.images[real.labels == label][10 : 10 + COLUMNS]
    return {
        "simulated,\nbenign\nscanner A": of("A", 0),
        "simulated,\nmalignant\nscanner A": of("A", 1),
        "simulated,\nmalignant\nscanner B": of("B", 1),
        "simulated,\nbenign A,\nat 28 px": coarse(of("A", 0)),
        "simulated,\nmalignant A,\nat 28 px": coarse(of("A", 1)),
        "real,\nnormal or\nbenign": pick(1),
        "real,\nmalignant": pick(0),
    }


def main() -> None:
    made, real = phantom.simulate_target("train", 160, 64, seed=0), load_task("breastmnist").train
    plt.rcParams["figure.constrained_layout.use"] = True
    rows = pictures(made, real)
    fig, axes = plt.subplots(len(rows), COLUMNS, figsize=(1.25 * COLUMNS, 1.32 * len(rows)))
    for line, (name, images) in zip(axes, rows.items()):
        for axis, image in zip(line, images):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    fig.savefig(data_folder() / "results" / "simulated_and_real.png", dpi=80)
    plt.close(fig)
    for name, images in (("simulated", made["images"].float()), ("real", real.images.float())):
        quarters = [round(float(part.mean())) for part in images.chunk(4, dim=2)]
        print(f"{name}: grey level by depth, in quarters: {quarters};", end=" ")
        print(f"mean {float(images.mean()):.0f}, SD {float(images.std()):.0f}")


if __name__ == "__main__":
    main()
