"""One training step of one of our configs, as the runner does it, on generated views."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor

from contest.clock import Clock
from contest.turns import in_turn
from mstkit.datasets import MultiCrop
from mstkit.engine.config.config_options import apply_options
from mstkit.engine.launch.launch import read_config
from mstkit.engine.parallel.cpu_settings import prepare_as
from mstkit.engine.runner.compiling import check_compiling, compile_parts
from mstkit.errors import UsageError
from mstkit.registry import MODELS, TRANSFORMS
from mstkit.structures import Progress
from mstkit.utils.progress_bar import track

Name = TypeVar('Name')
PRECISIONS = {'float32': 'fp32', 'bfloat16': 'bf16', 'float16': 'fp16'}


def configured(path: str, options: dict[str, Any]) -> Config:
    """A config with overrides; its data are not needed."""
    config = read_config(path)
    apply_options(config, options)
    return config


def names_of(configs: Sequence[str]) -> list[str]:
    """The names of the files of configs, which have to differ."""
    names = [Path(config).stem for config in configs]
    if len(set(names)) < len(names):
        raise UsageError(f'two of the configs have the same name, or one is named twice: {" ".join(configs)}')
    return names


def view_sizes(config: Config) -> tuple[list[int], int]:
    """The sides of a config's views in px, global views first, and the number of global views."""
    loader = config.get('train_dataloader') or {}
    pipeline = loader.get('dataset', {}).get('pipeline', ())
    for step in pipeline:
        if step['type'] == 'MultiCrop':
            crops = TRANSFORMS.build(step)
            assert isinstance(crops, MultiCrop)
            return [crop.size for crop, _ in crops.views], crops.global_crops.count
    raise UsageError(f'{config.filename} has no MultiCrop in its pipeline: give a config that pre-trains.')


def made_views(sizes: list[int], batch: int) -> list[Tensor]:
    """Smooth random images, one uint8 tensor (B, 3, S, S) per view, with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    views = []
    for size in sizes:
        coarse = torch.rand(batch, 3, 8, 8, generator=generator)
        fine = torch.nn.functional.interpolate(coarse, size=(size, size), mode='bicubic', align_corners=False)
        views.append((fine.clamp(0, 1) * 255).byte())
    return views


class OurStep:
    """A complete training step, from the normalization of the batch to the update of the teacher.

    Args:
        config: file of a pre-training config.
        options: overrides by dotted path.
        batch: number of images.
        device: of the step.
        dtype: float32, bfloat16 or float16.
        out_dim: number of prototypes; None keeps the config's.
    """

    def __init__(
        self, config: str, options: dict[str, Any], batch: int, device: str, dtype: str, out_dim: int | None
    ) -> None:
        cfg = configured(config, options)
        for part in ('neck', 'patch_neck'):
            if out_dim is not None and cfg.model.get(part):
                cfg.model[part].out_dim = out_dim
        for part in ('head', 'patch_head'):
            if out_dim is not None and 'out_dim' in (cfg.model.get(part) or {}):
                cfg.model[part].out_dim = out_dim
        cfg.optim_wrapper.precision = PRECISIONS[dtype]
        sizes, _ = view_sizes(cfg)
        self.device = torch.device(device)
        prepare_as(cfg)  # as the runner does
        torch.manual_seed(0)
        self.model = MODELS.build(cfg.model)
        self.model.init_weights()
        self.model.to(self.device).train()
        check_compiling(self.model, cfg.get('compile'))
        compile_parts(self.model, cfg.get('compile'))
        with DefaultScope.overwrite_default_scope('mstkit'):
            self.wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.wrapper.initialize_count_status(self.model, 0, 1000)
        views = made_views(sizes, batch)
        if self.device.type == 'cuda':  # as the loader hands them over
            views = [view.pin_memory() for view in views]
        self.data = dict(inputs=views, data_samples=None)
        self.iteration = 0

    def __call__(self) -> None:
        # After the first epochs, so that no part is frozen.
        progress = Progress(100 + self.iteration, 1000, 50, 0, 100 + self.iteration)
        self.model.set_progress(progress)
        self.wrapper.set_progress(progress)
        self.model.train_step(self.data, optim_wrapper=self.wrapper)
        self.model.after_step()
        self.iteration += 1

    def watch(self, clock: Clock) -> None:
        """Makes a clock measure the phases of the following steps."""
        model, teacher = self.model, self.model.teacher
        clock.wrap(model.data_preprocessor, 'forward', 'data')
        student = [
            getattr(objective, part, None)
            for objective in model.objectives.values()
            for part in ('neck', 'predictor', 'decoder')
        ]
        copies = []
        if teacher is not None:
            clock.wrap(teacher.backbone, 'forward_tokens', 'teacher')
            copies = [part for name, part in teacher.named_children() if name != 'backbone']
        for role, parts in (('student', student), ('teacher', copies)):
            for part in parts:
                for method in ('forward', 'bottleneck', 'prototypes'):
                    clock.wrap(part, method, role)
        clock.wrap(model.masker, 'draw', 'masker')
        clock.wrap(model, 'student_forward', 'student')
        clock.wrap(model, 'student_forward_visible', 'student')
        clock.wrap(model, '_run_forward', 'losses')
        clock.wrap(model, 'parse_losses', 'losses')
        clock.wrap(self.wrapper, 'backward', 'backward')
        clock.wrap(self.wrapper, 'step', 'optimizer')
        clock.wrap(self.wrapper, 'zero_grad', 'optimizer')
        clock.wrap(model, 'after_step', 'EMA')
        clock.wrap(model, 'set_progress', 'EMA')


class Timed(Protocol):
    """What can be timed: it is called, and its work is done on a device."""

    device: torch.device

    def __call__(self) -> None:
        """Does it once."""


def seconds_of_steps(
    steps: Mapping[Name, Timed], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Name, list[float]]:
    """Seconds of ``rounds`` steps of each, by turns, until the device has done them; two that do not count before."""
    seconds: dict[Name, list[float]] = {name: [] for name in steps}
    for turn in track(range(-2, rounds), rounds + 2, 'rounds'):
        for name in in_turn(steps, turn):
            start = clock()
            steps[name]()
            if steps[name].device.type == 'cuda':
                torch.cuda.synchronize(steps[name].device)
            if turn >= 0:
                seconds[name].append(clock() - start)
    return seconds
