"""Experiments on quality: what the networks reach when they are trained, with settings, seeds and spread."""
