"""The optimizer wrapper of self-distillation: per-tensor clipping, a last layer frozen at first, mixed precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine import dist
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from mstkit.engine.optim.precision import PRECISIONS, resolve_precision
from mstkit.errors import UsageError
from mstkit.registry import OPTIM_WRAPPERS
from mstkit.structures import Progress
from mstkit.utils.checks import check_count, check_number, check_one_of
from mstkit.utils.device_copies import copied_to
from mstkit.utils.local_shards import is_spread, local_parts
from mstkit.utils.private_attributes import norms_of, scale_each_, scale_of

CLIP_MODES = ('per_tensor', 'global')


def clip_per_tensor_(gradients: list[Tensor], max_norm: float) -> Tensor:
    """Rescales, in place, every gradient whose own norm is above ``max_norm``.

    This is DINO's clipping (Caron et al. 2021, ``utils.clip_gradients``): each tensor is multiplied by
    ``max_norm / (norm + 1e-6)`` where that is below one. Nothing is read back to the host.

    Args:
        gradients: tensors of any shape on one device, or spread over all processes.
        max_norm: the largest L2 norm that a tensor keeps.

    Returns:
        (len(gradients),) float32, the norms before clipping.
    """
    parts = local_parts(gradients)
    norms = norms_of(parts).float()
    spread = [is_spread(gradient) for gradient in gradients]
    if any(spread):  # sharded training: a single all-reduce for the norms of all tensors
        squares = norms.square()
        dist.all_reduce(squares)
        norms = torch.where(copied_to(torch.tensor(spread), norms.device), squares.sqrt(), norms)
    coefficients = (max_norm / (norms + 1e-6)).clamp_(max=1.0)
    scale_each_(parts, coefficients)
    return norms


@OPTIM_WRAPPERS.register_module()
class DistillationOptimWrapper(OptimWrapper):
    """Optimizer wrapper with DINO's gradient treatment, under any precision and with accumulation.

    After each iteration :attr:`stepped` says whether it ended with an optimizer step. It is also True where fp16
    overflowed and the loss scaler left the weights unchanged (:attr:`skipped_steps` counts those): schedules, teacher
    and center advance with the number of steps, as in DINO, so that the run keeps its length.

    Gradients do not accumulate over the end of an epoch once :meth:`set_epoch_length` was called
    (see :class:`mstkit.engine.optim.step_counts.StepCounter`).

    Args:
        optimizer: the optimizer, built from its config by mmengine.
        accumulative_counts: iterations per optimizer step.
        precision: ``auto``, ``bf16``, ``fp16`` or ``fp32``; see :func:`resolve_precision`.
        clip_norm: the largest gradient norm; None leaves gradients as they are.
        clip_mode: ``per_tensor`` (DINO) or ``global`` (one norm over all gradients).
        freeze_last_layer_epochs: during these first epochs the last layer is not updated.
        last_layer_key: a parameter belongs to the last layer when its name contains this.

    Raises:
        UsageError: an argument with a value that is not allowed.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        precision: str = 'auto',
        clip_norm: float | None = 3.0,
        clip_mode: str = 'per_tensor',
        freeze_last_layer_epochs: int = 1,
        last_layer_key: str = 'last_layer',
    ) -> None:
        check_count('optim_wrapper.accumulative_counts', accumulative_counts, 1)
        check_one_of('optim_wrapper.precision', precision, PRECISIONS)
        check_one_of('optim_wrapper.clip_mode', clip_mode, CLIP_MODES)
        if clip_norm is not None:
            check_number('optim_wrapper.clip_norm (None for no clipping)', clip_norm, above=0)
        check_count('optim_wrapper.freeze_last_layer_epochs', freeze_last_layer_epochs, 0)
        super().__init__(optimizer, accumulative_counts)
        self.device = optimizer.param_groups[0]['params'][0].device
        self.cast_dtype = resolve_precision(precision, self.device)
        if self.cast_dtype is torch.float16 and is_spread(optimizer.param_groups[0]['params'][0]):
            raise UsageError(
                "optim_wrapper.precision='fp16' does not work with FullyShard: its loss scaler does not see overflows "
                "in the shards of other processes. Use 'bf16' or 'fp32'."
            )
        self.loss_scaler = torch.amp.GradScaler('cuda') if self.cast_dtype is torch.float16 else None
        self.clip_norm = clip_norm
        self.clip_mode = clip_mode
        self.freeze_last_layer_epochs = freeze_last_layer_epochs
        self.last_layer_key = last_layer_key
        self.stepped = False
        self._skipped: Tensor | int = 0  # a tensor on the device as soon as the loss scaler has one
        self._last_layer: list[nn.Parameter] = []
        self._progress: Progress | None = None
        self._epoch_length: int | None = None

    @property
    def skipped_steps(self) -> int:
        """How many steps the loss scaler left out; reading it waits for the device."""
        return int(self._skipped)

    def counted(self) -> dict[str, Tensor | int]:
        """What the log has of the wrapper, still on the device: ``skipped_steps`` with fp16."""
        return {} if self.loss_scaler is None else {'skipped_steps': self._skipped}

    def set_progress(self, progress: Progress) -> None:
        """Sets the current step and epoch; ``ProgressHook`` calls it before every iteration."""
        self._progress = progress

    def set_epoch_length(self, iterations: int) -> None:
        """Makes accumulation start anew with every epoch of this many iterations."""
        self._epoch_length = iterations

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Sets the counters and finds the last layer; the Runner calls it before the first iteration.

        Args:
            model: the model, wrapped or not.
            init_counts: iterations already done.
            max_counts: iterations of the whole run.
        """
        self._inner_count = init_counts
        self._max_counts = max_counts
        self._remainder_counts = max_counts % self._accumulative_counts
        owned = {id(parameter) for group in self.optimizer.param_groups for parameter in group['params']}
        self._last_layer = [
            parameter
            for name, parameter in model.named_parameters()
            if self.last_layer_key in name and id(parameter) in owned
        ]
        if self.freeze_last_layer_epochs and not self._last_layer:
            print_log(
                f'No trained parameter has {self.last_layer_key!r} in its name, so freeze_last_layer_epochs='
                f'{self.freeze_last_layer_epochs} has no effect.',
                logger='current',
                level=30,
            )

        epochs, length = self.freeze_last_layer_epochs, self._epoch_length
        if epochs and self._last_layer and length and epochs * length >= max_counts:
            print_log(
                f'freeze_last_layer_epochs={epochs} in a run of {max_counts // length} never trains the last layer.',
                logger='current',
                level=30,
            )

    def _window(self, count: int) -> tuple[int, int]:
        """The index of an iteration in its accumulation window, and the window's size in iterations."""
        length = self._epoch_length or (self._max_counts if self._max_counts > 0 else None)
        position = count if length is None else count % length
        inside = position % self._accumulative_counts
        left = self._accumulative_counts if length is None else length - (position - inside)
        return inside, min(self._accumulative_counts, left)

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Divides the loss by the number of iterations that accumulate gradients for the next optimizer step."""
        return loss / self._window(self._inner_count)[1]

    def should_sync(self) -> bool:
        """Whether the coming backward pass ends an accumulation window."""
        inside, size = self._window(self._inner_count)
        return inside + 1 == size

    def should_update(self) -> bool:
        """Whether the last backward pass ended an accumulation window."""
        inside, size = self._window(self._inner_count - 1)
        return inside + 1 == size

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Runs the forward pass in the chosen precision, without gradient exchange inside a window."""
        enabled = self.cast_dtype is not None
        with (
            super().optim_context(model),
            torch.autocast(self.device.type, dtype=self.cast_dtype if enabled else torch.bfloat16, enabled=enabled),
        ):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Back-propagates the loss, scaled by the loss scaler with fp16."""
        (loss if self.loss_scaler is None else self.loss_scaler.scale(loss)).backward(**kwargs)
        self._inner_count += 1

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None) -> None:
        """Back-propagates, and steps where the accumulation window ends; sets :attr:`stepped`."""
        self.stepped = False
        super().update_params(loss, step_kwargs, zero_kwargs)

    def step(self, **kwargs: Any) -> None:
        """Unscales and clips gradients, drops those of the last layer while it is frozen, and updates the weights."""
        scaler = self.loss_scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        self._clip()
        if self._last_layer_is_frozen():
            for parameter in self._last_layer:
                parameter.grad = None
        if scaler is None:
            self.optimizer.step(**kwargs)
        else:
            scale = scale_of(scaler).clone()
            scaler.step(self.optimizer, **kwargs)
            scaler.update()
            self._skipped = self._skipped + (scale_of(scaler) < scale).int()
        self.stepped = True

    def _clip(self) -> None:
        if self.clip_norm is None:
            return
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        if not parameters:
            return
        if self.clip_mode == 'per_tensor':
            clip_per_tensor_([parameter.grad for parameter in parameters], self.clip_norm)
        else:
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)

    def _last_layer_is_frozen(self) -> bool:
        if not self._last_layer or not self.freeze_last_layer_epochs:
            return False
        if self._progress is None:
            raise UsageError(
                'freeze_last_layer_epochs needs to know the epoch: add dict(type="ProgressHook") to custom_hooks.'
            )
        return self._progress.epoch < self.freeze_last_layer_epochs

    def state_dict(self) -> dict:
        """The optimizer's state, and the loss scaler's under ``loss_scaler``."""
        state = super().state_dict()
        if self.loss_scaler is not None:
            state['loss_scaler'] = {**self.loss_scaler.state_dict(), 'skipped_steps': self.skipped_steps}
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Loads a state of :meth:`state_dict`; a change between fp16 and another precision is logged."""
        state_dict = dict(state_dict)
        scaler_state = state_dict.pop('loss_scaler', None)
        if scaler_state is not None and self.loss_scaler is not None:
            scaler_state = dict(scaler_state)
            self._skipped = scaler_state.pop('skipped_steps', 0)
            self.loss_scaler.load_state_dict(scaler_state)
        elif (scaler_state is None) != (self.loss_scaler is None):
            was, now = ('fp16', self.cast_dtype) if self.loss_scaler is None else ('not fp16', 'fp16')
            print_log(f'The checkpoint was trained in {was}, this run goes on in {now}.', logger='current', level=30)
        super().load_state_dict(state_dict)
