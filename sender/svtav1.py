"""SVT-AV1 with a quantiser of its own for every picture, through the library's public C interface.

libav's wrapper fixes the quality of an SVT-AV1 session when it opens: a new quality costs a key frame, and its
constant-rate mode overshoots small targets by 50-150 % (measured). A link of 24 kbit/s needs a quantiser per
picture, which `EbBufferHeaderType.qp` offers (SVT-AV1 `Docs/svt-av1_encoder_user_guide.md`, use-q-file). The shared
library is the one inside the PyAV wheel. The layout of the two structures below is checked when a session opens: the
first packet must report the quantiser and time stamp that were asked for.

Once in some forty thousand small pictures on a busy machine all threads of the library wait for one another for ever
(4.1.0; https://gitlab.com/AOMediaCodec/SVT-AV1/-/issues/2300 and 2311 tell the like of 3.1). So it is called on a thread
that can be left behind, and the stream goes on with a new session and a key picture.
"""

from __future__ import annotations

import ctypes as c
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from queue import Empty, Queue

import numpy as np

from common.codecs import TEMPORAL_DELIMITER, strip_delimiter
from common.errors import CodecError
from common.types import Picture
from sender.coded import CodedPicture, bundled_library, check_picture

_TASKS = Path("/proc/self/task")
_KEY_PICTURE = 3
_NON_REFERENCE = 4
_UNSET_PICTURE = 0xFF
_CONFIG_BYTES = 1 << 16
"""Far above sizeof(EbSvtAv1EncConfiguration): the library fills it, we never look inside."""


class _Header(c.Structure):
    """EbBufferHeaderType (EbSvtAv1.h)."""

    _fields_ = (
        ("size", c.c_uint32),
        ("p_buffer", c.c_void_p),
        ("n_filled_len", c.c_uint32),
        ("n_alloc_len", c.c_uint32),
        ("p_app_private", c.c_void_p),
        ("wrapper_ptr", c.c_void_p),
        ("n_tick_count", c.c_uint32),
        ("dts", c.c_int64),
        ("pts", c.c_int64),
        ("temporal_layer_index", c.c_uint32),
        ("qp", c.c_uint32),
        ("avg_qp", c.c_uint32),
        ("pic_type", c.c_uint32),
        ("reserved", c.c_uint64 * 16),
    )


class _Planes(c.Structure):
    """EbSvtIOFormat (EbSvtAv1Enc.h)."""

    _fields_ = (
        ("luma", c.c_void_p),
        ("cb", c.c_void_p),
        ("cr", c.c_void_p),
        ("y_stride", c.c_uint32),
        ("cr_stride", c.c_uint32),
        ("cb_stride", c.c_uint32),
        ("reserved", c.c_uint64 * 16),
    )


@cache
def _library() -> c.CDLL:
    """The SVT-AV1 library that PyAV brought, with argument types declared."""
    library = bundled_library("SvtAv1Enc")
    library.svt_av1_enc_init_handle.argtypes = (c.c_void_p, c.c_void_p)
    library.svt_av1_enc_parse_parameter.argtypes = (c.c_void_p, c.c_char_p, c.c_char_p)
    library.svt_av1_enc_set_parameter.argtypes = (c.c_void_p, c.c_void_p)
    for name in ("svt_av1_enc_init", "svt_av1_enc_deinit", "svt_av1_enc_deinit_handle"):
        getattr(library, name).argtypes = (c.c_void_p,)
    library.svt_av1_enc_send_picture.argtypes = (c.c_void_p, c.c_void_p)
    library.svt_av1_enc_get_packet.argtypes = (c.c_void_p, c.c_void_p, c.c_uint8)
    library.svt_av1_enc_release_out_buffer.argtypes = (c.c_void_p,)
    return library


@contextmanager
def _ordinary_priority() -> Iterator[None]:
    """Undoes a change of scheduling made inside. Run as root, the library gives its threads and the one that calls it
    real-time priority, and with it starves whatever else the machine does, the receiver first of all."""
    before = _real_time_threads()
    yield
    for thread in _real_time_threads() - before:
        with suppress(OSError):  # it has ended, or may not be changed
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _real_time_threads() -> set[int]:
    found = set()
    for thread in _threads():
        with suppress(OSError):
            if os.sched_getscheduler(thread) == os.SCHED_FIFO:
                found.add(thread)
    return found


def _threads() -> set[int]:
    """Those of this process; none where the system does not say (only Linux does)."""
    return {int(task.name) for task in _TASKS.iterdir()} if _TASKS.is_dir() else set()


def _any_runs(threads: set[int]) -> bool:
    """Whether one of them computes, or would if a busy machine let it."""
    for thread in threads:
        with suppress(OSError):  # it has ended
            _, _, after_name = (_TASKS / f"{thread}/stat").read_text().rpartition(")")
            if after_name.split()[0] in "RD":
                return True
    return False


Codes = tuple[int, int]
"""What the library returned for a picture that it was given, and for the packet that it was asked for."""

_LOOKS, _LOOK_S = 10, 0.15
"""How often in a row, and how far apart, the library is seen to do nothing before a call is given up."""
_BLIND_LOOKS = 200
"""The same where the system does not say what its threads do: a large picture on a slow machine takes its time."""


