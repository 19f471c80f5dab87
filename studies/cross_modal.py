"""Images and report sentences in one space: zero-shot, retrieval, few-shot; a missing modality.

    python -m studies.cross_modal

Pairs: 2,400 simulated images of the task "phantom" with sentences written from their descriptors;
no label of malignancy is read. Judged on 400 other simulated patients, and on all of folds 1 to 4
of busi (fold 0 stays closed). Trunks are frozen: "ultrasound" (whose own training named these very
descriptors), "imagenet_lite0" (real photographs), "random" (three networks). All arms make the same
updates with the same batch. Controls: the sentences of other images; a bag of words in place of the
order of words. Three seeds go on from the trunk "ultrasound", with all its layers or with it
frozen, for the same further updates. The prompts are in report_sentences.PROMPTS; they were fixed
before any result. Fusion: 300 labelled images, a short table of four descriptors; one side missing
or not.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from medtl_utils import freeze, load_task, predict, source_model
from medtl_utils.architectures import head_of
from medtl_utils.data import Split, _joined
from studies.cache import HELPER, keep, made_by
from studies.cross_modal_fit import align, batches, info_nce, prompt_vectors
from studies.cross_modal_fusion import ARMS, fused
from studies.probe import features_of
from studies.report_sentences import encode, facts_of, write_all
from studies.runner import Study, main, opened

SEED, PAIRS, SIZE = 120, 3000, 64
SEEDS, FEW_PAIRS, RANDOM_NETWORKS = range(5), 300, 3
GALLERY_SEED = 9000  # sentences that no training has read
TUNED_SEEDS, MORE, MORE_BATCH, MORE_RATE = range(3), 40, 64, 3e-4
FUSION_SEEDS = range(10)
SOURCES = ("ultrasound", "imagenet_lite0", "random")
# sentences with the same words, of which only one is true of a lesion where the two facts differ
FINDINGS = (("shadow", "halo"), ("shadow", "calcifications"), ("calcifications", "halo"))
MIRRORS = {
    "finding": [(f"mass, {a} but no {b}", f"mass, {b} but no {a}", a, b) for a, b in FINDINGS],
    "margin": [
        (f"mass, {a} margin not {b}", f"mass, {b} margin not {a}", f"margin: {a}", f"margin: {b}")
        for a, b in (("circumscribed", "spiculated"), ("indistinct", "angular"))
    ],
    "orientation": [
        (
            "mass, longer in width than in depth",
            "mass, longer in depth than in width",
            "orientation: parallel",
            "orientation: not parallel",
        )
    ],
}


@functools.cache
def data() -> dict[str, Split]:
    """pairs: images with sentences; labelled: of other patients; test; real and its two parts."""
    task = load_task("phantom", size=SIZE, n_train=PAIRS, seed=SEED)
    fold = load_task("busi", size=SIZE).folds(3, seed=SEED)[0]
    test = opened(task, "study cross_modal")
    real = _joined(fold.train, fold.val)
    return {"pairs": task.train, "labelled": task.val, "test": test, "real": real}


def network(source: str, seed: int) -> nn.Module:
    torch.manual_seed(seed % RANDOM_NETWORKS)  # "random": other weights
    return source_model(source)


def look(source: str, seed: int) -> dict:
    """Features of all images, float32; of the source "ultrasound" its own answers, too."""
    model = network(source, seed)
    found = {name: features_of(model, split.images) for name, split in data().items()}
    if source == "ultrasound":
        own = {
            f"{name} logits": predict(model, data()[name], raw=True) for name in ("test", "real")
        }
        found |= own
    return found


MADE = made_by(look, (*HELPER, "studies.probe", "medtl_utils.datasets.busi"))


@functools.cache
def features(source: str, seed: int) -> dict[str, torch.Tensor]:
    seed = seed % RANDOM_NETWORKS if source == "random" else 0
    recipe = {"look": source, "seed": seed}
    arrays = keep("cross_modal", recipe, functools.partial(look, source, seed), MADE)
    return {name: torch.from_numpy(a) for name, a in arrays.items() if name != "seconds"}


def gallery() -> np.ndarray:
    """Rows of the test set: the first image of each patient."""
    return np.sort(np.unique(data()["test"].patients, return_index=True)[1])


@torch.no_grad()
def vectors(seen: dict, image: nn.Module, text: nn.Module, log_t: torch.Tensor) -> dict:
    """What a cell keeps: unit vectors of the images, of the gallery's sentences and the prompts."""
    facts = facts_of(data()["test"].descriptors)[gallery()]
    read = lambda sentences: text(torch.from_numpy(encode(sentences))).numpy()
    mirrors = [one for rows in MIRRORS.values() for row in rows for one in row[:2]]
    return {
        **{name: image(seen[name]).numpy() for name in ("labelled", "test", "real")},
        "sentences": read(write_all(facts, GALLERY_SEED)[0]),
        "mirrors": read(mirrors),
        "prompts": prompt_vectors(text).numpy(),
        "temperature": log_t.exp().numpy(),
    }


