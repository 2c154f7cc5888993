"""The runtime's side of NRI: what a runtime asks plugins, and what it makes of their answers."""
