"""Our version. importlib.metadata would read it from the package, for 2.7 MiB of each plugin."""

VERSION = "0.1.0"
