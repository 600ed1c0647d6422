"""What is saved comes back bit for bit; what is damaged is refused in one sentence."""

import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from recuse.errors import ConfigError, DataError
from recuse.models import (
    CifarResNet,
    Mlp,
    Preprocessing,
    SmallConvNet,
    SwishWideResNet,
    card_for,
    load_checkpoint,
    load_foreign,
    read_card,
    save_checkpoint,
    weights_sha256,
)
from recuse.models.cards import Card

SMALL = SmallConvNet(channels=1, size=8, dropout=0.1)
CARD = card_for(
    "digits/core",
    SMALL,
    mean=(0.3,),
    std=(0.2,),
    origin="trained here",
    training="TRADES",
    norm="linf",
    eps="2/255",
    accuracy={"natural_accuracy": 0.97},
    label_names=tuple("0123456789"),
    licence="CC0",
    notes={"beta": 1.0},
)


def trained(card):
    """A network whose weights and statistics are not its initial ones."""
    torch.manual_seed(1)
    model = card.build().train()
    model(torch.rand(8, *card.preprocessing.shape)).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(0.1 * parameter.grad)
    return model


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "core.safetensors"
    model = trained(CARD)
    return path, model, save_checkpoint(path, model, CARD)


@pytest.mark.parametrize(
    "config",
    [SMALL, CifarResNet(depth=8, size=8), Mlp(), SwishWideResNet(depth=10, width=1, size=8)],
    ids=repr,
)
def test_a_checkpoint_is_the_identical_function(config, tmp_path):
    channels = config.input_shape[0] if len(config.input_shape) == 3 else 0
    card = card_for("net", config, mean=(0.4,) * channels, std=(0.3,) * channels)
    model = trained(card).eval()
    written = save_checkpoint(tmp_path / "net.safetensors", model, card)
    before = torch.get_rng_state()
    loaded, read = load_checkpoint(tmp_path / "net.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(5, *config.input_shape)
    assert torch.equal(loaded(x), model(x))
    assert not loaded.training
    assert read == written == card.with_sha256(weights_sha256(model))
    state = loaded.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_the_card_travels_whole_and_can_be_read_alone(saved):
    path, model, written = saved
    assert read_card(path) == written
    assert written == CARD.with_sha256(weights_sha256(model))
    assert Card.from_json(written.to_json()) == written


def test_only_the_finished_file_is_left(saved):
    path, _, _ = saved
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_saving_leaves_the_model_alone(saved):
    _, model, _ = saved
    assert model.training
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())


def test_the_digest_ignores_layout_and_mode_and_sees_one_bit():
    model = trained(CARD)
    digest = weights_sha256(model)
    assert weights_sha256(model.to(memory_format=torch.channels_last).eval()) == digest
    weight = model.network[0].weight
    with torch.no_grad():
        weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))
    assert weights_sha256(model) != digest


def test_the_digest_sees_the_normalisation():
    model = trained(CARD)
    other = replace(CARD, preprocessing=replace(CARD.preprocessing, mean=(0.4,))).build()
    other.network.load_state_dict(model.network.state_dict())
    assert weights_sha256(other) != weights_sha256(model)


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_truncated_file_is_refused(saved, keep):
    path, _, _ = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="truncated"):
        load_checkpoint(path)


def test_one_flipped_bit_in_the_weights_is_found(saved):
    path, _, _ = saved
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="SHA-256"):
        load_checkpoint(path)


