"""The robustness indicator over a stream of 1,000 inputs, about half of them robust."""

import torch
from torch import Tensor, nn

from apgd import gated, with_goal
from counting import count_passes
from harness import Row, alternate, cifar_test, predictions, run_script, shared_model
from harness_anchor import broken_at, official_apgd
from recuse.attacks import Apgd, Decision, StreamSettings, decide_stream
from recuse.data.split import Split
from recuse.models.prepared import prepare
from recuse.threat import Threat

BATCH = 128
STREAM = 1000


def half_robust(model: nn.Module, threat: Threat) -> Split:
    """As many robust as other inputs, in the order of the test set, up to the stream's length."""
    split = cifar_test(1017)
    decided = decide(prepare(model), split, threat)
    robust = torch.tensor([decided[i].robust for i in split.ids])
    side = min(int(robust.sum()), int((~robust).sum()), STREAM // 2)
    chosen = torch.cat([rows.nonzero()[:side, 0] for rows in (robust, ~robust)])
    return split.take(chosen.sort().values)


def decide(model: nn.Module, split: Split, threat: Threat) -> dict[str, Decision]:
    """Our decisions by sample id."""
    stream = zip(split.ids, split.images, strict=True)
    settings = StreamSettings(slots=BATCH, refill=BATCH // 8)
    decisions = decide_stream(model, stream, threat, attack=Apgd(), settings=settings)
    return {d.sample_id: d for d in decisions}


def official(model: nn.Module, x: Tensor, threat: Threat) -> Tensor:
    """Which inputs AutoAttack's APGD breaks, batch by batch."""
    parts = []
    for part in x.split(BATCH):
        y = predictions(model, part)
        parts.append(broken_at(model, official_apgd(model, part, y, threat), y))
    return torch.cat(parts)


def run(repeats: int) -> list[Row]:
    model, threat = shared_model("cifar10_resnet4b_adv2"), Threat("linf", "4/255")
    prepared, split = prepare(model), half_robust(model, threat)
    x, name = split.images, "indicator stream resnet4b 4/255"
    decided, passes = count_passes(model, x, lambda: decide(prepared, split, threat))
    broken, anchor_passes = count_passes(model, x, lambda: official(model, x, threat))
    robust = torch.tensor([decided[i].robust for i in split.ids])
    spent = torch.tensor([decided[i].forwards + decided[i].backwards for i in split.ids])
    mine, theirs = passes.per(len(x)), anchor_passes.per(len(x))
    timing = alternate(
        lambda: decide(prepared, split, threat),
        lambda: official(model, x, threat),
        repeats=repeats,
    )
    row = timing.row(
        name,
        1.7,
        inputs=len(x),
        robust_share=float(robust.double().mean()),
        passes=str(mine),
        anchor_passes=str(theirs),
    )
    counted = Row(
        f"{name}: passes", mine.total, theirs.total, theirs.total / mine.total, 0, "passes"
    )
    return [
        with_goal(row, 1.7, "see the passes"),
        gated(counted),
        *exact(name, spent, robust, broken),
    ]


def exact(name: str, spent: Tensor, robust: Tensor, broken: Tensor) -> list[Row]:
    """Passes of selected and abstained inputs, and strength against the anchor."""
    selected, abstained = spent[robust].double(), spent[~robust].double()
    only_anchor, only_ours = int((broken & robust).sum()), int((~broken & ~robust).sum())
    weaker = only_anchor - only_ours
    detail = {
        "meaning": "different random starts; 0.5 points are allowed",
        "only_ours": only_ours,
        "only_anchor": only_anchor,
    }
    return [
        _passes(f"{name}: selected, most", float(selected.max()), 82),
        _passes(f"{name}: abstained, mean", float(abstained.mean()), 8),
        _passes(f"{name}: abstained, median", float(abstained.median()), 8),
        Row(
            f"{name}: fewer broken than the anchor",
            max(weaker, 0),
            0,
            weaker,
            0.005 * len(robust),
            "mismatches",
            detail,
        ),
    ]


def _passes(name: str, ours: float, goal: float) -> Row:
    return Row(name, ours, 83, 83 / ours, goal, "passes")


if __name__ == "__main__":
    run_script(run, __doc__ or "")
