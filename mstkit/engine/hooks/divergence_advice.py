"""Advice for a training that diverged: command-line options that work for this run at this iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner

from mstkit.engine.checkpoints.run_ending import last_good
from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper

_LR = 'optim_wrapper.optimizer.lr'


def what_helps(runner: Runner) -> str:
    """Names the last good checkpoint of a run that diverged, and options to resume it with (or to start again with).

    Only options that can help this run are named: a longer warm-up if it is still warming up, another precision if
    it uses fp16. All of them may change on a resume (:mod:`mstkit.engine.checkpoints.resume_rules`).
    """
    checkpoint = last_good(runner.work_dir)
    if checkpoint is None:
        found = 'No checkpoint had been written yet. What helps: start again, with the same command and'
        words = accept = ''
    else:
        found = f'The last good checkpoint is {checkpoint}. What helps: go on from it, with the same command and'
        words, accept = '--resume ', '--accept-changes '
    config = runner.cfg
    ways = []
    lr = _at(config, _LR)
    if isinstance(lr, int | float):
        ways.append(f'a lower learning rate ({words}--cfg-options {_LR}={lr / 2:g}, half of the present one)')
    warm_up = _longer_warm_up(config, runner)
    if warm_up:
        ways.append(f'a longer warm-up ({words}{accept}--cfg-options {warm_up})')
    clip, precision = _clipping(runner, config), _precision(runner, config)
    if clip:
        ways.append(f'harder clipping of gradients ({words}--cfg-options {clip})')
    if precision:
        ways.append(precision.format(words=words))
    if not ways:
        ways.append('a lower learning rate')
    return f'{found} {", or ".join(ways)}. Also look for broken or blank images in the data.'


def _longer_warm_up(config: Mapping[str, Any], runner: Runner) -> str:
    """Options that double a linear warm-up and move the next schedule; empty if that has no effect any more."""
    schedulers = config.get('param_scheduler') or []
    for number, one in enumerate(schedulers if isinstance(schedulers, Sequence) else []):
        kind = str(one.get('type')).split('.')[-1] if isinstance(one, Mapping) else ''
        key = {'LinearLR': 'end', 'WarmupCosineLR': 'warmup'}.get(kind)
        end = one.get(key) if key else None
        if not isinstance(end, int) or end < 1 or one.get('begin', 0) != 0:
            continue
        by_epoch = one.get('by_epoch', True)
        place, length = (runner.epoch, runner.max_epochs) if by_epoch else (runner.iter, runner.max_iters)
        if place >= 2 * end or length <= 2 * end:
            continue
        options = [f'param_scheduler.{number}.{key}={2 * end}']
        for other, follows in enumerate(schedulers):
            if key == 'end' and isinstance(follows, Mapping) and follows.get('begin') == end:
                options.append(f'param_scheduler.{other}.begin={2 * end}')
        return ' '.join(options)
    return ''


def _clipping(runner: Runner, config: Mapping[str, Any]) -> str:
    wrapper = runner.optim_wrapper
    found = {
        'optim_wrapper.clip_norm': wrapper.clip_norm if isinstance(wrapper, DistillationOptimWrapper) else None,
        'optim_wrapper.clip_grad.max_norm': _at(config, 'optim_wrapper.clip_grad.max_norm'),
    }
    for path, norm in found.items():
        if isinstance(norm, int | float):
            return f'{path}={norm / 2:g}'
    kind = str(_at(config, 'optim_wrapper.type') or 'OptimWrapper').removeprefix('mstkit.')
    if kind == 'DistillationOptimWrapper':
        return 'optim_wrapper.clip_norm=1'
    return 'optim_wrapper.clip_grad.max_norm=1' if kind in ('OptimWrapper', 'AmpOptimWrapper') else ''


def _precision(runner: Runner, config: Mapping[str, Any]) -> str:
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, DistillationOptimWrapper | AmpOptimWrapper) or wrapper.cast_dtype is not torch.float16:
        return ''
    if _at(config, 'optim_wrapper.precision') is not None:
        return 'fp32 instead of fp16 ({words}--cfg-options optim_wrapper.precision=fp32)'
    return 'fp32 instead of fp16 ({words}without --amp)'


def _at(config: Mapping[str, Any], path: str) -> Any:
    node: Any = config
    for name in path.split('.'):
        node = node.get(name) if isinstance(node, Mapping | Config) else None
    return node
