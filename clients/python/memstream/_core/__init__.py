"""What the package is built of: the library, its C interface, errors, records, arguments, codecs, the accelerator.

Nothing here imports from the rest of the package, and users should not import from here.
"""
