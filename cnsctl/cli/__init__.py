"""The command line: verbs, options, and the only printing.

Must not know tensors or the files of a store.
"""
