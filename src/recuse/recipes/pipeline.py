"""Carry out a run config: train, judge, attack, picture, report; everything finished is kept."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from recuse.analysis.attacked import attacked_rates
from recuse.composition import Cascade, Core, Stage
from recuse.data import Split, Splits
from recuse.data.subset import load_each
from recuse.errors import ConfigError
from recuse.evaluation import Evaluation, evaluate
from recuse.evaluation.admission import admit
from recuse.evaluation.attack_cascade import attack_cascade
from recuse.evaluation.attack_certificates import CertificateAttack, attack_certificates
from recuse.evaluation.certify_dataset import certify_dataset
from recuse.evaluation.rejection import Rejection, judge_rejection
from recuse.models.cards import Card
from recuse.models.checkpoint import load_checkpoint
from recuse.progress import Progress, silent
from recuse.recipes.abstain import compare_abstention
from recuse.recipes.config import (
    CompositionPlan,
    Judgement,
    ModelPlan,
    RunConfig,
    read_run_config,
)
from recuse.recipes.environment import environment, keep_threads
from recuse.recipes.gallery import write_gallery
from recuse.recipes.measure import measure_geometry
from recuse.recipes.obtain import keep_rates, obtain
from recuse.recipes.regions import write_regions
from recuse.recipes.run_location import RunLocation
from recuse.records.configs import config_text, is_older
from recuse.records.layout import (
    COMPOSITION_RATES,
    COMPOSITION_RECORDS,
    CONFIG,
    ENVIRONMENT,
    GALLERY,
    NETWORK_ATTACKS,
    PAGE,
    RECORDS,
    REPORT,
)
from recuse.records.run_folder import keep_compositions
from recuse.records.schema import Record
from recuse.records.store import holds_records, write_atomically
from recuse.report.run.report import write_report
from recuse.report.study import write_study
from recuse.serialize import to_plain
from recuse.threads import suitable_threads


def run(config: RunConfig, place: RunLocation, *, progress: Progress = silent) -> Path:
    """Do what is not yet done of a run; the same call goes on after a kill.

    Args:
        config: The run.
        place: Folder, data and device.
        progress: Told as work proceeds.

    Returns:
        Path of the report; of the page where no network was judged.

    Raises:
        ConfigError: The folder holds a different run.
        RecuseError: Anything else that cannot be done as asked.
    """
    unclaimed(config, place.out)  # before minutes of reading
    sources = [config.data, *(plan.data or config.data for plan in config.models)]
    splits = load_each(sources, place.data_root)
    claim_folder(config, place.out)  # data that cannot be read leave no folder
    records = [
        record
        for plan in config.models
        for record in judge(config, plan, splits[plan.data or config.data], place, progress)
    ]
    for composition in config.attacks:
        judged_on = next(m.data for m in config.models if m.name == composition.core)
        attack_composition(composition, splits[judged_on or config.data], place, progress)
    measure_geometry(config, splits[config.data], place, progress)
    compare_abstention(config, splits[config.data], place, progress)
    picture(config, splits[config.data], records, place)
    if config.page:
        write_study(config.page, place.out, place.out)
    if config.page and not holds_records(place.out / RECORDS):
        return place.out / PAGE
    return write_report([place.out], place.out / REPORT)


def claim_folder(config: RunConfig, out: Path) -> None:
    """Write the config into an empty folder, or check that it is the one already there.

    A run of fewer networks that is otherwise the same becomes this one.

    Raises:
        ConfigError: The folder holds a different run, or files that are not of a run.
    """
    if unclaimed(config, out):
        write_atomically(out / CONFIG, config_text(config).encode())
        if not (out / ENVIRONMENT).is_file():
            write_atomically(out / ENVIRONMENT, json.dumps(environment(), indent=1).encode())


def unclaimed(config: RunConfig, out: Path) -> bool:
    """Whether a folder is yet to be given to a run; :func:`claim_folder` says when it cannot be."""
    kept = out / CONFIG
    if kept.is_file():
        if is_older(kept):
            raise ConfigError(
                f"{out} was written by an older version of recuse; choose another --out, or "
                f"convert it by recuse records upgrade {out}"
            )
        there = read_run_config(kept)
        if to_plain(there) == to_plain(config):
            return False
        if not grown_from(there, config):
            raise ConfigError(
                f"{out} holds a different run ({kept} differs); choose another --out or delete it"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and holds no {CONFIG}; choose another --out")
    return True


def grown_from(there: RunConfig, config: RunConfig) -> bool:
    """Whether a run is another one with more networks, in whatever order they are trained."""
    before: Any = to_plain(there)
    now: Any = to_plain(config)
    plans = {plan["name"]: plan for plan in now.pop("models")}
    return all(plans.get(p["name"]) == p for p in before.pop("models")) and before == now


def judge(
    config: RunConfig, plan: ModelPlan, splits: Splits, place: RunLocation, progress: Progress
) -> list[Record]:
    """Train one model if need be, and attack or certify it on the test part."""
    model, card = obtain(plan, splits, place, progress)
    judgements = config.judgements_of(plan)
    if not judgements:
        return []
    # A recipe may judge training images, as Figure 1 of the paper does; its config says so.
    admitted = admit(model, card, splits.test, allow_training_data=True)
    network = admitted.network.to(place.device)
    keep_threads(place.out, plan.name, threads_of(network, splits, judgements, plan))
    records: list[Record] = []
    for judgement in judgements:
        records.append(ask(judgement, network, splits.test, plan, records, place, progress))
    keep_rates(config, plan, records, place)
    return records


def ask(
    judgement: Judgement,
    network: nn.Module,
    split: Split,
    plan: ModelPlan,
    before: list[Record],
    place: RunLocation,
    progress: Progress,
) -> Record:
    """Attack or certify one model, or attack the certificates that it was given before."""
    work: dict[str, Any] = {
        "repair": place.repair,
        "engine": place.engine,
        "progress": progress,
    }
    own: dict[str, Any] = {"name": plan.name, "tags": plan.tags, **work}
    attacks = place.out / NETWORK_ATTACKS
    if isinstance(judgement, CertificateAttack):
        certified = [r for r in before if r.has("certified", judgement.radius)]
        if not certified:
            raise ConfigError(
                f"model {plan.name!r}: certificates are attacked at {judgement.radius:g}, but none "
                "was given there before; certify this radius first"
            )
        return attack_certificates(
            network, split, certified[-1], judgement, records=attacks, **work
        )
    if isinstance(judgement, Rejection):
        return judge_rejection(network, split, judgement, records=attacks, **own)
    if isinstance(judgement, Evaluation):
        return evaluate(network, split, judgement, records=place.out / RECORDS, **own)
    return certify_dataset(network, split, judgement, records=place.out / RECORDS, **own)


def attack_composition(
    plan: CompositionPlan, splits: Splits, place: RunLocation, progress: Progress
) -> Record:
    """Attack one composition of finished models as a whole, and keep its rows and rates."""

    def member(name: str) -> tuple[nn.Module, str, Card]:
        model, card = load_checkpoint(place.checkpoint(name))
        admitted = admit(model, card, splits.test, allow_training_data=True)
        return admitted.network.to(place.device), name, card

    stages = []
    for name, selector in zip(plan.stages, plan.selectors, strict=True):
        network, _, card = member(name)
        stages.append(Stage(network, selector, name, card))
    record = attack_cascade(
        Cascade(tuple(stages), Core(*member(plan.core)), plan.budget),
        splits.test,
        plan.attack,
        records=place.out / COMPOSITION_RECORDS,
        repair=place.repair,
        engine=place.engine,
        progress=progress,
    )
    keep_compositions(place.out / COMPOSITION_RATES, [attacked_rates(record)])
    return record


def threads_of(
    network: nn.Module, splits: Splits, judgements: tuple[Judgement, ...], plan: ModelPlan
) -> dict[str, int]:
    """Processor threads that training and judging a network take."""
    image = splits.test.head(1).images.to(next(network.parameters()))
    rows = max(
        j.rows(splits.test) if isinstance(j, Evaluation | Rejection) else j.rows for j in judgements
    )
    threads = {"judge": suitable_threads(network, image, rows)}
    if plan.train is not None:
        threads["train"] = suitable_threads(network, image, plan.train.batch_size)
    return threads


def picture(config: RunConfig, splits: Splits, records: list[Record], place: RunLocation) -> None:
    """Gallery of the last robust model, decision maps of all models for points of the plane."""
    evaluation = config.evaluation
    if evaluation is None:
        return
    limit = evaluation.limit
    judged = splits.test if limit is None else splits.test.head(limit)
    if config.grid:
        # A map shows one draw; models of other draws only count in the repetitions.
        shown = [plan.name for plan in config.models if plan.data is None]
        models = {name: load_checkpoint(place.checkpoint(name))[0] for name in shown}
        write_regions(place.out, models, judged, records, eps=config.eps[-1], grid=config.grid)
    robust = [record for record in records if record.meta.tags.get("role") == "robust"]
    if config.gallery and robust:
        last = robust[-1]
        model, _ = load_checkpoint(place.checkpoint(last.meta.model))
        write_gallery(
            place.out / GALLERY,
            model.to(place.device),
            judged,
            last,
            evaluation,
            eps=config.eps[0],
            count=config.gallery,
        )
