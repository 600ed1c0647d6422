"""Networks that write into memory: their bounds are right, or they are refused."""

import operator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from recuse.certify.crown import Crown
from recuse.certify.ibp import Ibp, ball, output_bounds
from recuse.certify.linear import LinearBounds
from recuse.certify.tracing import output_node, trace
from recuse.composition.cost import counted
from recuse.errors import CertificationError
from recuse.random import SampleNoise
from recuse.threat import Threat

EPS = 0.1


def subtract_in_place(a, b):
    a -= b
    return a


def add_in_place(a, b):
    a += b
    return a


def divide_in_place(a, _):
    a /= -1.7
    return a


PLAIN = {
    "relu": lambda a, _: functional.relu(a),
    "view": lambda a, _: a.view(-1, 4),
    "alias": lambda a, _: a,
    "slice": lambda a, _: a[:, :],
    "sum": operator.add,
    "difference": torch.sub,
    "shift": lambda a, _: 0.3 - a,
}
IN_PLACE = {
    "inplace=True": lambda a, _: functional.relu(a, inplace=True),
    "relu_": lambda a, _: a.relu_(),
    "torch.relu_": lambda a, _: torch.relu_(a),
    "functional.relu_": lambda a, _: functional.relu_(a),
    "operator.iadd": operator.iadd,
    "+=": add_in_place,
    "-=": subtract_in_place,
    "operator.imul": lambda a, _: operator.imul(a, -0.8),
    "/=": divide_in_place,
}
# Bounded by intervals only, or by nothing: then they must be refused.
OTHERS = {
    "silu": lambda a, _: functional.silu(a),
    "silu in place": lambda a, _: functional.silu(a, inplace=True),
    "imul": operator.imul,
    "add_": lambda a, b: a.add_(b),
    "leaky": lambda a, _: functional.leaky_relu(a, 0.5, inplace=True),
    "clamp_": lambda a, _: a.clamp_(max=0.1),
    "out": lambda a, b: torch.add(a, b, out=a),
    "alpha": lambda a, b: torch.add(a, b, alpha=2),
    "detach": lambda a, _: a.detach(),
    "concatenated": lambda a, b: torch.cat([a, b], 1)[:, 2:6],
    "dropout": lambda a, _: functional.dropout(a, 0.5, training=True),
}
LAYERS = {"ReLU layer": nn.ReLU, "Dropout layer": nn.Dropout, "SiLU layer": nn.SiLU}
STEPS = {**PLAIN, **IN_PLACE, **OTHERS}
WRITING = (*IN_PLACE, "ReLU layer", "Dropout layer")


class Program(nn.Module):
    """Two values and a list of steps (which, into which value, from which values)."""

    def __init__(self, steps, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Linear(3, 4), nn.Linear(3, 4)
        self.last = nn.Linear(4, 3)
        self.layers = nn.ModuleDict({name: layer(inplace=True) for name, layer in LAYERS.items()})
        self.steps = steps

    def forward(self, x):
        values = [self.first(x), self.second(x)]
        for step, to, a, b in self.steps:
            if step in LAYERS:
                values[to] = self.layers[step](values[a])
            else:
                values[to] = STEPS[step](values[a], values[b])
        return self.last(values[0] + values[1])


def points_of(x):
    """Corners of the ball around each input and points inside it: ``draws batch 3``."""
    box = ball(x, EPS)
    share = torch.rand((256, *x.shape), dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    share[::2] = share[::2].round()
    return box.lower + (box.upper - box.lower) * share


def inputs(count=3):
    return torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def outputs(model, x):
    return model(points_of(x).flatten(0, 1)).view(256, len(x), 3)


def assert_inside(outputs, lower, upper):
    assert (outputs >= lower - 1e-9).all()
    assert (outputs <= upper + 1e-9).all()


@torch.no_grad()
def linear_bounds(model, x):
    graph = trace(model)
    bounds = LinearBounds.of(graph, ball(x, EPS), 4096)
    rows = torch.eye(3, dtype=x.dtype).expand(len(x), 3, 3)
    out = output_node(graph)
    return bounds.pull_back(out, rows), -bounds.pull_back(out, -rows)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted({**STEPS, **LAYERS})), *[st.integers(0, 1)] * 3),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 3),
)
def test_whatever_a_network_overwrites_its_bounds_hold_or_it_is_refused(steps, seed):
    model, x = Program(steps, seed).double().eval(), inputs()
    for bounds_of in (lambda *a: output_bounds(*a, Threat("linf", EPS)), linear_bounds):
        try:
            lower, upper = bounds_of(model, x)
        except CertificationError:
            continue
        assert_inside(outputs(model, x), lower, upper)


@pytest.mark.parametrize("step", WRITING)
def test_writes_that_nothing_reads_again_are_bounded_like_their_pure_forms(step):
    model, x = Program([(step, 0, 0, 1), ("relu", 1, 1, 1)]).double().eval(), inputs()
    found = output_bounds(model, x, Threat("linf", EPS))
    assert_inside(outputs(model, x), *found)
    lines = linear_bounds(model, x)
    assert_inside(outputs(model, x), *lines)
    assert ((found.upper - found.lower) < 3).all()
    assert (lines[1] - lines[0] <= found.upper - found.lower + 1e-9).all()


@pytest.mark.parametrize("step", WRITING)
@pytest.mark.parametrize("view", ["alias", "view", "slice"])
def test_reading_what_was_overwritten_is_refused(step, view):
    # The second value is (a view of) the first one, which is then overwritten.
    model = Program([(view, 1, 0, 0), (step, 0, 0, 0)]).double().eval()
    with pytest.raises(CertificationError, match="overwrites a value in place") as caught:
        output_bounds(model, inputs(), Threat("linf", EPS))
    assert "\n" not in str(caught.value)
    with pytest.raises(CertificationError, match="overwrites a value in place"):
        Crown().decide(model, inputs(), (EPS,), noise=SampleNoise(0, ("a", "b", "c")))


