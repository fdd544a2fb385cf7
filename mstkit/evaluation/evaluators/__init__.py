"""What can be measured about a frozen network, one file each; importing this package registers them.

An evaluator is a class in :data:`mstkit.registry.EVALUATORS`. Its constructor takes the settings; ``check(evaluated)``
refuses what cannot work, before any features are extracted; calling it with a
:class:`~mstkit.evaluation.evaluated_network.EvaluatedNetwork` gives numbers by name, percent where they are accuracies.
``x_std`` is the deviation of ``x``. The first number is drawn in the plot, or those that ``headlines()`` names where
there is such a method.
"""

from mstkit.evaluation.evaluators.backgrounds import BackgroundsEvaluator
from mstkit.evaluation.evaluators.clusters import ClusterEvaluator
from mstkit.evaluation.evaluators.knn import KNNEvaluator
from mstkit.evaluation.evaluators.linear import LinearEvaluator
from mstkit.evaluation.evaluators.low_shot import LowShotEvaluator
from mstkit.evaluation.evaluators.masked_images import MaskedImagesEvaluator
from mstkit.evaluation.evaluators.retrieval import RetrievalEvaluator

__all__ = [
    'BackgroundsEvaluator',
    'ClusterEvaluator',
    'KNNEvaluator',
    'LinearEvaluator',
    'LowShotEvaluator',
    'MaskedImagesEvaluator',
    'RetrievalEvaluator',
]
