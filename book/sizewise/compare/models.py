"""What a model is to the comparison: one that runs here, or a name at an endpoint.

A key comes from the environment, is sent to one host, and is in no row, message or repr.
"""

import ipaddress
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

AT = re.compile(r"(?P<name>.+?)@(?P<url>[a-z][a-z0-9+.-]*://.*)", re.IGNORECASE | re.DOTALL)
LOCAL = "@local"
KEY = "OPENAI_API_KEY"
NO_KEY = "none"
BASE, CALL = "/v1", "/chat/completions"


@dataclass(frozen=True)
class Model:
    """A model to ask. ``url`` is that of its chat completions; None for one that runs here."""

    name: str
    url: str | None = None
    key: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str | None:
        """Host and port of the endpoint."""
        return urlsplit(self.url).netloc.rpartition("@")[2] if self.url else None

    @property
    def place(self) -> str | None:
        """The whole address, with what is secret in it left out: what tells endpoints apart."""
        if not self.url:
            return None
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{self.host}{parts.path}"

    def __str__(self) -> str:
        """Name and host, and the path where it is not the usual one."""
        if not self.url:
            return self.name
        path = urlsplit(self.url).path.removesuffix(CALL)
        return f"{self.name}@{self.host}{'' if path == BASE else path or '/'}"


def labels(models: tuple[Model, ...]) -> list[str]:
    """What to call models beside each other: whole addresses where less would name two alike."""
    short = [str(entry) for entry in models]
    if len(set(short)) == len(short):
        return short
    return [f"{entry.name}@{entry.place}" if entry.url else entry.name for entry in models]


def parse(
    names: list[str], endpoint: str = "", key_names: list[str] | None = None, insecure: bool = False
) -> tuple[Model, Model]:
    """Two models from what a person wrote: NAME, NAME@URL or NAME@local.

    A bare NAME is at ``endpoint`` where one is given, and local otherwise. ``key_names`` are the
    environment variables with the keys: none (``OPENAI_API_KEY``, if it is set), one, or one a
    model, where ``none`` is no key. Raises ValueError for anything else than two different
    models, for a URL with more than an address in it, for a key that is not set, that would go to
    two hosts, or that would travel unencrypted to another machine without ``insecure``.
    """
    if len(names) != 2:
        raise ValueError(f"a comparison needs --model twice, got it {len(names)} times")
    result = [_split(name, endpoint) for name in names]
    if result[0] == result[1]:
        raise ValueError(f"the two models are the same: {result[0][0]}")
    if endpoint and not any(url for _, url in result):
        raise ValueError("--endpoint is given, and both models are local")
    urls = [url for _, url in result]
    keys = _keys(urls, key_names or [])
    for url, key in zip(urls, keys, strict=True):
        if key and url.startswith("http://") and not loopback(url) and not insecure:
            raise ValueError(
                f"{urlsplit(url).netloc}: a key would travel unencrypted; use https://, "
                "or --insecure if that is meant"
            )
    a, b = (Model(name, url, key) for (name, url), key in zip(result, keys, strict=True))
    return a, b


def loopback(url: str) -> bool:
    """Whether an address is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def address(url: str) -> str:
    """The address of chat completions at an endpoint: ``/v1`` where the URL has no path."""
    where = ""
    try:
        parts = urlsplit(url.strip())
        if parts.hostname and re.fullmatch(r"[\w.:-]+", parts.hostname):  # nothing secret in it
            where = f"{parts.scheme}://{parts.hostname}: "
        bare = bool(parts.hostname) and parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        bare = False
    if not bare or re.search(r"[\s\x00-\x1f\\]", url.strip()):
        raise ValueError(f"{where}an endpoint is an address such as http://localhost:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        # What stands there is often secret, so it is not shown.
        raise ValueError(
            f"{parts.hostname}: an endpoint's address has no user, password, ? or #; "
            "a key belongs in the environment"
        )
    path = parts.path.rstrip("/") or BASE
    if not path.endswith(CALL):
        path += CALL
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def _split(name: str, endpoint: str) -> tuple[str, str | None]:
    if not name.strip():
        raise ValueError("--model has no name")
    if result := AT.fullmatch(name):
        return result["name"], address(result["url"])
    if name.endswith(LOCAL) and name != LOCAL:
        return name.removesuffix(LOCAL), None
    return name, address(endpoint) if endpoint else None


def _keys(urls: list[str | None], names: list[str]) -> list[str | None]:
    """The key of each model, None without one."""
    if len(names) > len(urls):
        raise ValueError("--key-env is given once, or once for each model")
    if len(names) < len(urls):
        name = names[0] if names else KEY if os.environ.get(KEY) else NO_KEY
        if name != NO_KEY and len({urlsplit(url).netloc for url in urls if url}) > 1:
            raise ValueError(
                "the models are at two hosts: say which key goes to which, with --key-env for each "
                f"in their order ({NO_KEY} for no key)"
            )
        names = [name] * len(urls)
    pairs = zip(urls, names, strict=True)
    return [_key(name) if url and name != NO_KEY else None for url, name in pairs]


def _key(name: str) -> str:
    key = os.environ.get(name, "").strip()
    if not key:
        # A person may have typed the key itself: it is not repeated.
        visible = f"the variable {name}" if re.fullmatch(r"[A-Z][A-Z0-9_]{0,40}", name) else "it"
        raise ValueError(f"--key-env names an environment variable, and {visible} is not set")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ValueError(f"{name}: holds characters that a key cannot have")
    return key
