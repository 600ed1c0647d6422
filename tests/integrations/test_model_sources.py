"""Networks from timm, from the hub and to ONNX: same function, one sentence when it cannot be."""

import builtins
import importlib
from importlib.util import find_spec

import pytest
import torch

from recuse.errors import ConfigError, DataError
from recuse.integrations.hub_models import pull_checkpoint, push_checkpoint
from recuse.integrations.onnx import export_onnx
from recuse.integrations.sources import load_model
from recuse.integrations.timm import load_timm
from recuse.models import (
    SmallConvNet,
    card_for,
    load_checkpoint,
    parse_architecture,
    save_checkpoint,
    weights_sha256,
)
from recuse.models.importing import import_weights
from recuse.models.timm_network import TimmNetwork
from recuse.torchvision_shim import load_torchvision

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is missing (extra hub)")
SMALL = SmallConvNet(channels=1, size=8)


@pytest.fixture
def without(monkeypatch):
    """Make a package look as if it were not installed."""

    def hide(package):
        plain_import, plain_module = builtins.__import__, importlib.import_module

        def guarded(name, *rest, **options):
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
            return plain_import(name, *rest, **options)

        def guarded_module(name, *rest, **options):
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
            return plain_module(name, *rest, **options)

        monkeypatch.setattr(builtins, "__import__", guarded)
        monkeypatch.setattr(importlib, "import_module", guarded_module)

    return hide


@pytest.fixture
def checkpoint(tmp_path):
    card = card_for("digits", SMALL, mean=(0.3,), std=(0.2,))
    path = tmp_path / "digits.safetensors"
    model = card.build().eval()
    return path, model, save_checkpoint(path, model, card)


@pytest.fixture
def unfetched(monkeypatch):
    """timm gives fresh weights where it would fetch its own."""
    load_torchvision(purpose="timm")
    import timm

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **how: create(name, **how))
    return create


@needs_timm
def test_a_timm_network_sees_images_in_zero_to_one(unfetched, tmp_path):
    before = torch.get_rng_state()
    model, card = load_timm("resnet10t")
    assert torch.equal(torch.get_rng_state(), before)
    assert card.architecture == TimmNetwork("resnet10t", 3, 176, 1000)
    assert card.sha256 == weights_sha256(model)
    bare = unfetched("resnet10t").eval()
    bare.load_state_dict(model.network.state_dict())
    mean = torch.tensor(bare.pretrained_cfg["mean"]).view(3, 1, 1)
    std = torch.tensor(bare.pretrained_cfg["std"]).view(3, 1, 1)
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model(x), bare((x - mean) / std))
    written = save_checkpoint(tmp_path / "t.safetensors", model, card)
    loaded, read = load_checkpoint(tmp_path / "t.safetensors")
    assert read == written
    assert torch.equal(loaded(x), model(x))


@needs_timm
@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_weights_of_a_timm_network_are_imported(name, unfetched, tmp_path):
    settings = {"img_size": 32} if name.startswith("vit") else {}
    bare = unfetched(name, num_classes=5, **settings).eval()
    torch.save({"state_dict": bare.state_dict()}, tmp_path / "w.pt")
    arch, normalise = f"timm:{name}(size=32)", ((0.5,) * 3, (0.25,) * 3)
    model, card = import_weights(tmp_path / "w.pt", "w", arch=arch, normalise=normalise)
    assert card.architecture == TimmNetwork(name, 3, 32, 5)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model(x), bare((x - 0.5) / 0.25))


@needs_timm
def test_an_unknown_timm_model_is_named():
    with pytest.raises(ConfigError, match="timm has no model 'resnet_no'; it has, for example"):
        load_timm("resnet_no")


def test_the_hub_gives_back_the_function_that_was_uploaded(checkpoint, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    path, model, card = checkpoint
    stored = {}

    def upload(*, path_or_fileobj, path_in_repo, repo_id):
        stored[repo_id, path_in_repo] = path_or_fileobj

    def download(repository, filename, *, revision):
        if (repository, filename) not in stored:
            raise FileNotFoundError("404: no such file")
        return str(stored[repository, filename])

    monkeypatch.setattr(hub, "upload_file", upload)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    digest = push_checkpoint(path, "someone/digits")
    loaded, read = pull_checkpoint("someone/digits", path.name, sha256=digest)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(loaded(x), model(x))
    assert read == card
    with pytest.raises(DataError, match="expected 000000000000"):
        pull_checkpoint("someone/digits", path.name, sha256="0" * 64)
    with pytest.raises(DataError, match=r"other\.safetensors cannot be fetched: 404"):
        pull_checkpoint("someone/digits", "other.safetensors")
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="truncated"):
        push_checkpoint(path, "someone/digits")


