"""Cityscapes' ids to train ids: the table, the files, and going on after a break."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from mmseg.datasets import CityscapesDataset
from PIL import Image

from mstkit.downstream import cityscapes_ids
from mstkit.downstream.cityscapes_ids import IDS, TRAINED, Written, to_train_ids, write_train_ids
from mstkit.errors import UsageError
from tests.programs import load_program

from .toy import write_labels

ROOT = Path(__file__).parents[2]
TOOL = 'tools/dataset_converters/cityscapes_train_ids.py'


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for index, city in enumerate(('train/aachen', 'train/bonn', 'val/ulm')):
        for number in range(2):
            ids = random.integers(0, 34, (20, 30), dtype=np.uint8)
            ids[0, 0] = 255  # a license plate
            name = f'{Path(city).name}_{index}_{number}_gtFine'
            write_labels(tmp_path / 'gtFine' / city / f'{name}_labelIds.png', ids)
            write_labels(tmp_path / 'gtFine' / city / f'{name}_color.png', np.zeros((20, 30, 3), np.uint8))
    return tmp_path


def files(root: Path, ending: str) -> list[Path]:
    return sorted((root / 'gtFine').rglob(f'*{ending}'))


# Names by id, of the data set's own scripts; those that are not named are not trained on.
NAMES = {
    7: 'road', 8: 'sidewalk', 11: 'building', 12: 'wall', 13: 'fence', 17: 'pole', 19: 'traffic light',
    20: 'traffic sign', 21: 'vegetation', 22: 'terrain', 23: 'sky', 24: 'person', 25: 'rider', 26: 'car', 27: 'truck',
    28: 'bus', 31: 'train', 32: 'motorcycle', 33: 'bicycle',
}  # fmt: skip


def test_the_classes_that_count_are_mmsegs():
    assert tuple(NAMES[i] for i in TRAINED) == CityscapesDataset.METAINFO['classes']
    assert IDS == 34 and sorted(TRAINED) == sorted(NAMES)


def test_every_id():
    ids = np.arange(34, dtype=np.uint8)[None]
    assert to_train_ids(ids)[0].tolist() == [
        255, 255, 255, 255, 255, 255, 255, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255,
        5, 255, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255, 255, 16, 17, 18,
    ]  # fmt: skip
    assert to_train_ids(np.full((1, 1), 255, np.uint8)).item() == 255
    with pytest.raises(ValueError, match='34, 254'):
        to_train_ids(np.array([[34, 254, 33, 34]], np.uint8))


@pytest.mark.parametrize('jobs', [1, 3])
def test_files_lie_beside_their_sources(cityscapes, jobs):
    assert write_train_ids(cityscapes, jobs) == Written(new=6, already=0)
    sources, written = files(cityscapes, '_labelIds.png'), files(cityscapes, '_labelTrainIds.png')
    assert [path.name.replace('TrainIds', 'Ids') for path in written] == [path.name for path in sources]
    for source, path in zip(sources, written, strict=True):
        with Image.open(source) as before, Image.open(path) as after:
            assert after.mode == 'L' and after.size == before.size
            pairs = zip(np.asarray(before).ravel().tolist(), np.asarray(after).ravel().tolist(), strict=True)
        for old, new in pairs:
            assert new == (TRAINED.index(old) if old in TRAINED else 255)
    assert len(list((cityscapes / 'gtFine').rglob('*'))) == 5 + 3 * 6  # nothing else was left


def test_a_broken_off_run_is_finished(cityscapes, monkeypatch):
    convert = cityscapes_ids._convert

    def stop(source: Path) -> None:
        if 'ulm' in source.name:
            raise KeyboardInterrupt
        convert(source)

    monkeypatch.setattr(cityscapes_ids, '_convert', stop)
    with pytest.raises(KeyboardInterrupt):
        write_train_ids(cityscapes)
    before = {path: path.stat().st_mtime_ns for path in files(cityscapes, '_labelTrainIds.png')}
    assert len(before) == 4
    half = cityscapes / 'gtFine' / 'val' / 'ulm' / '.ulm_2_0_gtFine_labelTrainIds.png.1.partial'
    half.write_bytes(b'half')
    monkeypatch.setattr(cityscapes_ids, '_convert', convert)
    assert write_train_ids(cityscapes) == Written(new=2, already=4)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert not half.exists()
    assert write_train_ids(cityscapes) == Written(new=0, already=6)


def test_train_ids_alone_need_nothing(cityscapes):
    write_train_ids(cityscapes)
    for path in files(cityscapes, '_labelIds.png'):
        path.unlink()
    assert write_train_ids(cityscapes) == Written(new=0, already=6)


def test_mistaken_folders(tmp_path, cityscapes):
    (tmp_path / 'empty' / 'gtFine').mkdir(parents=True)
    for folder, message in (
        (tmp_path / 'nowhere', 'nowhere does not exist'),
        (cityscapes / 'gtFine', f'give the folder above, {cityscapes}'),
        (cityscapes / 'gtFine' / 'val', r'val has no folder gtFine \(it holds ulm\)'),
        (tmp_path / 'empty', r'gtFine holds no \*_gtFine_labelIds.png: unpack'),
    ):
        with pytest.raises(UsageError, match=message):
            write_train_ids(folder)


def test_label_maps_that_are_not_cityscapes(cityscapes):
    path = files(cityscapes, '_labelIds.png')[3]
    for content, message in (
        (np.full((2, 2), 40, np.uint8), 'ids that Cityscapes does not: 40'),
        (np.zeros((2, 2, 3), np.uint8), 'is not a label map of Cityscapes'),
        (np.zeros((2, 2), np.uint16), 'is not a label map of Cityscapes'),
        (None, 'cannot be read'),
    ):
        path.write_bytes(b'') if content is None else write_labels(path, content)
        with pytest.raises(UsageError, match=message) as caught:
            write_train_ids(cityscapes, jobs=2)
        assert path.name in str(caught.value) and '\n' not in str(caught.value)
    assert not path.with_name(path.name.replace('labelIds', 'labelTrainIds')).exists()


def test_the_tool(cityscapes, monkeypatch, capsys):
    tool = load_program(TOOL)
    monkeypatch.setattr(sys, 'argv', ['tool', str(cityscapes), '--jobs', '2'])
    tool.main()
    assert capsys.readouterr().out == '6 label maps written, 0 were there already\n'
    for words, message in (
        ([str(cityscapes / 'gtFine')], 'give the folder above'),
        (['x', '--jobs', '0'], '--jobs is 0'),
    ):
        monkeypatch.setattr(sys, 'argv', ['tool', *words])
        with pytest.raises(SystemExit) as caught:
            tool.main()
        said = capsys.readouterr().err
        assert caught.value.code == 2 and said.startswith('error: ') and message in said and said.count('\n') == 1
