"""STUN and TURN servers: what the configuration names is handed to members, and nothing else, ever.

    [[server]]
    urls = ["stun:stun.example.org:3478"]

    [[server]]
    urls = ["turn:turn.example.org:3478?transport=udp", "turns:turn.example.org:5349"]
    username = "semcast"
    credential = "a fixed password"

    [[server]]
    urls = ["turn:turn.example.org"]
    secret_file = "turn.secret"      # what coturn calls static-auth-secret; or: secret = "..."
    minutes = 60

With a secret each member gets credentials of its own that expire (draft-uberti-behave-turn-rest-00, coturn's
use-auth-secret): username "EXPIRY:IDENTITY", password BASE64(HMAC-SHA1(secret, username)).
"""

from __future__ import annotations

import difflib
import hmac
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from channel.signalling.tokens import MAX_MINUTES, read_secret
from common.config import read_toml
from common.errors import ConfigError

_HOST = r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?"
IceUrl = Annotated[
    str, Field(pattern=rf"^(stuns?:{_HOST}|turns?:{_HOST}(\?transport=(udp|tcp))?)$", max_length=300)
]


class IceServer(BaseModel):
    """As a member gets it: W3C's RTCIceServer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: list[IceUrl] = Field(min_length=1)
    username: str | None = None
    credential: str | None = Field(None, repr=False)


class IceServerSettings(BaseModel):
    """As it is configured. minutes : how long credentials made from the secret hold"""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    urls: list[IceUrl] = Field(min_length=1)
    username: str | None = None
    credential: SecretStr | None = None
    secret: SecretStr | None = None
    secret_file: Path | None = None
    minutes: float = Field(60.0, gt=0.0, le=MAX_MINUTES)

    @model_validator(mode="after")
    def _credentials_fit(self) -> IceServerSettings:
        fixed = self.username is not None and self.credential is not None
        if (self.username is None) != (self.credential is None):
            raise ValueError("username and credential belong together")
        ways = fixed + (self.secret is not None) + (self.secret_file is not None)
        if any(url.startswith("turn") for url in self.urls):
            if ways != 1:
                raise ValueError("turn needs either username and credential, or secret, or secret_file")
        elif ways:
            raise ValueError("stun takes no credentials")
        return self

    def for_member(self, identity: str, unix_s: float) -> IceServer:
        """What the member `identity` gets now."""
        if self.secret is None:
            credential = None if self.credential is None else self.credential.get_secret_value()
            return IceServer(urls=self.urls, username=self.username, credential=credential)
        username = f"{int(unix_s + 60 * self.minutes)}:{identity}"
        password = hmac.digest(self.secret.get_secret_value().encode(), username.encode(), "sha1")
        return IceServer(urls=self.urls, username=username, credential=b64encode(password).decode())


class _IceFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    server: list[IceServerSettings] = Field(min_length=1)


def load_ice(path: Path) -> Sequence[IceServerSettings]:
    """The servers in a TOML file, secrets read from the files beside it; raises ConfigError."""
    values = read_toml(path, "the ICE configuration")
    try:
        servers = _IceFile.model_validate(values).server
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error.errors()[0])}") from error
    return [_with_secret(server, path.parent) for server in servers]


def _with_secret(server: IceServerSettings, folder: Path) -> IceServerSettings:
    if server.secret_file is None:
        return server
    secret = read_secret(folder / server.secret_file)
    if not secret:
        raise ConfigError(f"the secret {folder / server.secret_file} is empty")
    return server.model_copy(update={"secret": SecretStr(secret.decode("utf-8", "replace"))})


def _explain(detail: ErrorDetails) -> str:
    """One pydantic finding in the reader's terms; never quotes a value, which may be a secret."""
    place = " ".join(f"number {part + 1}" if isinstance(part, int) else part for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(
            str(detail["loc"][-1]), [*IceServerSettings.model_fields, "server"], n=1
        )
        return f"unknown key {place}" + (f": did you mean {near[0]}?" if near else "")
    if detail["type"] == "string_pattern_mismatch":
        return f"{place}: write stun:HOST[:PORT] or turn:HOST[:PORT][?transport=udp|tcp] (or stuns, turns)"
    return f"{place}: {detail['msg'].removeprefix('Value error, ')}"
