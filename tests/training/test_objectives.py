"""Objectives: the right formula on the right example, at the promised cost, leaving no trace."""

import inspect
import json
from dataclasses import is_dataclass, replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import recuse.losses as losses
from recuse.attacks.pgd import Pgd
from recuse.errors import ConfigError
from recuse.models.normalize import normalized
from recuse.protocols import Objective
from recuse.random import SampleNoise
from recuse.serialize import from_plain, to_plain
from recuse.threat import Threat
from recuse.training import TrainConfig, abstention, adversarial, ibp, noise, reweighted, unsure
from recuse.training.batches import Batch
from recuse.training.forward import Trainee, loss_modes, same_as_deployed
from recuse.training.objectives import OBJECTIVES, ROBUST_LOSSES, objective_classes
from recuse.training.robust import RobustLoss, StepCounter
from recuse.training.schedule import Ramp
from recuse.training.steps import differentiate

THREAT = Threat("linf", 0.05)
STEPS = 10
QUICK = Pgd(steps=3)
LOSSES = {
    "adversarial": adversarial.Adversarial(),
    "trades": adversarial.Trades(2.0),
    "mart": adversarial.Mart(),
    "gairat": reweighted.Gairat(),
    "gair_trades": reweighted.GairTrades(weights=reweighted.SigmoidWeights()),
    "score": adversarial.Score(clip=0.01, smoothing=0.1),
    "score_js": adversarial.ScoreJs(smoothing=0.1),
}
FRESH = {
    "standard": adversarial.Standard(),
    "robust": adversarial.Robust(attack=QUICK),
    "era": abstention.Era(attack=QUICK),
    "literal_era": abstention.LiteralEra(robust_attack=QUICK, attack=QUICK),
    "dga": abstention.Dga(attack=QUICK),
    "unsure": unsure.Unsure(attack=QUICK),
    "gaussian": noise.Gaussian(sigma=0.1, k=2),
    "macer": noise.Macer(k=3),
    "cra": noise.Cra(k=3),
    "ibp": ibp.IbpTraining(),
    "mtl_ibp": ibp.MtlIbp(attack=QUICK),
    "sabr": ibp.Sabr(attack=QUICK),
}
# Run in eval mode by interval bounds, which know no dropout.
BOUNDED = ("ibp", "mtl_ibp", "sabr")
# Every objective, and the robust one with every loss.
CASES = FRESH | {name: adversarial.Robust(loss, QUICK) for name, loss in LOSSES.items()}
# Forward, backward to activations, backward to weights, per sample, of the ten-step defaults
# with batch norm in eval mode (noise objectives: as above).
COSTS = {
    "standard": (1, 1, 1),
    "adversarial": (11, 11, 1),
    "trades": (12, 12, 2),
    "mart": (12, 12, 2),
    "gairat": (11, 11, 1),
    "gair_trades": (12, 12, 2),
    "score": (12, 12, 2),
    "score_js": (12, 12, 2),
    "era": (12, 12, 2),
    "literal_era": (23, 23, 3),
    "dga": (12, 12, 2),
    "unsure": (12, 12, 2),
    "gaussian": (2, 2, 2),
    "macer": (3, 3, 3),
    "cra": (3, 3, 3),
}
SHARED = (13, 12, 2)
TRAIN_MODE = {"trades": SHARED, "era": SHARED, "unsure": SHARED, "literal_era": (24, 23, 3)}


def network(*, dropout=0.0, dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 7, 3, stride=2),
            nn.BatchNorm2d(7),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(7 * 9, 4),
        )
        for layer in body.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
    return normalized(body, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)).to(dtype).eval()


def batch(n=8, dtype=torch.float64):
    source = torch.Generator().manual_seed(1)
    x = torch.rand(n, 3, 8, 8, generator=source).to(dtype)
    y = torch.randint(4, (n,), generator=source)
    return x, y, SampleNoise(5, tuple(map(str, range(n))), "train/0")


def mode(objective, batch_norm):
    return (
        replace(objective, batch_norm=batch_norm) if hasattr(objective, "batch_norm") else objective
    )


def call(objective, model, *, threat=THREAT, n=8, progress=1.0):
    x, y, draws = batch(n)
    return objective(model, x, y, threat, noise=draws, progress=progress)


