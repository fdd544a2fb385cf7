"""Scores of whole images, kept for some epochs and cropped as the views are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmengine import dist
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.guides.guide import Guide, GuidedParts, GuideOnAnother, build_guide
from mstkit.models.maskers import Masker
from mstkit.models.maskers.functional import importance_of
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_count, check_size
from mstkit.utils.device_copies import copied_to
from mstkit.utils.local_shards import is_sharded

if TYPE_CHECKING:  # for annotations only: importing it would be circular
    from mstkit.models.pretrainer import Pretrainer
    from mstkit.models.step import Step


def crop_maps(maps: Tensor, boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """The part of each map that a view shows, on the view's grid (bilinear, at the centers of the cells).

    Args:
        maps: (B, h', w'), of whole images.
        boxes: (B, 5): left, top, width, height as shares of the image, and 1 where the view is mirrored.
        grid: (h, w) of the view.

    Returns:
        (B, h * w).
    """
    rows, columns = ((torch.arange(count, device=maps.device, dtype=maps.dtype) + 0.5) / count for count in grid)
    left, top, width, height, flipped = boxes.to(maps).unbind(1)
    columns = torch.where(flipped[:, None] > 0, 1 - columns, columns)  # (B, w)
    x = left[:, None] + width[:, None] * columns
    y = top[:, None] + height[:, None] * rows
    places = torch.stack((x[:, None].expand(-1, len(rows), -1), y[:, :, None].expand(-1, -1, x.shape[1])), dim=-1)
    cut = F.grid_sample(maps[:, None], 2 * places - 1, padding_mode='border', align_corners=False)
    return cut.flatten(1)


@MODELS.register_module()
class CachedGuide(GuideOnAnother):
    """The scores of whole images, kept per image and refreshed every few epochs by another guide.

    A view's scores are cut out of its image's map with the view's own box and mirrored with it. Within an epoch there
    is no additional pass; a refresh is one pass over the data set (AMT refreshes every 40 epochs). The hook
    ``GuideCacheHook``, which the runner adds, does it and keeps the maps in the checkpoint. A map is the mean over
    heads in float16, divided by its mean: 2 h w bytes per image, 128 on an 8×8 grid, 392 on 14×14, on every process.

    An image without a map, because its file could not be read, is encoded in the step by ``guide``.

    Args:
        every: epochs from one refresh to the next; the first is before the first epoch whose masker needs scores.
        guide: what makes the scores: 'student', 'ema', 'frozen' or the config of such a guide.
        image_size: side in pixels of the square that a whole image is brought to, whatever its aspect; None is that of
            the global views. A larger one has a finer map, for small crops.
        score: see :class:`Guide`; of a guide that is given as a config, its own counts.

    Raises:
        UsageError: a guide that cannot be kept, or a masker whose phases ask for different scores.
    """

    gives_tokens = False

    def __init__(
        self,
        every: int = 10,
        guide: dict | Guide | str = 'student',
        image_size: int | None = None,
        score: str | None = None,
    ) -> None:
        super().__init__(score)
        self.every = check_count('CachedGuide.every', every, 1)
        self.image_size = None if image_size is None else check_size('CachedGuide.image_size', image_size)
        inner = build_guide(guide, 'CachedGuide.guide')
        if inner is None or inner.uses_teacher or isinstance(inner, CachedGuide):
            raise UsageError(f"CachedGuide.guide is {guide!r}: give 'student', 'ema', or a FrozenGuide")
        self.guide = inner
        self.reads_backbone = inner.reads_backbone
        self.maps: Tensor | None = None  # (images, h, w) float16, on the CPU
        self.known = torch.zeros(0, dtype=torch.bool)  # (images,)
        self.refreshed_in = -1  # the epoch of the last refresh
        self._asking: list[Masker] = []

    @property
    def given_score(self) -> str | None:
        """See :attr:`Guide.given_score`."""
        return self._given or self.guide.given_score

    def prepare(self, parts: GuidedParts) -> None:
        """See :meth:`Guide.prepare`."""
        self.guide.prepare(parts if self._given is None else parts._replace(score=self._given))
        self.score = self.guide.score
        asking = [part for part in parts.masker.parts() if part.needs_scores]
        wanted = {(part.layer, part.exclude_cls_key) for part in asking}
        if len(wanted) > 1:
            raise UsageError(
                'CachedGuide keeps one map per image, and the phases of the masker ask for different ones: give them '
                "the same layer and exclude_cls_key, or take guide='ema'"
            )
        self._asking = asking[:1]

    def importance(self, model: Pretrainer, images: Tensor) -> Tensor:
        """Maps (B, h, w) float32 of images (B, 3, H, W), each of mean 1."""
        seen = self.guide.encode(model, images, self._asking[0])
        assert seen.attention is not None
        found = importance_of(seen.attention, self._asking[0].exclude_cls_key)
        return (found / found.mean(dim=1, keepdim=True)).unflatten(1, seen.grid)

    def due(self, epoch: int) -> bool:
        """Whether the maps are to be made anew before an epoch, from 0."""
        return self.maps is None or epoch // self.every != self.refreshed_in // self.every

    def keep(self, maps: Tensor, known: Tensor, epoch: int) -> None:
        """Takes over the maps of all images.

        Args:
            maps: (images, h, w), by the index of an image in the training set.
            known: (images,) bool, False for an image that could not be read.
            epoch: in which they were made.
        """
        self.maps, self.known, self.refreshed_in = maps.half().cpu(), known.cpu(), epoch

    def forward(self, step: Step, masker: Masker) -> TokenOutput:
        """The kept scores of the global views; outside of a training those of ``guide``."""
        images, grid = step.images, step.model.backbone.grid_of(step.images)
        if step.data_samples is None and not step.model.training:
            scores = self.importance(step.model, images).flatten(1)
        elif self.maps is None or step.data_samples is None:
            raise RuntimeError(
                "CachedGuide has no scores: add dict(type='GuideCacheHook') to custom_hooks, and give the samples of "
                'the batch to the loss'
            )
        else:
            scores = self._kept(step, grid)
        nothing = images.new_zeros(len(images), grid[0] * grid[1], 0)
        return TokenOutput(nothing, nothing[:, 0], grid, scores[:, None])

    def encode(self, model: Pretrainer, images: Tensor, masker: Masker) -> TokenOutput:
        """Of images that are in no data set: what ``guide`` says."""
        return self.guide.encode(model, images, masker)

    def _kept(self, step: Step, grid: tuple[int, int]) -> Tensor:
        """(G*B, L), view by view."""
        assert self.maps is not None and step.data_samples is not None
        index = torch.tensor([_index_of(sample) for sample in step.data_samples])
        # What a DataSample holds is what the pipeline put into it; so below.
        replaced = torch.tensor([bool(getattr(sample, 'replaced', None)) for sample in step.data_samples])
        boxes = torch.stack(
            [_boxes_of(sample)[: step.global_views] for sample in step.data_samples], dim=1
        )  # (G, B, 5)
        device = step.images.device
        maps = copied_to(self.maps[index], device).float().repeat(step.global_views, 1, 1)
        scores = crop_maps(maps, copied_to(boxes.flatten(0, 1), device), grid)
        missing = (replaced | ~self.known[index]).repeat(step.global_views)
        rows = missing.nonzero().squeeze(1)  # on the host, where nobody waits for it
        if self._needed(len(rows), step):
            rows = copied_to(rows, device)
            # Where only another process has such an image, one is encoded for nothing.
            made = self.importance(step.model, step.images[rows] if len(rows) else step.images[:1]).flatten(1)
            scores[rows] = made[: len(rows)]
        return scores

    def _needed(self, images: int, step: Step) -> bool:
        """Whether to encode for this many images of this process: a sharded network runs in all processes or none."""
        backbone: Any = step.model.backbone  # of which those of the guide are copies
        if not is_sharded(backbone):
            return images > 0
        most = torch.tensor(images, device=step.images.device)
        dist.all_reduce(most, 'max')
        return int(most) > 0

    def train(self, mode: bool = True) -> CachedGuide:
        """Leaves it in evaluation mode."""
        return super().train(False)

    @property
    def inner(self) -> Guide:
        """See :attr:`GuideOnAnother.inner`."""
        return self.guide


def _index_of(sample: Any) -> int:
    """The place of a sample in the training set: that of its key, which wrappers of data sets do not change."""
    index = getattr(sample, 'sample_idx', None)  # only PackViews puts it in
    if index is None:
        raise UsageError("CachedGuide needs the index of each image: let PackViews carry 'sample_idx' (meta_keys)")
    return int(getattr(index, 'origin', index))  # a plain number where no EpochSampler gave it


def _boxes_of(sample: Any) -> Tensor:
    """(V, 5), see :func:`crop_maps`."""
    boxes = getattr(sample, 'view_boxes', None)  # only MultiCrop(boxes=True) makes them
    if boxes is None:
        raise UsageError("CachedGuide needs the box of each view: take MultiCrop(boxes=True) and end with 'PackViews'")
    return torch.as_tensor(boxes, dtype=torch.float32)
