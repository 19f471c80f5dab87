"""The picture in data/README.md: simulated beside real breast ultrasound, at 64 and at 28 pixels.

    python -m studies.simulated_and_real

Real: busi's folds 2 to 4, which did not help to make the simulator; the same images from
BreastMNIST's file at 28 pixels.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from medtl_utils import phantom
from medtl_utils.paths import data_folder
from studies import real_images

COLUMNS = 8


def firsts(names: np.ndarray) -> np.ndarray:
    """The row of the first image of each patient or group, in the order of the images."""
    return np.sort(np.unique(names, return_index=True)[1])


def coarse(images: torch.Tensor) -> torch.Tensor:
    """At 28 pixels, as BreastMNIST stores them, and back."""
    return real_images.enlarged(F.interpolate(images.float(), size=(28, 28), mode="area"))


def pictures(made: dict) -> dict[str, torch.Tensor]:
    """Row of the picture -> its images, (COLUMNS, 1, H, W), each of another patient or group.

    `made`: from `phantom.simulate_target`.
    """
    one_each, scanner = firsts(made["patients"]), made["descriptors"]["scanner"]
    real, rows = real_images.pool(), firsts(real_images.pool().groups)

    def of(machine: str, label: int) -> torch.Tensor:
        wanted = (scanner[one_each] == machine) & (made["labels"].numpy()[one_each] == label)
        return made["images"][one_each[wanted][:COLUMNS]]

    shown = {label: rows[real.labels.numpy()[rows] == label][:COLUMNS] for label in (0, 1)}
    at_28 = lambda label: real_images.enlarged(real_images.coarse_pool()[shown[label]])
    return {
        "simulated,\nbenign,\nscanner A": of("A", 0),
        "simulated,\nmalignant,\nscanner A": of("A", 1),
        "simulated,\nmalignant,\nscanner B": of("B", 1),
        "real,\nnormal or\nbenign": real.images[shown[0]],
        "real,\nmalignant": real.images[shown[1]],
        "at 28 px:\nsimulated,\nbenign A": coarse(of("A", 0)),
        "at 28 px:\nsimulated,\nmalignant A": coarse(of("A", 1)),
        "at 28 px:\nreal, normal\nor benign": at_28(0),
        "at 28 px:\nreal,\nmalignant": at_28(1),
    }


def main() -> None:
    made, real = phantom.simulate_target("train", 160, 64, seed=0), real_images.pool()
    plt.rcParams["figure.constrained_layout.use"] = True
    rows = pictures(made)
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
