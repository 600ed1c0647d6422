import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recuse.attacks import Apgd
from recuse.certify import GroupSequential
from recuse.composition import (
    AdaptiveAdversary,
    Cascade,
    Core,
    Passes,
    Stage,
    counted,
    expected_cost,
    require_answers,
)
from recuse.errors import ConfigError, DataError, RecuseError
from recuse.models.architectures import architecture
from recuse.models.cards import card_for
from recuse.models.normalize import Normalize
from recuse.random import SampleNoise
from recuse.results import Guarantee
from recuse.selectors import (
    CertifiedIndicator,
    EntropyResponse,
    RobustMargin,
    RobustnessIndicator,
    RobustSoftmaxResponse,
    SelectionNetwork,
    SoftmaxResponse,
)
from recuse.threat import Threat

EPS = Threat("linf", "0.05")


def noise_for(x):
    return SampleNoise(0, tuple(str(i) for i in range(len(x))))


def points(n, seed=0):
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_cascade(linear_models, seed, *, stages=2):
    exact = linear_models.ExactLinear()
    members = [
        Stage(linear_models.random_linear(7 * seed + i), RobustnessIndicator(EPS, exact), f"s{i}")
        for i in range(stages)
    ]
    return Cascade(tuple(members), Core(linear_models.random_linear(7 * seed + 6)), EPS)


class Counting(nn.Module):
    """A classifier that remembers how many rows it has seen."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.rows = inner, []

    def forward(self, x):
        self.rows.append(len(x))
        return self.inner(x)


@given(st.integers(0, 1000), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_the_first_selecting_stage_answers(linear_models, seed, stages):
    cascade, x = random_cascade(linear_models, seed, stages=stages), points(50, seed)
    answers = cascade(x, noise=noise_for(x))
    label, stage = cascade.core.model(x).argmax(1), torch.full((50,), stages)
    score = torch.full((50,), torch.nan, dtype=x.dtype)
    for index in reversed(range(stages)):
        member = cascade.stages[index]
        scores = member.selector(member.model, x, noise=noise_for(x))
        kept = scores >= member.selector.threshold
        label = torch.where(kept, member.model(x).argmax(1), label)
        stage = torch.where(kept, index, stage)
        score = torch.where(kept, scores, score)
    assert torch.equal(answers.label, label)
    assert torch.equal(answers.stage, stage)
    assert torch.equal(answers.selected, stage < stages)
    torch.testing.assert_close(answers.score, score, equal_nan=True)
    assert answers.guarantee == (*[Guarantee.ATTACKED] * stages, Guarantee.NONE)


@given(st.integers(0, 1000), st.integers(1, 49))
@settings(max_examples=15, deadline=None)
def test_answers_do_not_depend_on_the_batch(linear_models, seed, cut):
    cascade, x = random_cascade(linear_models, seed), points(50, seed)
    whole, noise = cascade(x, noise=noise_for(x)), noise_for(x)
    parts = [
        cascade(x[rows], noise=noise.take(range(50)[rows]))
        for rows in (slice(0, cut), slice(cut, 50))
    ]
    assert torch.equal(torch.cat([p.label for p in parts]), whole.label)
    assert torch.equal(torch.cat([p.stage for p in parts]), whole.stage)


def test_a_stage_runs_only_on_what_earlier_ones_left(linear_models):
    first, second, core = (Counting(linear_models.random_linear(i)) for i in range(3))
    cascade = Cascade(
        (Stage(first, SoftmaxResponse(0.8)), Stage(second, SoftmaxResponse(0.7))), Core(core), EPS
    )
    x = points(400)
    trace = cascade.traced(x, noise=noise_for(x))
    stage = trace.prediction.stage
    assert first.rows == [400]
    assert second.rows == [int((stage > 0).sum())]
    assert core.rows == [int((stage == 2).sum())]
    assert 0 < core.rows[0] < second.rows[0] < 400
    assert trace.entered == (400, second.rows[0], core.rows[0])
    # Softmax response scores with the pass that gave the label, so every stage costs one.
    assert trace.costs == (1, 1, 1)


class Always:
    """A selector that selects whatever it is shown, without a look at the network."""

    threshold, guarantee = 0.0, Guarantee.NONE

    def __call__(self, model, x, *, noise):
        return x.new_ones(len(x))


class Silent(nn.Module):
    """A classifier that has no answer for images that start with one half."""

    def __init__(self, inner, value):
        super().__init__()
        self.inner, self.value = inner, value

    def forward(self, x):
        return self.inner(x).masked_fill(x[:, :1] == 0.5, self.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_answer_is_never_given(linear_models, value):
    plain, x = linear_models.random_linear(0), points(9)
    net, x[4, 0] = Silent(plain, value), 0.5
    for selector in (Always(), RobustnessIndicator(EPS, Apgd(steps=3))):
        cascade = Cascade((Stage(net, selector),), Core(net, "last"), EPS)
        with pytest.raises(DataError, match=r"'last'.* returns NaN or infinity on 1 of "):
            cascade(x, noise=noise_for(x))
    # A core that knows such an input answers what a stage cannot.
    answers = Cascade((Stage(net, Always()),), Core(plain), EPS)(x, noise=noise_for(x))
    assert answers.stage.tolist() == [0] * 4 + [1] + [0] * 4


def test_nobody_is_asked_about_nothing(linear_models):
    eager = Stage(linear_models.random_linear(0), SoftmaxResponse(0.0))
    core = Counting(linear_models.random_linear(1))
    x = points(10)
    trace = Cascade((eager,), Core(core), EPS).traced(x, noise=noise_for(x))
    assert core.rows == []
    assert trace.entered == (10, 0)
    empty = x[:0]
    assert len(Cascade((eager,), Core(core), EPS)(empty, noise=noise_for(empty)).label) == 0


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_cost_is_the_expected_cost(linear_models, seed):
    """Each stage's own cost per input asked, times the chance of being asked."""
    cascade, x = random_cascade(linear_models, seed, stages=3), points(300, seed)
    trace = cascade.traced(x, noise=noise_for(x))
    assert trace.cost == pytest.approx(expected_cost(trace.costs, trace.abstained))
    # Costs and probabilities measured on other inputs predict it: here all costs are constant.
    other = points(20_000, seed + 1)
    elsewhere = cascade.traced(other, noise=noise_for(other))
    predicted = expected_cost(elsewhere.costs, trace.abstained)
    assert trace.cost == pytest.approx(predicted, rel=0.05)


