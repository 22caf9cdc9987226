"""The right check for any bytes: an attacker can compute one as well, and the interesting code is behind it."""

from __future__ import annotations

import zlib
from binascii import crc_hqx

from common.datagram import HEADER_BYTES as DATAGRAM_HEADER_BYTES
from common.types import UnitKind
from common.wire import check_of, header_bytes

_SLOT_AT = {UnitKind.CONFIG: 10, UnitKind.ANCHOR: 8}
"""Where these units say their own frame number, four bytes."""


def sealed_unit(data: bytes, slot: int, digest: int) -> bytes:
    """`data` as a unit for `slot` that builds on `digest`; too short ones as they are."""
    if not data or len(data) < header_bytes(data):
        return data
    at = _SLOT_AT.get(UnitKind(data[0] >> 6))
    if at is not None:
        slot, digest = int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "big"), 0
    length = header_bytes(data)
    check = check_of(data[:2], data[length:], slot, digest).to_bytes(4, "big")
    return data[:2] + check[6 - length :] + data[length:]


def sealed_datagram(data: bytes) -> bytes:
    """`data` as a datagram, or a report, whose checksum is right."""
    if len(data) < DATAGRAM_HEADER_BYTES:
        return data
    body = data[DATAGRAM_HEADER_BYTES:]
    return data[:3] + crc_hqx(body, crc_hqx(data[:3], 0xFFFF)).to_bytes(2, "big") + body


def sealed_metadata(data: bytes) -> bytes:
    """`data` as the metadata of an analog group."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "big")


def split(data: bytes) -> list[bytes]:
    """Several messages out of one input: each after two bytes of its length, the last as long as there is."""
    messages, at = [], 0
    while at + 2 <= len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        messages.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return messages


def joined(messages: list[bytes]) -> bytes:
    """Inverse of `split`."""
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)
