"""Interactive figures: the pattern (`explore`), and one file a chapter with its widgets.

A new widget goes into its chapter's file, into the lists below and, with a small cell, into
`gallery.py`.
"""

from .chapter_00 import transfer_against_n
from .chapter_01 import descriptor_explorer
from .chapter_02 import feature_maps, freeze_and_train
from .chapter_03 import loss_curves, probability_shift
from .chapter_04 import best_of_many, gradient_descent_path
from .chapter_05 import case_viewer
from .chapter_06 import threshold_explorer
from .chapter_07 import explanation_viewer
from .chapter_08 import augmentation_bench
from .chapter_09 import adapter_dial
from .chapter_10 import rounding_dial
from .chapter_11 import loss_weight_dial
from .chapter_12 import retrieval_board
from .chapter_13 import inner_loop_player
from .chapter_14 import scanner_dial
from .chapter_15 import ecg_explorer
from .chapter_15b import frame_explorer
from .chapter_15c import pull_to_source
from .chapter_16 import sample_size_dial
from .chapter_16b import scaling_dial
from .gallery import GALLERY
from .pattern import Slider, choice, explore, slider

__all__ = [
    "GALLERY",
    "Slider",
    "adapter_dial",
    "augmentation_bench",
    "best_of_many",
    "case_viewer",
    "choice",
    "descriptor_explorer",
    "ecg_explorer",
    "explanation_viewer",
    "explore",
    "feature_maps",
    "frame_explorer",
    "freeze_and_train",
    "gradient_descent_path",
    "inner_loop_player",
    "loss_curves",
    "loss_weight_dial",
    "probability_shift",
    "pull_to_source",
    "retrieval_board",
    "rounding_dial",
    "sample_size_dial",
    "scaling_dial",
    "scanner_dial",
    "slider",
    "threshold_explorer",
    "transfer_against_n",
]
