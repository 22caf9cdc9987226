"""Prometheus metrics of the live ends: `semcast_<room>_<what>_<unit>`, on a registry and an HTTP server of their own.

    registry = new_registry()
    metrics = SenderMetrics(registry)
    with serve_metrics(parse_address("127.0.0.1:9101"), registry):
        ... metrics.update(outlets, stream) ...

What is scraped are the figures of the last update, so a far end that is gone is gone from the next scrape. Labels take
few values: far ends are at most 64, with 64 characters each, everything else comes from lists in the code. The server
is prometheus-client's: a thread for each request, no limits, no password. It is for a network that one trusts.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

from benchmarks.live.figures import OutletFigures, StreamFigures
from channel.udp import Address
from common.errors import ChannelError, ConfigError
from common.types import Layer
from receiver.web.messages import LinkState, PageStats

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from channel.webrtc.stats import LinkStats
    from receiver.reassembly import ReassemblyStats

MOST_FAR_ENDS = 64
LONGEST_LABEL = 64
SENDER = "sender"
"""The label `far_end` of a receiver's link."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Figure(Generic[T]):
    """One number of a `T`. name : without `semcast_` and `_total`; read : None where it is not known"""

    name: str
    meaning: str
    read: Callable[[T], float | None]
    counts: bool = False


_STREAM: tuple[_Figure[StreamFigures], ...] = (
    _Figure("sender_target_bits_per_second", "Rate that the encoder works for.", lambda s: s.target_bps),
    _Figure("sender_receivers", "Far ends connected now.", lambda s: s.receivers),
    _Figure("sender_frames", "Frames encoded.", lambda s: s.frames, True),
    _Figure("sender_key_pictures", "Key pictures among the frames.", lambda s: s.keys, True),
    _Figure("sender_skipped_frames", "Frames that no far end could have taken.", lambda s: s.skipped, True),
    _Figure(
        "sender_dropped_pictures", "Pictures that a newer one replaced.", lambda s: s.dropped_pictures, True
    ),
)

_OUTLET: tuple[_Figure[OutletFigures], ...] = (
    _Figure("sender_far_end_rate_bits_per_second", "What the far end can take.", lambda o: o.rate_bps),
    _Figure("sender_far_end_queue_seconds", "Queueing delay on the way to it.", lambda o: o.queue_s),
    _Figure("sender_far_end_round_trip_seconds", "Round trip of its newest report.", lambda o: o.rtt_s),
    _Figure("sender_far_end_loss_ratio", "Datagrams lost, 0..1.", lambda o: o.loss_ratio),
    _Figure("sender_far_end_sent_bytes", "Bytes sent, without headers.", lambda o: o.sent_bytes, True),
    _Figure("sender_far_end_sent_datagrams", "Datagrams sent.", lambda o: o.datagrams, True),
    _Figure("sender_far_end_fec_bytes", "Copies and repair symbols.", lambda o: o.fec_bytes, True),
    _Figure(
        "sender_far_end_retransmitted_bytes", "Sent again for a report.", lambda o: o.retransmission_bytes, True
    ),
    _Figure(
        "sender_far_end_thinned_units", "Units left out for it alone.", lambda o: o.thinned_units, True
    ),
)  # fmt: skip

_LINK: tuple[_Figure[LinkStats], ...] = (
    _Figure("channel_sent_packets", "Datagrams handed to WebRTC.", lambda s: s.packetsSent, True),
    _Figure("channel_sent_bytes", "Their bytes, without headers.", lambda s: s.bytesSent, True),
    _Figure("channel_received_packets", "Datagrams from WebRTC.", lambda s: s.packetsReceived, True),
    _Figure("channel_received_bytes", "Their bytes, without headers.", lambda s: s.bytesReceived, True),
    _Figure(
        "channel_retransmitted_packets", "Sent again for a NACK.", lambda s: s.retransmittedPacketsSent, True
    ),
    _Figure("channel_nacks", "NACKs received by a sender, sent by a receiver.", lambda s: s.nackCount, True),
    _Figure("channel_plis", "Picture loss indications, likewise.", lambda s: s.pliCount, True),
    _Figure("channel_lost_packets", "Of this connection, by RTCP.", lambda s: s.path.packetsLost),
    _Figure("channel_jitter_seconds", "Interarrival jitter, by RTCP.", lambda s: s.path.jitter),
    _Figure("channel_loss_ratio", "Since the last receiver report.", lambda s: s.path.fractionLost),
    _Figure("channel_round_trip_seconds", "By RTCP.", lambda s: s.path.roundTripTime),
)

