"""How frozen features are judged: k-NN, linear probes, few shots, clusters, retrieval, collapse."""
