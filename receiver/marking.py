"""The statement inside a video: in the comment of a file, and with the pictures of a live output.

libav puts a file's comment where it begins the file, when nothing is known yet. So the comment has room to spare, as
blanks at the end of its JSON, and the final one goes into the very same bytes. An interrupted file keeps the first.

A live output has no end at which all is known, and who watches it may have missed its beginning. What it can say goes
before every key picture, as a message inside the H.264 stream (SEI, user data unregistered: Rec. ITU-T H.264, D.1.7),
which servers that only pass pictures on leave where it is, whatever container they put them into.
"""

from __future__ import annotations

import mmap
import zlib
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from common.errors import SourceError
from common.provenance import MAX_BYTES, SCHEMA, Provenance, read_provenance

if TYPE_CHECKING:
    from av.container import InputContainer

_ROOM_BYTES = 700
"""The longest statement has about 600 bytes."""

_TAG_ID, _CRC_ID = b"\x12\x54\xc3\x67", b"\xbf\x84"
"""Of Matroska (RFC 9559): tags, and a CRC-32 of four bytes, which libav puts first into each element of the top level."""
_CRC_BYTES = 6
_SEARCHED_BYTES = 1 << 16
"""A Matroska file's tags come before its first picture."""

_USER_DATA = uuid5(NAMESPACE_URL, SCHEMA).bytes
"""Tells our message from those of others, as from x264's own about its settings."""
_START_CODE, _SEI, _UNREGISTERED, _LAST_BIT = b"\0\0\0\1", b"\x06", b"\x05", b"\x80"
_SEARCHED_PACKETS = 600
"""A stream begun in the middle has a key picture within so many."""


def padded(provenance: Provenance) -> str:
    """Its JSON, always of the same length."""
    return provenance.text().ljust(_ROOM_BYTES)


def read_video(path: Path) -> dict[str, object]:
    """What a video file is, and what it says of its pictures ("provenance": None where it says nothing): JSON.

    Raises SourceError where there is no video in it.
    """
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise SourceError(f"{path} is neither a .sgv file nor a video")
            stream, tags = container.streams.video[0], container.metadata
            comment = next((text for name, text in tags.items() if name.lower() == "comment"), "")
            found = read_provenance(comment) or _from_pictures(container)
            rate, length = stream.average_rate, container.duration
            return {
                "file": path.name, "container": container.format.name, "codec": stream.codec_context.name,
                "width": stream.codec_context.width, "height": stream.codec_context.height,
                "fps": None if rate is None else float(rate), "bytes": path.stat().st_size,
                "duration_s": None if length is None else round(length / av.time_base, 3),
                "provenance": None if found is None else found.document(),
            }  # fmt: skip
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(
            f"{path} is neither a .sgv file nor a video that can be read: {error.strerror}"
        ) from error


def in_pictures(provenance: Provenance) -> bytes:
    """An H.264 NAL unit with its JSON, to go before a key picture."""
    payload = _USER_DATA + provenance.text().encode("ascii")  # without zeros there is nothing to escape
    size = b"\xff" * (len(payload) // 255) + bytes([len(payload) % 255])
    return _START_CODE + _SEI + _UNREGISTERED + size + payload + _LAST_BIT


def _from_pictures(container: InputContainer) -> Provenance | None:
    """The statement with the first key picture, None where there is none."""
    if container.streams.video[0].codec_context.name != "h264":
        return None
    for packet in islice(container.demux(video=0), _SEARCHED_PACKETS):
        _, _, after = bytes(packet).partition(_USER_DATA)
        text, ended, _ = after[: MAX_BYTES + 1].partition(_LAST_BIT)
        if ended:
            return read_provenance(text)
    return None


def restate(path: Path, before: str, after: str) -> None:
    """Write `after` over the comment `before`; both are ASCII.

    Where it does not find it, or they differ in length, it leaves the file as it is. Raises OSError.
    """
    old, new = before.encode("ascii"), after.encode("ascii")
    if len(old) != len(new) or not path.stat().st_size:
        return
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        at = view.find(old, 0, _SEARCHED_BYTES)
        if view[:4] == b"\x1a\x45\xdf\xa3":  # Matroska
            tags = view.rfind(_TAG_ID, 0, max(at, 0))
            if at >= 0 and tags >= 0:
                _overwrite_checked(view, tags, at, new)
        else:  # MP4 ends with the index that counts
            at = view.rfind(old)
            if at >= 0:
                view[at : at + len(new)] = new


def _overwrite_checked(view: mmap.mmap, tags: int, at: int, new: bytes) -> None:
    """Replace text inside the tags at `tags`, and correct their checksum if they have one."""
    start, size = _payload(view, tags + len(_TAG_ID))
    view[at : at + len(new)] = new
    if view[start : start + len(_CRC_ID)] == _CRC_ID:
        crc = zlib.crc32(view[start + _CRC_BYTES : start + size])
        view[start + len(_CRC_ID) : start + _CRC_BYTES] = crc.to_bytes(4, "little")


def _payload(view: mmap.mmap, at: int) -> tuple[int, int]:
    """(start, size) of what follows a size field of Matroska: leading zeros tell its length (RFC 8794, 4.4)."""
    length = 9 - view[at].bit_length()
    value = int.from_bytes(view[at : at + length], "big") & ((1 << 7 * length) - 1)
    return at + length, value
