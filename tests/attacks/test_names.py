"""What a record calls the attack that judged it."""

import pytest

from recuse.attacks import (
    ATTACKS,
    LOSSES,
    Apgd,
    CrossEntropy,
    Dlr,
    Ensemble,
    Pgd,
    Square,
    TargetedDlr,
    attack_name,
)


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (Apgd(), "apgd-ce"),
        (Apgd(steps=7, loss=Dlr()), "apgd-dlr"),
        (Apgd(loss=TargetedDlr(3)), "apgd-targeted-dlr"),
        (Pgd(steps=100), "pgd-ce"),
        (Square(), "square"),
        (Square(loss=CrossEntropy()), "square-ce"),
        (Ensemble((Apgd(), Square())), "ensemble"),
    ],
)
def test_an_attack_is_named_by_its_search_and_what_it_ascends(attack, name):
    assert attack_name(attack) == name


def test_no_two_combinations_share_a_name():
    searches = [kind for kind in ATTACKS.values() if kind is not Ensemble]
    names = [attack_name(kind(loss=loss())) for kind in searches for loss in LOSSES.values()]
    assert len(set(names)) == len(names)


def test_what_no_table_lists_goes_by_its_class():
    class Mine:
        loss = type("Hinge", (), {})()

        def __call__(self, *args, **kwargs): ...

    assert attack_name(Mine()) == "mine-hinge"
