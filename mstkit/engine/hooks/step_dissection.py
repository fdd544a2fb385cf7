"""Looks at every number of training steps, to find where the first comes from that is not finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mstkit.engine.parallel.distributed import unwrapped
from mstkit.utils.finite_numbers import infinite_by_design, not_finite, terms_of

NAMED = 3  # images


class FoundIt(Exception):
    """The step was found; the message says, in several lines, what is not finite in it."""


class NotFound(Exception):
    """The last step was reached, and everything was finite."""


class StepDissection(Hook):
    """Watches weights, the outputs of all modules, gradients and losses of each step, in the order of the computation.

    At the end of the first step in which one is not finite it raises :class:`FoundIt`, at the end of the last one
    :class:`NotFound`. What is infinite by design, such as a mask that is added to attention scores, is known by the
    steps before, whose losses were finite all the same.

    Args:
        last: the iteration, counted from 1, after which it gives up.
    """

    priority = 'HIGHEST'

    def __init__(self, last: int) -> None:
        self.last = last
        self.lines: list[str] = []
        self._handles: list[RemovableHandle] = []
        self._images = ''
        self._before = ''  # the module that had the last output
        self._usual: set[str] = set()  # buffers and modules
        self._odd: set[str] = set()  # modules of this step

    def before_train(self, runner: Runner) -> None:
        """Watches all modules and parameters of the model."""
        model = unwrapped(runner.model)
        self._usual |= infinite_by_design(model)
        for name, module in model.named_modules():
            if name:
                self._handles.append(module.register_forward_hook(partial(self._after_forward, name)))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self._handles.append(parameter.register_hook(partial(self._after_backward, name)))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Looks at the weights with which the step begins."""
        self.lines, self._images, self._before, self._odd = [], _names(data_batch), '', set()
        self._look_at_weights(runner, 'before')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Ends the run if something was found, or if this was the last step."""
        losses = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items() if 'loss' in name}
        broken = {name: value for name, value in losses.items() if not _finite(value)}
        if broken:
            named = terms_of(broken)
            self.lines.append(f'losses: {", ".join(f"{name} = {float(value)}" for name, value in named.items())}')
        if self._look_at_weights(runner, 'after') or broken:
            self.release()
            where = f'iteration {runner.iter + 1} (epoch {runner.epoch + 1})'
            images = f'images of the step: {self._images}' if self._images else ''
            raise FoundIt(
                '\n  '.join(filter(None, [f'{where}, in the order of the computation:', *self.lines, images]))
            )
        self._usual |= self._odd
        if runner.iter + 1 >= self.last:
            self.release()
            raise NotFound

    def release(self) -> None:
        """Stops watching."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _look_at_weights(self, runner: Runner, when: str) -> bool:
        """Adds a line if some are not finite; returns whether they are."""
        found = [name for name in not_finite(unwrapped(runner.model).state_dict()) if name not in self._usual]
        if found:
            self.lines.append(f'weights {when} the step: {len(found)} not finite, first {found[0]}')
        return bool(found)

    def _after_forward(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if all(map(_finite, tensors_in(output))):
            if not self._odd - self._usual:
                self._before = name
            return
        first = not self._odd - self._usual and name not in self._usual
        self._odd.add(name)
        if not first:
            return
        if all(map(_finite, tensors_in(inputs))):
            kind = type(module).__name__
            self.lines.append(
                f'forward: {name} ({kind}) makes it of finite inputs of at most {_largest(tensors_in(inputs)):.3g}; '
                f'its weights are at most {_largest(module.parameters(recurse=False)):.3g}'
            )
        else:
            after = f' after {self._before}, whose output is finite' if self._before else ''
            self.lines.append(f'forward: computed{after}, and comes into {name} ({type(module).__name__})')

    def _after_backward(self, name: str, gradient: Tensor) -> None:
        if any(line.startswith('backward') for line in self.lines) or _finite(gradient):
            return
        self.lines.append(f'backward: the gradient of {name} is the first that is not finite')


def tensors_in(value: Any) -> Iterable[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from tensors_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors_in(one)


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or not value.is_floating_point() or bool(value.isfinite().all())


def _largest(tensors: Iterable[Tensor]) -> float:
    found = [float(one.detach().abs().max()) for one in tensors if one.is_floating_point() and one.numel()]
    return max(found, default=0.0)


def _names(batch: Any) -> str:
    samples: Any = batch.get('data_samples') or () if isinstance(batch, Mapping) else ()
    paths = [str(sample.img_path) for sample in samples if 'img_path' in sample]
    return ', '.join(paths[:NAMED]) + (f' and {len(paths) - NAMED} more' if len(paths) > NAMED else '')
