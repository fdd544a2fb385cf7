"""``mstkit.load``: the network of a file in one line, its features, and the preprocessing of its images."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import functional

import mstkit
from mstkit.datasets import CenterView, UnreadableImage, read_image
from mstkit.errors import UsageError
from mstkit.networks import Network
from tests import warm
from tests.networks.toy import CASES, network, timm_vit, toy_images, write_checkpoint
from tests.programs import ROOT

VIT_OF_TIMM = 'vit_tiny_patch16_224'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp('run') / 'epoch_1.pth')


@pytest.fixture(scope='module')
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('photo') / 'a.png'
    pixels = np.random.default_rng(0).integers(0, 255, (70, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_the_teacher_unless_the_student_is_named(checkpoint: Path, tmp_path: Path) -> None:
    weights = torch.load(checkpoint)['state_dict']
    loaded = mstkit.load(checkpoint)
    assert isinstance(loaded, Network) and not loaded.training
    assert torch.equal(loaded.backbone.cls_token.cpu(), weights['teacher.backbone.cls_token'])
    student = mstkit.load(str(checkpoint), branch='student', device='cpu')
    assert torch.equal(student.backbone.cls_token, weights['backbone.cls_token'])
    alone = write_checkpoint(tmp_path / 'epoch_2.pth', branches=('',))
    assert mstkit.load(alone).branch == 'student'
    with pytest.raises(UsageError, match='has no teacher'):
        mstkit.load(alone, branch='teacher')
    with pytest.raises(UsageError, match='there is no file'):
        mstkit.load(tmp_path / 'nowhere.pth')
    with pytest.raises(UsageError, match="device 'nonsense'"):
        mstkit.load(checkpoint, device='nonsense')


def test_a_network_of_timm_gives_the_features_that_it_gives_in_timm(tmp_path: Path) -> None:
    torch.manual_seed(3)
    # timm's own interpolation of positions, which it has for networks that are built for it.
    theirs = timm.create_model(VIT_OF_TIMM, num_classes=0, dynamic_img_size=True).eval()
    save_file(theirs.state_dict(), tmp_path / 'vit.safetensors')
    net = mstkit.load(f'timm:{VIT_OF_TIMM}@{tmp_path / "vit.safetensors"}', device='cpu')
    for size in ((224, 224), (160, 240)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            tokens = theirs.forward_features(images)  # type: ignore[operator]
        found = net(images)
        assert found.grid == (size[0] // 16, size[1] // 16)
        torch.testing.assert_close(found.pooled, tokens[:, 0])
        torch.testing.assert_close(found.patch_tokens, tokens[:, 1:])
    assert net.backbone.pos_embed.shape == (1, 197, 192) and net.backbone.patch_embed.strict_img_size


@pytest.mark.parametrize(('name', 'size'), CASES)
def test_layers_of_every_network(name: str, size: tuple[int, int]) -> None:
    net = network(name)
    images = toy_images(size)
    last = net(images)
    found = net.layers(3)(images)
    assert len(found) == 3
    assert torch.equal(found[-1].patch_tokens, last.patch_tokens) and torch.equal(found[-1].pooled, last.pooled)
    assert found[-1].grid == last.grid
    for one in found:
        assert one.patch_tokens.shape[:2] == (len(images), one.grid[0] * one.grid[1])
    pooled = torch.cat([one.pooled for one in found], dim=1)
    assert torch.equal(pooled, net.features(images, last_blocks=3))
    assert not any(block.module._forward_hooks for block in net.blocks)


def test_layers_are_those_of_get_intermediate_layers() -> None:
    net = network('timm ViT with registers')
    images = toy_images()
    expected = net.backbone.get_intermediate_layers(images, n=3, norm=True, return_prefix_tokens=True)  # type: ignore[operator]
    for one, (patches, prefix) in zip(net.layers(3)(images), expected, strict=True):
        torch.testing.assert_close(one.patch_tokens, patches)
        torch.testing.assert_close(one.pooled, prefix[:, 0])


def test_layers_that_there_are_not() -> None:
    net = network('mstkit ViT')
    for count in (0, 99):
        with pytest.raises(UsageError, match=rf'layers is {count}; .* has \d+ blocks'):
            net.layers(count)


def test_a_batch_is_asked_for() -> None:
    net = network('mstkit ViT')
    with pytest.raises(UsageError, match=r'\(B, 3, H, W\), not a tensor of shape \(3, 32, 32\).*image\[None\]'):
        net(torch.zeros(3, 32, 32))
    with pytest.raises(UsageError, match=r'\(1, 1, 32, 32\)'):
        net.layers(1)(torch.zeros(1, 1, 32, 32))


def test_a_timm_vit_of_another_size_leaves_nothing_behind() -> None:
    net = Network(timm_vit()(), 'vit', 32, (0,) * 3, (1,) * 3)
    before = net.fingerprint
    first = net(toy_images((32, 32))).pooled
    assert net(toy_images((24, 48))).grid == (3, 6)
    assert torch.equal(net(toy_images((32, 32))).pooled, first)
    del net.__dict__['fingerprint']
    assert net.fingerprint == before
    with pytest.raises(AssertionError):  # of timm: sides that are no multiple of a patch
        net(toy_images((30, 32)))


def test_the_transform_is_that_of_the_evaluations(checkpoint: Path, photo: Path) -> None:
    net = mstkit.load(checkpoint, device='cpu')
    found = net.transform(photo)
    view = CenterView(resize=40, crop=32).transform(dict(img=read_image(photo)))['img']
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (net.mean, net.std))
    assert torch.equal(found, (torch.from_numpy(view).permute(2, 0, 1).float() - mean) / std)
    assert found.shape == (3, 32, 32) and found.dtype == torch.float32
    # torchvision's, which rounds in between as Pillow does
    with Image.open(photo) as image:
        cropped = functional.center_crop(functional.resize(image, 40, functional.InterpolationMode.BICUBIC), 32)
        theirs = functional.normalize(functional.pil_to_tensor(cropped).float(), net.mean, net.std)
        torch.testing.assert_close(found, theirs)
        assert torch.equal(net.transform(image), found), "an image of Pillow's"
        assert torch.equal(net.transform(np.asarray(image)), found), 'an array'
    assert torch.equal(net.transform(str(photo)), found)
    assert net(torch.stack([found, found])).pooled.shape == (2, net(found[None]).pooled.shape[1])


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'LA', 'CMYK', '1', 'I;16', 'F'])
def test_images_in_memory_of_any_mode(photo: Path, mode: str) -> None:
    with Image.open(photo) as image:
        converted = image.convert('L').convert(mode) if mode in ('I;16', 'F', 'LA') else image.convert(mode)
    found = network('mstkit ViT').transform(converted)
    assert found.shape[0] == 3 and torch.isfinite(found).all() and found.std() > 0


def test_an_image_in_memory_is_turned_upright(tmp_path: Path, photo: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photo) as image:
        image.save(tmp_path / 'turned.png', exif=exif)
    net = network('mstkit ViT')
    with Image.open(tmp_path / 'turned.png') as image:
        assert torch.equal(net.transform(image), net.transform(tmp_path / 'turned.png'))
    assert not torch.equal(net.transform(photo), net.transform(tmp_path / 'turned.png'))


def test_what_is_no_image(tmp_path: Path) -> None:
    net = network('mstkit ViT')
    with pytest.raises(UnreadableImage, match='there is no such file'):
        net.transform(tmp_path / 'nowhere.png')
    with pytest.raises(UsageError, match=r'float32.*uint8'):
        net.transform(np.zeros((4, 4, 3), dtype=np.float32))


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = 'import sys, mstkit; before = "torch" in sys.modules; mstkit.load; '
    code += 'assert "load" in dir(mstkit); print(before, "torch" in sys.modules)'
    done = subprocess.run([warm.plain_python(), '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ['False', 'True'], done.stderr
