"""Measurements to rerun: the cost of commands, and the effect of training."""
