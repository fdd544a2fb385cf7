"""One check for each kind of value: what passes, what is refused, and the words."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from mstkit.errors import UsageError
from mstkit.utils.checks import (
    check_count,
    check_dict,
    check_flag,
    check_list,
    check_names,
    check_number,
    check_one_of,
    check_probability,
    check_range,
    check_size,
    check_text,
    check_workers,
    settings_from,
)

NO_NUMBERS: tuple[Any, ...] = (
    True,
    False,
    None,
    '1',
    '',
    [],
    [1],
    {},
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    1j,
    torch.ones(1),
    object(),
)


@pytest.mark.parametrize('value', NO_NUMBERS, ids=lambda value: repr(value).partition(' at 0x')[0][:20])
@pytest.mark.parametrize('check', [check_number, check_probability, check_size])
def test_what_is_no_number(check, value):
    with pytest.raises(UsageError, match=r'^a\.b is .*: give a (whole )?number'):
        check('a.b', value)


def test_numbers_within_bounds():
    assert check_number('x', 3) == 3.0 and type(check_number('x', 3)) is float
    assert check_number('x', np.float32(0.5), 0, 1) == 0.5 and type(check_number('x', np.float32(0.5))) is float
    assert check_number('x', -1e300) == -1e300
    assert check_number('x', 0, 0) == 0 and check_number('x', 1, 0, 1) == 1
    assert check_probability('x', 1) == 1.0


@pytest.mark.parametrize(
    ('value', 'bounds', 'words'),
    [
        (-1, dict(low=0), 'give a number of at least 0.'),
        (2, dict(high=1), 'give a number of at most 1.'),
        (2, dict(low=0, high=1), 'give a number in [0, 1].'),
        (0, dict(above=0), 'give a number above 0.'),
        (1, dict(low=0, below=1), 'give a number of at least 0 and below 1.'),
        (1.0, dict(above=0, below=1), 'give a number above 0 and below 1.'),
        (math.nan, {}, 'give a number.'),
    ],
)
def test_the_words_say_the_bounds(value, bounds, words):
    with pytest.raises(UsageError) as caught:
        check_number('x', value, **bounds)
    assert str(caught.value) == f'x is {value!r}: {words}'


def test_whole_numbers():
    assert check_count('x', 0, 0) == 0
    assert type(check_count('x', np.int64(7), 1)) is int
    for value in (0, 2.0, 1.5, -1):
        with pytest.raises(UsageError, match='give a whole number of at least 1'):
            check_count('x', value, 1)
    with pytest.raises(UsageError, match=r'give a whole number in \[1, 3\]'):
        check_count('x', 4, 1, 3)
    assert check_count('x', 2**63 - 1, 1) == 2**63 - 1
    with pytest.raises(UsageError, match=r'give a whole number in \[1, 9\.22'):  # no tensor holds it
        check_count('x', 2**63, 1)
    with pytest.raises(UsageError, match='1048576'):
        check_size('x', 10**9)


def test_ranges():
    assert check_range('x', (0, 1), 0, 1) == (0.0, 1.0)
    assert check_range('x', np.array([0.5, 0.5])) == (0.5, 0.5)
    no_pairs: tuple[Any, ...] = (1, '12', None, (1,), (1, 2, 3), {1: 2, 3: 4}, {1, 2}, np.float64(1), torch.tensor(1.0))
    for value in no_pairs:
        with pytest.raises(UsageError, match='give two numbers'):
            check_range('x', value)
    for value in ((0, math.nan), (0, True), (0, None), (-1, 0)):
        with pytest.raises(UsageError, match=r'^x\[[01]\] is .*: give a number of at least 0'):
            check_range('x', value, 0)
    with pytest.raises(UsageError, match='give a number above 0'):
        check_range('x', (0, 1), above=0)
    with pytest.raises(UsageError, match='the smaller number first'):
        check_range('x', (1, 0))


def test_lists():
    assert check_list('ks', (1, 2), check_count, 1) == [1, 2]
    assert check_list('ks', [0.5], check_number, low=0) == [0.5]
    no_lists: tuple[Any, ...] = ((), 3, '12', {}, None, {1})
    for value in no_lists:
        with pytest.raises(UsageError, match=r'^ks is .*: give a list of at least one\.'):
            check_list('ks', value, check_count, 1)
    with pytest.raises(UsageError, match=r'^ks\[1\] is 0: give a whole number of at least 1\.'):
        check_list('ks', [1, 0], check_count, 1)
    assert check_names('names', ['a', 'b']) == ['a', 'b']
    with pytest.raises(UsageError, match=r"^names is 'cat': give a list, \['cat'\]\."):
        check_names('names', 'cat')
    with pytest.raises(UsageError, match=r'^names\[0\] is 1: give a text'):
        check_names('names', [1])


def test_choices():
    assert check_one_of('norm', None, (None, 'all')) is None
    assert check_one_of('k', 1, (0, 1)) == 1
    with pytest.raises(UsageError, match=r"^norm is 'al': give None, 'all' or 'global_only'\. Did you mean all\?$"):
        check_one_of('norm', 'al', (None, 'all', 'global_only'))
    no_choices: tuple[Any, ...] = (True, [], {}, math.nan)
    for value in no_choices:
        with pytest.raises(UsageError, match='give 0 or 1'):
            check_one_of('k', value, (0, 1))


def test_flags_and_texts():
    assert check_flag('x', True) is True and check_flag('x', False) is False
    no_flags: tuple[Any, ...] = (0, 1, 'True', '', None, [], 1.0)
    for value in no_flags:
        with pytest.raises(UsageError, match='give True or False'):
            check_flag('x', value)
    assert check_text('x', 'a') == 'a'
    no_texts: tuple[Any, ...] = ('', ' ', 1, None, b'a')
    for value in no_texts:
        with pytest.raises(UsageError, match='give a text'):
            check_text('x', value)
    assert check_dict('x', {}) == {}
    for value in ([], 'a', None):
        with pytest.raises(UsageError, match='give a dict'):
            check_dict('x', value)


def test_settings_of_a_dataclass():
    @dataclasses.dataclass
    class Settings:
        where: str
        size: int
        scale: float = 1.0

    assert settings_from(Settings, dict(size=3), 'a.b') == Settings('a.b', 3)
    for values, words in [
        ([1], 'give a dict with some of size, scale'),
        (dict(size=1, scal=2), r"a\.b has no setting 'scal'\. Did you mean scale\?"),
        (dict(scale=2), r'a\.b has no size: give one'),
    ]:
        with pytest.raises(UsageError, match=words):
            settings_from(Settings, values, 'a.b')


@pytest.mark.parametrize(('processors', 'most'), [(None, 128), (2, 128), (64, 512)])
def test_worker_processes_are_bounded_by_the_machine(monkeypatch, processors, most):
    monkeypatch.setattr('os.cpu_count', lambda: processors)
    assert [check_workers('n', count) for count in (0, 1, most)] == [0, 1, most]
    for bad in (-1, most + 1, *NO_NUMBERS):
        with pytest.raises(UsageError, match=r'^n is .*: give a whole number in'):
            check_workers('n', bad)
