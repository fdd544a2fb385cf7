"""Data sets in tar shards: writing, indexing, reading and sampling."""

from .dataset import ShardDataset
from .sampler import ShardSampler

__all__ = ['ShardDataset', 'ShardSampler']
