"""The config of a run on disk: numbered by its format, and read as older versions wrote it."""

import json
from pathlib import Path
from typing import Any

from recuse.errors import ConfigError
from recuse.serialize import KIND, parse_json, to_plain

# 1 had no number; robust losses held an attack each, and a run one evaluation.
FORMAT = 2
NUMBER = "format"
_LOSSES = ("Adversarial", "Trades", "Mart", "Score", "ScoreJs", "Gairat", "GairTrades")
_OF_OBJECTIVES = ("attack", "batch_norm")
Fields = dict[str, Any]


def config_text(config: object) -> str:
    """What is written for a config: its fields, or those that were read, as JSON."""
    fields = to_plain(config)
    assert isinstance(fields, dict)
    return json.dumps({NUMBER: FORMAT} | fields, indent=1)


def read_config(path: Path) -> Fields:
    """A config as JSON values of this version.

    Raises:
        ConfigError: Not a config, or written by a newer version.
    """
    number, fields = _numbered(path)
    return fields if number == FORMAT else _converted(fields)


def is_older(path: Path) -> bool:
    """Whether an older version wrote a config.

    Raises:
        ConfigError: Not a config, or written by a newer version.
    """
    return _numbered(path)[0] < FORMAT


def _numbered(path: Path) -> tuple[int, Fields]:
    try:
        fields = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as the config of a run: {error}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"{path} is not the config of a run: a JSON object is expected")
    number = fields.pop(NUMBER, 1)
    if type(number) is not int or number < 1:
        raise ConfigError(f"{path} is damaged: format {number!r} is not a number from 1")
    if number > FORMAT:
        raise ConfigError(
            f"{path} was written by a newer version of recuse (format {number}, this one reads up "
            f"to {FORMAT}); update recuse"
        )
    return number, fields


def _converted(value: Any) -> Any:
    """What format 1 meant, in the shape of format 2; that already in this shape stays."""
    if isinstance(value, list):
        return [_converted(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    fields = {key: _converted(entry) for key, entry in value.items() if key != "blend"}
    if "evaluation" in fields and fields.get(KIND) == "RunConfig":
        fields["judgements"] = [fields.pop("evaluation")]
    if _is_old_loss(fields.get("objective")):
        loss, settings = _parted(fields["objective"])
        fields["objective"] = {KIND: "Robust", "loss": loss} | settings
    if _is_old_loss(fields.get("robust")):
        fields["robust"], settings = _parted(fields["robust"])
        if fields.get(KIND) == "LiteralEra":
            fields["robust_attack"] = settings["attack"]
    return fields


def _is_old_loss(value: Any) -> bool:
    return isinstance(value, dict) and value.get(KIND) in _LOSSES and "attack" in value


def _parted(loss: Fields) -> tuple[Fields, Fields]:
    """The formula of a robust loss, and the settings that belong to what trains with it."""
    settings = {key: loss[key] for key in _OF_OBJECTIVES if key in loss}
    return {key: loss[key] for key in loss if key not in settings}, settings


__all__ = ["config_text", "is_older", "read_config"]
