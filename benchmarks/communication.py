"""Operations and bytes of a training step: python benchmarks/communication.py [CONFIG] [--arch deit-small base]

Counted, not timed: floating-point operations with meta tensors, bytes with a process group that sends nothing. The
expected speed with 8, 64 or 512 GPUs is computed from these and from the printed assumptions. See docs/en/scaling.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import gc
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from contest.json_line import print_line
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from torch import Tensor, distributed
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import mstkit
from mstkit.datasets import MultiCrop
from mstkit.engine.launch.launch import read_config
from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper
from mstkit.engine.parallel.model_wrapping import ddp_settings
from mstkit.engine.parallel.sharding import shard
from mstkit.errors import UsageError, exit_cleanly
from mstkit.models import Step
from mstkit.registry import MODELS, TRANSFORMS
from mstkit.structures import Progress

ROOT = Path(mstkit.__file__).resolve().parents[1]
WORLD = 8  # of the process group that sends nothing; what is counted does not depend on it
PROGRESS = tuple(Progress(step, 10, 5) for step in range(3))  # DDP has settled in the third step, which counts
IMAGES = 2  # per step while it is counted: batch normalization needs two; operations are given per image
SMALL = 64  # pixels: what is exchanged does not depend on the size of the views
GIGA = 1e9


@dataclass(frozen=True)
class Assumptions:
    """Assumptions about the hardware, from which the expected speed is computed.

    Attributes:
        images: per GPU and step.
        peak: dense operations per second of a GPU in the precision of the matrix products.
        mfu: the share of the peak that a step reaches on one GPU.
        inside: bytes/s per GPU of a ring exchange within a machine of 8 (NCCL's bus bandwidth).
        between: the same over the network between machines.
        latency: minimum seconds of an exchange, for each doubling of the number of processes.
    """

    images: int
    peak: float
    mfu: float
    inside: float
    between: float
    latency: float


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Operations and bytes of a training step, and what follows from them.')
    default = ROOT / 'configs' / 'dino' / 'dino_vit-s_100e.py'
    parser.add_argument('config', nargs='?', default=str(default), help='(default: configs/dino/dino_vit-s_100e.py)')
    parser.add_argument('--arch', nargs='+', default=['deit-small', 'base', 'large'], help='of the backbone')
    parser.add_argument('--gpus', nargs='+', type=int, default=[8, 64, 512])
    parser.add_argument('--images', type=int, default=64, help='per GPU and step (%(default)s)')
    parser.add_argument('--peak', type=float, default=989, help='of a GPU, TFLOP/s in bf16 (%(default)s)')
    parser.add_argument('--mfu', type=float, default=0.4, help='share of it that a step reaches (%(default)s)')
    parser.add_argument('--inside', type=float, default=350, help='GB/s of an exchange within a machine (%(default)s)')
    parser.add_argument('--between', type=float, default=300, help='GB/s of one between machines (%(default)s)')
    parser.add_argument('--latency', type=float, default=10, help='us per exchange and doubling (%(default)s)')
    parser.add_argument(
        '--operations-only', action='store_true', help='do not count bytes, which runs a step on the CPU'
    )
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def views_of(config: Config, device: str, largest: int | None = None) -> list[Tensor]:
    """Views of the sizes that MultiCrop makes, (IMAGES, 3, S, S); with ``largest``, local ones at most half of it."""
    steps = [TRANSFORMS.build(step) for step in config.train_dataloader.dataset.pipeline]
    crops = next((step for step in steps if isinstance(step, MultiCrop)), None)
    if crops is None:
        raise UsageError('the config has no MultiCrop in its train_dataloader: give a config of a pre-training.')
    sides = [crop.size for crop, _ in crops.views]
    if largest is not None:
        sides = [min(side, largest if side == sides[0] else largest // 2) for side in sides]
    return [torch.randn(IMAGES, 3, side, side, device=device) for side in sides]


def built(config: Config, arch: str) -> Any:
    """The config's model with another backbone, in training mode."""
    model = Config(dict(config.model._cfg_dict if isinstance(config.model, Config) else config.model))
    model.backbone.arch = arch
    with DefaultScope.overwrite_default_scope('mstkit'):
        return MODELS.build(model._cfg_dict).train()


def count_operations(config: Config, arch: str) -> dict[str, float]:
    """Operations per image and step by part, two for each multiplication and addition of matrix products.

    Without the masker, whose choice would need numbers: its share is that of one row of attention.
    """
    with torch.device('meta'):
        model = built(config, arch)
        if 'patch' in model.objectives:
            raise UsageError('how many patches are hidden depends on the masks: give a config without a patch_head.')
        model.masker = None
        model.set_progress(Progress(0, 10, 5))
        with FlopCounterMode(display=False) as teacher:
            step = Step(model, views_of(config, 'meta'))
            with torch.no_grad():
                step.teacher_part('ce', 'neck')(step.teacher.pooled)
        with FlopCounterMode(display=False) as forward:
            loss = sum(model.loss(views_of(config, 'meta')).values())
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    total = forward.get_total_flops() + backward.get_total_flops()
    parts = dict(
        teacher=teacher.get_total_flops(),
        student_forward=forward.get_total_flops() - teacher.get_total_flops(),
        student_backward=backward.get_total_flops(),
        step=total,
    )
    return {name: value / IMAGES for name, value in parts.items()}


# Of which argument of an exchange the size counts: what all processes have together at its end, or at its start.
COUNTED = {'allreduce_': 0, '_allgather_base_': 0, 'allgather_': 0, '_reduce_scatter_base_': 1, 'broadcast_': 0}


class Exchanges(TorchDispatchMode):
    """Counts the bytes of every exchange between processes that is started inside, by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        space, _, kind = func._schema.name.partition('::')
        if space == 'c10d' and kind in COUNTED:
            self.seen.append((kind.strip('_'), _bytes(args[COUNTED[kind]])))
        return func(*args, **(kwargs or {}))


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(_bytes(item) for item in value) if isinstance(value, list | tuple) else 0


@contextmanager
def silent_group() -> Iterator[None]:
    """A fake process group of eight with only this process: exchanges are started but nothing is sent."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    os.environ.setdefault('LOCAL_RANK', '0')
    distributed.init_process_group('fake', rank=0, world_size=WORLD, store=FakeStore())
    try:
        yield
    finally:
        distributed.destroy_process_group()


def count_bytes(config: Config, arch: str) -> dict[str, float]:
    """Bytes that a step exchanges, by purpose, with DDP as set up by the runner; independent of the images."""
    model = built(config, arch)
    model.init_weights()
    settings = ddp_settings(model, None, None)
    settings.pop('type')
    wrapped = MMDistributedDataParallel(model, **{**settings, 'static_graph': False})
    buckets: list[int] = []

    def count(state, bucket):
        buckets.append(_bytes(bucket.buffer()))
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    # DDP checks the annotations of the hook, which must be types and not strings.
    count.__annotations__ = {'bucket': distributed.GradBucket, 'return': torch.futures.Future[Tensor]}
    wrapped.register_comm_hook(None, count)
    wrapper = wrapper_of(model)
    for progress in PROGRESS:
        buckets.clear()
        model.set_progress(progress)
        with Exchanges() as logged:
            loss, _ = model.parse_losses(wrapped(views_of(config, 'cpu', SMALL), mode='loss'))
        wrapper.update_params(loss)
        with Exchanges() as centers:
            model.after_step()
    return dict(
        gradients=sum(buckets),
        buckets=len(buckets),
        centers=sum(size for _, size in centers.seen),
        logged=sum(size for _, size in logged.seen),
        exchanges=len(buckets) + len(centers.seen) + len(logged.seen),
        batch_norm=batch_norm_bytes(config, model),
        parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    )


def wrapper_of(model: Any) -> DistillationOptimWrapper:
    """The optimizer wrapper of the configs, with an optimizer that needs no memory."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    wrapper = DistillationOptimWrapper(torch.optim.SGD(trained, lr=0.0), precision='fp32', freeze_last_layer_epochs=0)
    wrapper.initialize_count_status(model, 0, len(PROGRESS))
    return wrapper


def count_sharded_bytes(config: Config, arch: str) -> dict[str, float]:
    """Bytes of the same step with sharded weights, by kind of exchange."""
    model = built(config, arch)
    model.init_weights()
    model.init_weights = lambda: None
    shard(model, dict(type='FullyShard'))
    wrapper = wrapper_of(model)
    for progress in PROGRESS:
        model.set_progress(progress)
        with Exchanges() as seen:
            loss, _ = model.parse_losses(model(views_of(config, 'cpu', SMALL), mode='loss'))
            wrapper.update_params(loss)
            model.after_step()
    kinds = {'gathered': 'allgather', 'scattered': 'reduce_scatter', 'reduced': 'allreduce'}
    sizes = {name: sum(size for kind, size in seen.seen if word in kind) for name, word in kinds.items()}
    return {**sizes, 'exchanges': len(seen.seen)}


def batch_norm_bytes(config: Config, model: Any) -> int:
    """Bytes that SyncBatchNorm exchanges in a step: mean, deviation and count forward, two sums backward, per call."""
    total = 0

    def add(module: Any, inputs: Any, output: Any) -> None:
        nonlocal total
        backward = 2 * module.num_features if output.requires_grad else 0
        total += 4 * (2 * module.num_features + 1 + backward)

    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    handles = [norm.register_forward_hook(add) for norm in norms]
    if norms:
        model.loss(views_of(config, 'cpu', SMALL))
    for handle in handles:
        handle.remove()
    return total


def expect(operations: dict[str, float], sizes: dict[str, float], gpus: int, given: Assumptions) -> dict[str, float]:
    """The expected times of a step with many GPUs, in seconds.

    A ring all-reduce of S bytes moves 2 (N - 1) / N S over each GPU's links. Gradients are sent during the backward
    pass, except the last bucket; the GPUs wait for gradients that take longer than that, and for all other exchanges.
    """
    rate = given.peak * given.mfu
    compute = given.images * operations['step'] / rate
    backward = given.images * operations['student_backward'] / rate
    bandwidth = given.inside if gpus <= WORLD else given.between
    share, doublings = 2 * (gpus - 1) / gpus, math.log2(gpus)
    gradients = share * sizes['gradients'] / bandwidth + sizes['buckets'] * given.latency * doublings
    last = share * sizes['gradients'] / sizes['buckets'] / bandwidth + given.latency * doublings
    alone = share * (sizes['centers'] + sizes['logged'] + sizes['batch_norm']) / bandwidth
    alone += (sizes['exchanges'] - sizes['buckets']) * given.latency * doublings
    waiting = max(gradients - backward, last) + alone
    room = backward + compute / 9 - alone  # beside which the efficiency is still 0.9
    return dict(
        compute=compute,
        gradients=gradients,
        waiting=waiting,
        efficiency=compute / (compute + waiting),
        images_per_second=gpus * given.images / (compute + waiting),
        least_bandwidth=share * sizes['gradients'] / room if room > 0 else math.inf,
    )


def count(config: Config, archs: Sequence[str], with_bytes: bool) -> dict[str, dict[str, Any]]:
    """Operations and bytes by backbone."""
    found: dict[str, dict[str, Any]] = {}
    for arch in archs:
        found[arch] = dict(operations=count_operations(config, arch))
        if with_bytes:
            with silent_group():
                found[arch]['bytes'] = count_bytes(config, arch)
                gc.collect()  # the models contain reference cycles
                found[arch]['sharded'] = count_sharded_bytes(config, arch)
            gc.collect()
    return found


@exit_cleanly
def main() -> None:
    """Counts, and prints."""
    args = parse_args()
    MMLogger.get_current_instance().setLevel('WARNING')  # mmengine logs every initialized tensor
    config = read_config(args.config)
    given = Assumptions(
        images=args.images,
        peak=args.peak * 1e12,
        mfu=args.mfu,
        inside=args.inside * GIGA,
        between=args.between * GIGA,
        latency=args.latency * 1e-6,
    )
    found = count(config, args.arch, not args.operations_only)
    print(f'{Path(args.config).stem}, counted per image and step')
    for arch, parts in found.items():
        operations = {name: f'{value / GIGA:.1f}' for name, value in parts['operations'].items()}
        print(f'{arch}: GFLOP ' + ', '.join(f'{name} {value}' for name, value in operations.items()))
        if 'bytes' not in parts:
            continue
        sizes = parts['bytes']
        print(
            f'{arch}: {sizes["parameters"] / 1e6:.1f} M trained parameters; exchanged per step: gradients '
            f'{sizes["gradients"] / 1e6:.1f} MB in {sizes["buckets"]:.0f} buckets, centers '
            f'{sizes["centers"] / 1e3:.1f} kB, logged losses {sizes["logged"]:.0f} B, '
            f'SyncBatchNorm {sizes["batch_norm"] / 1e3:.1f} kB'
        )
        spread = {name: f'{value / 1e6:.1f} MB' for name, value in parts['sharded'].items() if name != 'exchanges'}
        print(f'{arch}, sharded: ' + ', '.join(f'{name} {value}' for name, value in spread.items()))
    print(f'expected, not measured, from {asdict(given)}')
    for arch, parts in found.items():
        parts['expected'] = {}
        for gpus in args.gpus if 'bytes' in parts else ():
            step = parts['expected'][gpus] = expect(parts['operations'], parts['bytes'], gpus, given)
            print(
                f'{arch}, {gpus} GPUs: efficiency {step["efficiency"]:.3f} (compute {1e3 * step["compute"]:.1f} ms, '
                f'waiting {1e3 * step["waiting"]:.2f} ms), {step["images_per_second"]:.0f} images/s; below '
                f'{step["least_bandwidth"] / GIGA:.1f} GB/s it falls under 0.9'
            )
    content = dict(benchmark='communication', config=Path(args.config).stem, given=asdict(given), results=found)
    print_line(content, args.json)


if __name__ == '__main__':
    main()
