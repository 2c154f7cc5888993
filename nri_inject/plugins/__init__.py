"""The plugins of the suite: an injector each, and the command that it becomes."""
