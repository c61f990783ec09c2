"""Concept Neuron Selection (arXiv 2510.02296) on any base: score, select, train, compose, draw, prove.

Owns tensors and formulas; must not know files, the store or terminals.
"""
