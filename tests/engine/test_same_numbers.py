"""Five seeded steps give what they gave before the step was made faster."""

from __future__ import annotations

import json

import pytest

from tests.engine.same_numbers import CASES, WRITTEN, trained


@pytest.mark.parametrize('case', CASES)
def test_five_steps_give_the_numbers_that_are_written_down(case):
    written, found = json.loads(WRITTEN.read_text())[case], trained(case)
    for name, values in written.items():
        assert found[name] == pytest.approx(values, rel=1e-5, abs=1e-5), name
