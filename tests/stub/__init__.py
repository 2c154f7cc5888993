"""Tests of the stub, each against the runtime's end of a socket (`stubs.py`)."""
