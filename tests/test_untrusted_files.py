"""No program runs anything that a file of weights or a work dir from somebody else names."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from PIL import Image
from torch import nn

from mstkit.errors import UsageError, exit_cleanly
from mstkit.evaluation.protocols.linear_head import LinearHead
from mstkit.interop import read_checkpoint, registered, trusted_part
from mstkit.interop.sharded_checkpoint import REST, SUFFIX
from mstkit.networks import open_networks
from mstkit.registry import MODELS, TRANSFORMS
from mstkit.scenes.depth_files import ensure_depth_scenes
from mstkit.scenes.figure_files import ensure_figure_scenes
from mstkit.scenes.video_files import ensure_videos

from .evaluation.checkpoints import BACKBONE, NORMALIZATION, PIPELINE, save_checkpoint
from .evaluation.frozen import write_images
from .evaluation.videos import write_davis
from .programs import ROOT, load_program
from .report.toy import make_run

DEMO = ROOT / 'configs/demo/mst_vit-nano_scenes.py'
CANARY = 'canary'
MODULE = 'module_of_a_stranger'
REFUSED = 'nothing was imported or run'


def calls(command: str) -> dict[str, Any]:
    """A component that makes a folder when it is built."""
    components: dict[str, dict[str, Any]] = {
        'os.mkdir': dict(type='os.mkdir', path=CANARY),
        'os.system': dict(type='os.system', command=f'mkdir {CANARY}'),
        'subprocess.run': dict(type='subprocess.run', args=['mkdir', CANARY]),
        'subprocess.Popen': dict(type='subprocess.Popen', args=['mkdir', CANARY]),
        MODULE: dict(type=MODULE),
        f'{MODULE}.Backbone': dict(type=f'{MODULE}.Backbone'),
        'mmengine.utils.mkdir_or_exist': dict(type='mmengine.mkdir_or_exist', dir_name=CANARY),
        'scope': dict(type='Backbone', _scope_=f'{MODULE}_package'),
        'prefix': dict(type=f'{MODULE}_package.Backbone'),
    }
    return components[command]


def config_with(**backbone: Any) -> dict[str, Any]:
    hook = dict(type='KNNHook', val_dataset=dict(type='ImageFolder', pipeline=PIPELINE))
    model = dict(type='DINO', backbone={**BACKBONE, **backbone}, data_preprocessor=NORMALIZATION)
    return dict(model=model, custom_hooks=[hook])


# Where the backbone of a checkpoint can hold something else, and what the message calls the place.
PLACES: dict[str, Callable[[dict], dict]] = {
    'model.backbone.type': lambda evil: dict(model=dict(backbone=evil)),
    'model.backbone.norm_cfg.type': lambda evil: config_with(norm_cfg=evil),
    'model.backbone.layer_cfgs.act_cfg.type': lambda evil: config_with(layer_cfgs=dict(act_cfg=evil)),
    'model.backbone.layer_cfgs[1].ffn_cfg.act_cfg.type': lambda evil: config_with(
        layer_cfgs=[{}, dict(ffn_cfg=dict(act_cfg=evil))]
    ),
    'model.backbone.init_cfg[0].type': lambda evil: config_with(init_cfg=[evil]),
    'model.backbone.patch_cfg.conv_cfg.type': lambda evil: config_with(patch_cfg=dict(conv_cfg=evil)),
}


@pytest.fixture(autouse=True)
def _watched(tmp_path, monkeypatch):
    """A folder to be in, with a module and a package in reach that leave a mark when they are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    trap = f'import os\nos.makedirs({str(tmp_path / CANARY)!r}, exist_ok=True)\nclass Backbone: pass\n'
    (tmp_path / f'{MODULE}.py').write_text(trap)
    (tmp_path / f'{MODULE}_package').mkdir()
    for name in ('__init__', 'registry'):
        (tmp_path / f'{MODULE}_package' / f'{name}.py').write_text(trap)
    yield
    for name in [name for name in sys.modules if name.startswith(MODULE)]:
        del sys.modules[name]


def no_mark() -> None:
    """Nothing ran and nothing was imported."""
    assert not Path(CANARY).exists()
    assert not [name for name in sys.modules if name.startswith(MODULE)]


