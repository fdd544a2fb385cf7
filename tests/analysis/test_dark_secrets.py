from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.analysis import AttentionMeasures
from mstkit.datasets.plain_reading import read_images
from mstkit.networks import open_networks
from tests.programs import load_program

from ..networks.toy import CONFIG, SWIN, write_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_program('tools/analysis/dark_secrets.py')


@pytest.fixture(scope='module')
def image_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two splits of two classes: dark and bright noise."""
    root, generator = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for split, count in (('train', 6), ('val', 5)):
        for label, top in (('dark', 90), ('light', 255)):
            (root / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(top - 90, top, (50, 60, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / label / f'{index}.png')
    return root


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp('run') / 'some.pth')


@pytest.fixture
def run(tool, tmp_path, monkeypatch, capsys):
    """Runs the tool with its files in ``tmp_path/out``; gives what it printed."""

    def call(*arguments: object, expect: int = 0) -> str:
        code = 0
        more = ['--device', 'cpu', '--num-workers', '0']
        more += [] if '--out' in arguments else ['--out', str(tmp_path / 'out')]
        monkeypatch.setattr(sys, 'argv', ['dark_secrets.py', *map(str, arguments), *more])
        try:
            tool.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        assert code == expect, said
        return said.out if expect == 0 else said.err.strip().splitlines()[-1]

    return call


def table_in(folder: Path) -> list[dict[str, str]]:
    with open(folder / 'out' / 'dark_secrets.csv', newline='') as file:
        return list(csv.DictReader(file))


def values(rows: list[dict[str, str]], **wanted: str) -> list[float]:
    return [float(row['value']) for row in rows if wanted.items() <= row.items()]


def test_both_branches_and_a_random_network(run, image_dir, checkpoint, tmp_path):
    arguments = (checkpoint, f'random:{checkpoint}', '--images', image_dir / 'val', '--batch-size', 4)
    printed = run(*arguments)
    assert '10 images of' in printed and 'written:' in printed
    assert {file.name for file in (tmp_path / 'out').iterdir()} == {
        f'dark_secrets.{end}' for end in ('png', 'pdf', 'csv')
    }
    rows = table_in(tmp_path)
    student, teacher, random = dict.fromkeys(row['network'] for row in rows)
    assert student.endswith('student') and teacher.endswith('teacher') and random.startswith('random')
    # Against the same network and the same images in one batch and in file order.
    (network,) = open_networks(str(checkpoint), 'student')
    view = dict(type='CenterView', resize=network.resize, crop=network.image_size)
    images = read_images(image_dir / 'val', [view], 10).images
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (network.mean, network.std))
    expected = AttentionMeasures()
    network.watch((images.float() - mean) / std, on_attention=expected.update)
    for layer, block in enumerate(expected.result(), 1):
        found = values(rows, network=student, measure='attention_distance_px', layer=str(layer))
        assert found == pytest.approx(block.distance.tolist(), rel=1e-5)
    assert values(rows, network=student, other_network=student, measure='cka', layer='2', other_layer='2') == [
        pytest.approx(1)
    ]
    assert len(values(rows, network=student, other_network=random, measure='cka')) == 9
    # The same again is the same.
    before = (tmp_path / 'out' / 'dark_secrets.csv').read_text()
    run(*arguments)
    assert (tmp_path / 'out' / 'dark_secrets.csv').read_text() == before


def test_without_the_last_blocks_swin_is_read_both_ways(run, image_dir, checkpoint, tmp_path):
    (tmp_path / 'swin.py').write_text(
        f"model = dict(type='MSTAlgorithm', backbone=dict(type='MaskedSwinTransformer', **{SWIN!r}),\n"
        f'    data_preprocessor={CONFIG["model"]["data_preprocessor"]!r})\n'
    )
    run(
        checkpoint, f'random:{tmp_path / "swin.py"}', '--branch', 'student', '--labels', 'one', 'two', '--images',
        image_dir / 'val', '--max-images', 4, '--train', image_dir / 'train', '--val', image_dir / 'val',
        '--most-dropped', 1,
    )  # fmt: skip
    rows = [row for row in table_in(tmp_path) if row['dropped']]
    (metric,) = {row['measure'] for row in rows if row['network'] == 'one'}
    assert metric.endswith('_top1_without_last_of_end')
    kinds = [(row['network'], row['measure'].removeprefix(metric[:-3]), row['dropped']) for row in rows]
    assert kinds == [
        *(('one', 'end', count) for count in '01'),
        *(('two', 'end', count) for count in '01'),
        *(('two', 'stage3', count) for count in '01'),
    ]
    assert all(0 <= float(row['value']) <= 100 for row in rows)
    assert rows[2]['value'] == rows[4]['value'], 'nothing dropped is the same network'


def test_mistakes_exit_with_2_and_one_sentence(run, image_dir, checkpoint, tmp_path):
    images = ('--images', image_dir / 'val')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'few').mkdir()
    for index in range(3):
        Image.new('RGB', (50, 50)).save(tmp_path / 'few' / f'{index}.png')
    (tmp_path / 'file').write_text('')
    cases = [
        (('nonsense:x', *images), "no kind of network called 'nonsense'"),
        ((tmp_path / 'none.pth', *images), 'there is no file'),
        ((checkpoint, '--images', tmp_path / 'empty'), 'holds no images'),
        ((checkpoint, '--images', tmp_path / 'few'), 'has 3 readable images, and CKA needs at least 4'),
        ((checkpoint, *images, '--batch-size', 3), '--batch-size is 3; it must be at least 4'),
        ((checkpoint, *images, '--labels', 'one'), '--labels has 1 names for 2 networks'),
        ((checkpoint, *images, '--labels', 'one', 'one'), "the name 'one' more than once"),
        ((checkpoint, *images, '--train', image_dir / 'train'), 'needs both --train and --val'),
        ((checkpoint, *images, '--train', image_dir / 'train', '--val', image_dir), 'which are splits of a data set'),
        ((checkpoint, *images, '--train', image_dir / 'val', '--val', image_dir / 'val'), 'are the same folder'),
        ((checkpoint, *images, '--out', tmp_path / 'file'), 'cannot be written'),
    ]
    for arguments, says in cases:
        message = run(*arguments, expect=2)
        assert message.startswith('error: ') and says in message, (arguments, message)
    assert not (tmp_path / 'out').exists()


def test_batches_are_even_and_never_too_small(tool):
    class Plain:
        mean, std = (127.5,) * 3, (64.0,) * 3

    for count, size, expected in (
        (10, 4, [5, 5]),
        (256, 100, [86, 85, 85]),
        (7, 64, [7]),
        (9, 5, [5, 4]),
        (13, 4, [5, 4, 4]),
    ):
        images = torch.zeros(count, 3, 2, 2, dtype=torch.uint8)
        assert [len(part) for part in tool.batches(Plain(), 'x', images, size, 'cpu')] == expected
    (first,) = tool.batches(Plain(), 'x', torch.full((4, 3, 2, 2), 255, dtype=torch.uint8), 4, 'cpu')
    assert first.unique().item() == pytest.approx(127.5 / 64)
