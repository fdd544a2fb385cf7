"""Linear probe: accuracy of linear classifiers trained on frozen features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.logging import print_log
from torch import Tensor

from mstkit.datasets.unreadable_images import replaced_in
from mstkit.errors import UsageError
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.features import log_replaced
from mstkit.evaluation.image_hits import Judgment
from mstkit.evaluation.protocols.linear_head import FEATURES, LinearHead, check_features, head_path
from mstkit.evaluation.protocols.linear_probe import (
    Batches,
    ProbeResult,
    Standardization,
    check_rates,
    regrouped,
    shuffled_batches,
    train_heads,
)
from mstkit.evaluation.protocols.linear_recipes import AUGMENTATIONS, PRESETS
from mstkit.registry import EVALUATORS
from mstkit.structures import FeatureBank
from mstkit.utils.checks import check_count, check_flag, check_number, check_one_of
from mstkit.utils.progress_bar import track

LAST = 'linear_last_top1'


@EVALUATORS.register_module(name='linear')
class LinearEvaluator:
    """Trains linear classifiers on frozen features, several learning rates at once.

    SGD with momentum 0.9, no weight decay, cosine schedule to 0; see
    :func:`mstkit.evaluation.protocols.linear_probe.train_heads`. Papers report the best epoch on val (and the best of
    several rates), which is slightly optimistic; the last epoch is reported too.

    Args:
        preset: the default of all other settings: 'sweep' (nine rates, stored features), 'mae' (the same on
            standardized features of the last block, for masked image modeling), 'dino', 'ibot', 'attmask' or
            'mst_paper_literal' (these with new crops every epoch, as in the papers).
        features: 'last', 'last4', 'last_mean' or 'last4_mean': CLS tokens of the last block or of the last four,
            without or with the mean of the patch tokens, each after the final norm. Of a Swin, the mean patch tokens of
            the blocks are concatenated; for blocks of the last stage the final norm comes before the mean.
        rates, per_256, batch_size, epochs, augmentation, standardize: see
            :class:`~mstkit.evaluation.protocols.linear_recipes.LinearProtocol`.
        save: the file for the best head; ``{network}`` in it stands for the network's name.
        held_out: share of the train images on which the learning rate is chosen, so that no val image chooses
            anything: heads of all rates learn from the others, then one head of the best rate learns from all, and its
            last epoch counts. 0 chooses rate and epoch on the val images.

    Raises:
        UsageError: a setting is unknown or out of range.
    """

    def __init__(
        self,
        preset: str = 'sweep',
        features: str | None = None,
        rates: Sequence[float] | float | None = None,
        per_256: bool | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        augmentation: str | None = None,
        save: str | None = None,
        standardize: bool | None = None,
        held_out: float = 0.0,
    ) -> None:
        check_one_of('linear.preset', preset, PRESETS)
        given: dict[str, Any] = dict(
            features=features,
            rates=None if rates is None else check_rates([rates] if isinstance(rates, (int, float)) else rates),
            per_256=per_256,
            batch_size=batch_size,
            epochs=epochs,
            augmentation=augmentation,
            standardize=standardize,
        )
        self.preset = preset
        self.protocol = PRESETS[preset]._replace(**{name: value for name, value in given.items() if value is not None})
        check_features(self.protocol.features)
        for name in ('batch_size', 'epochs'):
            check_count(f'linear.{name}', getattr(self.protocol, name), 1)
        check_flag('linear.standardize', self.protocol.standardize)
        check_one_of('linear.augmentation', self.protocol.augmentation, AUGMENTATIONS)
        self.save = save
        self.held_out = check_number('linear.held_out', held_out, 0, 0.9)
        if self.held_out and (save is not None or self.protocol.augmentation != 'none'):
            what = 'save' if save is not None else f'augmentation {self.protocol.augmentation!r}'
            raise UsageError(
                f'linear.held_out is {held_out:g}, which goes with stored features and without a file of the best '
                f'head: leave {what} out, or held_out.'
            )
        self._claimed: dict[Path, str] = {}

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Raises UsageError for features that the network does not have, or if several heads share a file."""
        features = self.protocol.features
        try:
            evaluated.check_features(*FEATURES[features])
        except UsageError as error:
            others = ', '.join(name for name in FEATURES if name != features)
            raise UsageError(f'linear.features is {features!r}, but {error} There are also {others}.') from error
        if self.save is not None:
            path = head_path(self.save, evaluated.network)
            if self._claimed.setdefault(path, evaluated.network.fingerprint) != evaluated.network.fingerprint:
                raise UsageError(
                    f'linear.save is {self.save!r}, and the heads of several networks would be written there: put '
                    '{network} into it.'
                )

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Returns the metrics of :func:`metrics_of`; with ``held_out``, ``linear_last_top1`` and ``linear_lr``."""
        return self.judge(evaluated).metrics

    def judge(self, evaluated: EvaluatedNetwork) -> Judgment:
        """The same with the hits after the last epoch; see :class:`mstkit.evaluation.image_hits.JudgesImages`."""
        result, head = self.train(evaluated)
        assert result.hits is not None
        hits = result.hits[result.best_rate]
        if self.held_out:
            rate = float(result.rates[0]) / self._scale
            return Judgment({LAST: float(result.top1[-1, 0]), 'linear_lr': rate}, LAST, hits)
        if self.save is not None and dist.is_main_process():
            path = head_path(self.save, evaluated.network)
            head.save(path)
            print_log(f'linear probe: wrote {path}', logger='current')
        return Judgment(metrics_of(self.protocol.rates, result), LAST, hits)

    @property
    def _scale(self) -> float:
        return self.protocol.batch_size / 256 if self.protocol.per_256 else 1.0

    def _chosen(self, train: FeatureBank, rates: Sequence[float], seed: int, device: torch.device) -> float:
        """The learning rate whose head is best, after its last epoch, on held-out train images."""
        order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(seed))
        count = max(1, round(self.held_out * len(order)))
        kept, held = (
            train._replace(features=train.features[rows], labels=train.labels[rows])
            for rows in (order[count:].sort().values, order[:count].sort().values)
        )
        batches = shuffled_batches(kept, held, self.protocol.batch_size, seed)
        found = train_heads(batches, held, rates, self.protocol.epochs, seed, device=device)
        last = found.top1[-1].nan_to_num(-1).tolist()
        best = max(range(len(rates)), key=lambda index: (last[index], -rates[index]))
        print_log(
            f'linear probe: learning rate {rates[best] / self._scale:g}, {last[best]:.1f} % on {count} held-out train '
            'images',
            logger='current',
        )
        return rates[best]

    def train(self, evaluated: EvaluatedNetwork) -> tuple[ProbeResult, LinearHead]:
        """Trains the heads.

        Returns:
            The results of all heads (with the learning rates of SGD), and the best head.
        """
        protocol = self.protocol
        scale = self._scale
        how = f'times {scale:g}' if protocol.per_256 else 'as given, whatever the batch size'
        print_log(
            f'linear probe of {evaluated.network.name}: preset {self.preset}, features {protocol.features}, '
            f'{"standardized, " if protocol.standardize else ""}augmentation {protocol.augmentation}, '
            f'{protocol.epochs} epochs in batches of {protocol.batch_size}, '
            f'learning rates {", ".join(f"{rate:g}" for rate in protocol.rates)} ({how})',
            logger='current',
        )
        kind = FEATURES[protocol.features]
        val = evaluated.bank('val', *kind)
        if protocol.augmentation == 'none':
            batches = shuffled_batches(evaluated.bank('train', *kind), val, protocol.batch_size, evaluated.seed)
        else:
            batches = crop_batches(evaluated, kind, protocol.batch_size, protocol.epochs)
        standardized = Standardization.of(evaluated.bank('train', *kind).features) if protocol.standardize else None
        if standardized is not None:
            val = val._replace(features=standardized(val.features))
            batches = _standardized(batches, standardized)
        rates = [rate * scale for rate in protocol.rates]
        if self.held_out:
            train = evaluated.bank('train', *kind)
            if standardized is not None:
                train = train._replace(features=standardized(train.features))
            rates = [self._chosen(train, rates, evaluated.seed, evaluated.device)]
        result = train_heads(
            batches,
            val,
            rates,
            protocol.epochs,
            evaluated.seed,
            device=evaluated.device,
            progress=protocol.augmentation == 'none' and dist.is_main_process(),
        )
        lost = [f'{rate / scale:g}' for rate, gone in zip(result.rates, result.diverged, strict=True) if gone]
        if lost:
            print_log(
                f'linear probe of {evaluated.network.name}: {len(lost)} of {len(protocol.rates)} learning rates '
                f'diverged and are left out: {", ".join(lost)}',
                logger='current',
            )
        best = result.best_rate
        weight, bias = result.weight[best].clone(), result.bias[best].clone()
        if standardized is not None:
            weight, bias = standardized.folded(weight, bias)
        head = LinearHead(
            weight,
            bias,
            evaluated.classes(),
            protocol.features,
            evaluated.network.fingerprint,
            evaluated.network.name,
        )
        return result, head


def _standardized(batches: Batches, standardized: Standardization) -> Batches:
    """Batches whose features are standardized."""
    return lambda epoch: ((standardized(features), labels) for features, labels in batches(epoch))


def crop_batches(evaluated: EvaluatedNetwork, kind: tuple[int, bool], batch_size: int, epochs: int) -> Batches:
    """Batches of features of random crops, new ones every epoch; ranks share the work and get the same batches."""
    loader = evaluated.loader('train', 'augmented')
    world = dist.get_world_size()

    def computed(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        description = f'linear probe, epoch {epoch + 1} of {epochs}'
        replaced: list[str] = []
        for batch in track(loader, len(loader), description, enabled=dist.is_main_process()):
            replaced += replaced_in(batch)
            features = evaluated.network.features(
                evaluated.preprocess(batch), last_blocks=kind[0], mean_patch=kind[1]
            ).float()
            labels = torch.cat([sample.gt_label.view(-1) for sample in batch['data_samples']]).to(features.device)
            if world > 1:  # interleaved, which is the order of a single process
                features, labels = (torch.stack(dist.all_gather(part), 1).flatten(0, 1) for part in (features, labels))
            yield features, labels
        if epoch == 0:
            log_replaced(replaced, f'linear probe of {evaluated.network.name}')

    return lambda epoch: regrouped(computed(epoch), batch_size)


def metrics_of(rates: Sequence[float], result: ProbeResult) -> dict[str, float]:
    """The metrics of a probe by name.

    Args:
        rates: the learning rates to be shown in names, in the order of the result's.
        result: from :func:`mstkit.evaluation.protocols.linear_probe.train_heads`.

    Returns:
        ``linear_best_top1`` and ``linear_last_top1``, percent at the best and at the last epoch of the best rate (top5
        likewise, if there are more than five classes); ``linear_best_lr``, ``linear_best_epoch`` (from 1);
        ``linear_diverged``, the number of rates that diverged and are ignored; and ``lr{rate}/best_top1`` and
        ``last_top1`` of each other rate (details).
    """
    best, epochs = result.best_rate, result.best_epochs
    metrics = {
        'linear_best_top1': float(result.top1[epochs[best], best]),
        LAST: float(result.top1[-1, best]),
    }
    if result.top5 is not None:
        metrics['linear_best_top5'] = float(result.top5[epochs[best], best])
        metrics['linear_last_top5'] = float(result.top5[-1, best])
    metrics['linear_best_lr'] = rates[best]
    metrics['linear_best_epoch'] = float(epochs[best] + 1)
    metrics['linear_diverged'] = float(sum(result.diverged))
    for index, rate in enumerate(rates):
        if not result.diverged[index]:
            metrics[f'lr{rate:g}/best_top1'] = float(result.top1[epochs[index], index])
            metrics[f'lr{rate:g}/last_top1'] = float(result.top1[-1, index])
    return metrics
