"""MoBY's loss: a query is contrasted with its own image's key and a queue of keys of earlier images."""

from __future__ import annotations

import math

import torch
from mmengine import dist
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.utils.checks import check_size, check_temperature


@MODELS.register_module()
class MoBYHead(nn.Module):
    """InfoNCE of each view's queries with the other view's keys, and a queue of earlier keys per view.

    The two terms are added, not averaged (MoBY, Xie et al., arXiv 2105.04553, section 3). The queues start as random
    directions; while training, the keys of all ranks take the place of the oldest ones after each loss. Computes in
    float32.

    Args:
        dim: D of queries and keys.
        queue_size: Q, the keys that each queue keeps; a multiple of the images of one iteration over all ranks.
        temperature: divisor of the cosine similarities.

    Raises:
        UsageError: a size below 1, or a temperature that is not positive.
    """

    queue1: Tensor
    queue2: Tensor
    pointer: Tensor

    def __init__(self, dim: int = 256, queue_size: int = 4096, temperature: float = 0.2) -> None:
        super().__init__()
        self.dim = check_size('MoBYHead.dim', dim)
        self.queue_size = check_size('MoBYHead.queue_size', queue_size)
        self.temperature = check_temperature('MoBYHead.temperature', temperature)
        self.register_buffer('queue1', F.normalize(torch.randn(queue_size, dim), dim=1))
        self.register_buffer('queue2', F.normalize(torch.randn(queue_size, dim), dim=1))
        # Index of the next key in both queues; on the device, so that the host does not wait for it.
        self.register_buffer('pointer', torch.zeros((), dtype=torch.long))
        self.statistics: dict[str, Tensor] = {}

    def check_batch(self, images: int) -> None:
        """Refuses a global batch size that does not divide the queue size.

        Args:
            images: images of one iteration over all ranks (each iteration of an accumulation is enqueued by itself).

        Raises:
            UsageError: naming the nearest queue sizes that fit.
        """
        if self.queue_size % images == 0:
            return
        below = self.queue_size - self.queue_size % images
        fits = ' or '.join(str(size) for size in (below, below + images) if size)
        raise UsageError(
            f'queue_size {self.queue_size} of MoBYHead is not a multiple of the global batch, {images} images of one '
            f'iteration over all processes: set --cfg-options model.head.queue_size={fits}, or change the batch size'
        )

    def loss(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Contrasts the views, then puts the keys into the queues.

        Args:
            queries: (2*B, D), the predictor's outputs for the first view, then for the second.
            keys: (2*B, D), the teacher's projections in the same order; detached here.

        Returns:
            Scalar, in nats; the sum of the two views' mean losses.
        """
        # In float32: autocast would compute the cosines in half precision, and the temperature amplifies their errors.
        with torch.autocast(queries.device.type, enabled=False):
            query1, query2 = F.normalize(queries.float(), dim=1).chunk(2)
            key1, key2 = F.normalize(keys.detach().float(), dim=1).chunk(2)
            first, ranked1 = self._contrast(query1, key2, self.queue2)
            second, ranked2 = self._contrast(query2, key1, self.queue1)
        self.statistics = {'contrast_top1': (ranked1 + ranked2) / 2}
        if self.training:
            self._enqueue(key1, key2)
        return first + second

    def _contrast(self, query: Tensor, key: Tensor, queue: Tensor) -> tuple[Tensor, Tensor]:
        """InfoNCE of one view, and the share of queries whose positive key ranks first.

        Args:
            query: (B, D).
            key: (B, D), the positives.
            queue: (Q, D), the negatives.
        """
        own = (query * key).sum(dim=1, keepdim=True)
        # A copy: backward needs these keys, and the queue is overwritten before.
        others = query @ queue.clone().T
        logits = torch.cat((own, others), dim=1) / self.temperature
        target = torch.zeros(len(query), dtype=torch.long, device=query.device)
        # A margin above rounding errors: if all keys are equal (collapse), no query counts as correct.
        found = (own.detach() > others.detach().amax(dim=1, keepdim=True) + 1e-5).float().mean()
        return F.cross_entropy(logits, target), found

    @torch.no_grad()
    def _enqueue(self, key1: Tensor, key2: Tensor) -> None:
        """Replaces the oldest keys by those of all ranks, in the order that a single process would have."""
        # EpochSampler gives rank r of W every W-th sample: sample b of rank r is number b*W + r of the batch.
        ranks = dist.all_gather(torch.stack((key1, key2), dim=1))  # W tensors (B, 2, D)
        keys = torch.stack(ranks, dim=1).flatten(0, 1)  # (B, W, 2, D) -> (B*W, 2, D)
        if len(keys) > self.queue_size:
            self.check_batch(len(keys))
        slots = (self.pointer + torch.arange(len(keys), device=keys.device)) % self.queue_size
        self.queue1[slots], self.queue2[slots] = keys.unbind(dim=1)
        self.pointer.add_(len(keys)).remainder_(self.queue_size)

    @property
    def uniform_loss(self) -> float:
        """The loss if all keys are equally similar, 2 ln(1 + Q), at which a collapsed run stays."""
        return 2 * math.log(1 + self.queue_size)
