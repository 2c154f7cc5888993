"""Texts that strangers wrote, read within bounds: YAML, JSON, fields, patterns, annotations.

Each reader bounds what a text may cost, and reports every fault in one wording (`fields`, `words`).
This room opens no file. Every room above may import it.
"""
