"""Evaluators of frozen networks, one per file; importing this package registers them.

An evaluator is a class in :data:`mstkit.registry.EVALUATORS`. Its constructor takes the settings. ``check(evaluated)``
raises an error, before any features are computed, if the evaluation cannot work. Calling it with a
:class:`~mstkit.evaluation.evaluated_network.EvaluatedNetwork` returns metrics by name, accuracies in percent; ``x_std``
is the standard deviation of ``x``. The plot shows the metrics named by ``headlines()``, or the first one without such a
method. One that classifies the val images may also say which of them are right
(:class:`~mstkit.evaluation.image_hits.JudgesImages`).
"""

from mstkit.evaluation.evaluators.backgrounds import BackgroundsEvaluator
from mstkit.evaluation.evaluators.clusters import ClusterEvaluator
from mstkit.evaluation.evaluators.depth import DepthEvaluator
from mstkit.evaluation.evaluators.finetune import FineTuneEvaluator
from mstkit.evaluation.evaluators.keypoint_evaluator import KeypointEvaluator
from mstkit.evaluation.evaluators.knn import KNNEvaluator
from mstkit.evaluation.evaluators.linear import LinearEvaluator
from mstkit.evaluation.evaluators.low_shot import LowShotEvaluator
from mstkit.evaluation.evaluators.masked_images import MaskedImagesEvaluator
from mstkit.evaluation.evaluators.retrieval import RetrievalEvaluator
from mstkit.evaluation.evaluators.tracking import TrackingEvaluator

__all__ = [
    'BackgroundsEvaluator',
    'ClusterEvaluator',
    'DepthEvaluator',
    'FineTuneEvaluator',
    'KNNEvaluator',
    'KeypointEvaluator',
    'LinearEvaluator',
    'LowShotEvaluator',
    'MaskedImagesEvaluator',
    'RetrievalEvaluator',
    'TrackingEvaluator',
]
