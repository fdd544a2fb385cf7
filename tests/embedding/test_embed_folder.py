"""Features of a folder: right, complete, resumed after an interruption, and written whole or not at all."""

from __future__ import annotations

import fcntl
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mstkit.embedding import embed_folder, feature_files, part_files
from mstkit.errors import UsageError
from mstkit.networks import Network, load
from tests.networks.toy import write_checkpoint
from tests.programs import run_program


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp('run') / 'epoch_1.pth')


@pytest.fixture(scope='module')
def network(checkpoint) -> Network:
    return load(checkpoint, device='cpu')


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten images of two classes at several depths, and a file that is none."""
    random = np.random.default_rng(0)
    for number in range(10):
        place = tmp_path / 'images' / ('cat' if number % 2 else 'dog/deeper') / f'{number}.png'
        place.parent.mkdir(parents=True, exist_ok=True)
        size = (int(random.integers(40, 60)), int(random.integers(40, 60)), 3)
        Image.fromarray(random.integers(0, 255, size, dtype=np.uint8)).save(place)
    (tmp_path / 'images' / 'cat' / 'notes.txt').write_text('none')
    return tmp_path / 'images'


@pytest.fixture
def embed(network, folder, tmp_path) -> Callable[..., Any]:
    """Runs in batches of three, each a part of its own."""

    def run(name: str = 'features.npz', of: Network = network, **settings: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules['mstkit.embedding.embed_folder'], 'PART_BYTES', 1)  # the function has its name
            return embed_folder(of, folder, tmp_path / name, **{'batch_size': 3, 'num_workers': 0, **settings})

    return run


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as found:  # without pickles
        return dict(found)


def test_each_image_has_its_feature_name_and_label(embed, network, folder, tmp_path):
    done = embed()
    found = arrays(tmp_path / 'features.npz')
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.png'))
    assert found['names'].tolist() == names
    assert found['features'].dtype == np.float32
    for name, feature, label in zip(names, found['features'], found['labels'], strict=True):
        expected = network(network.transform(folder / name)[None]).pooled[0]
        torch.testing.assert_close(torch.from_numpy(feature), expected)
        assert found['classes'][label] == name.partition('/')[0]
    about = json.loads(str(found['about']))
    assert about['branch'] == 'teacher' and about['weights'] == network.fingerprint
    assert done.images == 10 and done.shape == (48,) and done.classes == ('cat', 'dog') and done.unreadable == {}
    assert not list(tmp_path.glob('*.parts'))


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('blocks', [1, 2])
def test_patches_of_several_blocks(embed, network, folder, tmp_path, blocks, workers):
    embed(patches=True, last_blocks=blocks, num_workers=workers)
    found = arrays(tmp_path / 'features.npz')
    assert found['features'].shape == (10, 16, 48 * blocks)
    images = torch.stack([network.transform(folder / name) for name in found['names']])
    expected = torch.cat([one.patch_tokens for one in network.layers(blocks)(images)], dim=-1)
    torch.testing.assert_close(torch.from_numpy(found['features']), expected, atol=1e-5, rtol=1e-5)


def test_pooled_features_of_several_blocks(embed, network, folder, tmp_path):
    embed(last_blocks=3)
    found = arrays(tmp_path / 'features.npz')
    images = torch.stack([network.transform(folder / name) for name in found['names']])
    torch.testing.assert_close(torch.from_numpy(found['features']), network.features(images, 3), atol=1e-5, rtol=1e-5)


def test_blocks_with_other_grids_have_no_common_patches(embed, tmp_path):
    swin = load('timm:swin_tiny_patch4_window7_224', device='cpu')
    with pytest.raises(UsageError, match=r'different grids of patches \(14x14, 7x7, 7x7\)'):
        embed(of=swin, patches=True, last_blocks=3, batch_size=1)


def test_labels_are_for_those_who_want_them_and_have_some(embed, folder, tmp_path):
    assert embed(labeled=False).classes == ()
    assert set(arrays(tmp_path / 'features.npz')) == {'features', 'names', 'about'}
    (folder / 'cat' / '1.png').rename(folder / '1.png')
    assert embed(overwrite=True).classes == ()


def test_what_cannot_be_read_is_left_out_and_named(embed, folder, tmp_path):
    (folder / 'cat' / '1.png').write_bytes(b'no image')
    (folder / 'dog' / 'deeper' / '0.png').write_bytes(b'')
    done = embed()
    assert set(done.unreadable) == {'cat/1.png', 'dog/deeper/0.png'}
    assert done.unreadable['dog/deeper/0.png'] == 'the file is empty'
    found = arrays(tmp_path / 'features.npz')
    assert done.images == len(found['names']) == len(found['features']) == len(found['labels']) == 8
    assert 'cat/1.png' not in found['names']
    for path in folder.rglob('*.png'):
        path.write_bytes(b'no image')
    with pytest.raises(UsageError, match=r'of 10 images none can be read, the first is cat/1\.png \(it is '):
        embed(overwrite=True)
    assert not list(tmp_path.glob('*.parts'))


class Interrupted(Network):
    """Stops at a batch, and counts the images that it has seen."""

    seen, stop_at = 0, 10**9

    def features(self, images: Tensor, last_blocks: int = 1, mean_patch: bool = False) -> Tensor:
        if self.seen >= self.stop_at:
            raise KeyboardInterrupt
        self.seen += len(images)
        return super().features(images, last_blocks, mean_patch)


@pytest.fixture
def weak(network) -> Interrupted:
    return Interrupted(network.backbone, network.name, network.image_size, network.mean, network.std, network.resize)


def test_an_interrupted_run_goes_on_where_it_was(embed, weak, tmp_path, capsys):
    whole = embed('whole.npz', of=weak)
    weak.seen, weak.stop_at = 0, 6
    with pytest.raises(KeyboardInterrupt):
        embed(of=weak)
    assert not (tmp_path / 'features.npz').exists()
    assert (tmp_path / 'features.npz.parts').is_dir()
    weak.seen, weak.stop_at = 0, 10**9
    done = embed(of=weak)
    assert weak.seen == 4 and done.resumed == 6 and whole.resumed == 0
    first, second = arrays(tmp_path / 'whole.npz'), arrays(tmp_path / 'features.npz')
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not list(tmp_path.glob('*.parts'))


@pytest.mark.parametrize(
    ('change', 'named'), [('blocks', 'last_blocks'), ('network', 'weights'), ('files', 'files'), ('view', 'view')]
)
def test_an_interrupted_run_of_something_else_starts_anew_and_says_so(
    embed, weak, folder, tmp_path, monkeypatch, change, named
):
    weak.stop_at = 6
    with pytest.raises(KeyboardInterrupt):
        embed(of=weak)
    weak.seen, weak.stop_at, settings = 0, 10**9, {}
    if change == 'blocks':
        settings['last_blocks'] = 2
    elif change == 'network':
        weak.branch = 'student'
        weak.__dict__.pop('fingerprint', None)
    elif change == 'files':
        (folder / 'cat' / '9.png').unlink()
    else:
        weak.resize = 36
    said: list[str] = []
    monkeypatch.setattr(part_files, 'print_log', lambda text, **_: said.append(text))
    done = embed(of=weak, **settings)
    assert weak.seen == done.images and done.resumed == 0
    (text,) = said
    assert f'6 images of an earlier run with other {named}' in text and 'starting anew' in text


def test_a_file_is_whole_or_not_there(embed, weak, tmp_path, monkeypatch):
    class Failing(zipfile.ZipFile):
        def open(self, name: Any, *words: Any, **settings: Any) -> Any:
            if name == 'names.npy':  # behind the features
                raise RuntimeError('in the middle')
            return super().open(name, *words, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(feature_files, 'zipfile', SimpleNamespace(ZipFile=Failing))
        with pytest.raises(RuntimeError, match='in the middle'):
            embed(of=weak)
    assert [path.name for path in tmp_path.iterdir() if path.name != 'images'] == ['features.npz.parts']
    weak.seen = 0
    assert embed(of=weak).images == 10
    assert weak.seen == 0, 'nothing is computed again'


def test_a_damaged_part_is_named(embed, weak, tmp_path):
    weak.stop_at = 6
    with pytest.raises(KeyboardInterrupt):
        embed(of=weak)
    part = sorted((tmp_path / 'features.npz.parts').glob('*.npz'))[0]
    part.write_bytes(part.read_bytes()[:40])
    weak.stop_at = 10**9
    with pytest.raises(UsageError, match=rf'{part.name} cannot be read .*: remove it'):
        embed(of=weak)
    part.unlink()
    weak.seen = 0
    assert embed(of=weak).images == 10 and weak.seen == 10


def test_one_process_writes_a_file(embed, tmp_path):
    parts = tmp_path / 'features.npz.parts'
    parts.mkdir()
    with open(parts / '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match='is being written by another process'):
            embed()


def test_parquet(embed, tmp_path):
    pytest.importorskip('pyarrow', reason='an optional package')
    from pyarrow import parquet

    embed()
    expected = arrays(tmp_path / 'features.npz')
    embed('features.parquet')
    table = parquet.read_table(tmp_path / 'features.parquet')
    assert table.column_names == ['name', 'label', 'class', 'features']
    assert table['name'].to_pylist() == expected['names'].tolist()
    assert table['label'].to_pylist() == expected['labels'].tolist()
    assert table['class'].to_pylist() == expected['classes'][expected['labels']].tolist()
    assert np.array_equal(np.stack(table['features'].to_numpy()), expected['features'])
    embed('patches.parquet', patches=True, labeled=False)
    table = parquet.read_table(tmp_path / 'patches.parquet')
    about = json.loads(table.schema.metadata[b'mstkit'])
    assert table.column_names == ['name', 'features'] and about['shape'] == [16, 48]
    assert np.stack(table['features'].to_numpy()).shape == (10, 16 * 48)


def test_a_name_that_is_no_text(embed, folder, tmp_path):
    pytest.importorskip('pyarrow', reason='an optional package')
    from pyarrow import parquet

    (folder / 'cat' / '1.png').rename(folder / 'cat' / 'caf\udce9.png')
    embed('features.parquet')
    names = parquet.read_table(tmp_path / 'features.parquet')['name'].to_pylist()
    assert 'cat/caf\\udce9.png' in names
    embed()
    assert 'cat/caf\udce9.png' in arrays(tmp_path / 'features.npz')['names']


def test_an_output_is_refused_before_the_work(embed, tmp_path, monkeypatch):
    (tmp_path / 'features.npz').write_text('precious')
    with pytest.raises(UsageError, match='is there already: give another name, or --overwrite'):
        embed()
    assert (tmp_path / 'features.npz').read_text() == 'precious'
    embed(overwrite=True)
    assert arrays(tmp_path / 'features.npz')['features'].shape == (10, 48)
    for name, message in (
        ('features.csv', r'written as \.npz or \.parquet'),
        ('features.npz/x.npz', 'is not a folder'),
    ):
        with pytest.raises(UsageError, match=message):
            embed(name)
    monkeypatch.setattr(feature_files.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UsageError, match=r'needs pyarrow: pip install "mstkit\[parquet\]"'):
        embed('features.parquet')


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(last_blocks=9), 'layers is 9; .* has 3 blocks'),
        (dict(batch_size=0), 'batch_size is 0'),
        (dict(num_workers=-1), 'num_workers'),
    ],
)
def test_mistakes(embed, tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        embed(**settings)
    assert [path.name for path in tmp_path.iterdir()] == ['images']


def test_features_that_are_no_numbers(embed, weak, monkeypatch):
    monkeypatch.setattr(Interrupted, 'features', lambda self, images, *_: torch.full((len(images), 4), torch.nan))
    with pytest.raises(UsageError, match='are not finite'):
        embed(of=weak)


def test_the_command(checkpoint, folder, tmp_path):
    (folder / 'cat' / '1.png').write_bytes(b'')
    words = [checkpoint, '--images', folder, '--out', tmp_path / 'f.npz', '--num-workers', '0', '--branch', 'student']
    done = run_program('tools/embed.py', *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [
        'unreadable, left out: 1: cat/1.png (the file is empty)',
        f'written: {tmp_path}/f.npz (9 images, 48 each, labels of 2 classes)',
    ]
    assert json.loads(str(arrays(tmp_path / 'f.npz')['about']))['branch'] == 'student'
    again = run_program('tools/embed.py', *words)
    assert again.returncode == 2 and again.stderr.startswith(f'error: --out {tmp_path}/f.npz is there already')
    empty = tmp_path / 'empty'
    empty.mkdir()
    nothing = run_program('tools/embed.py', checkpoint, '--images', empty, '--out', tmp_path / 'g.npz')
    assert nothing.returncode == 2 and 'holds no images' in nothing.stderr
