"""VQ-KD: its moving codebook and its loss against plain loops, that it learns, and that a killed run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mstkit.codebooks import VQKD, KeptNetwork, VQKDSettings, moved_codes, train_vq_kd
from mstkit.codebooks.image_batches import ImageSet
from mstkit.errors import UsageError
from mstkit.models.tokenizers import build_tokenizer
from mstkit.structures import TokenOutput

from ..models.tokenizers import NETWORKS, NORMALIZATION, features_of_network

SETTINGS = VQKDSettings(codes=6, epochs=3, width=16, layers=1, batch_size=4, code_dims=8)


def teacher() -> KeptNetwork:
    network, size = NETWORKS['vit']
    source = features_of_network('vit').requires_grad_(False).eval()
    return KeptNetwork(source, dict(network=network, image_size=size, **NORMALIZATION))


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    root, random = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for number in range(10):
        pixels = random.integers(0, 200, (1, 1, 3)) + random.integers(0, 56, (36, 36, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(root / f'{number}.png')
    return root


def test_the_codebook_moves_as_in_a_loop():
    generator = torch.Generator().manual_seed(0)
    centers, encoded = (F.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (4, 30))
    ids = torch.randint(0, 3, (30,), generator=generator)
    moved = moved_codes(centers, encoded, ids, 0.99)
    for code in range(4):
        own = [row for row, one in zip(encoded, ids.tolist(), strict=True) if one == code]
        expected = centers[code]
        if own:
            mean = sum(own) / len(own)
            expected = 0.99 * centers[code] + 0.01 * mean / mean.norm()
            expected = expected / expected.norm()
        torch.testing.assert_close(moved[code], expected)
    assert torch.equal(moved[3], centers[3]), 'a code without patches stays'


def test_the_loss_is_that_of_the_formula_and_passes_straight_through():
    model = VQKD(teacher(), SETTINGS).eval()
    model.centers = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    pixels = 255 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    features = teacher().source(pixels, (4, 4))
    seen: list[Any] = []
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].patch_tokens))
    loss = model.loss(pixels, features)
    encoded, (codes,) = model.encode(pixels), seen[:1]
    told = model.decoder(TokenOutput(codes, codes.mean(dim=1), (4, 4)))
    cosines, distances = [], []
    for b in range(2):
        for place in range(16):
            best = max(range(6), key=lambda k: float(encoded[b, place] @ model.centers[k]))
            torch.testing.assert_close(codes[b, place], model.centers[best])
            distances.append((encoded[b, place] - model.centers[best]).square().mean())
            a, c = told[b, place], features[b, place]
            cosines.append(a @ c / a.norm() / c.norm())
    torch.testing.assert_close(loss, 1 - sum(cosines) / 32 + sum(distances) / 32)
    loss.backward()
    assert all(one.grad is not None for one in model.encoder.project.parameters()), 'through the codes to the encoder'


def test_it_learns_and_a_killed_run_goes_on_to_the_bit(tmp_path, monkeypatch, images):
    losses: list[float] = []
    loss, calls = VQKD.loss, [0]

    def counted(self: VQKD, *given: Any) -> Any:
        made = loss(self, *given)
        losses.append(made.item())
        return made

    monkeypatch.setattr(VQKD, 'loss', counted)
    run: dict[str, Any] = dict(origin={}, pause=0, say=str)
    long = VQKDSettings(codes=6, epochs=8, width=16, layers=1, batch_size=4, code_dims=8, lr=3e-3)
    train_vq_kd(tmp_path / 'whole.pth', teacher(), ImageSet(images, 32, 100), long, **run)
    assert len(losses) == 24 and sum(losses[-3:]) < 0.8 * sum(losses[:3])

    def killed(self: VQKD, *given: Any) -> Any:
        calls[0] += 1
        if calls[0] in (4, 9):
            raise KeyboardInterrupt
        return loss(self, *given)

    monkeypatch.setattr(VQKD, 'loss', killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_vq_kd(tmp_path / 'cut.pth', teacher(), ImageSet(images, 32, 100), long, **run)
    made = train_vq_kd(tmp_path / 'cut.pth', teacher(), ImageSet(images, 32, 100), long, **run)
    assert made.steps == 24
    whole, cut = (torch.load(tmp_path / f'{name}.pth', weights_only=True) for name in ('whole', 'cut'))
    assert torch.equal(whole['centers'], cut['centers']) and whole['about']['perplexity'] == cut['about']['perplexity']
    assert all(torch.equal(whole['features'][name], cut['features'][name]) for name in whole['features'])
    tokenizer = build_tokenizer(tmp_path / 'cut.pth')
    assert tokenizer.name.startswith('VQ-KD tokens of') and len(made.counts) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ['cut.pth', 'whole.pth']


def test_mistakes(tmp_path, images):
    for changed, message in (
        (dict(width=18), '--width is 18: give a multiple of 4'),
        (dict(codes=1), '--codes is 1'),
        (dict(lr=0.0), '--lr is 0.0'),
    ):
        with pytest.raises(UsageError, match=message):
            VQKDSettings(**{'codes': 6, **changed})
    with pytest.raises(UsageError, match='--codes 161 are more than the 160 patches'):
        train_vq_kd(tmp_path / 'x.pth', teacher(), ImageSet(images, 32, 100), VQKDSettings(codes=161), {})
