"""The project's own networks are those that the committed records are of, and say the same."""

import pytest

from recuse.analysis.networks import gather
from recuse.analysis.verdicts import verdicts
from recuse.models import zoo
from recuse.models.checkpoint import load_checkpoint, weights_sha256
from recuse.records.run_folder import read_run

from .test_pages import RESULTS

OWN = sorted(zoo.OWN_FOLDER.glob("*.safetensors"))
LARGEST, ALL = 6e6, 40e6


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_a_card_says_what_the_records_of_its_weights_say(path):
    network, card = load_checkpoint(path)
    assert card.name == path.stem
    assert path.stat().st_size <= LARGEST
    records = read_run(RESULTS / "runs" / card.notes["recipe"]).records
    own = [verdicts(r) for r in records if r.meta.weights == weights_sha256(network)]
    assert set(card.notes["measured by"].split(", ")) == {found.meta.method for found in own}
    found = max(gather(own), key=lambda one: one.samples)  # others met it on a part
    assert f"{found.samples:,} images of {found.meta.dataset}" == card.notes["measured on"]
    right = found.accurate()
    assert card.accuracy["natural_accuracy"] == right.mean()
    for radius in found.radii():
        assert (
            card.accuracy[f"robust_accuracy@linf:{radius}"] == (right & found.robust(radius)).mean()
        )
    for proof in own:
        for radius in proof.radii("certified"):
            share = (proof.accurate() & proof.certified(radius)).mean()
            assert card.accuracy[f"certified_accuracy@linf:{radius}"] == share


def test_all_of_them_are_small():
    assert sum(path.stat().st_size for path in OWN) <= ALL
