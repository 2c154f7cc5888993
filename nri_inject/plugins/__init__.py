"""The plugins of the suite, one command each, and the suite itself.

A module here has a plugin's command (`main`) and its parts. An injector imports no other injector.
"""
