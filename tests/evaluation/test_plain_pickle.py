from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.plain_pickle import read_plain_pickle

# {'imlist': ['a'], 'x': array([3, 5])} as Python 2.7 with numpy wrote it: names of its old modules, strings of bytes.
PYTHON_2 = (
    b"(dp0\nS'imlist'\np1\n(lp2\nS'a\\xe9'\np3\nasS'x'\np4\ncnumpy.core.multiarray\n_reconstruct\np5\n"
    b"(cnumpy\nndarray\np6\n(I0\ntp7\nS'b'\np8\ntp9\nRp10\n(I1\n(I2\ntp11\ncnumpy\ndtype\np12\n(S'i8'\np13\n"
    b"I0\nI1\ntp14\nRp15\n(I3\nS'<'\np16\nNNNI-1\nI-1\nI0\ntp17\nbI00\n"
    b"S'\\x03\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x05\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\np18\ntp19\nbs."
)


def write(path: Path, data: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(data, protocol))
    return path


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(tmp_path, protocol):
    data = {
        'names': ['a', 'ü'],
        'array': np.arange(6, dtype=np.int32).reshape(2, 3),
        'empty': np.zeros(0, np.int64),
        'floats': np.array([1.5, -2.0]),
        'number': np.int64(7),
        'float': np.float64(0.25),
        'nested': [(1, 2.5), None, True, {'x': np.array([1])}],
    }
    assert read_plain_pickle(write(tmp_path / 'a.pkl', data, protocol)) == {
        'names': ['a', 'ü'],
        'array': [[0, 1, 2], [3, 4, 5]],
        'empty': [],
        'floats': [1.5, -2.0],
        'number': 7,
        'float': 0.25,
        'nested': [[1, 2.5], None, True, {'x': [1]}],
    }


def test_pickles_of_python_2(tmp_path):
    (tmp_path / 'old.pkl').write_bytes(PYTHON_2)
    assert read_plain_pickle(tmp_path / 'old.pkl') == {'imlist': ['a\xe9'], 'x': [3, 5]}


class MakesFolder:
    """Runs ``os.mkdir`` when it is unpickled in the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


class Evaluates:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return eval, (f'__import__("os").mkdir({self.path!r})',)


@pytest.mark.parametrize('kind', [MakesFolder, Evaluates])
def test_nothing_is_run(tmp_path, kind):
    made = tmp_path / 'made'
    for number, data in enumerate(({'gnd': kind(made)}, np.array([kind(made)], dtype=object))):
        path = write(tmp_path / f'{number}.pkl', data)
        with pytest.raises(UsageError, match=r'not plain data \(nothing was executed\)') as caught:
            read_plain_pickle(path)
        assert '\n' not in str(caught.value)
        assert not made.exists()
    pickle.loads(path.read_bytes())
    assert made.exists(), 'the trap works'


def test_what_is_no_plain_data(tmp_path):
    circle: list = []
    circle.append(circle)
    for data in (Path('x'), {1, 2}, circle, 3j, np.array([1 + 2j])):
        with pytest.raises(UsageError, match='not plain data'):
            read_plain_pickle(write(tmp_path / 'a.pkl', data))
    odd = b'c_codecs\nencode\n(Vabc\nVrot13\ntR.'
    (tmp_path / 'odd.pkl').write_bytes(odd)
    with pytest.raises(UsageError, match='rot13'):
        read_plain_pickle(tmp_path / 'odd.pkl')


def test_damaged_files(tmp_path):
    whole = write(tmp_path / 'a.pkl', {'a': list(range(100))}).read_bytes()
    for content in (whole[:50], b'', b'\x89PNG\r\n', b'just words'):
        (tmp_path / 'b.pkl').write_bytes(content)
        with pytest.raises(UsageError, match='not a complete pickle'):
            read_plain_pickle(tmp_path / 'b.pkl')
    with pytest.raises(UsageError, match='cannot be read'):
        read_plain_pickle(tmp_path / 'none.pkl')
