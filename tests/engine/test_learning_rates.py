"""Every recipe reaches the learning rate of its config, however small the data set and however short the run."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from timm.scheduler import CosineLRScheduler

from mstkit.engine.config.run_length import set_epochs, set_iterations
from mstkit.engine.optim.param_schedules import build_schedule, fit_schedules, lr_curve
from mstkit.engine.optim.step_counts import StepCounter
from mstkit.engine.runner.preflight import check_temperatures
from mstkit.errors import UsageError
from mstkit.models.heads.centered_head import CenteredHead
from mstkit.registry import MODELS

from . import running

START = dict(type='LinearLR', start_factor=1e-9, begin=0, convert_to_iter_based=True)
ROOT = Path(__file__).resolve().parents[2] / 'configs'
# The ablations are deltas of one recipe (tests/test_configs.py) in which no schedule is named.
RECIPES = sorted(path for path in ROOT.rglob('*.py') if not {'_base_', 'ablations'} & set(path.relative_to(ROOT).parts))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def counter_of(config: Config, images: int, accumulated: int = 1) -> StepCounter:
    """How a run of a config over so many images, in one process, counts its steps."""
    if 'max_iters' in config.train_cfg:
        return StepCounter(config.train_cfg.max_iters, 1, accumulated)
    batch = min(config.train_dataloader.batch_size, images)
    return StepCounter(images // batch, config.train_cfg.max_epochs, accumulated)


def fitted(config: Config, counter: StepCounter):
    lr = config.optim_wrapper.optimizer.lr
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mstkit')):
        fit = fit_schedules(config.param_scheduler, counter, lr)
        return fit, list(lr_curve(fit.configs, counter, lr))


def check_small_sets(read: Config) -> None:
    """60 images and --epochs 20, 48 in the classification recipe, and shorter still."""
    for images, length in ((60, 20), (48, 20), (48, 5), (60, 2), (40, 1), (2, 1), (2000, 3)):
        config = copy.deepcopy(read)
        (set_iterations if 'max_iters' in config.train_cfg else set_epochs)(config, length)
        fit, curve = fitted(config, counter_of(config, images))
        lr = config.optim_wrapper.optimizer.lr
        assert len(curve) == fit.total_steps
        # WarmupCosineLR falls while it warms up, so its peak is a little lower.
        timms = any(s.type.endswith('WarmupCosineLR') for s in config.param_scheduler)
        assert max(curve) == pytest.approx(lr, rel=0.1 if timms else 1e-6), (images, length, fit.notes)
        assert fit.peak == pytest.approx(max(curve), rel=1e-3)
        assert fit.peak_step == 1 + next(i for i, value in enumerate(curve) if value == pytest.approx(fit.peak))


def check_own_size(read: Config) -> None:
    """Nothing is changed where there are images enough."""
    with DefaultScope.overwrite_default_scope(read.get('default_scope', 'mstkit')):
        assert (
            fit_schedules(read.param_scheduler, counter_of(read, 40_000), read.optim_wrapper.optimizer.lr).notes == []
        )


def check_accumulation(read: Config, accumulated: int) -> None:
    """At the same place of the data the lr is that of a run without accumulation, in epochs or iterations."""
    config = copy.deepcopy(read)
    (set_iterations if 'max_iters' in config.train_cfg else set_epochs)(
        config, 640 if 'max_iters' in read.train_cfg else 20
    )
    images = 32 * config.train_dataloader.batch_size
    _, curve = fitted(config, counter_of(config, images))
    _, fewer = fitted(config, counter_of(config, images, accumulated))
    assert len(fewer) * accumulated == len(curve) == 640
    lr = config.optim_wrapper.optimizer.lr
    # A warm-up of n steps is at its end after n-1: that is all that differs.
    shifted = [abs(one - curve[accumulated * i]) for i, one in enumerate(fewer)]
    assert max(shifted) < 0.13 * lr
    assert max(shifted[len(shifted) // 4 :]) < 0.01 * lr
    assert fewer[-1] == pytest.approx(curve[-accumulated], abs=1e-2 * lr)


@pytest.mark.parametrize('path', RECIPES, ids=name)
def test_every_recipe_has_its_learning_rate_on_any_set(path):
    config = Config.fromfile(path)
    check_small_sets(config)
    check_own_size(config)
    check_accumulation(config, 4)


def small_run(counter: StepCounter, *schedules: dict, lr: float = 1e-3):
    with DefaultScope.overwrite_default_scope('mstkit'):
        fit = fit_schedules(list(schedules), counter, lr)
        return fit, list(lr_curve(fit.configs, counter, lr))


def test_a_warm_up_of_one_step_takes_two_and_says_so():
    """60 images at batch 32 are one step an epoch; DINO's own schedule then starts the cosine at the second step."""
    cosine = dict(type='CosineAnnealingLR', eta_min=1e-6, begin=1, end=20, convert_to_iter_based=True)
    fit, curve = small_run(StepCounter(1, 20), dict(START, end=1), cosine)
    dino = [1e-6 + 0.5 * (1e-3 - 1e-6) * (1 + math.cos(math.pi * i / 19)) for i in range(19)]
    assert curve == pytest.approx([1e-12, *dino], rel=1e-6)
    assert fit.notes == ['LinearLR: a warm-up of 1 step would stay at its start factor; it takes 2 of the 20 steps.']
    assert str(fit) == 'the lr reaches 0.001, first at step 2 of 20'


