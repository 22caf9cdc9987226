"""Metrics of the live ends, scraped as Prometheus does it."""

from __future__ import annotations

import re
import socket
import urllib.request
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.live import metrics
from benchmarks.live.metrics import (
    LONGEST_LABEL,
    MOST_FAR_ENDS,
    ReceiverMetrics,
    SenderMetrics,
    new_registry,
    serve_metrics,
)
from channel.udp import Address
from common.errors import ChannelError, ConfigError
from tests.live_figures import LINK, PAGE, STREAM, outlet, wire

ANYWHERE = Address("127.0.0.1", 0)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(registry: CollectorRegistry) -> Samples:
    """What Prometheus gets over HTTP."""
    with serve_metrics(ANYWHERE, registry) as address:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{address}/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            return parsed(response.read())


def parsed(text: bytes) -> Samples:
    """{(name, labels): value}; no series twice."""
    families = text_string_to_metric_families(text.decode())
    found = [sample for family in families for sample in family.samples]
    samples = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(samples) == len(found)
    return samples


def collected(registry: CollectorRegistry) -> Samples:
    return parsed(generate_latest(registry))


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"semcast_{name}", frozenset(labels.items())))


def label_values(samples: Samples, label: str) -> set[str]:
    return {dict(labels)[label] for _, labels in samples if label in dict(labels)}


def test_a_sending_end() -> None:
    registry = new_registry()
    exported = SenderMetrics(registry)
    exported.update([outlet("anna"), outlet("ben", link=None)], STREAM)
    samples = scrape(registry)
    assert value(samples, "sender_target_bits_per_second") == 48_000
    assert value(samples, "sender_skipped_frames_total") == 4
    assert value(samples, "sender_far_end_rate_bits_per_second", far_end="anna") == 60_000
    assert value(samples, "sender_far_end_fec_bytes_total", far_end="ben") == 12_000
    assert value(samples, "sender_far_end_state", far_end="ben", state="connected") == 1
    assert value(samples, "channel_nacks_total", far_end="anna") == 6
    assert value(samples, "channel_nacks_total", far_end="ben") is None
    assert value(samples, "channel_drops_total", far_end="anna", reason="not_connected") == 3
    assert value(samples, "channel_round_trip_seconds", far_end="anna") == 0.05


def test_a_receiving_end() -> None:
    registry = new_registry()
    exported = ReceiverMetrics(registry)
    exported.update(PAGE, wire(), LINK)
    samples = scrape(registry)
    assert value(samples, "receiver_pictures_per_second") == 29.5
    assert value(samples, "receiver_work_seconds") == 0.021
    assert value(samples, "receiver_taken_back_pictures_total") == 3
    assert value(samples, "receiver_layer_rate_bits_per_second", layer="guide") == 30_000
    assert value(samples, "receiver_layer_rate_bits_per_second", layer="anchor") == 0
    assert value(samples, "receiver_link_state", state="connected") == 1
    assert value(samples, "receiver_link_state", state="silent") == 0
    assert value(samples, "receiver_level", level="bridge 1") == 1
    assert value(samples, "receiver_drops_total", reason="corrupt") == 2
    assert value(samples, "channel_received_packets_total", far_end="sender") == 40
    assert (value(samples, "receiver_process_resident_memory_bytes") or 0) > 1e6


def test_what_is_not_known_is_not_there() -> None:
    registry = new_registry()
    exported = ReceiverMetrics(registry)
    names = {name for name, _ in collected(registry)}
    assert not any(
        name.startswith("semcast_receiver_shown") for name in names
    )  # nothing before the first update
    exported.update(replace(PAGE, delay_ms=None, budget_ms=None, uncertainty=None, level=""), wire(), None)
    samples = collected(registry)
    for name in ("receiver_delay_seconds", "receiver_budget_seconds", "receiver_expected_error_steps"):
        assert value(samples, name) is None
    assert "level" not in {key for _, labels in samples for key, _ in labels}
    assert not label_values(samples, "far_end")


def test_far_ends_that_are_gone_vanish() -> None:
    registry = new_registry()
    exported = SenderMetrics(registry)
    exported.update([outlet("anna"), outlet("ben")], STREAM)
    assert label_values(collected(registry), "far_end") == {"anna", "ben"}
    exported.update([outlet("ben")], STREAM)
    assert label_values(collected(registry), "far_end") == {"ben"}
    exported.update([], STREAM)
    samples = collected(registry)
    assert not label_values(samples, "far_end") and value(samples, "sender_frames_total") == 150


def test_labels_are_bounded() -> None:
    registry = new_registry()
    exported = SenderMetrics(registry)
    crowd = [outlet(f"{number:03d}" + "x" * 500) for number in range(3 * MOST_FAR_ENDS)]
    exported.update(crowd, STREAM)
    names = label_values(collected(registry), "far_end")
    assert len(names) == MOST_FAR_ENDS and {len(name) for name in names} == {LONGEST_LABEL}


def test_of_two_far_ends_with_one_name_the_newer_counts() -> None:
    registry = new_registry()
    exported = SenderMetrics(registry)
    exported.update([replace(outlet("anna"), state="lost", datagrams=1), outlet("anna")], STREAM)
    samples = collected(registry)
    assert value(samples, "sender_far_end_sent_datagrams_total", far_end="anna") == 301
    assert label_values(samples, "state") == {"connected"}


def test_port_in_use() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with (
            pytest.raises(ChannelError, match=f"^cannot serve metrics on {address}: .*choose another port$"),
            serve_metrics(address, new_registry()),
        ):
            pass


def test_a_host_that_is_not_there() -> None:
    with (
        pytest.raises(ChannelError, match="cannot resolve `no such host:1`"),
        serve_metrics(Address("no such host", 1), new_registry()),
    ):
        pass


def test_the_port_is_free_again_afterwards() -> None:
    with serve_metrics(ANYWHERE, new_registry()) as address:
        pass
    with serve_metrics(address, new_registry()) as again:
        assert again == address


def test_without_prometheus_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install"):
        new_registry()


def test_every_metric_is_in_the_guide() -> None:
    registry = new_registry()
    SenderMetrics(registry).update([outlet("anna")], STREAM)
    ReceiverMetrics(registry).update(PAGE, wire(), LINK)
    names = {name for name, _ in scrape_both(registry)}
    guide = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`(semcast_[a-z_]+)`", guide))
    assert {name for name in names if "_process_" not in name} <= described


def scrape_both(registry: CollectorRegistry) -> set[tuple[str, str]]:
    """(name, help) of all samples; both ends on one registry give the link's twice, which no real end does."""
    return {(sample.name, family.documentation) for family in registry.collect() for sample in family.samples}
