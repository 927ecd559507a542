"""How far searches by chance go: `SEARCH=3 tox -e py,thorough` three times as far as usual, as for a release.

Each run of CI searches the same, so that only a change can fail; going farther finds what no change has brought.
"""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("SEARCH") or 1)


def far(usual: int) -> int:
    """So many lives, machines or examples."""
    return max(1, round(usual * FACTOR))
