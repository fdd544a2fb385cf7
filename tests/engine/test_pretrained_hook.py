"""A run starts from the backbone that it was given, and goes on from its own checkpoints and no others."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from mstkit.engine.checkpoints.checkpointing import save
from mstkit.engine.hooks import PretrainedBackboneHook
from mstkit.engine.hooks import pretrained_backbone_hook as module_of_the_hook
from mstkit.errors import UsageError
from mstkit.interop import read_checkpoint
from mstkit.registry import DATASETS, MODELS

from ..models.builders import VIT, mst
from . import running

_COUNT = count()
NAME = 'mstkit.PretrainedBackboneHook'


@DATASETS.register_module(force=True)
class ToyImages(Dataset):
    """Eight noisy images of two classes."""

    metainfo: ClassVar[dict] = {}

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        noise = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(int(index)))
        return {'inputs': noise + index % 2, 'label': int(index) % 2}


@MODELS.register_module(force=True)
class ToyClassifier(BaseModel):
    """A small ViT with a linear head."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        arch = {**VIT['arch'], 'embed_dims': width}
        self.backbone = MODELS.build({**VIT, 'type': 'mstkit.MaskedVisionTransformer', 'arch': arch})
        self.head = nn.Linear(width, 2)

    def forward(self, inputs: Tensor, label: Tensor, mode: str = 'tensor') -> dict[str, Tensor]:
        return {'loss': F.cross_entropy(self.head(self.backbone(inputs)[-1]), label)}


class Watch(Hook):
    """Keeps the weights as they are when the first iteration starts."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        self.state = {name: value.clone() for name, value in runner.model.state_dict().items()}


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('pretrained') / 'epoch_3.pth'
    with DefaultScope.overwrite_default_scope('mstkit'):
        torch.manual_seed(3)
        model = mst()
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.05 * torch.randn_like(value))
        save(dict(meta=dict(epoch=3), state_dict=model.state_dict()), path)
    return path


def settings(work_dir: Path, hook: dict[str, Any] | None = None, epochs: int = 1, **changes: Any) -> Config:
    """A run of mmengine's own Runner: two iterations per epoch."""
    return Config(
        dict(
            model=dict(type='mstkit.ToyClassifier'),
            work_dir=str(work_dir),
            experiment_name=f'pretrained{next(_COUNT)}',  # two runs of a second would share mmengine's message hub
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                dataset=dict(type='mstkit.ToyImages'),
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='default_collate'),
            ),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            default_hooks=dict(pretrained=dict(type=NAME, **(hook or {}))),
            default_scope='mmengine',
            log_level='ERROR',
            randomness=dict(seed=0),
            **changes,
        )
    )


def trained(config: Config, monkeypatch) -> tuple[dict[str, Tensor], str]:
    """Trains; returns the weights before the first iteration, and what was said."""
    runner = Runner.from_cfg(config)
    watch, said = Watch(), []
    monkeypatch.setattr(runner.logger, 'info', lambda line, *rest: said.append(str(line)))
    runner.register_hook(watch)
    runner.train()
    return watch.state, '\n'.join(said)


def is_backbone_of(state: dict[str, Tensor], path: Path, prefix: str = 'backbone.') -> bool:
    source = read_checkpoint(path)['state_dict']
    own = {name.removeprefix('backbone.'): value for name, value in state.items() if name.startswith('backbone.')}
    return bool(own) and all(torch.equal(value, source[prefix + name]) for name, value in own.items())


def changed(path: Path, target: Path, change: Any) -> Path:
    """A copy of a checkpoint with another state dict."""
    content = torch.load(path, weights_only=False)
    change(content['state_dict'])
    torch.save(content, target)
    return target


def in_hub(path: Path) -> Any:
    return read_checkpoint(path)['message_hub']['runtime_info'].get('pretrained')


@pytest.mark.parametrize('branch', ['student', 'teacher'])
def test_the_runner_of_mmengine_starts_from_the_backbone(tmp_path, pretrained, branch, monkeypatch):
    start, said = trained(settings(tmp_path, dict(checkpoint=str(pretrained), branch=branch)), monkeypatch)
    assert is_backbone_of(start, pretrained, 'backbone.' if branch == 'student' else 'teacher.backbone.')
    assert f'backbone from {pretrained} ({branch}): loaded ' in said and '(100.0 %)' in said
    assert in_hub(tmp_path / 'epoch_1.pth') == dict(file=str(pretrained), branch=branch, epoch=3)


