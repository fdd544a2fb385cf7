"""Rotary positions, against transformers' DINOv3 with the same weights and against plain computations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from mstkit.conversion import convert
from mstkit.conversion.onnx_export import export_onnx
from mstkit.conversion.own_network import build_ours
from mstkit.errors import UsageError
from mstkit.formats import read_pretrained, read_weights
from mstkit.interop import load_backbone, mmpretrain_state
from mstkit.models import MaskedVisionTransformer
from mstkit.networks import Network, open_networks
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.conversion.networks import FEED, HF, seeded
from tests.models.builders import TINY, VIT, gradient_of, mst, total
from tests.models.mim_models import build
from tests.models.mim_models import images as small_images

CLOSE = dict(rtol=1e-5, atol=1e-5)
SETTINGS: list[dict[str, Any]] = [
    {},
    dict(num_register_tokens=0),
    dict(rope_theta=40.0),  # config.json tells it, and no tensor
    dict(key_bias=True),
    dict(query_bias=False, value_bias=False),
]
NO_CLS = dict(with_cls_token=False, out_type='featmap')
CHANGES = pytest.mark.parametrize(
    'changes',
    [{}, NO_CLS, dict(num_registers=2), dict(NO_CLS, num_registers=2)],
    ids=['cls', 'none', 'reg', 'only reg'],
)


def vit(**changes: Any) -> MaskedVisionTransformer:
    torch.manual_seed(0)
    network = MaskedVisionTransformer(
        **{**dict(arch=TINY, img_size=32, patch_size=8, out_type='raw', positions='rotary'), **changes}
    )
    network.init_weights()
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return network.eval()


def images(height: int = 32, width: int = 48) -> Tensor:
    return torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(1))


def dinov3(**settings: Any) -> Any:
    config = transformers.DINOv3ViTConfig(
        **{**HF, **FEED, 'num_register_tokens': 4, 'layer_norm_eps': 1e-5, **settings}
    )
    torch.manual_seed(0)
    return seeded(transformers.DINOv3ViTModel(config))


def in_memory(model: Any, folder: Path) -> Path:
    torch.save(model.state_dict(), folder / 'a.pth')
    return folder / 'a.pth'


def saved(model: Any, folder: Path) -> Path:
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder / 'a')
    return folder / 'a'


@pytest.mark.parametrize(
    ('settings', 'write'),
    [
        *((settings, saved) for settings in SETTINGS),
        *((settings, in_memory) for settings in SETTINGS if 'rope_theta' not in settings),
    ],
    ids=lambda one: one.__name__ if callable(one) else str(one),
)
def test_dinov3_gives_what_transformers_gives(
    tmp_path: Path, settings: dict, write: Callable[[Any, Path], Path]
) -> None:
    """At its own size, at larger ones and such that are not square."""
    theirs, extra = dinov3(**settings), 1 + settings.get('num_register_tokens', 4)
    path = write(theirs, tmp_path)
    (encoder,) = read_weights(path).branches.values()
    anatomy, _ = encoder.anatomy()
    assert anatomy.eps == 1e-5 and anatomy.rotary == settings.get('rope_theta', 100.0)  # type: ignore[union-attr]
    ours: Any = build_ours(anatomy, encoder.state)
    (network,) = open_networks(str(path))
    for size in ((32, 32), (64, 64), (24, 72), (120, 40)):
        with torch.no_grad():
            expected = theirs(pixel_values=images(*size)).last_hidden_state
            found, wrapped = ours.forward_tokens(images(*size)), network.watch(images(*size))
            (mapped,) = MaskedVisionTransformer.forward(ours, images(*size))
        scale = float(expected.abs().max())
        for tokens in (found, wrapped):
            torch.testing.assert_close(tokens.pooled, expected[:, 0], rtol=1e-5, atol=1e-5 * scale)
            torch.testing.assert_close(tokens.patch_tokens, expected[:, extra:], rtol=1e-5, atol=1e-5 * scale)
        torch.testing.assert_close(mapped, expected[:, 0], rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_written_for_transformers_and_read_again(tmp_path: Path, settings: dict) -> None:
    source = saved(dinov3(**settings), tmp_path)
    convert(str(source), 'hf', tmp_path / 'again')
    config = transformers.AutoConfig.from_pretrained(tmp_path / 'again')
    for name, value in settings.items():
        assert getattr(config, name) == value
    before, after = (next(iter(read_weights(path).branches.values())).state for path in (source, tmp_path / 'again'))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def rotated(x: Tensor, grid: tuple[int, int], base: float) -> Tensor:
    """Queries or keys (B, N, L, d) as complex numbers, patch by patch."""
    half = x.shape[-1] // 2
    pairs = torch.complex(x[..., :half], x[..., half:])
    for patch in range(grid[0] * grid[1]):
        row, column = divmod(patch, grid[1])
        places = (2 * (row + 0.5) / grid[0] - 1, 2 * (column + 0.5) / grid[1] - 1)
        for channel in range(half):
            period = base ** (channel % (half // 2) / (half // 2))
            angle = torch.tensor(2 * torch.pi * places[channel // (half // 2)] / period)
            pairs[:, :, patch, channel] *= torch.polar(torch.tensor(1.0), angle)
    return torch.cat((pairs.real, pairs.imag), dim=-1)


@CHANGES
def test_attention_that_guides_equals_a_plain_computation(changes: dict) -> None:
    network = vit(rotary_base=30.0, **changes)
    extra, prefix = network.num_extra_tokens, network.num_prefix_tokens
    entered: list[Tensor] = []
    handle = network.layers[-1].attn.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    found = network.forward_tokens(images(), return_attention=True).attention
    handle.remove()
    received = network.forward_tokens(images(), return_attention='received').attention
    attention = network.layers[-1].attn
    query, key, _ = attention.qkv(entered[0]).view(3, -1, 3, 3, 16).permute(2, 0, 3, 1, 4)
    query, key = (
        torch.cat((part[:, :, :prefix], rotated(part[:, :, prefix:], (4, 6), 30.0)), dim=2) for part in (query, key)
    )
    logits = query @ key.transpose(-2, -1) / 4
    row = logits[:, :, 0] if extra else logits[:, :, prefix:].mean(dim=2)
    torch.testing.assert_close(found, row.softmax(-1)[..., prefix:], **CLOSE)
    torch.testing.assert_close(received, logits.softmax(-1)[:, :, prefix:, prefix:].mean(dim=2), **CLOSE)
    maps: list[Any] = []
    Network(network, 'any', 32, (0.0,) * 3, (1.0,) * 3).watch(images(), on_attention=maps.append, blocks=[-1])
    torch.testing.assert_close(maps[0].weights, logits.softmax(-1), **CLOSE)


@CHANGES
def test_visible_patches_alone(changes: dict) -> None:
    """Nothing hidden is the whole image; hidden patches are as keys that nothing looks at."""
    network = vit(**changes)
    prefix = network.num_prefix_tokens
    whole = network.forward_tokens(images())
    seen = network.forward_visible(images(), torch.zeros(3, 4, 6, dtype=torch.bool))
    torch.testing.assert_close(seen.patch_tokens, whole.patch_tokens, **CLOSE)
    torch.testing.assert_close(seen.pooled, whole.pooled, **CLOSE)
    mask = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(2)) < 0.5  # of each image another number
    seen = network.forward_visible(images(), mask)
    tokens, grid = network._embed(images())
    present = torch.nn.functional.pad(~mask.flatten(1), (prefix, 0), value=True)
    for layer in network.layers:
        tokens = layer(tokens, present=present, relative=network._relative(grid, tokens.device))
    tokens = network.ln1(tokens)
    for image in range(3):
        visible = (~mask[image]).flatten().nonzero().squeeze(1)
        torch.testing.assert_close(seen.patch_tokens[image, : len(visible)], tokens[image, prefix + visible], **CLOSE)


def test_the_last_layer_in_part_and_recomputed_layers() -> None:
    network = vit(num_registers=2)
    mask = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(2)) < 0.4
    token = torch.randn(48)
    whole = network.forward_tokens(images(), mask, mask_token=token)
    first = network.forward_tokens(images(), mask, mask_token=token, read='pooled')
    hidden = network.forward_tokens(images(), mask, mask_token=token, read='hidden')
    torch.testing.assert_close(first.pooled, whole.pooled, **CLOSE)
    torch.testing.assert_close(hidden.patch_tokens[mask.flatten(1)], whole.patch_tokens[mask.flatten(1)], **CLOSE)
    again = vit(num_registers=2, with_cp=True).forward_tokens(images(), mask, mask_token=token)
    torch.testing.assert_close(again.patch_tokens, whole.patch_tokens, **CLOSE)
    inner = network.forward_layers(images(), 2)
    torch.testing.assert_close(inner[-1], network.forward_tokens(images()).patch_tokens, **CLOSE)


def test_stochastic_depth_of_visible_patches_equals_the_whole_layer() -> None:
    """On a CPU dropped images are left out, each with its own rotation; a compiled layer computes all."""
    mask = torch.arange(24).view(1, 4, 6).roll((0, 5), (1, 2)).expand(3, -1, -1) % 2 == 0
    found = []
    for whole in (False, True):
        network = vit(drop_path_rate=0.6).train()
        for layer in network.layers:
            if whole:
                layer.use_compiled(lambda function, **_: function)
        torch.manual_seed(3)
        found.append(network.forward_visible(images(), mask).patch_tokens)
    torch.testing.assert_close(*found, **CLOSE)
    assert not torch.allclose(found[0], vit().forward_visible(images(), mask).patch_tokens)


def test_a_compiled_layer_takes_the_rotation() -> None:
    network = vit().train()
    expected = network.forward_tokens(images()).patch_tokens
    for layer in network.layers:
        layer.use_compiled(lambda function, **more: torch.compile(function, backend='aot_eager', **more))
    torch.testing.assert_close(network.forward_tokens(images()).patch_tokens, expected, **CLOSE)


@pytest.mark.parametrize('kind', ['MAE', 'SimMIM', 'MSTAlgorithm'])
def test_a_training_step_is_finite_and_reaches_all_layers(kind: str) -> None:
    backbone = dict(VIT, positions='rotary')
    if kind == 'MSTAlgorithm':
        model = mst(backbone=backbone)
        model.set_progress(Progress(0, 10, 5, rank_seed=1))
        inputs: Any = [torch.randn(3, 3, 32, 32), torch.randn(3, 3, 32, 32)]
    else:
        model, inputs = build(kind, backbone=backbone), [small_images()]
    loss = total(model.loss(inputs))
    loss.backward()
    encoder: Any = model.backbone
    parameters = dict(encoder.named_parameters())
    assert torch.isfinite(loss) and 'pos_embed' not in parameters
    for name, parameter in parameters.items():
        if name != 'cls_token' and parameter.requires_grad:
            assert torch.isfinite(gradient_of(parameter)).all(), name


def test_bfloat16_and_inference_mode_before_training() -> None:
    network = vit()
    with torch.inference_mode():
        network.forward_tokens(images(40, 40))
    network.forward_tokens(images(40, 40)).patch_tokens.sum().backward()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = network.forward_tokens(images(40, 40)).patch_tokens.float()
    half, exact = half.detach(), network.forward_tokens(images(40, 40)).patch_tokens.detach()
    assert float((half - exact).norm() / exact.norm()) < 0.05


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(relative_positions='shared'), "positions='rotary' and relative_positions='shared'"),
        (dict(positions='learned', rotary_base=50.0), "rotary_base=50 is of positions='rotary', not of 'learned'"),
        (dict(rotary_base=0), 'rotary_base'),
        (dict(arch=dict(TINY, num_heads=8)), 'a multiple of 4 channels of each head, not 6'),
    ],
)
def test_wrong_settings(changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        vit(**changes)


def test_weights_go_into_networks_with_the_same_positions_alone(tmp_path: Path) -> None:
    """No tensor tells, but the config beside them does."""
    checkpoint = read_pretrained(saved(dinov3(), tmp_path))
    arch = dict(embed_dims=128, num_layers=2, num_heads=2, feedforward_channels=256)
    same: dict[str, Any] = dict(
        type='MaskedVisionTransformer',
        arch=arch,
        img_size=32,
        patch_size=8,
        num_registers=4,
        layer_scale_init_value=0.1,
    )
    load_backbone(MODELS.build(dict(same, positions='rotary', qkv_bias='qv_bias')), checkpoint)
    load_backbone(MODELS.build(dict(same, positions='rotary')), checkpoint)
    for other in (dict(positions='none'), dict(positions='learned'), dict(positions='rotary', rotary_base=10.0)):
        with pytest.raises(UsageError, match="was trained with positions='rotary', rotary_base=100"):
            load_backbone(MODELS.build(dict(same, **other)), checkpoint)


def test_another_base_is_another_network() -> None:
    sizes: dict[str, Any] = dict(image_size=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    kinds = (vit(), vit(rotary_base=10.0), vit(positions='none'))
    assert len({Network(network, '', **sizes).fingerprint for network in kinds}) == 3


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='ONNX writer has no rotary positions'):
        export_onnx(vit(), tmp_path / 'a.onnx', 32, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(UsageError, match='mmpretrain has no ViT with rotary positions'):
        mmpretrain_state(vit())
    assert not list(tmp_path.iterdir())