@pytest.mark.filterwarnings("ignore")  # ONNX's packages warn about each other
def test_onnx_answers_as_the_network_does(tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra onnx)")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    model = card_for("digits", SMALL, mean=(0.3,), std=(0.2,)).build()
    export_onnx(model, (1, 8, 8), tmp_path / "net.onnx")
    assert model.training
    images = torch.rand(3, 1, 8, 8)
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model.eval()(images).detach())


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("onnxscript", "onnx", lambda path: export_onnx(SMALL.build(), (1, 8, 8), path)),
        ("huggingface_hub", "hub", lambda path: pull_checkpoint("a/b", "c.safetensors")),
        ("timm", "hub", lambda path: load_timm("resnet18")),
    ],
)
def test_a_missing_package_names_its_extra(package, extra, call, without, tmp_path):
    without(package)
    with pytest.raises(ConfigError, match=rf"recuse\[{extra}\]"):
        call(tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


ONNX_CONFIGS = [
    "small(size=8)",
    "gtsrb_lenet(size=16)",
    "resnet4b(size=8)",
    "resnet18(size=8,width=4)",
    "swish_wide_resnet(depth=10,width=1,size=8)",
    "cifar_resnet(depth=8,size=8)",
]


@pytest.mark.filterwarnings("ignore")  # ONNX's packages warn about each other
class TestOnnxNetworks:
    @pytest.fixture(autouse=True)
    def _installed(self):
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason=f"{package} is not installed (extra onnx)")

    @pytest.mark.parametrize("text", ONNX_CONFIGS)
    def test_a_file_is_the_network_with_its_gradients(self, text, tmp_path):
        config = parse_architecture(text)
        model = card_for("x", config, mean=(0.4, 0.5, 0.3), std=(0.2, 0.3, 0.25)).build().eval()
        export_onnx(model, config.input_shape, tmp_path / "net.onnx")
        loaded, card = load_model(f"onnx:{tmp_path / 'net.onnx'}")
        assert card is None
        x = torch.rand(3, *config.input_shape)
        gradients = []
        for network in (model, loaded):
            images = x.clone().requires_grad_()
            logits = network(images)
            logits.logsumexp(1).sum().backward()
            gradients.append((logits.detach(), images.grad))
        for own, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(own, theirs, rtol=1e-3, atol=1e-4)

    def test_the_normalisation_is_asked_for(self, tmp_path):
        network = SMALL.build().eval()
        path = tmp_path / "net.onnx"
        export_onnx(network, (1, 8, 8), path)
        with pytest.raises(ConfigError, match="does not say how its inputs are normalised"):
            load_model(f"onnx:{path}")
        x = torch.rand(2, 1, 8, 8)
        plain, _ = load_model(f"onnx:{path}(mean=[], std=[])")
        torch.testing.assert_close(plain(x), network(x), rtol=1e-4, atol=1e-5)
        given, _ = load_model(f"onnx:{path}(mean=[0.5], std=[0.25])")
        torch.testing.assert_close(given(x), network((x - 0.5) / 0.25), rtol=1e-4, atol=1e-5)
        for odd in ("(mean=[0.5])", "(mean=0.5, std=0.2)", "(mean=[], std=[], colour=1)", "(mean"):
            with pytest.raises(ConfigError):
                load_model(f"onnx:{path}{odd}")

    def test_what_cannot_be_read_is_one_sentence(self, tmp_path):
        import onnx

        path = tmp_path / "net.onnx"
        with pytest.raises(DataError, match="does not exist"):
            load_model(f"onnx:{path}")
        export_onnx(SMALL.build(), (1, 8, 8), path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="truncated or not an ONNX file") as caught:
            load_model(f"onnx:{path}")
        assert "\n" not in str(caught.value)
        x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 3])
        y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 3])
        graph = onnx.helper.make_graph([onnx.helper.make_node("Sin", ["x"], ["y"])], "g", [x], [y])
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
        with pytest.raises(ConfigError, match="has a node Sin, which is not known here"):
            load_model(f"onnx:{path}(mean=[], std=[])")


def test_a_network_of_the_hub_is_named_by_owner_and_name(checkpoint, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    path, model, card = checkpoint
    asked = []

    def download(repository, filename, *, revision):
        asked.append((repository, filename, revision))
        return str(path)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    for text in ("hub:a/b", "hub:a/b/c.safetensors", "hub:a/b@v1"):
        network, read = load_model(text)
        assert read == card
        assert torch.equal(network.network[0].weight, model.network[0].weight)
    assert asked == [
        ("a/b", "model.safetensors", None),
        ("a/b", "c.safetensors", None),
        ("a/b", "model.safetensors", "v1"),
    ]
