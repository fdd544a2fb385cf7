"""A run that is resumed with another config: taken, refused, or accepted, and never silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from mstkit.engine.checkpoints.data_fingerprint import fingerprint
from mstkit.engine.checkpoints.resume_rules import LENGTH, REFUSED, SCHEDULE, TAKEN, compare, rule_of
from mstkit.engine.config.config_values import NOT_COMPARED, RUNNER_KEYS, flatten
from mstkit.engine.launch.launch import read_config
from mstkit.errors import UsageError

from . import running, toy
from .test_resume import MID_EPOCH, StopAfter, interrupt

ROOT = Path(__file__).parents[2]


class Rates(StopAfter):
    """Notes what the optimizer used in each iteration: (lr, weight decay) of every group."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.seen: list[list[tuple[float, float]]] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        groups = runner.optim_wrapper.optimizer.param_groups
        self.seen.append([(group['lr'], group['weight_decay']) for group in groups])


def rates(work_dir: Path, **changes) -> list[list[tuple[float, float]]]:
    runner = running.build(work_dir, **changes)
    hook = Rates()
    runner.register_hook(hook)
    runner.train()
    return hook.seen


@pytest.fixture(scope='module')
def cut(tmp_path_factory) -> Path:
    """A run of twelve iterations that was killed in its second epoch, with a checkpoint of every iteration."""
    folder = tmp_path_factory.mktemp('resume') / 'cut'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mstkit.engine.checkpoints.resumable_runner.collect_env', dict)
        interrupt(folder, 6, default_hooks__checkpoint=MID_EPOCH)
    return folder / 'iter_6.pth'


SCHEDULE_WITH_DECAY = [
    *toy.settings()['param_scheduler'],
    dict(type='CosineAnnealingWeightDecay', eta_min_ratio=10, begin=0, end=3, convert_to_iter_based=True),
]


@pytest.mark.parametrize(
    'changes',
    [
        dict(optim_wrapper__optimizer__lr=0.02),
        dict(optim_wrapper__optimizer__weight_decay=0.3),
        dict(optim_wrapper__optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1, betas=(0.8, 0.95))),
        dict(auto_scale_lr=dict(base_batch_size=16, enable=True)),
    ],
    ids=['lr', 'weight decay', 'all', 'scaled'],
)
@pytest.mark.parametrize('accumulate', [1, 2])
def test_the_new_value_is_what_the_optimizer_uses(tmp_path, changes, accumulate):
    """From the first step on, it is that of a run that had it from the start, to the bit."""
    common = dict(
        default_hooks__checkpoint=MID_EPOCH,
        param_scheduler=SCHEDULE_WITH_DECAY,
        optim_wrapper__accumulative_counts=accumulate,
    )
    if accumulate > 1:
        changes = {**changes, 'optim_wrapper__accumulative_counts': accumulate}
    interrupt(tmp_path / 'cut', 6, **common)
    whole = rates(tmp_path / 'whole', **{**common, **changes})
    rest = rates(tmp_path / 'cut', resume=True, **{**common, **changes})
    assert len(rest) == 6 and rest == whole[6:]
    old = torch.load(tmp_path / 'cut' / 'iter_6.pth', weights_only=True)['optimizer']['param_groups']
    assert rest[0] != [(group['lr'], group['weight_decay']) for group in old]
    groups = torch.load(tmp_path / 'cut' / 'iter_12.pth', weights_only=True)['optimizer']['param_groups']
    wanted = changes.get('optim_wrapper__optimizer', {}).get('betas', (0.9, 0.999))
    assert all(tuple(group['betas']) == wanted for group in groups)


def test_without_a_schedule_too(tmp_path):
    plain = dict(param_scheduler=None)
    interrupt(tmp_path, 6, **plain)
    rest = rates(tmp_path, resume=True, optim_wrapper__optimizer__lr=0.02, **plain)
    assert {lr for groups in rest for lr, _ in groups} == {0.02}