def checkpoint_of(config: Any, path: Path = Path('evil.pth'), source: Path | None = None) -> Path:
    """A checkpoint whose tensors are sound and whose config is this one."""
    content = torch.load(source or save_checkpoint(path), weights_only=True)
    content['meta']['cfg'] = config if isinstance(config, str) else Config(config).pretty_text
    torch.save(content, path)
    return path


@pytest.mark.parametrize('command', ['os.mkdir', 'subprocess.run', MODULE, f'{MODULE}.Backbone', 'scope', 'prefix'])
def test_the_trap_springs_where_nobody_looks(command):
    """What the checks below keep away from the registry does happen in it."""
    with contextlib.suppress(Exception):  # what is built is no component
        MODELS.build(calls(command))
    assert Path(CANARY).exists()


COMMANDS = (
    'os.mkdir',
    'os.system',
    'subprocess.run',
    'subprocess.Popen',
    MODULE,
    f'{MODULE}.Backbone',
    'mmengine.utils.mkdir_or_exist',
    'scope',
    'prefix',
)


@pytest.fixture(scope='module')
def sound(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp('sound') / 'epoch_1.pth')


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize('source', ['{}', 'random:{}'])
def test_opening_a_network(place, command, source, sound):
    path = checkpoint_of(PLACES[place](calls(command)), source=sound)
    named = place.replace('.type', '._scope_') if command == 'scope' else place
    with pytest.raises(UsageError) as caught:
        open_networks(source.format(path))
    assert f'{named} is ' in str(caught.value) and REFUSED in str(caught.value)
    no_mark()


def test_a_config_may_ask_for_nothing_to_be_loaded(sound):
    for argument in (
        dict(pretrained=True),
        dict(pretrained='x'),
        dict(layer_cfgs=dict(act_cfg=dict(type='GELU', checkpoint='x'))),
        dict(arch='hf_hub:somebody/something'),
        dict(arch='../../secret'),
        dict(frozen_stages='file:x'),
        dict(trust_remote_code=True),
        dict(tokenizer_path='bert-base'),
    ):
        with pytest.raises(UsageError, match=r'model\.backbone\.[\w.]+ is .*' + REFUSED):
            open_networks(str(checkpoint_of(config_with(**argument), source=sound)))
    no_mark()


def test_weights_that_an_initialization_names_are_left_alone(sound):
    Path('weights.pth').write_bytes(pickle.dumps(Attack()))
    pretrained = dict(type='Pretrained', checkpoint='weights.pth')
    for init_cfg in (pretrained, [pretrained], [dict(type='Xavier', layer='Linear'), pretrained]):
        path = checkpoint_of(config_with(init_cfg=init_cfg), source=sound)
        assert len(open_networks(str(path))) == 2
        assert len(open_networks(f'random:{path}')) == 1
    kept = trusted_part(dict(BACKBONE, init_cfg=[dict(type='Xavier', layer='Linear'), pretrained]), 'x')
    assert kept['init_cfg'] == [dict(type='Xavier', layer='Linear')]
    no_mark()


def test_what_nobody_builds_is_only_text(sound):
    """Imports, bases, hooks, data sets and other parts of the model are never asked for."""
    config = config_with()
    config['custom_imports'] = dict(imports=[MODULE], allow_failed_imports=False)
    config['_base_'] = [f'{MODULE}.py']
    config['model'].update(type='os.mkdir', path=CANARY, neck=calls('os.system'))
    config['custom_hooks'].append(calls('os.mkdir'))
    config['train_dataloader'] = dict(dataset=calls('os.mkdir'))
    config['default_scope'] = f'{MODULE}_package'
    config['runner_type'] = f'{MODULE}.Backbone'
    assert len(open_networks(str(checkpoint_of(config, source=sound)))) == 2
    no_mark()


