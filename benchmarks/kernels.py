"""Kernels that a training step launches on a GPU, counted without one: python benchmarks/kernels.py CONFIG CONFIG …

A step of each config on a device that is only on paper, whose values the CPU computes: launches by phase, bytes that
they read and write, copies from the host and waits for the device. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
from typing import Any

import torch
from contest.clock import Clock
from contest.json_line import print_line
from contest.our_step import OurStep, names_of
from mmengine.logging import MMLogger
from pretended_gpu.device import COPY, GENERATOR, MIXED, Device, pretended_machine
from pretended_gpu.launches import Counted

from mstkit.engine.config.config_options import OptionsAction
from mstkit.errors import UsageError, exit_cleanly
from mstkit.models.interface import CompilablePart

MB = 1e6
FIRST = 2  # steps that are not counted: in a first one something may be made that stays


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='of pre-trainings')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, default={}, help='for every CONFIG')
    parser.add_argument('--batch-size', type=int, default=4, help='images; launches hardly depend on it, bytes do')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'), default='bfloat16')
    parser.add_argument('--compile', action='store_true', help='by the plan of torch.compile for what it compiles')
    parser.add_argument('--most', type=int, default=0, metavar='N', help='also the N operations with most launches')
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def counted(config: str, options: dict[str, Any], batch: int, dtype: str, compiled: bool) -> dict[str, Any]:
    """What a step of a config has for a GPU to do."""
    with pretended_machine():
        with Device():
            step = OurStep(config, options, batch, 'cuda', dtype, None)
            for _ in range(FIRST):
                step()
        with Counted() as device:
            if compiled:
                for module in step.model.modules():
                    if isinstance(module, CompilablePart):
                        module.use_compiled(device.compiler)
            clock = Clock(torch.device('cpu'), now=lambda: device.launched)  # nothing to synchronize with
            step.watch(clock)
            with clock.phase('other'):
                step()
    wrong = [str(event) for event in device.events if event.kind in (MIXED, GENERATOR)]
    if wrong:
        raise UsageError(f'{config}: a GPU would refuse this step: ' + '; '.join(sorted(set(wrong))))
    return dict(
        launches=device.launched,
        phases={phase: count for phase, count in clock.spent.most_common() if count},
        operations=dict(device.kernels.most_common()),
        moved_mb=round(device.moved / MB, 1),
        copies=device.copies,
        copied_mb=round(device.copied / MB, 2),
        waits=device.waits,
        slow_copies=sum(event.kind == COPY for event in device.events),
    )


@exit_cleanly
def main() -> None:
    """Counts and prints."""
    args = parse_args()
    names = names_of(args.configs)
    MMLogger.get_instance('mmengine').setLevel('ERROR')  # else a line for every parameter
    print(f'A step of {args.batch_size} images, {args.dtype}; nothing here is a time')
    results = {}
    for name, config in zip(names, args.configs, strict=True):
        found = results[name] = counted(config, args.cfg_options, args.batch_size, args.dtype, args.compile)
        phases = ', '.join(f'{phase} {count}' for phase, count in found['phases'].items())
        print(
            f'{name:32} {found["launches"]:6} launches, {found["moved_mb"]:9.1f} MB read and written, '
            f'{found["copies"]} copies of {found["copied_mb"]} MB, {found["waits"]} waits ({phases})'
        )
        for operation, count in list(found['operations'].items())[: args.most]:
            print(f'    {count:6} {operation}')
    print_line({**vars(args), 'torch': torch.__version__, 'results': results}, args.json)


if __name__ == '__main__':
    main()
