"""Inputs that users bring, kind by kind: each has a folder of files, or a generator beside them."""
