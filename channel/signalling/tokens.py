"""Who may enter: a token is a grant in readable form, and the server's signature below it.

    BASE64URL({"room", "role", "expires_s", "nonce"}) . BASE64URL(HMAC-SHA256(secret, purpose + the first part))

The signature is over the text, and compared as text, so that no two texts are the same token. The nonce is the member's
identity in the room: who comes again with the same token takes the place of its old connection, and nobody else can.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from channel.signalling.refusals import Reason, RefusedError
from common.errors import ConfigError

SECRET_VARIABLE = "SEMCAST_SECRET"
MIN_SECRET_BYTES = 16
MAX_TOKEN_CHARS = 512
MAX_MINUTES = 60.0 * 24 * 30
_PURPOSE = b"semcast signalling token 1:"
"""So that a signature made with the same secret for something else is no token."""

Role = Literal["sender", "receiver"]
ROOM_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,32}")
RoomName = Annotated[str, Field(pattern=f"^{ROOM_NAME.pattern}$")]
Identity = Annotated[str, Field(pattern=f"^{IDENTITY.pattern}$")]


class Grant(BaseModel):
    """What a token allows. expires_s : seconds since 1970; nonce : the member's identity, different in every token"""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    room: RoomName
    role: Role
    expires_s: int = Field(ge=0)
    nonce: Identity


def new_identity() -> str:
    """72 random bits as 12 characters."""
    return secrets.token_urlsafe(9)


def grant_for(room: str, role: str, minutes: float, unix_s: float) -> Grant:
    """A grant for one new member. Raises ConfigError when room, role or duration are not possible."""
    if not 0 < minutes <= MAX_MINUTES:
        raise ConfigError(f"a token for {minutes:g} minutes is not possible: 0 to {MAX_MINUTES:g}")
    expires_s = int(unix_s + 60.0 * minutes)
    try:
        return Grant.model_validate(
            {"room": room, "role": role, "expires_s": expires_s, "nonce": new_identity()}
        )
    except ValidationError as error:
        names = " and ".join(str(detail["loc"][0]) for detail in error.errors())
        raise ConfigError(
            f"no token for this {names}: a room has 1 to 64 of A-Z a-z 0-9 _ -, a role is sender or receiver"
        ) from error


def issue_token(secret: bytes, grant: Grant) -> str:
    """The token for `grant`: letters, digits, `-`, `_` and one dot."""
    payload = _text(grant.model_dump_json().encode())
    return f"{payload}.{_signature(secret, payload)}"


def check_token(secret: bytes, token: str, room: str, role: str | None, unix_s: float) -> Grant:
    """What `token` allows, if it allows to be `role` (None: whatever it says) in `room`; raises RefusedError."""
    if not token:
        raise RefusedError(Reason.NO_TOKEN)
    payload, _, signature = token[:MAX_TOKEN_CHARS].partition(".")
    expected = _signature(secret, payload).encode()
    if (
        not hmac.compare_digest(expected, signature.encode("utf-8", "replace"))
        or len(token) > MAX_TOKEN_CHARS
    ):
        raise RefusedError(Reason.BAD_TOKEN)
    grant = _grant(payload)
    if unix_s >= grant.expires_s:
        raise RefusedError(Reason.EXPIRED_TOKEN)
    if grant.room != room:
        raise RefusedError(Reason.OTHER_ROOM)
    if role is not None and grant.role != role:
        raise RefusedError(Reason.OTHER_ROLE)
    return grant


def find_secret(file: Path | None, environment: Mapping[str, str]) -> bytes | None:
    """The secret in `file`, else in SEMCAST_SECRET, None where there is neither; raises ConfigError for a weak one."""
    if file is not None:
        return strong_secret(read_secret(file), str(file))
    text = environment.get(SECRET_VARIABLE)
    return None if text is None else strong_secret(text.strip().encode(), SECRET_VARIABLE)


def read_secret(file: Path) -> bytes:
    """The contents of `file` without the space around it; raises ConfigError when it cannot be read."""
    try:
        return file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"cannot read the secret {file}: {error.strerror}") from error


def strong_secret(secret: bytes, where: str) -> bytes:
    """`secret` itself; ConfigError if it can be guessed. where : names its place"""
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(
            f"the secret in {where} has {len(secret)} bytes, at least {MIN_SECRET_BYTES} are needed: make one with "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return secret


def _signature(secret: bytes, payload: str) -> str:
    return _text(hmac.digest(secret, _PURPOSE + payload.encode("utf-8", "replace"), "sha256"))


def _grant(payload: str) -> Grant:
    """From a payload whose signature is right; still refused if another version of this program signed it."""
    try:
        return Grant.model_validate_json(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        raise RefusedError(Reason.BAD_TOKEN) from None


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
