"""What every registered tokenizer promises, and what its file may hold."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models import DALLETokenizer, KMeansTokenizer, PatchTokenizer, Tokenizer, Tokens
from mstkit.models.tokenizers import build_tokenizer, nearest_codes, read_tokenizer, write_tokenizer
from mstkit.models.tokenizers.patch_features import resized
from mstkit.registry import MODELS
from mstkit.structures import Progress

from .builders import VIT, views
from .tokenizers import NETWORKS, NORMALIZATION, WRITERS, example_patches, files, write_kmeans, write_patches

NAMES = sorted(name for name, cls in MODELS.module_dict.items() if inspect.isclass(cls) and issubclass(cls, Tokenizer))
GRIDS = [(4, 4), (7, 5), (1, 3)]


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> dict[str, str]:
    return files(tmp_path_factory.mktemp('tokenizers'))


def pixels(height: int = 32, width: int = 32, batch: int = 6) -> torch.Tensor:
    return 255 * torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_the_tokenizers_are_found():
    """Each has a small file in these tests."""
    assert set(NAMES) == set(WRITERS) >= {'KMeansTokenizer', 'PatchTokenizer'}


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('name', NAMES)
def test_ids_of_any_grid(made, name, grid):
    tokenizer = build_tokenizer(made[name])
    assert type(tokenizer).__name__ == name
    ids = tokenizer(pixels(), grid)
    assert ids.shape == (6, grid[0] * grid[1]) and ids.dtype == torch.int64
    assert ids.min() >= 0 and ids.max() < tokenizer.codes
    assert len(ids.unique()) > 1, 'it tells patches apart'
    drawn = tokenizer.to_pixels(ids, grid, 16)
    assert drawn is None or (drawn.shape == (6, 3, 16 * grid[0], 16 * grid[1]) and drawn.dtype == torch.float32)


@pytest.mark.parametrize('name', NAMES)
def test_an_id_does_not_depend_on_the_rest_of_the_batch(made, name):
    tokenizer, shown = build_tokenizer(made[name]), pixels()
    whole = tokenizer(shown, (4, 4))
    assert torch.equal(whole, torch.cat([tokenizer(one, (4, 4)) for one in shown.split(1)]))
    assert torch.equal(whole.flip(0), tokenizer(shown.flip(0), (4, 4)))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(whole, tokenizer(shown, (4, 4))), 'ids are those of the file in any precision'


@pytest.mark.parametrize('name', NAMES)
def test_nothing_in_it_is_trained_or_initialized(made, name):
    """A model that holds it initializes its own weights, not those of the file."""
    config = dict(type='SimMIM', backbone=VIT, mask_patch_size=8, loss='cross_entropy')
    model = MODELS.build({**config, 'target': dict(type='Tokens', tokenizer=made[name])})
    tokenizer = model.objectives['predict'].target.tokenizer
    before = {key: value.clone() for key, value in tokenizer.state_dict().items()}
    assert before
    model.init_weights()
    model.train()
    model.set_progress(Progress(0, 10, 5))
    model.loss([views()[0]])['loss_predict'].backward()
    assert not any(part.training for part in tokenizer.modules())
    assert not any(one.requires_grad or one.grad is not None for one in tokenizer.parameters())
    assert all(torch.equal(before[key], value) for key, value in tokenizer.state_dict().items())
    assert tokenizer.name in repr(model), 'a model says which tokens it predicts'


@pytest.mark.parametrize('name', NAMES)
def test_a_built_one_and_a_config_are_as_good_as_a_file(made, name):
    own = MODELS.build(dict(type=name, file=made[name]))
    ids = own(pixels(), (4, 4))
    for given in (own, dict(type=name, file=made[name]), made[name], Path(made[name])):
        assert torch.equal(build_tokenizer(given)(pixels(), (4, 4)), ids)


@pytest.mark.parametrize('network', NETWORKS)
def test_tokens_of_a_network_are_those_of_its_own_features(tmp_path, network):
    """Its features by the network's own forward, the nearest center by a loop, on its own grid."""
    write_kmeans(tmp_path / 'file.pth', network)
    tokenizer = KMeansTokenizer(tmp_path / 'file.pth')
    config, size = NETWORKS[network]
    state = {key.removeprefix('backbone.'): one for key, one in read_tokenizer(tmp_path / 'file.pth').features.items()}
    shown = pixels(size, size, 2)
    mean, std = (torch.tensor(NORMALIZATION[key]).view(3, 1, 1) for key in ('mean', 'std'))
    with torch.no_grad():
        if network == 'timm':
            backbone: Any = timm.create_model(config['arch'], num_classes=0)
            backbone.load_state_dict({key.removeprefix('network.'): state[key] for key in state if 'network.' in key})
            features = backbone.eval().forward_features((shown - mean) / std)[:, backbone.num_prefix_tokens :]
        else:
            backbone = MODELS.build(dict(config))
            backbone.load_state_dict({key: state[key] for key in backbone.state_dict()})
            backbone.eval()
            if network == 'vit':
                features = backbone.forward_tokens((shown - mean) / std).patch_tokens
            else:
                features = backbone((shown - mean) / std)[-1].flatten(2).transpose(1, 2)
    side = tokenizer.source.grid[0]
    assert features.shape[1] == side * side
    expected = [
        [max(range(12), key=lambda k: float(F.cosine_similarity(one, tokenizer.centers[k], dim=0))) for one in image]
        for image in features
    ]
    assert tokenizer(shown, (side, side)).tolist() == expected


