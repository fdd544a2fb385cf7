"""The time of a step's matrix products alone: a lower bound for any implementation of the step."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# (batch, rows, inner, columns) with the layouts of the two operands, as (transposed, transposed).
Product = tuple[int, int, int, int, bool, bool]
REPEATS = 5


class Products(TorchDispatchMode):
    """Counts the matrix products of what runs under it: linear layers, convolutions, attention, and their gradients.

    Attention's forward pass has two products for a head, its backward pass four (recomputing the weights is a fused
    kernel's own choice and not counted). A convolution is counted as the product that it stands for.

    Attributes:
        found: how often each product occurred.
        dtype: of each product.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[Product, torch.dtype]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip('_')  # in place too
        if name in ('mm', 'bmm'):
            self._product(args[0], args[1])
        elif name in ('addmm', 'baddbmm'):
            self._product(args[1], args[2])
        elif name == 'convolution':
            self._convolution(args[0], args[1], args[3], args[8], passes=1, out=None)
        elif name == 'convolution_backward':
            wanted = args[10]
            self._convolution(args[1], args[2], args[4], args[9], passes=int(wanted[0]) + int(wanted[1]), out=args[0])
        elif 'scaled_dot_product' in name:
            backward = name.endswith('backward')
            query, key, value = args[1:4] if backward else args[:3]
            self._attention(query, key, value, backward)
        return func(*args, **(kwargs or {}))

    def _product(self, left: Tensor, right: Tensor) -> None:
        batch = left.shape[0] if left.dim() == 3 else 1
        key = (batch, left.shape[-2], left.shape[-1], right.shape[-1], left.stride(-1) != 1, right.stride(-1) != 1)
        self.found[key, left.dtype] += 1

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, backward: bool) -> None:
        batch, rows, inner, columns = query.shape[0] * query.shape[1], query.shape[2], query.shape[3], key.shape[2]
        scores = (batch, rows, inner, columns, False, True)
        values = (batch, rows, columns, value.shape[3], False, False)
        transposed = (batch, columns, rows, value.shape[3], True, False)
        for product in (scores, values, transposed, transposed) if backward else (scores, values):
            self.found[product, query.dtype] += 1

    def _convolution(
        self, image: Tensor, weight: Tensor, stride: Any, groups: int, passes: int, out: Tensor | None
    ) -> None:
        outputs, per_group = weight.shape[:2]
        inner = per_group * weight[0, 0].numel()
        if out is None:
            cells = image.shape[0]
            for size, step in zip(image.shape[2:], stride, strict=True):
                cells *= max(1, size // step)
        else:
            cells = out.numel() // out.shape[1]
        self.found[(groups, cells, inner, outputs // groups, False, True), image.dtype] += passes


def seconds_of(found: Counter[tuple[Product, torch.dtype]], device: torch.device) -> float:
    """Seconds of all products, each timed alone with operands of its layout and a preallocated result."""
    total = 0.0
    for (product, dtype), count in found.items():
        total += count * _seconds(product, dtype, device)
    return total


def operations(found: Counter[tuple[Product, torch.dtype]]) -> float:
    """Floating-point operations of the products, two for each multiplication with its addition."""
    return float(sum(2.0 * p[0] * p[1] * p[2] * p[3] * count for (p, _), count in found.items()))


def _operand(batch: int, rows: int, columns: int, transposed: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    shape = (batch, columns, rows) if transposed else (batch, rows, columns)
    made = torch.randn(shape, device=device).to(dtype)
    return made.transpose(1, 2) if transposed else made


def _seconds(product: Product, dtype: torch.dtype, device: torch.device) -> float:
    batch, rows, inner, columns, left_turned, right_turned = product
    left = _operand(batch, rows, inner, left_turned, dtype, device)
    right = _operand(batch, inner, columns, right_turned, dtype, device)
    out = torch.empty(batch, rows, columns, dtype=dtype, device=device)

    def run() -> None:
        if batch == 1:
            torch.mm(left[0], right[0], out=out[0])
        else:
            torch.bmm(left, right, out=out)

    taken = []
    run()
    for _ in range(REPEATS):
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
