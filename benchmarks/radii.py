"""Judging at {eps, 2 eps} in one go against two independent runs of AutoAttack's APGD-CE."""

from torch import Tensor, nn

from apgd import gated, mismatches, with_goal
from counting import count_passes
from harness import Row, alternate, cifar_test, predictions, run_script, shared_model
from harness_anchor import broken_at, official_apgd
from recuse.attacks import Apgd, RadiiOutcome, attack_radii
from recuse.models.prepared import prepare
from recuse.random import SampleNoise
from recuse.threat import Threat


def compare(
    name: str, model: nn.Module, x: Tensor, eps: str, goal: float, repeats: int
) -> list[Row]:
    """Rows of one network: time, passes, monotone verdicts, strength against the anchor."""
    threat = Threat("linf", eps)
    threats = (threat, threat.doubled())
    prepared, y = prepare(model), predictions(model, x)
    noise = SampleNoise(0, tuple(map(str, range(len(x)))))

    def ours() -> RadiiOutcome:
        return attack_radii(prepared, x, y, threats, Apgd(), noise=noise)

    def anchor() -> list[Tensor]:
        return [official_apgd(model, x, y, t) for t in threats]

    found, passes = count_passes(model, x, ours)
    points, anchor_passes = count_passes(model, x, anchor)
    broken = [broken_at(model, x_adv, y) for x_adv in found.x_adv]
    official = [broken_at(model, x_adv, y) for x_adv in points]
    mine, theirs = passes.per(len(x)), anchor_passes.per(len(x))
    shares = [round(1 - float(b.double().mean()), 3) for b in broken]
    row = alternate(ours, anchor, repeats=repeats).row(
        name, goal, inputs=len(x), robust_shares=shares, passes=str(mine), anchor=str(theirs)
    )
    cause = (
        f"robust inputs need all 80 steps at both radii: {81 * sum(shares):.0f} of the anchor's "
        "166 passes cannot be saved"
    )
    both = list(zip(broken, official, strict=True))
    weaker = sum(int(o.sum()) - int(b.sum()) for b, o in both)
    counted = Row(
        f"{name}: passes", mine.total, theirs.total, theirs.total / mine.total, 0, "passes"
    )
    return [
        with_goal(row, goal, cause),
        gated(counted),
        mismatches(
            f"{name}: not monotone", broken[0] & ~broken[1], 0, "broken at eps, robust at 2 eps"
        ),
        Row(
            f"{name}: fewer broken than the anchor",
            max(weaker, 0),
            0,
            weaker,
            0.005 * 2 * len(x),
            "mismatches",
            {
                "meaning": "over both radii, different random starts; 0.5 points are allowed",
                "only_ours": [int((b & ~o).sum()) for b, o in both],
                "only_anchor": [int((o & ~b).sum()) for b, o in both],
            },
        ),
    ]


def run(repeats: int) -> list[Row]:
    robust, standard = shared_model("cifar10_resnet4b_adv2"), shared_model("cifar10_resnet56_std")
    rows = compare(
        "radii resnet4b {2,4}/255", robust, cifar_test(256).images, "2/255", 2.0, repeats
    )
    for kind in ("jpeg", "lossless"):
        x = cifar_test(48, kind).images
        rows += compare(f"radii resnet56 {{1,2}}/255 {kind}", standard, x, "1/255", 10.0, repeats)
    return rows


if __name__ == "__main__":
    run_script(run, __doc__ or "")
