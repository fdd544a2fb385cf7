"""The projection head and the image decoder, with their batch normalization per view."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models import CNNImageDecoder, DINONeck
from mstkit.models.view_batch_norm import normalize_views


def neck(**options) -> DINONeck:
    torch.manual_seed(0)
    return DINONeck(6, **{'out_dim': 10, 'hidden_dim': 8, 'bottleneck_dim': 4, **options})


def test_neck_is_dinos_head():
    """Written out: linear-GELU twice, linear, L2 norm, directions times lengths."""
    built = neck()
    x = torch.randn(5, 6)
    a, b, c = built.mlp
    z = F.normalize(c(F.gelu(b(F.gelu(a(x))))), dim=-1)
    length, direction = built._last_weights()
    torch.testing.assert_close(built(x), z @ (length * direction / direction.norm(dim=1, keepdim=True)).T)


def test_prototypes_are_normalized_and_frozen_only_when_asked():
    assert neck()._last_weights()[0].requires_grad
    frozen = neck(norm_last_layer=True)
    assert not frozen._last_weights()[0].requires_grad
    torch.testing.assert_close(frozen.last_layer.weight.norm(dim=1), torch.ones(10))


def official_head(in_dim: int, out_dim: int, hidden: int, bottleneck: int) -> nn.Sequential:
    """A head as DINO's code makes it: the MLP is initialized, and then the last layer added."""
    mlp = nn.Sequential(
        nn.Linear(in_dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
    )
    for layer in mlp[::2]:
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    last = nn.utils.parametrizations.weight_norm(nn.Linear(bottleneck, out_dim, bias=False))
    nn.init.ones_(last.parametrizations.weight.original0)
    return nn.Sequential(*mlp, nn.Identity(), last)


def test_weights_start_as_in_dinos_code():
    torch.manual_seed(0)
    built = DINONeck(64, out_dim=2000, hidden_dim=128, bottleneck_dim=256)
    built.init_weights()
    official = official_head(64, 2000, 128, 256)
    pairs = [(built.get_parameter(f'mlp.{i}.weight'), official.get_parameter(f'{2 * i}.weight')) for i in range(3)]
    length, direction = (weight.detach() for weight in built._last_weights())
    pairs.append((nn.Parameter(direction), official.get_parameter('6.parametrizations.weight.original1')))
    for mine, other in ((mine.detach(), other.detach()) for mine, other in pairs):
        assert mine.std() == pytest.approx(float(other.std()), rel=0.02)
        assert mine.abs().mean() == pytest.approx(float(other.abs().mean()), rel=0.02)
    assert torch.equal(length, torch.ones(2000, 1)) and not any(
        built.get_parameter(f'mlp.{i}.bias').any() for i in range(3)
    )
    # Uniform within 1/16: every row is 1/sqrt(3) long, whatever the width.
    assert direction.abs().max() <= 1 / 16
    assert direction.norm(dim=1).mean() == pytest.approx(3**-0.5, rel=0.01)


def test_prototypes_get_the_gradient_of_dinos_code():
    """With the directions that :func:`official_head` has; those of the MLP are small, so its features are given."""
    torch.manual_seed(0)
    built, official = DINONeck(8, out_dim=500, hidden_dim=8, bottleneck_dim=256), official_head(8, 500, 8, 256)
    features, wanted = F.normalize(torch.randn(64, 256), dim=1), torch.randint(500, (64,))
    norms = []
    for last in (built.last_layer, official[-1]):
        F.cross_entropy(last(features) / 0.1, wanted).backward()
        gradient = last.get_parameter('parametrizations.weight.original1').grad
        assert gradient is not None
        norms.append(float(gradient.norm()))
    assert norms[0] == pytest.approx(norms[1], rel=0.02)


def test_neck_can_be_copied_and_reads_old_checkpoints():
    built = neck()
    twin = copy.deepcopy(built)
    x = torch.randn(3, 6)
    torch.testing.assert_close(twin(x), built(x))
    old = {
        k.replace('parametrizations.weight.original0', 'weight_g').replace(
            'parametrizations.weight.original1', 'weight_v'
        ): v
        for k, v in built.state_dict().items()
    }
    assert 'last_layer.weight_g' in old
    fresh = neck()
    nn.init.normal_(fresh.mlp[0].weight)
    fresh.load_state_dict(old)
    torch.testing.assert_close(fresh(x), built(x))


@pytest.mark.parametrize('layers', [1, 2, 3, 4])
def test_number_of_layers(layers):
    built = neck(num_layers=layers)
    assert len(built.mlp) == layers
    assert built(torch.randn(2, 6)).shape == (2, 10)


def test_views_are_normalized_one_by_one():
    norm = nn.BatchNorm1d(3)
    x = torch.randn(12, 3) * torch.arange(1, 13).unsqueeze(1)
    got = normalize_views(norm, x, views=3, updating=2)
    for view, out in zip(x.chunk(3), got.chunk(3), strict=True):
        torch.testing.assert_close(out, F.batch_norm(view, None, None, norm.weight, norm.bias, training=True))


def test_running_statistics_come_from_the_updating_views_alone():
    norm, reference = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    x = torch.randn(12, 3) + 5
    normalize_views(norm, x, views=3, updating=2)
    for view in x.chunk(3)[:2]:
        reference(view)
    for key, tensor in reference.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[key], tensor)
    assert norm.momentum == 0.1
    assert norm.num_batches_tracked == 2


def plain_head(built: DINONeck) -> nn.Sequential:
    """The layers of a head with batch normalization, up to its bottleneck, as one would write them down."""
    first, second, last = (copy.deepcopy(layer) for layer in built.mlp)
    return nn.Sequential(first, nn.BatchNorm1d(8), nn.GELU(), second, nn.BatchNorm1d(8), nn.GELU(), last)


