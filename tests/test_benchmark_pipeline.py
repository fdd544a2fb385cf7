"""The benchmarks of the multi-crop pipeline run, and say what they measured. How fast anything is is not tested."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.errors import exit_cleanly
from tests.programs import load_program

CONFIG = Path(__file__).parents[1] / 'configs' / 'dino' / 'dino_vit-tiny_folder.py'


def load(name: str) -> ModuleType:
    return load_program(f'benchmarks/{name}.py')


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *map(str, words)])
    threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        exit_cleanly(module.main)()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    return 0


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / 'images'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(5):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((400, 300), Image.Resampling.BICUBIC).save(folder / f'{index}.jpg')
    return folder


def test_multi_crop(images, monkeypatch, tmp_path, capsys):
    (images / 'broken.jpg').write_bytes(b'\xff\xd8\xff no image')
    out = tmp_path / 'out.json'
    assert run(load('multi_crop'), monkeypatch, '--images', images, '--rounds', 2, '--json', out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('left out 1 of 6 files, the first: cannot read') and '5 images' in lines[1]
    found = json.loads(lines[-1])
    assert json.loads(out.read_text()) == found and found['images'] == 5
    assert list(found['results']) == ['cpu', 'device', 'cpu, scaled', 'device, scaled', 'bare calls', 'torchvision']
    for name, result in found['results'].items():
        taken = result['milliseconds']
        assert result['images_per_second'] == pytest.approx(1000 / taken['all'], rel=0.01)
        assert result['slowest'] <= result['images_per_second'] <= result['fastest']
        assert min(taken[stage] for stage in ('decode', 'crops')) > 0
        assert (taken['tensors'] == 0) == (name == 'bare calls')
        assert (taken['photometric'] == 0) == name.startswith(('device', 'bare'))
        assert ('device_step_milliseconds' in result) == name.startswith(('cpu', 'device'))
        assert ('times_torchvision' in result) == (name != 'torchvision')
    for name in ('cpu', 'bare calls'):
        ratio = found['results'][name]['times_torchvision']
        assert f'{name}: {ratio:.2f} times the images per second of torchvision' in lines


def test_the_bare_calls_are_of_the_crops_that_are_made(images, monkeypatch):
    module = load('multi_crop')
    resized, interpolate = [], torch.nn.functional.interpolate

    def kept(patch: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        assert patch.is_contiguous(memory_format=torch.channels_last)  # else it is not the quick kernel
        resized.append(interpolate(patch, *args, **options))
        return resized[-1]

    monkeypatch.setattr(torch.nn.functional, 'interpolate', kept)
    path = str(images / '0.jpg')
    times = module.BareCalls()(path, 3)
    assert times == sorted(times) and len(times) == 5 and times[1] > 0 and len(resized) == 20
    # Both by the transform, which comes first, and bare, from boxes that are said as shares.
    for made, bare in zip(resized[:10], resized[10:], strict=True):
        assert torch.equal(made, bare)


def test_the_reference_makes_dinos_views(images):
    module = load('multi_crop')
    reference = module.TorchvisionViews()
    assert len(reference.views) == 10
    torch.manual_seed(0)
    image = Image.open(images / '0.jpg').convert('RGB')
    sizes = [reference.tensor(color(crop(image))).shape for crop, color in reference.views]
    assert sizes == [(3, 224, 224)] * 2 + [(3, 96, 96)] * 8
    times = reference(str(images / '0.jpg'), 0)
    assert times == sorted(times) and len(times) == 5


def test_two_loaders_take_turns(images, monkeypatch, tmp_path, capsys):
    words = ('--data-root', images, '--workers', 0, '--batch-size', 2, '--batches', 3, '--device', 'cpu', '--turns', 2)
    against = ('--against', 'train_dataloader.dataset.memory=False')
    assert run(load('loader'), monkeypatch, CONFIG, *words, *against) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert found['against'] == {'train_dataloader.dataset.memory': False} and found['turns'] == 2
    results = found['results']
    assert len(results['images_per_second']) == len(results['ratios']) == 2 and min(results['images_per_second']) > 0
    assert min(results['ratios']) <= results['ratio'] <= max(results['ratios'])
    assert any(line.startswith(f'as given: {results["images_per_second"][0]:.1f} images/s') for line in lines)


def test_views_of_small_images_are_held_against_a_step(images, monkeypatch, tmp_path, capsys):
    module, out = load('small_views'), tmp_path / 'out.json'
    other = CONFIG.parents[1] / 'mae' / 'mae_vit-tiny_folder.py'
    words = (CONFIG, other, '--data-root', images, '--batch-size', 2, '--dtype', 'float32')
    assert run(module, monkeypatch, *words, '--rounds', 3, '--json', out) == 0  # five batches of two images out of five
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert json.loads(out.read_text()) == found and found['batch_size'] == 2
    assert [result['sizes'] for result in found['results'].values()] == [[64, 64, 32, 32, 32, 32], [64]]
    for name, result in found['results'].items():
        assert 0 < result['views_microseconds'] < result['step_microseconds']
        assert result['shares'][0] <= result['share'] <= result['shares'][1]
        assert any(line.startswith(name) and line.endswith(f'{100 * result["share"]:.1f} %') for line in lines)
    from_files = ('--cfg-options', 'train_dataloader.dataset.memory=False')
    assert run(module, monkeypatch, *words, *from_files) == 2
    assert 'not kept in memory' in capsys.readouterr().err
    for option in ('--rounds', '--batch-size', '--max-images'):
        assert run(module, monkeypatch, *words, option, 0) == 2
        assert f'{option} is 0' in capsys.readouterr().err


@pytest.mark.parametrize('photometric', ['cpu', 'device'])
def test_loader(images, monkeypatch, tmp_path, capsys, photometric):
    out = tmp_path / 'out.json'
    option = f'train_dataloader.dataset.pipeline.1.photometric={photometric}'
    words = ('--data-root', images, '--workers', 0, '--batch-size', 2, '--batches', 4, '--device', 'cpu')
    assert (
        run(load('loader'), monkeypatch, CONFIG, *words, '--step-ms', 30, '--json', out, '--cfg-options', option) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert '5 images are gone through up to 4 times' in lines
    found = json.loads(lines[-1])
    assert json.loads(out.read_text()) == found
    assert (found['batch_size'], found['workers'], found['device']) == (2, 0, 'cpu')
    results = found['results']
    assert 0 < results['waiting_share'] < 1 and 0 < results['stall_share'] < 1
    assert results['paced_images_per_second'] <= 2 / 0.030  # a step takes 30 ms at least
    assert any(f'{results["images_per_second"]:.1f} images/s' in line for line in lines)


def test_mistakes(images, monkeypatch, tmp_path, capsys):
    multi_crop, loader = load('multi_crop'), load('loader')
    empty = tmp_path / 'empty'
    empty.mkdir()
    (empty / 'a.txt').write_text('no image')
    broken = tmp_path / 'broken'
    broken.mkdir()
    (broken / 'a.jpg').write_bytes(b'no image')
    given = ('--images', images)
    for module, words, message in (
        (multi_crop, ('--images', tmp_path / 'nowhere'), 'nowhere'),
        (multi_crop, ('--images', empty), 'holds no images'),
        (multi_crop, ('--images', broken), 'none of 1 images can be read'),
        (multi_crop, (*given, '--rounds', 0), '--rounds is 0'),
        (multi_crop, (*given, '--max-images', 0), '--max-images is 0'),
        (loader, (tmp_path / 'no.py',), 'there is no config file'),
        (loader, (CONFIG, '--data-root', tmp_path / 'nowhere'), 'there is no such folder'),
        (loader, (CONFIG, '--batches', 0), '--batches is 0'),
        (loader, (CONFIG, '--workers', -1), '--workers is -1'),
        (loader, (CONFIG, '--step-ms', -1), '--step-ms is -1'),
        (loader, (CONFIG, '--turns', 0), '--turns is 0'),
    ):
        assert run(module, monkeypatch, *words) == 2, words
        assert message in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert run(multi_crop, monkeypatch, *given, '--device', 'cuda') == 2
        assert 'sees no GPU' in capsys.readouterr().err
    assert run(multi_crop, monkeypatch) == 2  # --images has no default
    assert '--images' in capsys.readouterr().err
