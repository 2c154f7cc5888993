"""Times as all our output writes them."""

from __future__ import annotations

import time


def timestamp(seconds: float) -> str:
    """Format seconds since 1970 as in all our output: UTC, with milliseconds."""
    whole, thousandths = divmod(int(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{thousandths:03}Z"
