# SPDX-License-Identifier: MIT
"""Whom a request is counted for: key functions, and what they see of a request.

A key function takes a Request and returns the key, a str or bytes, or UNLIMITED, or (where the
server is asynchronous) an awaitable of these. Key functions keep no state: they are safe in any
thread and after fork(). Keys of any length and content are safe; brim keeps their hash, and for
its tools the first bytes of the text (`name_bytes` of the segment): hash a secret before.
"""
from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

from brim import Key, address_key, network_contains


class Unlimited(enum.Enum):
    """The type of UNLIMITED."""
    UNLIMITED = 'unlimited'


UNLIMITED: Final = Unlimited.UNLIMITED  # a key or policy function's answer: the request is exempt


class Request:
    """What rules and key functions see of a request, the same for every kind of server.

    method: upper case; "WEBSOCKET" for the connect of a WebSocket.
    path: %-decoded, without the query, as frameworks route it: it begins with one "/", a newline
      at its end is gone, and of a mounted ASGI app the path within it.
    paths: what rules for paths are compared with: `path`, and where the server's root_path was
      taken from it also the whole, as servers and frameworks differ in what they put there.
    plain: whether the client wrote the path in this way; exemptions are for no other.
    """

    __slots__ = ('method', 'path', 'paths', 'plain')

    method: str
    path: str
    paths: tuple[str, ...]
    plain: bool

    @property
    def peer(self) -> str | None:
        """The address at the other end of the connection; None for a Unix socket."""
        raise NotImplementedError

    @property
    def user(self) -> str | None:
        """Whom an authentication before the limiter found, if any."""
        raise NotImplementedError

    def header(self, name: str) -> str | None:
        """The header's value, latin-1; several lines are joined with ", ". None: not sent."""
        raise NotImplementedError


def _routed(path: str) -> str:
    """A client must not get past a rule by another spelling that leads to the same endpoint. The
    `$` of a framework's expression matches before a newline at the end; some look for "/" and what
    follows the slashes that the path begins with."""
    if path[-1:] == '\n':
        path = path[:-1]
    return path if path[:1] == '/' and path[1:2] != '/' else '/' + path.lstrip('/')


class AsgiRequest(Request):
    """A request by its ASGI scope (also of Starlette and FastAPI: `request.scope`)."""

    __slots__ = ('scope',)

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.scope: Final = scope
        self.method = scope.get('method', 'WEBSOCKET').upper()
        given: str = scope['path']
        root: str = scope.get('root_path') or ''
        whole = given
        if root and given.startswith(root) and given[len(root):len(root) + 1] in ('', '/'):
            given = given[len(root):] or '/'
        self.path = path = _routed(given)
        self.paths = (path,) if given is whole else (path, _routed(whole))
        self.plain = path == given

    @property
    def peer(self) -> str | None:
        client = self.scope.get('client')
        return client[0] or None if client else None

    @property
    def user(self) -> str | None:
        user = self.scope.get('user')
        if user is None or not getattr(user, 'is_authenticated', False):
            return None
        return str(user.display_name)

    def header(self, name: str) -> str | None:
        wanted = name.lower().encode('latin-1')
        found = [value for key, value in self.scope['headers'] if key == wanted]
        return b', '.join(found).decode('latin-1') if found else None


class WsgiRequest(Request):
    """A request by its WSGI environ (also of Flask: `request.environ`)."""

    __slots__ = ('environ',)

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self.environ: Final = environ
        self.method = environ['REQUEST_METHOD'].upper()
        given: str = environ.get('PATH_INFO', '')
        if not given.isascii():  # WSGI hands the bytes over as latin-1 text
            given = given.encode('latin-1', 'replace').decode('utf-8', 'replace')
        self.path = path = _routed(given)
        self.paths = (path,)
        self.plain = path == given

    @property
    def peer(self) -> str | None:
        return self.environ.get('REMOTE_ADDR') or None

    @property
    def user(self) -> str | None:
        return self.environ.get('REMOTE_USER') or None

    def header(self, name: str) -> str | None:
        variable = name.upper().replace('-', '_')
        if variable not in ('CONTENT_TYPE', 'CONTENT_LENGTH'):
            variable = 'HTTP_' + variable
        return self.environ.get(variable)


KeyAnswer: TypeAlias = Key | Unlimited
KeyFunction: TypeAlias = Callable[[Request], KeyAnswer | Awaitable[KeyAnswer]]
SyncKeyFunction: TypeAlias = Callable[[Request], KeyAnswer]
ProxyHeader: TypeAlias = Literal['x-forwarded-for', 'forwarded', 'x-real-ip']

_PEER_OF_SOCKET: Final = 'unix'
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = re.compile(  # RFC 7239, and what ends it
    rf'[ \t]*({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*([;,]|$)', re.DOTALL)


def _address(text: str, v4_prefix: int = 32, v6_prefix: int = 128) -> str | None:
    """The address, canonical; None for "unknown", "_hidden" and whatever else, surrogates too."""
    return address_key(text.strip(' \t'), v4_prefix, v6_prefix) if text.isascii() else None


