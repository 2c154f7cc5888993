"""The host's devices by what they are: an inventory kept current, and selectors over it."""
