"""Benchmarks: everything in one run, in turn, as medians and ratios. ``make bench`` runs them."""
