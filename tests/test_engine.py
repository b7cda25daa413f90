"""Sweeps: what is interrupted goes on, what is killed is tried again, rows come once."""

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sizewise import paths
from sizewise.data import records
from sizewise.experiments import engine, progress, workers

CONFIGS = [{"size": size, "seed": seed} for size in (1, 2, 3) for seed in (0, 1)]

# Functions that workers import: a test module is no place for them.
MEASURES = """
    import os, signal, time
    from pathlib import Path

    def square(config):
        time.sleep(0.02)
        return {"square": config["size"] ** 2 + config["seed"], "pid": os.getpid()}

    def steady(config):
        time.sleep(0.02)
        return {"square": config["size"] ** 2 + config["seed"]}

    def fails(config):
        if config["size"] == 2:
            raise ValueError("no size of two")
        return {"square": 1}

    def dies(config):
        mark = Path(config["folder"], f"{config['size']}")
        died = len(list(mark.parent.glob(f"{mark.name}.*")))
        if died < config["times"]:
            mark.with_suffix(f".{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"died": died}

    def environment(config):
        names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SIZEWISE_COMMIT")
        time.sleep(0.2)
        return {name: os.environ.get(name) for name in names} | {"pid": os.getpid()}
"""
SWEEP = """
    import sys
    from pathlib import Path
    from measures_of_test import steady
    from sizewise.experiments import engine

    if __name__ == "__main__":
        configs = [{"size": size, "seed": seed} for size in range(8) for seed in range(3)]
        workers = int(sys.argv[2])
        engine.run_all(steady, configs, Path(sys.argv[1]), workers=workers)
"""


@pytest.fixture
def measures(tmp_path, monkeypatch):
    (tmp_path / "measures_of_test.py").write_text(textwrap.dedent(MEASURES))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    sys.modules.pop("measures_of_test", None)
    import measures_of_test

    yield measures_of_test
    sys.modules.pop("measures_of_test", None)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "rows.jsonl"


def results(rows):
    return {
        row["id"]: {k: v for k, v in row.items() if k not in ("from", "pid", "seal")}
        for row in rows
    }


@pytest.mark.parametrize(("backend", "number"), [("here", 1), ("process", 2)])
def test_every_run_has_one_row_with_its_provenance(measures, file, backend, number):
    rows = engine.run_all(measures.square, CONFIGS, file, workers=number, backend=backend)
    assert sorted((r["size"], r["seed"], r["square"]) for r in rows) == sorted(
        (c["size"], c["seed"], c["size"] ** 2 + c["seed"]) for c in CONFIGS
    )
    assert rows == records.read(file)
    assert all(row["from"]["seed"] == row["seed"] for row in rows)
    assert all(set(records.PROVENANCE) <= row["from"].keys() for row in rows)
    inside = {row["pid"] == os.getpid() for row in rows}
    assert inside == {backend == "here"}


def test_what_has_a_row_is_not_run_again(measures, file):
    first = engine.run_all(measures.square, CONFIGS[:2], file, workers=1)
    rows = engine.run_all(measures.square, CONFIGS, file, workers=1)
    assert rows[:2] == first
    assert len(records.read(file)) == len(CONFIGS)


@pytest.mark.parametrize("number", [1, 2])
def test_a_run_that_raises_is_reported_and_the_others_have_rows(measures, file, number):
    with pytest.raises(RuntimeError, match=r"2 of 6 runs failed.*no size of two"):
        engine.run_all(measures.fails, CONFIGS, file, workers=number)
    assert sorted(row["size"] for row in records.read(file)) == [1, 1, 3, 3]


def test_a_killed_worker_is_replaced_and_its_run_tried_again(measures, file, tmp_path):
    configs = [{"size": n, "times": n % 3, "folder": str(tmp_path)} for n in range(4)]
    rows = engine.run_all(measures.dies, configs, file, workers=2, retries=2)
    assert {row["size"]: row["died"] for row in rows} == {0: 0, 1: 1, 2: 2, 3: 0}


