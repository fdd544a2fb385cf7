"""The lines with which a training begins: what is trained on what, how, where, and from which weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

import mstkit
from mstkit.datasets.dataset_interface import metainfo_of
from mstkit.engine.checkpoints.data_order import batch_size_of
from mstkit.engine.hooks.knn_hook import KNNHook
from mstkit.engine.hooks.pretrained_backbone_hook import PretrainedBackboneHook
from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper
from mstkit.engine.optim.precision import precision_name
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.models import Pretrainer
from mstkit.utils.private_attributes import accumulative_counts, validates
from mstkit.utils.undisturbed import undisturbed_randomness

CHANGES = 2  # lines about what the command line changed; the log file has all
WIDTH = 12  # of the words at the left

ARCH = dict(embed_dims='width', num_layers='depth', depths='depths', num_heads='heads')  # of mmpretrain's configs


class StartSummary:
    """Describes a run that is about to begin; at most ten lines and :data:`CHANGES`.

    Args:
        runner: after its schedules are built and its weights loaded.
        changes: what the command line changed in the config, a sentence each.
        rate: of the learning rate, in words; see :class:`mstkit.engine.optim.param_schedules.Schedules`.
        weights: where all weights come from, if from a checkpoint of the whole model.
    """

    def __init__(self, runner: Runner, changes: Sequence[str] = (), rate: str = '', weights: str = '') -> None:
        self.runner = runner
        self.model = unwrapped(runner.model)
        self.changes = list(changes)
        self.rate = rate
        self.weights = weights

    def __str__(self) -> str:
        named = [(name, text) for name, text in self._rows() if text]
        return '\n'.join(f'{name:<{WIDTH}}{text}' for name, text in named)

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield f'mstkit {mstkit.__version__}', f'  {self.runner.cfg.filename or self.runner.experiment_name}'
        more = len(self.changes) - CHANGES
        for place, change in enumerate(self.changes[:CHANGES], start=1):
            yield '  changed', change + (f' (and {more} more, in the log)' if more > 0 and place == CHANGES else '')
        yield '  method', self._method()
        yield '  backbone', self._backbone()
        yield '  mask', self._mask()
        yield '  images', self._images()
        yield '  schedule', self._schedule()
        yield '  rate', self._rate()
        yield '  device', self._device()
        yield '  measured', '; '.join(self._measurements())
        yield '  weights', self._weights()
        yield '  writes', self._writes()

    def _method(self) -> str:
        trained = sum(value.numel() for value in self.model.parameters() if value.requires_grad)
        size = f'{in_millions(trained)} parameters are trained'
        name = type(self.model).__name__
        if not isinstance(self.model, Pretrainer):
            return f'{name}; {size}'
        parts = [f'{one.weight:g} {key} ({type(one).__name__})' for key, one in self.model.objectives.items()]
        return f'{name}: {" + ".join(parts)}; {size}'

    def _backbone(self) -> str:
        backbone = getattr(self.model, 'backbone', None)  # OpenMMLab's models call it so, without a common class
        if not isinstance(backbone, nn.Module):
            return ''
        config = (self.runner.cfg.get('model') or {}).get('backbone') or {}
        arch = config.get('arch', config.get('depth'))
        words = [type(backbone).__name__]
        if isinstance(arch, Mapping):
            words += [f'{ARCH[key]} {value}' for key, value in arch.items() if key in ARCH]
        elif arch is not None:
            words.append(str(arch))
        words += [f'patch {config["patch_size"]}'] if 'patch_size' in config else []
        words += [f'for {config["img_size"]} px'] if 'img_size' in config else []
        words.append(f'{in_millions(sum(value.numel() for value in backbone.parameters()))} parameters')
        return ', '.join(words)

    def _mask(self) -> str:
        if not isinstance(self.model, Pretrainer):
            return ''
        if self.model.masker is None:
            return 'none: the student sees whole images'
        rule = ' '.join(repr(self.model.masker).split())
        guide = '' if self.model.guide is None else f', guided by {type(self.model.guide).__name__}'
        sees = ', hidden patches are left out' if self.model.encoder_sees == 'visible' else ''
        return f'{rule}{guide}{sees}'

    def _images(self) -> str:
        dataset: Any = self.runner.train_dataloader.dataset
        size, classes = len(dataset), metainfo_of(dataset).get('classes')
        where = place_of(dataset)
        return ''.join(
            [
                f'{size} images',
                f' in {len(classes)} classes' if classes else '',
                f' of {where}' if where else f' ({type(dataset).__name__})',
                views_of(dataset),
            ]
        )

    def _schedule(self) -> str:
        runner, loop = self.runner, self.runner.train_loop
        per_device, counts, ranks = (
            batch_size_of(loop.dataloader),
            accumulative_counts(runner.optim_wrapper),
            runner.world_size,
        )
        parts = f'{per_device} x {processes(ranks)}'
        parts += f' x {counts} accumulated' if counts > 1 else ''
        length = f'{loop.max_iters} iterations'
        if isinstance(loop, EpochBasedTrainLoop):
            steps = counted(loop.max_iters // max(loop.max_epochs, 1), 'iteration')
            length = f'{counted(loop.max_epochs, "epoch")} of {steps}'
        return f'{length}, global batch {per_device * ranks * counts} ({parts})'

    def _rate(self) -> str:
        wrapper = self.runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            return f'of several optimizers ({type(wrapper).__name__})'
        optimizer = wrapper.optimizer
        decay = optimizer.defaults.get('weight_decay')
        words = [type(optimizer).__name__, self.rate or f'lr {optimizer.defaults.get("lr"):g}']
        return ', '.join([*words, f'weight decay {decay:g}'] if decay else words)

    def _device(self) -> str:
        device, ranks = next(self.model.parameters()).device, self.runner.world_size
        name = torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type
        words = [name if device.type != 'cpu' else f'cpu ({counted(torch.get_num_threads(), "thread")})']
        words.append(processes(ranks))
        return ', '.join([*words, precision_of(self.runner.optim_wrapper)])

    def _measurements(self) -> Iterator[str]:
        for hook in self.runner.hooks:
            if not isinstance(hook, KNNHook):
                continue
            if hook.loaders is None:
                yield 'k-NN off'
                continue
            bank: Any = hook.loaders['train'].dataset
            asked: Any = hook.loaders['val'].dataset
            where = place_of(asked)
            yield (
                f'k-NN every {counted(hook.interval, "epoch")}, {len(asked)} images{f" of {where}" if where else ""} '
                f'by {len(bank)}'
            )
        loop = self.runner.train_loop
        if validates(self.runner):
            unit = 'epoch' if isinstance(loop, EpochBasedTrainLoop) else 'iteration'
            images = len(self.runner.val_dataloader.dataset)
            yield f'validation every {counted(loop.val_interval, unit)}, {images} images'
        if not any(isinstance(hook, KNNHook) for hook in self.runner.hooks) and not validates(self.runner):
            yield 'nothing: the config has no k-NN and no validation'

    def _weights(self) -> str:
        if self.weights:
            return self.weights
        pretrained = self.runner.message_hub.runtime_info.get('pretrained')
        hooks = [hook for hook in self.runner.hooks if isinstance(hook, PretrainedBackboneHook)]
        if pretrained and hooks:
            return f'backbone of {pretrained["file"]} ({pretrained["branch"]}), the rest random'
        files = {
            str(config['checkpoint'])
            for module in self.model.modules()
            for config in settings_of_start(module)
            if config.get('type') == 'Pretrained' and config.get('checkpoint')
        }
        return f'{", ".join(sorted(files))} (init_cfg), the rest random' if files else 'random, from scratch'

    def _writes(self) -> str:
        log = self.runner.logger.log_file
        return f'{self.runner.work_dir} (log: {os.path.relpath(log, self.runner.work_dir)})'


def place_of(dataset: Any) -> str:
    """The folder or file that a data set reads; '' if it does not say."""
    while hasattr(dataset, 'dataset'):  # a Subset or a wrapper of another package
        dataset = dataset.dataset
    # Ours call it folder, mmdet's have the file of the annotations, mmpretrain's and mmseg's the folder of images.
    for name in ('folder', 'ann_file', 'img_prefix', 'data_root'):
        value = getattr(dataset, name, None)  # each has one of them, without a common class
        if isinstance(value, str | os.PathLike) and os.fspath(value):
            return os.fspath(value)
    return ''


def views_of(dataset: Any) -> str:
    """The sizes of the views of the first image, such as ``, views 2 x 64 px + 6 x 32 px``; '' if it has none."""
    with undisturbed_randomness():
        views = dataset[0].get('inputs')
    listed = views if isinstance(views, list | tuple) else [views]
    sizes = [tuple(view.shape[-2:]) for view in listed if isinstance(view, torch.Tensor) and view.ndim == 3]
    if not sizes:
        return ''
    words = [str(height) if height == width else f'{height}x{width}' for height, width in sizes]
    return ', views ' + ' + '.join(f'{words.count(word)} x {word} px' for word in dict.fromkeys(words))


def settings_of_start(module: nn.Module) -> list[Mapping[str, Any]]:
    """The ``init_cfg`` of a module of OpenMMLab's; no other has one."""
    config = getattr(module, 'init_cfg', None)  # torch's own have none
    listed = config if isinstance(config, list | tuple) else [config]
    return [one for one in listed if isinstance(one, Mapping)]


def precision_of(wrapper: Any) -> str:
    """The type of the forward pass in words."""
    kind: Any = torch.float32
    if isinstance(wrapper, DistillationOptimWrapper):
        kind = wrapper.cast_dtype or kind
    elif isinstance(wrapper, AmpOptimWrapper):
        kind = wrapper.cast_dtype or torch.float16
    return precision_name(kind)


def counted(number: int, unit: str) -> str:
    """``1 epoch``, ``3 epochs``."""
    return f'{number} {unit}{"" if number == 1 else "s"}'


def processes(number: int) -> str:
    """``1 process``, ``8 processes``."""
    return f'{number} process{"" if number == 1 else "es"}'


def in_millions(number: int) -> str:
    """A number of parameters, such as ``5.4 M`` or ``812``."""
    return f'{number / 1e6:.1f} M' if number >= 1e5 else str(number)
