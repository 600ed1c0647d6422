"""Batch norm folded into the convolution before it: the same function in fewer passes.

In eval mode ``bn(conv(x))`` is one convolution with weight ``w·s`` and bias ``(b − mean)·s +
beta``, ``s = gamma / sqrt(var + eps)``. Where the batch norm comes first (pre-activation
networks), a ReLU stands between and nothing can be folded.
"""

import copy
from dataclasses import dataclass

import torch
import torch.fx
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class FoldedCopy:
    """A frozen eval-mode copy of a network that can follow the network's weights.

    Attributes:
        source: The network copied; never changed.
        module: The copy; no parameter needs a gradient.
        folds: Names of the (convolution, batch norm) pairs that became one.
        slots: Where the copy keeps each tensor of the source, by the source's name. Modules, not
            tensors: they stay the same when the copy is wrapped, moved or converted.
    """

    source: nn.Module
    module: nn.Module
    folds: tuple[tuple[str, str], ...]
    slots: dict[str, tuple[nn.Module, str]]

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the copy to the source's current weights and statistics, in place."""
        state = dict(self.source.named_parameters(remove_duplicate=False)) | dict(
            self.source.named_buffers(remove_duplicate=False)
        )
        targets = {name: _tensor(module, key) for name, (module, key) in self.slots.items()}
        for conv_name, bn_name in self.folds:
            conv, bn = self.source.get_submodule(conv_name), self.source.get_submodule(bn_name)
            weight, bias = folded_weights(conv, bn)
            targets.pop(f"{conv_name}.weight").copy_(weight)
            targets.pop(f"{conv_name}.bias").copy_(bias)
        torch._foreach_copy_(list(targets.values()), [state[name] for name in targets])


def folded_weights(conv: nn.Module, bn: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that computes ``bn(conv(x))`` in eval mode."""
    scale = torch.rsqrt(_tensor(bn, "running_var") + float(bn.eps))  # type: ignore[arg-type]
    gamma, beta = getattr(bn, "weight", None), getattr(bn, "bias", None)
    scale = scale if gamma is None else scale * gamma
    weight, shift = _tensor(conv, "weight"), -_tensor(bn, "running_mean")
    shift = shift if getattr(conv, "bias", None) is None else shift + _tensor(conv, "bias")
    bias = shift * scale if beta is None else shift * scale + beta
    return weight * scale.view(-1, *([1] * (weight.dim() - 1))), bias


def _tensor(module: nn.Module, name: str) -> Tensor:
    tensor = getattr(module, name)
    assert isinstance(tensor, Tensor)
    return tensor


def fold_batchnorm(model: nn.Module) -> FoldedCopy:
    """A frozen eval-mode copy of ``model`` with every batch norm folded that can be.

    A network that ``torch.fx`` cannot trace is copied as it is, nothing folded.

    Args:
        model: Any network; it is left as it was.

    Returns:
        The copy; ``refresh()`` brings it to the model's current weights.
    """
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    graph = traced(twin)
    if graph is None:
        return FoldedCopy(model, twin, (), _slots(twin))
    pairs = foldable_pairs(graph)
    for conv_node, bn_node in pairs:
        _merge(graph, conv_node, bn_node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    graph.delete_all_unused_submodules()
    names = tuple((str(conv.target), str(bn.target)) for conv, bn in pairs)
    folded = FoldedCopy(model, graph, names, _slots(graph))
    folded.refresh()
    return folded


def _slots(module: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    state = dict(module.named_parameters(remove_duplicate=False)) | dict(
        module.named_buffers(remove_duplicate=False)
    )
    paths = {name: name.rpartition(".") for name in state}
    return {name: (module.get_submodule(at), key) for name, (at, _, key) in paths.items()}


def traced(model: nn.Module) -> torch.fx.GraphModule | None:
    """The graph of a network, sharing its modules; None where it cannot be traced."""
    try:
        return torch.fx.symbolic_trace(model)
    except Exception:  # tracing runs the network's own code, which may fail in any way
        return None


def foldable_pairs(graph: torch.fx.GraphModule) -> list[tuple[torch.fx.Node, torch.fx.Node]]:
    """(convolution, batch norm) nodes where the norm alone reads the convolution."""
    modules = dict(graph.named_modules())
    calls = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    pairs = []
    for node in graph.graph.nodes:
        before = node.args[0] if node.args else None
        if not _calls(node, NORMS, modules) or not isinstance(before, torch.fx.Node):
            continue
        alone = len(before.users) == 1 and calls.count(str(before.target)) == 1
        if alone and _calls(before, CONVOLUTIONS, modules) and _has_statistics(modules, node):
            pairs.append((before, node))
    return pairs


def _calls(
    node: torch.fx.Node, kinds: tuple[type[nn.Module], ...], modules: dict[str, nn.Module]
) -> bool:
    return node.op == "call_module" and isinstance(modules[str(node.target)], kinds)


def _has_statistics(modules: dict[str, nn.Module], node: torch.fx.Node) -> bool:
    return getattr(modules[str(node.target)], "running_var", None) is not None


def _merge(graph: torch.fx.GraphModule, conv_node: torch.fx.Node, bn_node: torch.fx.Node) -> None:
    conv = graph.get_submodule(str(conv_node.target))
    weight = _tensor(conv, "weight")
    if getattr(conv, "bias", None) is None:
        conv.bias = nn.Parameter(weight.new_zeros(len(weight)), requires_grad=False)
    bn_node.replace_all_uses_with(conv_node)
    graph.graph.erase_node(bn_node)
