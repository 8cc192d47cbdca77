"""The article's worked examples, digit by digit."""

import pytest

from vitreous.errors import UserError
from vitreous.explanation.examples import example


def test_the_first_is_a_convolution():
    found = example(1)
    assert found.output == [[6, 1, 4], [1, 4, 2], [3, 2, 3]]
    assert found.steps[0] == "output size: (5 - 3)/1 + 1 = 3"
    assert found.steps[1].endswith("1*1 + 0*0 + 2*1 + 0*0 + 1*1 + 0*0 + 1*1 + 0*0 + 1*1 = 6")
    assert len(found.steps) == 10
    assert "an X" in found.remarks[0]


def test_the_second_is_sizes_and_parameters():
    found = example(2)
    assert [row["shape"] for row in found.output] == [[64, 224, 224], [64, 112, 112], [128, 112, 112]]
    assert [row["params"] for row in found.output] == [1_792, 0, 73_856]
    assert "(224 - 3 + 2*1)/1 + 1 = 224" in found.steps[0]
    assert "(224 - 2)/2 + 1 = 112" in found.steps[2]


def test_the_third_is_a_residual_block():
    found = example(3)
    assert found.output == [1.045, 0.0]
    assert found.steps[0] == "z1 = W1 x, number 0: 1*0.2 + (-0.5)*0.1 = 0.15"
    assert found.steps[-2].endswith("= 1.045")
    assert any("(-0.485)" in step for step in found.steps)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_has_a_document(number):
    assert {"example", "output", "steps"} <= example(number).to_json().keys()


def test_there_are_no_others():
    with pytest.raises(UserError, match="1 to 3, not 4"):
        example(4)
