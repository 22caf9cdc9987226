"""H.264 with a quantiser of its own for every picture, through x264's public C interface.

libav's wrapper reads neither a quantiser per picture nor a new one for the session that PyAV could reach, while
`x264_picture_t.i_qpplus1` is just that. The shared library is the one inside the PyAV wheel. Its name of the opening
function holds the version of its binary interface, so another one is not even found; the fields that are written
without x264's help must hold the known defaults before, and every picture must report its time stamp and kind.

Every picture is a reference: x264 makes disposable pictures only of B pictures, which come late.
"""

from __future__ import annotations

import ctypes as c
from fractions import Fraction
from functools import cache

import numpy as np

from common.errors import CodecError
from common.types import Picture
from sender.coded import MAX_QP, CodedPicture, bundled_library, check_picture

_COARSEST = 51
_IDR, _P = 1, 3  # X264_TYPE_*
_I420 = 2  # X264_CSP_I420
_SEI = 6
_START_CODE_BYTES = 4
_SLOWEST = 9
_STRUCT_BYTES = (
    1 << 14
)  # far above sizeof(x264_param_t) and of what follows the fields of x264_picture_t below


class _Parameters(c.Structure):
    """x264_param_t (x264.h), up to the last field of use."""

    _fields_ = (
        ("cpu_to_lookahead", c.c_int * 7),
        *((name, c.c_int) for name in ("i_width", "i_height", "i_csp", "i_bitdepth")),
        ("rest", c.c_uint8 * _STRUCT_BYTES),
    )


class _Picture(c.Structure):
    """x264_picture_t (x264.h), up to the planes."""

    _fields_ = (
        *((name, c.c_int) for name in ("i_type", "i_qpplus1", "i_pic_struct", "b_keyframe")),
        ("i_pts", c.c_int64),
        ("i_dts", c.c_int64),
        ("param", c.c_void_p),
        ("i_csp", c.c_int),
        ("i_plane", c.c_int),
        ("i_stride", c.c_int * 4),
        ("plane", c.c_void_p * 4),
        ("rest", c.c_uint8 * _STRUCT_BYTES),
    )


class _Nal(c.Structure):
    """x264_nal_t (x264.h)."""

    _fields_ = (
        *((name, c.c_int) for name in ("i_ref_idc", "i_type", "b_long_startcode", "i_first_mb", "i_last_mb")),
        ("i_payload", c.c_int),
        ("p_payload", c.c_void_p),
        ("i_padding", c.c_int),
    )


@cache
def _library() -> c.CDLL:
    """The x264 that PyAV brought, with argument types declared."""
    library = bundled_library("libx264")
    if not hasattr(library, "x264_encoder_open_165"):
        raise CodecError("this x264 has another interface than the one this version knows (165)")
    library.x264_param_default_preset.argtypes = (c.c_void_p, c.c_char_p, c.c_char_p)
    library.x264_param_parse.argtypes = (c.c_void_p, c.c_char_p, c.c_char_p)
    library.x264_param_cleanup.argtypes = (c.c_void_p,)
    library.x264_encoder_open_165.argtypes = (c.c_void_p,)
    library.x264_encoder_open_165.restype = c.c_void_p
    library.x264_picture_init.argtypes = (c.c_void_p,)
    library.x264_encoder_encode.argtypes = (c.c_void_p, c.c_void_p, c.c_void_p, c.c_void_p, c.c_void_p)
    library.x264_encoder_close.argtypes = (c.c_void_p,)
    return library


def h264_qp(qp: int) -> int:
    """The 1..63 scale on H.264's 14..51: at its coarse end both have a step of about 224, and with this slope bytes
    halve over as many steps as AV1's do, which rate control counts on (measured)."""
    return round(_COARSEST - 0.6 * (MAX_QP - qp))


class X264Encoder:
    """One low-delay H.264 stream (a `GuideEncoder`).

    width, height : even
    preset : 0 (slow) .. 13 (fast), as for SVT-AV1
    """

    _handle: int | None = None

    def __init__(self, width: int, height: int, frame_rate: Fraction, preset: int = 10) -> None:
        self._lib = _library()
        self._shape = (height, width)
        self._count = 0
        self._since_key = 0
        parameters = self._parameters(width, height, frame_rate, preset)
        try:
            self._handle = self._lib.x264_encoder_open_165(c.byref(parameters))
        finally:
            self._lib.x264_param_cleanup(c.byref(parameters))
        if not self._handle:
            raise CodecError(f"x264 could not start for {width}x{height}")

    def _parameters(self, width: int, height: int, frame_rate: Fraction, preset: int) -> _Parameters:
        parameters = _Parameters()
        speed = str(_SLOWEST - preset * _SLOWEST // 13).encode()
        self._check(
            self._lib.x264_param_default_preset(c.byref(parameters), speed, b"psnr,zerolatency"), "be set up"
        )
        if (parameters.i_width, parameters.i_height, parameters.i_csp, parameters.i_bitdepth) != (
            0,
            0,
            _I420,
            8,
        ):
            raise CodecError("this x264 has another interface than the one this version knows (165)")
        parameters.i_width, parameters.i_height = width, height
        # Not with constant quantisers ("qp"): these would also be the limits of what a picture may ask for.
        settings = {
            "fps": f"{frame_rate.numerator}/{frame_rate.denominator}", "threads": "1", "keyint": "infinite",
            "scenecut": "0", "bframes": "0", "aq-mode": "0", "log": "-1",
        }  # fmt: skip
        for name, value in settings.items():
            code = self._lib.x264_param_parse(c.byref(parameters), name.encode(), value.encode())
            self._check(code, f"set {name}={value}")
        return parameters

    def _check(self, code: int, what: str) -> None:
        if code < 0:
            raise CodecError(f"x264 could not {what} (error {code})")

    @property
    def position(self) -> int:
        """Place of the next picture in its group of four."""
        return self._since_key % 4

    def encode(self, picture: Picture, qp: int, key: bool = False) -> CodedPicture:
        """Encode one picture with quantiser `qp` (1 best .. 63 coarsest)."""
        check_picture(picture, self._shape, qp)
        planes = [np.ascontiguousarray(plane) for plane in picture.planes]
        source, out = _Picture(), _Picture()
        self._lib.x264_picture_init(c.byref(source))
        source.i_type, source.i_qpplus1, source.i_pts = _IDR if key else _P, h264_qp(qp) + 1, self._count
        source.i_csp, source.i_plane = _I420, 3
        source.i_stride[:3] = [plane.shape[1] for plane in planes]
        source.plane[:3] = [plane.ctypes.data for plane in planes]
        units, count = c.POINTER(_Nal)(), c.c_int()
        size = self._lib.x264_encoder_encode(
            self._handle, c.byref(units), c.byref(count), c.byref(source), c.byref(out)
        )
        self._check(size, "encode a picture")
        if not size or out.i_pts != self._count or (key and out.i_type != _IDR):
            raise CodecError("x264 did not code a picture as it was asked to: see `semcast doctor`")
        # Informative messages state the encoder's settings in every stream: 600 bytes.
        data = b"".join(
            c.string_at(unit.p_payload, unit.i_payload)
            for unit in units[: count.value]
            if unit.i_type != _SEI
        )
        self._since_key = 1 if out.b_keyframe else self._since_key + 1
        self._count += 1
        return CodedPicture(data[_START_CODE_BYTES:], bool(out.b_keyframe), disposable=False)

    def close(self) -> None:
        if self._handle:
            self._lib.x264_encoder_close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        self.close()