def test_components_of_ones_own_and_of_all_packages(sound):
    @MODELS.register_module(name='OwnViT', force=True)
    class OwnViT(MODELS.get('MaskedVisionTransformer')):  # type: ignore[misc]
        pass

    @MODELS.register_module(name='OwnFunction', force=True)
    def own_function(**_: Any) -> None:
        os.mkdir(CANARY)

    for kind in ('OwnViT', 'mstkit.OwnViT', 'mstkit.MaskedVisionTransformer', 'mmpretrain.VisionTransformer'):
        networks = open_networks(str(checkpoint_of(config_with(type=kind), source=sound)))
        assert len(networks) == 2
    with pytest.raises(UsageError, match='may only name a class of its own kind'):
        open_networks(str(checkpoint_of(config_with(type='OwnFunction'), source=sound)))
    with pytest.raises(UsageError, match=r'may only name a registered model; .*Did you mean MaskedVisionTransformer\?'):
        open_networks(str(checkpoint_of(config_with(type='MaskedVisionTransfomer'), source=sound)))
    no_mark()


def test_names_are_looked_up_as_the_registry_does():
    for registry in (MODELS, TRANSFORMS):
        level, names = registry, set()
        while level is not None:
            level.import_from_location()
            names |= set(level.module_dict)
            level = level.parent
        for name in names:
            assert registered(name, registry) is registry.get(name), name
    assert registered('mmengine.Conv2d', MODELS) is nn.Conv2d
    assert registered('mmengine.utils.mkdir_or_exist', MODELS) is None


def test_parts_keep_their_kind():
    part = ConfigDict(
        type='MaskedVisionTransformer', sizes=(1, [2, dict(a=None)]), layer_cfgs=dict(act_cfg=dict(type='GELU'))
    )
    assert trusted_part(part, 'x') == part.to_dict()
    steps = [dict(type='torchvision/CenterCrop', size=3), dict(type='LoadRGB')]
    assert trusted_part(steps, 'x', TRANSFORMS) == steps
    no_parts: tuple[Any, ...] = (3, None, ['x'], dict())
    for value in no_parts:
        with pytest.raises(UsageError, match=r'x\.type is '):
            trusted_part(dict(type=value), 'x')


# ---- every program ----


loaded = functools.cache(load_program)


class Attack:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (CANARY,)


def labeled_images(folder: Path) -> Path:
    write_images(folder, dict(green=2, red=2), 0)
    return folder


def of_retrieval(checkpoint: Path) -> list[object]:
    Path('jpg').mkdir()
    for name in ('a', 'b'):
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(f'jpg/{name}.jpg')
    entry = dict(easy=[0], hard=[], junk=[], bbx=[1.0, 1.0, 30.0, 30.0])
    Path('gnd.pkl').write_bytes(pickle.dumps(dict(imlist=['a'], qimlist=['b'], gnd=[entry]), 2))
    return [checkpoint, '--data', '.', '--ground-truth', 'gnd.pkl', '--device', 'cpu']


def of_backgrounds(checkpoint: Path) -> list[object]:
    labeled_images(Path('data/mixed_same/val'))
    LinearHead(torch.zeros(2, 24), torch.zeros(2), ('green', 'red'), 'last', '0' * 64, 'x').save('head.pth')
    return [checkpoint, '--head', 'head.pth', '--data', 'data', '--device', 'cpu']


def of_labeled(checkpoint: Path) -> list[object]:
    images = labeled_images(Path('images'))
    return [
        checkpoint,
        '--train',
        images,
        '--val',
        images,
        '--allow-overlap',
        '--device',
        'cpu',
        '--num-workers',
        0,
    ]


def of_training(checkpoint: Path) -> list[object]:
    config = ROOT / 'configs/downstream/demo/classifier_vit-nano_scenes.py'
    return [
        config,
        '--pretrained',
        checkpoint,
        '--work-dir',
        'run',
        '--cfg-options',
        'train_dataloader.dataset.num_images=8',
    ]


