"""Fine-tuning: accuracy of the whole network trained on the classes."""

from __future__ import annotations

from mmengine import dist
from mmengine.logging import print_log

from mstkit.errors import UsageError
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.image_hits import Judgment
from mstkit.evaluation.protocols.fine_tuning import FineTuningRecipe, fine_tune
from mstkit.registry import EVALUATORS
from mstkit.utils.checks import check_count, check_number

TOP1 = 'finetune_top1'


@EVALUATORS.register_module(name='finetune')
class FineTuneEvaluator:
    """Fine-tunes a copy of the network; see :func:`mstkit.evaluation.protocols.fine_tuning.fine_tune`.

    The accuracy is that of the last epoch, so that no image that it is measured on has chosen anything.

    Args:
        epochs, rate, head_factor, layer_decay, weight_decay, batch_size, warmup, smoothing, per_class: see
            :class:`~mstkit.evaluation.protocols.fine_tuning.FineTuningRecipe`.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        epochs: int = 10,
        rate: float = 5e-4,
        head_factor: float = 10.0,
        layer_decay: float = 0.75,
        weight_decay: float = 0.05,
        batch_size: int = 64,
        warmup: float = 0.1,
        smoothing: float = 0.1,
        per_class: int | None = None,
    ) -> None:
        self.recipe = FineTuningRecipe(
            check_count('finetune.epochs', epochs, 1),
            check_number('finetune.rate', rate, above=0),
            check_number('finetune.head_factor', head_factor, above=0),
            check_number('finetune.layer_decay', layer_decay, 0, 1),
            check_number('finetune.weight_decay', weight_decay, 0),
            check_count('finetune.batch_size', batch_size, 1),
            check_number('finetune.warmup', warmup, 0, 1),
            check_number('finetune.smoothing', smoothing, 0, 1),
            None if per_class is None else check_count('finetune.per_class', per_class, 1),
        )

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Raises UsageError for several processes, which it cannot share its steps with."""
        if dist.get_world_size() > 1:
            raise UsageError(f'finetune runs in one process, not in {dist.get_world_size()}: leave it out here.')
        evaluated.check_features()

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Returns ``finetune_top1``, percent after the last epoch, and ``finetune_loss``, of the last epoch."""
        return self.judge(evaluated).metrics

    def judge(self, evaluated: EvaluatedNetwork) -> Judgment:
        """The same with the hits of each val image; see :class:`mstkit.evaluation.image_hits.JudgesImages`."""
        settings = ', '.join(f'{name} {value}' for name, value in self.recipe._asdict().items() if value is not None)
        print_log(f'fine-tuning of {evaluated.network.name}: {settings}', logger='current')
        result = fine_tune(evaluated, self.recipe)
        top1 = 100.0 * int(result.hits.sum()) / len(result.hits)
        metrics = {TOP1: top1, 'finetune_loss': result.loss[-1], 'finetune_images': float(result.images)}
        return Judgment(metrics, TOP1, result.hits)
