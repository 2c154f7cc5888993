"""NRI plugins in Python, and what it takes to write more of them."""
