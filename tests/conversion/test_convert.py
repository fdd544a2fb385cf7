"""``mstkit convert``: branches, names, files, what it prints, and that nothing is written when something is wrong."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from mstkit.commands import convert_command
from mstkit.conversion import Difference, Features, Library, compare, convert
from mstkit.conversion.libraries import LIBRARIES
from mstkit.errors import UsageError, WorkStopped
from mstkit.formats import Hints
from mstkit.networks import open_networks

from .networks import VIT, file_of, seeded, timm_vit


def network() -> Any:
    torch.manual_seed(0)
    return seeded(timm_vit()())


def whole_training(path: Path) -> dict[str, Tensor]:
    """DINO's: student and teacher, heads, optimizer, options. Returns the teacher's encoder."""
    teacher = network().state_dict()
    student = {name: value + 0.5 for name, value in teacher.items()}
    wrapped = [
        {f'module.backbone.{name}': value for name, value in state.items()} | {'module.head.last_layer.weight': value0}
        for state, value0 in ((student, torch.ones(3)), (teacher, torch.ones(4)))
    ]
    content = dict(student=wrapped[0], teacher=wrapped[1], optimizer=dict(state={0: dict(step=1)}), epoch=5)
    torch.save(content | dict(args=argparse.Namespace(arch='vit_tiny'), dino_loss=dict(center=torch.zeros(2))), path)
    return teacher


def test_the_branch_is_chosen_and_said(tmp_path: Path) -> None:
    teacher = whole_training(tmp_path / 'checkpoint.pth')
    done = convert(str(tmp_path / 'checkpoint.pth'), 'dino', tmp_path / 'teacher.pth')
    assert all(torch.equal(torch.load(tmp_path / 'teacher.pth')[name], value) for name, value in teacher.items())
    text = '\n'.join(done.lines())
    assert 'DINO’s code' in text and 'the teacher is converted; --branch chooses' in text
    assert 'left out, of no encoder: the student (30 tensors)' in text and 'head' in text and 'dino_loss' in text
    assert '30 of the encoder, all used' in text and '2 attention heads are assumed' in text
    convert(str(tmp_path / 'checkpoint.pth'), 'dino', tmp_path / 'student.pth', branch='student')
    found = torch.load(tmp_path / 'student.pth')
    assert all(torch.equal(found[name], value + 0.5) for name, value in teacher.items())
    torch.save(teacher, tmp_path / 'alone.pth')
    with pytest.raises(UsageError, match=r'alone\.pth has no teacher, only a student: leave --branch out'):
        convert(str(tmp_path / 'alone.pth'), 'dino', tmp_path / 'x.pth', branch='teacher')


def test_what_was_written_is_opened_by_mstkit_with_its_preprocessing(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / 'a.pth')
    for to, name in (('safetensors', 'b.safetensors'), ('timm', 'timm'), ('hf', 'hf'), ('dino', 'c.pth')):
        convert(str(tmp_path / 'a.pth'), to, tmp_path / name)
        (opened,) = open_networks(str(tmp_path / name))
        assert opened.image_size == 32 and opened.mean == (123.675, 116.28, 103.53), to
        assert opened.resize == 37, to
        with torch.no_grad():
            tokens = opened(torch.ones(1, 3, 32, 32))
            expected = network().forward_features(torch.ones(1, 3, 32, 32))
        torch.testing.assert_close(tokens.patch_tokens, expected[:, 1:], rtol=1e-5, atol=1e-5)


def test_timm_loads_the_folder_by_itself(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / 'a.pth')
    done = convert(str(tmp_path / 'a.pth'), 'timm', tmp_path / 'folder')
    assert done.how_to_load == f"timm.create_model('local-dir:{tmp_path}/folder', pretrained=True)"
    theirs = eval(done.how_to_load, dict(timm=timm)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(theirs.forward_features(images), network().forward_features(images))
    assert theirs.pretrained_cfg['mean'] == pytest.approx((0.485, 0.456, 0.406))


@pytest.mark.parametrize('to', [name for name in LIBRARIES if name not in ('dino', 'safetensors', 'mmpretrain')])
def test_the_line_that_loads_it_is_true(tmp_path: Path, to: str) -> None:
    # imported here: names that the printed line uses
    from functools import partial

    import torchvision
    import transformers

    torch.save(network().state_dict(), tmp_path / 'a.pth')
    done = convert(str(tmp_path / 'a.pth'), to, tmp_path / ('out.pth' if to == 'torchvision' else 'out'))
    names: dict[str, Any] = dict(
        torchvision=torchvision, transformers=transformers, timm=timm, torch=torch, partial=partial
    )
    *before, last = done.how_to_load.split('; ')
    exec('; '.join(before), names)
    exec(last if to == 'torchvision' else f'net = {last}', names)
    names['net'].eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found = LIBRARIES[to].features(names['net'], images)
        expected = network().forward_features(images)
    torch.testing.assert_close(found.patches, expected[:, 1:], rtol=1e-5, atol=1e-5)


def test_a_named_network_of_timm(tmp_path: Path) -> None:
    done = convert('timm:vit_tiny_patch16_224', 'torchvision', tmp_path / 'a.pth')
    assert done.source.anatomy.heads == 3 and done.source.anatomy.image == (224, 224)
    assert done.source.hints.mean == (127.5, 127.5, 127.5)
    assert done.read is not None and done.read.largest() < 1e-5


def test_the_gate_refuses_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(network().state_dict(), tmp_path / 'a.pth')
    library = LIBRARIES['torchvision']
    state = library.state

    def swapped(*args: Any) -> Any:
        theirs, notes = state(*args)
        first, second = (f'encoder.layers.encoder_layer_{i}.mlp.0.weight' for i in range(2))
        theirs[first], theirs[second] = theirs[second], theirs[first]
        return theirs, notes

    monkeypatch.setattr(library, 'state', swapped)
    with pytest.raises(WorkStopped, match=r'b\.pth is not written: the network of torchvision .*gives other features'):
        convert(str(tmp_path / 'a.pth'), 'torchvision', tmp_path / 'b.pth')
    monkeypatch.setattr(library, 'state', lambda *args: ({'class_token': torch.zeros(1, 1, 128)}, []))
    with pytest.raises(WorkStopped, match=r'b\.pth is not written: the network of torchvision misses .* more'):
        convert(str(tmp_path / 'a.pth'), 'torchvision', tmp_path / 'b.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_differences_are_measured_and_nan_does_not_pass() -> None:
    tokens = torch.zeros(1, 4, 2)
    assert compare(Features(tokens[:, 0], tokens), Features(tokens[:, 0], tokens), 'x') == Difference(0.0, 0.0, 1.0)
    for wrong in (2e-5, float('nan')):
        with pytest.raises(WorkStopped, match='x gives other features than its origin'):
            compare(Features(tokens[:, 0], tokens + wrong), Features(tokens[:, 0], tokens), 'x')
        with pytest.raises(WorkStopped, match='x gives other features'):
            compare(Features(tokens[:, 0] + wrong, tokens), Features(tokens[:, 0], tokens), 'x')
    with pytest.raises(WorkStopped, match='another shape'):
        compare(Features(tokens[:, 0], tokens[:, :3]), Features(tokens[:, 0], tokens), 'x')


def test_other_norms_are_named(tmp_path: Path) -> None:
    """A ViT of transformers' default, whose norms add next to nothing: other features where tokens hardly vary."""
    # imported here: a second that the other tests need not wait for
    import transformers

    config = transformers.ViTConfig(
        hidden_size=128, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    model = transformers.ViTModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(0.01 if 'embeddings' in name else 1.0)
    model.save_pretrained(tmp_path / 'a')
    with pytest.raises(WorkStopped, match=r'Its norms add 1e-06 to the variance, those of the origin 1e-12\.?$'):
        convert(str(tmp_path / 'a'), 'timm', tmp_path / 'b')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--to', 'tim', '--out', 'x'], r'there is no such format\. Did you mean timm\? Formats are timm, hf'),
        (['--to', 'dino', '--out', 'x'], r'--to dino writes a file whose name ends in \.pth or \.pt or \.safetensors'),
        (['--to', 'timm', '--out', 'x.zip'], 'writes a folder'),
        (['--to', 'timm', '--out', 'there'], r'--out there is there already: give another name, or --overwrite'),
        (['--to', 'timm', '--out', 'there', '--overwrite'], 'a folder with other things'),
        (['--to', 'timm', '--out', 'x', '--num-heads', '0'], 'give a number from 1'),
        (['--to', 'timm', '--out', 'x', '--num-heads', '3'], '3 attention heads do not divide its width of 128'),
        (['--to', 'timm', '--out', 'x', '--image-size', '1', '2', '3'], 'give one number of pixels, or height and'),
        (['--to', 'timm', '--out', 'x', '--image-size', '64'], '16 positions, and images of 64x64 px have 8x8 patches'),
        (['--to', 'timm', '--out', 'x', '--from', 'hf-vit'], 'it has not Hugging Face’s names for a ViT'),
        (['--to', 'timm', '--out', 'x', '--from', 'tim'], r"no kind 'tim'\. Did you mean timm"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list, message: str
) -> None:
    torch.save(network().state_dict(), tmp_path / 'a.pth')
    (tmp_path / 'there').mkdir()
    (tmp_path / 'there' / 'mine.txt').touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['mstkit convert', 'a.pth', *arguments])
    before = sorted(path.name for path in tmp_path.rglob('*'))
    with pytest.raises(SystemExit) as caught:
        convert_command.main()
    printed = capsys.readouterr()
    assert caught.value.code == 2 and printed.out == ''
    (line,) = printed.err.strip().splitlines()
    assert re.search(message, line), line
    assert sorted(path.name for path in tmp_path.rglob('*')) == before