def test_without_a_checkpoint_it_says_so(tmp_path, monkeypatch):
    _, said = trained(settings(tmp_path), monkeypatch)
    assert said.count('from scratch') == 1
    assert in_hub(tmp_path / 'epoch_1.pth') is None


def test_a_resumed_run_keeps_its_weights(tmp_path, pretrained, monkeypatch):
    hook = dict(checkpoint=str(pretrained))
    trained(settings(tmp_path, hook), monkeypatch)
    start, said = trained(settings(tmp_path, hook, epochs=2, resume=True), monkeypatch)
    assert is_backbone_of(start, tmp_path / 'epoch_1.pth') and not is_backbone_of(start, pretrained)
    assert f'{pretrained} is not loaded' in said
    assert in_hub(tmp_path / 'epoch_2.pth') == dict(file=str(pretrained), branch='student', epoch=3)


def test_with_nothing_to_resume_it_starts_from_the_backbone(tmp_path, pretrained, monkeypatch):
    start, _ = trained(settings(tmp_path, dict(checkpoint=str(pretrained)), resume=True), monkeypatch)
    assert is_backbone_of(start, pretrained)


def test_resuming_from_other_weights_is_refused(tmp_path, monkeypatch):
    """mmengine's Runner would leave what is missing at random and say so in a line among hundreds."""
    trained(settings(tmp_path), monkeypatch)
    good = tmp_path / 'epoch_1.pth'
    for change, message in (
        (lambda state: state.pop('head.bias'), r'bad\.pth is a checkpoint of another model: 1 missing \(head\.bias\)'),
        (lambda state: state.update({'head.bias': torch.zeros(5)}), r'head\.bias \(5,\) instead of \(2,\)'),
        (lambda state: state.update({'extra': torch.zeros(5)}), r'1 unexpected \(extra\)'),
    ):
        bad = changed(good, tmp_path / 'bad.pth', change)
        (tmp_path / 'last_checkpoint').write_text(str(bad))
        for found in (dict(), dict(load_from=str(bad))):
            with pytest.raises(UsageError, match=message):
                trained(settings(tmp_path, epochs=2, resume=True, **found), monkeypatch)


def test_load_from_is_compared_with_the_whole_model(tmp_path, pretrained, monkeypatch):
    trained(settings(tmp_path / 'first'), monkeypatch)
    good = tmp_path / 'first' / 'epoch_1.pth'
    hook = dict(checkpoint=str(pretrained))
    start, said = trained(settings(tmp_path / 'next', hook, load_from=str(good)), monkeypatch)
    assert is_backbone_of(start, good) and f'{pretrained} is not loaded' in said
    surplus = changed(good, tmp_path / 'surplus.pth', lambda state: state.update({'extra': torch.zeros(5)}))
    trained(settings(tmp_path / 'next', load_from=str(surplus)), monkeypatch)
    lacking = changed(good, tmp_path / 'lacking.pth', lambda state: state.pop('head.bias'))
    with pytest.raises(UsageError, match=r'lacking\.pth .*1 missing \(head\.bias\).*backbone alone.*--pretrained'):
        trained(settings(tmp_path / 'next', load_from=str(lacking)), monkeypatch)
    with pytest.raises(UsageError, match=r'epoch_3\.pth .*2 missing \(head\.weight, head\.bias\)'):
        trained(settings(tmp_path / 'next', load_from=str(pretrained)), monkeypatch)


def test_another_arch_is_refused(tmp_path, pretrained, monkeypatch):
    config = settings(tmp_path, dict(checkpoint=str(pretrained)))
    config.model.width = 96
    with pytest.raises(UsageError, match=r'epoch_3\.pth does not fit .*width 48.*width 96'):
        trained(config, monkeypatch)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain', 'mmengine', 'mstkit'])