def test_what_is_taken_is_said(cut, tmp_path):
    changes: dict[str, Any] = dict(
        optim_wrapper__optimizer__lr=0.02, optim_wrapper__clip_norm=0.5, train_dataloader__num_workers=1
    )
    changes['default_hooks__checkpoint'] = MID_EPOCH
    runner = running.build(tmp_path, resume=True, load_from=str(cut), **changes)
    assert sorted(runner._start.notes) == [
        'not as in iter_6.pth: optim_wrapper.clip_norm: nothing -> 0.5 (taken)',
        'not as in iter_6.pth: optim_wrapper.optimizer.lr: 0.05 -> 0.02 (taken)',
        'not as in iter_6.pth: train_dataloader.num_workers: 0 -> 1 (taken)',
    ]


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(model__dropout=0.5), r'model\.dropout: nothing -> 0\.5'),
        (dict(train_dataloader__dataset__jitter=True), r'train_dataloader\.dataset\.jitter: nothing -> True'),
        (dict(train_dataloader__dataset__length=17), 'it had 16 training images, this run has 17'),
        (dict(param_scheduler__1__eta_min=1e-4), r'param_scheduler\.1\.eta_min: 0\.001 -> 0\.0001'),
        (dict(param_scheduler__1__end=2), r'param_scheduler\.1\.end: 3 -> 2'),
        (dict(optim_wrapper__freeze_last_layer_epochs=1), r'freeze_last_layer_epochs: nothing -> 1'),
        (dict(optim_wrapper__optimizer__type='Adam'), r"optimizer\.type: 'AdamW' -> 'Adam'"),
        (dict(custom_hooks=[dict(type='ProgressHook'), dict(type='KillHook')]), r'custom_hooks\.KillHook'),
    ],
)
def test_what_would_be_learned_is_refused_unless_accepted(cut, tmp_path, changes, message):
    with pytest.raises(UsageError, match=rf'{message}.*--accept-changes.*load_from') as error:
        running.build(tmp_path / 'no', resume=True, load_from=str(cut), **changes)
    assert 'other settings' in str(error.value) and not (tmp_path / 'no').exists()
    runner = running.build(tmp_path / 'yes', resume=True, load_from=str(cut), accept_changes=True, **changes)
    assert any('(accepted)' in note for note in runner._start.notes)