def test_tokens_of_patches_are_those_of_a_loop(tmp_path):
    write_patches(tmp_path / 'file.pth')
    tokenizer, shown = PatchTokenizer(tmp_path / 'file.pth'), pixels(16, 24, 2)
    source: Any = tokenizer.source
    found = []
    for image in shown / 255:
        for row in range(2):
            for column in range(3):
                patch = image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                values = torch.tensor([patch[c, y, x] for y in range(8) for x in range(8) for c in range(3)])
                white = (values - source.mean) @ source.whitening
                found.append(int((tokenizer.centers @ white / white.norm()).argmax()))
    assert tokenizer(shown, (2, 3)).flatten().tolist() == found


def test_another_grid_is_resampled(made):
    """Of a network its map of features is resized, of raw patches the image."""
    shown = pixels(48, 64)
    tokenizer: Any = build_tokenizer(made['KMeansTokenizer'])
    fitted = F.interpolate(tokenizer.source.map(shown), (3, 2), mode='bilinear', antialias=True)
    expected = nearest_codes(fitted.permute(0, 2, 3, 1).flatten(0, 2), tokenizer.centers)
    assert torch.equal(tokenizer(shown, (3, 2)).flatten(), expected)
    assert torch.equal(tokenizer.source.map(shown), tokenizer.source.map(resized(shown, (32, 32)))), 'its own square'
    tokenizer = build_tokenizer(made['PatchTokenizer'])
    assert torch.equal(tokenizer(shown, (3, 2)), tokenizer(resized(shown, (24, 16)), (3, 2)))
    assert len(tokenizer(torch.full((1, 3, 32, 32), 90.0), (5, 3)).unique()) == 1


def test_the_nearest_is_by_angle():
    generator = torch.Generator().manual_seed(0)
    features, directions = torch.randn(5, 7, generator=generator), F.normalize(torch.randn(3, 7), dim=1)
    assert torch.equal(nearest_codes(features, directions), nearest_codes(4 * features, directions))
    assert nearest_codes(features[:0], directions).shape == (0,)


