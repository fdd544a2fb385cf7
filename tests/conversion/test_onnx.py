"""ONNX files of encoders: onnxruntime gives what torch gives, for every kind of network, batch and image size."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from mstkit.conversion import onnx_export, onnx_layers, onnx_swin, onnx_vit
from mstkit.conversion.onnx_export import OnnxExport, export_onnx
from mstkit.conversion.onnx_gate import TOLERANCE, check_onnx
from mstkit.conversion.onnx_graph import REQUIREMENTS, Value
from mstkit.errors import DiskError, UsageError, WorkStopped
from mstkit.models.backbones import MaskedSwinTransformer, MaskedVisionTransformer
from mstkit.networks import Network
from mstkit.version import __version__
from tests.programs import ROOT

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
BEIT = dict(relative_positions='shared', positions='none', qkv_bias='qv_bias', layer_scale_init_value=0.1)
VITS: dict[str, dict[str, Any]] = {
    'class token': {},
    'no class token': dict(with_cls_token=False, out_type='raw'),
    'mean of patches': dict(global_pool='avg', positions='sincos'),
    'norm after the mean': dict(out_type='avg_featmap', final_norm=False),
    'registers': dict(num_registers=3, layer_scale_init_value=0.1),
    'offset of DINO': dict(interpolate_offset=0.1),
    'bilinear': dict(interpolate_mode='bilinear', qkv_bias=False, pre_norm=True),
    'norms without bias': dict(norm_cfg=dict(type='LN', bias=False)),
    'BEiT': BEIT,
    'BEiT without class token': {**BEIT, 'with_cls_token': False, 'out_type': 'raw'},
    'table per layer': dict(relative_positions='per_layer', num_registers=2),
    'not square': dict(img_size=(16, 40), relative_positions='shared', interpolate_offset=0.1),
    'other feed-forward': dict(layer_cfgs=[dict(ffn_type='swiglu_fused'), dict(act_cfg=dict(type='ReLU'))]),
    'other GELU': dict(layer_cfgs=dict(act_cfg=dict(type='GELU', approximate='tanh'))),
}
SWINS: dict[str, dict[str, Any]] = {
    'windows of 7': dict(window_size=7),  # larger than the last map
    'windows of 4': dict(window_size=4),
    'shift by image size': dict(window_size=3, shift_by='img_size'),
    'absolute positions': dict(window_size=2, use_abs_pos_embed=True),
    'no final norm': dict(window_size=4, out_indices=(0,)),
}
# Parts of patches, one patch, wide and high: none of the trial images of the export.
SIZES = ((30, 41), (8, 8), (16, 72), (56, 24))


def encoder(name: str = 'class token', **settings: Any) -> Any:
    """A tiny network in evaluation mode, none of whose weights is 0 or 1."""
    if name in VITS:
        arch: dict[str, Any] = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=40)
        given = dict(arch=arch, img_size=32, patch_size=8, **settings)
        made: Any = MaskedVisionTransformer(**{**given, **VITS[name]})
    else:
        arch = dict(embed_dims=12, depths=[2, 2], num_heads=[1, 2])
        given = dict(arch=arch, img_size=32, patch_size=4, out_indices=(1,), **settings)
        made = MaskedSwinTransformer(**{**given, **SWINS[name]})
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            noise = torch.randn(parameter.shape, generator=random)
            # Matrices keep the length of tokens, and norms scale by about 1.
            parameter.copy_(noise * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 1 + 0.3 * noise)
    return made.eval()


def export(backbone: nn.Module, path: Path, image_size: Any = 32, **settings: Any) -> OnnxExport:
    return export_onnx(backbone, path, image_size, MEAN, STD, **settings)


def images(size: tuple[int, int], count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(count))


def notes(path: Path) -> dict[str, str]:
    return {one.key: one.value for one in onnx.load(path).metadata_props}


@pytest.mark.parametrize('name', [*VITS, *SWINS])
def test_onnxruntime_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    backbone, path = encoder(name), tmp_path / 'net.onnx'
    made = export(backbone, path, VITS.get(name, {}).get('img_size', 32))
    assert (made.path, made.weights) == (path, None)
    assert [file.name for file in tmp_path.iterdir()] == ['net.onnx']
    assert set(made.differences) == {'pooled', 'patch_tokens'}
    assert all(0 <= difference <= TOLERANCE for difference in made.differences.values())
    graph = onnx.load(path).graph
    read = {one for node in graph.node for one in node.input} | {one.name for one in graph.output}
    assert {one for node in graph.node for one in node.output} | {one.name for one in graph.initializer} <= read
    network = Network(backbone, name, 32, MEAN, STD)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for count, size in enumerate(SIZES, start=1):
        batch = images(size, count)
        with torch.no_grad():
            expected = network(batch)
        assert expected.patch_tokens.std() > 0.5  # or a graph that computes little would pass
        found = session.run(['pooled', 'patch_tokens'], {'images': batch.numpy()})
        for array, wanted in zip(found, (expected.pooled, expected.patch_tokens), strict=True):
            # Rounding errors of float32, of tokens whose root mean square is 1 to 3.
            torch.testing.assert_close(torch.from_numpy(array), wanted, rtol=0, atol=1e-5)


def test_the_file_is_plain_onnx_that_says_what_it_is(tmp_path: Path) -> None:
    backbone, path = encoder('mean of patches'), tmp_path / 'net.onnx'
    export(backbone, path, metadata=dict(source='a.pth', mean='not this'))
    model = onnx.load(path)
    assert (model.producer_name, model.producer_version) == ('mstkit', __version__)
    assert [(one.domain, one.version) for one in model.opset_import] == [('', 17)]
    shapes = {
        one.name: [length.dim_param or length.dim_value for length in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        'images': ['batch', 3, 'height', 'width'],
        'pooled': ['batch', 24],
        'patch_tokens': ['batch', 'patches', 24],
    }
    kind = dict(type='MaskedVisionTransformer', patch_size=[8, 8], layers=2, channels=24, heads=2)
    assert notes(path) == {
        'source': 'a.pth',
        'mstkit_version': __version__,
        'architecture': json.dumps(kind),
        'image_size': '[32, 32]',
        'mean': json.dumps(MEAN),
        'std': json.dumps(STD),
        'normalization': '(image - mean) / std, RGB, on the scale 0..255',
        'pooled': 'mean of the patch tokens',
    }
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    layer = backbone.layers[1]
    assert np.array_equal(constants['layers.1.ln2.bias'], layer.ln2.bias.detach().numpy())
    assert np.array_equal(constants['layers.1.attn.qkv.weight.T'], layer.attn.qkv.weight.detach().numpy().T)
    assert any(node.name.startswith('layers.1/Softmax') for node in model.graph.node)


@pytest.mark.parametrize(
    ('name', 'pooled'), [('registers', 'class token'), ('windows of 4', 'mean of the patch tokens')]
)
def test_the_file_says_what_pooled_is(name: str, pooled: str, tmp_path: Path) -> None:
    assert export(encoder(name), tmp_path / 'net.onnx').largest_size is None
    noted = notes(tmp_path / 'net.onnx')
    assert noted['pooled'] == pooled
    assert 'largest_image_size' not in noted


def test_relative_positions_end_at_a_size_that_is_said_and_beyond_it_nothing_is_computed(tmp_path: Path) -> None:
    backbone, path = encoder('table per layer'), tmp_path / 'net.onnx'
    assert export(backbone, path).largest_size == (512, 512)  # 64 patches of 8 px
    assert notes(path)['largest_image_size'] == '[512, 512]'
    assert check_onnx(path, backbone, [images((512, 8)), images((8, 512))])['patch_tokens'] <= TOLERANCE
    for height, width in ((520, 8), (8, 520)):
        message = f'does not run the graph for 2 images of {height}×{width} px: .*invalid expand shape'
        with pytest.raises(WorkStopped, match=message):
            check_onnx(path, backbone, [images((height, width))])
    assert onnx_vit.most_cells((20, 14)) == 80


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    backbone = encoder().train()
    backbone.layers[0].train(False)
    backbone.cls_token.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    modes = [part.training for part in backbone.modules()]
    export(backbone, tmp_path / 'net.onnx')
    assert [part.training for part in backbone.modules()] == modes
    assert [name for name, one in backbone.named_parameters() if not one.requires_grad] == ['cls_token']
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def without_the_first_patch(*given: Any) -> tuple[Value, Value]:
    pooled, patches = onnx_vit.write_vit(*given)
    return pooled, patches.cut(1, 1, patches.length(1))


WRONG: dict[str, tuple[str, tuple[Any, ...], str]] = {
    'interpolation': (
        'class token',
        (onnx_layers.RESIZE_MODES, 'bicubic', {**onnx_layers.RESIZE_MODES['bicubic'], 'cubic_coeff_a': -0.5}),
        r'pooled for 1 image of 48×48 px differs from torch by [\d.e-]+, more than 1e-05',
    ),
    'mask': (
        'windows of 4',
        (onnx_swin, 'ACROSS_SIDES', 0.0),
        r'pooled for 1 image of 32×32 px differs from torch by [\d.e-]+, more than 1e-05',
    ),
    'not finite': (
        'windows of 4',
        (onnx_swin, 'ACROSS_SIDES', float('nan')),
        'pooled for 1 image of 32×32 px differs from torch by nan, more than 1e-05',
    ),
    'shape': (
        'class token',
        (onnx_export, 'write_vit', without_the_first_patch),
        r'patch_tokens for 1 image of 32×32 px has the shape \(1, 15, 24\), and \(1, 16, 24\) with torch',
    ),
}


@pytest.mark.parametrize('wrong', WRONG)
def test_a_wrong_graph_is_refused_and_what_was_there_stays(wrong: str, tmp_path: Path, monkeypatch: Any) -> None:
    name, (owner, attribute, value), message = WRONG[wrong]
    (monkeypatch.setitem if isinstance(owner, dict) else monkeypatch.setattr)(owner, attribute, value)
    path = tmp_path / 'net.onnx'
    path.write_text('from before')
    with pytest.raises(WorkStopped, match=f'^{path} is not written: {message}'):
        export(encoder(name), path)
    assert [file.name for file in tmp_path.iterdir()] == ['net.onnx']
    assert path.read_text() == 'from before'


def test_the_check_sees_other_weights_and_other_files(tmp_path: Path) -> None:
    backbone, path = encoder(), tmp_path / 'net.onnx'
    export(backbone, path)
    with torch.no_grad():
        backbone.layers[1].ffn.layers[1].bias[3] += 1e-3
    with pytest.raises(WorkStopped, match=r'^pooled for 2 images of 8×8 px differs from torch by '):
        check_onnx(path, backbone, [images((8, 8))])
    path.write_bytes(path.read_bytes()[:5000])
    for wrong in (path, tmp_path / 'missing.onnx'):
        with pytest.raises(WorkStopped, match=f'^{wrong} is no valid ONNX file: '):
            check_onnx(wrong, backbone, [images((8, 8))])


def test_large_networks_get_a_file_of_weights(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(onnx_export, 'MOST_BYTES', 1000)
    backbone, path = encoder(), tmp_path / 'new' / 'net.onnx'
    made = export(backbone, path)
    assert made.weights == path.with_name('net.onnx.data')
    assert sorted(file.name for file in path.parent.iterdir()) == ['net.onnx', 'net.onnx.data']
    assert made.weights.stat().st_mode == path.stat().st_mode
    assert check_onnx(path, backbone, [images((16, 24))])['patch_tokens'] <= TOLERANCE


def test_users_mistakes(tmp_path: Path, monkeypatch: Any) -> None:
    backbone, path = encoder(), tmp_path / 'net.onnx'
    (tmp_path / 'folder.onnx').mkdir()
    (tmp_path / 'file').write_text('')
    for wrong, message in (
        (tmp_path / 'net.pth', r'net\.pth: the name of an ONNX file ends in \.onnx; give .*net\.onnx'),
        (tmp_path / 'folder.onnx', r'folder\.onnx is a folder'),
        (tmp_path / 'file' / 'net.onnx', 'file is not a folder'),
    ):
        with pytest.raises(UsageError, match=message):
            export(backbone, wrong)
    for network, message in (
        (nn.Linear(3, 3), 'Linear cannot be written to ONNX: give a MaskedVisionTransformer or'),
        (encoder().half(), r'cls_token is float16 on cpu: .* call backbone\.float\(\)\.cpu\(\) before'),
        (encoder(interpolate_mode='nearest'), "interpolate_mode is 'nearest': .* by 'bicubic' or 'bilinear'"),
        (encoder(layer_cfgs=dict(act_cfg=dict(type='Tanh'))), r'has a Tanh \(torch\.nn\.modules\.activation\)'),
        (encoder(norm_cfg=dict(type='LN2d')), r'has a LayerNorm2d \(mmpretrain'),
        (encoder('windows of 4', stage_cfgs=dict(downsample_cfg=dict(kernel_size=3, stride=2))), 'has a Unfold'),
    ):
        with pytest.raises(UsageError, match=message):
            export(network, path)
    for settings, message in (
        (dict(image_size=(32, 0)), r'image_size\[1\] is 0'),
        (dict(image_size='32'), "image_size is '32'"),
        (dict(image_size=32, std=(1.0, 0.0, 1.0)), r'std\[1\] is 0'),
    ):
        with pytest.raises(UsageError, match=message):
            export_onnx(backbone, path, **{'mean': MEAN, 'std': STD, **settings})
    for package in ('onnx', 'onnxruntime'):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(UsageError, match=f"^ONNX files need the package {package}: pip install 'onnx>="):
                export(backbone, path)
    assert not path.exists()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(onnx, 'save_model', full)
    with pytest.raises(DiskError, match=r'net\.onnx cannot be written: the disk is full'):
        export(encoder(), tmp_path / 'net.onnx')
    assert not list(tmp_path.iterdir())


def test_nothing_is_printed(tmp_path: Path, capfd: Any, recwarn: Any) -> None:
    backbone, path = encoder('BEiT'), tmp_path / 'net.onnx'
    export(backbone, path)
    with pytest.raises(WorkStopped):  # of which onnxruntime has something to say
        check_onnx(path, backbone, [images((8, 520))])
    assert capfd.readouterr() == ('', '')
    assert not recwarn.list


def test_the_message_asks_for_what_the_extra_installs() -> None:
    lines = (ROOT / 'requirements' / 'convert.txt').read_text(encoding='utf-8').splitlines()
    assert [line for line in lines if line.startswith('onnx')] == list(REQUIREMENTS)
