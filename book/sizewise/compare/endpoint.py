"""One question to an OpenAI-compatible endpoint: chat completions, without streaming.

What may pass is tried again: lost connections, time-outs, 408, 409, 425, 429, 5xx and answers that
are none. Refusals that hold for every question end the run. Redirects are not followed, so that
the key stays with the host that a person named.
"""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from .models import Model, loopback

MOST_BYTES = 8 << 20  # of a response
FIRST, LONGEST = 0.5, 30.0  # seconds before the first retry, and at most
PATIENCE = 120.0  # seconds that an endpoint may ask to wait
PASSING = {408, 409, 425, 429}
FINAL = {
    401: "no valid key for it (401)",
    403: "access refused (403)",
    404: "no such address or model (404)",
}
WORDS = 200  # characters of what an endpoint says of an error


@dataclass(frozen=True)
class Asking:
    """How to ask: the request's settings, and how long to try."""

    system: str = ""
    most: int = 256
    temperature: float | None = 0.0  # None: the endpoint's own
    timeout: float = 60.0
    retries: int = 4


@dataclass(frozen=True)
class Reply:
    """An answer with its tokens and the seconds of the request, or why there is none."""

    text: str = ""
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    seconds: float | None = None
    tries: int = 1
    failed: str = ""

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Refused(ValueError):
    """The endpoint will answer no question like this."""


class _Passing(Exception):
    """A failure that may pass, and the seconds the endpoint asks to wait."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class _Failed(Exception):
    """A failure of this question alone."""


class _Session(requests.Session):
    """Looks at no redirect. The plain one prepares the next request even where it does not send
    it: it reads a body of any size, and raises ValueError for a target that is no address."""

    def get_redirect_target(self, resp) -> None:
        return None


class Client:
    """Asks one model. One client a thread: the connection is kept open between questions."""

    def __init__(
        self,
        model: Model,
        asking: Asking,
        *,
        sleep: Callable[[float], Any] = time.sleep,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.model, self.asking = model, asking
        self.sleep, self.draw, self.clock = sleep, draw, clock
        self.limit = "max_tokens"  # its name in the request
        self.session = _Session()
        self.session.trust_env = not loopback(model.url)  # no proxy between us and ourselves

    def ask(self, prompt: str) -> Reply:
        """The answer to a prompt. A `Reply` with ``failed`` where there is none in the end.

        Raises Refused for 401, 403, 404 and redirects.
        """
        tries = 0
        while True:
            tries += 1
            started = self.clock()
            try:
                text, tokens = self._once(prompt)
            except _Failed as error:
                return Reply(tries=tries, failed=self._clean(str(error)))
            except _Passing as error:
                reason, wait = self._clean(str(error)), error.wait
                if wait is not None and wait > PATIENCE:
                    words = f"{reason}, and asks to wait {wait:.0f} s"
                    return Reply(tries=tries, failed=words)
                if tries > self.asking.retries:
                    return Reply(tries=tries, failed=f"{reason}, after {tries} tries")
                self.sleep(self._pause(tries) if wait is None else max(wait, self._pause(1)))
            else:
                seconds = self.clock() - started
                whole = text.encode("utf-8", "replace").decode()  # half a pair is no text
                return Reply(self._hidden(whole), *tokens, seconds, tries)

    def _pause(self, tries: int) -> float:
        """Seconds before another try: doubled each time, less up to half, so that clients that
        failed together do not come back together."""
        return min(LONGEST, FIRST * 2 ** (tries - 1)) * (0.5 + self.draw() / 2)

    def _once(self, prompt: str) -> tuple[str, tuple[int | None, int | None]]:
        """One request, or two where the endpoint names the limit of tokens otherwise."""
        status, headers, content = self._post(prompt)
        if status == 400 and self.limit == "max_tokens" and b"max_completion_tokens" in content:
            self.limit = "max_completion_tokens"
            status, headers, content = self._post(prompt)
        if status in FINAL:
            said = "" if status in (401, 403) else self._said(content)  # 401 may repeat the key
            words = FINAL[status] + (f": {said}" if said else "")
            raise Refused(self._clean(f"{self.model}: {words}"))
        if 300 <= status < 400:
            to = _target(self.model.url, headers.get("Location"))
            raise Refused(
                self._clean(
                    f"{self.model}: the endpoint redirects to {to}, which is not "
                    "followed; give that address if it is meant"
                )
            )
        if status in PASSING or status >= 500:
            raise _Passing(f"HTTP {status}", _wait(headers.get("Retry-After")))
        if status != 200:
            raise _Failed(f"HTTP {status}: {self._said(content) or 'no reason given'}")
        return _read(content)

    def _post(self, prompt: str) -> tuple[int, Any, bytes]:
        asking = self.asking
        messages = [{"role": "system", "content": asking.system}] if asking.system else []
        body = {
            "model": self.model.name,
            "messages": [*messages, {"role": "user", "content": prompt}],
            self.limit: asking.most,
        }
        if asking.temperature is not None:
            body["temperature"] = asking.temperature
        until = self.clock() + asking.timeout
        try:
            with self.session.post(
                self.model.url,
                json=body,
                stream=True,
                timeout=asking.timeout,
                allow_redirects=False,
                auth=self._sign,
                headers={"Accept-Encoding": "identity"},
            ) as response:
                return response.status_code, response.headers, self._content(response, until)
        except (requests.Timeout, TimeoutError, urllib3.exceptions.TimeoutError):
            raise _Passing(f"no answer in {asking.timeout:g} s") from None
        except requests.exceptions.SSLError:
            raise _Failed("no trusted encrypted connection") from None
        except requests.ConnectionError as error:
            if isinstance(
                getattr(error.args[0], "reason", None) if error.args else None,
                urllib3.exceptions.NewConnectionError,
            ):
                raise _Passing("no connection") from None
            raise _Passing("lost connection") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
            raise _Passing("lost connection") from None

    def _sign(self, request):
        """Put the key in, and nothing else: a .netrc must not replace it."""
        request.headers.pop("Authorization", None)
        if self.model.key:
            request.headers["Authorization"] = f"Bearer {self.model.key}"
        return request

    def _content(self, response, until: float) -> bytes:
        """The body: not over the limit, and not later than ``until``, however slowly it drips."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _Passing("a compressed answer, which was not asked for")
        held = bytearray()
        while piece := response.raw.read1(65536, decode_content=False):
            held += piece
            if len(held) > MOST_BYTES:
                raise _Failed(f"an answer over {MOST_BYTES >> 20} MiB")
            if self.clock() > until:
                raise _Passing(f"no whole answer in {self.asking.timeout:g} s")
        return bytes(held)

    def _said(self, content: bytes) -> str:
        """What an endpoint says of an error: cut when the key is out, or a part of it stayed."""
        words = self._clean(_reason(content))
        return words if len(words) <= WORDS else words[: WORDS - 1] + "…"

    def _hidden(self, words: str) -> str:
        """``words`` without the key, should an endpoint send it back."""
        return words.replace(self.model.key, "[key]") if self.model.key else words

    def _clean(self, words: str) -> str:
        """One line without the key, and without what moves a terminal's cursor."""
        plain = "".join(one if one.isprintable() else " " for one in self._hidden(words))
        return " ".join(plain.split())


