"""Helpers of the tests: containers, policies and processes that several tests use."""
