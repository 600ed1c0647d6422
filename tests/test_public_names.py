"""What ``import recuse`` offers is fixed, loaded when it is asked for, and the real thing."""

import subprocess
import sys

import pytest

import recuse

NAMES = {
    "Cascade": "recuse.composition.cascade",
    "Core": "recuse.composition.members",
    "Stage": "recuse.composition.members",
    "System": "recuse.systems.system",
    "Threat": "recuse.threat",
    "evaluate": "recuse.evaluation.evaluate",
    "fit": "recuse.training",
    "load": "recuse.systems.folder",
    "load_model": "recuse.integrations.sources",
}


def test_the_list_is_frozen() -> None:
    assert recuse.__all__ == sorted([*NAMES, "certify"], key=lambda n: (n[0].islower(), n))
    assert set(recuse.__all__) <= set(dir(recuse))


@pytest.mark.parametrize("name", NAMES)
def test_names_are_the_real_thing(name: str) -> None:
    found = getattr(recuse, name)
    assert callable(found)
    assert found.__module__.startswith(NAMES[name])


def test_certify_is_a_room_and_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from recuse.evaluation import certify_dataset

    monkeypatch.setattr(certify_dataset, "certify_dataset", lambda *a, **k: (a, k))
    assert recuse.certify(1, name="x") == ((1,), {"name": "x"})
    assert recuse.certify.Cohen


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = recuse.nonsense


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, recuse\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "from recuse import certify, load\n"
        "assert callable(certify) and callable(load)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
