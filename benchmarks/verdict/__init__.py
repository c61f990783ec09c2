"""Which numbers tell a good concept from a bad one: runs that should be good, and runs that cannot be."""