def test_every_scope_finds_the_hook(scope):
    with DefaultScope.overwrite_default_scope(scope):
        assert isinstance(HOOKS.build(dict(type=NAME)), PretrainedBackboneHook)


def test_the_runner_of_mstkit(tmp_path, pretrained, monkeypatch):
    """It compares what it resumes itself: the hook has nothing to add."""
    changes = dict(
        model=dict(type='ToyClassifier'),
        train_dataloader__dataset=dict(type='ToyImages'),
        default_hooks__pretrained=dict(type=NAME, checkpoint=str(pretrained)),
    )
    runner = running.build(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=3), **changes)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    assert is_backbone_of(watch.state, pretrained)
    wanted = dict(file=str(pretrained), branch='student', epoch=3)
    hub = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)['message_hub']
    assert hub['runtime_info']['pretrained'] == wanted
    (tmp_path / 'epoch_3.pth').unlink()

    monkeypatch.setattr(module_of_the_hook, 'check_same_model', None)
    runner = running.build(tmp_path, resume=True, **changes)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    assert is_backbone_of(watch.state, tmp_path / 'epoch_2.pth')
    assert runner.message_hub.get_info('pretrained') == wanted


@pytest.mark.parametrize(
    'hook, message',
    [
        (dict(checkpoint='nowhere.pth'), r'nowhere\.pth does not exist'),
        (dict(checkpoint='.'), 'is a folder'),
        (dict(branch='techer'), "PretrainedBackboneHook.branch is 'techer': give 'student' or 'teacher'"),
        (dict(chekpoint='a.pth'), "no argument 'chekpoint'. Did you mean checkpoint"),
    ],
)
def test_a_mistake_shows_before_the_work_dir_is_made(tmp_path, hook, message):
    with pytest.raises(UsageError, match=message):
        running.build(tmp_path / 'work', default_hooks__pretrained=dict(type=NAME, **hook))
    assert not (tmp_path / 'work').exists()


def test_files_that_hold_no_such_backbone(tmp_path, pretrained):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'executed'),)

    torch.save({'state_dict': {'backbone.a': Attack()}}, tmp_path / 'evil.pth')
    with pytest.raises(UsageError, match=r'evil\.pth is refused'):
        PretrainedBackboneHook(tmp_path / 'evil.pth')
    assert not (tmp_path / 'executed').exists()

    def drop_teacher(state):
        for name in [name for name in state if name.startswith('teacher.')]:
            del state[name]

    lonely = changed(pretrained, tmp_path / 'lonely.pth', drop_teacher)
    with pytest.raises(UsageError, match=r'lonely\.pth: the checkpoint has no teacher'):
        PretrainedBackboneHook(lonely, 'teacher')


def fake_runner(model: nn.Module) -> Any:
    said: list[str] = []
    hub = MessageHub.get_instance(f'pretrained{next(_COUNT)}')
    return SimpleNamespace(model=model, logger=SimpleNamespace(info=said.append), message_hub=hub, said=said)


def test_a_distributed_model_is_unwrapped(pretrained, free_port):
    address = f'tcp://127.0.0.1:{free_port}'
    torch.distributed.init_process_group('gloo', init_method=address, rank=0, world_size=1)
    try:
        model = ToyClassifier()
        runner = fake_runner(MMDistributedDataParallel(model))
        PretrainedBackboneHook(pretrained).before_train(runner)
        assert is_backbone_of(model.state_dict(), pretrained)
    finally:
        torch.distributed.destroy_process_group()


def test_a_model_without_backbone_is_refused_and_the_file_is_let_go(pretrained):
    hook = PretrainedBackboneHook(str(pretrained))
    with pytest.raises(UsageError, match=r'Linear has no backbone that .*epoch_3\.pth could be loaded into'):
        hook.before_train(fake_runner(nn.Linear(2, 2)))
    hook = PretrainedBackboneHook(str(pretrained))
    assert hook._content is not None and set(hook._content['meta']) == {'epoch'}
    assert all(name.startswith('backbone.') for name in hook._content['state_dict'])
    runner = fake_runner(ToyClassifier())
    hook.before_train(runner)
    assert hook._content is None and len(runner.said) == 1
