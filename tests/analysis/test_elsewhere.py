"""What one run knows of a network, brought into another."""

import pytest

from recuse.analysis.cascade_pool import build_pool
from recuse.analysis.elsewhere import elsewhere
from recuse.analysis.loss_comparison import cells
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import verdicts
from recuse.cli.main import main
from recuse.records.layout import RECORDS
from recuse.records.run_folder import read_run
from recuse.records.store import write_record

from .test_networks import IDS, but, record

FEW = IDS[:4]


@pytest.fixture
def runs(tmp_path):
    """A run of four samples, and another that broke more of its network on six."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    write_record(mine / RECORDS, record([but(0, size=4)] * 2, ids=FEW, tags={"loss": "era"}))
    far = [but(2), but(2, 3, 5), but(1, 2, 3, 5)]
    radii = ("1/255", "2/255", "4/255")
    write_record(theirs / RECORDS, record(far, name="other", radii=radii, method="apgd-dlr"))
    write_record(theirs / RECORDS, record([but(1)] * 2, name="stranger", weights="v"))
    return mine, theirs


def broken(run, radius):
    judged = gather([verdicts(r) for r in read_run(run).records])
    return {s for v in judged if v.meta.model == "m" for s in v.ids.filter(v.broken(radius))}


def test_what_is_broken_there_is_broken_here(runs, capsys):
    mine, theirs = runs
    main(["records", "gather", str(mine), str(theirs)])
    assert f"m: 1 at 1/255, 2 at 2/255 broken in {theirs}" in capsys.readouterr().out
    assert broken(mine, "1/255") == {"s0", "s2"}
    assert broken(mine, "2/255") == {"s0", "s2", "s3"}
    (taken,) = (r for r in read_run(mine).records if r.meta.method == "apgd-dlr")
    assert (taken.meta.settings["found in"], taken.meta.tags) == ("theirs", {"loss": "era"})
    # Our samples and radii, so that no table has other rows than before.
    assert (taken.frame["sample_id"].to_list(), taken.meta.radii) == (FEW, ("1/255", "2/255"))


def test_a_core_of_which_more_is_known_meets_the_same_stages(runs):
    mine, theirs = runs
    write_record(mine / RECORDS, record([but(size=4)] * 2, name="s", ids=FEW, weights="x"))
    main(["records", "gather", str(mine), str(theirs)])
    pool = build_pool(list(read_run(mine).records), dataset="d", eps="1/255", core="m")
    assert (pool.names, pool.left_out) == (("s",), ())
    assert pool.core.robust.tolist() == [False, True, False, True]


def test_what_is_known_is_not_taken_again(runs, capsys):
    mine, theirs = runs
    for _ in range(2):
        main(["records", "gather", str(mine), str(theirs)])
    assert f"{theirs}: nothing that {mine} does not know" in capsys.readouterr().out
    assert len(read_run(mine).records) == 2


def test_the_other_way_round_a_part_of_the_samples_counts(runs):
    mine, theirs = map(read_run, runs)
    ((taken, lost),) = elsewhere(theirs, mine)
    assert (taken.meta.model, lost) == ("other", {"1/255": 1, "2/255": 1})
    assert taken.frame["sample_id"].to_list() == FEW


def test_what_is_broken_at_a_radius_that_is_not_asked_here_counts_at_larger_ones(runs, tmp_path):
    mine, near = runs[0], tmp_path / "near"
    write_record(near / RECORDS, record([but(3)], name="other", radii=("0.001",)))
    main(["records", "gather", str(mine), str(near)])
    assert broken(mine, "1/255") == broken(mine, "2/255") == {"s0", "s3"}


def test_two_runs_of_one_name_both_count(runs, tmp_path):
    mine = runs[0]
    for number in (1, 2):
        run = tmp_path / str(number) / "same"
        write_record(run / RECORDS, record([but(number)] * 2, method="apgd-dlr"))
        main(["records", "gather", str(mine), str(run)])
    assert broken(mine, "1/255") == {"s0", "s1", "s2"}
    assert len(read_run(mine).records) == 2


def test_a_network_of_which_more_is_known_is_compared_once(tmp_path):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    tags = {"dataset": "d", "network": "n", "eps": "1/255", "seed": 0, "era": False}
    for name, role in (("core", "core"), ("m", "robust")):
        judged = [but(0)] * 2
        own = tags | {"role": role, "loss": "at"}
        write_record(mine / RECORDS, record(judged, name=name, weights=name, tags=own))
    write_record(
        theirs / RECORDS,
        record([but(1, size=4)] * 2, name="m", weights="m", ids=FEW, method="apgd-dlr"),
    )
    main(["records", "gather", str(mine), str(theirs)])
    (cell,) = cells(read_run(mine))
    assert cell.values["robust"].tolist() == [0, 0, 1, 1, 1, 1]


def test_networks_of_other_weights_or_images_say_nothing(runs, tmp_path):
    mine, elsewhere_ = runs[0], tmp_path / "elsewhere"
    write_record(elsewhere_ / RECORDS, record([but(1)] * 2, weights="v"))
    write_record(elsewhere_ / RECORDS, record([but(1)] * 2, dataset="e"))
    assert elsewhere(read_run(mine), read_run(elsewhere_)) == []


def test_a_run_that_is_none_is_one_sentence(runs, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["records", "gather", str(runs[0]), str(runs[0].parent / "none")])
    assert ended.value.code == 2
    assert "none" in capsys.readouterr().err
