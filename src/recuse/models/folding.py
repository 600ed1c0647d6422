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
class Fold:
    """One batch norm and the convolution it went into.

    Attributes:
        convolution: Name in the source.
        norm: Name in the source.
        target: The copy's convolution, which computes both.
    """

    convolution: str
    norm: str
    target: nn.Module


@dataclass(frozen=True)
class FoldedCopy:
    """A frozen eval-mode copy of a network that can follow the network's weights.

    Attributes:
        source: The network copied; never changed.
        module: The copy; no parameter needs a gradient.
        folds: What became one.
        kept: Where the copy holds each other tensor of the source, by the source's name.
            Modules, not tensors: they stay when the copy is wrapped, moved or converted.
    """

    source: nn.Module
    module: nn.Module
    folds: tuple[Fold, ...]
    kept: dict[str, tuple[nn.Module, str]]

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the copy to the source's current weights and statistics, in place."""
        for fold in self.folds:
            weight, bias = folded_weights(
                self.source.get_submodule(fold.convolution), self.source.get_submodule(fold.norm)
            )
            _tensor(fold.target, "weight").copy_(weight)
            _tensor(fold.target, "bias").copy_(bias)
        state = _state(self.source)
        for name, (module, key) in self.kept.items():
            _tensor(module, key).copy_(state[name])


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
        model: Any network that is deterministic in eval mode; it is left as it was.

    Returns:
        The copy; ``refresh()`` brings it to the model's current weights.
    """
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    graph = traced(twin)
    if graph is None:
        return FoldedCopy(model, twin, (), _places(twin))
    folds = tuple(_merge(graph, conv, norm) for conv, norm in foldable_pairs(graph))
    graph.graph.eliminate_dead_code()
    graph.recompile()
    graph.delete_all_unused_submodules()
    graph.eval()  # tracing makes containers of its own, in training mode
    merged = tuple(f"{fold.convolution}." for fold in folds)
    known = _state(model).keys()
    places = {k: v for k, v in _places(graph).items() if k in known and not k.startswith(merged)}
    copied = FoldedCopy(model, graph, folds, places)
    copied.refresh()
    return copied


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _places(module: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    paths = {name: name.rpartition(".") for name in _state(module)}
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
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    pairs = []
    for node in graph.graph.nodes:
        before = node.args[0] if node.args else None
        if not calls(node, NORMS, modules) or not isinstance(before, torch.fx.Node):
            continue
        alone = len(before.users) == 1 and called.count(str(before.target)) == 1
        if alone and calls(before, CONVOLUTIONS, modules) and _has_statistics(modules, node):
            pairs.append((before, node))
    return pairs


def calls(
    node: torch.fx.Node, kinds: tuple[type[nn.Module], ...], modules: dict[str, nn.Module]
) -> bool:
    """Whether a node calls a layer of exactly one of these kinds, without hooks."""
    # Exact types without hooks: a subclass, a parametrised layer or one whose hook computes its
    # weight anew (weight_norm) computes something else than its stored weight says.
    if node.op != "call_module":
        return False
    module = modules[str(node.target)]
    return type(module) in kinds and not (module._forward_pre_hooks or module._forward_hooks)


def _has_statistics(modules: dict[str, nn.Module], node: torch.fx.Node) -> bool:
    return getattr(modules[str(node.target)], "running_var", None) is not None


def _merge(graph: torch.fx.GraphModule, conv: torch.fx.Node, norm: torch.fx.Node) -> Fold:
    target = graph.get_submodule(str(conv.target))
    weight = _tensor(target, "weight")
    if getattr(target, "bias", None) is None:
        target.bias = nn.Parameter(weight.new_zeros(len(weight)), requires_grad=False)
    norm.replace_all_uses_with(conv)
    graph.graph.erase_node(norm)
    return Fold(str(conv.target), str(norm.target), target)
