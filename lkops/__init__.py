"""Fused operators for super-resolution networks."""
