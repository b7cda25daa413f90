"""Comparing models at endpoints: against a real server on this machine that misbehaves."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from compare_server import Server
from conftest import run_python
from sizewise.compare import endpoint, models, run
from sizewise.compare import task as tasks
from sizewise.compare.endpoint import Asking, Client, Refused

KEY = "sk-a-very-secret-key-0123456789"
CALL = "/v1/chat/completions"
COLUMNS = ("item", "repeat", "model", "endpoint", "asked", "text", "failed")


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def task(tmp_path):
    return sums(tmp_path / "my.jsonl", 12)


def sums(file, number):
    lines = [
        {"id": f"q{i}", "prompt": f"What is {i} + {i + 4}?", "answer": 2 * i + 4, "score": "number"}
        for i in range(number)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def model_at(server, name, key=None):
    return models.Model(name, models.address(server.url), key)


def client(server, name, key=None, *, asking=None, slept=None):
    sleep = slept.append if slept is not None else lambda seconds: None
    return Client(model_at(server, name, key), asking or Asking(timeout=5, retries=3), sleep=sleep)


def rows(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def contents(file):
    return {row["id"]: tuple(row[name] for name in COLUMNS) for row in rows(file)}


def argv(server, task, a="good", b="weak", *options):
    pair = ("--model", a, "--model", b)
    return ("compare", "--task", task, "--endpoint", server.url, *pair, *options)


class TestOneQuestion:
    def test_an_answer_has_its_text_and_tokens(self, server):
        reply = client(server, "good").ask("2 + 3")
        assert (reply.text, reply.prompt_tokens, reply.answer_tokens) == ("5", 20, 5)
        assert (reply.tries, reply.failed) == (1, "")
        assert reply.seconds > 0
        assert server.paths == ["/v1/chat/completions"]
        assert "Authorization" not in server.headers[0]

    def test_settings_are_what_is_sent(self, server):
        asking = Asking("Be brief.", 9, 0.5, timeout=5)
        client(server, "good", asking=asking).ask("1")
        assert server.bodies[0] == {
            "model": "good",
            "max_tokens": 9,
            "temperature": 0.5,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "1"},
            ],
        }
        client(server, "good", asking=Asking(temperature=None)).ask("1")
        assert "temperature" not in server.bodies[1]

    @pytest.mark.parametrize(
        "fault", ["drop", "garbage", "empty", "torn", "429", "500", "503", "408", "gzip"]
    )
    def test_what_may_pass_is_tried_again(self, server, fault):
        reply = client(server, f"once-{fault}").ask("2 + 3")
        assert (reply.text, reply.tries, reply.failed) == ("5", 2, "")

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("drop", "lost connection"),
            ("garbage", "no JSON"),
            ("empty", "without choices"),
            ("torn", "lost connection"),
            ("429", "HTTP 429"),
            ("500", "HTTP 500"),
        ],
    )
    def test_what_does_not_pass_is_a_failure_with_its_reason(self, server, fault, message):
        reply = client(server, f"always-{fault}").ask("2 + 3")
        assert message in reply.failed
        assert "after 4 tries" in reply.failed
        assert len(server.bodies) == reply.tries == 4

    def test_a_question_that_is_refused_is_not_asked_again(self, server):
        reply = client(server, "always-400").ask("2 + 3")
        assert reply.failed == "HTTP 400: no [31m None"  # no escape reaches a terminal
        assert len(server.bodies) == 1

    @pytest.mark.parametrize("fault", ["stall", "drip"])
    def test_the_time_holds_for_silence_and_for_dripping(self, server, fault):
        server.stall = 30
        asking = Asking(timeout=0.3, retries=1)
        started = time.monotonic()
        reply = client(server, f"always-{fault}", asking=asking).ask("1")
        assert "in 0.3 s" in reply.failed
        assert time.monotonic() - started < 10

    def test_a_huge_answer_is_not_read(self, server):
        assert "over 8 MiB" in client(server, "always-huge").ask("1").failed

    def test_an_address_without_a_server_is_reported(self):
        with Server() as stopped:
            model = model_at(stopped, "good")
        reply = Client(model, Asking(retries=1), sleep=lambda s: None).ask("1")
        assert reply.failed == "no connection, after 2 tries"

    def test_waits_double_and_are_spread(self, server):
        slept = []
        asking = Asking(timeout=5, retries=8)
        asker = client(server, "always-500", asking=asking, slept=slept)
        asker.draw = lambda: 1.0
        asker.ask("1")
        assert slept == [0.5, 1, 2, 4, 8, 16, 30, 30]
        slept.clear()
        asker.draw = lambda: 0.0
        asker.ask("1")
        assert slept[:3] == [0.25, 0.5, 1]

    def test_retry_after_is_kept_to_and_a_long_one_is_a_failure(self, server):
        slept = []
        asker = client(server, "once-429", slept=slept)
        asker.draw = lambda: 0.0
        assert asker.ask("2 + 3").text == "5"
        assert slept == [0.25]  # asked for 0.01 s: never less than a first pause
        reply = client(server, "always-patience").ask("1")
        assert reply.failed == "HTTP 429: no [31m None, and asks to wait 86400 s"
        assert endpoint._wait("7") == 7
        assert endpoint._wait("Thu, 01 Jan 1970 00:00:00 GMT") == 0
        assert endpoint._wait("soon") is endpoint._wait("inf") is endpoint._wait(None) is None

    def test_the_newer_name_of_the_limit_is_learned(self, server):
        asker = client(server, "new")
        assert [asker.ask("1 + 1").text, asker.ask("2 + 2").text] == ["2", "4"]
        assert ["max_tokens" in body for body in server.bodies] == [True, False, False]

    @pytest.mark.parametrize("status", ["401", "403", "404"])
    def test_a_refusal_of_all_questions_ends_the_run(self, server, status):
        with pytest.raises(Refused, match=status) as error:
            client(server, f"always-{status}", KEY).ask("1")
        assert KEY not in str(error.value)
        assert len(server.bodies) == 1

    @pytest.mark.parametrize("fault", ["error400", "error404"])
    def test_a_key_across_the_cut_of_a_message_stays_hidden(self, server, fault):
        for before in range(endpoint.LONG - len(KEY) - 2, endpoint.LONG + 1):
            server.message = "x" * before + KEY + " is wrong"
            try:
                message = client(server, fault, KEY).ask("1").failed
            except Refused as error:
                message = str(error)
            assert KEY[:4] not in message

    @pytest.mark.parametrize("location", ["http://[bad", "http://u:hush@h.example/x?hush", ""])
    def test_a_redirect_of_any_kind_is_refused_without_its_secrets(self, server, location):
        server.redirect = location
        with pytest.raises(Refused, match=r"redirects \(3\d\d\), which is not followed") as error:
            client(server, "always-redirect").ask("1")
        assert "hush" not in str(error.value)

    def test_a_redirect_is_not_followed(self, server):
        with Server() as other:
            server.redirect = other.url
            with pytest.raises(Refused, match="redirects"):
                client(server, "always-redirect", KEY).ask("1")
            assert not other.bodies

    def test_a_netrc_does_not_replace_the_key(self, server, tmp_path, monkeypatch):
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        asker = client(server, "good", KEY)
        asker.session.trust_env = True  # as for another machine
        asker.ask("1")
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


class TestAddressesAndKeys:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
            ("https://a.example/v1/", "https://a.example/v1/chat/completions"),
            ("https://A.example/x/chat/completions", "https://a.example/x/chat/completions"),
        ],
    )
    def test_an_address_is_completed(self, url, address):
        assert models.address(url) == address

    @pytest.mark.parametrize(
        "url", ["ftp://a.example", "https://", "a.example/v1", "https://a b.example/", "http://[x"]
    )
    def test_what_is_no_address_is_refused(self, url):
        with pytest.raises(ValueError, match="an endpoint is an address such as"):
            models.address(url)

    def test_an_address_of_another_kind_is_named_and_no_model(self):
        with pytest.raises(ValueError, match=r"^ftp://h\.example: an endpoint is an") as error:
            models.parse(["a@http://h.example", "b@ftp://u:hush@H.example/x?hush"])
        assert "hush" not in str(error.value)

    def test_secrets_in_an_address_are_refused_and_not_repeated(self):
        for url in ("https://u:hush@a.example/v1", "https://a.example/v1?key=hush"):
            with pytest.raises(ValueError, match="a key belongs in the environment") as error:
                models.address(url)
            assert "hush" not in str(error.value)

    def test_where_a_model_is(self):
        local, remote = models.parse(["a@local", "org/b@http://h.example/v2"])
        assert (local.url, str(local)) == (None, "a")
        assert (remote.name, remote.host) == ("org/b", "h.example")
        assert str(remote) == "org/b@h.example/v2"
        assert remote.place == "http://h.example/v2/chat/completions"
        assert str(models.Model("b", models.address("http://h.example"))) == "b@h.example"
        assert (
            models.Model("b", f"http://u:hush@h.example{CALL}").place == f"http://h.example{CALL}"
        )
        local, remote = models.parse(["a@local", "b"], "http://localhost:1/v1")
        assert (local.name, local.url, remote.host) == ("a", None, "localhost:1")

    @pytest.mark.parametrize(
        "names",
        [
            ["a@http://h.example/v1", "a@http://h.example/v2"],
            ["a@http://h.example", "a@https://h.example"],
            ["a@https://h.example", "a@https://h.example:444"],
            ["a@http://h.example/chat/completions", "a@http://h.example"],
            ["a@http://h.example/v2", "a@local"],
        ],
    )
    def test_two_models_never_have_one_name_or_one_identity(self, names):
        pair = models.parse(names)
        assert len(set(models.labels(pair))) == 2
        assert len({model.place for model in pair}) == 2

    @pytest.mark.parametrize(
        ("names", "options", "message"),
        [
            (["a"], {}, "needs --model twice, got it 1 times"),
            (["a", "a"], {}, "the two models are the same"),
            (["a@http://h.example", "a"], {"endpoint": "http://h.example/v1"}, "the same"),
            (["a", " "], {}, "has no name"),
            (["a@local", "b@local"], {"endpoint": "http://localhost"}, "both models are local"),
            (["a@http://h.example", "b"], {"key_names": ["THE_KEY"]}, "travel unencrypted"),
            (
                ["a@https://h.example", "b@https://i.example"],
                {"key_names": ["THE_KEY"]},
                "say which key goes to which",
            ),
            (["a@https://h.example", "b"], {"key_names": ["NO_KEY"]}, "NO_KEY is not set"),
            (["a@https://h.example", "b"], {"key_names": ["BAD_KEY"]}, "cannot have"),
            (["a", "b"], {"key_names": ["A"] * 3}, "once for each model"),
        ],
    )
    def test_bad_pairs_are_refused(self, monkeypatch, names, options, message):
        monkeypatch.setenv("THE_KEY", KEY)
        monkeypatch.setenv("BAD_KEY", f"{KEY}\n{KEY}")
        with pytest.raises(ValueError, match=message) as error:
            models.parse(names, **options)
        assert KEY not in str(error.value)

    def test_a_key_typed_as_the_name_of_one_is_not_repeated(self):
        with pytest.raises(ValueError, match="it is not set") as error:
            models.parse(["a@https://h.example", "b"], key_names=[KEY])
        assert KEY not in str(error.value)

    def test_each_host_gets_its_own_key(self, monkeypatch):
        monkeypatch.setenv("ONE", "1"), monkeypatch.setenv("TWO", "2")
        names = ["a@https://h.example", "b@https://i.example"]
        for variables, keys in ((["ONE", "TWO"], ["1", "2"]), (["none", "TWO"], [None, "2"])):
            assert [model.key for model in models.parse(names, key_names=variables)] == keys
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with pytest.raises(ValueError, match="which key goes to which"):
            models.parse(names)
        remote, local = models.parse([names[0], "b@local"])
        assert (remote.key, local.key) == (KEY, None)
        assert KEY not in repr(remote) + str(remote)

    def test_insecure_and_this_machine_may_have_a_key_over_http(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        for url in ("http://localhost:1", "http://127.0.0.9/v1", "http://[::1]:2/v1"):
            assert models.parse([f"a@{url}", "b"])[0].key == KEY
        assert models.parse(["a@http://h.example", "b"], insecure=True)[0].key == KEY


class TestTheCommand:
    def test_figures_are_those_of_a_hand_count(self, sizewise, server, task, tmp_path):
        # Sums 4, 6, ..., 26: four of the twelve are divisible by 3, and `weak` says 7 to them.
        output = sizewise(*argv(server, task), "--price-a", "1,10", "--price-b", "0,2", "--json")
        assert (output.code, output.err) == (0, "")
        result = json.loads(output.out)
        a, b = result["models"]
        assert (a["score"]["value"], b["score"]["value"]) == (1, pytest.approx(8 / 12))
        assert (a["answered"], b["answered"], a["failed"], b["failed"]) == (12, 12, [], [])
        assert a["dollars_per_thousand_requests"] == pytest.approx(0.07)  # 20 and 5 tokens
        assert b["dollars_per_thousand_requests"] == pytest.approx(0.01)
        assert result["difference"]["only_a"] == 4
        assert result["difference"]["p_exact"] == pytest.approx(2 * 0.5**4)
        assert result["difference"]["value"] == pytest.approx(4 / 12)
        assert result["file"] == str(tmp_path / "my.compare.jsonl")
        assert len(rows(tmp_path / "my.compare.jsonl")) == 24

    def test_the_page_names_what_a_reader_needs(self, sizewise, server, task):
        output = sizewise(*argv(server, task, "good", "weak"))
        assert output.code == 0
        for text in (
            "items scored differently",
            "q1 ",
            "7",
            "requests answered",
            "12 of 12",
            "66.7 (",
            "not measured",
            "dollars a thousand requests",
            "95th percentile",
            "McNemar p = ",
            "Verdict: ",
            "my.compare.jsonl",
        ):
            assert text in output.out, text

    def test_one_model_under_two_names_is_doubted(self, sizewise, server, task):
        code, out, _ = sizewise(*argv(server, task, "loaded-a", "loaded-b"))
        assert code == 0
        assert "the endpoint says that the-only answered for both" in " ".join(out.split())
        code, out, _ = sizewise(*argv(server, task, "loaded-a", "good"))
        assert "answered for both" not in out

    def test_two_paths_on_one_port_are_two_endpoints(self, sizewise, server, task, tmp_path):
        base = server.url.removesuffix("/v1")
        pair = ("--model", f"path@{base}/one/v1", "--model", f"path@{base}/two")
        output = sizewise("compare", "--task", task, *pair, "--json")
        result = json.loads(output.out)
        assert [model["score"]["value"] for model in result["models"]] == [1, 0]
        assert result["answers"][0]["answers"] == ["4", "5"]
        assert len(server.bodies) == 24
        answers = rows(tmp_path / "my.compare.jsonl")
        assert {row["endpoint"] for row in answers} == {
            f"{base}{path}/chat/completions" for path in ("/one/v1", "/two")
        }
        place = base.removeprefix("http://")
        assert result["verdict"].startswith(
            f"path@{place}/one/v1 scores 100.0 points above path@{place}/two "
        )
        output = sizewise("compare", "--task", task, *pair)
        assert len(server.bodies) == 24
        page = "".join(output.out.split())
        assert f"path@{place}/one/v1" in page
        assert f"path@{place}/two" in page

    def test_through_a_storm_every_item_is_answered_or_named(self, sizewise, server, task):
        options = ("--timeout", "0.5", "--retries", "2", "--repeats", "2", "--json")
        server.stall = 2
        output = sizewise(*argv(server, task, "drops", "good"), *options)
        result = json.loads(output.out)
        a, b = result["models"]
        assert a["answered"] + len(a["failed"]) == b["answered"] == 24
        assert output.code == (1 if a["failed"] else 0)
        named = {(failure["item"], failure["repeat"]) for failure in a["failed"]}
        assert len(named) == len(a["failed"])
        assert all(failure["reason"] for failure in a["failed"])
        assert server.request_count("drops") > 24

    def test_what_failed_is_named_and_asked_again(self, sizewise, server, task):
        output = sizewise(*argv(server, task, "always-500", "good"), "--retries", "0")
        assert output.code == 1
        assert output.out.count("not answered by A: q") == 1  # a line a reason
        assert "q0, q1, q10 and 9 more" in output.out or "and 9 more: HTTP 500" in output.out
        assert "scored differently" not in output.out  # nothing that both answered
        assert "undecidable" in output.out
        sizewise(*argv(server, task, "always-500", "good"), "--retries", "0")
        assert server.request_count("always-500") == 24
        assert server.request_count("good") == 12

    def test_a_second_run_asks_nothing(self, sizewise, server, task):
        first = sizewise(*argv(server, task), "--json")
        second = sizewise(*argv(server, task), "--json", "--score", "exact")
        assert len(server.bodies) == 24
        assert json.loads(first.out) == json.loads(second.out)
        sizewise(*argv(server, task), "--most", "9")  # other settings are another question
        assert len(server.bodies) == 48

    def test_repeats_measure_how_reliable_an_answer_is(self, sizewise, server, task):
        options = ("--repeats", "3", "--concurrency", "1", "--json")
        output = sizewise(*argv(server, task, "good", "fickle"), *options)
        a, b = json.loads(output.out)["models"]
        assert (a["answered"], a["reliability"]) == (36, 1)
        # 12 items: an item's repeats are all even or all odd requests; the odd are right.
        assert b["reliability"] == pytest.approx(0.5)
        assert b["score"]["value"] == pytest.approx(0.5)

    def test_a_refusal_is_one_line_and_keeps_what_is_there(self, sizewise, server, task, tmp_path):
        output = sizewise(*argv(server, task, "good", "always-401"))
        assert (output.code, output.out) == (2, "")
        assert output.err.count("\n") == 1
        assert "no valid key" in output.err
        assert len(rows(tmp_path / "my.compare.jsonl")) == 12

    def test_the_key_is_nowhere_but_at_the_endpoint(
        self, sizewise, server, task, tmp_path, monkeypatch, caplog
    ):
        caplog.set_level(0)
        monkeypatch.setenv("THE_KEY", KEY)
        options = ("--retries", "1", "--key-env", "THE_KEY")
        for b in ("always-500", "always-400", "always-401", "always-404", "once-drop", "echo"):
            output = sizewise(*argv(server, task, "good", b, *options))
            assert KEY not in output.out + output.err + caplog.text
        args = argv(server, task, "good", "echo", *options, "--json", "--most", "9")
        process = run_python("-m", "sizewise", *args)
        assert process.returncode == 0
        assert "your key is Bearer [key]" in process.stdout
        assert KEY not in process.stdout + process.stderr
        assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert tmp_path / "my.compare.jsonl" in files
        assert all(KEY.encode() not in file.read_bytes() for file in files)

    def test_a_run_that_was_killed_ends_like_an_unbroken_one(
        self, sizewise, server, task, tmp_path
    ):
        unbroken, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
        sizewise(*argv(server, task), "--output", unbroken)
        before, server.pause = len(server.bodies), 0.1
        args = map(str, (*argv(server, task), "--output", broken, "--concurrency", "1"))
        run = subprocess.Popen([sys.executable, "-m", "sizewise", *args])
        until = time.monotonic() + 60
        while time.monotonic() < until and (
            not broken.exists() or broken.read_bytes().count(b"\n") < 4
        ):
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        complete = broken.read_bytes().count(b"\n")
        assert 4 <= complete < 24
        with broken.open("a") as out:
            out.write('{"id": "0123", "text": "half a li')
        server.pause = 0
        output = sizewise(*argv(server, task), "--output", broken)
        assert output.code == 0
        assert contents(broken) == contents(unbroken)
        assert len(rows(broken)) == 24
        assert len(server.bodies) - before <= 24 + 2  # the killed one's last may be asked again

    def test_ctrl_c_keeps_what_is_there(self, server, task, tmp_path):
        server.pause = 0.1
        file = tmp_path / "my.compare.jsonl"
        # A shell that starts these tests in the background has its children ignore the signal.
        listening = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from sizewise.cli.main import main; main()"
        )
        run = subprocess.Popen(
            [sys.executable, "-c", listening, *map(str, argv(server, task))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until = time.monotonic() + 60
        while time.monotonic() < until and (not file.exists() or not file.stat().st_size):
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=30)
        assert (run.returncode, out) == (130, "")
        assert "the same command goes on" in err
        assert err.count("\n") == 1
        assert rows(file)


def test_two_runs_do_not_write_to_one_file(server, task, tmp_path):
    pytest.importorskip("fcntl")
    with (
        run.Answers(tmp_path / "one.jsonl"),
        pytest.raises(ValueError, match="another run"),
        run.Answers(tmp_path / "one.jsonl"),
    ):
        pytest.fail("it was opened")


@pytest.mark.parametrize("name", ["folder", "folder/letter/x", "pipe", "l" * 300])
def test_an_output_that_cannot_be_one_is_one_line(sizewise, server, task, tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").write_text("a letter")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    output = sizewise(*argv(server, task), "--output", tmp_path / name)
    assert (output.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert str(tmp_path / name) in output.err
    assert not server.bodies


def test_a_disk_that_fails_is_one_line(sizewise, server, task, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    output = sizewise(*argv(server, task))
    assert (output.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert "my.compare.jsonl: cannot be written (No space left" in output.err


@pytest.mark.skipif(os.name != "posix", reason="modes of files are those of POSIX")
def test_answers_are_for_their_owner_alone(sizewise, server, task, tmp_path):
    before = os.umask(0)
    try:
        sizewise(*argv(server, task))
    finally:
        os.umask(before)
    assert (tmp_path / "my.compare.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["item", "repeat", "prompt_tokens", "answer_tokens", "seconds"])
def test_a_row_that_lacks_a_column_is_none_of_ours(sizewise, server, task, tmp_path, name):
    file = tmp_path / "my.compare.jsonl"
    sizewise(*argv(server, task))
    first, *others = rows(file)
    del first[name]
    file.write_text("\n".join(map(json.dumps, [first, *others])) + "\n")
    output = sizewise(*argv(server, task))
    assert (output.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert "rows that are no answers" in output.err


def test_a_file_of_another_program_is_left_as_it_was(sizewise, server, task, tmp_path):
    for content in ("a letter", '{"a": 1}\n', '["x"]\n', "no\njson\n"):
        (tmp_path / "other").write_text(content)
        output = sizewise(*argv(server, task), "--output", tmp_path / "other")
        assert output.code == 2
        assert output.err.count("\n") == 1
        assert (tmp_path / "other").read_text() == content
    assert not server.bodies


def listens(process, port):
    """Wait until a server answers at a port."""
    until = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    pytest.fail(f"the server does not listen (exit code {process.poll()})")


@pytest.mark.slow
@pytest.mark.peer("fastapi", "uvicorn", "openai", "pydantic")
def test_the_server_of_transformers_is_an_endpoint(tmp_path, sizewise):
    """`transformers serve` with a tiny model at random: what it says is what the model says."""
    from test_compare import tiny

    folder = tiny(tmp_path / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    args = ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = (tmp_path / "log").open("w+")
    serving = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=log,
        stderr=log,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    try:
        listens(serving, port)
        url = f"http://127.0.0.1:{port}/v1"
        file = sums(tmp_path / "my.jsonl", 3)
        asking = Asking(max_tokens=6, timeout=60, retries=8)
        remote = models.Model(str(folder), models.address(url))
        local = models.Model(str(folder))
        settings = run.Settings(asking, concurrency=1)
        answers, plans = run.ask_all(
            (remote, local), tasks.read(file), settings, tmp_path / "answers.jsonl"
        )
        texts = [[answers.row(step.config)["text"] for step in plan] for plan in plans]
        failed = [row["failed"] for row in answers.rows.values()]
        log.flush()
        assert failed == [""] * 6, (tmp_path / "log").read_text()[-2000:]
        assert texts[0] == texts[1]
        assert all(texts[1])
    finally:
        serving.terminate()
        serving.wait()
