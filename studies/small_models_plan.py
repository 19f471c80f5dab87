"""What studies/small_models.py will call non-inferior: written down before any result exists.

The question: is the smaller network worse than the fine-tuned float32 ResNet-18 by less than a
margin? "Non-inferior": the whole 95 % interval of the paired difference, smaller minus original,
lies above minus the margin. "Inferior": the whole interval lies below minus the margin. Else:
"inconclusive".

The one primary claim is PRIMARY, on the AUC of the phantom; everything else is descriptive. The
phantom's claim is about simulations alone. Its test set has at least TEST_IMAGES images; intervals
cover patients and five trainings. busi: folds 1 to 4 are held out once each, fold 0 stays closed;
intervals cover images (groups of near-copies) and trainings.

The operating point: on images of the training folds that nobody trained on, the highest threshold
at which the original finds SENSITIVITY of the cancers. Each variant keeps this threshold.
"""

MARGINS = {
    "phantom": {"auc": 0.01, "sensitivity": 0.03},
    "busi": {"auc": 0.02, "sensitivity": 0.03},
}
SENSITIVITY = 0.90
TEST_IMAGES = 5000
PRIMARY = "pruned 50 %, int8"
GOALS = {"times smaller": 8, "times faster at batch 1": 3}

NON_INFERIOR, INFERIOR, INCONCLUSIVE = "non-inferior", "inferior", "inconclusive"


def verdict(low: float, high: float, margin: float) -> str:
    """The word for a paired difference, smaller minus original, with interval low to high."""
    if low > -margin:
        return NON_INFERIOR
    return INFERIOR if high < -margin else INCONCLUSIVE
