"""What a datagram carries, for links that do not treat all datagrams alike."""

from __future__ import annotations

from enum import Enum


class Traffic(Enum):
    """The most demanding thing in a datagram. Links that know no difference ignore it.

    CONFIG : the stream's configuration, and feedback reports
    KEY : frames that must arrive: guide keys, and frames that share their datagram with anchor pieces
    FRAME : any other frame
    RESIDUAL : corrections
    ANCHOR : pieces of anchors alone: they must arrive, but nothing waits for them
    """

    CONFIG = "config"
    KEY = "key"
    FRAME = "frame"
    RESIDUAL = "residual"
    ANCHOR = "anchor"
