"""Notebook 10: counts, pruning, rounding, distillation, the verdict; each with planted mistakes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models as tv

from medtl_utils.models import GREY
from studies import small_networks
from studies.small_models_plan import INCONCLUSIVE, INFERIOR, NON_INFERIOR, verdict
from tests.chapters.notebook_code import function, namespace

N = namespace("10")


def resnet(classes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    model = tv.resnet18(num_classes=classes).eval()
    model.normalisation = GREY
    return model


def pictures(n: int = 8, size: int = 64) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 1, size, size), dtype=torch.uint8, generator=g)


# ---- counts --------------------------------------------------------------------------------------


def counts_as_published(work) -> bool:
    """ResNet-18 with 1000 classes at 224 px, as torchvision publishes it and torch counts it."""
    known = tv.ResNet18_Weights.IMAGENET1K_V1.meta
    model, counter = resnet(1000), FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    macs, parameters = work(model, 224)
    exact = 2 * macs == counter.get_total_flops()
    return exact and round(macs / 1e9, 3) == known["_ops"] and parameters == known["num_params"]


def test_multiply_adds_and_parameters_are_the_published():
    assert counts_as_published(N["work"])


@pytest.mark.parametrize(
    "change",
    [
        ("layer.weight[0].numel()", "layer.weight.numel()"),  # all outputs at each output
        ("* output.numel()", "* output[0, 0].numel()"),  # one output channel
        ("nn.Conv2d | nn.Linear", "nn.Conv2d"),  # without the head
    ],
)
def test_the_count_test_bites(change):
    assert not counts_as_published(function("10", "work", change))


# ---- pruning -------------------------------------------------------------------------------------


def halves_as_published(prune) -> bool:
    """Half of the channels: 1.822 to 0.487 billion operations, 11.69 to 3.06 million parameters."""
    model = resnet(1000)
    small = prune(model, 0.5, pictures(4))
    shapes = [tp.utils.count_ops_and_params(m, torch.zeros(1, 3, 224, 224)) for m in (model, small)]
    found = [(round(macs / 1e9, 3), round(n / 1e6, 2)) for macs, n in shapes]
    return found == [(1.822, 11.69), (0.487, 3.06)]


def test_half_the_channels_are_a_quarter_of_the_work():
    assert halves_as_published(N["prune"])
    assert halves_as_published(lambda m, share, x: small_networks.pruned(m, share, 64, x))


@pytest.mark.parametrize(
    "change",
    [
        ("'pruning_ratio': share", "'pruning_ratio': share / 2"),
        ("'ignored_layers': [small.fc]", "'ignored_layers': []"),  # classes go, too
        ("BasePruner(small", "BasePruner(model"),  # the copy stays whole
    ],
)
def test_the_pruning_test_bites(change):
    assert not halves_as_published(function("10", "prune", change))


def statistics_are_new(prune) -> bool:
    """The first BatchNorm's mean is that of the images; the original keeps its own."""
    model = resnet()
    small, x = prune(model, 0.5, pictures()), pictures()
    with torch.no_grad():
        want = small.conv1(small.normalisation(x)).mean((0, 2, 3))
    untouched = not model.bn1.running_mean.any()
    return untouched and torch.allclose(small.bn1.running_mean, want, atol=1e-4)


def test_pruned_networks_get_new_statistics():
    assert statistics_are_new(N["prune"])
    assert statistics_are_new(lambda m, share, x: small_networks.pruned(m, share, 64, x))
    assert not statistics_are_new(function("10", "prune", (".momentum = None", ".momentum = 0.1")))


def lively_block() -> nn.Module:
    """A block whose BatchNorm does something."""
    block = resnet().layer1[0]
    for p in block.bn1.parameters():
        p.data = torch.rand(64) + 0.5
    block.bn1.running_mean, block.bn1.running_var = torch.randn(64), torch.rand(64) + 0.5
    return block


def removes_the_smallest(prune_inside) -> bool:
    """As large as before with the smallest channels silent: by an independent route."""
    block = lively_block()
    small, _ = prune_inside(block, 0.5)
    size = [float(w.pow(2).sum()) for w in block.conv1.weight.detach()]
    gone = np.argsort(size)[:32]
    x = torch.rand(2, 64, 8, 8)
    with torch.no_grad():
        inner = block.relu(block.bn1(block.conv1(x)))
        inner[:, gone] = 0
        want = block.relu(block.bn2(block.conv2(inner)) + x)
        return torch.allclose(small(x), want, atol=1e-5) and len(block.bn1.weight) == 64


def test_removed_channels_are_the_smallest_and_silent():
    assert removes_the_smallest(N["prune_inside"])


@pytest.mark.parametrize(
    "change",
    [
        ("[:, keep]", "[:, :len(keep)]"),  # the inputs of others
        (".topk(round((1 - share) * len(size)))", ".topk(32, largest=False)"),  # the large ones go
        ("v[keep] if v.ndim else v", "v[:len(keep)] if v.ndim else v"),  # statistics of others
    ],
)
def test_the_channel_test_bites(change):
    assert not removes_the_smallest(function("10", "prune_inside", change))


