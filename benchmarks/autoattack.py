"""Our ensemble against AutoAttack's standard version: broken sets and passes on 200 images.

AutoAttack needs minutes per network, so the work goes in chunks that are kept in ``--work`` and a
rerun continues where the last one stopped.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from counting import count_passes
from harness import (
    Row,
    cifar_test,
    environment,
    predictions,
    print_table,
    seconds,
    shared_model,
    write_rows,
)
from harness_anchor import OFFICIAL_NORM
from recuse.attacks import standard_ensemble
from recuse.data.split import Split
from recuse.random import SampleNoise
from recuse.threat import Threat

NETWORKS = ("cifar10_resnet4b_adv2", "cifar10_cnn_a_mix")
THREAT = Threat("linf", "2/255")
IMAGES, CHUNK = 200, 25


def official_standard(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """AutoAttack's standard version; its adversarial points."""
    attack: Any = AutoAttack(
        model, norm=OFFICIAL_NORM[THREAT.norm], eps=THREAT.eps, seed=0, version="standard"
    )
    points, _ = attack.run_standard_evaluation(x, y, batch_size=CHUNK)
    assert isinstance(points, Tensor)
    return points


def chunk_result(model: nn.Module, part: Split) -> dict[str, Any]:
    """Verdicts, passes and seconds of both programs on one chunk."""
    x, y = part.images, part.labels
    ensemble, noise = standard_ensemble(part.classes), SampleNoise(0, part.ids)
    found: dict[str, Tensor] = {}

    def ours() -> None:
        found["ours"] = ensemble(model, x, y, THREAT, noise=noise).x_adv

    def anchor() -> None:
        found["anchor"] = official_standard(model, x, y)

    result: dict[str, Any] = {"ids": part.ids}
    for name, work in (("ours", ours), ("anchor", anchor)):
        took, passes = count_passes(model, x, lambda work=work: seconds(work))
        broken = predictions(model, found[name]) != y
        assert bool(THREAT.contains(found[name], x).all())
        result[name] = {"broken": broken.tolist(), "seconds": took, "passes": asdict(passes)}
    return result


def work_through(name: str, folder: Path) -> list[dict[str, Any]]:
    """All chunks of one network, those already done read back."""
    model, split = shared_model(name), cifar_test(IMAGES)
    chunks = []
    for number, part in enumerate(split.batches(CHUNK)):
        path = folder / f"{name}-{number:02d}.json"
        if not path.is_file():
            torch.manual_seed(0)
            text = json.dumps(chunk_result(model, part))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"{name}: {(number + 1) * CHUNK} of {IMAGES}", flush=True)
        chunks.append(json.loads(path.read_text()))
    return chunks


def rows_of(name: str, chunks: list[dict[str, Any]]) -> list[Row]:
    """Passes and verdicts of one network."""
    ours, anchor = (
        torch.tensor([b for c in chunks for b in c[who]["broken"]]) for who in ("ours", "anchor")
    )
    n = len(ours)
    spent = {
        who: sum(sum(c[who]["passes"].values()) for c in chunks) / n for who in ("ours", "anchor")
    }
    took = {who: sum(c[who]["seconds"] for c in chunks) for who in ("ours", "anchor")}
    label = f"ensemble {name.removeprefix('cifar10_')} {THREAT.radius}"
    robust = {"ours": 1 - float(ours.double().mean()), "anchor": 1 - float(anchor.double().mean())}
    weaker = int(anchor.sum()) - int(ours.sum())
    return [
        Row(
            f"{label}: passes",
            spent["ours"],
            spent["anchor"],
            spent["anchor"] / spent["ours"],
            spent["anchor"] / 5,
            "passes",
            {"inputs": n, "robust_accuracy": robust, "seconds": took},
        ),
        Row(
            f"{label}: broken by the anchor, fewer by ours",
            max(weaker, 0),
            0,
            weaker,
            0.005 * n,
            "mismatches",
            {
                "only_ours": int((ours & ~anchor).sum()),
                "only_anchor": int((anchor & ~ours).sum()),
                "meaning": "0.5 points are allowed",
            },
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-autoattack"))
    options = parser.parse_args()
    before = environment()
    rows = [row for name in NETWORKS for row in rows_of(name, work_through(name, options.work))]
    print_table(rows)
    if options.json:
        write_rows(options.json, rows, before)


if __name__ == "__main__":
    main()
