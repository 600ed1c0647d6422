"""The table of the soak adds up, and no round of any seed left other rows than another."""

import json
from collections import Counter
from pathlib import Path

TABLE = Path(__file__).parents[2] / "results" / "bench" / "soak.json"


def test_the_table_adds_up_and_nothing_was_left_behind() -> None:
    table = json.loads(TABLE.read_text())
    struck, rows, networks = Counter[str](), set(), set()
    for row in table["seeds"]:
        for name, part in row["parts"].items():
            assert part["rounds"] > 0
            struck.update(part["faults"])
            networks |= {part["each round left"].split()[0]} if name == "training" else set()
            rows |= {part["each round left"]} if name != "training" else set()
    assert dict(struck) == table["each"]
    assert table["faults"] == struck.total() >= 200
    assert table["kill -9"] >= 50
    assert struck["S3 server restarted"] > 0
    assert len(rows) == len(networks) == 1
