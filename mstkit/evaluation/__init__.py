"""Evaluations of frozen features, for any backbone."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.evaluators import KNNEvaluator
from mstkit.evaluation.feature_cache import FeatureCache
from mstkit.evaluation.features import PooledEncoder, check_labeled, extract_features, feature_loader
from mstkit.evaluation.image_sets import check_sets, labeled_folder, open_sets
from mstkit.evaluation.protocols.collapse import CollapseStatistics, diagnose, effective_rank, feature_deviation
from mstkit.evaluation.protocols.weighted_knn import DEFAULT_KS, best_k, check_ks, clip_ks, knn_accuracy
from mstkit.evaluation.shares import ShareSampler
from mstkit.utils.undisturbed import evaluation_mode, undisturbed_randomness

__all__ = [
    'DEFAULT_KS',
    'CollapseStatistics',
    'EvaluatedNetwork',
    'FeatureCache',
    'KNNEvaluator',
    'PooledEncoder',
    'ShareSampler',
    'best_k',
    'check_ks',
    'check_labeled',
    'check_sets',
    'clip_ks',
    'diagnose',
    'effective_rank',
    'evaluation_mode',
    'extract_features',
    'feature_deviation',
    'feature_loader',
    'knn_accuracy',
    'labeled_folder',
    'open_sets',
    'undisturbed_randomness',
]
