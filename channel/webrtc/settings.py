"""Settings of a live link."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class IceServer(BaseModel):
    """A STUN or TURN server.

    url : `stun:HOST:PORT`, `turn:HOST:PORT?transport=udp` or `turns:HOST:PORT?transport=tcp`
    username, credential : for TURN
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern=r"^(stuns?|turns?):[^\s]+$")
    username: str | None = None
    credential: str | None = None


class WebRtcConfig(BaseModel):
    """Settings of a live link.

    ice_servers : none means host addresses only; nothing outside is ever contacted unasked
    relay_only : use addresses of the TURN server only
    connect_timeout_s : how long one attempt to connect may take
    max_attempts : attempts in a row that may fail before a far end is given up to which there was no connection yet
    max_renewals : the same once there was one: an outage of minutes is no reason to give up
    lost_after_s : silence after which a connection counts as lost (it may come back by itself)
    renew_after_s : silence after which a new connection is made
    answer_nacks : send RTP packets again, once each, when the far end reports them missing (RFC 4585); else only
        the feedback reports cause retransmission. With it, let the reassembly's `reorder_ms` be at least the
        round trip, or what was lost is sent twice.
    max_queue_datagrams : bound of each queue of a far end; the newest are kept
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ice_servers: tuple[IceServer, ...] = ()
    relay_only: bool = False
    connect_timeout_s: float = Field(15, gt=0)
    max_attempts: int = Field(3, ge=1)
    max_renewals: int = Field(12, ge=1)
    lost_after_s: float = Field(3, gt=0)
    renew_after_s: float = Field(12, gt=0)
    answer_nacks: bool = True
    max_queue_datagrams: int = Field(512, ge=1)