@pytest.mark.parametrize("certifier", [Ibp(), Crown()])
def test_relus_in_place_certify_what_relus_out_of_place_do_and_nothing_else(certifier):
    def build(inplace):
        torch.manual_seed(0)
        layers = [nn.Linear(2, 16), nn.ReLU(inplace), nn.Linear(16, 16), nn.ReLU(inplace)]
        model = nn.Sequential(*layers, nn.Linear(16, 3, bias=False)).eval()
        with torch.no_grad():
            model[4].weight.mul_(3)
            model[2].bias.copy_(-model[2](model[:2](torch.full((1, 2), 0.5)))[0] / 2)
        return model

    x = torch.rand(200, 2, generator=torch.Generator().manual_seed(3))
    noise = SampleNoise(0, tuple(map(str, range(200))))
    steps = torch.linspace(-1, 1, 21)
    grid = torch.cartesian_prod(steps, steps)
    certificates = [certifier.decide(build(i), x, (0.02, EPS), noise=noise) for i in (True, False)]
    for found in certificates:
        for column, radius in enumerate(found.radii):
            around = (x[:, None] + radius * grid).clamp(0, 1).flatten(0, 1)
            labels = build(False)(around).argmax(1).view(200, -1)
            kept = (labels == found.prediction[:, None]).all(dim=1)
            assert not (found.certified[:, column] & ~kept).any()
    assert torch.equal(certificates[0].certified, certificates[1].certified)
    assert certificates[0].certified.any()
    assert not certificates[0].certified.all()


class Writer(nn.Module):
    """Something that a trace cannot follow or does not see."""

    def __init__(self, forward):
        super().__init__()
        self.function = forward
        self.layer = nn.Linear(3, 3)
        self.register_buffer("buffer", torch.zeros(3))
        self.calls = 0

    def forward(self, x):
        return self.function(self, x)


def count_calls(self, x):
    self.calls += 1
    return self.layer(x) * self.calls


class SecondInput(Writer):
    def forward(self, x, shift=0.5):
        return self.layer(x) + shift


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3)), "writes into its input"),
        (Writer(lambda m, x: m.layer(x.view(-1, 3).relu_())), "writes into its input"),
        (Writer(lambda m, x: operator.iadd(m.buffer, m.layer(x))), "its own tensors"),
        (Writer(lambda m, x: torch.add(x, x, out=m.buffer)), "out="),
        (Writer(lambda m, x: m.layer(x) + torch.rand(3)), "logits"),
        (Writer(count_calls), "logits"),
        (SecondInput(None), "second input, 'shift'"),
        (Writer(lambda m, x: torch.cat([m.layer(x), m.layer(x)], 1)), "function 'cat'"),
        (Writer(lambda m, x: torch.add(m.layer(x), x, alpha=2)), "arguments of function 'add'"),
        (Writer(lambda m, x: functional.dropout(m.layer(x), 0.5)), "function 'dropout'"),
        (Writer(lambda m, x: m.layer(x).mean(0, keepdim=True) + m.layer(x)), "mixes the inputs"),
    ],
)
def test_what_a_trace_cannot_follow_is_refused_in_one_sentence(model, words):
    noise = SampleNoise(0, ("a", "b"))
    model.eval()
    for certify in (
        lambda x: output_bounds(model, x, Threat("linf", EPS)),
        lambda x: Ibp().decide(model, x, (EPS,), noise=noise),
        lambda x: Crown().decide(model, x, (EPS,), noise=noise),
    ):
        with pytest.raises(CertificationError, match=words) as caught:
            certify(inputs(2).float())
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("how", ["hook", "forward"])
def test_hooks_and_replaced_forwards_are_refused(inside, how):
    model = nn.Sequential(nn.Linear(3, 3)).eval()
    part = model[0] if inside else model
    if how == "hook":
        # It changes nothing at the centre of the ball, so that only its presence can tell.
        part.register_forward_hook(lambda _, args, out: torch.where(args[0] > 0.6, -out, out))
    else:
        plain = part.forward
        part.forward = lambda x: torch.where(x > 0.6, -plain(x), plain(x))
    with pytest.raises(CertificationError, match="replaced forward"):
        output_bounds(model, torch.full((1, 3), 0.55), Threat("linf", EPS))


@pytest.mark.parametrize("certifier", [Ibp(), Crown()])
def test_counting_passes_and_normed_weights_do_not_stand_in_the_way(certifier):
    x, noise = inputs().float(), SampleNoise(0, ("a", "b", "c"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    plain = certifier.decide(model, x, (0.001, EPS), noise=noise)
    assert plain.certified.any()
    with counted(model) as passes:
        again = certifier.decide(model, x, (0.001, EPS), noise=noise)
    assert passes.forwards >= len(x)
    assert torch.equal(again.certified, plain.certified)
    with pytest.warns(FutureWarning, match="weight_norm"):
        torch.nn.utils.weight_norm(model[0])
    normed = certifier.decide(model, x, (0.001, EPS), noise=noise)
    assert torch.equal(normed.certified, plain.certified)


def test_a_graph_computes_what_its_network_does():
    steps = [
        ("ReLU layer", 0, 0, 0),
        ("+=", 1, 1, 0),
        ("relu_", 1, 1, 1),
        ("inplace=True", 0, 0, 0),
    ]
    model, x = Program(steps).double().eval(), inputs()
    torch.testing.assert_close(trace(model)(x), model(x), rtol=0, atol=0)
