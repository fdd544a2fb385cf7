"""Two processes, each with a part of every tensor, get what two with all of them get; what they write can be read."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import sys
import traceback
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.logging import MessageHub

from mstkit.conversion import LIBRARIES
from mstkit.engine.checkpoints import checkpointing
from mstkit.engine.checkpoints.newest_checkpoint import checkpoints_in, find_newest
from mstkit.engine.checkpoints.sharded_saving import save_sharded
from mstkit.engine.hooks.pretrained_backbone_hook import PretrainedBackboneHook
from mstkit.engine.parallel.sharding import shard, spread_like, spread_optimizer_state, wants_sharding
from mstkit.errors import DiskError, UsageError
from mstkit.formats import Hints, ViTAnatomy, infer
from mstkit.interop.checkpoint import read_checkpoint
from mstkit.models import MaskedVisionTransformer, Pretrainer
from mstkit.registry import MODELS
from mstkit.utils.local_shards import is_sharded
from tests.docs.pages import tool
from tests.engine.processes import STEPS, in_ddp, in_parts, model, train, whole, wrapper_of
from tests.models.builders import VIT, part_of
from tests.models.moby import moby


def _rank(rank: int, folder: Path) -> dict[str, Any]:
    built = model()
    train(rank, built, in_ddp(built), wrapper_of(built), range(STEPS))
    found: dict[str, Any] = dict(ddp=whole(built.state_dict()))

    built = in_parts(model())
    wrapper = wrapper_of(built)
    built.backbone(torch.zeros(1, 3, 32, 32))  # as k-NN does before the first step
    train(rank, built, built, wrapper, range(2))
    checkpoint = dict(meta=dict(iter=2), state_dict=built.state_dict(), optimizer=wrapper.state_dict())
    save_sharded(checkpoint, folder / 'iter_2.pth')
    train(rank, built, built, wrapper, range(2, STEPS))
    found['sharded'] = whole(built.state_dict())
    found['held'] = sum(p.to_local().numel() for p in built.parameters()) / sum(p.numel() for p in built.parameters())

    # Gone on with from the folder, by a model that was initialized otherwise.
    again = model(seed=6)
    shard(again, dict(type='FullyShard', reshard_after_forward=False))
    saved, own = read_checkpoint(folder / 'iter_2.dcp'), again.state_dict()
    again.load_state_dict({name: spread_like(value, own[name]) for name, value in saved['state_dict'].items()})
    wrapper = wrapper_of(again)
    wrapper.load_state_dict(spread_optimizer_state(saved['optimizer'], wrapper.optimizer))
    train(rank, again, again, wrapper, range(2, STEPS))
    found['resumed'] = whole(again.state_dict())
    with torch.no_grad():
        again.eval()
        found['panel'] = tuple(again.panel(torch.zeros(2, 3, 32, 32)).attention.shape)

    # Tables of relative positions: one that all layers share, and one in each, which is there when it is its turn.
    for relative in ('shared', 'per_layer'):
        parts = dict(relative_positions=relative, positions='none', qkv_bias='qv_bias', layer_scale_init_value=0.1)
        for kind in ('ddp', 'sharded'):
            built = model(backbone={**VIT, **parts})
            run = in_ddp(built) if kind == 'ddp' else in_parts(built)
            train(rank, built, run, wrapper_of(built), range(2))
            found[f'{relative} {kind}'] = whole(built.state_dict())

    # Muon sees whole matrices.
    for kind in ('ddp', 'sharded'):
        built = model()
        run = in_ddp(built) if kind == 'ddp' else in_parts(built)
        train(rank, built, run, wrapper_of(built, muon=True), range(2))
        found[f'muon {kind}'] = whole(built.state_dict())

    # MoBY's teacher follows inside the forward pass, and its queues hold the keys of both processes.
    for kind in ('ddp', 'sharded'):
        built = moby(norm='LN')  # batch statistics of two images would make much of any rounding
        run = in_ddp(built) if kind == 'ddp' else in_parts(built)
        train(rank, built, run, wrapper_of(built), range(3), local=0)
        found[f'moby {kind}'] = whole(built.state_dict())

    # MAE's encoder is asked for visible patches only; there is no teacher.
    for kind in ('ddp', 'sharded'):
        built = mae()
        run = in_ddp(built) if kind == 'ddp' else in_parts(built)
        train(rank, built, run, wrapper_of(built), range(2), local=0)
        found[f'mae {kind}'] = whole(built.state_dict())

    # CL-MAE follows a gradient back in the middle of a step, before another objective's turn.
    for kind in ('ddp', 'sharded'):
        predict = dict(type='MaskedPrediction', target=dict(type='HOG', cell_size=4), decoder=DECODER)
        built = mae('CLMAE', network=dict(num_layers=1), objectives=dict(gradients=predict))
        run = in_ddp(built) if kind == 'ddp' else in_parts(built)
        train(rank, built, run, wrapper_of(built), range(2), local=0)
        found[f'cl_mae {kind}'] = whole(built.state_dict())

    # AutoMAE's discriminator judges without a gradient of its own, and its guide keeps an average of the encoder.
    for kind in ('ddp', 'sharded'):
        generating = dict(objectives=dict(generate=dict(type='MaskGeneration')), masker=dict(type='PreferenceMasker'))
        built = mae('MAE', guide=dict(type='generated', source=dict(type='ema', momentum=0.9)), **generating)
        run = in_ddp(built) if kind == 'ddp' else in_parts(built)
        torch.manual_seed(rank)
        train(rank, built, run, wrapper_of(built), range(2), local=0)
        found[f'automae {kind}'] = whole(built.state_dict())

    # A pre-training that starts from a file of another program, in parts.
    built = in_parts(model(seed=7))
    hook = PretrainedBackboneHook(folder / 'release.pth')
    hub = MessageHub.get_instance(f'sharded{rank}')
    hook.before_train(SimpleNamespace(model=built, logger=logging.getLogger('test'), message_hub=hub))
    found['pretrained'] = whole(built.state_dict())
    return found


DECODER: dict[str, Any] = dict(type='ViTDecoder', embed_dims=24, num_layers=1, num_heads=2)


def mae(kind: str = 'MAE', **parts: Any) -> Pretrainer:
    """Initialized, in training mode."""
    torch.manual_seed(5)
    built = MODELS.build(dict(type=kind, backbone=VIT, decoder=DECODER, global_views=2, **parts))
    built.init_weights()
    return built.train()


CONTRAST = ('neck.fc0.weight', 'predictor.fc0.weight', 'head.queue1')


@pytest.fixture(scope='module')
def trained(run_two, tmp_path_factory) -> tuple[list[dict], Path]:
    folder = tmp_path_factory.mktemp('sharded')
    timms, _ = LIBRARIES['timm'].state(*encoder(model().backbone))
    torch.save(dict(model=timms), folder / 'release.pth')
    return run_two(_rank, folder), folder


def test_sharded_equals_ddp(trained):
    ranks, _ = trained
    start = model().state_dict()
    for found in ranks:
        assert set(found['sharded']) == set(found['ddp']) == set(start)
        for name, value in found['ddp'].items():
            for kind in ('sharded', 'resumed'):
                torch.testing.assert_close(found[kind][name], value, rtol=1e-4, atol=1e-6, msg=f'{kind} {name}')
        assert 0.45 < found['held'] < 0.55  # of two processes, each has half
        assert found['panel'] == (2, 4, 4)
    moved = {part_of(name) for name, value in ranks[0]['sharded'].items() if not torch.equal(value, start[name])}
    assert moved == {'backbone', 'ce.neck', 'ce.head', 'patch.head', 'restore.decoder', 'mask_token', 'teacher'}


@pytest.mark.parametrize('relative', ['shared', 'per_layer'])
def test_sharded_relative_positions_equal_ddp(trained, relative):
    for found in trained[0]:
        tables = [name for name in found[f'{relative} ddp'] if name.endswith('bias_table')]
        assert len(tables) == (2 if relative == 'shared' else 6), 'of student and teacher'
        for name, value in found[f'{relative} ddp'].items():
            torch.testing.assert_close(found[f'{relative} sharded'][name], value, rtol=1e-4, atol=1e-5, msg=name)
        assert all(found[f'{relative} sharded'][name].any() for name in tables)


def encoder(backbone: MaskedVisionTransformer) -> tuple[dict[str, torch.Tensor], ViTAnatomy]:
    """Its tensors and its anatomy."""
    state = backbone.state_dict()
    anatomy, _ = infer(state, Hints(heads=backbone.attention_heads))
    assert isinstance(anatomy, ViTAnatomy)
    return state, anatomy


def test_a_sharded_run_starts_from_a_released_encoder(trained):
    expected, drawn = model().backbone.state_dict(), model(seed=7).state_dict()
    for found in trained[0]:
        for name, value in expected.items():
            for prefix in ('backbone.', 'teacher.backbone.'):
                assert torch.equal(found['pretrained'][prefix + name], value), prefix + name
        for name in found['pretrained'].keys() & {'objectives.ce.neck.mlp.0.weight', 'mask_token'}:
            assert torch.equal(found['pretrained'][name], drawn[name]), name


def test_sharded_muon_equals_ddp(trained):
    start = model().state_dict()
    for found in trained[0]:
        for name, value in found['muon ddp'].items():
            # Products in bf16, where the CPU has them, round a step of 0.02 by a tenth at most.
            torch.testing.assert_close(found['muon sharded'][name], value, rtol=1e-4, atol=4e-3)
        moved = found['muon sharded']['backbone.layers.0.attn.qkv.weight'] - start['backbone.layers.0.attn.qkv.weight']
        assert moved.abs().max() > 1e-2


def test_sharded_moby_equals_ddp(trained):
    start = moby(norm='LN').state_dict()
    for found in trained[0]:
        for name, value in found['moby ddp'].items():
            torch.testing.assert_close(found['moby sharded'][name], value, rtol=1e-4, atol=1e-5, msg=name)
        moved = [name for name, value in found['moby sharded'].items() if not torch.equal(value, start[name])]
        assert {'teacher.contrast_neck.fc0.weight', *(f'objectives.contrast.{name}' for name in CONTRAST)} <= set(moved)


def test_sharded_mae_equals_ddp(trained):
    start = mae().state_dict()
    for found in trained[0]:
        for name, value in found['mae ddp'].items():
            torch.testing.assert_close(found['mae sharded'][name], value, rtol=1e-4, atol=1e-5, msg=name)
        moved = {part_of(name) for name, value in found['mae sharded'].items() if not torch.equal(value, start[name])}
        assert moved == {'backbone', 'predict.decoder'}


def test_sharded_cl_mae_equals_ddp(trained):
    for found in trained[0]:
        for name, value in found['cl_mae ddp'].items():
            torch.testing.assert_close(found['cl_mae sharded'][name], value, rtol=1e-4, atol=1e-5, msg=name)
        parts = {part_of(name) for name in found['cl_mae sharded']}
        assert parts == {'backbone', 'predict.decoder', 'hide.network', 'gradients.decoder'}


def test_sharded_automae_equals_ddp(trained):
    for found in trained[0]:
        for name, value in found['automae ddp'].items():
            torch.testing.assert_close(found['automae sharded'][name], value, rtol=1e-4, atol=1e-5, msg=name)
        parts = {part_of(name) for name in found['automae sharded']}
        assert {'generate.generator', 'generate.discriminator'} < parts


def test_the_newest_checkpoint_may_be_a_folder(tmp_path):
    def content(iteration: int, value: float) -> dict:
        meta = dict(iter=iteration, epoch=iteration // 2)
        return dict(meta=meta, state_dict=dict(a=torch.full((2,), value)), optimizer={}, message_hub={})

    save_sharded(content(4, 1.0), tmp_path / 'epoch_2.pth')
    checkpointing.save(content(2, 0.0), tmp_path / 'epoch_1.pth')
    found = find_newest(tmp_path)
    path, checkpoint = found.path, found.checkpoint
    assert path == tmp_path / 'epoch_2.dcp' and checkpoint is not None
    assert checkpoint['state_dict']['a'].tolist() == [1, 1]
    assert checkpoints_in([tmp_path]) == [tmp_path / 'epoch_1.pth', path]
    save_sharded(dict(meta=dict(iter=6), state_dict=dict(a=torch.full((2,), 3.0))), tmp_path / 'epoch_2.pth')
    assert read_checkpoint(path)['state_dict']['a'].tolist() == [3, 3] and len(list(tmp_path.iterdir())) == 2


def consolidate(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, 'argv', ['consolidate.py', *map(str, words)])
    try:
        tool('consolidate.py').main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_pieces_become_one_file(trained, tmp_path, monkeypatch, capsys):
    _, folder = trained
    out = tmp_path / 'one.pth'
    assert consolidate(monkeypatch, folder / 'iter_2.dcp', '--out', out) == 0
    one = torch.load(out, weights_only=True)
    built = model()
    assert {name: value.shape for name, value in one['state_dict'].items()} == {
        name: value.shape for name, value in built.state_dict().items()
    }
    built.load_state_dict(one['state_dict'])
    wrapper = wrapper_of(built)
    wrapper.load_state_dict(one['optimizer'])  # a single process could go on
    moments = [value['exp_avg'] for value in wrapper.optimizer.state.values()]
    assert len(moments) > 20 and all(value.abs().max() > 0 for value in moments[:5])
    assert one['meta'] == dict(iter=2)
    assert consolidate(monkeypatch, folder / 'iter_2.dcp', '--out', out) == 2
    assert 'is there already' in capsys.readouterr().err
    assert consolidate(monkeypatch, folder / 'iter_2.dcp', '--out', tmp_path / 'w.pth', '--weights-only') == 0
    assert set(torch.load(tmp_path / 'w.pth', weights_only=True)) == {'meta', 'state_dict'}
    assert not list(folder.glob('.*'))  # nothing half-written is left


class Harmful:
    def __reduce__(self):
        return print, ('executed',)


class HarmfulMember:
    def __reduce__(self):
        return getattr, (torch.Size, 'numel')


def test_members_of_enums_are_read_however_python_wrote_them(tmp_path, monkeypatch):
    # Python 3.11.0 to 3.11.3 write them by name.
    monkeypatch.setattr(Enum, '__reduce_ex__', lambda self, protocol: (getattr, (type(self), self._name_)))
    save_sharded(dict(meta=dict(iter=4), state_dict=dict(a=torch.ones(2))), tmp_path / 'epoch_2.pth')
    assert b'getattr' in (tmp_path / 'epoch_2.dcp' / '.metadata').read_bytes()
    assert read_checkpoint(tmp_path / 'epoch_2.dcp')['state_dict']['a'].tolist() == [1, 1]


def test_folders_that_are_no_checkpoint(trained, tmp_path, capsys):
    _, folder = trained
    with pytest.raises(UsageError, match=r'is a folder without rest\.pth'):
        read_checkpoint(tmp_path)
    for name in ('rest.pth', '.metadata'):
        (tmp_path / name).write_bytes((folder / 'iter_2.dcp' / name).read_bytes())
    with pytest.raises(UsageError, match='not a readable sharded checkpoint, or it is incomplete'):
        read_checkpoint(tmp_path)
    (tmp_path / '.metadata').write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(UsageError, match=r'refused: it names builtins\.print\. Nothing in it was executed'):
        read_checkpoint(tmp_path)
    (tmp_path / '.metadata').write_bytes(pickle.dumps(HarmfulMember()))
    with pytest.raises(UsageError, match=r'refused: it asks for numel of .*Nothing in it was executed'):
        read_checkpoint(tmp_path)
    assert 'executed' not in capsys.readouterr().out


def test_settings():
    assert wants_sharding(dict(type='mstkit.FullyShard')) and not wants_sharding(None)
    assert not wants_sharding(dict(find_unused_parameters=True))
    assert not is_sharded(torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match="has no setting 'mixed'; it has reshard_after_forward"):
        shard(torch.nn.Linear(1, 1), dict(type='FullyShard', mixed=True))


def test_a_full_disk_under_the_pieces_is_one_sentence(tmp_path, monkeypatch):
    """torch gathers what every process met in an exception of its own, with a traceback for each."""
    import torch.distributed.checkpoint as dcp

    def fill(tensors, storage_writer) -> None:
        (tmp_path / '.epoch_3.dcp.partial' / '__0_0.distcp').write_bytes(b'half')
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            wrapped = RuntimeError('unexpected pos 64 vs 0')
            wrapped.__cause__ = error
        raise dcp.CheckpointException('write', {1: (wrapped, traceback.extract_stack())})

    monkeypatch.setattr(dcp, 'save', fill)
    with pytest.raises(DiskError, match=r'epoch_3\.dcp cannot be written: the disk is full \('):
        save_sharded(dict(state_dict={}, meta={}), tmp_path / 'epoch_3.pth')
    assert list(tmp_path.iterdir()) == []
