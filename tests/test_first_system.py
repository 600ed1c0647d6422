"""The newcomer's path: the commands of a page, typed as they stand, from a folder to an answer."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

from recuse.cli.main import main

from .documents import blocks

PAGE = Path(__file__).parents[1] / "docs" / "first-system.md"
# Beside the page's: make an environment, enter it, install, ask over HTTP, stop.
OTHER_COMMANDS = 5
MOST_COMMANDS, MOST_S = 15, 600
CLASSES = ("zero", "one", "two")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Real digits of scikit-learn as somebody's image files."""
    from sklearn.datasets import load_digits

    digits = load_digits(n_class=len(CLASSES))
    for i, (pixels, label) in enumerate(zip(digits.images[:120], digits.target[:120], strict=True)):
        place = tmp_path / "my_images" / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype("uint8")).save(place / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECUSE_DATA", raising=False)
    return tmp_path


@pytest.mark.slow
def test_from_a_folder_of_images_to_an_answer_over_http(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("litserve", reason="serving needs the extra serve")
    from .systems.test_serving_http import started

    typed = [words for block in blocks(PAGE) for words in block.commands()]
    assert len(typed) + OTHER_COMMANDS <= MOST_COMMANDS
    began, said = time.monotonic(), {}
    *before, (_, verb, system) = typed
    assert verb == "serve"
    for words in before:
        assert words[0] == "recuse"
        main(words[1:])
        said[words[1]] = capsys.readouterr().out
    assert (folder / "images.png").is_file()
    assert "Compose" in said["audit"] or "compose" in said["audit"]
    assert (folder / "runs" / "audit" / "audit.html").stat().st_size > 100_000
    assert said["predict"].count("\n") == 1 + 120
    server = started(folder / system, folder / "log")
    try:
        some = sorted((folder / "my_images" / "zero").iterdir())[0]
        status, body = server.send("POST", "/predict", some.read_bytes())
        row = json.loads(body)
        assert status == 200
        assert row["name"] in CLASSES
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(60) == 0
    finally:
        server.end()
    assert time.monotonic() - began < MOST_S
