"""To an RTMP server: FLV into the ffmpeg program, which does nothing but talk to the server.

PyAV could connect by itself, but holds the interpreter's lock until the server answers: one that does not would stop the
whole receiver. A process of its own can hang, and can be ended.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile

from common.errors import SinkError

_PROGRAM = ("-hide_banner", "-loglevel", "error")
_INPUT = ("-probesize", "32", "-f", "flv", "-i", "pipe:0")  # the stream says at once what it is
_SERVER = ("-c", "copy", "-flvflags", "no_duration_filesize", "-f", "flv")


class RtmpRelay:
    """One connection to a server. Takes the bytes of an FLV stream.

    Raises SinkError where the program is missing.
    """

    def __init__(self, url: str) -> None:
        from imageio_ffmpeg import get_ffmpeg_exe

        self._url = url
        try:
            program = get_ffmpeg_exe()
            self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed with the connection; a pipe could fill up
            self._process = subprocess.Popen(
                [program, *_PROGRAM, *_INPUT, *_SERVER, url],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said,
                start_new_session=True,  # an interrupt from the terminal is for the receiver alone
            )  # fmt: skip
        except (OSError, RuntimeError) as error:
            raise SinkError(
                f"the ffmpeg program cannot be started ({error}); reinstall imageio-ffmpeg"
            ) from error

    def write(self, data: bytes) -> int:
        """Hand bytes over; waits while the server takes none. OSError once the connection is broken."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()
        return len(data)

    def kill(self) -> None:
        """End the connection now, also from another thread: a `write` that waits fails."""
        self._process.kill()

    def close(self, patience_s: float) -> str:
        """Wait until everything was sent, at most so long; gives what the program complained of, or nothing."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it may be gone already
            self._process.stdin.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with self._said:
            self._said.seek(0)
            return reason(self._said.read(4096).decode("utf-8", "replace"), self._url)


def reason(said: str, url: str) -> str:
    """The first thing that ffmpeg complained of, in its own words but without the URL, whose end is a secret."""
    first = said.strip().partition("\n")[0].replace(url, "the server")
    return re.sub(r"^\[[^]]*\] *", "", first).rpartition(": ")[2].strip()
