from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mstkit.engine.hooks import KNNHook
from mstkit.engine.runner.preflight import build_train_loader
from mstkit.errors import UsageError
from mstkit.evaluation import PooledEncoder, extract_features, feature_loader, knn_accuracy

from .fakes import HookColors, log_text, make_runner, weights

TRAIN = dict(type='HookColors', size=30)
VAL = dict(type='HookColors', size=9)


def knn(**kwargs) -> dict:
    settings = dict(type='KNNHook', train_dataset=TRAIN, val_dataset=VAL, ks=(5, 20, 50), batch_size=8)
    return {**settings, **kwargs}


def records(work_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (work_dir / 'knn.jsonl').read_text().splitlines()]


def test_run_is_measured_recorded_and_kept(tmp_path: Path) -> None:
    runner = make_runner(tmp_path, [knn(interval=2)], epochs=3)
    runner.train()
    found = records(tmp_path)
    assert [record['epoch'] for record in found] == [0, 2, 3]
    assert set(found[0]['branches']) == {'student', 'teacher'}
    assert set(found[0]['branches']['student']) == {'k5_top1', 'k20_top1', 'k30_top1'}
    # The numbers are those of the network as it stands at the end.
    model = runner.model
    banks = [
        extract_features(
            PooledEncoder(model.backbone),
            feature_loader(HookColors(size=size), 3),
            'cpu',
            model.data_preprocessor,
            'check',
        )
        for size in (30, 9)
    ]
    assert found[-1]['branches']['student'] == pytest.approx(knn_accuracy(banks[0], banks[1], ks=(5, 20, 30)))
    text = log_text(runner)
    assert 'k-NN epoch 2: student ' in text and '(k=20; random init ' in text
    scalars = (next(tmp_path.glob('*/vis_data/scalars.json'))).read_text()
    assert 'knn/teacher_k20_top1' in scalars
    best = torch.load(tmp_path / 'best_knn.pth', weights_only=False)
    tops = [record['branches']['teacher']['k20_top1'] for record in found[1:]]
    assert best['meta']['knn'] == {'branch': 'teacher', 'k': 20, 'top1': max(tops)}
    assert best['meta']['epoch'] == found[1:][tops.index(max(tops))]['epoch']
    assert runner.message_hub.get_info('knn_state')['best'] == max(tops)


@pytest.mark.parametrize(
    ('trained', 'measured', 'expected'),
    [('bf16', 'same', 'bf16'), ('bf16', 'fp32', 'fp32'), ('fp32', 'same', 'fp32'), (None, 'same', 'fp32')],
)
def test_features_have_the_precision_of_the_training(tmp_path: Path, trained, measured, expected) -> None:
    # A wrapper that is not ours says nothing of its precision.
    ours = dict(type='DistillationOptimWrapper', precision=trained, freeze_last_layer_epochs=0) if trained else None
    runner = make_runner(tmp_path, [knn(precision=measured)], epochs=1, wrapper=ours)
    runner.train()
    found = records(tmp_path)
    assert [record['precision'] for record in found] == [expected] * 2
    model: Any = runner.model

    def features(size: int, half: bool) -> Any:
        loader = feature_loader(HookColors(size=size), 8)
        with torch.autocast('cpu', torch.bfloat16, enabled=half):
            return extract_features(PooledEncoder(model.backbone), loader, 'cpu', model.data_preprocessor, 'check')

    banks = [features(size, expected == 'bf16') for size in (30, 9)]
    assert all(bank.features.dtype is torch.float32 for bank in banks)
    assert torch.equal(banks[1].features, features(9, half=False).features) == (expected == 'fp32')
    assert found[-1]['branches']['student'] == knn_accuracy(banks[0], banks[1], ks=(5, 20, 30))


def test_training_is_not_disturbed(tmp_path: Path) -> None:
    plain = make_runner(tmp_path / 'plain', [])
    plain.train()
    watched = make_runner(tmp_path / 'watched', [knn()])
    watched.train()
    expected = weights(plain)
    assert all(torch.equal(value, expected[name]) for name, value in weights(watched).items())


def test_resume_goes_on_without_double_epochs(tmp_path: Path) -> None:
    whole = make_runner(tmp_path / 'whole', [knn()], epochs=3)
    whole.train()
    first = make_runner(tmp_path / 'parts', [knn()], epochs=2)
    first.train()
    # As if killed during epoch 2: its record is there already, its checkpoint is not.
    work_dir = tmp_path / 'parts'
    (work_dir / 'epoch_2.pth').unlink()
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
    second = make_runner(work_dir, [knn()], epochs=3, resume=True)
    second.train()
    assert [record['epoch'] for record in records(work_dir)] == [0, 1, 2, 3]
    assert records(work_dir)[:2] == records(tmp_path / 'whole')[:2]
    start = records(work_dir)[0]['branches']['student']['k20_top1']
    assert f'random init {start:.1f}' in log_text(second).split('k-NN epoch 3')[1]
    state = second.message_hub.get_info('knn_state')
    assert state['best'] == max(record['branches']['teacher']['k20_top1'] for record in records(work_dir)[1:])


