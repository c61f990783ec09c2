"""Which scores separate good concepts from bad ones: runs that should be good, and runs that cannot be."""
