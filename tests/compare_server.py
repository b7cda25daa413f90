"""A server of chat completions that answers sums, and misbehaves as the model's name asks."""

import contextlib
import json
import re
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("garbage", "429", "500", "good", "empty", "stall", "good", "torn")


class Server(ThreadingHTTPServer):
    """Records its requests. A context that runs it; ``url`` is its address."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []  # of requests
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.pause, self.stall = 0.0, 1.0  # seconds
        self.redirect, self.message, self.code = "", "", 400
        self.stopped = threading.Event()  # a stalled answer ends when the server does

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def request_count(self, model: str) -> int:
        return sum(body["model"] == model for body in self.bodies)

    def __enter__(self) -> "Server":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, address) -> None:
        """A client that leaves is no error."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = self.server.request_count(body["model"])  # of this model, from 0
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.paths.append(self.path)
        time.sleep(self.server.pause)
        prompt = body["messages"][-1]["content"]
        getattr(self, f"be_{body['model'].split('-')[0]}")(body, prompt, number)

    # -- what models do

    def be_good(self, body, prompt, number) -> None:
        self.answer(total(prompt))

    def be_weak(self, body, prompt, number) -> None:
        self.answer("7" if total(prompt) % 3 == 0 else f"It is {total(prompt)}.")

    def be_fickle(self, body, prompt, number) -> None:
        self.answer(total(prompt) if number % 2 else number + 10**6)

    def be_drops(self, body, prompt, number) -> None:
        """Every third connection is lost; the others go from fault to fault."""
        kind = "drop" if number % 3 == 2 else FAULTS[(number - number // 3) % len(FAULTS)]
        self.fault(kind, prompt)

    def be_always(self, body, prompt, number) -> None:
        self.fault(body["model"].split("-", 1)[1], prompt)

    def be_once(self, body, prompt, number) -> None:
        self.fault("good" if number else body["model"].split("-", 1)[1], prompt)

    def be_loaded(self, body, prompt, number) -> None:
        """Has one model, and answers with it whatever the name."""
        message = {"content": str(total(prompt))}
        self.send(200, {"model": "the-only", "choices": [{"message": message}]})

    def be_path(self, body, prompt, number) -> None:
        """Answers well at one path and badly at others."""
        self.answer(total(prompt) + (not self.path.startswith("/one/")))

    def be_error400(self, body, prompt, number) -> None:
        self.send(400, {"error": {"message": self.server.message.replace("{n}", f"{number:x}")}})

    def be_dries(self, body, prompt, number) -> None:
        """Answers ten questions, and then none."""
        if number < 10:
            self.answer(total(prompt))
        else:
            self.send(402, {"error": {"message": "insufficient balance"}})

    def be_error404(self, body, prompt, number) -> None:
        self.send(404, {"error": {"message": self.server.message}})

    def be_echo(self, body, prompt, number) -> None:
        self.answer(f"your key is {self.headers['Authorization']}")

    def be_new(self, body, prompt, number) -> None:
        """Knows the limit by its newer name alone."""
        if "max_tokens" in body:
            self.send(400, {"error": {"message": "use 'max_completion_tokens'"}})
        else:
            self.answer(total(prompt))

    # -- models that think, and servers that differ

    def be_thinks(self, body, prompt, number) -> None:
        """A thought in the text, or in a separate field, or counted separately."""
        kind = body["model"].split("-", 1)[1]
        right = total(prompt)
        thought = f"Is it {right + 1}? No."
        if kind == "tags":
            self.answer(f"<think>{thought}</think>\n\n{right}")
        elif kind == "prompted":  # the template opened the thought
            self.answer(f"{thought}</think>\n\n{right}")
        elif kind == "channels":
            self.answer(
                f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant"
                f"<|channel|>final<|message|>{right}<|return|>"
            )
        elif kind == "separate":
            usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 125}
            self.answer(right, usage=usage, reasoning_content=thought)
        elif kind == "cut":  # every other one
            if number % 2:
                self.answer(f"<think>{thought}", finish="length")
            else:
                self.answer(right, reasoning=thought)
        elif kind == "silent":
            self.answer(None, reasoning=thought, finish="length")

    def be_filtered(self, body, prompt, number) -> None:
        self.answer("", finish="content_filter")

    def be_error200(self, body, prompt, number) -> None:
        """An error that calls itself a success."""
        self.send(200, {"error": {"message": self.server.message, "code": self.server.code}})

    def be_strict(self, body, prompt, number) -> None:
        """Refuses a temperature, as models that think do."""
        if "temperature" in body:
            message = "Unsupported value: 'temperature' does not support 0 with this model."
            self.send(400, {"error": {"message": message}})
        else:
            self.answer(total(prompt))

    def be_formal(self, body, prompt, number) -> None:
        """Right where the last line is to hold the answer, else not."""
        self.answer(f"Answer: {total(prompt) if 'last line' in prompt else 1}")

    def fault(self, kind: str, prompt: str) -> None:
        error = {"error": {"message": f"no \x1b[31m {self.headers['Authorization']}"}}
        if kind == "good":
            self.answer(total(prompt))
        elif kind == "drop":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # a reset
            self.connection.close()
            self.close_connection = True
        elif kind == "garbage":
            self.send(200, b"<html>not { json")
        elif kind == "empty":
            self.send(200, {"choices": []})
        elif kind == "torn":
            self.send(200, b'{"choices": [{"mess', claims=500)
        elif kind == "stall":
            self.server.stopped.wait(self.server.stall)
            self.answer(total(prompt))
        elif kind == "drip":
            self.drip()
        elif kind == "huge":
            self.send(200, b" " * (9 << 20))
        elif kind == "gzip":
            self.send(200, b"\x1f\x8b", **{"Content-Encoding": "gzip"})
        elif kind == "429":
            self.send(429, error, **{"Retry-After": "0.01"})
        elif kind == "patience":
            self.send(429, error, **{"Retry-After": "86400"})
        elif kind == "redirect":
            self.send(307, b"", Location=self.server.redirect)
        else:
            self.send(int(kind), error)

    def drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.stopped.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()

    # -- what is sent

    def answer(self, text, finish="stop", usage=None, **message) -> None:
        message |= {"role": "assistant", "content": None if text is None else str(text)}
        usage = usage or {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        self.send(200, {"object": "chat.completion", "choices": [choice], "usage": usage})

    def send(self, status: int, body, claims: int | None = None, **headers) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(claims or len(content)))
            self.end_headers()
            self.wfile.write(content)
        self.close_connection = bool(claims)


def total(prompt: str) -> int:
    return sum(map(int, re.findall(r"\d+", prompt)))
