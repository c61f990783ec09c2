"""Measurements that anyone can rerun: what commands cost, and what learning is worth."""
