"""Robust inaccuracy on every test image: only wrong answers are attacked, so that many are few.

The reports judge a thousand images, right answers and wrong ones. An answer that is robust and
wrong is wrong first, and few are: of ten thousand images all wrong answers are searched in the
time that a thousand take whole, by the same searches. What differs between networks is told
apart on all images, and on those that the reports have not judged.

The networks are the checkpoints of a run folder, of ``recuse run cifar10`` or
``gtsrb_transferred``; ``--work`` keeps what was judged, so that a killed run goes on.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from harness import environment, predictions
from recuse.analysis.intervals import Interval, paired_difference
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Mask, verdicts
from recuse.cli.console import progress_display
from recuse.data import Cifar10, Source
from recuse.data.roots import find_data_root
from recuse.data.split import Split
from recuse.evaluation import Evaluation, evaluate
from recuse.models.checkpoint import load_checkpoint
from recuse.recipes import recipe
from recuse.recipes.gtsrb import SIGNS
from recuse.records.store import write_atomically

# Of a study: the images, and how many of them its report judges (of CIFAR-10 lossless versions).
STUDIES: dict[str, tuple[Source, int]] = {
    "cifar10": (Cifar10(test="jpeg"), 1017),
    "gtsrb_transferred": (SIGNS, 1000),
}


@dataclass(frozen=True)
class Wrong:
    """Wrong answers of one network.

    Attributes:
        wrong: Their places in the test part.
        robust: By radius, of those where no search found another answer within it.
    """

    wrong: list[int]
    robust: dict[str, list[int]]

    def masks(self, images: int) -> dict[str, Mask]:
        """Images that count, by what is counted: natural accuracy, and each radius."""
        wrong = _mask(self.wrong, images)
        return {"natural": ~wrong} | {r: _mask(at, images) for r, at in self.robust.items()}


def wrong_answers(path: Path, test: Split, judged: Sequence[Evaluation], work: Path) -> Wrong:
    """Attack a network where it is wrong.

    Args:
        path: Its checkpoint.
        test: All images.
        judged: Searches; what any of them breaks is broken.
        work: Where their rows are kept.
    """
    network, card = load_checkpoint(path)
    places = (predictions(network.eval(), test.images) != test.labels).nonzero().flatten()
    part = test.take(places)
    name = path.stem
    with progress_display() as progress:
        records = [
            evaluate(network, part, how, name=name, card=card, records=work, progress=progress)
            for how in judged
        ]
    found = gather([verdicts(record) for record in records])[0]
    robust = {}
    for radius in found.radii():
        ids = set(found.ids.filter(pl.Series(found.robust(radius))))
        robust[radius] = [int(i) for i in places if test.ids[i] in ids]
    return Wrong(places.tolist(), robust)


def differences(
    networks: Mapping[str, Wrong], images: int, known: int
) -> dict[str, dict[str, dict[str, Sequence[float]]]]:
    """Points of the first network minus those of every other, paired, with their 95 % intervals.

    Args:
        networks: By name; nothing else is compared than the first with the others.
        images: How many there are.
        known: How many of the first the reports judge.

    Returns:
        By pair, images (``all`` and ``others``) and what is counted.
    """
    counted = {name: network.masks(images) for name, network in networks.items()}
    first, *others = counted
    parts = {"all": slice(None), "others": slice(known, None)}
    return {
        f"{first} - {other}": {
            part: {
                what: _points(paired_difference(mask[rows], counted[other][what][rows]))
                for what, mask in counted[first].items()
            }
            for part, rows in parts.items()
        }
        for other in others
    }


def _points(interval: Interval) -> list[float]:
    return [round(100 * value, 2) for value in (interval.estimate, interval.low, interval.high)]


def _mask(places: Sequence[int], images: int) -> Mask:
    mask = np.zeros(images, dtype=np.bool_)
    mask[list(places)] = True
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("networks", nargs="+", help="the first is compared with the others")
    parser.add_argument("--run", type=Path, required=True, help="folder with their checkpoints")
    parser.add_argument("--work", type=Path, help="by default a folder in the run folder")
    parser.add_argument("--json", type=Path, help="write what was found here, beside other studies")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    before = environment()
    source, known = STUDIES[chosen.study]
    test = source.load_test(find_data_root())
    judged = [how for how in recipe(chosen.study).judgements if isinstance(how, Evaluation)]
    networks = {}
    for name in chosen.networks:
        path = chosen.run / "checkpoints" / f"{name}.safetensors"
        work = chosen.work or chosen.run / "robust-inaccuracy"
        found = networks[name] = wrong_answers(path, test, judged, work)
        rates = {
            radius: f"{100 * len(at) / len(test):.2f} %" for radius, at in found.robust.items()
        }
        print(
            f"{name}: {len(found.wrong)} of {len(test)} wrong; robust of all: {rates}", flush=True
        )
    compared = differences(networks, len(test), known)
    print(json.dumps(compared, indent=1))
    if chosen.json:
        written = json.loads(chosen.json.read_text()) if chosen.json.is_file() else {}
        written[chosen.study] = {
            "environment": before,
            "images": len(test),
            "known": known,
            "networks": {name: asdict(network) for name, network in networks.items()},
            "differences": compared,
        }
        write_atomically(chosen.json, (json.dumps(written) + "\n").encode())


if __name__ == "__main__":
    main()
