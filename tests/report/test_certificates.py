"""The certified side of a report: both readings of selection, and compositions by proof."""

from dataclasses import replace

import numpy as np

from recuse.analysis.intervals import wilson_of
from recuse.analysis.measured import measure_all, strongest, verdicts_of
from recuse.analysis.verdicts import add_radii
from recuse.cli.main import main
from recuse.records.schema import make_record
from recuse.report.page.blocks import Rate
from recuse.report.run.report import build_report


def certified(record, samples=32):
    """The same verdicts as proofs by votes, of which twice eps happens to be enough."""
    needs = {radius: add_radii(radius, radius) for radius in record.meta.radii}
    alone = {radius: radius for radius in record.meta.radii}
    told = {"alpha": 0.001, "deployed": {"beta": 0.002, "needs": needs, "alone": alone}}
    columns = {
        name.replace("robust@", "certified@"): record.frame[name] for name in record.frame.columns
    }
    columns["samples"] = np.full(record.frame.height, samples)
    return make_record(replace(record.meta, method="smoothing", settings=told), columns)


def table(page, title):
    return next(t for t in page.tables() if t.title == title)


def row(shown, *start):
    return next(r for r in shown.rows if r[: len(start)] == start)


def test_both_readings_of_certified_selection_are_named(write_run, known_records):
    _, era, _ = known_records
    page = build_report([write_run("proven", [certified(era)])])
    shown = table(page, "Certified models")
    names = [c if isinstance(c, str) else c.name for c in shown.columns]
    assert {"selection at ε, paper", "selection at 2ε, sound"} <= set(names)
    right = era.frame["accurate"].to_numpy()
    near, far = (era.frame[f"robust@{r}"].to_numpy() for r in ("8/255", "16/255"))
    cells = row(shown, "era_1", "linf 8/255")[2:]
    masks = (right, right & near, ~right & near, near)
    for cell, mask in zip(cells, masks, strict=False):
        expected = wilson_of(mask)
        assert cell == Rate(expected.estimate, expected.low, expected.high)
    assert cells[4].value == np.mean(right[near])
    assert cells[5].value == np.mean(far)
    assert cells[6].value == np.mean(right[far])
    assert cells[7] == 32
    assert not [t for t in page.tables() if t.title == "Every model at every radius"]


def test_compositions_by_proof_stand_in_a_table_of_their_own(write_run, known_records):
    core, era, trades = known_records
    run = write_run("both", [core, era, certified(era), certified(trades)])
    page = build_report([run])
    attacked, proven = table(page, "Compositions"), table(page, "Certified compositions")
    assert {r[0] for r in attacked.rows} == {"core alone", "era_1 alone", "era_1 → core"}
    assert {r[0] for r in proven.rows} == {
        "core alone",
        *("era_1 alone", "trades alone"),
        *("era_1 → core", "trades → core"),
    }
    # The core has no certificates, so that only the stage's own proofs at twice eps count.
    right, far = (era.frame[c].to_numpy() for c in ("accurate", "robust@16/255"))
    natural, _, robust, *_ = row(proven, "era_1 → core", "linf 8/255")[2:]
    assert robust.value == np.mean(right & far)
    assert robust.value < row(attacked, "era_1 → core", "linf 8/255")[4].value
    assert natural.value == row(attacked, "era_1 → core", "linf 8/255")[2].value
    assert row(proven, "core alone", "linf 8/255")[4] is None
    # What the votes may fail, beside the number.
    names = [c if isinstance(c, str) else c.name for c in proven.columns]
    assert names.index("fails") == 6
    assert row(proven, "era_1 → core", "linf 8/255")[6] == "0.003"
    assert row(proven, "era_1 alone", "linf 8/255")[6] == "0.003"
    assert row(proven, "core alone", "linf 8/255")[6] is None


def test_old_certificates_by_votes_prove_nothing_of_a_deployed_stage(
    write_run, known_records, capsys
):
    core, era, _ = known_records
    old = replace(certified(era), meta=replace(certified(era).meta, settings={}))
    run = write_run("old", [core, old])
    shown = table(build_report([run]), "Certified compositions")
    cells = row(shown, "era_1 → core", "linf 8/255")
    assert cells[4:7] == (None, None, None)
    assert isinstance(cells[2], Rate)
    main(["compose", str(run), "--eps", "8/255", "--judged-by", "certificates"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "nothing is proven of the deployed system, because the record of era_1" in printed
    assert "certify it again (recuse certify)" in printed


def test_the_verb_composes_certificates(write_run, known_records, tmp_path, capsys):
    core, era, trades = known_records
    run = write_run("both", [core, era, certified(era), certified(trades)])
    out = tmp_path / "composed.json"
    words = ["compose", str(run), "--eps", "8/255", "--out", str(out)]
    main([*words, "--judged-by", "certificates"])
    assert '"kind": "certified"' in out.read_text()
    shown = capsys.readouterr().out
    assert "proven" in shown
    assert "trades" in shown


def test_where_nothing_else_is_composed_the_summary_leads_with_proofs(write_run, known_records):
    core, era, _ = known_records
    page = build_report([write_run("proven", [core, certified(era)])])
    right, far = (era.frame[c].to_numpy() for c in ("accurate", "robust@16/255"))
    proven = f"{100 * np.mean(right & far):.1f}"
    assert f"provably stays right on {proven}\u00a0%" in page.summary[0]
    assert page.tiles[1].label.startswith("Robust accuracy, proven")


def test_the_show_verb_tells_certificates_from_attacks(write_run, known_records, capsys):
    core, era, _ = known_records
    main(["show", str(write_run("both", [core, certified(era)]))])
    lines = capsys.readouterr().out.splitlines()
    assert sum("certified" in line for line in lines) == 3
    assert sum("core" in line for line in lines) == 3


def test_of_two_proofs_the_better_one_decides(known_records):
    _, era, trades = known_records
    weaker = replace(certified(era), meta=replace(certified(era).meta, model="trades"))
    for records in ([weaker, certified(trades)], [certified(trades), weaker]):
        rates = strongest(measure_all(verdicts_of("run", records)))
        assert [m.stable.estimate for m in rates if m.eps == "8/255"] == [1.0]
