"""Abstaining models from published columns: which of them support a sound number."""

import numpy as np
import pytest

from recuse.analysis.abstainers import Abstainer, indicator, network, response
from recuse.analysis.compositions import core_of
from recuse.analysis.verdicts import Verdicts, verdicts
from recuse.records.schema import RecordMeta, make_record

SAMPLES = 300
RADII = ("1/255", "2/255")


def log(seed: int, **columns) -> Verdicts:
    rng = np.random.default_rng(seed)
    reach = rng.integers(0, 3, SAMPLES)
    given = {
        "sample_id": [f"s{i:03d}" for i in range(SAMPLES)],
        "accurate": rng.random(SAMPLES) < 0.8,
        "robust@1/255": reach > 0,
        "robust@2/255": reach > 1,
    }
    return verdicts(make_record(RecordMeta("m", "d", "apgd", "linf", RADII), given | columns))


def abstainers() -> dict[str, Abstainer]:
    rng = np.random.default_rng(1)
    confidence = {"confidence": rng.random(SAMPLES), "adv_confidence@2/255": rng.random(SAMPLES)}
    chosen = {
        "selected": rng.random(SAMPLES) < 0.7,
        "selected_robust@1/255": rng.random(SAMPLES) < 0.5,
    }
    return {
        "RI": indicator(log(0), "1/255"),
        "SR": response(log(0), log(0, **confidence), "1/255", 0.6),
        "SN": network(log(0, **chosen), "1/255"),
    }


def test_softmax_response_has_no_sound_number_from_logs_of_a_confidence_attack() -> None:
    core = core_of(log(5), "1/255")
    bounds = {name: model.sound(core) for name, model in abstainers().items()}
    assert bounds["SR"] is None
    assert bounds["RI"] is not None
    assert bounds["SN"] is not None


@pytest.mark.parametrize("method", ["RI", "SR", "SN"])
def test_natural_accuracy_is_that_of_the_deployed_selector(method: str) -> None:
    model, core = abstainers()[method], core_of(log(5), "1/255")
    expected = np.where(model.stage.selects, model.stage.accurate, core.accurate)
    np.testing.assert_array_equal(model.natural(core), expected)