@pytest.mark.parametrize(
    'warmup',
    [
        dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=1),  # an epoch, not converted to steps
        dict(type='ConstantLR', factor=0.01, by_epoch=True, begin=0, end=1),
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1),
        dict(type='ConstantLR', factor=0.01, by_epoch=False, begin=0, end=1),
    ],
)
def test_every_warm_up_and_unit_is_mended(warmup):
    fit, curve = small_run(StepCounter(3, 4), warmup)
    first = 3 if warmup['by_epoch'] else 1
    assert curve == pytest.approx([1e-5] * first + [1e-3] * (12 - first)) and len(fit.notes) == 1


@pytest.mark.parametrize(('each', 'epochs'), [(1, 2), (2, 2), (2, 3), (1, 9), (3, 1)])
def test_what_follows_a_mended_warm_up_waits_for_it(each, epochs):
    """A tenth of a run of a few steps is less than one, so that the cosine began together with the warm-up."""
    share = dict(end=epochs / 10)
    cosine = dict(type='CosineAnnealingLR', begin=epochs / 10, end=epochs, T_max=0.9 * epochs, eta_min=1e-6)
    fit, curve = small_run(StepCounter(each, epochs), dict(START, **share), dict(cosine, convert_to_iter_based=True))
    assert curve[1] == pytest.approx(1e-3) == max(curve) and curve[0] < 1e-6
    assert curve[1:] == sorted(curve[1:], reverse=True)
    assert len(fit.notes) == 1


def test_a_run_of_one_step_has_no_warm_up():
    fit, curve = small_run(StepCounter(1, 1), dict(START, end=1))
    assert curve == [1e-3] and fit.configs == []
    assert 'it is left out, since the run has 1 step.' in fit.notes[0]


def test_a_warm_up_in_iterations_that_outlasts_a_run_in_epochs_is_cut():
    """COCO's recipe with 48 images: 288 steps, of which the warm-up would take 1000 and the decay come after 192."""
    warmup = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000)
    decay = dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1)
    follower = dict(type='CosineAnnealingLR', by_epoch=False, begin=1000, end=1100)
    fit, curve = small_run(StepCounter(24, 12), warmup, decay, follower, lr=1e-4)
    assert [config['end'] for config in fit.configs[:2]] == [28, 12] and fit.configs[2]['begin'] == 28
    assert max(curve) == pytest.approx(1e-4) and curve[27] == pytest.approx(1e-4)
    assert 'a warm-up of 1000 steps in a run of 288 the lr would reach' in fit.notes[0]
    assert fit.notes[0].endswith('it takes 28 steps.')