def test_fresh_run_in_an_old_folder_starts_anew(tmp_path: Path) -> None:
    (tmp_path / 'knn.jsonl').write_text('{"epoch": 7}\n')
    make_runner(tmp_path, [knn(at_start=False, save_best=False)], epochs=1).train()
    assert [record['epoch'] for record in records(tmp_path)] == [1]
    assert not (tmp_path / 'best_knn.pth').exists()


def test_max_train_takes_an_even_spread(tmp_path: Path) -> None:
    hook = KNNHook(TRAIN, VAL, max_train=4)
    hook.before_run(make_runner(tmp_path, []))
    assert hook.loaders is not None
    assert hook.loaders['train'].dataset.indices == [0, 10, 19, 29]  # type: ignore[attr-defined]
    assert len(hook.loaders['val'].dataset) == 9


def test_a_mistake_in_a_transform_does_not_switch_knn_off(tmp_path: Path) -> None:
    wrong = dict(VAL, pipeline=[dict(type='LoadRGB'), dict(type='CenterView', resize=-1)])
    with pytest.raises(
        UsageError, match=r'KNNHook\.val_dataset\.pipeline\[1\]: CenterView\.resize is -1: give a whole'
    ):
        make_runner(tmp_path, [knn(val_dataset=wrong)], epochs=1).train()


@pytest.mark.parametrize(
    ('dataset', 'reason'),
    [
        (dict(TRAIN, labeled=False), 'no labels'),
        (dict(TRAIN, size=0), 'no images'),
        (dict(VAL, classes=4), 'only in val: color 3'),
    ],
)
def test_data_without_labels_switches_knn_off(tmp_path: Path, dataset: dict, reason: str) -> None:
    runner = make_runner(tmp_path, [knn(val_dataset=dataset)], epochs=1)
    runner.train()
    text = log_text(runner)
    assert text.count('k-NN is off: ') == 1 and reason in text
    assert not (tmp_path / 'knn.jsonl').exists()
    with pytest.raises(UsageError, match=reason):
        make_runner(tmp_path, [knn(val_dataset=dataset, required=True)], epochs=1).train()


@pytest.mark.parametrize(
    'wrong',
    [
        dict(interval=0),
        dict(ks=(0,)),
        dict(ks=()),
        dict(headline_k=7),
        dict(temperature=0),
        dict(batch_size=0),
        dict(num_workers=-1),
        dict(max_train=0),
        dict(interval=1.5),
        dict(precision='bf16'),
    ],
)
def test_wrong_settings_are_refused_at_once(wrong: dict) -> None:
    with pytest.raises(UsageError):
        KNNHook(TRAIN, VAL, **wrong)


def test_the_bank_shares_the_decoded_images_of_the_training(tmp_path: Path) -> None:
    for split, count in (('train', 8), ('val', 4)):
        for number in range(count):
            path = tmp_path / 'data' / split / 'ab'[number % 2] / f'{number}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (20, 20), (40 * (number % 2), 10 * number, len(split))).save(path)
    whole = [dict(type='LoadRGB'), dict(type='CenterView', resize=8, crop=8), dict(type='PackViews')]

    def folder(split: str, **settings: Any) -> dict:
        return dict(type='ImageFolder', data_root=str(tmp_path / 'data'), split=split, pipeline=whole, **settings)

    sampler = dict(type='EpochSampler')
    trained: Any = build_train_loader(
        dict(batch_size=2, sampler=sampler, dataset=folder('train')), dict(seed=0)
    ).dataset
    assert trained.decoded.filled()[0] == 0
    found = {}
    for kept in (True, False):
        memory = {} if kept else dict(memory=False)
        hook = knn(train_dataset=folder('train', **memory), val_dataset=folder('val', **memory), ks=(2,), headline_k=2)
        runner = make_runner(tmp_path / str(kept), [hook], epochs=2)
        runner.train()
        found[kept] = records(tmp_path / str(kept))
        loaders: Any = next(hook for hook in runner.hooks if isinstance(hook, KNNHook)).loaders
        bank, judged = (loaders[name].dataset for name in ('train', 'val'))
        assert (bank.decoded is trained.decoded) == kept and (judged.decoded is not None) == kept
        assert trained.decoded.filled()[0] == 8
    assert found[True] == found[False] and len(found[True]) == 3
