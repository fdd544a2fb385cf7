"""Words of the command line that several tools read."""

from __future__ import annotations

import pytest

from mstkit.engine.launch.command_line import parse_seeds
from mstkit.errors import UsageError


@pytest.mark.parametrize('text', ['', '0,a', '-1', '1,,2', '1,1', '0.5'])
def test_seeds_are_whole_numbers(text):
    assert parse_seeds('0, 12') == [0, 12]
    with pytest.raises(UsageError, match='--seeds'):
        parse_seeds(text)