# How each program that reads a checkpoint is called; all of them fail, for the config or for the tensors.
READ_CHECKPOINTS: dict[str, Callable[[Path], list[object]]] = {
    'evaluation/evaluate.py': lambda file: [*of_labeled(file), '--suite', 'knn', '--work-dir', 'out'],
    'evaluation/knn.py': of_labeled,
    'evaluation/backgrounds.py': of_backgrounds,
    'evaluation/retrieval.py': of_retrieval,
    'evaluation/video_segmentation.py': lambda file: [file, '--data', write_davis(Path('davis')), '--device', 'cpu'],
    'evaluation/depth.py': lambda file: [file, '--data', ensure_depth_scenes('depth', 2, 1, 32), '--device', 'cpu'],
    'evaluation/tracking.py': lambda file: [
        *(file, '--data', ensure_videos('videos', 0, 1, 32, 2), '--device', 'cpu'),
    ],
    'evaluation/keypoints.py': lambda file: [
        *(file, '--data', ensure_figure_scenes('figures', 2, 1, 32), '--device', 'cpu'),
    ],
    'analysis/dark_secrets.py': lambda file: [file, '--images', labeled_images(Path('images')), '--device', 'cpu'],
    'analysis/attention_maps.py': lambda file: [
        *(file, '--images', labeled_images(Path('images')), '--device', 'cpu', '--out', 'maps.png'),
    ],
    'analysis/preview_masks.py': lambda file: [
        *(DEMO, '--checkpoint', file, '--images', labeled_images(Path('images'))),
    ],
    'dev/publish_model.py': lambda file: [file],
    'embed.py': lambda file: [
        *(file, '--images', labeled_images(Path('images')), '--out', 'features.npz', '--device', 'cpu'),
    ],
    'train.py': of_training,
    'test.py': lambda file: [DEMO, file],
    'train_tokenizer.py': lambda file: [
        *(
            '--network',
            file,
            '--data-root',
            labeled_images(Path('images')),
            '--out',
            'tokenizer.pth',
            '--device',
            'cpu',
        ),
        *('--codes', 2),
    ],
    'transfer.py': lambda file: ['--pretrained', file, '--tasks', 'classification', '--work-dir', 'out'],
}
BUILD_THE_BACKBONE = [
    *(name for name in READ_CHECKPOINTS if '/' in name and name != 'analysis/preview_masks.py'),
    'train_tokenizer.py',
    'embed.py',
]
# Those that read folders of runs, or neither.
READ_WORK_DIRS = ('report.py', 'consolidate.py')
OTHERS = (
    'ablate.py',
    'analysis/compare_masks.py',
    'analysis/plot_knn.py',
    'dataset_converters/cityscapes_train_ids.py',
    'demo.py',
    'make_scenes.py',
    'make_shards.py',
    'replay.py',
    'torchrun.py',
)


def test_every_program_is_known_here():
    programs = {path.relative_to(ROOT / 'tools').as_posix() for path in (ROOT / 'tools').rglob('*.py')}
    assert programs == {*READ_CHECKPOINTS, *READ_WORK_DIRS, *OTHERS, 'dev/chaos.py'}
    for name in OTHERS:
        text = Path(load_program(f'tools/{name}').__file__ or '').read_text()
        assert not any(word in text for word in ('read_checkpoint', 'open_networks', 'open_several', 'read_source')), (
            name
        )


def run(name: str, monkeypatch, *words: object) -> int:
    program = loaded(f'tools/{name}')
    monkeypatch.setattr(sys, 'argv', [name, *map(str, words)])
    try:
        exit_cleanly(program.main)()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize('name', READ_CHECKPOINTS)
def test_programs_run_nothing_of_a_checkpoint(name, sound, monkeypatch, capsys):
    attacks: dict[str, Any] = {
        "model.backbone.type is 'os.mkdir'": dict(model=dict(backbone=calls('os.mkdir'))),
        f"model.backbone.norm_cfg.type is '{MODULE}'": dict(
            config_with(norm_cfg=dict(type=MODULE)), custom_imports=dict(imports=[MODULE])
        ),
        'it was not executed': f'import os\nos.mkdir({CANARY!r})',
    }
    words = READ_CHECKPOINTS[name](Path('evil.pth'))
    for message, config in attacks.items() if name in BUILD_THE_BACKBONE else [*attacks.items()][:1]:
        checkpoint_of(config, source=sound)
        assert run(name, monkeypatch, *words) == 2
        said = capsys.readouterr().err
        no_mark()
        assert name not in BUILD_THE_BACKBONE or message in said
    torch.save({'meta': Attack(), 'state_dict': {}}, 'evil.pth')
    assert run(name, monkeypatch, *words) == 2
    assert 'Nothing in it was executed' in capsys.readouterr().err
    no_mark()