_PAGE: tuple[_Figure[PageStats], ...] = (
    _Figure("receiver_pictures_per_second", "New pictures shown.", lambda p: p.fps),
    _Figure("receiver_rate_bits_per_second", "Everything that arrives.", lambda p: p.rate_bps),
    _Figure("receiver_work_seconds", "Work on the last picture.", lambda p: p.spent_ms / 1e3),
    _Figure(
        "receiver_budget_seconds", "What that may take.", lambda p: None if p.budget_ms is None else p.budget_ms / 1e3
    ),
    _Figure(
        "receiver_delay_seconds", "From capture to display.", lambda p: None if p.delay_ms is None else p.delay_ms / 1e3
    ),
    _Figure("receiver_expected_error_steps", "Mean error that the decoder expects.", lambda p: p.uncertainty),
    _Figure("receiver_width_pixels", "Of the picture shown.", lambda p: p.width),
    _Figure("receiver_height_pixels", "Of the picture shown.", lambda p: p.height),
    _Figure("receiver_shown_pictures", "Pictures shown.", lambda p: p.shown, True),
    _Figure("receiver_concealed_pictures", "Of these, nothing new.", lambda p: p.concealed, True),
    _Figure("receiver_late_pictures", "Of these, beyond the budget.", lambda p: p.late, True),
    _Figure(
        "receiver_taken_back_pictures", "Of these, in part the base picture, as the decoder contradicted the guide.",
        lambda p: p.taken_back_pictures, True
    ),
)  # fmt: skip

_WIRE: tuple[_Figure[ReassemblyStats], ...] = (
    _Figure("receiver_datagrams", "Sound datagrams, repeats included.", lambda w: w.datagrams, True),
    _Figure("receiver_received_bytes", "Their bytes.", lambda w: w.received_bytes, True),
    _Figure("receiver_units", "Units complete.", lambda w: w.units, True),
    _Figure("receiver_partial_units", "Units of which pieces are missing.", lambda w: w.partial_units),
    _Figure("receiver_partial_bytes", "Bytes that these hold.", lambda w: w.partial_bytes),
    _Figure("receiver_loss_ratio", "Datagrams lost, 0..1.", lambda w: w.loss_ratio),
    _Figure(
        "receiver_round_trip_seconds", "From a report to its answer; assumed at first.", lambda w: w.rtt_s
    ),
)


class SenderMetrics:
    """What a sending end exports; nothing before the first update."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._outlets: Sequence[OutletFigures] = ()
        self._stream: StreamFigures | None = None
        _register(self, registry, "semcast_sender")

    def update(self, outlets: Sequence[OutletFigures], stream: StreamFigures) -> None:
        """The figures of now, from any thread. Far ends that are not among them are gone."""
        self._outlets, self._stream = tuple(outlets), stream

    def collect(self) -> Iterator[Metric]:
        """prometheus-client's `Collector`."""
        if self._stream is None:
            return
        outlets = _by_name(self._outlets)
        links = {name: outlet.link for name, outlet in outlets.items() if outlet.link is not None}
        yield from _families(_STREAM, {(): self._stream})
        yield from _families(_OUTLET, {(name,): outlet for name, outlet in outlets.items()}, ("far_end",))
        states: dict[tuple[str, ...], float] = {
            (name, outlet.state[:LONGEST_LABEL]): 1.0 for name, outlet in outlets.items()
        }
        yield _family("sender_far_end_state", "1 for the state that it is in.", ("far_end", "state"), states)
        yield from _link_families(links)