def test_table_holds_exactly_the_public_objectives():
    modules = (abstention, adversarial, ibp, noise, reweighted, unsure)
    found = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__
        and is_dataclass(kind)
        and list(inspect.signature(kind.__call__).parameters)[1:2] == ["model"]
    }
    assert found == set(OBJECTIVES.values())
    assert set(FRESH) == set(OBJECTIVES)
    assert set(LOSSES) == set(ROBUST_LOSSES)
    assert all(isinstance(loss(), RobustLoss) for loss in ROBUST_LOSSES.values())


@pytest.mark.parametrize("name", CASES)
def test_config_survives_json(name):
    plain = json.loads(json.dumps(to_plain(CASES[name])))
    assert from_plain(plain, objective_classes()) == CASES[name]
    assert isinstance(CASES[name], Objective)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch_norm", ["train", "eval"])
def test_contract(name, batch_norm):
    model, objective = (
        network(dropout=0.3 if name not in BOUNDED else 0.0),
        mode(CASES[name], batch_norm),
    )
    modes = [m.training for m in model.modules()]
    statistics = {k: v.clone() for k, v in model.named_buffers()}
    terms = call(objective, model)
    assert terms.total.shape == (8,)
    assert terms.total.isfinite().all()
    assert terms.parts
    assert not any(part.requires_grad for part in terms.parts.values())
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    moved = any(not torch.equal(v, statistics[k]) for k, v in model.named_buffers())
    assert moved == (batch_norm == "train" and name not in BOUNDED)
    grads = torch.autograd.grad(terms.total.mean(), list(model.parameters()), allow_unused=True)
    assert any(g is not None and g.abs().sum() > 0 for g in grads)


@pytest.mark.parametrize("name", CASES)
def test_only_the_given_noise_is_drawn(name):
    model = network()
    before = torch.random.get_rng_state()
    first = call(mode(CASES[name], "eval"), model).total
    torch.rand(3)
    second = call(mode(CASES[name], "eval"), model).total
    assert torch.equal(first, second)
    torch.random.set_rng_state(before)
    call(mode(CASES[name], "eval"), model)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", [n for n in CASES if n not in BOUNDED])
def test_the_prepared_copy_changes_nothing(name):
    model, objective = network(), mode(CASES[name], "eval")
    plain, fast = call(objective, model).total, call(objective, Trainee(model)).total
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-9)


class Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.counts = [0, 0, 0]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet = func.overloadpacket
        if packet is torch.ops.aten.convolution and args[1].shape[0] == 7:
            self.counts[0] += len(args[0])
        if packet is torch.ops.aten.convolution_backward and args[2].shape[0] == 7:
            self.counts[1] += len(args[0]) * args[-1][0]
            self.counts[2] += len(args[0]) * args[-1][1]
        return func(*args, **(kwargs or {}))


def passes(objective, model, n=8, threat=THREAT):
    with Counter() as counter:
        call(objective, model, n=n, threat=threat).total.mean().backward()
    return tuple(count / n for count in counter.counts)


def ten_steps(name):
    """The objective with attacks of ten steps; noise objectives as they are."""
    if name in LOSSES:
        return adversarial.Robust(LOSSES[name])
    return FRESH[name] if hasattr(FRESH[name], "k") else OBJECTIVES[name]()


@pytest.mark.parametrize("name", COSTS)
def test_passes_per_sample(name):
    assert passes(mode(ten_steps(name), "eval"), Trainee(network())) == COSTS[name]


@pytest.mark.parametrize("name", TRAIN_MODE)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_passes_with_batch_statistics(name, norm):
    objective = mode(ten_steps(name), "train")
    found = passes(objective, Trainee(network()), threat=Threat(norm, 0.05))
    assert found == TRAIN_MODE[name]


def logged(objective, parts):
    """What a step on eight rows adds to the log."""
    x, y, draws = batch()
    config = TrainConfig(objective, THREAT)
    given = Batch(x, y, draws.ids, len(x))
    return differentiate(Trainee(network()), given, config, progress=1.0, epoch=0, parts=parts)


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("parts", [1, 3])
def test_the_log_counts_these_passes_however_a_batch_is_cut(name, parts):
    found = logged(mode(ten_steps(name), "eval"), parts)
    assert int(found["passes"]) == 8 * sum(COSTS[name])


