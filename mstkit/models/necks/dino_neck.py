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
from mstkit.models.weight_casts import CastBlock
from mstkit.registry import MODELS
from mstkit.utils.checks import check_count, check_one_of, check_size


@CastBlock.register
@MODELS.register_module()
class DINONeck(BaseModule):
    """Maps pooled features to prototype logits: an MLP, an L2-normalized bottleneck, a weight-normed last layer.

    DINO's projection head (DINO appendix C). MST uses it too ("a 3-layer MLP with hidden size 2048"), in its table 6
    with batch normalization after each hidden layer.

    Args:
        in_channels: C of the pooled features.
        out_dim: K prototypes.
        hidden_dim: width of the hidden layers.
        bottleneck_dim: width of the L2-normalized layer before the last.
        num_layers: linear layers of the MLP, including the one that makes the bottleneck.
        batch_norm: None, no batch normalization; 'all', batch statistics over the crops of all views together, as with
            DINO's ``use_bn``; 'global_only', batch statistics of each view by itself, and running statistics of the
            global views alone (MST).
        norm_last_layer: fix the norm of the last layer's weight vectors (the prototypes) at 1; False trains it.

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
            # No bias before batch normalization, which would remove it.
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
        """As DINO: MLP truncated normal (std 0.02); last layer ``weight_v`` as torch's linear layers, ``weight_g`` 1.

        DINO initializes its head before adding the last layer, whose ``weight_v`` therefore keeps torch's default:
        uniform within ±1/sqrt(bottleneck_dim), with a norm of about 0.577. The norm matters: the gradient of
        ``weight_v`` is divided by it.
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
            global_views: how many of them are global; None for all.

        Returns:
            (V*B, K) logits.
        """
        return self.prototypes(self.bottleneck(x, views, global_views))

    def values_per_statistic(self, images: int, views: int) -> int:
        """Number of values per channel that a batch statistic is computed from.

        Args:
            images: B per rank.
            views: views that the teacher encodes.
        """
        return images * views if self.batch_norm == 'all' else images

    def bottleneck(self, x: Tensor, views: int = 1, global_views: int | None = None) -> Tensor:
        """The L2-normalized features before the last layer: (V*B, C) to (V*B, bottleneck_dim); see :meth:`forward`."""
        updating = views if global_views is None else global_views
        if self.batch_norm == 'all':
            views = updating = 1  # one batch of all views
        if self._compiled is not None and self.training:
            return self._compiled(self, x, views, updating)
        return self._bottleneck(x, views, updating)

    def _bottleneck(self, x: Tensor, views: int, updating: int) -> Tensor:
        for layer, norm in zip(self.mlp[:-1], self.norms, strict=True):
            x = F.gelu(normalize_views(norm, layer(x), views, updating))
        return F.normalize(self.mlp[-1](x), dim=-1)

    def use_compiled(self, compiler: Callable[..., Callable]) -> None:
        """Runs the MLP of a training step through a compiled function; see :func:`mstkit.engine.runner.compiling`."""
        self._compiled = compiler(DINONeck._bottleneck)  # dynamic shapes: the number of patches changes every step

    def prototypes(self, z: Tensor) -> Tensor:
        """The last layer, which is linear: (M, bottleneck_dim) to (M, K) logits."""
        return self.last_layer(z)
