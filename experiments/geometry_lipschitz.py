"""Local Lipschitzness of pretrained networks on CIFAR-10, train and test, beside the gap.

    RECUSE_DATA=... python experiments/geometry_lipschitz.py

Lossless images on both sides (the first 250 of each part), since JPEG costs a standard network
accuracy on one side only. Slopes of the logits, as defined, and of the softmax, which does not
depend on the scale of the logits. Results: results/geometry/lipschitz.json.
"""

import json
from pathlib import Path

import tyro

from recuse.cli.console import progress_display
from recuse.data import Cifar10, find_data_root
from recuse.geometry import Lipschitz, smoothness
from recuse.geometry.lipschitz import Output
from recuse.models import load_model
from recuse.models.checkpoint import weights_sha256
from recuse.records.store import write_atomically
from recuse.threat import Threat

MODELS = (
    "cifar10_resnet20_std",
    "cifar10_resnet56_std",
    "cifar10_resnet4b_adv2",
    "cifar10_small_std",
    "cifar10_cnn_a_mix",
    "cifar10_wide_kw",
)
OUTPUTS: tuple[Output, ...] = ("logits", "probabilities")


def main(
    threat: str = "linf:2/255",
    limit: int = 250,
    models: tuple[str, ...] = MODELS,
    out: Path = Path("results/geometry/lipschitz.json"),
) -> None:
    """Measure all networks.

    Args:
        threat: Ball.
        limit: Images of each part.
        models: Names in the models folder.
        out: File of the results.
    """
    root, ball = find_data_root(), Threat.parse(threat)
    splits = Cifar10(train="lossless").load(root)
    parts = {"train": splits.train.head(limit), "test": splits.test.head(limit)}
    rows = []
    for name in models:
        network, _ = load_model(name, data_root=root)
        row = {"model": name, "weights": weights_sha256(network)}
        for output in OUTPUTS:
            for part, split in parts.items():
                with progress_display() as progress:
                    found = smoothness(
                        network,
                        split.images,
                        split.labels,
                        split.ids,
                        ball,
                        method=Lipschitz(output=output),
                        progress=progress,
                    )
                row |= {f"{part}_{output}": found.lipschitz, f"{part}_accuracy": found.accuracy}
        rows.append(row)
    method = Lipschitz()
    settings = {
        "threat": str(ball),
        "steps": method.steps,
        "step_size": method.step_size,
        "images": limit,
        "seed": 0,
    }
    write_atomically(out, json.dumps({"settings": settings, "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    tyro.cli(main)
