"""What both live ends have in common as programs: what they say, when they stop, and where they are measured."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from benchmarks.live.metrics import new_registry, serve_metrics
from channel.udp import Address
from channel.webrtc.link import PeerLink
from channel.webrtc.stats import PeerEvent, PeerState

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

MEASURE_S = 1.0
"""Between two looks at what links say of themselves, which may have to wait for their event loop."""


class Meeting(Protocol):
    """Where far ends come from."""

    def new_links(self) -> list[PeerLink]: ...
    def take_failure(self) -> str | None: ...


def say(text: str) -> None:
    """One line for people."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def served(stack: ExitStack, metrics: Address) -> CollectorRegistry:
    """A registry that Prometheus can read while `stack` is open."""
    registry = new_registry()
    say(f"metrics at http://{stack.enter_context(serve_metrics(metrics, registry))}/metrics")
    return registry


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the body, not the program."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def event_line(who: str, event: PeerEvent) -> str:
    return f"{who} {event.peer}: {event.state.value}" + (f" ({event.reason})" if event.reason else "")


def plain(value: Any) -> Any:
    """As JSON has it: enumerations by value, pairs of (reason, count) as objects."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, PeerState):
        return value.value
    if isinstance(value, tuple | list):
        pairs = bool(value) and all(isinstance(item, tuple) and len(item) == 2 for item in value)
        return dict(value) if pairs else [plain(item) for item in value]
    return value
