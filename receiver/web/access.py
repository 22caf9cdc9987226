"""Who may open the page.

A page on a loopback address is for this machine alone; on any other address it needs the token in its URL. Either way a
web site that somebody has open elsewhere must not reach it: requests for a host of another name (DNS rebinding) and
connections that another site's page opens are refused.
"""

from __future__ import annotations

import hmac
import re
import secrets
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

_NAMED_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/]+)(:\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; names other than localhost count as reachable."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _place_of(origin: str) -> str | None:
    """Host and port of an origin, None where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Access:
    """host : that the page is bound to; token : that the URL must carry, "" for none"""

    host: str
    token: str

    @classmethod
    def to(cls, host: str) -> Access:
        """Free on loopback, by a new token elsewhere."""
        return cls(host, "" if is_loopback(host) else secrets.token_urlsafe(18))

    def refusal(self, host_header: str, origin: str | None, token: str) -> str | None:
        """Why a request is refused, None where it is not.

        origin : that a browser names when a page opens a connection; it must be this page
        """
        if not self._is_ours(host_header):
            return "This page does not go by that name: open the address that the receiver printed."
        if origin is not None and _place_of(origin) != host_header.lower():
            return "Another site may not open this page's connection."
        if self.token and not hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode()):
            return "The address lacks its token: open the whole address that the receiver printed."
        return None

    def _is_ours(self, host_header: str) -> bool:
        """An address cannot be pointed elsewhere, a name can: of those only our own."""
        match = _NAMED_HOST.fullmatch(host_header)
        if not match:
            return False
        name = match[1].strip("[]").lower()
        if is_loopback(self.host):
            return is_loopback(name)
        own = socket.gethostname().lower()
        return _is_address(name) or name in {"localhost", self.host.lower(), own, f"{own}.local"}
