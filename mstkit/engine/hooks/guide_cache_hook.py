"""Refreshes the scores that a CachedGuide keeps, and keeps them in the checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from mmengine import dist
from mmengine.runner import Runner
from torch import Tensor

from mstkit.datasets import MultiCrop
from mstkit.datasets.dataset_interface import transforms_of
from mstkit.datasets.whole_view import whole_images
from mstkit.engine.hooks.hook_memory import RememberingHook
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.errors import UsageError
from mstkit.evaluation.features import feature_loader
from mstkit.evaluation.shares import in_file_order
from mstkit.models import CachedGuide, Pretrainer
from mstkit.models.part_checks import request_of
from mstkit.registry import HOOKS
from mstkit.utils.progress_bar import track
from mstkit.utils.undisturbed import undisturbed_randomness


@HOOKS.register_module()
class GuideCacheHook(RememberingHook):
    """Makes the maps of a :class:`CachedGuide` before every ``guide.every``-th epoch; nothing for another model.

    Before an epoch in which the masker asks for no scores, as in AMT's first 40, nothing is made.

    One pass over the whole images of the training set, shared by the processes, each its own images; it moves no random
    generator of the training. Images that cannot be read are counted and have no map. The maps are in every checkpoint,
    so that a resumed run goes on with those that it had.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Lets the views carry their boxes; before the processes that load data start.

        Raises:
            UsageError: the training set has no MultiCrop.
        """
        if self._guide(runner) is None:
            return
        crops = [one for one in transforms_of(runner.train_loop.dataloader.dataset) if isinstance(one, MultiCrop)]
        if not crops:
            raise UsageError("CachedGuide cuts maps as MultiCrop cuts views, and the data have none: take guide='ema'")
        for one in crops:
            one.boxes = True

    def before_train_epoch(self, runner: Runner) -> None:
        """Refreshes the maps where they are due."""
        guide = self._guide(runner)
        if guide is None or not guide.due(runner.epoch):
            return
        model: Any = unwrapped(runner.model)
        asked = request_of(model.masker, model.objectives.values())
        if asked is not None and asked.needs_scores_in(runner.epoch):
            with undisturbed_randomness():
                self._refresh(runner, guide)

    def memory(self, inside_epoch: bool) -> dict[str, Any] | None:
        """This process's share of the maps."""
        if self._kept is None or self._kept.maps is None:
            return None
        rank, world = dist.get_rank(), dist.get_world_size()
        share = slice(rank, None, world)
        return dict(
            maps=self._kept.maps[share].clone(), known=self._kept.known[share].clone(), epoch=self._kept.refreshed_in
        )

    def recall(self, memories: list[Any], rank: int) -> None:
        """Takes the maps of all processes; the runner's guide gets them before the next epoch."""
        if all(one is not None for one in memories):
            self._recalled = memories

    _kept: CachedGuide | None = None
    _recalled: list[Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Restores the maps of a resumed run."""
        self._kept = self._guide(runner)
        super().before_train(runner)
        if self._kept is None or self._recalled is None:
            return
        memories, self._recalled = self._recalled, None
        size = sum(len(one['maps']) for one in memories)
        maps = memories[0]['maps'].new_zeros(size, *memories[0]['maps'].shape[1:])
        known = torch.zeros(size, dtype=torch.bool)
        for rank, one in enumerate(memories):
            maps[rank :: len(memories)], known[rank :: len(memories)] = one['maps'], one['known']
        self._kept.keep(maps, known, memories[0]['epoch'])

    @staticmethod
    def _guide(runner: Runner) -> CachedGuide | None:
        model = unwrapped(runner.model)
        return model.guide if isinstance(model, Pretrainer) and isinstance(model.guide, CachedGuide) else None

    @staticmethod
    def _refresh(runner: Runner, guide: CachedGuide) -> None:
        model: Any = unwrapped(runner.model)
        trained: Any = runner.train_loop.dataloader
        whole = whole_images(trained.dataset, guide.image_size)
        loader = feature_loader(whole, trained.batch_size or 64, trained.num_workers, equal_shares=True)
        maps: list[Tensor] = []
        known: list[bool] = []
        what = f'guide, epoch {runner.epoch}'
        for batch in track(loader, len(loader), what, enabled=dist.is_main_process()):
            images = model.data_preprocessor(batch)['inputs']
            maps.append(guide.importance(model, images).half().cpu())
            # only a sample whose file was replaced says so
            known += [not getattr(sample, 'replaced', None) for sample in batch['data_samples']]
        own = torch.tensor(list(loader.sampler))
        size, device = len(loader.dataset), next(model.parameters()).device  # type: ignore[arg-type]
        all_known = in_file_order(torch.tensor(known), own, size, device)
        guide.keep(in_file_order(torch.cat(maps), own, size, device), all_known, runner.epoch)
        assert guide.maps is not None
        skipped = size - int(all_known.sum())
        runner.logger.info(
            f'{what}: scores of {size - skipped} images, {guide.maps[0].numel() * 2} bytes each'
            + (f'; {skipped} could not be read and have none' if skipped else '')
        )