def test_workers_that_keep_dying_are_given_up_after_the_retries(measures, file, tmp_path):
    configs = [{"size": n, "times": 9 * (n == 1), "folder": str(tmp_path)} for n in range(3)]
    with pytest.raises(RuntimeError, match=r"1 of 3 runs failed.*died 2 times \(exit code -9\)"):
        engine.run_all(measures.dies, configs, file, workers=2, backend="process", retries=1)
    assert sorted(row["size"] for row in records.read(file)) == [0, 2]


@pytest.mark.parametrize("number", [1, 2])
def test_a_sweep_killed_at_random_moments_ends_with_the_rows_of_an_unbroken_one(
    measures, file, tmp_path, number
):
    script = tmp_path / "sweep.py"
    script.write_text(textwrap.dedent(SWEEP))
    command = [sys.executable, str(script), str(file), str(number)]
    chance, killed, counts = random.Random(number), 0, []  # noqa: S311 - moments, no secrets
    while killed < 5:
        sweep = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before = len(records.read(file))
        while len(records.read(file)) == before and sweep.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.06))
        if sweep.poll() is not None:
            break
        sweep.send_signal(signal.SIGKILL)
        sweep.wait()
        killed += 1
        counts.append(len(records.read(file)))
    assert killed == 5, f"the sweep was over after {counts}"
    assert counts[0] < 24, "the first kill came too late to break anything"
    with file.open("a") as torn:  # and what a kill in the middle of a write leaves
        torn.write('{"id": "5d41')
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    expected = engine.run_all(
        measures.steady,
        [{"size": size, "seed": seed} for size in range(8) for seed in range(3)],
        tmp_path / "unbroken.jsonl",
        workers=1,
    )
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 24
    assert results(rows) == results(expected)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_when_their_parent_is_killed(measures, tmp_path):
    script = tmp_path / "long.py"
    script.write_text(
        textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        from sizewise.experiments import engine

        def sleeps(config):
            Path(sys.argv[1], f"pid-{os.getpid()}").touch()
            time.sleep(60)

        if __name__ == "__main__":
            configs = [{"n": 1}, {"n": 2}]
            engine.run_all(sleeps, configs, Path(sys.argv[1], "rows.jsonl"), workers=2)
    """)
    )
    sweep = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    until = time.monotonic() + 30
    while len(list(tmp_path.glob("pid-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    pids = [int(mark.name[4:]) for mark in tmp_path.glob("pid-*")]
    assert len(pids) == 2
    sweep.kill()
    sweep.wait()
    until = time.monotonic() + 10
    while any(_runs(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_each_worker_has_its_gpu_and_its_share_of_the_cores(measures, file, monkeypatch):
    monkeypatch.setattr(workers, "visible_gpus", lambda: ["3", "GPU-7"])
    monkeypatch.setattr(workers, "cores", lambda: 8)
    configs = [{"n": n} for n in range(8)]
    rows = engine.run_all(measures.environment, configs, file, per_gpu=2)
    gpus = {row["pid"]: row["CUDA_VISIBLE_DEVICES"] for row in rows}
    assert sorted(gpus.values()) == ["3", "3", "GPU-7", "GPU-7"]
    assert {row["OMP_NUM_THREADS"] for row in rows} == {"2"}
    commits = {row["SIZEWISE_COMMIT"].removesuffix("-dirty") for row in rows}
    assert commits == {rows[0]["from"]["commit"]}
    assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "2"


@pytest.mark.parametrize(("value", "gpus"), [("", []), ("-1", []), ("1,GPU-a", ["1", "GPU-a"])])
def test_gpus_are_those_that_the_environment_leaves(monkeypatch, value, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert workers.visible_gpus() == gpus


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "rey"}, "unknown backend 'rey'; did you mean 'ray'"),
        ({"workers": 0}, "the number of workers must be from 1"),
        ({"retries": -1}, "the retries must be from 0"),
    ],
)
def test_bad_options_are_refused_in_one_line(file, options, message):
    with pytest.raises(ValueError, match=message) as refused:
        engine.run_all(dict, CONFIGS, file, **options)
    assert "\n" not in str(refused.value)


def test_the_same_run_twice_is_refused(file):
    with pytest.raises(ValueError, match="the same run twice"):
        engine.run_all(dict, [{"n": 1}, {"n": 2}, {"n": 1}], file, workers=1)


def test_time_left_goes_by_cost_and_not_by_number(monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    runs = [{"cost": 1.0}, {"cost": 4.0}]
    bar = progress.Progress(runs, lambda run: run["cost"])
    bar.spent = 1.0
    assert bar.seconds_left() == pytest.approx(40.0)


def test_logs_have_a_line_a_run_with_its_distinct_settings(measures, file, capsys):
    engine.run_all(measures.steady, CONFIGS[:2], file, workers=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1] == "[2 of 2, 0:00:00 left] seed 1: square 2"


@pytest.mark.parametrize(("dirty", "lines"), [(True, 3), (False, 2)])
def test_rows_that_would_be_refused_are_announced(
    measures, tmp_path, monkeypatch, capsys, dirty, lines
):
    monkeypatch.setattr(records, "_commit", lambda: ("0" * 40, dirty))
    monkeypatch.setattr(records, "path", lambda stem: tmp_path / f"{stem}.jsonl")
    engine.run_all(measures.steady, CONFIGS[:2], tmp_path / "book.jsonl", workers=1)
    engine.run_all(measures.steady, CONFIGS[:2], tmp_path / "book.jsonl", workers=1)
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == lines
    assert ("commit them first" in printed[0]) is dirty


def test_a_long_list_does_not_fill_the_log(capsys):
    bar = progress.Progress([{"n": 1}])
    bar.done({"n": 1}, {"n": 1, "right": [1] * 500, "share": 0.25})
    line = capsys.readouterr().err
    assert len(line) < 130
    assert ": right [1, 1, " in line
    assert line.endswith("...  share 0.25\n")


def test_ray_is_asked_for_by_name_where_it_is_missing(measures, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"Ray is not installed: pip install"):
        engine.run_all(measures.square, CONFIGS, file, backend="ray")


def test_a_cluster_that_cannot_be_reached_is_one_line(measures, file, monkeypatch):
    def init(**options):
        addresses.append(options["address"])
        raise ConnectionError("no\nanswer")

    addresses = []
    ray = SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.9:1")
    with pytest.raises(ValueError, match=r"^Ray at 127\.0\.0\.9:1 cannot be reached: no answer$"):
        engine.run_all(measures.square, CONFIGS, file)
    assert addresses == ["127.0.0.9:1"]


@pytest.mark.ray
def test_ray_gives_the_rows_that_one_process_gives(measures, file, tmp_path):
    rows = engine.run_all(measures.square, CONFIGS, file, workers=2, backend="ray")
    local = engine.run_all(measures.square, CONFIGS, tmp_path / "here.jsonl", workers=1)
    assert results(rows) == results(local)
    assert os.getpid() not in {row["pid"] for row in rows}
    assert {row["from"]["commit"] for row in rows} == {local[0]["from"]["commit"]}


@pytest.mark.ray
def test_ray_tries_a_run_again_whose_worker_died(measures, file, tmp_path):
    configs = [{"size": n, "times": n, "folder": str(tmp_path)} for n in range(2)]
    rows = engine.run_all(measures.dies, configs, file, workers=2, backend="ray")
    assert {row["size"]: row["died"] for row in rows} == {0: 0, 1: 1}


@pytest.mark.ray
def test_ray_runs_that_raise_or_keep_dying_are_reported(measures, file, tmp_path):
    with pytest.raises(RuntimeError, match=r"2 of 6 runs failed.*no size of two"):
        engine.run_all(measures.fails, CONFIGS, file, workers=2, backend="ray")
    configs = [{"size": 1, "times": 9, "folder": str(tmp_path)}]
    with pytest.raises(RuntimeError, match="1 of 1 runs failed"):
        engine.run_all(measures.dies, configs, file, workers=1, backend="ray", retries=1)


NODE_SWEEP = """
    import os, sys, time
    from pathlib import Path
    from sizewise.experiments import engine

    folder = Path(sys.argv[1])

    def marked(config):  # Ray carries a function of the script itself to its workers
        (folder / f"{os.environ['NODE']}-{config['n']}").touch()
        time.sleep(1)
        return {"square": config["n"] ** 2}

    if __name__ == "__main__":
        engine.run_all(marked, [{"n": n} for n in range(8)], folder / "rows.jsonl")
"""


@pytest.fixture
def two_nodes(tmp_path):
    """A Ray cluster of two nodes on loopback addresses: (environment, the second node).

    Its ports are open to all who reach this machine, so that it asks for a token.
    """
    started = []
    environment = os.environ | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        address = f"127.0.0.2:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short:  # paths of sockets

        def node(ip, *options):
            command = [
                sys.executable,
                "-m",
                "ray.scripts.scripts",
                "start",
                "--block",
                f"--node-ip-address={ip}",
                "--num-cpus=1",
                "--num-gpus=0",
                *options,
                "--object-store-memory=80000000",
                "--disable-usage-stats",
            ]
            log = (tmp_path / f"{ip}.log").open("w")
            process = subprocess.Popen(
                command, env=environment | {"NODE": ip}, stdout=log, stderr=subprocess.STDOUT
            )
            started.append(process)
            until = time.monotonic() + 90
            while "runtime started" not in (tmp_path / f"{ip}.log").read_text():
                assert process.poll() is None, (tmp_path / f"{ip}.log").read_text()
                assert time.monotonic() < until, "the node did not start"
                time.sleep(0.1)
            return process

        try:
            node(
                "127.0.0.2",
                "--head",
                f"--port={address.split(':')[1]}",
                "--include-dashboard=false",
                f"--temp-dir={short}",
            )
            second = node("127.0.0.3", f"--address={address}")
            yield environment | {"RAY_ADDRESS": address}, second
        finally:
            for process in started:
                _kill_all(process)


def _kill_all(process) -> None:
    """Kill a process and those that it started, as the loss of a machine would."""
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()


def _square(config):
    return {"square": config["n"] ** 2}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="wants loopback addresses of its own")
def test_all_rows_arrive_from_two_nodes_of_which_one_is_killed_in_mid_run(two_nodes, tmp_path):
    environment, second = two_nodes
    script = tmp_path / "sweep.py"
    script.write_text(textwrap.dedent(NODE_SWEEP))
    book = str(paths.root() / "book")
    command = [sys.executable, str(script), str(tmp_path)]
    path = os.pathsep.join(filter(None, [book, environment.get("PYTHONPATH")]))
    sweep = subprocess.Popen(command, env=environment | {"PYTHONPATH": path})
    file = tmp_path / "rows.jsonl"
    until = time.monotonic() + 120
    while not list(tmp_path.glob("127.0.0.3-*")):
        assert sweep.poll() is None, "it was over before the second node had a run"
        assert time.monotonic() < until
        time.sleep(0.02)
    _kill_all(second)
    begun = {int(mark.name.split("-")[1]) for mark in tmp_path.glob("127.0.0.3-*")}
    had = {row["n"] for row in records.read(file)}
    assert begun - had, "the kill broke no run"
    assert sweep.wait(240) == 0
    rows = records.read(file)
    unbroken = tmp_path / "unbroken.jsonl"
    engine.run_all(_square, [{"n": n} for n in range(8)], unbroken, workers=1, backend="here")
    assert results(rows) == results(records.read(unbroken))
    assert len(rows) == 8
    repeated = {int(mark.name.split("-")[1]) for mark in tmp_path.glob("127.0.0.2-*")}
    assert begun - had <= repeated  # what was broken there ran once more here


def test_only_the_engine_knows_ray():
    book = paths.root() / "book" / "sizewise"
    knows = {f.name for f in book.rglob("*.py") if "import ray" in f.read_text()}
    assert knows == {"engine.py"}
