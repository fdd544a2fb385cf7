"""``--epochs`` moves the run's length and its schedules together."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from mstkit.engine.config.run_length import set_epochs, set_iterations
from mstkit.errors import UsageError


def config() -> Config:
    return Config(
        dict(
            train_cfg=dict(type='ResumableEpochLoop', max_epochs=100),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=True, begin=0, end=10),
                dict(type='CosineAnnealingLR', by_epoch=True, begin=10, end=100),
                dict(type='CosineAnnealingWeightDecay', by_epoch=True, begin=0, end=100),
            ],
        )
    )


def spans(changed: Config) -> list[tuple[int, int]]:
    return [(s['begin'], s['end']) for s in changed.param_scheduler]


@pytest.mark.parametrize(
    ('epochs', 'expected'),
    [
        (300, [(0, 10), (10, 300), (0, 300)]),  # a longer run keeps its warm-up
        (100, [(0, 10), (10, 100), (0, 100)]),
        (20, [(0, 2), (2, 20), (0, 20)]),
        (2, [(0, 1), (1, 2), (0, 2)]),
        (1, [(0, 1), (0, 1)]),  # nothing is left between warm-up and end
    ],
)
def test_schedules_end_with_the_run(epochs, expected):
    changed = config()
    lines = set_epochs(changed, epochs)
    assert changed.train_cfg.max_epochs == epochs
    assert spans(changed) == expected
    assert lines[0].startswith(f'epochs: 100 -> {epochs}')


def test_mistakes_are_told():
    with pytest.raises(UsageError, match='not 0'):
        set_epochs(config(), 0)
    with pytest.raises(UsageError, match='no max_epochs; give --iterations'):
        set_epochs(Config(dict(train_cfg=dict(max_iters=5))), 3)
    with pytest.raises(UsageError, match='no max_iters; give --epochs'):
        set_iterations(config(), 3)


def test_milestones_keep_their_share():
    changed = config()
    changed.param_scheduler.append(dict(type='MultiStepLR', by_epoch=True, begin=0, end=100, milestones=[60, 90]))
    set_epochs(changed, 10)
    assert changed.param_scheduler[-1]['milestones'] == [6, 9]


@pytest.mark.parametrize(
    ('length', 'interval'), [(400, 400), (8000, 4000), (9000, 3000), (40001, 3077), (4100, 2050), (4001, 4001)]
)
def test_the_end_is_validated(length, interval):
    changed = Config(dict(train_cfg=dict(max_iters=40000, val_interval=4000)))
    set_iterations(changed, length)
    assert changed.train_cfg.val_interval == interval
    assert length % changed.train_cfg.val_interval == 0


def test_iterations_leave_schedules_by_epoch_alone_and_validate_at_the_end_at_the_latest():
    changed = Config(
        dict(
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=False, begin=0, end=1000),
                dict(type='PolyLR', by_epoch=False, begin=1000, end=40000),
                dict(type='ConstantLR', by_epoch=True, begin=0, end=5),
            ],
        )
    )
    lines = set_iterations(changed, 400)
    assert changed.train_cfg == dict(type='IterBasedTrainLoop', max_iters=400, val_interval=400)
    assert spans(changed) == [(0, 10), (10, 400), (0, 5)]
    assert lines[0].startswith('iterations: 40000 -> 400')


def test_what_model_and_wrapper_count_in_epochs_moves_along():
    """800 epochs in 20: the teacher's temperature arrives, patches are hidden, the last layer is trained."""
    block, hint = dict(type='BlockMasker', ratio=0.3), dict(type='AttMaskHint')

    def recipe() -> Config:
        return Config(
            dict(
                train_cfg=dict(max_epochs=800),
                model=dict(
                    head=dict(warmup_teacher_temp_epochs=30, teacher_temp=0.07),
                    patch_head=dict(warmup_teacher_temp_epochs=200, start_epoch=50),
                    masker=dict(type='mstkit.MaskerSchedule', phases=[(0, None), (50, block), (400, hint)]),
                ),
                optim_wrapper=dict(freeze_last_layer_epochs=1),
            )
        )

    changed = recipe()
    (line,) = set_epochs(changed, 20)
    assert changed.model.head.warmup_teacher_temp_epochs == 1
    assert changed.model.patch_head.warmup_teacher_temp_epochs == 5 and changed.model.patch_head.start_epoch == 1
    assert changed.model.masker.phases == [(0, None), (1, block), (10, hint)]
    assert changed.optim_wrapper.freeze_last_layer_epochs == 1
    assert 'model.head.warmup_teacher_temp_epochs 30 -> 1' in line
    assert 'model.masker.phases [0, 50, 400] -> [0, 1, 10]' in line
    set_epochs(changed := recipe(), 1600)
    assert changed.model == recipe().model  # a longer run keeps its warm-ups
    set_epochs(changed := recipe(), 1)
    assert changed.optim_wrapper.freeze_last_layer_epochs == 0
    growing = Config(
        dict(
            train_cfg=dict(max_epochs=100),
            model=dict(masker=dict(type='RatioSchedule', masker=block, start=0.1, end=0.5, epochs=100)),
        )
    )
    set_epochs(growing, 30)
    assert growing.model.masker.epochs == 30
