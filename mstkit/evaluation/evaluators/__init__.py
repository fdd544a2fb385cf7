"""What can be measured about a frozen network, one file each; importing this package registers them.

An evaluator is a class in :data:`mstkit.registry.EVALUATORS`: its constructor takes the settings, ``check(subject)``
refuses what cannot work before any features are extracted, and calling it with a
:class:`~mstkit.evaluation.subject.Subject` gives numbers by name, the one that stands for it in a plot first.
"""

from mstkit.evaluation.evaluators.knn import KNNEvaluator
from mstkit.evaluation.evaluators.retrieval import RetrievalEvaluator

__all__ = ['KNNEvaluator', 'RetrievalEvaluator']
