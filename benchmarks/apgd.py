"""Auto-PGD with 40 steps against AutoAttack's APGD-CE and foolbox's PGD: time, passes, verdicts."""

import torch
from torch import Tensor, nn

from counting import count_passes
from harness import Row, alternate, cifar_test, predictions, run_script, shared_model
from harness_anchor import (
    broken_at,
    foolbox_pgd,
    official_apgd,
    official_start,
    trained_resnet18,
)
from recuse.attacks import Apgd, Screened
from recuse.models.prepared import prepare
from recuse.protocols import Attack
from recuse.random import SampleNoise
from recuse.threat import Threat


def compare(
    name: str,
    anchor_model: nn.Module,
    model: nn.Module,
    attack: Attack,
    x: Tensor,
    threat: Threat,
    repeats: int,
) -> tuple[Row, Row, Tensor, Tensor]:
    """Time, passes and both broken sets of one attack at the anchor's start."""
    y, start = predictions(anchor_model, x), official_start(x, threat)
    noise = SampleNoise(0, tuple(map(str, range(len(x)))))

    def ours() -> Tensor:
        return attack(model, x, y, threat, noise=noise, start=start).x_adv

    def anchor() -> Tensor:
        return official_apgd(anchor_model, x, y, threat)

    x_ours, passes = count_passes(anchor_model, x, ours)
    x_anchor, anchor_passes = count_passes(anchor_model, x, anchor)
    broken = broken_at(anchor_model, x_ours, y)
    official = broken_at(anchor_model, x_anchor, y)
    robust = 1 - float(broken.double().mean())
    mine, theirs = passes.per(len(x)), anchor_passes.per(len(x))
    row = alternate(ours, anchor, repeats=repeats).row(
        name,
        goal=0.0,
        inputs=len(x),
        robust_share=round(robust, 4),
        passes=str(mine),
        anchor_passes=str(theirs),
    )
    counted = Row(
        f"{name}: passes", mine.total, theirs.total, theirs.total / mine.total, 0, "passes"
    )
    return row, counted, broken, official


def mismatches(name: str, count: Tensor, goal: float, meaning: str) -> Row:
    """A row that counts verdicts."""
    found = int(count.sum())
    return Row(name, found, 0, found, goal, "mismatches", {"meaning": meaning})


def standard_network(repeats: int) -> list[Row]:
    """fp32, ResNet-56 without robust training, 1/255, on two forms of the same test images."""
    model, threat = shared_model("cifar10_resnet56_std"), Threat("linf", "1/255")
    prepared, rows = prepare(model), []
    for kind in ("jpeg", "lossless"):
        name = f"apgd fp32 resnet56 1/255 {kind}"
        x = cifar_test(128, kind).images
        time, passes, broken, official = compare(name, model, prepared, Apgd(), x, threat, repeats)
        rows += [with_goal(time, 7.0, cause_of(time)), gated(passes)]
        rows.append(
            mismatches(
                f"{name}: verdict mismatches",
                broken != official,
                0,
                "inputs on which the two verdicts differ at the same start",
            )
        )
    return rows


def cause_of(row: Row) -> str:
    """Why a ratio stays below its goal, from the share of inputs that need every step."""
    robust = float(row.detail["robust_share"])
    return (
        f"{robust:.0%} of these inputs are robust and need all 81 passes in either program: "
        f"{81 * robust:.1f} of the anchor's 83 cannot be saved"
    )


def with_goal(row: Row, goal: float, cause: str) -> Row:
    """The row with its goal, and the cause of a miss where it is one."""
    missed = row.ratio < goal
    detail = {**row.detail, "cause": cause} if missed else row.detail
    return Row(row.name, row.ours, row.anchor, row.ratio, goal, row.kind, detail)


def gated(row: Row) -> Row:
    """A pass row whose goal is the committed gate, or the anchor's count where there is none."""
    from gates import gate

    return Row(row.name, row.ours, row.anchor, row.ratio, gate(row.name, row.anchor), row.kind)


def screened(
    label: str, model: nn.Module, x: Tensor, eps: str, steps: int, repeats: int
) -> list[Row]:
    """bf16 screen, fp32 verdicts: time against the anchor, broken sets both ways.

    Against our own search in fp32, and against the anchor: time that a stronger or a weaker attack
    took would not compare.
    """
    prepared, threat = prepare(model), Threat("linf", eps)
    attack = Screened(Apgd(), prepare(model, precision="bf16"), Apgd(steps=steps))
    name = f"apgd bf16 screen {label} {threat.radius}"
    time, passes, broken, official = compare(name, model, prepared, attack, x, threat, repeats)
    y, start = predictions(model, x), official_start(x, threat)
    noise = SampleNoise(0, tuple(map(str, range(len(x)))))
    plain = Apgd()(prepared, x, y, threat, noise=noise, start=start).success
    few = max(1, round(0.005 * len(x)))
    return [
        with_goal(time, 2.5, cause_of(time)),
        gated(passes),
        mismatches(
            f"{name}: lost to the screen", plain & ~broken, 0, "broken in fp32, not with the screen"
        ),
        mismatches(
            f"{name}: broken with the screen only", broken & ~plain, few, "allowed: 0.5 points"
        ),
        mismatches(
            f"{name}: broken by the anchor only", official & ~broken, few, "allowed: 0.5 points"
        ),
        mismatches(f"{name}: broken by ours only", broken & ~official, few, "allowed: 0.5 points"),
    ]


def against_foolbox(repeats: int) -> list[Row]:
    """Auto-PGD against foolbox's PGD of as many steps: time, passes, broken sets."""
    model, threat = shared_model("cifar10_resnet4b_adv2"), Threat("linf", "4/255")
    x, prepared = cifar_test(128).images, prepare(model)
    y, noise = predictions(model, x), SampleNoise(0, tuple(map(str, range(len(x)))))
    name = "apgd fp32 resnet4b 4/255 against foolbox PGD"

    def ours() -> Tensor:
        return Apgd()(prepared, x, y, threat, noise=noise).x_adv

    def anchor() -> Tensor:
        return foolbox_pgd(model, x, y, threat)

    x_ours, passes = count_passes(model, x, ours)
    x_anchor, anchor_passes = count_passes(model, x, anchor)
    broken, theirs = broken_at(model, x_ours, y), broken_at(model, x_anchor, y)
    detail = {"passes": str(passes.per(len(x))), "anchor_passes": str(anchor_passes.per(len(x)))}
    counts = {"broken": int(broken.sum()), "anchor_broken": int(theirs.sum())}
    return [
        alternate(ours, anchor, repeats=repeats).row(name, 1.0, **detail, **counts),
        mismatches(f"{name}: broken by foolbox only", theirs & ~broken, 0, "of 128 inputs"),
    ]


def run(repeats: int) -> list[Row]:
    torch.manual_seed(0)
    rows = standard_network(repeats)
    robust = shared_model("cifar10_resnet4b_adv2")
    rows += screened("resnet4b", robust, cifar_test(256).images, "4/255", 3, repeats)
    resnet18 = trained_resnet18()
    rows += against_foolbox(repeats)
    rows += screened("resnet18", resnet18, cifar_test(32).images, "8/255", 8, repeats)
    return rows


if __name__ == "__main__":
    run_script(run, __doc__ or "")
