"""One question to an OpenAI-compatible endpoint: a chat completion.

What may pass is tried again: lost connections, time-outs, 408, 409, 425, 429, 5xx and answers that
are none. Refusals that hold for every question end the run. Redirects are not followed, so that
the key stays with the host that a person named.
"""

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, filterfalse
from typing import Any

import requests
import urllib3

from .models import Model, loopback
from .thoughts import split_thought

MOST_BYTES = 8 << 20  # of a response
FIRST, LONGEST = 0.5, 30.0  # seconds before the first retry, and at most
PATIENCE = 120.0  # seconds that an endpoint may ask to wait
PASSING = {408, 409, 425, 429}
FINAL = {
    401: "no valid key for it (401)",
    403: "access refused (403)",
    404: "no such address or model (404)",
}
LONG = 200  # characters of what an endpoint says of an error
CUT = {  # finish reasons of answers that were not ended
    *("length", "max_tokens", "max_output_tokens", "max_length", "length_limit", "token_limit"),
    *("model_length", "model_context_window_exceeded", "incomplete"),
}
FILTERED = {
    *("content_filter", "content_filtered", "safety", "prohibited_content", "recitation"),
    *("sensitive", "refusal", "blocklist", "spii", "guardrail_intervened"),
}
BROKEN = {"error", "abort", "aborted", "network_error", "insufficient_system_resource"}
MAY_PASS = re.compile(r"overload|rate.?limit|time.?out|unavailable|try again|loading", re.I)
HINTS = {  # what an endpoint complains of, and the option that mends it
    "temperature": "--temperature default",
    r"max_(completion_)?tokens|context|too long|maximum.{0,20}length": "a smaller --most",
    r"system.{0,3}(message|prompt|role)|role.{0,20}system": "no --system",
    r"rate.?limit|quota|overloaded": "a smaller --concurrency",
    r"\bmodel\b": "another name after --model",
}


@dataclass(frozen=True)
class Asking:
    """How to ask: the request's settings, and how long to try."""

    system: str = ""
    max_tokens: int = 4096  # tokens; thoughts are written first
    temperature: float | None = 0.0  # None: the endpoint's own
    timeout: float = 300.0
    retries: int = 4


@dataclass(frozen=True)
class Reply:
    """An answer with its tokens and the seconds of the request, or why there is none.

    ``answer_tokens`` are all that were written and charged, ``thought_tokens`` those of them that
    went into thoughts, as far as the endpoint counts them.
    """

    text: str = ""
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    seconds: float | None = None
    tries: int = 1
    failed: str = ""
    thought: str = ""
    thought_tokens: int | None = None
    finish: str = ""
    served: str = ""  # the model that the endpoint says has answered


def outcome(row: dict[str, Any]) -> str:
    """What came of a request, a row of `Reply`: answered, failed, cut or filtered."""
    if row["failed"]:
        return "failed"
    finish = _kind(row.get("finish"))
    return "cut" if finish in CUT else "filtered" if finish in FILTERED else "answered"


def _kind(finish: Any) -> str:
    """A finish reason as servers that spell it otherwise have it."""
    return str(finish or "").lower().replace("-", "_")


class Refused(ValueError):
    """The endpoint will answer no question like this."""


class _Failure(Exception):
    """No answer this time. ``passes``: another try may help, not before ``wait`` seconds."""

    def __init__(self, reason: str, passes: bool = True, wait: float | None = None):
        super().__init__(reason)
        self.passes, self.wait = passes, wait