def test_in_a_run_of_one_step_it_is_left_out():
    warmup = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000)
    fit, curve = small_run(StepCounter(1, 1), warmup, dict(type='MultiStepLR', end=1, milestones=[1]))
    assert curve == [1e-3] and [config['type'] for config in fit.configs] == ['MultiStepLR']
    assert fit.notes[0].endswith('the lr would reach 1e-06 of 0.001; it is left out.')


def test_what_cannot_reach_it_is_refused_with_the_numbers():
    with pytest.raises(
        UsageError, match=r'0\.000557895 of 0\.001 at most, in a run of 4 epochs and 8 steps .* --epochs'
    ):
        small_run(StepCounter(2, 4), dict(START, end=10, start_factor=0.3))
    with pytest.raises(UsageError, match='never reach the learning rate'):  # one epoch of all iterations
        small_run(StepCounter(100, 1), dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=5))
    with pytest.raises(UsageError, match=r'0\.0005 of 0\.001'):
        small_run(StepCounter(2, 4), dict(type='ConstantLR', factor=0.5, by_epoch=True, begin=0, end=5))


def timms(steps: int, **settings) -> list[float]:
    group = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.pop('lr'))
    schedule = CosineLRScheduler(group, t_initial=steps, cycle_limit=1, t_in_epochs=False, **settings)
    return [schedule._get_lr(step)[0] for step in range(steps)]


@pytest.mark.parametrize('epochs', [100, 300])
def test_moby_trains_by_timms_cosine(epochs):
    """Its code: CosineLRScheduler over all steps, 5 epochs of warm-up from 5e-7, to 5e-6, for 512 images."""
    config = Config.fromfile(ROOT / '_base_' / 'schedules' / f'moby_{epochs}e.py')
    counter = StepCounter(7, epochs)
    for scale in (1.0, 4.0):  # --auto-scale-lr scales all three
        with DefaultScope.overwrite_default_scope('mstkit'):
            ours = list(lr_curve(config.param_scheduler, counter, 1e-3 * scale))
        theirs = timms(7 * epochs, lr=1e-3 * scale, lr_min=5e-6 * scale, warmup_lr_init=5e-7 * scale, warmup_t=35)
        assert ours == pytest.approx(theirs, rel=1e-9)
    if epochs == 100:  # what a cosine from the end of the warm-up would add
        later = [5e-6 * scale + 0.5 * (1e-3 - 5e-6) * scale * (1 + math.cos(math.pi * i / 665)) for i in range(665)]
        assert sum(later) / sum(ours[35:]) == pytest.approx(1.05, abs=0.01)


@pytest.mark.parametrize(
    'wrong',
    [dict(warmup=10), dict(warmup=-1), dict(start_factor=0.1, start_lr=1e-6), dict(eta_min=0.0, eta_min_ratio=0.1)],
)
def test_wrong_settings_of_timms_cosine(wrong):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with DefaultScope.overwrite_default_scope('mstkit'), pytest.raises(UsageError, match='WarmupCosineLR'):
        build_schedule(dict(type='WarmupCosineLR', end=10, by_epoch=False, **wrong), optimizer, StepCounter(1, 10))


def test_a_built_schedule_is_left_alone():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    counter = StepCounter(1, 2)
    built = build_schedule(dict(type='LinearLR', begin=0, end=1), optimizer, counter)
    fit = fit_schedules([built], counter, 0.1)
    assert fit.configs == [built] and build_schedule(built, optimizer, counter) is built


