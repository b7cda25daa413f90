"""The sandbox: what code can do in it, what it cannot, and that nothing outlives it."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from sizewise.evaluation import sandbox

posix = pytest.mark.skipif(os.name != "posix", reason="limits of POSIX systems")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
spaces = pytest.mark.skipif(not sandbox._namespaces(), reason="no user namespaces here")


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("print('right')", "done"),
        ("", "done"),
        ("assert sum([1, 2]) == 3", "done"),
        ("assert sum([1, 2]) == 4", "failed"),
        ("def broken(:", "failed"),
        ("1 / 0", "failed"),
        ("raise KeyboardInterrupt", "failed"),
        ("def f(): f()\nf()", "failed"),
        ("input()", "failed"),
        ("import numpy", "failed"),  # no site-packages
        ("import sys; sys.exit(0)", "exited"),
        ("import sys; sys.exit(3)", "exited"),
        ("import os; os._exit(0)", "exited"),
        ("import os; os.close(2)", "exited"),  # it cannot report its end
        ("a\0b", "failed"),
    ],
)
def test_an_end_has_its_name(code, ended):
    assert sandbox.run(code).ended == ended


def test_output_and_errors_come_back():
    result = sandbox.run("import sys\nprint('naïve 東京')\nprint('aside', file=sys.stderr)")
    assert (result.ended, result.stdout, result.stderr) == ("done", "naïve 東京\n", "aside\n")
    assert result.seconds > 0
    assert sandbox.run("x = 1\nx.y").stderr.rstrip().endswith("no attribute 'y'")


def test_no_word_that_code_prints_makes_it_done():
    code = "import os\nos.write(2, b'\\n" + "0" * 32 + " done')\nos._exit(0)"
    assert sandbox.run(code).ended == "exited"


def test_code_is_the_main_module():
    code = (
        "import sys\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int' = 1\n"
        "assert __name__ == '__main__' and sys.modules['__main__'].A is A\n"
        "def later(): return helper()\ndef helper(): return 5\nassert later() == 5\n"
    )
    assert sandbox.run(code).ended == "done"


def test_sets_of_strings_have_one_order():
    code = "print([*{str(i) for i in range(50)}], hash('a'))"
    assert len({sandbox.run(code).stdout for _ in range(3)}) == 1


@pytest.mark.parametrize("code", ["while True: pass", "import time\ntime.sleep(60)"])
def test_a_loop_without_end_is_stopped(code):
    begun = time.perf_counter()
    assert sandbox.run(code, seconds=0.5).ended == "timeout"
    assert time.perf_counter() - begun < 30


def test_printing_forever_is_stopped_and_its_output_cut():
    result = sandbox.run("while True: print('a' * 1000)", seconds=0.5)
    assert result.ended == "timeout"
    assert len(result.stdout) == sandbox.MOST_OUTPUT


def test_a_long_error_output_keeps_its_end():
    result = sandbox.run("import sys\nfor i in range(9999): print(i, file=sys.stderr)\n1 / 0")
    assert result.ended == "failed"
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert len(result.stderr) <= sandbox.MOST_OUTPUT


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="its kernel does not limit the addresses")
@pytest.mark.parametrize("code", ["[0] * 10**9", "x = []\nwhile True: x.append(bytes(10**6))"])
def test_a_hog_of_memory_runs_out_of_it(code):
    assert sandbox.run(code, megabytes=256).ended == "memory"
    assert sandbox.run("bytes(10**8)", megabytes=256).ended == "done"


@posix
def test_a_file_grows_to_its_limit_and_no_further():
    code = (
        "import os\nf = open('big', 'wb', buffering=0)\n"
        "try:\n    while f.write(bytes(500)): pass\nexcept OSError as e: print(e.errno)\n"
        "print(os.path.getsize('big'))"
    )
    for files in (0, 1200):
        assert sandbox.run(code, files=files).stdout.split()[-1] == str(files)
    assert sandbox.run("open('a', 'w').write('x')\nprint(open('a').read())", files=10).stdout == (
        "x\n"
    )


def test_the_folder_is_empty_new_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import os\nprint(os.listdir(), os.getcwd())\nos.mkdir('left')"
    first, second = sandbox.run(code).stdout, sandbox.run(code).stdout
    assert first.startswith("[] ")
    assert first != second
    assert not list(tmp_path.iterdir())


def test_no_key_of_the_parent_is_in_the_environment(monkeypatch):
    monkeypatch.setenv("FAKE_API_KEY", "very-secret")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    result = sandbox.run("import os, sys\nprint(dict(os.environ), sys.path)")
    assert result.ended == "done"
    assert "FAKE" not in result.stdout
    assert "very-secret" not in result.stdout
    assert str(Path(__file__).parent) not in result.stdout


@linux
@spaces
def test_nor_can_the_environment_of_the_parent_be_read_around_the_back(monkeypatch):
    code = f"print(open('/proc/{os.getpid()}/environ').read())"
    assert Path(f"/proc/{os.getpid()}/environ").read_bytes()  # or the test shows nothing
    result = sandbox.run(code)
    assert result.ended == "failed"
    assert "FileNotFoundError" in result.stderr  # no other process is even seen


@pytest.mark.parametrize(
    "code",
    [
        "import os\nwhile True: os.fork()",
        "import os\nos.system('echo hello')",
        "import subprocess\nsubprocess.run(['/bin/echo', 'hello'])",
        "import os\nos.kill(os.getppid(), 0)",
        "import ctypes\nctypes.CDLL(None).fork()",
        "import _posixsubprocess\n_posixsubprocess.fork_exec(*range(23))",
        "import sys\ndel sys.modules['_posixsubprocess']\nimport _posixsubprocess",
        "import importlib, sys\ndel sys.modules['_posixsubprocess']\n"
        "importlib.import_module('_posixsubprocess').fork_exec()",
    ],
)
@posix
def test_new_processes_are_refused(code):
    result = sandbox.run(code)
    assert result.ended == "failed"
    assert "is refused here" in result.stderr
    assert "hello" not in result.stdout


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


CONNECT = "import socket\nsocket.socket().connect(('127.0.0.1', {}))"


def test_a_socket_is_refused_by_python_everywhere(server, monkeypatch):
    monkeypatch.setattr(sandbox, "_namespaces", lambda: ())
    socket.create_connection(("127.0.0.1", server), 5).close()  # it listens
    result = sandbox.run(CONNECT.format(server))
    assert result.ended == "failed"
    assert "socket.connect is refused here" in result.stderr


@spaces
def test_there_is_no_network_where_there_are_namespaces(server, monkeypatch):
    monkeypatch.setattr(sandbox, "REFUSED", ())
    result = sandbox.run(CONNECT.format(server))
    assert result.ended == "failed"
    assert "Network is unreachable" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces of Linux")
def test_without_namespaces_the_network_is_what_only_python_refuses(server, monkeypatch):
    """Shows that the test above is about the namespace, and that `missing` is right."""
    monkeypatch.setattr(sandbox, "REFUSED", ())
    monkeypatch.setattr(sandbox, "_namespaces", lambda: ())
    assert sandbox.run(CONNECT.format(server)).ended == "done"
    assert any("network" in text for text in sandbox.missing())


mounts = pytest.mark.skipif(
    sandbox._namespaces()[-2:] != sandbox.MOUNTS, reason="no mount namespaces here"
)


@mounts
def test_nothing_outside_its_folder_can_be_written_or_deleted(tmp_path):
    file = tmp_path / "kept.txt"
    file.write_text("kept")
    for code in (
        f"open({str(file)!r}, 'w')",
        f"import os\nos.remove({str(file)!r})",
        f"import shutil\nshutil.rmtree({str(tmp_path)!r})",
        "open('/tmp/left-by-a-sandbox', 'w')",
        "open('/dev/shm/left-by-a-sandbox', 'w')",
    ):
        result = sandbox.run(code, files=1000)
        assert result.ended == "failed"
        assert "Read-only file system" in result.stderr
    assert file.read_text() == "kept"
    inside = "open('a.txt', 'w').write('x')\nimport os\nos.mkdir('b')\nos.rename('a.txt', 'b/c')"
    assert sandbox.run(inside, files=1000).ended == "done"


@mounts
def test_what_is_read_only_cannot_be_made_writable_again():
    """With the right to mount, or by a library that is loaded again."""
    status = "print(open('/proc/self/status').read())"
    printed = sandbox.run(status).stdout
    assert re.search(r"^CapEff:\s+0+$", printed, re.M)
    assert re.search(r"^NoNewPrivs:\s+1$", printed, re.M)
    assert sandbox.run("import ctypes").ended == "failed"


def test_without_mounts_that_is_named(monkeypatch):
    monkeypatch.setattr(sandbox, "_namespaces", lambda: ("unshare", *sandbox.NAMESPACES))
    assert any("files outside its folder" in text for text in sandbox.missing())
    assert not any("network" in text for text in sandbox.missing())


def living(folder: Path) -> list[str]:
    """The processes whose folder is, or was, inside ``folder``."""
    names = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd").startswith(str(folder)):
                names.append(process.name)
        except OSError:
            continue
    return names


def gone(folder: Path, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while living(folder):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


CHILDREN = """
import os, time
for number in range(4):
    if os.fork() == 0:
        if number == 0 and {leave}:
            os.setsid()
        time.sleep(120)
        os._exit(0)
{then}
"""


@linux
@pytest.mark.parametrize("then", ["time.sleep(120)", "print('over')"])
@pytest.mark.parametrize("inside", [True, False])
def test_nothing_that_code_started_outlives_it(inside, then, tmp_path, monkeypatch):
    if inside and not sandbox._namespaces():
        pytest.skip("no user namespaces here")
    if not inside:
        monkeypatch.setattr(sandbox, "_namespaces", lambda: ())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # a child that leaves the group is only caught where processes have a namespace of their own
    code = CHILDREN.format(leave=inside, then=then)
    result = sandbox.run(code, seconds=1.0 if "sleep" in then else 20.0, processes=1 << 15)
    assert result.ended == ("timeout" if "sleep" in then else "done")
    assert gone(tmp_path)


@linux
def test_children_are_seen_while_they_live(tmp_path):
    """Or the test above would pass whatever happens."""
    child = subprocess.Popen(["/bin/sleep", "60"], cwd=tmp_path)
    try:
        assert living(tmp_path) == [str(child.pid)]
    finally:
        child.kill()
        child.wait()
    assert gone(tmp_path)


@linux
@pytest.mark.parametrize("inside", [True, False])
def test_it_ends_when_the_process_that_runs_it_is_killed(inside, tmp_path):
    code = "import time\ntime.sleep(120)"
    script = (
        "import sys, tempfile\n"
        "from sizewise.evaluation import sandbox\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        + ("" if inside else "sandbox._namespaces = lambda: ()\n")
        + f"sandbox.run({code!r}, seconds=100)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    until = time.monotonic() + 20
    while not living(tmp_path) and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    assert living(tmp_path)
    parent.kill()
    parent.wait()
    assert gone(tmp_path)


@linux
def test_a_crash_of_the_interpreter_is_reported(monkeypatch):
    monkeypatch.setattr(sandbox, "REFUSED", ())
    assert sandbox.run("import ctypes\nctypes.string_at(0)").ended == "killed"
    monkeypatch.setattr(sandbox, "_namespaces", lambda: ())
    assert sandbox.run("import ctypes\nctypes.string_at(0)").ended == "killed"


def test_what_is_not_in_force_is_named(monkeypatch):
    monkeypatch.setattr(sandbox, "_namespaces", lambda: ())
    assert any("network" in text for text in sandbox.missing())


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"seconds": 0}, "seconds"),
        ({"megabytes": 0.5}, "megabytes"),
        ({"files": -1}, "bytes"),
        ({"processes": 0}, "processes"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        sandbox.run("pass", **limits)
