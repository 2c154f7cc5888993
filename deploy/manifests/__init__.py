"""What is generated from the chart and for it; `make manifests` does it."""
