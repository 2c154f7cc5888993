"""Texts from untrusted authors, read within bounds: YAML, JSON, fields, patterns, annotations.

Each reader bounds the cost of a text, and reports every fault in one wording (`fields`, `words`).
This room opens no file. Every room above may import it.
"""
