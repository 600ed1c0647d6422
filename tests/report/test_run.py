import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from recuse.analysis.accounting import CoreVerdicts, paper_account, sound_account
from recuse.analysis.intervals import wilson_of
from recuse.analysis.mechanisms import indicator_stage
from recuse.cli.main import main
from recuse.cli.report import report
from recuse.errors import ConfigError, RecordError
from recuse.records.schema import joint_weights, make_record
from recuse.records.store import read_records, write_record
from recuse.report.page.blocks import Gallery, Points, Rate, Spread, Text
from recuse.report.page.html import render_html
from recuse.report.page.values import headings
from recuse.report.run.report import build_report, write_report


def table(page, title):
    return next(t for t in page.tables() if t.title == title)


def row(shown, *start):
    return next(r for r in shown.rows if r[: len(start)] == start)


def test_the_model_table_holds_what_the_records_say(demo_page, known_records):
    shown = table(demo_page, "Every model at every radius")
    assert len(shown.rows) == 3 * 2
    for record in known_records:
        frame = record.frame
        right = frame["accurate"].to_numpy()
        for eps, double in (("8/255", "16/255"), ("16/255", "32/255")):
            stable, sure = frame[f"robust@{eps}"].to_numpy(), frame[f"robust@{double}"].to_numpy()
            found = row(shown, record.meta.model, f"linf {eps}")[2:]
            masks = (right, right & stable, ~right & stable, sure)
            for cell, mask in zip(found, masks, strict=False):
                assert cell.value == np.mean(mask)
                interval = wilson_of(mask)
                assert (cell.low, cell.high) == (interval.low, interval.high)
            if sure.any():
                assert found[4].value == np.mean((right & stable)[sure])


def test_compositions_are_counted_soundly_and_by_the_paper(full_page, known_records):
    records = {r.meta.model: r.frame for r in known_records}
    shown = table(full_page, "Compositions")
    core = records["core"]
    last = CoreVerdicts(core["accurate"].to_numpy(), core["robust@8/255"].to_numpy())
    for name in ("era_1", "trades"):
        frame = records[name]
        near = frame["robust@8/255"].to_numpy()
        stage = indicator_stage(
            frame["accurate"].to_numpy(), near, near, frame["robust@16/255"].to_numpy()
        )
        sound, paper = sound_account([stage], last), paper_account([stage], last)
        cells = row(shown, f"{name} → core", "linf 8/255")[2:]
        natural, cost, robust, gain, attacked, paper_natural, paper_robust, share = cells
        assert natural.value == sound.natural.mean()
        assert robust.value == sound.robust.mean()
        assert paper_natural.value == paper.natural.mean()
        assert paper_robust.value == paper.robust.mean()
        assert share.value == near.mean()
        assert isinstance(gain, Points)
        assert gain.low <= gain.value <= gain.high
        assert cost.value == pytest.approx(sound.natural.mean() - last.accurate.mean())
        assert attacked == (Rate(0.4321) if name == "era_1" else None)


def test_a_network_is_not_composed_with_itself(write_run):
    run = write_run()
    records = list(read_records(run))
    weights = records[0].meta.weights or "a" * 64
    shutil.rmtree(run / "records")
    for record in records:
        write_record(run / "records", replace(record, meta=replace(record.meta, weights=weights)))
    page = build_report([run])
    assert not any("omposition" in found.title for found in page.tables())
    notes = [
        p for s in page.sections for b in s.blocks if isinstance(b, Text) for p in b.paragraphs
    ]
    assert any("A composition needs a network beside the core" in note for note in notes)


def test_the_summary_leads_with_sound_numbers_and_their_price(demo_page):
    cells = row(table(demo_page, "Compositions"), "era_1 → core", "linf 8/255")
    first = demo_page.summary[0]
    assert first.startswith("The better choice here is a composition, era_1 → core. ")
    assert "On 200 samples of digits/test, core alone is right on 95.0\u00a0%" in first
    assert f"stays right on {100 * cells[4].value:.1f}\u00a0%" in first
    shown = {tile.label: tile for tile in demo_page.tiles}
    assert shown["Recommended"].value == "era_1 → core"
    robust = shown["Robust accuracy, sound, linf 8/255"]
    assert robust.value.value == cells[4].value
    assert robust.note == "core alone: 15.0\u00a0%; era_1 alone: 75.0\u00a0%"
    assert "8/255" in first
    assert "16/255" in demo_page.summary[1]


