"""Differentiable stand-ins for the smoothed classifier, for attacks that know the smoothing."""

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Logits
from recuse.certify.bounds import check_sigma
from recuse.random import SampleNoise


class SmoothedSurrogate(nn.Module):
    """Log of the class probabilities averaged over fresh Gaussian noise.

    Its gradient is the expectation over noise, estimated anew in every pass, so that an attack
    climbs the smoothed classifier and not one draw of it.

    Args:
        network: The base classifier, in eval mode.
        sigma: Standard deviation of the noise, in pixel units.
        k: Noisy copies per input and pass.
        seed: Of the noise, a stream of its own.

    Source: Salman et al., NeurIPS 2019.
    """

    def __init__(self, network: nn.Module, *, sigma: float, k: int = 16, seed: int = 0) -> None:
        check_sigma(sigma)
        super().__init__()
        self.network = network
        self.sigma, self.k, self.seed = sigma, k, seed
        self._generators: dict[torch.device, torch.Generator] = {}
        self.train(network.training)

    def forward(self, x: Images) -> Logits:
        """``log mean_j softmax f(x + eta_j)``, which has the softmax of the smoothed net."""
        if x.device not in self._generators:
            self._generators[x.device] = torch.Generator(x.device).manual_seed(self.seed)
        shape = (len(x), self.k, *x.shape[1:])
        noise = torch.empty(shape, dtype=x.dtype, device=x.device)
        noise.normal_(generator=self._generators[x.device])
        logits = self.network((x[:, None] + self.sigma * noise).flatten(0, 1))
        log_p: Tensor = logits.float().log_softmax(dim=1).view(len(x), self.k, -1)
        return log_p.logsumexp(dim=1) - torch.tensor(float(self.k)).log().item()


def vote_shares(
    model: nn.Module, x: Images, *, sigma: float, draws: int, noise: SampleNoise
) -> Logits:
    """Share of each class among votes under noise, with the gradient of the mean softmax.

    A vote has no gradient, and the mean softmax may rank classes otherwise than the votes do:
    the value is that of the votes, the direction that of the softmax.

    Args:
        model: The base classifier, in eval mode.
        x: Inputs.
        sigma: Standard deviation of the noise, in pixel units.
        draws: Noisy copies per input.
        noise: One id per input.

    Returns:
        Shape ``batch classes``, rows sum to 1.
    """
    copies = x.detach()[:, None].expand(-1, draws, *x.shape[1:])
    logits = model((x[:, None] + sigma * noise.normal(copies)).flatten(0, 1))
    soft = logits.softmax(1).view(len(x), draws, -1).mean(1)
    votes = torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), 1.0)
    shares: Tensor = votes.view(len(x), draws, -1).mean(1) + (soft - soft.detach())
    return shares


__all__ = ["SmoothedSurrogate", "vote_shares"]
