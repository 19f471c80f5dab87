"""Notebook 10: the rounding dial tells the error of the rounding that it shows."""

import html
import re

import pytest
import torch

from medtl_utils import source_model, widgets
from medtl_utils.widgets import chapter_10
from tests.conftest import picture


def told(box) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<img.*?/>", "", picture(box))))


def dial_is_right(model) -> bool:
    """Against torch's fake quantizer, symmetric, for some settings of all three controls."""
    layers = ["conv1", "layer2.0.conv1"]
    box = widgets.rounding_dial(model, layers)
    bits, layer, scale = box.children[:3]
    for b, row, by_channel in ((8, 0, 0), (4, 1, 0), (4, 1, 1), (2, 0, 1)):
        bits.value, layer.value, scale.value = b, row, by_channel
        w, top = model.get_submodule(layers[row]).weight.detach(), 2 ** (b - 1) - 1
        zeros = torch.zeros(len(w), dtype=torch.int32)
        if by_channel:
            step = w.abs().amax((1, 2, 3)) / top
            got = torch.fake_quantize_per_channel_affine(w, step, zeros, 0, -top, top)
        else:
            got = torch.fake_quantize_per_tensor_affine(w, float(w.abs().max() / top), 0, -top, top)
        if f"The error is {100 * (got - w).norm() / w.norm():.1f} %" not in told(box):
            return False
    return True


def test_the_dial_tells_the_error_of_torchs_rounding():
    assert dial_is_right(source_model("ultrasound"))


@pytest.mark.parametrize("mistake", ["floor", "top"])
def test_the_dials_test_bites(mistake, monkeypatch):
    def wrong(w, bits, by_channel):
        top = 2 ** (bits - 1) - (mistake == "floor")
        largest = w.abs().amax(1, keepdim=True) if by_channel else w.abs().max()
        near = torch.floor if mistake == "floor" else torch.round
        return largest / top * near(w * top / largest), largest / top

    monkeypatch.setattr(chapter_10, "_rounded", wrong)
    assert not dial_is_right(source_model("ultrasound"))


def test_an_unknown_layer_is_named():
    with pytest.raises(ValueError, match="no convolution 'conv9'"):
        widgets.rounding_dial(source_model("random"), ["conv9"])