def test_the_recommended_composition_gives_up_at_most_a_point(demo_page):
    shown = table(demo_page, "Compositions")
    chosen = [shown.rows[index] for index in sorted(shown.emphasis)]
    assert [r[:2] for r in chosen] == [
        ("era_1 → core", "linf 8/255"),
        ("era_1 → core", "linf 16/255"),
    ]
    rival = row(shown, "trades → core", "linf 8/255")
    assert rival[4].value > chosen[0][4].value
    assert rival[3].value < -0.01 <= chosen[0][3].value


def test_where_all_are_dear_the_sum_of_both_accuracies_decides(write_run, known_records):
    trades = known_records[2]
    worse = pl.Series("accurate", [i >= 40 for i in range(200)])
    dear = replace(
        trades, meta=replace(trades.meta, model="dear"), frame=trades.frame.with_columns(worse)
    )
    run = write_run(records=[known_records[0], known_records[2], dear])
    shown = table(build_report([run]), "Compositions")
    # Its stage answers everything, so that the composition adds nothing to the model alone.
    assert [shown.rows[i][0] for i in sorted(shown.emphasis)] == ["trades alone", "trades alone"]


def test_every_composition_stands_beside_its_members_alone(demo_page, known_records):
    shown = table(demo_page, "Compositions")
    for record in known_records:
        right, near = (record.frame[c].to_numpy() for c in ("accurate", "robust@8/255"))
        natural, _, robust, *_ = row(shown, f"{record.meta.model} alone", "linf 8/255")[2:]
        assert (natural, robust) == (Rate(right.mean()), Rate((right & near).mean()))
    assert (
        "era_1 alone is right on 90.0\u00a0% and stays right on 75.0\u00a0%" in demo_page.summary[0]
    )
    assert "chosen among 5 systems" in " ".join(demo_page.sections[0].blocks[0].paragraphs)


def test_no_composition_is_advised_where_its_member_alone_is_better(write_run, known_records):
    core, era, _ = known_records
    right = [i >= 11 for i in range(200)]
    strong = make_record(
        replace(era.meta, model="strong"), era.frame.to_dict() | {"accurate": right}
    )
    page = build_report([write_run(records=[core, strong])])
    # At the second radius the pair has 95.0 natural and 50.0 robust, the model 94.5 and 75.0.
    told = "at linf 16/255 is a robust model alone, strong, rather than a composition."
    assert page.summary[1].startswith(f"The better choice {told}")
    assert page.tiles[0].value == "strong → core"


def test_what_the_adversary_broke_is_not_in_the_sound_number(write_run):
    run = write_run()
    before = row(table(build_report([run]), "Compositions"), "era_1 → core", "linf 8/255")
    records = {r.meta.model: r for r in read_records(run)}
    era = records["era_1"].frame
    # Two images that the records call sure, and all that they do not count anyway.
    sure = era["accurate"].to_numpy() & era["robust@16/255"].to_numpy()
    left = sure.copy()
    left[np.flatnonzero(sure)[:2]] = False
    meta = replace(
        records["era_1"].meta,
        model="whatever",
        method="adaptive",
        radii=("8/255",),
        weights=joint_weights(["", ""]),
        settings={"selectors": [{"kind": "RobustnessIndicator", "radius": None}]},
    )
    columns = {"sample_id": era["sample_id"], "robust@8/255": left}
    write_record(run / "compositions", make_record(meta, columns))
    after = row(table(build_report([run]), "Compositions"), "era_1 → core", "linf 8/255")
    assert after[4].value == pytest.approx(left.sum() / 200)
    assert after[4].value < before[4].value
    assert after[6].value == pytest.approx(left.mean())


