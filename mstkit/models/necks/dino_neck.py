"""The projection head of DINO, with or without batch normalization."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, Literal

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from mstkit.models.view_batch_norm import BATCH_NORMS, normalize_views
from mstkit.registry import MODELS
from mstkit.utils.checks import check_count, check_one_of, check_size


@MODELS.register_module()
class DINONeck(BaseModule):
    """Maps pooled features to prototype logits: an MLP, an L2-normalized bottleneck, a weight-normed last layer.

    MST names "a 3-layer MLP with hidden size 2048" and leaves the rest to DINO, whose head this is (DINO appendix C).
    Its Table 6 adds batch normalization after each hidden layer.

    Args:
        in_channels: C of the pooled features.
        out_dim: K prototypes.
        hidden_dim: width of the hidden layers.
        bottleneck_dim: width of the L2-normalized layer before the last.
        num_layers: linear layers of the MLP, the bottleneck's included.
        batch_norm: None, no batch normalization; 'all', one batch of the crops of all views, as DINO's ``use_bn``
            (its head runs once over all crops); 'global_only', each view is a batch of its own, and the running
            statistics follow the global views alone (MST).
        norm_last_layer: keep the last layer's prototypes at length one (they are trained otherwise).

    Raises:
        UsageError: a size that is not positive, or an unknown ``batch_norm``.
    """

    _compiled: Callable[..., Tensor] | None = None

    def __init__(
        self,
        in_channels: int,
        out_dim: int = 65536,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        num_layers: int = 3,
        batch_norm: Literal['global_only', 'all'] | None = None,
        norm_last_layer: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = dict(in_channels=in_channels, out_dim=out_dim, hidden_dim=hidden_dim, bottleneck_dim=bottleneck_dim)
        for name, value in sizes.items():
            check_size(f'DINONeck.{name}', value)
        check_count('DINONeck.num_layers', num_layers, 1, 100)
        self.out_dim = out_dim
        self.batch_norm = check_one_of('DINONeck: batch_norm', batch_norm, BATCH_NORMS)
        widths = [in_channels] + [hidden_dim] * (num_layers - 1) + [bottleneck_dim]
        self.mlp = nn.ModuleList(
            # A bias before batch normalization would be subtracted again.
            nn.Linear(a, b, bias=batch_norm is None or i == num_layers - 1)
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(hidden_dim) if batch_norm else nn.Identity() for _ in range(num_layers - 1)
        )
        last_layer = nn.Linear(bottleneck_dim, out_dim, bias=False)
        self.last_layer = parametrizations.weight_norm(last_layer)
        self.norm_last_layer = norm_last_layer
        self._init_own_weights()

    def init_weights(self) -> None:
        """As DINO: the MLP truncated normal, 0.02; the last layer torch's default for a linear layer, of length one.

        DINO initializes its head before it adds the last layer, so the directions of the prototypes keep torch's
        default: uniform within ±1/sqrt(bottleneck_dim), 0.577 long on average. That length sets how fast a prototype
        turns: the gradient through the weight normalization is divided by it.
        """
        super().init_weights()
        self._init_own_weights()

    def _init_own_weights(self) -> None:
        linear: Iterable[Any] = self.mlp
        for layer in linear:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        length, direction = self._last_weights()
        nn.init.kaiming_uniform_(direction, a=math.sqrt(5))  # as nn.Linear.reset_parameters
        nn.init.ones_(length)
        length.requires_grad_(not self.norm_last_layer)

    def _last_weights(self) -> tuple[nn.Parameter, nn.Parameter]:
        weights = self.last_layer.parametrizations.weight
        return weights.original0, weights.original1

    def forward(self, x: Tensor, views: int = 1, global_views: int | None = None) -> Tensor:
        """Projects pooled features.

        Args:
            x: (V*B, C), view by view, the global views first.
            views: V.
            global_views: how many of them are global; all where it is not given.

        Returns:
            (V*B, K) logits.
        """
        return self.prototypes(self.bottleneck(x, views, global_views))

    def values_per_statistic(self, images: int, views: int) -> int:
        """How many numbers each batch statistic is taken of, of so many images of which the teacher sees ``views``."""
        return images * views if self.batch_norm == 'all' else images

    def bottleneck(self, x: Tensor, views: int = 1, global_views: int | None = None) -> Tensor:
        """The L2-normalized features before the last layer: (V*B, C) to (V*B, bottleneck_dim); see :meth:`forward`."""
        updating = views if global_views is None else global_views
        if self.batch_norm == 'all':
            views = updating = 1  # one batch, whatever it is put together from
        if self._compiled is not None and self.training:
            return self._compiled(self, x, views, updating)
        return self._bottleneck(x, views, updating)

    def _bottleneck(self, x: Tensor, views: int, updating: int) -> Tensor:
        for layer, norm in zip(self.mlp[:-1], self.norms, strict=True):
            x = F.gelu(normalize_views(norm, layer(x), views, updating))
        return F.normalize(self.mlp[-1](x), dim=-1)

    def use_compiled(self, compiler: Callable[..., Callable]) -> None:
        """Runs the MLP of a training step through a compiled function; see :func:`mstkit.engine.runner.compiling`."""
        self._compiled = compiler(DINONeck._bottleneck)  # of patches the number changes from step to step

    def prototypes(self, z: Tensor) -> Tensor:
        """The last layer, which is linear: (M, bottleneck_dim) to (M, K) logits."""
        return self.last_layer(z)
