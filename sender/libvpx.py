"""VP9 with a quantiser of its own for every picture, through libvpx's public C interface.

libav's wrapper opens a session with one quality (`crf`, `qmin`, `qmax`) and never reconfigures it, and PyAV cannot
reach the library behind it. libvpx itself takes a new configuration between two pictures: equal least and largest
quantisers leave its rate control no choice. The shared library is the one inside the PyAV wheel; it refuses another
binary interface than the one below by itself (`VPX_ENCODER_ABI_VERSION`), the defaults that it fills in must be those
it is known for, and every picture must report the quantiser and time stamp that were asked for.

Every second picture is disposable, as with SVT-AV1. VP9 predicts probabilities and motion vectors from whatever
picture was decoded before, unless the stream is error resilient; that and the missing references cost 5-8 % of the
bits together (measured at a quarter of 512x512), and buy that a lost picture in two does not matter.
"""

from __future__ import annotations

import ctypes as c
from fractions import Fraction
from functools import cache

import numpy as np

from common.errors import CodecError
from common.types import Picture
from sender.coded import CodedPicture, bundled_library, check_picture

_ABI = 39  # VPX_ENCODER_ABI_VERSION of libvpx 1.16
_I420 = 0x102  # VPX_IMG_FMT_I420
_FORCE_KEY = 1  # VPX_EFLAG_FORCE_KF
_DISPOSABLE = 1 << 18 | 1 << 22 | 1 << 23 | 1 << 20  # VP8_EFLAG_NO_UPD_LAST, _GF, _ARF, _ENTROPY
_GOOD_QUALITY = 1_000_000  # VPX_DL_GOOD_QUALITY
_CONSTANT_QUALITY = 3  # VPX_Q
_SET_CPUUSED, _GET_QUANTIZER = 13, 20  # VP8E_SET_CPUUSED, VP8E_GET_LAST_QUANTIZER_64
_FASTEST = 5  # of that mode
_STRUCT_BYTES = (
    4096  # far above sizeof of the context and the image, which the library fills and we never look inside
)


class _Config(c.Structure):
    """vpx_codec_enc_cfg_t (vpx_encoder.h), up to the last field of use."""

    _fields_ = (
        *((name, c.c_uint) for name in ("g_usage", "g_threads", "g_profile", "g_w", "g_h", "g_bit_depth")),
        ("g_input_bit_depth", c.c_uint),
        ("g_timebase", c.c_int * 2),
        *((name, c.c_uint) for name in ("g_error_resilient", "g_pass", "g_lag_in_frames")),
        ("rc_dropframe_thresh", c.c_uint),
        ("rc_resize", c.c_uint * 5),
        ("rc_end_usage", c.c_uint),
        ("rc_stats_in", c.c_size_t * 4),
        *((name, c.c_uint) for name in ("rc_target_bitrate", "rc_min_quantizer", "rc_max_quantizer")),
        ("rc_other", c.c_uint * 9),
        *((name, c.c_uint) for name in ("kf_mode", "kf_min_dist", "kf_max_dist")),
        ("rest", c.c_uint8 * _STRUCT_BYTES),
    )


class _Packet(c.Structure):
    """vpx_codec_cx_pkt_t (vpx_encoder.h) of a coded picture."""

    _fields_ = (
        ("kind", c.c_int),
        ("data", c.c_void_p),
        ("size", c.c_size_t),
        ("pts", c.c_int64),
        ("duration", c.c_ulong),
        ("flags", c.c_uint32),
    )


@cache
def _library() -> c.CDLL:
    """The libvpx that PyAV brought, with argument types declared."""
    library = bundled_library("libvpx")
    library.vpx_codec_vp9_cx.restype = c.c_void_p
    library.vpx_codec_enc_config_default.argtypes = (c.c_void_p, c.c_void_p, c.c_uint)
    library.vpx_codec_enc_init_ver.argtypes = (c.c_void_p, c.c_void_p, c.c_void_p, c.c_long, c.c_int)
    library.vpx_codec_enc_config_set.argtypes = (c.c_void_p, c.c_void_p)
    library.vpx_codec_control_.argtypes = (c.c_void_p, c.c_int)
    library.vpx_img_wrap.argtypes = (c.c_void_p, c.c_int, c.c_uint, c.c_uint, c.c_uint, c.c_void_p)
    library.vpx_img_wrap.restype = c.c_void_p
    library.vpx_codec_encode.argtypes = (c.c_void_p, c.c_void_p, c.c_int64, c.c_ulong, c.c_long, c.c_ulong)
    library.vpx_codec_get_cx_data.argtypes = (c.c_void_p, c.c_void_p)
    library.vpx_codec_get_cx_data.restype = c.POINTER(_Packet)
    library.vpx_codec_destroy.argtypes = (c.c_void_p,)
    library.vpx_codec_err_to_string.argtypes = (c.c_int,)
    library.vpx_codec_err_to_string.restype = c.c_char_p
    return library