def test_the_paper_counts_what_the_sound_accounting_does_not(demo_page):
    cells = row(table(demo_page, "Compositions"), "era_1 → core", "linf 8/255")
    assert cells[4].value < cells[7].value
    hidden = row(
        table(demo_page, "What the paper's accounting hides"), "era_1 → core", "linf 8/255"
    )
    assert hidden[2] == round(200 * (cells[7].value - cells[4].value)) == 10
    assert "s0010" in hidden[7]


def bold(shown, name):
    """First cells of the rows in bold in the columns of this name."""
    places = [n for n, c in enumerate(headings(shown)) if c.name == name]
    return {shown.rows[row][:2] for row, place in shown.winners if place in places}


def test_bold_is_who_wins_beyond_the_interval(write_run, known_records):
    core, era, trades = known_records
    twin = replace(era, meta=replace(era.meta, model="twin"))
    page = build_report([write_run(records=[core, era, twin, trades])])
    every = table(page, "Every model at every radius")
    radii = ("linf 8/255", "linf 16/255")
    # 95.0 against 90.0 of the same images; TRADES ties with nobody at the top.
    assert bold(every, "natural accuracy") == {("core", eps) for eps in radii}
    assert bold(every, "robust accuracy") == {("trades", eps) for eps in radii}
    assert bold(every, "robust inaccuracy") == set()  # core, ERA and its twin: 0.0 each
    # Two networks alike before the core: neither wins. TRADES answers everything at 8/255, so
    # that alone it is no better than composed; at 16/255 it is better than all.
    shown = table(page, "Compositions")
    assert bold(shown, "natural") == set()
    assert bold(shown, "robust, sound") == {("trades alone", "linf 16/255")}


def test_every_number_of_every_table_is_on_the_page(full_page):
    text = render_html(full_page)
    rates = [c for t in full_page.tables() for r in t.rows for c in r if isinstance(c, Rate)]
    assert len(rates) > 50
    for cell in rates:
        if not np.isnan(cell.value):
            assert f'data-v="{float(cell.value)}">{100 * cell.value:.1f}' in text


def test_splits_sum_to_one(demo_page):
    for cells in table(demo_page, "The four splits as numbers").rows:
        assert sum(c.value for c in cells if isinstance(c, Rate)) == pytest.approx(1)


def test_whatever_a_run_leaves_is_shown(full_page):
    titles = [s.title for s in full_page.sections]
    assert titles == [
        "What composition gains",
        "Every model",
        "Decision regions",
        "Training",
        "Inputs that were abstained on",
        "How this was computed",
    ]
    assert any(isinstance(b, Gallery) for s in full_page.sections for b in s.blocks)
    text = render_html(full_page)
    assert "(recipe=demo, seed=7, eps=[8/255, 16/255])" in text
    assert "cpu.cores" in text


def test_bare_records_are_enough(write_run):
    run = write_run()
    (run / "config.json").unlink()
    page = build_report([run / "records"])
    assert [s.title for s in page.sections] == [
        "What composition gains",
        "Every model",
        "How this was computed",
    ]


def test_runs_are_compared_in_the_same_tables(write_run, known_records):
    runs = [write_run("one"), write_run("two", known_records[1:])]
    page = build_report(runs)
    shown = table(page, "Every model at every radius")
    assert {r[0] for r in shown.rows} == {"one", "two"}
    # The second run has no core of its own: its models meet the first run's.
    composed = table(page, "Compositions").rows
    assert {r[:2] for r in composed} >= {("one", "era_1 → core"), ("two", "era_1 → core")}
    alike = [row(table(page, "Compositions"), run, "era_1 → core")[3:] for run in ("one", "two")]
    assert alike[0] == alike[1]


def test_folders_of_one_name_are_told_apart(write_run):
    page = build_report([write_run("a/run"), write_run("b/run")])
    assert {r[0] for r in table(page, "Every model at every radius").rows} == {"a/run", "b/run"}


