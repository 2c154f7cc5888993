"""A node from outside of a plugin: its runtime, its installed plugins, and their problems."""