def test_a_card_with_another_digest_is_refused(saved, tmp_path):
    path, _, written = saved
    with safe_open(path, framework="pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    swapped = written.with_sha256("0" * 64)
    save_file(
        tensors, tmp_path / "swapped.safetensors", {"format": "recuse-1", "card": swapped.to_json()}
    )
    with pytest.raises(DataError, match=r"SHA-256 .* card says 000000000000"):
        load_checkpoint(tmp_path / "swapped.safetensors")


def test_tensors_that_do_not_fit_the_card_are_refused(saved, tmp_path):
    _, _, written = saved
    tensors = {"network.0.weight": torch.zeros(1)}
    metadata = {"format": "recuse-1", "card": written.to_json()}
    save_file(tensors, tmp_path / "short.safetensors", metadata)
    with pytest.raises(DataError, match="tensors are missing"):
        load_checkpoint(tmp_path / "short.safetensors")


def test_safetensors_without_a_card_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(DataError, match="no model card"):
        load_checkpoint(tmp_path / "plain.safetensors")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"kind": "Preprocessing", "mean": [], "std": []}',
        '{"kind": "Card", "name": "x", "architecture": {"kind": "Other"}}',
        json.dumps({**json.loads(CARD.to_json()), "label_names": ["a"]}),
        json.dumps({**json.loads(CARD.to_json()), "surprise": 1}),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(text):
    with pytest.raises(DataError, match="card"):
        Card.from_json(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.safetensors does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_model_that_could_not_be_loaded_back_is_not_written(tmp_path):
    path = tmp_path / "other.safetensors"
    with pytest.raises(ConfigError, match="does not fit the card"):
        save_checkpoint(path, nn.Linear(2, 2), CARD)
    assert not path.exists()
    with pytest.raises(ConfigError, match=r"must end in \.safetensors"):
        save_checkpoint(tmp_path / "other.pt", trained(CARD), CARD)


def test_a_failing_overwrite_keeps_the_old_checkpoint(saved, monkeypatch):
    path, model, _ = saved
    before = path.read_bytes()

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(Exception, match="No space left"):
        save_checkpoint(path, model, CARD)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


FOREIGN = card_for("foreign", SMALL, mean=(0.3,), std=(0.2,))


@pytest.mark.parametrize("wrapper", ["bare", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_foreign_weights_load_however_they_are_wrapped(wrapper, prefix, tmp_path):
    network = SMALL.build()
    state = {prefix + k: v for k, v in network.state_dict().items()}
    torch.save(state if wrapper == "bare" else {wrapper: state, "epoch": 3}, tmp_path / "w.pt")
    before = torch.get_rng_state()
    model, card = load_foreign(tmp_path / "w.pt", FOREIGN)
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(model(x), network.eval()((x - 0.3) / 0.2))
    assert card.sha256 == weights_sha256(model)
    assert load_foreign(tmp_path / "w.pt", card)[1] == card


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code in a weight file was run",))


def test_code_in_a_foreign_file_is_never_run(tmp_path):
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(Bomb(), protocol=2))
    for name in ("bomb.pt", "bomb.pkl"):
        with pytest.raises(DataError, match="more than plain tensors") as caught:
            load_foreign(tmp_path / name, FOREIGN)
        assert "\n" not in str(caught.value)


def test_foreign_files_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "w.pt"
    with pytest.raises(DataError, match="do not exist"):
        load_foreign(path, FOREIGN)
    torch.save(SmallConvNet(channels=1, size=12).build().state_dict(), path)
    with pytest.raises(DataError, match=r"'network.5.weight'|'5.weight' has shape"):
        load_foreign(path, FOREIGN)
    torch.save([1, 2], path)
    with pytest.raises(DataError, match="not a state dict"):
        load_foreign(path, FOREIGN)
    torch.save(SMALL.build().state_dict(), path)
    with pytest.raises(DataError, match="expected 000000000000"):
        load_foreign(path, FOREIGN.with_sha256("0" * 64))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"w\.pt"):
        load_foreign(path, FOREIGN)


def test_foreign_weights_of_a_network_without_normalisation(tmp_path):
    network = Mlp().build()
    torch.save(network.state_dict(), tmp_path / "m.pt")
    model, _ = load_foreign(tmp_path / "m.pt", card_for("mlp", Mlp()))
    x = torch.rand(3, 2)
    assert torch.equal(model(x), network.eval()(x))
    assert Preprocessing(shape=(2,)) == card_for("mlp", Mlp()).preprocessing


def test_a_card_that_asks_for_more_than_any_memory_is_refused_at_once(tmp_path):
    greedy = replace(CARD, architecture=replace(SMALL, size=400_000))
    tensors = {k: v.clone() for k, v in CARD.build().state_dict().items()}
    metadata = {"format": "recuse-1", "card": greedy.to_json()}
    save_file(tensors, tmp_path / "greedy.safetensors", metadata)
    with pytest.raises(DataError, match=r"does not fit the architecture: .* expected \(100, 32"):
        load_checkpoint(tmp_path / "greedy.safetensors")


def test_half_the_bits_are_the_function_of_the_rounded_weights(tmp_path):
    config = CifarResNet(depth=8, size=8)
    card = card_for("net", config, mean=(0.4914,) * 3, std=(0.2471,) * 3)
    model = trained(card).eval()
    whole = save_checkpoint(tmp_path / "whole.safetensors", model, card)
    written = save_checkpoint(tmp_path / "half.safetensors", model, card, half=True)
    loaded, read = load_checkpoint(tmp_path / "half.safetensors")
    assert read == written != whole
    assert written.sha256 == weights_sha256(loaded)
    for name, tensor in model.state_dict().items():
        rounded = name.startswith("network.") and tensor.dim() > 1
        expected = tensor.half().float() if rounded else tensor
        assert torch.equal(loaded.state_dict()[name], expected)
        assert loaded.state_dict()[name].dtype == tensor.dtype
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.6 * sizes[1]
    again = save_checkpoint(tmp_path / "again.safetensors", loaded, card, half=True)
    assert again == written


def test_weights_beyond_16_bits_are_not_rounded_to_infinity(tmp_path):
    model = trained(CARD)
    with torch.no_grad():
        model.network[0].weight[0, 0, 0, 0] = 1e5
    with pytest.raises(ConfigError, match=r"'network\.0\.weight' .* beyond 16 bits"):
        save_checkpoint(tmp_path / "net.safetensors", model, CARD, half=True)
    assert not list(tmp_path.iterdir())
