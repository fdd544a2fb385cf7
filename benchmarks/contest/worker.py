"""Runs a contestant in its own process, which computes on request and waits otherwise."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from contest.memory import memory, start_peak
from mstkit.errors import UsageError


class Worker:
    """A process that holds one contestant.

    Args:
        settings: for :func:`contest.steps.contestant`.

    Raises:
        UsageError: the contestant cannot be built; with its own message.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        context = multiprocessing.get_context('spawn')
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, settings), daemon=True)
        self.process.start()
        other.close()
        self.about: dict[str, Any] = self._answer()

    def ask(self, what: str) -> Any:
        """Asks a question.

        Args:
            what: 'step': seconds of one; 'peak': its bytes; 'phases': seconds by name; 'products': bound and
                operations; 'flops': those of the model; 'waits': of the host, by place; 'busy': of the device.
        """
        self.pipe.send(what)
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self.pipe.close()
        self.process.join(timeout=10)
        self.process.kill()

    def _answer(self) -> Any:
        try:
            kind, value = self.pipe.recv()
        except EOFError:
            self.process.join(timeout=10)
            raise UsageError(
                f'a contestant ended with exit code {self.process.exitcode}; where the memory ran out, give a smaller '
                '--batch-size.'
            ) from None
        if kind == 'mistake':
            raise UsageError(value)
        if kind == 'error':
            raise RuntimeError(value)
        return value


def _serve(pipe: Connection, settings: dict[str, Any]) -> None:
    try:
        contestant = _Contestant(settings)
        pipe.send(('answer', contestant.about))
        while True:
            pipe.send(('answer', getattr(contestant, pipe.recv())()))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        pass
    except UsageError as error:
        pipe.send(('mistake', str(error)))
    except Exception:
        pipe.send(('error', traceback.format_exc()))


class _Contestant:
    """Answers the questions of :meth:`Worker.ask`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch

        from contest.steps import contestant

        torch.set_num_threads(settings['threads'])
        self.torch = torch
        self.device = torch.device(settings['device'])
        build = contestant(settings)
        self.before = memory('VmRSS') or 0  # imports do not count as memory of the step
        self.step_once = build()
        self.about = dict(pid=os.getpid(), torch=torch.__version__)

    def step(self) -> float:
        """Seconds of one step."""
        start = time.perf_counter()
        self.step_once()
        if self.device.type == 'cuda':
            self.torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def peak(self) -> int | None:
        """Peak memory of one step: that of the GPU, or that of the process without its imports."""
        if self.device.type == 'cuda':
            self.torch.cuda.reset_peak_memory_stats(self.device)
            self.step()
            return self.torch.cuda.max_memory_allocated(self.device)
        start_peak()
        self.step()
        peak = memory('VmHWM')
        return None if peak is None else peak - self.before

    def phases(self) -> dict[str, float]:
        """Seconds of each phase in one step, which is slower than a step without a clock."""
        from contest.clock import Clock

        if not hasattr(self, 'clock'):
            self.clock = Clock(self.device)
            self.step_once.watch(self.clock)
        self.clock.spent.clear()
        seconds = self.step()
        booked = dict(self.clock.spent)
        return {**booked, 'other': seconds - sum(booked.values())}

    def eager(self) -> contextlib.AbstractContextManager[object]:
        """Without compilation, because products inside compiled code cannot be observed; they are the same."""
        stance = getattr(self.torch.compiler, 'set_stance', None)  # since torch 2.6
        return stance('force_eager') if stance else contextlib.nullcontext()

    def products(self) -> dict[str, float]:
        """The bound by matrix products of a step, and its operations."""
        from contest.gemm_bound import Products, operations, seconds_of

        with self.eager(), Products() as counted:
            self.step_once()
        return dict(seconds=seconds_of(counted.found, self.device), operations=operations(counted.found))

    def flops(self) -> int:
        """Floating-point operations of a step, as torch counts them: products, convolutions, attention."""
        from torch.utils.flop_counter import FlopCounterMode

        with self.eager(), FlopCounterMode(display=False) as counted:
            self.step_once()
        return counted.get_total_flops()

    def waits(self) -> dict[str, int] | None:
        """How often the host waits for the GPU in a step, by place; None on the CPU."""
        if self.device.type != 'cuda':
            return None
        self.torch.cuda.set_sync_debug_mode('warn')
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                self.step_once()
        finally:
            self.torch.cuda.set_sync_debug_mode('default')
        found = [one for one in caught if 'synchronizing CUDA operation' in str(one.message)]
        return dict(Counter(f'{"/".join(Path(one.filename).parts[-3:])}:{one.lineno}' for one in found))

    def busy(self) -> dict[str, float] | None:
        """How much of three steps the GPU is busy, its kernels, and what they are started with; None on the CPU."""
        if self.device.type != 'cuda':
            return None
        activities = self.torch.profiler.ProfilerActivity
        steps = 3
        with self.torch.profiler.profile(activities=[activities.CPU, activities.CUDA]) as profile:
            seconds = sum(self.step() for _ in range(steps))
        kernels = [one for one in profile.events() if one.device_type == self.torch.autograd.DeviceType.CUDA]
        host = Counter(one.name for one in profile.events() if one.name.startswith('cuda'))
        return dict(
            share=round(sum(one.time_range.elapsed_us() for one in kernels) / 1e6 / seconds, 4),
            kernels=round(len(kernels) / steps),
            launches=round(sum(count for name, count in host.items() if 'Launch' in name) / steps),
            synchronizations=round(sum(count for name, count in host.items() if 'Synchronize' in name) / steps, 1),
        )