def pairs_of_parameters(built: DINONeck, plain: nn.Sequential):
    ours = [*built.mlp.parameters(), *built.norms.parameters()]
    linear = [parameter for layer in (plain[0], plain[3], plain[6]) for parameter in layer.parameters()]
    return zip(ours, [*linear, *plain[1].parameters(), *plain[4].parameters()], strict=True)


def test_all_is_one_batch_norm_over_the_crops_of_all_views():
    """As DINO's head with ``use_bn``: forward, gradients and running statistics."""
    built = neck(batch_norm='all')
    plain = plain_head(built)
    x = torch.randn(12, 6) * torch.arange(1, 13).unsqueeze(1)  # every view with statistics of its own
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn(12, 4)
    found = built.bottleneck(ours, views=3, global_views=2)
    expected = F.normalize(plain(theirs), dim=-1)
    torch.testing.assert_close(found, expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    for mine, other in pairs_of_parameters(built, plain):
        torch.testing.assert_close(mine.grad, other.grad)
    for mine, other in ((built.norms[0], plain[1]), (built.norms[1], plain[4])):
        torch.testing.assert_close(mine.state_dict(), other.state_dict())
        assert mine.num_batches_tracked == 1


def test_global_only_is_a_batch_norm_for_each_view_that_forgets_the_local_ones():
    built = neck(batch_norm='global_only')
    plain, forgetting = plain_head(built), plain_head(built)
    x = torch.randn(12, 6) * torch.arange(1, 13).unsqueeze(1)
    first, second, local = x.chunk(3)
    expected = torch.cat([plain(first), plain(second), forgetting(local)])
    found = built.bottleneck(x, views=3, global_views=2)
    torch.testing.assert_close(found, F.normalize(expected, dim=-1))
    for mine, other in ((built.norms[0], plain[1]), (built.norms[1], plain[4])):
        torch.testing.assert_close(mine.state_dict(), other.state_dict())
        assert mine.num_batches_tracked == 2


def test_no_batch_norm_unless_asked_for():
    assert not any(isinstance(m, nn.BatchNorm1d) for m in neck().modules())
    assert neck().mlp[0].bias is not None
    built = neck(batch_norm='all')
    assert built.mlp[0].bias is None and built.mlp[-1].bias is not None


def test_decoder_reaches_the_full_resolution():
    for stride, grid in ((16, 2), (32, 1), (8, 3)):
        decoder = CNNImageDecoder(in_channels=5, stride=stride, channels=4)
        assert decoder(torch.randn(2, 5, grid, grid)).shape == (2, 3, grid * stride, grid * stride)
        assert len(decoder.blocks) == {16: 4, 32: 5, 8: 3}[stride]


def test_pixels_before_the_last_upsampling_are_those_after_it():
    torch.manual_seed(0)
    decoder, x = CNNImageDecoder(in_channels=5, stride=8, channels=4, batch_norm=False), torch.randn(2, 5, 3, 3)
    plain = x
    for index in range(len(decoder.blocks)):
        convolved = decoder.get_submodule(f'blocks.{index}.conv')(plain)
        plain = nn.functional.interpolate(convolved.relu(), scale_factor=2.0, mode='bilinear')
    torch.testing.assert_close(decoder(x), decoder.to_pixels(plain))


def test_decoder_keeps_views_apart():
    torch.manual_seed(0)
    decoder = CNNImageDecoder(in_channels=5, stride=4, channels=4)
    x = torch.randn(6, 5, 2, 2)
    both = decoder(x, views=2)
    alone = decoder(x[:3], views=1)
    torch.testing.assert_close(both[:3], alone)
    assert not torch.allclose(decoder(x, views=1)[:3], alone)
    plain = CNNImageDecoder(in_channels=5, stride=4, channels=4, batch_norm=False)
    torch.testing.assert_close(plain(x, views=2), plain(x, views=1))


def test_the_decoder_knows_the_batch_norms_of_the_head():
    x = torch.randn(6, 5, 2, 2) * torch.arange(1, 7)[:, None, None, None]

    def decoder(batch_norm):
        torch.manual_seed(0)
        return CNNImageDecoder(in_channels=5, stride=4, channels=4, batch_norm=batch_norm)

    built = {name: decoder(name) for name in ('global_only', True, 'all', None, False)}
    found = {name: one(x, views=2) for name, one in built.items()}
    assert torch.equal(found['global_only'], found[True]) and torch.equal(found[None], found[False])
    # One plain batch norm over both views.
    plain = decoder(True)
    maps = x
    for block in plain.blocks:
        norm = nn.BatchNorm2d(4)
        maps = F.interpolate(norm(block.conv(maps)).relu(), scale_factor=2.0, mode='bilinear')
        assert not torch.allclose(norm.running_mean, torch.zeros(4))
    torch.testing.assert_close(found['all'], plain.to_pixels(maps))
    torch.testing.assert_close(built['all'].blocks[1].norm.state_dict(), norm.state_dict())
    assert not torch.allclose(found['all'], found[True])


def test_mistakes_are_told():
    for stride in (0, 1, 6, -2):
        with pytest.raises(UsageError, match='power of two'):
            CNNImageDecoder(4, stride=stride)
    with pytest.raises(UsageError, match='out_dim'):
        neck(out_dim=0)
    with pytest.raises(UsageError, match="batch_norm is 'local': give 'global_only', 'all' or None"):
        neck(batch_norm='local')
    with pytest.raises(UsageError, match=r"batch_norm is 'al': .*Did you mean all"):
        CNNImageDecoder(4, batch_norm='al')
