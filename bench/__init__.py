"""Benchmarks: each time is of an output that was checked first, and names the machine and commit it was taken on."""
