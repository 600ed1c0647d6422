"""Attack what was certified: whether a smoothed classifier keeps the class it was proven to keep.

A certificate that an attack breaks is a false one, which happens with probability alpha at most
where everything is computed as the proof assumes. A certificate that no attack breaks proves
nothing more than it did: this is a test of the code, not of the theorem.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from recuse.arrays import Images, Labels
from recuse.attacks import Apgd
from recuse.certify.surrogate import SmoothedSurrogate
from recuse.certify.votes import ROWS_CPU, DrawSource, Voters
from recuse.data.split import Split
from recuse.engine import Engine, InProcess
from recuse.errors import ConfigError
from recuse.evaluation.identity import answers
from recuse.evaluation.placing import FIRST, placed
from recuse.evaluation.resumable import Job, judge_missing
from recuse.models.checkpoint import weights_sha256
from recuse.progress import Progress, silent
from recuse.radius import format_radius, parse_radius
from recuse.random import SampleNoise, stable_seed
from recuse.records.schema import Record, RecordMeta, make_record, radius_column
from recuse.serialize import to_plain
from recuse.threads import suitable_threads
from recuse.threat import Threat


@dataclass(frozen=True)
class CertificateAttack:
    """What the certificates of a smoothed classifier are attacked with.

    Attributes:
        radius: Of the ball that is searched; images certified there and images that are not are
            attacked alike, the others to show that the attack moves what is not proven.
        attack: Climbs the expectation over noise.
        copies: Noisy copies behind each of its passes.
        draws: Votes that are asked at the point found.
        thorough: Votes where a certified class has less than ``clear`` of the first ones.
        clear: Share of the votes that settles an image without asking more.
        seed: Of the noise, together with each sample's id.
        limit: Attack only the first so many samples; all if absent.
        chunk: Samples attacked together; they share the noise behind a pass of the attack.
    """

    radius: float
    attack: Apgd = field(default_factory=Apgd)
    copies: int = 16
    draws: int = 1_000
    thorough: int = 20_000
    clear: float = 0.6
    seed: int = 1
    limit: int | None = None
    chunk: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", parse_radius(self.radius))
        counts = (self.copies, self.draws, self.thorough - self.draws, self.chunk)
        if self.radius <= 0 or min(counts) < 1 or (self.limit is not None and self.limit < 1):
            raise ConfigError(
                "an attack on certificates needs a positive radius, copies, draws, samples, and "
                f"more thorough draws than first ones, got {self}"
            )

    @property
    def rows(self) -> int:
        """Images of a forward pass, on a processor."""
        return ROWS_CPU


def attack_certificates(
    model: nn.Module,
    split: Split,
    certified: Record,
    attack: CertificateAttack,
    *,
    records: Path,
    repair: bool = False,
    engine: Engine = InProcess(),
    progress: Progress = silent,
) -> Record:
    """Attack a smoothed classifier at images that were certified, and ask for its votes there.

    Args:
        model: The very network of the certificates, in the same precision, in eval mode.
        split: The samples that were certified.
        certified: What was certified of them; samples without a certified class are left out.
        attack: Radius, attack, votes.
        records: Folder for the record.
        repair: Attack again what damaged shards held, instead of refusing to go on.
        engine: Where chunks are attacked; the record is the same.
        progress: Told after every piece.

    Returns:
        The record: ``prediction``, the certified class; ``certified`` at the radius; ``robust``
        there if the class still has the majority of the votes at the point found; ``score``, its
        share of these votes, and ``samples``, how many were asked.

    Raises:
        ConfigError: The certificates are of another network, or say nothing about the radius.
        DataError: The model does not fit the data.
        RecordError: The record is of another function, is damaged, or cannot be written.
    """
    weights = weights_sha256(model)
    column = radius_column("certified", attack.radius)
    if certified.meta.weights != weights or not certified.has("certified", attack.radius):
        raise ConfigError(
            f"the certificates of {certified.meta.model!r} at {format_radius(attack.radius)} are "
            "not of this network; certify it at this radius first"
        )
    rows = certified.frame.filter(certified.frame["prediction"].is_not_null())
    known = {i: (y, c) for i, y, c in rows.select("sample_id", "prediction", column).iter_rows()}
    asked = split if attack.limit is None else split.head(attack.limit)
    wanted = asked.take([row for row, i in enumerate(asked.ids) if i in known])
    meta = _meta(certified.meta, attack)
    first = placed(model, wanted.head(FIRST).images, meta.model)
    job = Job(
        meta,
        answers({meta.model: model}, first),
        partial(_attacked, model, known=known, attack=attack, meta=meta),
        task=f"attack certificates of {meta.model}",
        size=attack.chunk,
        threads=suitable_threads(model, first, attack.rows),
        repair=repair,
    )
    return judge_missing(job, wanted, records, engine=engine, progress=progress)


def _meta(certified: RecordMeta, attack: CertificateAttack) -> RecordMeta:
    plain = to_plain(attack)
    assert isinstance(plain, dict)
    plain.pop("limit")
    return RecordMeta(
        model=certified.model,
        dataset=certified.dataset,
        method="apgd-smoothed",
        norm=certified.norm,
        radii=(format_radius(attack.radius),),
        weights=certified.weights,
        settings={
            "attack": plain,
            "certificates": certified.key,
            "sigma": certified.settings["sigma"],
            "data": certified.settings["data"],
        },
        seed=attack.seed,
        tags=certified.tags,
    )


def _attacked(
    model: nn.Module,
    part: Split,
    *,
    known: Mapping[str, tuple[int, bool]],
    attack: CertificateAttack,
    meta: RecordMeta,
) -> Record:
    x = placed(model, part.images, meta.model)
    classes = torch.tensor([known[i][0] for i in part.ids], device=x.device)
    proven = [known[i][1] for i in part.ids]
    sigma = meta.settings["sigma"]
    noise = SampleNoise(attack.seed, part.ids, "attack certificates")
    surrogate = SmoothedSurrogate(
        model, sigma=sigma, k=attack.copies, seed=stable_seed(attack.seed, *part.ids)
    )
    found = attack.attack.maximise(
        surrogate, x, classes, Threat(meta.norm, attack.radius), noise=noise
    )
    columns: dict[str, Any] = {
        "sample_id": list(part.ids),
        "label": part.labels.numpy(),
        "prediction": classes.cpu().numpy(),
        "accurate": (classes.cpu() == part.labels).numpy(),
        radius_column("certified", attack.radius): proven,
        "forwards": (found.forwards * attack.copies).cpu().numpy(),
        "backwards": (found.backwards * attack.copies).cpu().numpy(),
    }
    share, asked = _shares(model, found.x_adv, classes, np.array(proven), sigma, noise, attack)
    kept = {radius_column("robust", attack.radius): share > 0.5}
    return make_record(meta, columns | kept | {"score": share, "samples": asked})


def _shares(
    model: nn.Module,
    x: Images,
    classes: Labels,
    proven: np.ndarray,
    sigma: float,
    noise: SampleNoise,
    attack: CertificateAttack,
) -> tuple[np.ndarray, np.ndarray]:
    """Share of the votes for each class, and votes asked: more where a proven one is close."""
    label = classes.cpu().numpy()

    def ask(rows: np.ndarray, draws: int) -> np.ndarray:
        own = noise.substream("votes", draws).take(rows.tolist())
        votes = Voters(model, x[rows], sigma, own).count_all(draws, DrawSource.of(own))
        return np.asarray(votes[np.arange(len(rows)), label[rows]] / draws)

    share = ask(np.arange(len(label)), attack.draws)
    asked = np.full(len(label), attack.draws)
    close = np.flatnonzero(proven & (share < attack.clear))
    if len(close):
        share[close], asked[close] = ask(close, attack.thorough), attack.thorough
    return share, asked


__all__ = ["CertificateAttack", "attack_certificates"]
