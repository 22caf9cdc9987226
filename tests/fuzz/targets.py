"""One function for each reader of foreign bytes: `one(data)` returns, or has found a fault.

Where a checksum guards a reader, the bytes go in twice: as they are, and with the check that fits. Where a writer is
the reader's inverse, what was read must come back from what is written of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz.datagrams import datagram, feedback, reassembly, sending
from tests.fuzz.messages import access, control, page, provenance, signalling, tokens
from tests.fuzz.units import analog, av1_headers, chain, codec_headers, container, layers, short_code, wire


@dataclass(frozen=True)
class Target:
    """A reader under test.

    one : takes any bytes; raises when it has found a fault
    max_bytes : of an input
    share : of the executions of a run
    """

    one: Callable[[bytes], None]
    max_bytes: int
    share: int = 1000

    @property
    def name(self) -> str:
        return self.one.__name__


TARGETS = {
    target.name: target
    for target in (
        Target(wire, 1024),
        Target(container, 2048),
        Target(datagram, 1200),
        Target(feedback, 256),
        Target(codec_headers, 256),
        Target(short_code, 128),
        Target(signalling, 1024),
        Target(tokens, 512),
        Target(page, 256),
        Target(provenance, 1024),
        Target(access, 256),
        Target(control, 1024, share=300),
        Target(reassembly, 8192, share=100),
        Target(av1_headers, 192, share=50),
        Target(layers, 512, share=50),
        Target(sending, 1024, share=50),
        Target(chain, 2048, share=5),
        Target(analog, 1024, share=5),
    )
}