def _forwarded(text: str) -> list[str]:
    """The `for` of each element of Forwarded; none of them if it is malformed somewhere. Read from
    the left, as a quoted string may hold anything: a client's Host, say."""
    found: list[str] = []
    at, who = 0, ''
    while (pair := _PAIR.match(text, at)) is not None:
        name, token, quoted, end = pair.groups()
        if name.lower() == 'for':
            who = token or quoted or ''
        if end != ';':
            found.append(who)
            who = ''
        if not end:
            return found
        at = pair.end()
    return []


_ENTRIES: Final[dict[str, Callable[[str], list[str]]]] = {
    'x-forwarded-for': lambda text: text.split(','),
    'forwarded': _forwarded,
    'x-real-ip': lambda text: text.rsplit(',', 1)[-1:],
}


class _Proxies:
    """Finds the client behind trusted proxies."""

    def __init__(self, trusted: Iterable[str], header: ProxyHeader) -> None:
        if isinstance(trusted, str):
            raise TypeError('trusted_proxies is a list of networks, not one string')
        if header not in _ENTRIES:
            raise ValueError(f'no header that names a client: {header!r}')
        networks = tuple(trusted)
        self.sockets = _PEER_OF_SOCKET in networks
        self.networks = tuple(one for one in networks if one != _PEER_OF_SOCKET)
        for network in self.networks:
            network_contains(network, '192.0.2.1')  # InvalidArgument, if it is no network
        self.header = header
        self.entries = _ENTRIES[header]

    def trusts(self, address: str) -> bool:
        return any(network_contains(network, address) for network in self.networks)

    def client(self, request: Request) -> str:
        """From the right, each entry was written by the hop found before. The first that is not
        trusted is the client; one that names no address leaves the hop that wrote it."""
        peer = request.peer
        if peer is None:
            hop, trusted = _PEER_OF_SOCKET, self.sockets
        else:
            known = _address(peer)
            hop, trusted = known or peer, known is not None and self.trusts(known)
        if not trusted or not (text := request.header(self.header)):
            return hop
        for entry in reversed(self.entries(text)):
            known = _address(entry)
            if known is None:
                return hop
            hop = known
            if not self.trusts(hop):
                return hop
        return hop


def by_address(*, trusted_proxies: Iterable[str] = (), header: ProxyHeader = 'x-forwarded-for',
               v4_prefix: int = 32, v6_prefix: int = 64) -> SyncKeyFunction:
    """The client's address, canonical, cut to the prefix: "203.0.113.7", "2001:db8:1:2::/64".

    It is the peer's, unless that is in `trusted_proxies` (networks, "10.0.0.0/8"; "unix": peers of
    Unix sockets): then it is read from `header`, which your proxy must set or append to itself.
    Peers of Unix sockets that are not trusted share the key "unix".
    """
    proxies = _Proxies(trusted_proxies, header)

    def key(request: Request) -> str:
        text = proxies.client(request)
        return _address(text, v4_prefix, v6_prefix) or text

    def peer_key(request: Request) -> str:
        text = request.peer or _PEER_OF_SOCKET
        return _address(text, v4_prefix, v6_prefix) or text

    address_key('::', v4_prefix, v6_prefix)  # a prefix out of range is an error now
    return key if proxies.networks or proxies.sockets else peer_key


def by_header(name: str, otherwise: SyncKeyFunction | None = None) -> SyncKeyFunction:
    """"name=value" of a header. Without it `otherwise` answers (None: by_address()): leaving a
    header out must not be a way around a limit. The value is the client's word: check it first."""
    prefix = name.lower() + '='
    instead = otherwise or by_address()

    def key(request: Request) -> KeyAnswer:
        value = request.header(name)
        return prefix + value if value else instead(request)

    return key


def by_user(otherwise: SyncKeyFunction | None = None) -> SyncKeyFunction:
    """"user=name" of an authenticated user: `scope["user"].display_name` (Starlette's
    AuthenticationMiddleware, outside of the limiter) or REMOTE_USER. Others: `otherwise`."""
    instead = otherwise or by_address()

    def key(request: Request) -> KeyAnswer:
        user = request.user
        return 'user=' + user if user else instead(request)

    return key


def by_path(request: Request) -> str:
    """The path. Clients choose it: use it with a rule for few paths, or combined()."""
    return request.path


def everyone(request: Request) -> str:
    """One key for all requests: a limit of the service."""
    return '*'


def combined(*functions: SyncKeyFunction) -> SyncKeyFunction:
    """A key for each combination of the answers: "203.0.113.7|/login". No part can pass for
    another: a "|" in it is written "\\|". UNLIMITED from one of them is the answer."""

    def key(request: Request) -> KeyAnswer:
        parts: list[bytes] = []
        for function in functions:
            part = function(request)
            if isinstance(part, Unlimited):
                return part
            raw = part if isinstance(part, bytes) else part.encode('utf-8', 'surrogatepass')
            parts.append(raw.replace(b'\\', b'\\\\').replace(b'|', b'\\|'))
        return b'|'.join(parts)

    return key
