"""The mean of several layers of the method's own teacher, the target of data2vec."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.targets.target import Target
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_count, check_flag, check_one_of


@MODELS.register_module()
class TeacherLayers(Target):
    """The mean of the outputs of the teacher's last K blocks, for each patch (data2vec, arXiv 2202.03555, section 3.3).

    The teacher is the method's moving average of the student, which sees the whole image. The outputs are taken at the
    end of each block, without the backbone's final norm. Each is normalized, without learned parameters, before the
    mean is taken; this keeps a layer with large values from dominating, and the target from collapsing.

    Args:
        patch_size: see :class:`Target`.
        top: K, counted from the last block; at most the number of blocks, of a Swin those of its last stage. None is
            half of them: 6 of ViT-B's 12, as in data2vec.
        norm: 'layer', the D values of each patch to mean 0 and variance 1 (data2vec for images); 'instance', each
            channel over the patches of an image (data2vec for speech); 'none'.
        norm_mean: whether the mean of the layers is layer-normalized too, as data2vec's code does for images
            (``post_target_layer_norm``); the paper does not mention it.

    Raises:
        UsageError: an unknown ``norm``; more layers than the backbone has.
    """

    teacher_needs = 'pooled'  # a teacher; of its tokens only the layers

    def __init__(
        self,
        patch_size: int,
        top: int | None = None,
        norm: Literal['layer', 'instance', 'none'] = 'layer',
        norm_mean: bool = False,
    ) -> None:
        super().__init__(patch_size)
        self.top = None if top is None else check_count('TeacherLayers.top', top, 1, 1000)
        self.norm = check_one_of('TeacherLayers.norm', norm, ('layer', 'instance', 'none'))
        self.norm_mean = check_flag('TeacherLayers.norm_mean', norm_mean)

    def prepare(self, backbone: MaskedBackbone) -> None:
        """See :meth:`Target.prepare`."""
        count = backbone.layer_count()
        if self.top is not None and self.top > count:
            raise UsageError(
                f'TeacherLayers.top is {self.top}, and {type(backbone).__name__} has {count} blocks whose output is on '
                f'its last grid: give 1 to {count}, or leave it out for half of them'
            )
        self.dims, self.teacher_layers = backbone.feature_dims, self.top or max(1, count // 2)

    def forward(self, images: Tensor, grid: tuple[int, int], teacher: TokenOutput | None = None) -> Tensor:
        """See :meth:`Target.forward`."""
        assert teacher is not None
        # Another objective may have asked for more layers.
        layers = [self._normalized(layer.float()) for layer in teacher.layers[-self.teacher_layers :]]
        mean = sum(layers[1:], layers[0]) / len(layers)
        return F.layer_norm(mean, mean.shape[-1:]) if self.norm_mean else mean

    def _normalized(self, tokens: Tensor) -> Tensor:
        """One layer's patch tokens, (B, L, C)."""
        if self.norm == 'layer':
            return F.layer_norm(tokens, tokens.shape[-1:])
        if self.norm == 'instance':
            return F.instance_norm(tokens.transpose(1, 2)).transpose(1, 2)
        return tokens

    def extra_repr(self) -> str:
        return f'top={self.top}, norm={self.norm}, norm_mean={self.norm_mean}'