def test_counted_counts_forward_and_backward_rows():
    net = nn.Linear(2, 3)
    x = torch.rand(5, 2, requires_grad=True)
    with counted(net) as passes:
        net(x).sum().backward()
        with torch.no_grad():
            net(x[:2])
    net(x)
    assert passes == Passes(forwards=7, backwards=5)
    with counted(net) as passes:
        torch.autograd.grad(net(x).sum(), x)
    assert passes.total == 10


def test_a_selection_networks_passes_are_the_stages(linear_models):
    model, net = linear_models.random_linear(0), linear_models.random_linear(8, classes=2)
    x = points(20)
    # It rejects everything, so that the core answers.
    stage = Stage(model, SelectionNetwork(net, float("inf")))
    trace = Cascade((stage,), Core(model), EPS).traced(x, noise=noise_for(x))
    assert trace.passes == (Passes(forwards=40), Passes(forwards=20))
    assert (trace.costs, trace.cost) == ((2, 1), 3)
    # A network that classifies and selects runs twice, and each run counts once.
    both = Stage(net, SelectionNetwork(net, float("-inf")))
    trace = Cascade((both,), Core(net), EPS).traced(x, noise=noise_for(x))
    assert trace.passes == (Passes(forwards=40), Passes())


def test_expected_cost_needs_one_cost_per_member():
    assert expected_cost([4.0], []) == 4
    with pytest.raises(ValueError, match="costs"):
        expected_cost([1.0, 2.0], [])


def test_modes_are_given_back(linear_models):
    net = nn.Sequential(linear_models.random_linear(0), nn.Dropout(0.5))
    cascade = Cascade((Stage(net, SoftmaxResponse(0.4)),), Core(net), EPS)
    net.train()
    x = points(20)
    first, second = (cascade(x, noise=noise_for(x)).label for _ in range(2))
    assert torch.equal(first, second)
    assert net.training
    assert net[1].training