def _read(content: bytes) -> tuple[str, tuple[int | None, int | None]]:
    """Text and tokens of a completion."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise _Passing("no JSON in the answer") from None
    choices = found.get("choices") if isinstance(found, dict) else None
    if not isinstance(choices, list) or not choices:
        raise _Passing("an answer without choices")
    first = choices[0] if isinstance(choices[0], dict) else {}
    message = first.get("message")
    if not isinstance(message, dict):
        raise _Passing("an answer without a message")
    text = message.get("content")
    if isinstance(text, list):  # in parts
        parts = [one.get("text") for one in text if isinstance(one, dict)]
        text = "".join(one for one in parts if isinstance(one, str))
    if text is None:  # a refusal, or all tokens went into thinking
        text = message.get("refusal") or ("" if first.get("finish_reason") == "length" else None)
    if not isinstance(text, str):
        raise _Passing("an answer without text")
    usage = found.get("usage") if isinstance(found.get("usage"), dict) else {}
    return text, (_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


def _count(value) -> int | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9
    return value if good else None


def _reason(content: bytes) -> str:
    """What an endpoint says of an error; empty if it says nothing."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and name in found:
            found = found[name]
    return found if isinstance(found, str) else ""


def _target(url: str, location: str | None) -> str:
    """Where a redirect leads, as host and port: what else an address holds may be secret."""
    if not location:
        return "nowhere"
    try:
        parts = urlsplit(urljoin(url, location))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host:
        return "what is no address"
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port else host


def _wait(header: str | None) -> float | None:
    """Seconds that Retry-After asks for, as a number or a date; None if it says nothing."""
    if not header:
        return None
    try:
        return max(0.0, float(header)) if float(header) < float("inf") else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
