"""Tar shards as a data set: written, counted, read and sampled."""

from .dataset import ShardDataset
from .sampler import ShardSampler

__all__ = ['ShardDataset', 'ShardSampler']
