"""Training of tokenizers: the codes of image patches, by k-means or from a teacher (VQ-KD)."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.codebooks.code_statistics import CodeStatistics, code_statistics, perplexity
from mstkit.codebooks.feature_sources import KeptNetwork, keep_network, whiten
from mstkit.codebooks.kmeans_run import KMeansSettings, train_kmeans
from mstkit.codebooks.spherical_kmeans import SphericalKMeans, initial_centers
from mstkit.codebooks.vq_kd import VQKD, VQKDSettings, moved_codes, train_vq_kd

__all__ = [
    'VQKD',
    'CodeStatistics',
    'KMeansSettings',
    'KeptNetwork',
    'SphericalKMeans',
    'VQKDSettings',
    'code_statistics',
    'initial_centers',
    'keep_network',
    'moved_codes',
    'perplexity',
    'train_kmeans',
    'train_vq_kd',
    'whiten',
]
