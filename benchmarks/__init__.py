"""Measure `trio_send` side by side with its peers: ``python -m benchmarks``, in a checkout."""