class Vp9Encoder:
    """One low-delay VP9 stream (a `GuideEncoder`).

    width, height : even
    preset : 0 (slow) .. 13 (fast), as for SVT-AV1
    """

    _open = False

    def __init__(self, width: int, height: int, frame_rate: Fraction, preset: int = 10) -> None:
        self._lib = _library()
        self._shape = (height, width)
        self._count = 0
        self._since_key = 0
        self._context = c.create_string_buffer(_STRUCT_BYTES)
        codec, self._config = self._lib.vpx_codec_vp9_cx(), _Config()
        self._check(self._lib.vpx_codec_enc_config_default(codec, c.byref(self._config), 0), "be set up")
        self._adapt(width, height, frame_rate)
        code = self._lib.vpx_codec_enc_init_ver(self._context, codec, c.byref(self._config), 0, _ABI)
        self._check(code, f"start for {width}x{height}")
        self._open = True
        self._control(_SET_CPUUSED, c.c_int(min(_FASTEST, preset // 2)))

    def _adapt(self, width: int, height: int, frame_rate: Fraction) -> None:
        """From the library's defaults to a low-delay stream."""
        config = self._config
        known = (config.g_w, config.g_h, config.g_bit_depth, *config.g_timebase, config.rc_max_quantizer)
        if (*known, config.kf_mode, config.kf_max_dist) != (320, 240, 8, 1, 30, 63, 1, 128):
            raise CodecError("this libvpx has another interface than the one this version knows (1.16)")
        config.g_threads, config.g_w, config.g_h = 1, width, height
        config.g_timebase[:] = frame_rate.denominator, frame_rate.numerator
        config.g_error_resilient, config.g_lag_in_frames = 1, 0
        config.rc_end_usage, config.kf_mode = _CONSTANT_QUALITY, 0

    def _check(self, code: int, what: str) -> None:
        if code:
            reason = self._lib.vpx_codec_err_to_string(code).decode()
            raise CodecError(f"libvpx could not {what}: {reason}")

    def _control(self, name: int, value: c.c_int | c.Array[c.c_int]) -> None:
        self._check(self._lib.vpx_codec_control_(self._context, name, value), f"take control {name}")

    @property
    def position(self) -> int:
        """Place of the next picture in its group of four."""
        return self._since_key % 4

    def encode(self, picture: Picture, qp: int, key: bool = False) -> CodedPicture:
        """Encode one picture with quantiser `qp` (1 best .. 63 coarsest)."""
        check_picture(picture, self._shape, qp)
        self._config.rc_min_quantizer = self._config.rc_max_quantizer = qp
        self._check(
            self._lib.vpx_codec_enc_config_set(self._context, c.byref(self._config)), "change quality"
        )
        samples = np.concatenate([plane.ravel() for plane in picture.planes])
        image = c.create_string_buffer(_STRUCT_BYTES)
        height, width = self._shape
        self._lib.vpx_img_wrap(image, _I420, width, height, 1, samples.ctypes.data)
        disposable = not key and self.position % 2 == 1
        flags = _FORCE_KEY if key else _DISPOSABLE if disposable else 0
        code = self._lib.vpx_codec_encode(self._context, image, self._count, 1, flags, _GOOD_QUALITY)
        self._check(code, "encode a picture")
        coded = self._packet(qp, disposable)
        self._since_key = 1 if coded.key else self._since_key + 1
        self._count += 1
        return coded

    def _packet(self, qp: int, disposable: bool) -> CodedPicture:
        used, place = (c.c_int * 1)(), c.c_void_p()
        self._control(_GET_QUANTIZER, used)
        packet = self._lib.vpx_codec_get_cx_data(self._context, c.byref(place))
        if not packet or (packet.contents.kind, packet.contents.pts, used[0]) != (0, self._count, qp):
            raise CodecError("libvpx did not code a picture as it was asked to: see `semcast doctor`")
        data = c.string_at(packet.contents.data, packet.contents.size)
        return CodedPicture(data, bool(packet.contents.flags & 1), disposable)

    def close(self) -> None:
        if self._open:
            self._lib.vpx_codec_destroy(self._context)
            self._open = False

    def __del__(self) -> None:
        self.close()