class Rates:
    """Records the learning rate of each iteration of a toy run, and what the log says."""

    def __init__(self, work_dir: Path, monkeypatch: pytest.MonkeyPatch, **changes) -> None:
        runner = running.build(work_dir, **changes)
        self.said: list[str] = []
        for level in ('info', 'warning'):
            monkeypatch.setattr(runner.logger, level, lambda message, *_, **__: self.said.append(str(message)))
        self.rates: list[float] = []
        step = runner.model.train_step

        def train_step(*args, **kwargs):
            self.rates.append(runner.optim_wrapper.get_lr()['base_lr'][0])
            return step(*args, **kwargs)

        runner.model.train_step = train_step
        runner.train()
        self.runner = runner


def test_a_run_on_a_set_of_one_batch_is_trained_at_its_rate(tmp_path, monkeypatch):
    run = Rates(tmp_path, monkeypatch, train_dataloader__dataset=dict(type='ToyVectors', length=4))
    assert run.rates == pytest.approx([5e-11, 0.05, 0.5 * (0.05 + 1e-3)], rel=1e-6)
    assert any('a warm-up of 1 step would stay at its start factor' in line for line in run.said)
    assert 'schedules: the lr reaches 0.05, first at step 2 of 3' in run.said


def test_a_temperature_that_never_arrives_is_refused():
    model = torch.nn.Module()
    model.head = CenteredHead(8, teacher_temp=0.07, warmup_teacher_temp=0.04, warmup_teacher_temp_epochs=30)
    check_temperatures(model, 30)
    wanted = (
        r'over 30 epochs \(model\.head\), and the run has 20: it would end at 0\.0597 instead of 0\.07.*epochs=20\.'
    )
    with pytest.raises(UsageError, match=wanted):
        check_temperatures(model, 20)
    model.head = CenteredHead(8, teacher_temp=0.04, warmup_teacher_temp_epochs=30)  # it does not change
    check_temperatures(model, 20)


@MODELS.register_module(force=True)
class ToyRegression(BaseModel):
    """A model that need not be told where the run stands, as those of other packages."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(6, 2)

    def forward(self, inputs, index, mode='tensor'):
        return {'loss': self.layer(inputs).square().mean()}


PLAIN = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, weight_decay=0.1), paramwise_cfg=dict(bias_decay_mult=0.0)
)


@pytest.mark.parametrize('loop', ['epochs', 'iterations'])
@pytest.mark.parametrize('hook', [None, dict(type='ParamSchedulerHook')])
def test_accumulation_with_mmengines_hook_and_wrapper(tmp_path, monkeypatch, loop, hook):
    """As downstream configs have it: the lr of an epoch is the same with and without accumulation, and ends low."""
    hooks = dict(
        checkpoint=dict(type='AtomicCheckpointHook', interval=100), **({'param_scheduler': hook} if hook else {})
    )
    changes = dict(
        default_hooks=hooks,
        custom_hooks=[],
        model=dict(type='ToyRegression'),
        train_dataloader__batch_size=2,
        train_dataloader__dataset=dict(type='ToyVectors', length=16),
    )
    if loop == 'epochs':
        changes['train_cfg'] = dict(type='EpochBasedTrainLoop', max_epochs=6)
        changes['param_scheduler'] = [dict(type='CosineAnnealingLR', begin=0, end=6, convert_to_iter_based=True)]
    else:
        changes['train_cfg'] = dict(type='IterBasedTrainLoop', max_iters=48)
        changes['train_dataloader__sampler'] = dict(type='InfiniteSampler')
        changes['param_scheduler'] = [dict(type='PolyLR', power=0.9, by_epoch=False, begin=0, end=48)]
    once, four = (
        Rates(tmp_path / str(n), monkeypatch, optim_wrapper=dict(PLAIN, accumulative_counts=n), **changes).rates
        for n in (1, 4)
    )
    assert len(once) == len(four) == 48
    assert [four[i] for i in range(0, 48, 8)] == pytest.approx([once[i] for i in range(0, 48, 8)], abs=4e-3)
    assert four[44] < 0.12 * 0.05 and four[40] == four[43] > four[44]
