"""tools/train_tokenizer.py: what it writes, that a killed one goes on, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mstkit.codebooks import KMeansSettings, SphericalKMeans, code_statistics, keep_network, train_kmeans, whiten
from mstkit.codebooks.image_batches import ImageSet
from mstkit.errors import UsageError
from mstkit.models.tokenizers import RawPatches, build_tokenizer, read_tokenizer
from mstkit.networks import open_networks

from ..evaluation.checkpoints import save_checkpoint
from ..programs import run_program

SETTINGS = KMeansSettings(codes=10, patches=200, steps=6)


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    """Noise of one color each, so that patches differ in color and texture."""
    root, random = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for number in range(16):
        color = random.integers(0, 200, 3)
        noise = random.integers(0, 56, (40, 48, 3))
        folder = root / 'train' / f'class{number % 2}'
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((color + noise).astype(np.uint8)).save(folder / f'{number:02}.png')
    return root


def run(images: Path, out: Path, *words: object) -> Any:
    words = ('--network', 'raw', '--codes', 10, '--image-size', 32, '--num-workers', 0, '--out', out, *words)
    return run_program('tools/train_tokenizer.py', '--data-root', images, *words)


def trained(out: Path, images: Path, settings: KMeansSettings = SETTINGS) -> dict[str, Any]:
    """What ``train_kmeans`` writes, keeping its state after every step."""
    train_kmeans(out, RawPatches(8, 32), ImageSet(images, 32, 100), settings, dict(network='raw'), pause=0, say=str)
    return torch.load(out, weights_only=True)


def test_raw_patches(tmp_path, images):
    out = tmp_path / 'raw.pth'
    result = run(images, out)
    assert result.returncode == 0, result.stderr
    assert 'images: 16 of' in result.stdout and 'written:' in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ['raw.pth', 'raw.pth.png'], 'and no state of the run'
    about = read_tokenizer(out).about
    assert about['codes'] == 10 and about['images'] == 16 and about['patches'] == 16 * 16
    statistics = code_statistics(about['counts'])
    assert str(statistics) in result.stdout
    assert (about['used'], about['perplexity']) == (statistics.used, pytest.approx(statistics.perplexity))
    tokenizer = build_tokenizer(out)
    pixels = torch.stack(
        [one for _, one, _ in map(ImageSet(images, 32, 100).__getitem__, range(16)) if one is not None]
    ).float()
    counts = torch.bincount(tokenizer(pixels, (4, 4)).flatten(), minlength=10)
    assert torch.equal(counts, about['counts']), 'the codes that the training counted are those that the file gives'
    assert Image.open(tmp_path / 'raw.pth.png').size[0] > 400


def test_examples_are_of_their_codes(tmp_path, images):
    """The patch that stands for a code has that code, where codes are in use."""
    trained(tmp_path / 'raw.pth', images)
    tokenizer: Any = build_tokenizer(tmp_path / 'raw.pth')
    ids = tokenizer(tokenizer.examples.float(), (1, 1)).flatten()
    used = tokenizer.about['counts'] > 0
    assert torch.equal(ids[used], torch.arange(10)[used])


def test_whitened_patches_have_no_correlations(images):
    source = RawPatches(4, 32)
    pixels = torch.stack(
        [one for _, one, _ in map(ImageSet(images, 32, 100).__getitem__, range(16)) if one is not None]
    ).float()
    patches = source.patches(pixels, (8, 8)).flatten(0, 1)
    assert patches.min() >= 0 and patches.max() <= 1
    whiten(source, patches)
    white = source(pixels, (8, 8)).flatten(0, 1).double()
    covariance = white.T @ white / len(white)
    variances = torch.linalg.eigvalsh(torch.cov(patches.double().T, correction=0)).clamp_min(0)
    expected = variances / (variances + 0.1 * variances.mean())
    torch.testing.assert_close(covariance.diagonal(), expected, rtol=1e-3, atol=1e-4)
    assert (covariance - covariance.diagonal().diag()).abs().max() < 1e-4


@pytest.mark.parametrize('network', ['vit', 'mmpretrain', 'swin', 'timm', 'pretraining'])
def test_any_network_that_can_be_opened(tmp_path, images, network):
    """The file has the very features of the opened network, and needs nothing else any more."""
    small = 'arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=32), img_size=32, patch_size=8'
    normalization = 'data_preprocessor=dict(mean=[120.0, 110.0, 100.0], std=[60.0, 58.0, 56.0], to_rgb=True)'
    swin = 'arch=dict(embed_dims=24, depths=[1, 1, 2, 2], num_heads=[1, 2, 3, 6]), img_size=64, pad_small_map=True'
    kinds = dict(
        mmpretrain=f"type='VisionTransformer', {small}, out_type='avg_featmap'",
        swin=f"type='SwinTransformer', {swin}",
        pretraining=f"type='MAEViT', {small}, mask_ratio=0.5",
    )
    if network == 'vit':
        spec = str(save_checkpoint(tmp_path / 'checkpoint.pth'))
    elif network == 'timm':
        spec = 'timm:test_vit'
    else:
        (tmp_path / 'config.py').write_text(f'model = dict(backbone=dict({kinds[network]}), {normalization})\n')
        spec = f'mmpretrain:{tmp_path / "config.py"}'
    result = run_program(
        'tools/train_tokenizer.py', '--data-root', images, '--network', spec, '--codes', 6, '--num-workers', 0,
        '--out', tmp_path / 'made.pth', '--steps', 3,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    opened: Any = open_networks(spec)[-1]
    tokenizer: Any = build_tokenizer(tmp_path / 'made.pth')
    for path in (tmp_path / 'checkpoint.pth', tmp_path / 'config.py'):
        path.unlink(missing_ok=True)
    pixels = 255 * torch.rand(2, 3, opened.image_size, opened.image_size, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (opened.mean, opened.std))
    with torch.no_grad():
        seen = opened((pixels - mean) / std)
        cosines = F.normalize(seen.patch_tokens, dim=2) @ tokenizer.centers.T
    assert torch.equal(tokenizer(pixels, seen.grid), cosines.argmax(dim=2))
    assert read_tokenizer(tmp_path / 'made.pth').about['network'] == opened.name


def test_a_network_that_no_config_describes(tmp_path):
    network = open_networks('timm:test_vit')[0]
    network.config = None
    with pytest.raises(UsageError, match='nobody says from what config'):
        keep_network(network)
    network.config = dict(type='TimmNetwork', arch='test_vit2')
    with pytest.raises(UsageError, match=r'cannot be kept in a file|size mismatch'):
        keep_network(network)


@pytest.mark.parametrize('batch', [1 << 18, 64])
def test_a_killed_run_goes_on_to_the_bit(tmp_path, monkeypatch, images, batch):
    """Killed in the middle of k-means, twice: the same file, and the features are not computed again."""
    settings = KMeansSettings(codes=10, patches=200, steps=6, batch=batch)
    whole = trained(tmp_path / 'whole.pth', images, settings)
    advance, calls = SphericalKMeans.advance, [0]

    def killed(self: SphericalKMeans) -> float:
        calls[0] += 1
        if calls[0] in (3, 5):
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(SphericalKMeans, 'advance', killed)
    read, reads = ImageSet.__getitem__, [0]

    def counted(self: ImageSet, index: int) -> Any:
        reads[0] += 1
        return read(self, index)

    monkeypatch.setattr(ImageSet, '__getitem__', counted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / 'cut.pth', images, settings)
    assert reads[0] == 16 and not (tmp_path / 'cut.pth').exists()
    again = trained(tmp_path / 'cut.pth', images, settings)
    for part in ('centers', 'examples'):
        assert torch.equal(whole[part], again[part]), part
    assert all(torch.equal(whole['features'][name], again['features'][name]) for name in whole['features'])
    assert torch.equal(whole['about'].pop('counts'), again['about'].pop('counts')) and whole['about'] == again['about']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['cut.pth', 'whole.pth']


def test_a_state_of_other_settings_is_not_resumed(tmp_path, monkeypatch, images):
    monkeypatch.setattr(SphericalKMeans, 'advance', lambda self: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / 'raw.pth', images)
    with pytest.raises(UsageError, match=r'another codes, 10 and not 11.*remove .*raw\.pth\.features'):
        trained(tmp_path / 'raw.pth', images, KMeansSettings(codes=11, patches=200))
    (tmp_path / 'raw.pth.features').write_bytes(b'noise')
    with pytest.raises(UsageError, match='damaged: remove'):
        trained(tmp_path / 'raw.pth', images)


def test_mistakes(tmp_path, images):
    for words, message in (
        (('--codes', 300), '--codes 300 are more than the 256 patches of 16 images'),
        (('--codes', 1), '--codes is 1'),
        (('--image-size', 30), 'no multiple of --patch-size 8: give 24'),
        (('--network', 'nothing.pth'), 'there is no file'),
        (('--out', images), 'is a folder'),
        (('--images', 0), '--images is 0'),
        (('--seed', -1), '--seed is -1'),
    ):
        result = run(images, tmp_path / 'x.pth', *words)
        assert result.returncode == 2 and message in result.stderr, (words, result.stderr)
    (tmp_path / 'empty').mkdir()
    assert 'holds no images' in run(tmp_path / 'empty', tmp_path / 'x.pth').stderr
    (tmp_path / 'there.pth').touch()
    assert 'is there already' in run(images, tmp_path / 'there.pth').stderr


def test_features_that_are_not_finite(tmp_path, images):
    opened = open_networks('timm:test_vit')[0]
    kept = keep_network(opened)
    next(kept.source.backbone.parameters()).fill_(torch.nan)
    with pytest.raises(UsageError, match=r'\.png are not finite'):
        train_kmeans(tmp_path / 'x.pth', kept, ImageSet(images, 160, 4), SETTINGS, {}, say=str)


def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path, images):
    folder = tmp_path / 'images'
    folder.mkdir()
    for number, path in enumerate(sorted((images / 'train').rglob('*.png'))):
        (folder / f'{number:02}.png').write_bytes(path.read_bytes() if number else b'no image')
    told: list[str] = []
    train_kmeans(
        tmp_path / 'x.pth', RawPatches(8, 32), ImageSet(folder, 32, 100), SETTINGS, {}, say=told.append,
    )  # fmt: skip
    assert told and '1 images cannot be read and are left out' in told[0] and '00.png' in told[0]
    for path in list(folder.iterdir())[:8]:
        path.write_bytes(b'no image')
    with pytest.raises(UsageError, match='--max-unreadable'):
        train_kmeans(tmp_path / 'y.pth', RawPatches(8, 32), ImageSet(folder, 32, 100), SETTINGS, {}, say=str)


def test_vq_kd_of_a_network(tmp_path, images):
    out = tmp_path / 'vq_kd.pth'
    words = ('--codes', 6, '--num-workers', 0, '--vq-kd', '--epochs', 1, '--width', 16, '--layers', 1, '--out', out)
    checkpoint = save_checkpoint(tmp_path / 'checkpoint.pth')
    result = run_program('tools/train_tokenizer.py', '--data-root', images, '--network', checkpoint, *words)
    assert result.returncode == 0, result.stderr
    assert 'VQ-KD: 1 steps\n' in result.stdout and 'of 6 codes in use' in result.stdout
    assert (tmp_path / 'vq_kd.pth.png').is_file() and build_tokenizer(out).codes == 6
    refused = run_program('tools/train_tokenizer.py', '--data-root', images, '--network', 'raw', *words[:-1], 'x.pth')
    assert refused.returncode == 2 and '--vq-kd wants a teacher' in refused.stderr