def test_overwriting_replaces_a_converted_network(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / 'a.pth')
    convert(str(tmp_path / 'a.pth'), 'hf', tmp_path / 'b')
    (tmp_path / 'b' / 'preprocessor_config.json').unlink()
    convert(str(tmp_path / 'a.pth'), 'hf', tmp_path / 'b', overwrite=True)
    assert (tmp_path / 'b' / 'preprocessor_config.json').is_file()


def test_images_that_are_not_square(tmp_path: Path) -> None:
    wide = seeded(timm.create_model('vit_small_patch16_224', **{**VIT, 'img_size': (16, 48)}))
    torch.save(wide.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(UsageError, match='12 positions are of no square grid: give --image-size HEIGHT WIDTH'):
        convert(str(tmp_path / 'a.pth'), 'timm', tmp_path / 'b')
    done = convert(str(tmp_path / 'a.pth'), 'timm', tmp_path / 'b', said=Hints(image=(16, 48)))
    assert done.source.anatomy.image == (16, 48) and done.read is not None


def test_every_library_says_how_it_is_loaded() -> None:
    for library in LIBRARIES.values():
        assert type(library).how_to_load is not Library.how_to_load


@pytest.mark.parametrize('name', ['timm vit', 'timm vit, registers with positions', 'timm beit', 'timm swin'])
def test_onnx_is_a_format_among_others(tmp_path: Path, name: str) -> None:
    done = convert(str(file_of(name, tmp_path)), 'onnx', tmp_path / 'a.onnx')
    assert (tmp_path / 'a.onnx').is_file() and set(done.written) == {'onnxruntime, pooled', 'onnxruntime, patch_tokens'}
    assert all(isinstance(one, float) and one < 1e-5 for one in done.written.values())
    assert 'compared with onnxruntime, pooled on the same images' in '\n'.join(done.lines())
    assert ('of at most' in ' '.join(done.notes)) == (name == 'timm beit')


def test_what_is_written_can_be_read_by_others(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / 'a.pth')
    for to, name in (('safetensors', 'b.safetensors'), ('hf', 'hf')):
        convert(str(tmp_path / 'a.pth'), to, tmp_path / name)
    plain = (tmp_path / 'a.pth').stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / 'b.safetensors', *(tmp_path / 'hf').iterdir())} == {plain}
