"""Evaluation protocols of frozen features: k-NN, linear probes, few shots, clusters, retrieval, collapse."""