class _Aside:
    """A thread for calls that may never return."""

    def __init__(self) -> None:
        self._calls: Queue[Callable[[], Codes] | None] = Queue(2)
        self._codes: Queue[Codes] = Queue(1)
        threading.Thread(target=self._run, name="svt-av1", daemon=True).start()

    def __call__(self, call: Callable[[], Codes], workers: set[int]) -> Codes | None:
        """Its result, None where it does not come. workers : threads that bring it, none where nobody knows them"""
        self._calls.put(call)
        idle, most = 0, _LOOKS if workers else _BLIND_LOOKS
        while idle < most:
            with suppress(Empty):
                return self._codes.get(timeout=_LOOK_S)
            idle = 0 if _any_runs(workers) else idle + 1
        return None

    def end(self) -> None:
        """No more calls; the thread ends, or stays in the one that never returns."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            self._codes.put(call())


class SvtAv1Encoder:
    """One low-delay AV1 stream (a `GuideEncoder`).

    The prediction structure repeats every four pictures after a key picture: base, disposable, middle, disposable.

    width, height : even, at least 64
    preset : SVT-AV1 speed preset, 0 (slow) .. 13 (fast)
    """

    def __init__(self, width: int, height: int, frame_rate: Fraction, preset: int = 10) -> None:
        self._lib = _library()
        self._shape, self._frame_rate, self._preset = (height, width), frame_rate, preset
        self._handle = c.c_void_p()
        os.environ.setdefault("SVT_LOG", "0")  # the library prints its banner to stderr otherwise
        self._begin()

    def _begin(self) -> None:
        """A new session. One before it is left behind: to close it is to wait for it."""
        self._count = self._since_key = 0
        self._handle, self._aside = c.c_void_p(), _Aside()
        height, width = self._shape
        before = _threads()
        with _ordinary_priority():
            self._open(width, height, self._frame_rate, self._preset)
        self._workers = _threads() - before

    def _open(self, width: int, height: int, frame_rate: Fraction, preset: int) -> None:
        config = c.create_string_buffer(_CONFIG_BYTES)
        self._check(self._lib.svt_av1_enc_init_handle(c.byref(self._handle), config), "create an encoder")
        settings = {
            "width": width, "height": height, "fps-num": frame_rate.numerator, "fps-denom": frame_rate.denominator,
            "preset": preset, "rc": 0, "crf": 50, "use-q-file": 1, "pred-struct": 1, "keyint": -1, "scd": 0,
            "lp": 1, "rtc": 1,
        }  # fmt: skip
        for name, value in settings.items():
            code = self._lib.svt_av1_enc_parse_parameter(config, name.encode(), str(value).encode())
            self._check(code, f"set {name}={value}")
        self._check(self._lib.svt_av1_enc_set_parameter(self._handle, config), f"accept {width}x{height}")
        self._check(self._lib.svt_av1_enc_init(self._handle), "start")

    def _check(self, code: int, what: str) -> None:
        if code:
            raise CodecError(f"SVT-AV1 could not {what} (error {code & 0xFFFFFFFF:#010x})")

    @property
    def position(self) -> int:
        """Place of the next picture in its group of four: 0 base, 2 middle, 1 and 3 disposable."""
        return self._since_key % 4

    def encode(self, picture: Picture, qp: int, key: bool = False) -> CodedPicture:
        """Encode one picture with quantiser `qp` (1 best .. 63 coarsest); it may be a key picture without being asked."""
        check_picture(picture, self._shape, qp)
        coded = self._coded(picture, qp, key)
        if coded is None:
            self._aside.end()
            self._begin()
            coded = self._coded(picture, qp, True)
        if coded is None:
            raise CodecError("SVT-AV1 does not answer, nor does a new session of it")
        self._since_key = 1 if coded.key else self._since_key + 1
        self._count += 1
        return coded

    def _coded(self, picture: Picture, qp: int, key: bool) -> CodedPicture | None:
        """What the library makes of a picture, None where it does not answer."""
        y, u, v = (np.ascontiguousarray(plane) for plane in picture.planes)
        planes = _Planes(y.ctypes.data, u.ctypes.data, v.ctypes.data, y.shape[1], v.shape[1], u.shape[1])
        header = _Header(
            size=c.sizeof(_Header), p_buffer=c.addressof(planes), n_filled_len=y.size + u.size + v.size,
            pts=self._count, qp=qp, pic_type=_KEY_PICTURE if key else _UNSET_PICTURE,
        )  # fmt: skip
        lib, handle, packet = self._lib, self._handle, c.POINTER(_Header)()
        kept = planes, y, u, v

        def call() -> Codes:
            sent = lib.svt_av1_enc_send_picture(handle, c.byref(header))
            assert kept  # as long as the library may read them
            return sent, sent or lib.svt_av1_enc_get_packet(handle, c.byref(packet), 0)

        codes = self._aside(call, self._workers)
        if codes is None:
            return None
        self._check(codes[0], "take a picture")
        self._check(codes[1], "return a packet")
        return self._read(packet, qp)

    def _read(self, packet: c._Pointer[_Header], qp: int) -> CodedPicture:
        out = packet.contents
        data = c.string_at(out.p_buffer, out.n_filled_len)
        kind, reported_qp, pts = out.pic_type, out.qp, out.pts
        self._lib.svt_av1_enc_release_out_buffer(c.byref(packet))
        if not data.startswith(TEMPORAL_DELIMITER) or (reported_qp, pts) != (qp, self._count):
            raise CodecError("this SVT-AV1 build has another interface than the one this version knows (4.1)")
        return CodedPicture(strip_delimiter(data), kind == _KEY_PICTURE, kind == _NON_REFERENCE)

    def close(self) -> None:
        if self._handle:
            self._aside.end()
            self._lib.svt_av1_enc_deinit(self._handle)
            self._lib.svt_av1_enc_deinit_handle(self._handle)
            self._handle = c.c_void_p()

    def __del__(self) -> None:
        self.close()
