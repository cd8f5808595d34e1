"""Sizes and costs: the numbers of the papers' configurations, and a network counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mednext_engine.networks.flops import count, count_macs, count_parameters
from mednext_engine.networks.registry import CONFIGURATIONS

# Counted on the official code (v1, less its scalar `dummy_tensor`): parameters, 10^9 MACs.
OFFICIAL = {
    "v1-s-k3": (5_550_947, 127.3),
    "v1-s-k5": (5_980_579, 165.6),
    "v1-b-k3": (10_526_339, 166.7),
    "v1-b-k5": (10_955_971, 205.0),
    "v1-m-k3": (17_548_995, 243.6),
    "v1-m-k5": (18_260_867, 303.7),
    "v1-l-k3": (61_779_299, 494.6),
    "v1-l-k5": (62_992_931, 558.9),
    "v2-base-k3": (61_969_507, 494.6),
    "v2-wide-k3": (246_536_387, 1942.5),
}


@pytest.mark.parametrize("key", OFFICIAL)
def test_parameters_and_multiply_accumulates_of_the_papers_networks(key):
    row = count(CONFIGURATIONS[key])
    assert (row["parameters"], row["gmacs"]) == OFFICIAL[key]
    assert row["paper"] is True
    assert row["kernel_size"] == int(key[-1])


def test_every_network_of_the_papers_is_listed():
    assert {key for key, c in CONFIGURATIONS.items() if c.paper} == set(OFFICIAL)


def test_a_network_counted_by_hand():
    """Down: 2*2*2 voxels x 6 x 27. Up, per input voxel: 8 x 6 x 4 x 8. Bias: counts no MACs."""
    network = nn.Sequential(
        nn.Conv3d(1, 6, 3, stride=2, padding=1), nn.GELU(), nn.ConvTranspose3d(6, 4, 2, 2)
    )
    assert count_macs(network, 1, (4, 4, 4)) == 8 * 6 * 27 + 8 * 6 * 4 * 8
    assert count_parameters(network) == (6 * 27 + 6) + (6 * 4 * 8 + 4)


def test_counting_leaves_no_hooks_and_computes_nothing_on_the_meta_device():
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv3d(2, 3, 1))
    assert count_macs(network, 2, (1000, 1000, 1000)) == 6 * 10**9
    assert not any(m._forward_hooks for m in network.modules())
