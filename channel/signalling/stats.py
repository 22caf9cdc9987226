"""Counts of the signalling server: JSON for /health, Prometheus text for /metrics. No names, no addresses, no secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from channel.signalling.refusals import Reason

if TYPE_CHECKING:
    from prometheus_client import Metric

PREFIX = "semcast_signalling"


@dataclass(slots=True)
class Stats:
    """Totals since the start. refused : by reason; relayed : messages by type; joined : members by role"""

    refused: Counter[Reason] = field(default_factory=Counter)
    relayed: Counter[str] = field(default_factory=Counter)
    joined: Counter[str] = field(default_factory=Counter)
    relayed_bytes: int = 0
    replaced: int = 0


class Census(Protocol):
    """Who is there now."""

    @property
    def rooms(self) -> int: ...
    @property
    def senders(self) -> int: ...
    @property
    def receivers(self) -> int: ...


def health(stats: Stats, census: Census) -> dict[str, object]:
    """What /health answers."""
    return {
        "status": "ok",
        "rooms": census.rooms,
        "senders": census.senders,
        "receivers": census.receivers,
        "joined": dict(stats.joined),
        "replaced": stats.replaced,
        "relayed": dict(stats.relayed),
        "relayed_bytes": stats.relayed_bytes,
        "refused": {reason.value: count for reason, count in sorted(stats.refused.items())},
    }


def prometheus_text(stats: Stats, census: Census) -> tuple[bytes, str] | None:
    """The same as Prometheus wants it, and its content type; None where prometheus-client is not installed."""
    if find_spec("prometheus_client") is None:
        return None
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
    from prometheus_client.registry import Collector

    class Once(Collector):
        def collect(self) -> Iterable[Metric]:
            return _metrics(stats, census)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once())
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _metrics(stats: Stats, census: Census) -> Sequence[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    members = GaugeMetricFamily(f"{PREFIX}_members", "Members connected now.", labels=["role"])
    members.add_metric(["sender"], census.senders)
    members.add_metric(["receiver"], census.receivers)
    refused = CounterMetricFamily(f"{PREFIX}_refused", "What was refused, by reason.", labels=["reason"])
    for reason in Reason:  # zeros too, so that a rate can be taken from the first one on
        refused.add_metric([reason.value], stats.refused[reason])
    relayed = CounterMetricFamily(f"{PREFIX}_relayed_messages", "Messages passed on.", labels=["type"])
    for kind in ("offer", "answer", "candidate", "renew", "bye"):
        relayed.add_metric([kind], stats.relayed[kind])
    joined = CounterMetricFamily(f"{PREFIX}_joined", "Members that came in.", labels=["role"])
    for role in ("sender", "receiver"):
        joined.add_metric([role], stats.joined[role])
    return [
        GaugeMetricFamily(f"{PREFIX}_rooms", "Rooms with somebody in them.", census.rooms),
        members,
        joined,
        CounterMetricFamily(f"{PREFIX}_replaced", "Connections replaced by a newer one.", stats.replaced),
        relayed,
        CounterMetricFamily(f"{PREFIX}_relayed_bytes", "Bytes passed on.", stats.relayed_bytes),
        refused,
    ]
