from __future__ import annotations

import math
from pathlib import Path

import pytest
from mmengine.config import Config

from mstkit.errors import UsageError
from mstkit.interop import parse_config_text


@pytest.mark.usefixtures('laid_out')
def test_round_trip_of_mmengines_own_text() -> None:
    content = dict(
        model=dict(type='MST', size=(64, 32), rate=-1e-3, names=['a', "b'c"], nested=dict(on=True, off=None)),
        table={'not a name': 1, 'b': [dict(type='X', k=(1,)), dict(type='Y')], 3: 'three'},
        weight=float('inf'),
        empty=dict(),
        words='line one\nline two',
        lists=[[1, 2], (3, 4), []],
    )
    found = parse_config_text(Config(content).pretty_text)
    assert found.to_dict() == Config(content).to_dict()
    assert found.model.nested.on is True


def test_numbers_that_are_names() -> None:
    found = parse_config_text('a = inf\nb = -inf\nc = nan')
    assert found.a == math.inf and found.b == -math.inf and math.isnan(found.c)


@pytest.mark.parametrize(
    'text',
    [
        'import os',
        "a = __import__('os').mkdir('MARK')",
        "a = dict(b=[open('MARK', 'w')])",
        "open('MARK', 'w')",
        'a = [x for x in range(3)]',
        "a = f'{1}'",
        'a = b',
        'a = dict(**{})',
        "a = {**{'x': 1}}",
        'a.b = 1',
        'a = b = 1',
        'def f(): return 1',
        'a = (lambda: 1)()',
        'a = 2 ** 99',
        "a = -'x'",
        'a = dict([(1, 2)])',
        'a = ...',
        'a = (',
        'a = ' + '[' * 500 + ']' * 500,
    ],
)
def test_code_is_refused_and_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match='--config'):
        parse_config_text(text)
    assert list(tmp_path.iterdir()) == []