def zeros_as_torch(zero_smallest) -> bool:
    """The same weights become zero as by torch's own global pruning."""
    model, other = resnet(), resnet()
    thin = zero_smallest(model, 0.8)
    places = [(m, "weight") for m in other.modules() if isinstance(m, nn.Conv2d)]
    torch_prune.global_unstructured(places, torch_prune.L1Unstructured, amount=0.8)
    ours = [m.weight for m in thin.modules() if isinstance(m, nn.Conv2d)]
    apart = sum(int(((a == 0) != (m.weight == 0)).sum()) for a, (m, _) in zip(ours, places))
    return apart < 5 and bool(model.conv1.weight.all())  # ties, and rounding of the number


def test_zeros_are_those_of_torch():
    assert zeros_as_torch(N["zero_smallest"])
    for change in (("w.abs() > limit", "w > limit"), ("share * len", "(1 - share) * len")):
        assert not zeros_as_torch(function("10", "zero_smallest", change))


# ---- quantization --------------------------------------------------------------------------------


def rounds_as_torch(quantise) -> bool:
    """The values of torch's own fake quantizer, and no error above half a scale."""
    g = torch.Generator().manual_seed(2)
    for low, high in ((-3.0, 1.0), (0.0, 6.0), (-0.4, 0.5)):
        x = low + (high - low) * torch.rand(4000, generator=g)
        x = torch.cat([x, torch.tensor([low, high, 0.0])])
        q, scale, zero = quantise(x, x.min(), x.max())
        got, one = scale * (q - zero), (high - low) / 255
        want = torch.fake_quantize_per_tensor_affine(x, one, round(-low / one), 0, 255)
        moved = (got - want).abs() / one  # a value half way may go up or down
        if moved.max() > 1.01 or (moved > 0.01).float().mean() > 0.01:
            return False
        if (got - x).abs().max() > 0.501 * one or float(zero) % 1:  # 0 has no error
            return False
    return True


def test_quantise_is_torchs_and_keeps_its_bound():
    assert rounds_as_torch(N["quantise"])


@pytest.mark.parametrize(
    "change",
    [
        ("torch.round(x / scale)", "torch.floor(x / scale)"),
        ("0, 255)", "0, 127)"),
        ("torch.round(-255 * low / (high - low))", "-255 * low / (high - low)"),  # 0 has an error
        ("(high - low) / 255", "(high - low) / 15"),  # 4 bits
    ],
)
def test_the_rounding_test_bites(change):
    assert not rounds_as_torch(function("10", "quantise", change))


# ---- distillation --------------------------------------------------------------------------------


def loss_by_hand(outputs, labels, taught, T=2.0, a=0.5) -> float:
    total = 0.0
    for o, y, t in zip(outputs.tolist(), labels.tolist(), taught.tolist()):
        soft = lambda z, T: np.exp(np.array(z) / T) / np.exp(np.array(z) / T).sum()
        taught_part = -(T**2) * (soft(t, T) * np.log(soft(o, T))).sum()
        labelled = (1 - a) * -np.log(soft(o, 1)[y]) + a * taught_part
        total += labelled if y >= 0 else taught_part
    return total / len(labels)


def loss_is_right(loss) -> bool:
    g = torch.Generator().manual_seed(3)
    outputs, taught = (torch.randn(6, 3, generator=g) for _ in range(2))
    labels = torch.tensor([0, 2, -1, 1, -1, 0])
    return abs(float(loss(outputs, labels, taught)) - loss_by_hand(outputs, labels, taught)) < 1e-5


def test_distillation_equals_a_loop():
    assert loss_is_right(N["distillation_loss"]) and loss_is_right(small_networks.distillation_loss)


@pytest.mark.parametrize(
    "change",
    [
        ("-T ** 2 *", "-T *"),
        ("labels >= 0", "labels > 0"),  # class 0 counted as unlabelled
        ("F.softmax(taught / T, 1)", "F.softmax(taught, 1)"),
        ("a * soft, soft)", "a * soft, 0 * soft)"),  # unlabelled images say nothing
    ],
)
def test_the_distillation_test_bites(change):
    assert not loss_is_right(function("10", "distillation_loss", change))


def test_without_a_teacher_it_is_cross_entropy():
    outputs, labels = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    got = small_networks.distillation_loss(outputs, labels, None)
    assert torch.allclose(got, F.cross_entropy(outputs, labels))


# ---- the words -----------------------------------------------------------------------------------


def words_are_right(verdict) -> bool:
    cases = ((-0.005, 0.01), (-0.02, 0.01), (-0.05, -0.02), (-0.009, -0.001), (-0.01, 0.02))
    wanted = (NON_INFERIOR, INCONCLUSIVE, INFERIOR, NON_INFERIOR, INCONCLUSIVE)
    return tuple(verdict(low, high, 0.01) for low, high in cases) == wanted


def test_non_inferior_is_a_matter_of_the_lower_end():
    assert words_are_right(verdict)
    assert not words_are_right(lambda low, high, m: NON_INFERIOR if high > -m else INFERIOR)
    assert not words_are_right(lambda low, high, m: NON_INFERIOR if low < 0 < high else INFERIOR)
