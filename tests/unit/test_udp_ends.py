"""One end alone: an end without its peer says so in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import udp_ends
from benchmarks.udp_ends import receive_udp, send_udp
from channel.udp import Address, UdpTransport
from common.config import Config, load_config
from common.errors import ChannelError


def test_a_receiver_that_hears_nothing_fails_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="no stream came"):
        receive_udp("127.0.0.1:0", tmp_path / "a.mkv", Config(), seconds=0.0)
    assert not list(tmp_path.iterdir())


def test_a_sender_without_receiver_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_ends, "SETTLE_S", 0.0)
    monkeypatch.setattr(udp_ends, "DRAIN_S", 0.0)
    transport = UdpTransport(Address("127.0.0.1", 0))  # takes a port and never answers
    config = load_config(None, ["stream.size=64x64", "semantics.enabled=false"])
    try:
        with pytest.raises(ChannelError, match="no answer"):
            send_udp(None, f"udp://{transport.local}", config, seconds=0.12, fast=True)
    finally:
        transport.close()
