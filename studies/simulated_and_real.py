"""The picture in data/README.md: simulated beside real breast ultrasound, one thing varied a row.

python data/results/make_simulated_and_real.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from medtl_utils import load_task, phantom, plots

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


def main() -> None:
    made = phantom.simulate_target("train", 160, 64, seed=0)
    scanner, labels = made["descriptors"]["scanner"], made["labels"]
    real = load_task("breastmnist").train
    pick = lambda label: real.images[real.labels == label][10 : 10 + COLUMNS]
    rows = {
        "simulated,\nbenign\nscanner A": one_a_patient(
            made, lambda i: scanner[i] == "A" and labels[i] == 0
        ),
        "simulated,\nmalignant\nscanner A": one_a_patient(
            made, lambda i: scanner[i] == "A" and labels[i] == 1
        ),
        "simulated,\nmalignant\nscanner B": one_a_patient(
            made, lambda i: scanner[i] == "B" and labels[i] == 1
        ),
        "simulated,\nbenign A,\nat 28 px": coarse(
            one_a_patient(made, lambda i: scanner[i] == "A" and labels[i] == 0)
        ),
        "simulated,\nmalignant A,\nat 28 px": coarse(
            one_a_patient(made, lambda i: scanner[i] == "A" and labels[i] == 1)
        ),
        "real,\nnormal or\nbenign": pick(1),
        "real,\nmalignant": pick(0),
    }
    fig, axes = plt.subplots(len(rows), COLUMNS, figsize=(1.25 * COLUMNS, 1.32 * len(rows)))
    for line, (name, images) in zip(axes, rows.items()):
        for axis, image in zip(line, images):
            axis.imshow(image[0], cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    fig.savefig(Path(__file__).with_name("simulated_and_real.png"), dpi=80)
    plt.close(fig)
    simulated, real_images = made["images"].float(), real.images.float()
    quarter = lambda x: [round(float(x[:, :, 16 * k : 16 * k + 16].mean())) for k in range(4)]
    print(
        "grey level by depth, in quarters: simulated",
        quarter(simulated),
        "real",
        quarter(real_images),
    )
    print(
        "mean and SD: simulated",
        round(float(simulated.mean())),
        round(float(simulated.std())),
        "real",
        round(float(real_images.mean())),
        round(float(real_images.std())),
    )


plots.plt.rcParams["figure.constrained_layout.use"] = True
if __name__ == "__main__":
    main()