@pytest.mark.parametrize("name", TRAIN_MODE)
def test_the_log_counts_these_passes_with_batch_statistics(name):
    assert int(logged(mode(ten_steps(name), "train"), 1)["passes"]) == 8 * sum(TRAIN_MODE[name])


def test_bounds_are_no_passes():
    assert {OBJECTIVES[name] for name in BOUNDED} == set(ibp.BY_BOUNDS)
    assert not any("passes" in logged(FRESH[name], 1) for name in BOUNDED)


def naive_example(model, x, start, value, threat, steps=STEPS):
    """PGD written out: nothing shared with the code under test."""
    x_adv = torch.clamp(start, 0, 1)
    if threat.norm == "linf":
        x_adv = x + (x_adv - x).clamp(-threat.eps, threat.eps)
    for _ in range(steps):
        leaf = x_adv.clone().requires_grad_()
        grad = torch.autograd.grad(value(model(leaf)).sum(), leaf)[0]
        if threat.norm == "linf":
            moved = x_adv + 0.25 * threat.eps * grad.sign()
            x_adv = (x + (moved - x).clamp(-threat.eps, threat.eps)).clamp(0, 1)
        else:
            unit = grad / grad.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
            delta = x_adv + 0.25 * threat.eps * unit - x
            scale = (threat.eps / delta.flatten(1).norm(dim=1).clamp_min(1e-12)).clamp_max(1)
            x_adv = (x + delta * scale[:, None, None, None]).clamp(0, 1)
    return x_adv.detach()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("batch_norm", ["train", "eval"])
def test_trades_is_the_loss_at_the_point_of_largest_divergence(norm, batch_norm):
    model, threat = network(), Threat(norm, 0.05)
    x, y, draws = batch()
    total = adversarial.Robust(batch_norm=batch_norm)(network(), x, y, threat, noise=draws).total
    clean = model(x).softmax(1).detach()

    def divergence(logits):
        return (clean * (clean.log() - logits.log_softmax(1))).sum(1)

    start = x + 0.001 * draws.substream("attack").normal(x)
    x_adv = naive_example(model, x, threat.project(start, x), divergence, threat)
    with loss_modes(model, batch_norm):
        f, g = model(torch.cat([x, x_adv])).chunk(2)
    torch.testing.assert_close(total, losses.trades(f, g, y), rtol=1e-8, atol=1e-10)