def test_seeds_become_mean_and_standard_deviation(write_run, known_records):
    seeds = [
        replace(
            record, meta=replace(record.meta, model=f"era_s{n}", seed=n, tags=tags | {"seed": n})
        )
        for n, record in enumerate(known_records[1:])
        for tags in [{"role": "robust", "loss": "era"}]
    ]
    page = build_report([write_run(records=[known_records[0], *seeds])])
    cells = row(table(page, "Over several seeds"), "ERA", "linf 8/255", 2)
    robust = [(r.frame["accurate"] & r.frame["robust@8/255"]).mean() for r in known_records[1:]]
    assert isinstance(cells[4], Spread)
    assert cells[4].mean == pytest.approx(np.mean(robust))
    assert cells[4].sd == pytest.approx(np.std(robust, ddof=1))


def test_the_stronger_attack_decides(write_run, known_records):
    era = known_records[1]
    weaker = era.frame.with_columns(*(era.frame[c] | True for c in era.frame.columns if "@" in c))
    weak = replace(era, meta=replace(era.meta, method="pgd"), frame=weaker)
    alone = build_report([write_run("alone")])
    both = build_report([write_run("both", [*known_records, weak])])
    # One row a network, which says what it met; every number is the same as without the weak one.
    for title in ("Every model at every radius", "Compositions"):
        expected = {r[:2]: r[2:] for r in table(alone, title).rows}
        rows = table(both, title).rows
        assert {(r[0], r[2]): r[3:] for r in rows} == expected
        assert len(rows) == len(expected)
        assert {r[1] for r in rows} == {"apgd", "apgd and pgd"}


def test_every_table_and_command_counts_what_any_record_broke(
    write_run, known_records, tmp_path, capsys
):
    """The core again in another folder, under another name, by an attack that broke more of it."""
    core, era, _ = (
        replace(r, meta=replace(r.meta, weights=name * 64))
        for r, name in zip(known_records, "abc", strict=True)
    )
    columns = {c: core.frame[c] for c in core.frame.columns}
    columns["robust@8/255"] = core.frame["robust@8/255"] & pl.Series(np.arange(200) >= 30)
    again = make_record(replace(core.meta, model="resnet", method="apgd-dlr"), columns)
    runs = [write_run("one", [core, era]), write_run("two", [again])]
    page = build_report(runs)
    shown = row(table(page, "Compositions"), "era_1 → core", "linf 8/255")
    main(["compose", *map(str, runs), "--eps", "8/255", "--out", str(tmp_path / "c.json")])
    (counted,) = json.loads((tmp_path / "c.json").read_text())
    alone = {entry["name"]: entry["robust"] for entry in counted["alone"]}
    # Right and robust on 10 to 29 no more: 10 of the 30 that it was robust on.
    assert alone["core"] == pytest.approx(10 / 200)
    cells = [c.name for c in headings(table(page, "Compositions"))]
    place = cells.index("robust, sound")
    assert shown[place].value == counted["sound"] < 0.85
    first = row(table(page, "Every model at every radius"), "one", "core")
    assert first[5].value == pytest.approx(10 / 200)
    capsys.readouterr()
    main(["show", str(runs[0])])
    assert "15.0" in capsys.readouterr().out  # one folder knows what lies in it


def test_what_any_attack_broke_is_not_in_the_sound_number(write_run, known_records):
    core, era, _ = known_records
    columns = [c for c in era.frame.columns if "@" in c]
    backwards = era.frame.with_columns(*(era.frame[c].reverse() for c in columns))
    other = replace(era, meta=replace(era.meta, method="square"), frame=backwards)
    shown = table(build_report([write_run("two", [core, era, other])]), "Compositions")
    robust = row(shown, "era_1 → core", "linf 8/255")[4].value
    near, far = (era.frame[f"robust@{r}"].to_numpy() for r in ("8/255", "16/255"))
    near, far = near & near[::-1], far & far[::-1]
    right = era.frame["accurate"].to_numpy()
    last = CoreVerdicts(core.frame["accurate"].to_numpy(), core.frame["robust@8/255"].to_numpy())
    expected = sound_account([indicator_stage(right, near, near, far)], last).robust
    assert robust == expected.mean()
    alone = table(build_report([write_run("one", [core, era])]), "Compositions")
    assert robust < row(alone, "era_1 → core", "linf 8/255")[4].value


