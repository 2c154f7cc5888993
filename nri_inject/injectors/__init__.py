"""Injectors: pure functions from a pod, a container and a host to an adjustment.

`host` is the value that they look things up in, `texts` reads the texts of annotations, `compose`
makes one injector of several. Injectors do not log, open files or read the clock. Services,
plugins, `testing` and the command line import this room.
"""