class Client:
    """Asks one model. One client a thread: the connection is kept open between questions."""

    def __init__(
        self, model: Model, options: Asking, *, sleep: Callable[[float], Any] = time.sleep
    ):
        self.model, self.options, self.sleep = model, options, sleep
        self.draw = random.random
        self.limit = "max_tokens"  # its name in the request
        self.session = requests.Session()
        # requests prepares the next request even where it does not send it: it reads a body of
        # any size, and raises ValueError for a target that is no address
        self.session.get_redirect_target = lambda response: None  # type: ignore[method-assign]
        self.session.trust_env = not loopback(model.url)  # no proxy between us and ourselves

    def ask(self, prompt: str) -> Reply:
        """The answer to a prompt. A `Reply` with ``failed`` where there is none in the end.

        Raises Refused for 401, 403, 404 and redirects.
        """
        for tries in count(1):
            started = time.monotonic()
            try:
                reply = self._once(prompt)
                break
            except _Failure as failure:
                reason, wait = self._clean(str(failure)), failure.wait
                if wait is not None and wait > PATIENCE:
                    reason += f", and asks to wait {wait:.0f} s"
                elif failure.passes and tries <= self.options.retries:
                    self.sleep(self._pause(tries) if wait is None else max(wait, self._pause(1)))
                    continue
                elif failure.passes:
                    reason += f", after {tries} tries"
                return Reply(tries=tries, failed=reason)
        seconds = time.monotonic() - started
        text, thought = self._whole(reply.text), self._whole(reply.thought)
        served = self._cut(reply.served)
        return replace(
            reply, text=text, thought=thought, seconds=seconds, tries=tries, served=served
        )

    def _pause(self, tries: int) -> float:
        """Seconds before another try: doubled each time, less up to half, so that clients that
        failed together do not come back together."""
        return min(LONGEST, FIRST * 2 ** (tries - 1)) * (0.5 + self.draw() / 2)

    def _once(self, prompt: str) -> Reply:
        """One request, or two where the endpoint names the limit of tokens otherwise."""
        status, headers, content = self._post(prompt)
        if status == 400 and self.limit == "max_tokens" and b"max_completion_tokens" in content:
            self.limit = "max_completion_tokens"
            status, headers, content = self._post(prompt)
        if 300 <= status < 400:  # not where to: an address may hold secrets
            raise Refused(
                f"{self.model}: the endpoint redirects ({status}), which is not followed; give the "
                "address that it leads to, if that is meant"
            )
        if status != 200:
            reason = self._reason(content)
            if status in FINAL:
                parts = [str(self.model), FINAL[status], reason if status == 404 else ""]
                raise Refused(self._clean(": ".join(filter(None, parts))))  # 401 may repeat the key
            passes = _passes(status)
            reason = reason or ("" if passes else "no reason given")
            wait = _wait(headers.get("Retry-After")) if passes else None
            raise _Failure(": ".join(filter(None, (f"HTTP {status}", reason))), passes, wait)
        body = _body(content)
        if reason := _error(body):
            inner = body["error"] if isinstance(body.get("error"), dict) else body
            code = str(inner.get("code"))
            passes = (code.isdecimal() and _passes(int(code))) or bool(MAY_PASS.search(reason))
            raise _Failure(f"an error: {self._cut(reason)}", passes)
        return _read(body, self.options.max_tokens)

    def _post(self, prompt: str) -> tuple[int, Any, bytes]:
        options = self.options
        messages = [{"role": "system", "content": options.system}] if options.system else []
        body = {
            "model": self.model.name,
            "messages": [*messages, {"role": "user", "content": prompt}],
            self.limit: options.max_tokens,
        }
        if options.temperature is not None:
            body["temperature"] = options.temperature
        until = time.monotonic() + options.timeout
        try:
            with self.session.post(
                self.model.url,
                json=body,
                stream=True,
                timeout=options.timeout,
                allow_redirects=False,
                auth=self._sign,
                headers={"Accept-Encoding": "identity"},
            ) as response:
                return response.status_code, response.headers, self._content(response, until)
        except (requests.Timeout, TimeoutError, urllib3.exceptions.TimeoutError):
            raise _Failure(f"no answer in {options.timeout:g} s") from None
        except requests.exceptions.SSLError:
            raise _Failure("no trusted encrypted connection", passes=False) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            reason = getattr(error.args[0], "reason", None) if error.args else None
            none = isinstance(reason, urllib3.exceptions.NewConnectionError)
            raise _Failure("no connection" if none else "lost connection") from None

    def _sign(self, request):
        """Put the key in, and nothing else: a .netrc must not replace it."""
        request.headers.pop("Authorization", None)
        if self.model.key:
            request.headers["Authorization"] = f"Bearer {self.model.key}"
        return request

    def _content(self, response, until: float) -> bytes:
        """The body: not over the limit, and not later than ``until``, however slowly it drips."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _Failure("a compressed answer, which was not asked for")
        content = bytearray()
        while piece := response.raw.read1(65536, decode_content=False):
            content += piece
            if len(content) > MOST_BYTES:
                raise _Failure(f"an answer over {MOST_BYTES >> 20} MiB", passes=False)
            if time.monotonic() > until:
                raise _Failure(f"no whole answer in {self.options.timeout:g} s")
        return bytes(content)

    def _reason(self, content: bytes) -> str:
        """What an endpoint says of an error; empty if it says nothing."""
        try:
            return self._cut(_error(json.loads(content)))
        except (ValueError, RecursionError):
            return ""

    def _cut(self, reason: str) -> str:
        """A reason on one short line: cut when the key is out, or a part of it stayed."""
        reason = self._clean(reason)
        return reason if len(reason) <= LONG else reason[: LONG - 1] + "…"

    def _whole(self, text: str) -> str:
        """``text`` without the key, should an endpoint send it back, and without half a
        character."""
        text = text.encode("utf-8", "replace").decode()
        return text.replace(self.model.key, "[key]") if self.model.key else text

    def _clean(self, text: str) -> str:
        """One line without the key, and without what moves a terminal's cursor."""
        plain = "".join(char if char.isprintable() else " " for char in self._whole(text))
        return " ".join(plain.split())