class TestMisfits:
    def card(self, classes=10, size=32, **facts):
        net = architecture("small", classes=classes, size=size)
        return card_for("net", net, **facts)

    def test_different_classes(self, linear_models):
        three, four = (linear_models.random_linear(0, classes=c) for c in (3, 4))
        x = points(30)
        cascade = Cascade((Stage(three, SoftmaxResponse(0.9), "robust"),), Core(four), EPS)
        sentence = "'robust' knows 3 classes but 'core' knows 4"
        with pytest.raises(ConfigError, match=sentence):
            cascade.check(x)
        with pytest.raises(ConfigError, match="'core' knows 4 classes but 'robust' knows 3"):
            cascade(x, noise=noise_for(x))
        with pytest.raises(ConfigError, match="'robust' knows 43 classes but 'core' knows 10"):
            Cascade(
                (Stage(three, SoftmaxResponse(0.9), "robust", self.card(43)),),
                Core(four, card=self.card()),
                EPS,
            )

    def test_different_inputs(self, linear_models):
        wide = nn.Linear(5, 3).double()
        cascade = Cascade(
            (Stage(wide, SoftmaxResponse(0.9), "wide"),), Core(linear_models.random_linear(0)), EPS
        )
        for run in (cascade.check, cascade):
            with pytest.raises(DataError, match="'wide' cannot read images of shape"):
                run(points(3))
        with pytest.raises(ConfigError, match=r"takes inputs of shape \(3, 28, 28\)"):
            Cascade(
                (Stage(wide, SoftmaxResponse(0.9), "wide", self.card(size=28)),),
                Core(wide, card=self.card()),
                EPS,
            )

    def test_classes_in_another_order_are_put_in_order_by_name(self, linear_models):
        net, core = (linear_models.random_linear(i, classes=10) for i in (0, 1))
        names, x = tuple("abcdefghij"), points(40)
        mixed = (*names[3:], *names[:3])
        stage = Stage(net, SoftmaxResponse(0.4), "s", self.card(label_names=mixed))
        cascade = Cascade((stage,), Core(core, card=self.card(label_names=names)), EPS)
        answers, own = cascade(x, noise=noise_for(x)), net(x).argmax(1)
        assert 5 < int(answers.selected.sum()) < 40
        for label, index, taken in zip(answers.label, own, answers.selected, strict=True):
            assert not taken or names[label] == mixed[index]
        # What an adversary attacks is what answers.
        found = AdaptiveAdversary(steps=2)(cascade, x, answers.label, noise=noise_for(x))
        assert found.correct.all()
        assert cascade.stages[0].card.label_names == names

    def test_other_classes_are_refused(self, linear_models):
        net, names = linear_models.random_linear(0), tuple("abcdefghij")
        with pytest.raises(ConfigError, match=r"classes of 's' \(a, b, .*\) are not those of 'c'"):
            Cascade(
                (Stage(net, SoftmaxResponse(0.9), "s", self.card(label_names=names)),),
                Core(net, "c", self.card(label_names=(*names[:-1], "z"))),
                EPS,
            )

    def test_another_budget(self, linear_models):
        net = linear_models.random_linear(0)
        for other in (Threat("linf", "0.04"), Threat("l2", "0.05")):
            stage = Stage(net, RobustnessIndicator(other, Apgd()), "s")
            with pytest.raises(ConfigError, match=f"was built against {other}"):
                Cascade((stage,), Core(net), EPS)

    def test_a_stage_that_selects_nothing(self, linear_models):
        net = linear_models.random_linear(0, classes=2)
        never = Stage(net, SelectionNetwork(net, threshold=1e6), "never")
        cascade, x = Cascade((never,), Core(net), EPS), points(9)
        trace = cascade.traced(x, noise=noise_for(x))
        with pytest.raises(ConfigError, match="'never' selects none of the 9 inputs"):
            require_answers(cascade, [trace])
        always = Cascade((Stage(net, SoftmaxResponse(0.0)),), Core(net), EPS)
        require_answers(always, [always.traced(x, noise=noise_for(x))])