class ReceiverMetrics:
    """What a receiving end exports; nothing before the first update."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._figures: tuple[PageStats, ReassemblyStats, LinkStats | None] | None = None
        _register(self, registry, "semcast_receiver")

    def update(self, stats: PageStats, wire: ReassemblyStats, link: LinkStats | None) -> None:
        """The figures of now, from any thread."""
        self._figures = stats, wire, link

    def collect(self) -> Iterator[Metric]:
        """prometheus-client's `Collector`."""
        if self._figures is None:
            return
        stats, wire, link = self._figures
        yield from _families(_PAGE, {(): stats})
        yield from _families(_WIRE, {(): wire})
        layers = {layer.name.lower(): 0.0 for layer in Layer} | dict(stats.layer_bps)
        yield _family(
            "receiver_layer_rate_bits_per_second", "Parts of the rate.", ("layer",), _labelled(layers)
        )
        yield _family("receiver_drops", "What was given up.", ("reason",), _labelled(dict(wire.drops)), True)
        links = {state: float(state == stats.link) for state in get_args(LinkState)}
        yield _family("receiver_link_state", "1 for the state that it is in.", ("state",), _labelled(links))
        levels = {stats.level: 1.0} if stats.level else {}
        yield _family("receiver_level", "1 for what painted the last picture.", ("level",), _labelled(levels))
        yield from _link_families({} if link is None else {SENDER: link})


def new_registry() -> CollectorRegistry:
    """An empty one. Raises ConfigError where prometheus-client is missing."""
    if find_spec("prometheus_client") is None:
        raise ConfigError(
            "metrics need prometheus-client, which is not installed: pip install 'semcast[live]'"
        )
    from prometheus_client import CollectorRegistry

    return CollectorRegistry(auto_describe=False)


@contextmanager
def serve_metrics(address: Address, registry: CollectorRegistry) -> Iterator[Address]:
    """Serve at http://ADDRESS/metrics while the body runs; gives the address in use. Raises ChannelError."""
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(address.port, address.host or "0.0.0.0", registry)
    except socket.gaierror as error:
        raise ChannelError(
            f"cannot resolve `{address}` for metrics: {error.strerror}; check the name"
        ) from error
    except OSError as error:
        raise ChannelError(
            f"cannot serve metrics on {address}: {error.strerror}; check the address, or choose another port"
        ) from error
    try:
        yield Address(address.host or "0.0.0.0", server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _register(collector: Any, registry: CollectorRegistry, namespace: str) -> None:
    """Along with the memory and processor time of this process, as `<namespace>_process_...`."""
    from prometheus_client import ProcessCollector

    registry.register(collector)
    ProcessCollector(namespace=namespace, registry=registry)


def _by_name(outlets: Iterable[OutletFigures]) -> dict[str, OutletFigures]:
    """The first far ends; of two with one name, which there are while one comes back, the newer. Two samples with
    equal labels would make the whole scrape fail."""
    named = {outlet.name[:LONGEST_LABEL]: outlet for outlet in outlets}
    return dict(list(named.items())[:MOST_FAR_ENDS])


def _link_families(links: Mapping[str, LinkStats]) -> Iterator[Metric]:
    yield from _families(_LINK, {(name,): link for name, link in links.items()}, ("far_end",))
    drops: dict[tuple[str, ...], float] = {
        (name, reason): float(n) for name, link in links.items() for reason, n in link.drops
    }
    yield _family("channel_drops", "What the link gave up.", ("far_end", "reason"), drops, True)


def _families(
    figures: Sequence[_Figure[T]], sources: Mapping[tuple[str, ...], T], labels: Sequence[str] = ()
) -> Iterator[Metric]:
    """Each figure of each source. sources : by their values of `labels`"""
    for figure in figures:
        values = {key: value for key, source in sources.items() if (value := figure.read(source)) is not None}
        yield _family(figure.name, figure.meaning, labels, values, figure.counts)


def _family(
    name: str,
    meaning: str,
    labels: Sequence[str],
    values: Mapping[tuple[str, ...], float],
    counts: bool = False,
) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if counts else GaugeMetricFamily
    family = kind(f"semcast_{name}", meaning, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _labelled(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(label,): float(value) for label, value in values.items()}
