"""A system as an ONNX file answers as the system does, at the edges of its thresholds too."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from recuse.cli.main import main
from recuse.composition import Cascade, Core, Stage
from recuse.data import Splits
from recuse.errors import ConfigError, DataError
from recuse.models import Mlp
from recuse.models.mixture import mix
from recuse.selectors import Always, EntropyResponse, SelectionNetwork, SoftmaxResponse
from recuse.systems import InputForm, System
from recuse.systems.onnx import OUTPUTS, Answering, export_system
from recuse.systems.pillow import Decoded
from recuse.systems.typed import read_selector

from .conftest import BUDGET, FORM, LABELS, card

needs_onnx = pytest.mark.filterwarnings("ignore")  # ONNX's packages warn about each other


@pytest.fixture
def runtime():
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra onnx)")
    return pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed (extra onnx)"
    ).InferenceSession


def system(stages, core, form=FORM) -> System:
    return System("s", Cascade(tuple(stages), core, BUDGET), LABELS, form)


def judge() -> nn.Module:
    config = Mlp(shape=(1, 8, 8), classes=2, width=8, hidden=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return config.build().eval()


def mixture(robust, accurate):
    members = ((robust, card("era")), (accurate, card("core")))
    return mix("nuts", *members, alpha=0.8, shaping=(2.0, -0.5, 1.5), one_hot=True)


def kinds(robust, accurate) -> dict[str, System]:
    core = Core(accurate, "core", card("core"))
    mixed, about = mixture(robust, accurate)
    soft = Stage(robust, SoftmaxResponse(0.9), "soft", card("soft"))
    return {
        "softmax": system([soft], core),
        "entropy, no core": system([Stage(robust, EntropyResponse(-0.3), "e", card("e"))], None),
        "network": system([Stage(robust, SelectionNetwork(judge()), "n", card("n"))], core),
        "mixture": system([Stage(mixed, Always(), "nuts", about)], None),
        "two": system([soft, Stage(accurate, EntropyResponse(-0.1), "e", card("e"))], core),
    }


def answers(session, images) -> list[np.ndarray]:
    return session.run(list(OUTPUTS), {"images": np.ascontiguousarray(images)})


def same(found, wanted, names=("n",)) -> None:
    label, stage, selected, score = found
    assert [None if v < 0 else v for v in label.tolist()] == wanted.label
    assert selected.tolist() == wanted.selected
    for kept, place, value, answer in zip(selected, stage, score, wanted, strict=True):
        assert np.isnan(value) == (answer.score is None)
        assert not kept or value == pytest.approx(answer.score, rel=1e-5, abs=1e-5)
        assert answer.stage is None or names[place] == answer.stage


@needs_onnx
@pytest.mark.parametrize("kind", ["softmax", "entropy, no core", "network", "mixture", "two"])
def test_the_file_answers_as_the_system(
    kind: str, robust: nn.Module, accurate: nn.Module, digits: Splits, tmp_path: Path, runtime
) -> None:
    deployed, x = kinds(robust, accurate)[kind], digits.test.images[:200]
    export_system(deployed, tmp_path / "s.onnx", pixels="float")
    session = runtime(str(tmp_path / "s.onnx"))
    wanted = deployed.predict(x)
    names = deployed.cascade.names
    same(answers(session, x.numpy()), wanted, names)
    same(answers(session, x[:1].numpy()), deployed.predict(x[:1]), names)
    assert sum(wanted.selected) > 0
    assert kind == "mixture" or sum(wanted.selected) < 200
    kept = session.get_modelmeta().custom_metadata_map
    assert json.loads(kept["labels"]) == list(LABELS)
    assert json.loads(kept["recuse"])["budget"] == "linf:0.05"
    label, stage, selected, _ = answers(session, np.stack([x[0].numpy() * np.nan, x[1] + 2]))
    assert label.tolist() == [-1, -1]  # no images
    assert not selected.any()
    assert stage.tolist() == [len(deployed.cascade.stages)] * 2


class Steps(nn.Module):
    """Logits that every runtime computes without rounding: 4 log-odds for 4 grey values."""

    def forward(self, x):
        return torch.stack([x[:, 0, 0, 0] * 4, x[:, 0, 0, 0] * 0], 1)


@needs_onnx
def test_a_score_that_is_the_threshold_is_selected_and_the_next_below_is_not(
    tmp_path: Path, runtime
) -> None:
    x = torch.linspace(0, 1, 5)[:, None, None, None]
    judged = nn.Sequential(Steps(), nn.Linear(2, 2, bias=False))
    judged[1].weight.data = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    at = 0.1  # not a float32: the nearest one is above it
    for threshold, kept in ((2.0, 3), (np.nextafter(2.0, 3.0), 3), (2.0 + 2**-21, 2), (at, 4)):
        stage = Stage(Steps(), SelectionNetwork(judged.eval(), float(threshold)), "n")
        deployed = System(
            "s", Cascade((stage,), None, BUDGET), ("a", "b"), InputForm(1, (1, 1), None)
        )
        assert sum(deployed.predict(x).selected) == kept
        same(_ran(deployed, x, tmp_path, runtime), deployed.predict(x))
    # Scores of a network's own, every one of them a threshold.
    soft = [SoftmaxResponse(float(v)) for v in Steps()(x).softmax(1).amax(1)]
    for number, selector in enumerate(soft):
        deployed = System(
            "s",
            Cascade((Stage(Steps(), selector, "n"),), None, BUDGET),
            ("a", "b"),
            InputForm(1, (1, 1), None),
        )
        assert deployed.predict(x).selected == [place >= number for place in range(5)]
        with torch.no_grad():
            label, *_ = Answering(deployed, "float").eval()(x)
        assert (label >= 0).tolist() == deployed.predict(x).selected


def _ran(deployed: System, x, folder: Path, runtime):
    from recuse.integrations.onnx import onnx_program

    answering = Answering(deployed, "float").eval()
    return answers(runtime(onnx_program(answering, x, OUTPUTS, {0: "b"}, ())), x.numpy())


@needs_onnx
def test_decoded_images_of_any_size_are_answered_as_their_files(
    robust: nn.Module, accurate: nn.Module, tmp_path: Path, runtime
) -> None:
    draw = np.random.default_rng(0)
    core = Core(accurate, "core", card("core"))
    stage = Stage(robust, SoftmaxResponse(0.6), "soft", card("soft"))
    for crop in (None, "center"):
        deployed = system([stage], core, InputForm(1, (8, 8), "bilinear", crop))
        said = export_system(deployed, tmp_path / "s.onnx")
        assert said == "uint8 [batch, height, width, 1], decoded images, resized inside"
        session = runtime(str(tmp_path / "s.onnx"))
        for size in ((8, 8), (37, 20), (20, 61), (5, 9), (90, 30)):
            images = draw.integers(0, 256, (6, *size, 1), dtype=np.uint8)
            pictures = [Image.fromarray(pixels[:, :, 0]) for pixels in images]
            same(answers(session, images), deployed.predict(pictures), ("soft", "core"))


@pytest.mark.parametrize("crop", [None, "center"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pillow_is_followed_bit_for_bit(crop, channels: int) -> None:
    draw = np.random.default_rng(1)
    for _ in range(60):
        (h, w), size = draw.integers(4, 90, 2), tuple(map(int, draw.integers(1, 40, 2)))
        form = InputForm(channels, size, "bilinear", crop)
        images = draw.integers(0, 256, (2, h, w, channels), dtype=np.uint8)
        found = Decoded(form)(torch.from_numpy(images))
        assert torch.equal(found, form.batch(images))


def test_a_selector_that_searches_is_refused_and_leaves_nothing(
    robust: nn.Module, accurate: nn.Module, tmp_path: Path
) -> None:
    for text in ("indicator", "robust_margin(threshold=0.3)", "certified(certifier=ibp)"):
        stage = Stage(robust, read_selector(text, BUDGET), "era", card("era"))
        with pytest.raises(ConfigError, match=r"'era' stands behind .*--member era"):
            export_system(system([stage], Core(accurate)), tmp_path / "s.onnx")
    assert not list(tmp_path.iterdir())


@needs_onnx
def test_a_file_that_answers_otherwise_is_not_written(
    robust: nn.Module, accurate: nn.Module, tmp_path: Path, runtime, monkeypatch
) -> None:
    deployed = kinds(robust, accurate)["softmax"]
    other = replace(deployed, cascade=kinds(accurate, robust)["softmax"].cascade)
    monkeypatch.setattr("recuse.systems.onnx.Answering", lambda _, pixels: Answering(other, pixels))
    with pytest.raises(DataError, match="random images otherwise than the system"):
        export_system(deployed, tmp_path / "s.onnx")
    assert not list(tmp_path.iterdir())


@needs_onnx
def test_the_command_exports_members_systems_and_models(
    saved: Path, tmp_path: Path, digits: Splits, built: System, runtime, capsys
) -> None:
    x = digits.test.images[:20]
    out = tmp_path / "member.onnx"
    main(["export", str(saved), "--member", "era", "--out", str(out)])
    (logits,) = runtime(str(out)).run(["logits"], {"images": x.numpy()})
    wanted = built.cascade.models[0](x).detach()
    torch.testing.assert_close(torch.from_numpy(logits), wanted, rtol=1e-5, atol=1e-5)
    main(["export", str(saved / "core.safetensors"), "--out", str(tmp_path / "core.onnx")])
    kept = runtime(str(tmp_path / "core.onnx")).get_modelmeta().custom_metadata_map
    assert json.loads(kept["labels"]) == list(LABELS)
    for words, says in (
        ([str(saved)], "stands behind 'indicator'"),
        ([str(saved), "--member", "x"], "no member 'x'; it has era, core"),
        ([str(saved / "core.safetensors"), "--member", "x"], "is no system"),
        (["nowhere"], "nowhere"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["export", *words, "--out", str(tmp_path / "no.onnx")])
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1
    assert not (tmp_path / "no.onnx").exists()