@pytest.mark.parametrize(
    'place', ['custom_hooks.0.val_dataset.pipeline[0]', 'model.data_preprocessor', 'data_preprocessor']
)
def test_knn_builds_no_other_part_unseen(place, sound, monkeypatch, capsys):
    config = config_with()
    if place.startswith('custom'):
        config['custom_hooks'][0]['val_dataset']['pipeline'] = [calls('os.mkdir')]
    elif place.startswith('model'):
        config['model']['data_preprocessor'] = calls('os.mkdir')
    else:
        del config['model']['data_preprocessor']
        config['data_preprocessor'] = calls('os.mkdir')
    assert run('evaluation/knn.py', monkeypatch, *of_labeled(checkpoint_of(config, source=sound))) == 2
    assert f"{place}.type is 'os.mkdir'" in capsys.readouterr().err
    no_mark()


def test_knn_with_a_size_of_ones_own(sound, monkeypatch, capsys):
    file = checkpoint_of(dict(model=dict(backbone=calls('os.system'))), source=sound)
    assert run('evaluation/knn.py', monkeypatch, *of_labeled(file), '--image-size', 32) == 2
    assert "model.backbone.type is 'os.system'" in capsys.readouterr().err
    no_mark()


def test_the_report_imports_nothing_that_a_run_names(tmp_path, monkeypatch, capsys):
    config = textwrap.dedent(f"""
        custom_imports = dict(imports=['{MODULE}'], allow_failed_imports=False)
        model = dict(
            type='os.mkdir', path='{CANARY}',
            backbone=dict(type='{MODULE}.Backbone'),
            masker=dict(type='{MODULE}'),
            neck=dict(type='{MODULE}.Backbone', _scope_='{MODULE}_package'),
            head=dict(type='{MODULE}_package.Backbone'),
            teacher=dict(type='{MODULE}'))
        optim_wrapper = dict(type='{MODULE}.Backbone', optimizer=dict(type='{MODULE}', lr=0.1))
        train_cfg = dict(max_epochs=4)
        train_dataloader = dict(batch_size=8, dataset=dict(type='{MODULE}'))
        param_scheduler = dict(type='{MODULE}')
    """)
    folder = make_run(tmp_path / 'run', config=config)
    assert run('report.py', monkeypatch, folder) == 0
    no_mark()
    page = (folder / 'report.html').read_text()
    assert f'{MODULE}.Backbone' in page  # shown, as text
    shutil.rmtree(folder)
    folder = make_run(tmp_path / 'run', config=f'import os\nos.mkdir({CANARY!r})')
    assert run('report.py', monkeypatch, folder) == 0
    no_mark()


@pytest.mark.parametrize('home', ['torch.distributed.checkpoint.metadata', 'torch.distributed.checkpoint.filesystem'])
@pytest.mark.parametrize('name', ['os.mkdir', 'os'])
def test_a_sharded_checkpoint_runs_nothing(home, name, monkeypatch, capsys):
    """A list of pieces that reaches through a module of torch's to what that module imports."""
    folder = Path(f'evil{SUFFIX}')
    folder.mkdir()
    torch.save({}, folder / REST)
    words = [f'X{chr(len(word))}\0\0\0{word}'.encode() for word in (home, name, CANARY)]
    (folder / '.metadata').write_bytes(b'\x80\x04' + words[0] + words[1] + b'\x93' + words[2] + b'\x85R.')
    with pytest.raises(UsageError, match=r'Nothing in it was executed'):
        read_checkpoint(folder)
    assert run('consolidate.py', monkeypatch, folder) == 2
    assert f'it names {home}.{name}' in capsys.readouterr().err
    no_mark()


def test_weights_of_ones_own_config_are_read_as_data_too():
    """mmengine reads a file that is no plain data a second time, and then executes it."""
    torch.save({'state_dict': Attack()}, 'weights.pth')
    model = MODELS.build({**BACKBONE, 'init_cfg': dict(type='Pretrained', checkpoint='weights.pth')})
    with pytest.raises(UsageError, match=r'weights\.pth is refused'):
        model.init_weights()
    no_mark()
    torch.save(model.state_dict(), 'weights.pth')
    model.init_weights()
