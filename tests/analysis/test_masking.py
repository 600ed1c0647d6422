"""What the second look is said to mean depends on how much it broke."""

import pytest

from recuse.analysis.masking import masking_warning
from recuse.analysis.verdicts import verdicts
from recuse.records.schema import Recheck, RecordMeta, make_record

META = RecordMeta("m", "d/test", "apgd-ce", "linf", ("0.1",), "w", {}, 0, {})


@pytest.mark.parametrize(
    ("broken", "meaning"),
    [
        ([], ""),
        ([Recheck.FEWER_STEPS] * 3, "leaves some that a stronger one would break"),
        ([Recheck.BLACK_BOX] * 9, "hides its gradient or is random"),
        ([Recheck.RANDOM], "hides its gradient or is random"),
    ],
)
def test_a_few_broken_answers_are_a_weak_attack_and_many_a_hidden_gradient(broken, meaning):
    signs = [str(sign) for sign in broken] + [str(Recheck.HELD)] * (50 - len(broken))
    columns = {
        "sample_id": [str(i) for i in range(50)],
        "label": [0] * 50,
        "prediction": [0] * 50,
        "accurate": [True] * 50,
        "robust@0.1": [True] * 50,
        "recheck": signs,
    }
    warning = masking_warning(verdicts(make_record(META, columns)))
    assert meaning in warning
    assert bool(warning) == bool(broken)