def test_era_shares_one_example_that_leaves_the_prediction():
    model = network()
    x, y, draws = batch()
    terms = abstention.Era(beta=0.3)(model, x, y, THREAT, noise=draws)
    f = model(x)
    prediction = f.argmax(1)
    start = THREAT.random_start(x, draws.substream("attack"))
    x_adv = naive_example(
        model,
        x,
        start,
        lambda z: nn.functional.cross_entropy(z, prediction, reduction="none"),
        THREAT,
    )
    g = model(x_adv)
    expected = 0.3 * losses.trades(f, g, y) + losses.era_penalty(f, g, y)
    torch.testing.assert_close(terms.total, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(terms.parts["penalty"], losses.era_penalty(f, g, y).detach())
    assert torch.equal(terms.correct, prediction == y)


def log_odds(logits, y):
    """Of the best wrong class, from probabilities: nothing shared with the code under test."""
    wrong = logits.softmax(1).scatter(1, y[:, None], 0.0).max(1).values
    return (wrong / (1 - wrong)).log()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_unsure_shares_the_example_that_is_surest_of_a_wrong_class(norm):
    model, threat = network(), Threat(norm, 0.05)
    x, y, draws = batch()
    terms = unsure.Unsure(beta=0.3)(model, x, y, threat, noise=draws)
    start = threat.random_start(x, draws.substream("attack"))
    x_adv = naive_example(model, x, start, lambda z: log_odds(z, y), threat)
    f, g = model(x), model(x_adv)
    assert (log_odds(g, y) > log_odds(f, y)).all()
    penalty = (1 - f.softmax(1).gather(1, y[:, None])[:, 0]) * log_odds(g, y).exp().log1p()
    torch.testing.assert_close(
        terms.total, 0.3 * losses.trades(f, g, y) + penalty, rtol=1e-8, atol=1e-10
    )
    torch.testing.assert_close(terms.parts["penalty"], penalty.detach(), rtol=1e-8, atol=1e-10)
    assert torch.equal(terms.correct, f.argmax(1) == y)
    # ERA's example is found by going away from the answer: of wrong answers less sure.
    wrong = f.argmax(1) != y
    assert wrong.any()
    left = abstention.Era(beta=0.3)(model, x, y, threat, noise=draws).parts["robust"]
    assert not torch.allclose(left[wrong], terms.parts["robust"][wrong])


def test_unsure_between_its_limits():
    model = network()
    only, both, much = (call(unsure.Unsure(beta=b), model) for b in (0.0, 1.0, 1e9))
    assert torch.equal(only.total.detach(), only.parts["penalty"])
    torch.testing.assert_close(both.total.detach(), both.parts["robust"] + both.parts["penalty"])
    torch.testing.assert_close(much.total.detach() / 1e9, both.parts["robust"], rtol=1e-7, atol=0)


def test_the_gradient_of_unsure_is_the_finite_difference():
    """With the example held still, as in training; through the miss as well as the penalty."""
    model, objective = network(), unsure.Unsure(beta=0.3, attack=Pgd(steps=2))
    x, y, draws = batch()
    weight = list(model.parameters())[-2]
    found = torch.autograd.grad(objective(model, x, y, THREAT, noise=draws).total.sum(), [weight])[
        0
    ]
    start = THREAT.random_start(x, draws.substream("attack"))
    x_adv = naive_example(model, x, start, lambda z: log_odds(z, y), THREAT, steps=2)

    def value():
        with torch.no_grad():
            f, g = model(x), model(x_adv)
        return 0.3 * losses.trades(f, g, y).sum() + losses.unsure_penalty(f, g, y).sum()

    for place in [(0, 0), (1, 5), (3, 62)]:
        ends = []
        for step in (1e-6, -2e-6):
            weight.data[place] += step
            ends.append(value())
        weight.data[place] += 1e-6
        torch.testing.assert_close(found[place], (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-7)


def test_the_literal_penalty_comes_closer_to_another_class():
    model = network()
    shared = call(abstention.Era(attack=Pgd(steps=40)), model).parts["penalty"]
    literal = call(abstention.LiteralEra(attack=Pgd(steps=40)), model).parts["penalty"]
    assert literal.mean() <= shared.mean() + 1e-6


def test_the_penalty_may_see_a_larger_ball():
    model = network()
    x, y, draws = batch()
    few = {"attack": Pgd(steps=1), "robust_attack": Pgd(steps=1)}
    near, far = (
        abstention.LiteralEra(reach=reach, **few)(model, x, y, THREAT, noise=draws)
        for reach in (1.0, 2.0)
    )
    torch.testing.assert_close(near.parts["robust"], far.parts["robust"])
    wide = abstention.LiteralEra(**few)(model, x, y, THREAT.doubled(), noise=draws)
    torch.testing.assert_close(far.parts["penalty"], wide.parts["penalty"])
    assert (near.parts["penalty"] - far.parts["penalty"]).abs().max() > 1e-6
    with pytest.raises(ConfigError, match="reach"):
        abstention.LiteralEra(reach=0.0)


@pytest.mark.parametrize("robust", ROBUST_LOSSES)
@pytest.mark.parametrize(
    "outer", [abstention.Era, abstention.LiteralEra, abstention.Dga, unsure.Unsure]
)
def test_any_robust_loss_fits_inside(robust, outer):
    objective = outer(beta=0.5, robust=LOSSES[robust], attack=QUICK)
    terms = call(objective, network())
    expected = 0.5 * terms.parts["robust"] + terms.parts["penalty"]
    torch.testing.assert_close(terms.total.detach(), expected)


@pytest.mark.parametrize("name", ["trades", "era", "dga", "adversarial"])
def test_without_a_budget_there_is_no_adversarial_example(name):
    x, y, draws = batch()
    model = network()
    found = mode(CASES[name], "eval")(model, x, y, Threat("linf", 0.0), noise=draws).total
    f = model(x)
    clean = {
        "trades": losses.cross_entropy(f, y),
        "adversarial": losses.cross_entropy(f, y),
        "era": losses.trades(f, f, y) + losses.era_penalty(f, f, y),
        "dga": losses.trades(f, f, y) + losses.dga_penalty(f, f, y),
    }
    torch.testing.assert_close(found, clean[name], rtol=1e-9, atol=1e-10)


def test_kappa_counts_the_steps_to_the_boundary():
    """f = (0, w·x + b): each step lowers the margin by a known amount."""
    points = torch.tensor([[0.500], [0.515], [0.535], [0.90]], dtype=torch.float64)
    y = torch.ones(4, dtype=torch.int64)

    class Line(nn.Module):
        def forward(self, x):
            return torch.cat([torch.zeros_like(x), x - 0.5], dim=1)

    counter = StepCounter(lambda z: losses.cross_entropy(z, y), y)
    Pgd(steps=10, step_size_relative=0.1).perturb(
        Line(), points, Threat("linf", 0.1), counter, noise=SampleNoise(0, ()), start=points
    )
    # 0.01 a step: at 0.500 the tie is already lost, 0.515 falls at step 2, 0.535 at step 4.
    assert counter.kappa.tolist() == [0, 2, 4, 10]


@pytest.mark.parametrize(
    ("geometry", "plain"),
    [
        (reweighted.Gairat(burn_in=0.4), adversarial.Adversarial()),
        (reweighted.GairTrades(burn_in=0.4), adversarial.Trades()),
    ],
)
@pytest.mark.parametrize("outer", [adversarial.Robust, lambda r: abstention.Era(robust=r)])
def test_burn_in_is_the_plain_loss(geometry, plain, outer):
    early = call(outer(geometry), network(), progress=0.39)
    assert early.weighted is None
    assert torch.equal(early.total, call(outer(plain), network()).total)
    late = call(outer(geometry), network(), progress=0.4)
    assert late.weighted is not None
    assert not torch.equal(late.total, early.total)


def test_the_ramp_leads_from_the_robust_loss_to_era():
    model = network()
    objective = abstention.Era(beta=0.2, ramp=Ramp(0.25, 0.75))
    warm, half, full = (call(objective, model, progress=p) for p in (0.1, 0.5, 0.8))
    robust, penalty = full.parts["robust"], full.parts["penalty"]
    torch.testing.assert_close(warm.total.detach(), robust)
    torch.testing.assert_close(half.total.detach(), 0.6 * robust + 0.5 * penalty)
    torch.testing.assert_close(full.total.detach(), 0.2 * robust + penalty)


def test_when_the_loss_forward_is_the_deployed_function():
    assert same_as_deployed(network(), "eval")
    assert not same_as_deployed(network(), "train")
    assert not same_as_deployed(network(dropout=0.1), "eval")
    assert same_as_deployed(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "train")


def test_bf16_stays_close_and_weights_stay_fp32():
    model = network(dtype=torch.float32)
    x, y, draws = batch(dtype=torch.float32)
    exact = abstention.Era()(Trainee(model), x, y, THREAT, noise=draws).total
    rough = abstention.Era()(Trainee(model, "bf16"), x, y, THREAT, noise=draws).total
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.1)
    rough.mean().backward()
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("beta", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["era", "literal_era", "dga", "unsure", "cra"])
def test_a_weight_that_rewards_the_robust_loss_is_refused(name, beta):
    with pytest.raises(ConfigError, match=r"beta is .*0 or more"):
        OBJECTIVES[name](beta=beta)


def test_smoothing_spreads_a_share_of_the_label_over_all_classes():
    model = network()
    x, y, draws = batch()
    for smoothed, plain in (
        (adversarial.Standard("eval", smoothing=0.2), adversarial.Standard("eval")),
        (
            adversarial.Robust(adversarial.Adversarial(smoothing=0.2), QUICK, "eval"),
            adversarial.Robust(adversarial.Adversarial(), QUICK, "eval"),
        ),
    ):
        nowhere = Threat("linf", 0.0)
        classes = [torch.full_like(y, c) for c in range(4)]
        of_each = [plain(model, x, c, nowhere, noise=draws).total for c in classes]
        own = plain(model, x, y, nowhere, noise=draws).total
        found = smoothed(model, x, y, nowhere, noise=draws).total
        torch.testing.assert_close(found, 0.8 * own + 0.2 * sum(of_each) / 4)
    with pytest.raises(ConfigError, match="smoothing"):
        adversarial.Adversarial(smoothing=1.0)