def hint(reason: str) -> str:
    """The option that helps where an endpoint refuses for ``reason``; empty if none is known."""
    return next((option for text, option in HINTS.items() if re.search(text, reason, re.I)), "")


def _body(content: bytes) -> dict[str, Any]:
    """The completion, or what is there instead."""
    try:
        body = json.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        raise _Failure("no JSON in the answer") from None
    if isinstance(body, list) and body:
        body = body[0]
    return body if isinstance(body, dict) else {}


def _passes(status: int) -> bool:
    """Whether what a status says of may be over at another try."""
    return status in PASSING or 500 <= status < 600


THOUGHTS = (  # names of the field, by server
    *("reasoning_content", "reasoning", "reasoning_text", "reasoning_details"),
    *("thinking", "thinking_content", "thought", "thoughts"),
)
TEXTS = ("text", "thinking", "summary", "content")  # fields of a part of a message
MESSAGES = (  # fields that hold what went wrong, by server
    *("error", "errors", "message", "msg", "detail", "error_message", "error_msg", "status_msg"),
    *("base_resp", "fault", "faultstring", "reason"),
)


def _read(body: dict[str, Any], max_tokens: int) -> Reply:
    """Text, thought and tokens of a completion."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise _Failure("an answer without choices")
    first = choices[0] if isinstance(choices[0], dict) else {}
    message = first.get("message") or first.get("delta")
    if not isinstance(message, dict):
        raise _Failure("an answer without a message")
    finish = str(first.get("finish_reason") or "")
    if _kind(finish) in BROKEN:
        raise _Failure(f"an answer that the endpoint broke off ({finish})")
    text = message.get("content")
    thought = next(filter(None, (_text(message.get(name), TEXTS) for name in THOUGHTS)), "")
    if isinstance(text, list):  # of parts, some of which may be thought
        thought = thought or _text(list(filter(_is_thought, text)), TEXTS)
        text = _text(list(filterfalse(_is_thought, text)), TEXTS)
    if not isinstance(text, str):  # a refusal, or all tokens went into thinking
        text = message.get("refusal")
        if not isinstance(text, str):
            if not thought and _kind(finish) not in CUT | FILTERED:
                raise _Failure("an answer without text")
            text = ""
    tagged, text = split_thought(text)
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    answer = _count(usage, "completion_tokens", "output_tokens")
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    thinking = _count(details if isinstance(details, dict) else usage, "reasoning_tokens")
    total = _count(usage, "total_tokens")
    if None not in (prompt, answer, total) and total > prompt + answer:
        thinking, answer = total - prompt - answer, total - prompt  # thoughts were counted apart
    if not finish and answer is not None and answer >= max_tokens:
        finish = "length"
    return Reply(
        text=text,
        prompt_tokens=prompt,
        answer_tokens=answer,
        thought="\n".join(filter(None, (thought, tagged))),
        thought_tokens=thinking,
        finish=finish,
        served=_text(body.get("model"), ()),
    )


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and bool(re.search("think|reason", str(part.get("type"))))


def _text(value: Any, names: tuple[str, ...], parts: int | None = None, depth: int = 4) -> str:
    """The text in strings, in the first ``parts`` of a list, in the first field that has one."""
    if isinstance(value, dict) and depth:
        inside = (*names, "code", "type") if names is MESSAGES else names
        texts = (_text(value.get(name), inside, parts, depth - 1) for name in names)
        return next(filter(None, texts), "")
    if isinstance(value, list) and depth:
        return "".join(_text(part, names, parts, depth - 1) for part in value[:parts])
    return value if isinstance(value, str) else ""


def _count(fields: dict[str, Any], *names: str) -> int | None:
    """The number in the first of these fields that holds one."""
    values = map(fields.get, names)
    return next((n for n in values if type(n) is int and 0 <= n < 10**9), None)


def _error(body: Any) -> str:
    """What a body says of an error, also one in the place of a choice; empty if it says nothing.

    Inside an error a code will do.
    """
    body = body[0] if isinstance(body, list) and body else body
    if isinstance(body, dict) and body.get("choices") and not body.get("error"):
        first = body["choices"][0] if isinstance(body["choices"], list) else {}
        body = {"error": first.get("error")} if isinstance(first, dict) else {}
    return _text(body, MESSAGES, parts=1)


def _wait(header: str | None) -> float | None:
    """Seconds that Retry-After asks for, as a number or a date; None if it says nothing."""
    try:
        return urllib3.Retry(retry_after_max=10**9).parse_retry_after(header) if header else None
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None
