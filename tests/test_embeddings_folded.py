"""What is folded into convolutions: none of it is left, and the network computes what it did."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from embeddings.backbones import LITE0, TimmBackbone, _load_lite0
from embeddings.folded import folded


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = nn.Conv2d(3, 8, 3, stride=2), BatchNormAct2d(8)
        self.bn1.running_mean.uniform_(-1, 1)
        self.inner = nn.Module()
        self.inner.conv_dw = nn.Conv2d(8, 8, 3, padding=1, groups=8)  # has a bias of its own
        self.inner.bn2 = BatchNormAct2d(8, apply_act=False)
        self.inner.bn2.running_var.uniform_(0.2, 5.0)
        self.alone = BatchNormAct2d(8)  # after no convolution of its module's
        self.alone.running_mean.uniform_(-1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv_stem(x))
        return self.alone(self.inner.bn2(self.inner.conv_dw(x)))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Network().eval()


def test_a_folded_network_computes_what_it_did(network: nn.Module) -> None:
    pictures = torch.randn(2, 3, 32, 40)
    with torch.inference_mode():
        wanted = network(pictures)
        found = folded(copy.deepcopy(network))(pictures)
    assert (wanted > 0).any()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_norms_that_follow_a_convolution_are_gone_and_others_stay(network: nn.Module) -> None:
    left = [name for name, m in folded(network).named_modules() if isinstance(m, BatchNormAct2d)]
    assert left == ["alone"]


def test_activations_stay(network: nn.Module) -> None:
    folded(network)
    assert isinstance(network.bn1, nn.ReLU)
    assert isinstance(network.inner.bn2, nn.Identity)


def test_lite0_is_folded_whole_and_features_stay() -> None:
    """Within 1e-5 of the largest: threads move them by 3e-5."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 96, 64, 3), dtype=np.uint8)
    gone, features = (nn.BatchNorm2d, Conv2dSame), []
    for network in (_load_lite0(), folded(_load_lite0())):
        found = TimmBackbone(LITE0.model, LITE0, "cpu", network).extract(picture)
        features.append((*found.layers, found.last))
    assert not any(isinstance(module, gone) for module in network.modules())
    for wanted, got in zip(*features, strict=True):
        assert wanted.std() > 0.1
        assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("groups", [1, 6])
def test_padding_stays_tensorflows(kernel: int, groups: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Conv2dSame(6, 6, kernel, stride=2, groups=groups)).eval()
    pictures = torch.randn(2, 6, 14, 20)
    with torch.inference_mode():
        wanted = network(pictures)
        found = folded(copy.deepcopy(network))(pictures)
    assert wanted.shape == (2, 6, 7, 10)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_other_convolutions_with_such_padding_stay() -> None:
    others = [
        Conv2dSame(3, 3, 3, stride=1),
        Conv2dSame(3, 3, 3, stride=3),
        Conv2dSame(3, 3, 2, stride=2),
        Conv2dSame(3, 3, 3, stride=2, dilation=2),
    ]
    network = folded(nn.Sequential(*others))
    assert all(isinstance(module, Conv2dSame) for module in network)