def test_without_labels_only_label_free_rates_are_shown(write_run, known_records):
    bare = known_records[1]
    columns = {c: bare.frame[c] for c in bare.frame.columns if "@" in c or c == "sample_id"}
    page = build_report([write_run(records=[make_record(bare.meta, columns)])])
    cells = row(table(page, "Every model at every radius"), "era_1", "linf 8/255")
    assert cells[2:5] == (None, None, None)
    assert cells[5].value == bare.frame["robust@16/255"].mean()
    assert "no labels" in page.summary[0]
    assert render_html(page)


def test_models_of_one_run_on_different_samples_are_refused(write_run, known_records):
    short = known_records[1]
    cut = make_record(short.meta, short.frame.head(50).to_dict())
    with pytest.raises(RecordError, match="different samples"):
        build_report([write_run(records=[known_records[0], cut])])


def test_hostile_names_do_not_reach_the_markup(write_run, known_records):
    name = "<img src=x onerror=alert(1)></script>"
    era = known_records[1]
    hostile = replace(era, meta=replace(era.meta, model=name))
    text = render_html(build_report([write_run(records=[known_records[0], hostile])]))
    drawn = text[text.index("<body>") : text.index("</main>")]
    assert "<img" not in drawn
    assert "&lt;img src=x onerror" in drawn
    assert drawn.count("</script>") == drawn.count("<script")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[1]"),
        ("environment.json", "nothing"),
        ("composition.json", '[{"name": "x", "attacked": "much"}]'),
        ("training/era_1.jsonl", "not json"),
        ("gallery/gallery.parquet", "no parquet"),
        ("regions.npz", "no npz"),
    ],
)
def test_a_damaged_file_is_named_in_one_sentence(write_run, tmp_path, name, content):
    run = write_run()
    path = run / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(RecordError, match=path.name) as caught:
        write_report([run], tmp_path / "out" / "report.html")
    assert "\n" not in str(caught.value).strip()
    assert not (tmp_path / "out").exists()


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(RecordError, match="no records below"):
        build_report([tmp_path])
    with pytest.raises(RecordError, match="no run"):
        build_report([])


def test_the_verb_writes_beside_the_run(write_run):
    run = write_run()
    report((run,), figures=True)
    assert (run / "report.html").stat().st_size > 500_000
    names = {p.name for p in (run / "figures").iterdir()}
    assert {
        "natural_against_robust.pdf",
        "four_splits.svg",
        "robust_against_inaccuracy.png",
    } <= names
    with pytest.raises(ConfigError, match="no run"):
        report(())


def test_a_report_needs_no_torch(write_run, tmp_path):
    out = tmp_path / "page.html"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from recuse.report.run.report import write_report\n"
        f"write_report([Path({str(write_run(extras=True))!r})], Path({str(out)!r}))\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 500_000


def test_the_config_chooses_the_radii(write_run, known_records):
    run = write_run(eps=(16 / 255,))
    shown = table(build_report([run]), "Every model at every radius")
    assert {r[1] for r in shown.rows} == {"linf 16/255"}


def test_what_was_chosen_is_measured_on_other_samples(demo_page, known_records):
    shown = table(demo_page, "Chosen on one half, measured on the other")
    rows = [r for r in shown.rows if r[1] == "linf 8/255"]
    alone, *systems = rows
    core = known_records[0].frame
    # Halves average to the whole up to their spread; no choice can lose more than it may.
    assert alone[3].mean == pytest.approx(core["accurate"].mean(), abs=0.02)
    assert [r[2] for r in systems] == [0.0] * 3 + [1.0] * 3 + [5.0] * 3
    assert all(r[6].mean >= alone[6].mean - 0.02 for r in systems)
    trades, _, cascade = systems[-3:]
    # At five points TRADES alone, 90.0 and 90.0, is mostly within the loss, and no worse composed.
    assert (trades[0], trades[-1]) == ("a robust model alone", "trades (20 of 20)")
    assert cascade[8].value <= 0
    assert cascade[9] == "0 of 20"


def test_one_robust_model_needs_no_choosing(write_run, known_records):
    page = build_report([write_run(records=known_records[:2])])
    assert "Chosen on one half, measured on the other" not in {t.title for t in page.tables()}
