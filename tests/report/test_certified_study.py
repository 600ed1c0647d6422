"""The page of the certified study says only what its rows and settings say."""

import pytest

from recuse.certify import GroupSequential, needed_radius
from recuse.certify.power import BETA
from recuse.errors import RecordError
from recuse.report.study.certified import COUNTED, write_certified


def test_the_radii_that_the_page_names_are_those_of_the_deployed_test():
    for votes, text in ((4_000, "0.2647"), (10_000, "0.2570"), (110_000, "0.2475")):
        needed = needed_radius(GroupSequential(0.12, n_max=votes), 0.12, classes=10)
        assert needed == pytest.approx(float(text), abs=1e-9)
        assert text in " ".join(COUNTED.split())
        assert f"{votes:,}" in COUNTED
    assert f"β = {BETA:g} is" in " ".join(COUNTED.split())


def test_a_folder_without_certified_networks_has_no_page(tmp_path):
    with pytest.raises(RecordError, match="no records below"):
        write_certified(tmp_path, tmp_path)