def pictures():
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def picture_network(*more, seed=0):
    torch.manual_seed(seed)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    return nn.Sequential(Normalize((0.5,) * 3, (0.2,) * 3), flat, *more).eval()


class Wrapped(nn.Module):
    """A network that hands its logits out in something else."""

    def __init__(self, inner, wrap):
        super().__init__()
        self.inner, self.wrap = inner, wrap

    def forward(self, x):
        return self.wrap(self.inner(x))


STAGES = {
    "indicator": lambda: RobustnessIndicator(EPS, Apgd(steps=3)),
    "margin": lambda: RobustMargin(EPS, Apgd(steps=3), 0.1),
    "softmax": lambda: SoftmaxResponse(0.3),
    "robust softmax": lambda: RobustSoftmaxResponse(EPS, Apgd(steps=3), 0.3),
    "entropy": lambda: EntropyResponse(-1.0),
    "votes": lambda: CertifiedIndicator(Threat("l2", 0.05), GroupSequential(0.1, n_max=100)),
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: x * 255, "divide images in 256 steps by 255"),
        (lambda x: (x - 0.5) / 0.2, "before any normalisation"),
        (lambda x: (x * 255).byte(), "floats in"),
        (lambda x: x.permute(0, 2, 3, 1), "channels last"),
        (lambda x: x.numpy(), "is a ndarray, not a tensor"),
        (lambda x: x[0], r"a single image; .* x\[None\]"),
        (lambda x: x.double(), r"'s' computes in float32 .* in float64; write x\.to"),
        (lambda x: x[:, :1], r"'s' normalises 3 channels but the images have 1"),
        (lambda x: x[..., :4], "'s' cannot read images of shape"),
        (lambda x: x * torch.nan, "NaN or infinity"),
    ],
)
def test_what_is_no_image_for_a_cascade_is_one_sentence(name, change, sentence):
    selector = STAGES[name]()
    budget = getattr(selector, "budget", EPS)
    cascade = Cascade((Stage(picture_network(), selector, "s"),), Core(picture_network()), budget)
    assert len(cascade(pictures()).label) == 4
    for run in (cascade, cascade.check):
        with pytest.raises(DataError, match=sentence) as refusal:
            run(change(pictures()))
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(
    ("wrap", "sentence"),
    [
        (lambda logits: (logits, None), "returns a tuple from forward"),
        (lambda logits: {"logits": logits}, "returns a dict from forward"),
        (
            lambda logits: logits[:, 0],
            r"returns outputs of shape \(\d,\)|the model returned shape \[4\]",
        ),
        (lambda logits: logits.softmax(1), "returns probabilities"),
    ],
)
def test_what_is_no_logits_for_a_cascade_is_one_sentence(name, wrap, sentence):
    selector, good = STAGES[name](), picture_network()
    budget, bad = getattr(selector, "budget", EPS), Wrapped(picture_network(), wrap)
    members = ((Stage(bad, selector, "bad"),), Core(good)), ((), Core(bad, "bad"))
    # The votes of a network that returns probabilities are votes like any other.
    skipped = name == "votes" and "probabilities" in sentence
    for stages, core in members[1:] if skipped else members:
        cascade = Cascade(stages, core, budget)
        for run in (cascade, cascade.check):
            with pytest.raises(RecuseError, match=f"'bad' {sentence}"):
                run(pictures())


def test_ids_that_are_not_the_images_are_refused():
    cascade = Cascade((), Core(picture_network()), EPS)
    with pytest.raises(ConfigError, match="3 ids of noise for 4 inputs; give one each, or none"):
        cascade(pictures(), noise=SampleNoise(0, ("a", "b", "c")))


def test_an_error_of_a_selector_stays_its_own():
    class Faulty(SoftmaxResponse):
        def answer(self, model, x, *, noise):
            raise ValueError("no such score")

    stage = Stage(picture_network(), Faulty(0.5), "s")
    with pytest.raises(ValueError, match="no such score"):
        Cascade((stage,), Core(picture_network()), EPS)(pictures())
