"""The models verbs print what is there, without needing more than a folder."""

from recuse.cli.models import list_, show
from recuse.models import SmallConvNet, card_for, save_checkpoint


def test_list_and_show_print_a_checkpoint(tmp_path, capsys):
    folder = tmp_path / "models"
    folder.mkdir()
    config = SmallConvNet(channels=1, size=8)
    rates = {
        "natural_accuracy": 0.973,
        "robust_accuracy@linf:2/255": 0.851,
        "pgd20_200@2/255": 0.9,
        "robust_inaccuracy@linf:2/255": 0.01,
        "robust_accuracy@linf:1/255": 0.92,
    }
    facts = {"norm": "linf", "eps": "2/255", "accuracy": rates}
    card = card_for("digits_era", config, mean=(0.3,), std=(0.2,), **facts)
    written = save_checkpoint(folder / "digits_era.safetensors", card.build(), card)
    (folder / "odd.safetensors").write_bytes(b"x")
    list_(data_root=tmp_path)
    listed = capsys.readouterr().out
    assert "digits_era" in listed
    assert "linf:2/255" in listed
    assert "97.3" in listed
    assert "85.1 at 2/255" in listed
    assert f"cannot be used: odd: {folder / 'odd.safetensors'} is truncated" in listed
    show(str(folder / "digits_era.safetensors"))
    shown = capsys.readouterr().out
    assert written.sha256 in shown
    assert "(1, 8, 8) in [0, 1]" in shown
    assert f"{sum(p.numel() for p in config.build().parameters()):,}" in shown
