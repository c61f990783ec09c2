"""Concept Neuron Selection (arXiv 2510.02296) on any base model: score, select, train, compose, generate, prove.

Owns tensors and formulas; must not know files, the store or terminals.
"""
