"""A node from outside of a plugin: which runtime it has, what is installed, what is wrong."""
