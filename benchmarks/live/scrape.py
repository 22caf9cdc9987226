"""Read the metrics of live ends, once a second, where only their own host reaches them: a program of its own.

python -m benchmarks.live.scrape URL...      a line of JSON each time: for each URL name -> largest value, or null
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from urllib.request import urlopen

EVERY_S = 1.0
DELAY = "semcast_receiver_delay_seconds"
FAR_END_QUEUE = "semcast_sender_far_end_queue_seconds"
PARTIAL_UNITS, PARTIAL_BYTES = "semcast_receiver_partial_units", "semcast_receiver_partial_bytes"
NAMES = frozenset((DELAY, FAR_END_QUEUE, PARTIAL_UNITS, PARTIAL_BYTES))
_PATIENCE_S = 5.0


def values_of(text: str) -> dict[str, float]:
    """Each of `NAMES` in Prometheus' text format by its name; of several with other labels the largest."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in NAMES:
                found[sample.name] = max(sample.value, found.get(sample.name, float("-inf")))
    return found


def read(url: str) -> dict[str, float] | None:
    """What is there now; None where nobody answers."""
    try:
        with urlopen(url, timeout=_PATIENCE_S) as answer:
            return values_of(answer.read().decode())
    except (OSError, ValueError):
        return None


def main(urls: Sequence[str]) -> None:
    """Until nobody listens any more."""
    while True:
        print(json.dumps([read(url) for url in urls]), flush=True)
        threading.Event().wait(EVERY_S)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(0)
