"""Fresh weights for deep rectifier networks."""

from torch import nn


def initialize_he(network: nn.Module) -> nn.Module:
    """Draw every convolution from N(0, 2 / fan_out), in place; returns the network.

    Source: He et al., ICCV 2015.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
