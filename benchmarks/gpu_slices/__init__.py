"""The slices of benchmarks/gpu_run.py."""
