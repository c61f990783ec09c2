"""The embedded base's own workshop: its world, its training, its judge; none of it is shipped.

Owns how the weights under `cnsctl/bases/pocket` come to be; must not know the program that uses them.
"""