def test_an_accepted_schedule_is_followed(tmp_path):
    """A longer warm-up, say: from the first step on, the rates are those of a run that had it from the start."""
    longer = dict(
        default_hooks__checkpoint=MID_EPOCH,
        param_scheduler=[
            dict(type='LinearLR', start_factor=1e-9, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', eta_min=1e-3, by_epoch=True, begin=2, end=3, convert_to_iter_based=True),
        ],
    )
    interrupt(tmp_path / 'cut', 6, default_hooks__checkpoint=MID_EPOCH)
    whole = rates(tmp_path / 'whole', **longer)
    rest = rates(tmp_path / 'cut', resume=True, accept_changes=True, **longer)
    assert rest == whole[6:]


def test_a_run_can_be_made_longer(tmp_path):
    """Its schedules keep their shape, which is said, or take that of the longer run where that is accepted."""
    running.train(tmp_path / 'run')
    ended = torch.load(tmp_path / 'run' / 'epoch_3.pth', weights_only=True)
    longer = dict(train_cfg__max_epochs=4, param_scheduler__1__end=4)
    runner = running.build(tmp_path / 'kept', resume=True, load_from=str(tmp_path / 'run' / 'epoch_3.pth'), **longer)
    assert any('max_epochs: 3 -> 4 (taken' in note for note in runner._start.notes)
    assert any('param_scheduler.1.end: 3 -> 4 (not taken: the schedules keep' in note for note in runner._start.notes)
    hook = Rates()
    runner.register_hook(hook)
    runner.train()
    assert len(hook.seen) == 4 and len({str(step) for step in hook.seen}) == 1
    assert hook.seen[0] == [(group['lr'], group['weight_decay']) for group in ended['optimizer']['param_groups']]
    rest = rates(
        tmp_path / 'run', resume=True, accept_changes=True, load_from=str(tmp_path / 'run' / 'epoch_3.pth'), **longer
    )
    assert rest == rates(tmp_path / 'whole', **longer)[12:]


def test_a_config_that_cannot_be_compared_is_said(cut, tmp_path):
    for text, words in ((None, 'holds no config'), ('a = print(1)', 'not plain data')):
        checkpoint = torch.load(cut, weights_only=True)
        checkpoint['meta']['cfg'] = text
        torch.save(checkpoint, tmp_path / 'other.pth')
        runner = running.build(tmp_path / 'run', resume=True, load_from=str(tmp_path / 'other.pth'))
        assert words in runner._start.notes[0]


def test_what_is_written_differently_is_no_difference():
    old = dict(
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(type='mstkit.DistillationOptimWrapper', betas=(0.9, 0.99)),
        data_preprocessor=dict(mean=[1, 2]),
        model=dict(type='MST', masker=None),
        custom_hooks=[dict(type='ProgressHook'), dict(type='KNNHook', interval=1)],
        randomness=dict(seed=3),
        train_dataloader=dict(sampler=dict(type='EpochSampler', seed=3)),
        work_dir='here',
    )
    new: dict[str, Any] = dict(
        train_cfg=dict(type='ResumableEpochLoop', max_epochs=3),
        optim_wrapper=dict(type='DistillationOptimWrapper', betas=[0.9, 0.99]),
        model=dict(type='MST', data_preprocessor=dict(mean=[1, 2])),
        custom_hooks=[dict(type='KNNHook', interval=1), dict(type='ProgressHook')],
        randomness=dict(seed=3),
        train_dataloader=dict(sampler=dict(type='EpochSampler')),
        work_dir='there',
        epochs=7,
    )
    assert compare(old, new) == []
    new['custom_hooks'][0]['interval'] = 5
    [found] = compare(old, new)
    assert (str(found), found.rule) == ('custom_hooks.KNNHook.interval: 1 -> 5', TAKEN)


def test_a_comparison_changes_neither_config():
    config = Config(toy.settings(randomness=dict(seed=3), data_preprocessor=dict(mean=[1])))
    before = config.pretty_text
    assert compare(config, config) == [] and config.pretty_text == before


def test_only_the_ends_of_schedules_move_with_the_length():
    schedule = dict(type='CosineAnnealingLR', eta_min=0.1, end=3)
    old = dict(train_cfg=dict(max_epochs=3), param_scheduler=[schedule])
    longer = dict(train_cfg=dict(max_epochs=4), param_scheduler=[dict(schedule, eta_min=0.2, end=4)])
    assert {one.path: one.rule for one in compare(old, longer)} == {
        'train_cfg.max_epochs': LENGTH, 'param_scheduler.0.eta_min': REFUSED, 'param_scheduler.0.end': SCHEDULE
    }  # fmt: skip


@pytest.mark.parametrize('amp', [('OptimWrapper', 'AmpOptimWrapper'), (None, 'AmpOptimWrapper')])
def test_mixed_precision_may_be_turned_on_and_off(amp):
    old, new = (dict(optim_wrapper=dict(type=kind) if kind else dict(clip_grad=None)) for kind in amp)
    assert [one.rule for one in compare(old, new)] == [TAKEN]


def test_every_key_has_a_rule():
    """Those that a runner reads, and all that our configs write."""
    undeclared = [key for key in sorted(RUNNER_KEYS - {*NOT_COMPARED, 'self'}) if rule_of(key) is None]
    assert undeclared == []
    files = [path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts]
    assert len(files) > 20
    for path in files[::6]:
        config: Config = read_config(path)
        assert [key for key in flatten(config) if rule_of(key) is None] == [], path


def test_images_are_known_by_their_names(tmp_path):
    from mstkit.datasets import ImageFolder

    def make(folder: Path, names: list[str]) -> ImageFolder:
        for name in names:
            (folder / 'train' / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / 'train' / name).touch()
        return ImageFolder(data_root=str(folder))

    names = ['cat/1.jpg', 'cat/2.jpg', 'dog/1.jpg']
    one, moved = make(tmp_path / 'one', names), make(tmp_path / 'far' / 'two', names)
    assert fingerprint(one) == fingerprint(moved) and fingerprint(one)['count'] == 3
    assert fingerprint(one) != fingerprint(make(tmp_path / 'three', [*names[:2], 'dog/2.jpg']))
    assert fingerprint(one) != fingerprint(make(tmp_path / 'four', names[:2]))
    assert fingerprint(one) != fingerprint(make(tmp_path / 'five', ['cat/1.jpg', 'dog/1.jpg', 'dog/2.jpg']))
    assert fingerprint(toy.ToyVectors(5)) == dict(count=5, names=None)


def test_the_same_images_elsewhere_are_taken_and_others_refused(tmp_path):
    from mstkit.engine.checkpoints.resume_changes import check_changes

    def config(root: str) -> dict:
        return dict(train_dataloader=dict(dataset=dict(data_root=root)))

    meta = dict(cfg=Config(config('/here')).pretty_text, data=dict(count=3, names='abc'))
    [line] = check_changes(tmp_path, meta, config('/there'), dict(count=3, names='abc'))
    assert "data_root: '/here' -> '/there' (taken, the images are the same)" in line
    with pytest.raises(UsageError, match=r'its 3 training images had other names.*data_root'):
        check_changes(tmp_path, meta, config('/there'), dict(count=3, names='abd'))
    with pytest.raises(UsageError, match='data_root'):
        check_changes(tmp_path, {**meta, 'data': None}, config('/there'), dict(count=3, names='abc'))
    with pytest.raises(UsageError, match='other names'):
        check_changes(tmp_path, meta, config('/here'), dict(count=3, names='abd'))
    accepted = check_changes(tmp_path, meta, {**config('/here'), 'accept_changes': True}, dict(count=3, names='abd'))
    assert '(accepted)' in accepted[0]