def test_the_target_sees_pixels_whatever_the_normalization(made):
    """The same views under two normalizations have the same tokens."""
    shown, ids = pixels(), []
    for mean, std in (([127.5] * 3, [60.0] * 3), ([0.0], [255.0])):
        config = dict(type='SimMIM', backbone=VIT, mask_patch_size=8, loss='cross_entropy')
        target = dict(type='Tokens', tokenizer=made['PatchTokenizer'])
        model = MODELS.build({**config, 'target': target, 'data_preprocessor': dict(mean=mean, std=std)})
        normalized = (shown - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
        ids.append(model.objectives['predict'].target(normalized, (4, 4)))
    assert torch.equal(*ids)
    assert torch.equal(ids[0], build_tokenizer(made['PatchTokenizer'])(shown, (4, 4)))


def test_a_certain_prediction_looks_like_the_examples(made):
    target = Tokens(8, made['PatchTokenizer'])
    images = views()[0]
    ids = target(images, (4, 4))
    drawn: Any = target.to_images(F.one_hot(ids, target.dims).float(), images, (4, 4))
    drawn = drawn * target.std + target.mean
    torch.testing.assert_close(drawn[1, :, 8:16, 16:24], example_patches()[ids[1, 6]].float())


def test_dalles_tokens(made):
    """112 px for 14x14 patches, mapped to 0.1 .. 0.9, and the largest logit of mmpretrain's encoder."""
    tokenizer, shown = DALLETokenizer(made['DALLETokenizer']), pixels(112, 112, 2)
    seen: Any = []
    tokenizer.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ids = tokenizer(shown, (14, 14))
    torch.testing.assert_close(seen[0], 0.8 * shown / 255 + 0.1)
    assert torch.equal(ids, tokenizer.encoder(seen[0]).argmax(dim=1).flatten(1)) and len(ids.unique()) > 2
    tokenizer(pixels(224, 224, 1), (14, 14))
    assert seen[-1].shape == (1, 3, 112, 112) and seen[-1].min() >= 0.1 and seen[-1].max() <= 0.9
    assert not any(one.requires_grad for one in build_tokenizer(made['DALLETokenizer']).parameters())


def test_what_is_no_encoder_of_dalle(tmp_path, made):
    state = read_tokenizer(made['DALLETokenizer']).features
    for changed, message in (
        ({name: one for name, one in state.items() if 'group' not in name}, 'is no encoder of DALL-E'),
        ({name: one for name, one in state.items() if 'group_4' not in name}, 'does not fit the encoder of DALL-E'),
    ):
        torch.save(changed, tmp_path / 'changed.pth')
        with pytest.raises(UsageError, match=message):
            build_tokenizer(tmp_path / 'changed.pth')
    with pytest.raises(UsageError, match="holds a PatchTokenizer: give type='PatchTokenizer'"):
        DALLETokenizer(made['PatchTokenizer'])


def test_mistakes(tmp_path, made):
    with pytest.raises(UsageError, match=r"no file 'nowhere.pth'.*train_tokenizer.*--cfg-options model.tokenizer=FILE"):
        Tokens(8, 'nowhere.pth')
    with pytest.raises(UsageError, match=r"holds a PatchTokenizer.*type='PatchTokenizer'"):
        KMeansTokenizer(made['PatchTokenizer'])
    (tmp_path / 'noise.pth').write_bytes(b'noise')
    with pytest.raises(UsageError, match='cannot be read'):
        build_tokenizer(tmp_path / 'noise.pth')
    torch.save(dict(state_dict=dict(a=torch.zeros(1))), tmp_path / 'weights.pth')
    with pytest.raises(UsageError, match='is no tokenizer'):
        build_tokenizer(tmp_path / 'weights.pth')
    torch.save(torch.nn.Linear(2, 2), tmp_path / 'module.pth')
    with pytest.raises(UsageError, match=r'nothing of it was executed.*encoder\.pkl'):
        build_tokenizer(tmp_path / 'module.pth')
    with pytest.raises(UsageError, match=r'Pixels is not a tokenizer; those that are: .*KMeansTokenizer'):
        build_tokenizer(dict(type='Pixels', patch_size=8))
    content = read_tokenizer(made['KMeansTokenizer'])
    for changed, message in (
        (dict(centers=content.centers[:, :5]), 'do not fit each other'),
        (dict(features={}), 'does not fit NetworkFeatures'),
        (dict(settings={**content.settings, 'color': 'red'}), 'does not fit NetworkFeatures'),
        (dict(settings={**content.settings, 'image_size': -1}), 'image_size of the tokenizer is -1'),
    ):
        write_tokenizer(tmp_path / 'changed.pth', content._replace(**changed))
        with pytest.raises(UsageError, match=message):
            build_tokenizer(tmp_path / 'changed.pth')


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    content = read_tokenizer(made['KMeansTokenizer'])
    for network in (
        dict(type='os.mkdir', path='canary'),
        dict(type='TIMMBackbone', model_name='resnet18', pretrained=True),
        dict(VIT, init_cfg=dict(type='Pretrained', checkpoint='http://127.0.0.1:9/x.pth'), pretrained='x.pth'),
        dict(type='TimmNetwork', arch='hf-hub:somebody/model'),
    ):
        write_tokenizer('bad.pth', content._replace(settings={**content.settings, 'network': network}))
        with pytest.raises(UsageError, match='nothing was imported or run'):
            build_tokenizer('bad.pth')
        assert not Path('canary').exists()
    with pytest.raises(UsageError, match='timm has no such model'):
        MODELS.build(dict(type='TimmNetwork', arch='hf-hub:somebody/model'))