def pair(source: str, order: bool, shuffled: bool, n: int | None, seed: int) -> dict:
    seen, facts = features(source, seed), facts_of(data()["pairs"].descriptors)
    return vectors(seen, *align(seen["pairs"][:n], facts[:n], seed, order, shuffled))


def more(source: str, seed: int) -> dict:
    """Further updates after those of `pair`: trunk frozen, and all layers of the trunk."""
    seen, split = features(source, seed), data()["pairs"]
    facts, found = facts_of(split.descriptors), {}
    rows_of_words = torch.from_numpy(encode(write_all(facts, 100 * seed + 50)[0]))
    for arm in ("frozen", "all layers"):
        image, text, log_t = align(seen["pairs"], facts, seed, True, False)
        trunk = freeze(network(source, seed), through=None, batchnorm="eval")
        setattr(trunk, head_of(trunk)[0], nn.Identity())
        log_t.requires_grad_(True)
        weights = [*image.parameters(), *text.parameters(), log_t]
        weights += trunk.parameters() if arm == "all layers" else []
        optimizer = torch.optim.AdamW(weights, lr=MORE_RATE, weight_decay=0.01)
        for rows in batches(len(split) // MORE_BATCH * MORE_BATCH, seed, MORE, MORE_BATCH):
            x = seen["pairs"][rows]
            if arm == "all layers":
                x = trunk.train()(trunk.normalisation(split.images[rows]))
            loss = info_nce(image(x), text(rows_of_words[rows]), log_t.exp())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        new = seen if arm == "frozen" else looked_again(trunk)
        kept = vectors(new, image, text, log_t.detach())
        found |= {f"{arm} {name}": array for name, array in kept.items()}
    return found


@torch.no_grad()
def looked_again(trunk: nn.Module) -> dict[str, torch.Tensor]:
    trunk.eval()
    read = lambda images: torch.cat([trunk(trunk.normalisation(x)) for x in images.split(64)])
    return {name: read(data()[name].images) for name in ("labelled", "test", "real")}


def run(part: str, source: str, order: bool, shuffled: bool, n: int | None, seed: int) -> dict:
    if part == "fusion":
        split = data()["labelled"], data()["test"]
        seen = features(source, seed)
        return fused(seen["labelled"], split[0], seen["test"], split[1], seed)
    return more(source, seed) if part == "more" else pair(source, order, shuffled, n, seed)


def cells() -> list[dict]:
    cell = lambda *values: dict(zip(("part", "source", "order", "shuffled", "n", "seed"), values))
    found = []
    for seed in SEEDS:
        found += [cell("pair", source, True, False, None, seed) for source in SOURCES]
        found += [cell("pair", "ultrasound", False, False, None, seed)]
        found += [cell("pair", "ultrasound", True, True, None, seed)]
        found += [cell("pair", "ultrasound", True, False, FEW_PAIRS, seed)]
    found += [cell("fusion", "ultrasound", True, False, None, seed) for seed in FUSION_SEEDS]
    return found + [cell("more", "ultrasound", True, False, None, seed) for seed in TUNED_SEEDS]


def table(results: list[tuple[dict, dict]]) -> dict:
    from studies.cross_modal_table import rows_of

    return rows_of(results)


STUDY = Study(
    name="cross_modal",
    cells=cells(),
    run=run,
    table=table,
    recipe="600 updates with 128 pairs, frozen trunk, 64 px; text: embedding, GRU, projection",
    seeds=SEEDS,
    about={
        "interval": "95 %, over simulated patients, or groups of real images, and over seeds",
        "fusion_arms": ARMS,
    },
    code=(
        *HELPER,
        *("studies.cross_modal_fit", "studies.cross_modal_fusion"),
        *("studies.report_sentences", "studies.probe", "medtl_utils.datasets.busi"),
    ),
    weights=None,
)

if __name__ == "__main__":
    main(STUDY)
