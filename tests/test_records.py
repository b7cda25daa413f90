"""Rows: written whole, found again after any interruption, and never without their origin."""

import json
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizewise.data import records

SOURCE = {
    "commit": "0" * 40,
    "dirty": False,
    "time": "2026-01-01T00:00:00+00:00",
    "command": "python scripts/some.py",
    "seed": 0,
    "machine": {"cpu": "any"},
    "versions": {"python": "3.11"},
}
CONFIGS = [{"n": n, "name": "é"} for n in range(5)]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "some.jsonl"


def sweep(file):
    """The rows of a sweep over CONFIGS, whatever was there when it began."""
    for config in records.missing(file, CONFIGS):
        records.append(file, config, {"square": config["n"] ** 2, "note": "naïve ü"}, SOURCE)
    return records.read(file)


class TestRows:
    def test_what_was_appended_is_read_in_order(self, file):
        rows = sweep(file)
        assert [row["n"] for row in rows] == [0, 1, 2, 3, 4]
        assert rows[3] == {
            "id": records.identity(CONFIGS[3]),
            "n": 3,
            "name": "é",
            "square": 9,
            "note": "naïve ü",
            "from": SOURCE,
        }
        assert file.read_text(encoding="utf-8").count("\n") == 5

    def test_no_file_means_no_rows_and_everything_missing(self, file):
        assert records.read(file) == []
        assert records.missing(file, CONFIGS) == CONFIGS

    def test_missing_leaves_out_what_is_there(self, file):
        records.append(file, CONFIGS[3], {"square": 9}, SOURCE)
        assert records.missing(file, CONFIGS) == [c for c in CONFIGS if c["n"] != 3]

    def test_a_stem_is_a_file_under_data(self, book):
        assert records.path("some") == book.root / "data" / "some.jsonl"
        assert records.read("some") == []
        records.append(records.path("some"), {"n": 1}, {"x": 2.5}, SOURCE)
        assert records.read("some")[0]["x"] == 2.5

    def test_a_table_has_the_origin_in_columns(self, file):
        sweep(file)
        table = records.table(file)
        assert list(table["n"]) == [0, 1, 2, 3, 4]
        assert set(table["from.commit"]) == {"0" * 40}


class TestIdentity:
    def test_it_is_the_same_on_every_machine(self):
        assert records.identity({"b": [1, 2], "a": "x"}) == "721ef82f2d6c0997"  # sha256sum

    @given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=6))
    def test_it_follows_from_the_configuration_and_not_from_its_order(self, config):
        turned = dict(reversed(config.items()))
        assert records.identity(config) == records.identity(turned)
        assert re.fullmatch("[0-9a-f]{16}", records.identity(config))
        assert records.identity(config | {"one more": 1}) != records.identity(config)

    def test_what_is_no_number_has_none(self):
        with pytest.raises(ValueError, match="not JSON compliant"):
            records.identity({"x": float("nan")})


class TestRefusals:
    def test_a_name_in_both_configuration_and_measurement(self, file):
        with pytest.raises(ValueError, match=r"^measured twice: n$"):
            records.append(file, {"n": 1}, {"n": 2}, SOURCE)

    @pytest.mark.parametrize("name", ["id", "from", "seal"])
    def test_a_name_that_every_row_has_of_itself(self, file, name):
        with pytest.raises(ValueError, match=f"^a row has its own {name}$"):
            records.append(file, {name: 1}, {"x": 2}, SOURCE)
        with pytest.raises(ValueError, match=f"^a row has its own {name}$"):
            records.append(file, {"n": 1}, {name: 2}, SOURCE)

    @pytest.mark.parametrize("field", records.PROVENANCE)
    def test_an_origin_without_one_of_its_fields(self, file, field):
        lacking = {name: value for name, value in SOURCE.items() if name != field}
        with pytest.raises(ValueError, match=f"^provenance lacks {field}$"):
            records.append(file, {"n": 1}, {"x": 2}, lacking)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("-inf")]])
    def test_a_measurement_that_is_not_finite(self, file, value):
        with pytest.raises(ValueError, match=r"^not finite, so no JSON: "):
            records.append(file, {"n": 1}, {"loss": value}, SOURCE)

    def test_a_refused_row_leaves_no_trace(self, file):
        with pytest.raises(ValueError, match="measured twice"):
            records.append(file, {"n": 1}, {"n": 2}, SOURCE)
        assert not file.exists()

    @pytest.mark.parametrize("line", ['{"n": 1', "[1]", "3", "nonsense", "\udcff"])
    def test_a_bad_line_in_the_middle_is_named(self, file, line):
        sweep(file)
        lines = file.read_bytes().split(b"\n")
        lines[2] = line.encode("utf-8", "surrogateescape")
        file.write_bytes(b"\n".join(lines))
        with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}:3: not "):
            records.read(file)


class TestInterruptions:
    def test_a_last_line_cut_anywhere_is_written_again_and_costs_no_other_row(self, file):
        unbroken = sweep(file)
        whole = file.read_bytes()
        last = whole.rstrip(b"\n").rfind(b"\n") + 1
        for cut in range(last, len(whole)):  # bytes, so also in the middle of a letter
            file.write_bytes(whole[:cut])
            missing = records.missing(file, CONFIGS)
            assert missing == ([] if cut == len(whole) - 1 else CONFIGS[4:])
            assert sweep(file) == unbroken
            if missing:
                assert file.read_bytes() == whole

    def test_a_row_after_one_that_lacks_only_its_newline_is_a_line_of_its_own(self, file):
        sweep(file)
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        records.append(file, {"n": 5}, {"square": 25}, SOURCE)
        assert file.read_bytes().startswith(whole)
        assert [row["n"] for row in records.read(file)] == [0, 1, 2, 3, 4, 5]

    SWEEP = """
import pathlib, sys
from sizewise.data import records
source = dict.fromkeys(records.PROVENANCE, "any")
file, number = pathlib.Path(sys.argv[1]), int(sys.argv[2])
with records.writing(file) as rows:
    for config in rows.missing([{"n": n} for n in range(number)]):
        rows.append(config, {"square": config["n"] ** 2, "text": "é" * 3000}, source)
"""

    def test_a_sweep_killed_again_and_again_ends_with_the_rows_of_an_unbroken_one(self, tmp_path):
        broken, unbroken, number = tmp_path / "broken.jsonl", tmp_path / "unbroken.jsonl", 400

        def started(file):
            return subprocess.Popen([sys.executable, "-c", self.SWEEP, str(file), str(number)])

        assert started(unbroken).wait() == 0
        size, kills = unbroken.stat().st_size, 0
        for share in (0.1, 0.3, 0.5, 0.7):
            running = started(broken)
            while running.poll() is None:
                if broken.exists() and broken.stat().st_size > share * size:
                    running.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.001)
            kills += running.wait() == -signal.SIGKILL
        assert kills >= 2
        assert broken.stat().st_size < size
        assert started(broken).wait() == 0
        assert records.read(broken) == records.read(unbroken)
        assert [row["n"] for row in records.read(broken)] == list(range(number))


def git(folder, *words):
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


class TestProvenance:
    @pytest.fixture
    def committed(self, book, monkeypatch):
        """A book in a git checkout with nothing left to commit."""
        monkeypatch.delenv("SIZEWISE_COMMIT", raising=False)
        git(book.root, "init", "--quiet")
        git(book.root, "add", ".")
        git(book.root, "commit", "--quiet", "--message", "all")
        return book

    def test_it_has_commit_time_command_seed_machine_and_versions(self, committed, monkeypatch):
        script = committed.root / "scripts" / "some.py"
        elsewhere = str(committed.root.parent / "elsewhere" / "rows.jsonl")
        monkeypatch.setattr(sys, "argv", [str(script), "--note", "two words", elsewhere])
        origin = records.provenance(seed=7)
        assert tuple(origin) == records.PROVENANCE
        assert origin["commit"] == git(committed.root, "rev-parse", "HEAD")
        assert origin["dirty"] is False
        assert origin["seed"] == 7
        assert origin["command"] == "python scripts/some.py --note 'two words' rows.jsonl"
        age = datetime.now(UTC) - datetime.fromisoformat(origin["time"])
        assert 0 <= age.total_seconds() < 60
        assert origin["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
        assert origin["versions"]["numpy"]
        assert origin["machine"]["cores"] >= 1
        assert origin["machine"]["memory_gb"] > 0
        assert {"cpu", "gpu", "driver", "system"} <= origin["machine"].keys()
        assert str(committed.root) not in json.dumps(origin)

    @pytest.mark.parametrize(
        ("changed", "dirty"),
        [
            ("data/some.jsonl", False),  # rows may have grown meanwhile
            ("chapters/some.ipynb", False),
            ("scripts/some.py", True),
            ("data/some.md", True),
            ("book/sizewise/module.py", True),
        ],
    )
    def test_only_rows_and_chapters_may_differ_from_the_commit(self, committed, changed, dirty):
        file = committed.root / changed
        file.parent.mkdir(exist_ok=True)
        file.write_text("changed\n")
        assert records.provenance()["dirty"] is dirty

    def test_without_git_the_commit_is_taken_from_the_environment(self, book, monkeypatch):
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(book.root.parent))
        monkeypatch.setenv("SIZEWISE_COMMIT", "abc123")
        origin = records.provenance()
        assert (origin["commit"], origin["dirty"]) == ("abc123", False)
        monkeypatch.setenv("SIZEWISE_COMMIT", "abc123-dirty")
        origin = records.provenance()
        assert (origin["commit"], origin["dirty"]) == ("abc123", True)

    def test_without_git_and_without_a_commit_there_is_no_row(self, book, monkeypatch):
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(book.root.parent))
        monkeypatch.delenv("SIZEWISE_COMMIT", raising=False)
        with pytest.raises(ValueError, match=r"^no git checkout here: .* SIZEWISE_COMMIT$"):
            records.provenance()

    def test_git_is_believed_before_the_environment(self, committed, monkeypatch):
        monkeypatch.setenv("SIZEWISE_COMMIT", "abc123")
        assert records.provenance()["commit"] == git(committed.root, "rev-parse", "HEAD")


def test_a_folder_that_is_no_book_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SIZEWISE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="holds no data/facts: set SIZEWISE_HOME"):
        records.path("some")


def test_facts_are_read_from_the_book_that_is_named(book):
    (book.root / "data" / "facts" / "some.yml").write_text("- {name: x, value: 3.8e+25}\n")
    (book.root / "data" / "facts" / "some.csv").write_text("a,b\n1,2\n")
    assert records.facts("some") == [{"name": "x", "value": 3.8e25}]
    assert records.facts_csv("some")["b"].tolist() == [2]


class TestWriting:
    """One process writes, and what cannot be written costs nothing."""

    def test_a_second_writer_is_refused_in_a_line_and_the_first_goes_on(self, file):
        with records.writing(file) as rows:
            rows.append({"n": 0}, {"x": 1}, SOURCE)
            with pytest.raises(ValueError, match=r"some\.jsonl: another run is writing to it$"):
                records.append(file, {"n": 9}, {"x": 1}, SOURCE)
            rows.append({"n": 1}, {"x": 1}, SOURCE)
        records.append(file, {"n": 2}, {"x": 1}, SOURCE)
        assert [row["n"] for row in records.read(file)] == [0, 1, 2]

    def test_a_run_that_has_a_row_gets_no_second_one(self, file):
        records.append(file, {"n": 0}, {"x": 1}, SOURCE)
        with pytest.raises(ValueError, match="this run has a row already"):
            records.append(file, {"n": 0}, {"x": 2}, SOURCE)
        assert len(records.read(file)) == 1

    TWICE = """
import pathlib, sys, time
from sizewise.data import records
source = dict.fromkeys(records.PROVENANCE, "any")
with records.writing(pathlib.Path(sys.argv[1])) as rows:
    print("open", flush=True)
    for config in rows.missing([{"n": n} for n in range(20)]):
        time.sleep(0.02)
        rows.append(config, {"square": config["n"] ** 2}, source)
"""

    def test_two_copies_on_one_file_record_each_run_once(self, file):
        def started():
            words = [sys.executable, "-c", self.TWICE, str(file)]
            return subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )

        first = started()
        assert first.stdout.readline() == "open\n"
        second = started()
        assert "another run is writing to it" in second.communicate()[1]
        assert second.returncode == 1
        assert first.wait() == 0
        assert [row["n"] for row in records.read(file)] == list(range(20))

    def test_a_full_disk_is_a_line_and_leaves_whole_rows(self, file, monkeypatch):
        records.append(file, {"n": 0}, {"x": 1}, SOURCE)
        before, write = file.read_bytes(), records.os.write
        monkeypatch.setattr(records.os, "write", lambda handle, line: write(handle, line[:20]))
        with pytest.raises(ValueError, match=r"cannot be written \(the disk is full\)$"):
            records.append(file, {"n": 1}, {"x": 1}, SOURCE)
        monkeypatch.undo()
        assert file.read_bytes() == before
        records.append(file, {"n": 1}, {"x": 1}, SOURCE)
        assert len(records.read(file)) == 2

    @pytest.mark.parametrize("place", ["/proc/sizewise/rows.jsonl", "/dev/null", "/dev/full/x"])
    def test_a_place_that_cannot_be_written_is_refused_before_the_work(self, place):
        refusal = pytest.raises(ValueError, match=r"cannot be written|no file that rows")
        with refusal as refused, records.writing(records.Path(place)):
            pytest.fail("the work began")
        assert len(str(refused.value).splitlines()) == 1

    def test_a_file_that_got_no_row_is_not_left_behind(self, file):
        with records.writing(file):
            assert file.exists()
        assert not file.exists()


class TestSeals:
    def test_a_row_that_was_changed_is_not_read(self, file):
        sweep(file)
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace('"square": 9', '"square": 8'), encoding="utf-8")
        with pytest.raises(ValueError, match=r"some\.jsonl:4: its seal does not fit"):
            records.read(file)
        file.write_text(text.replace('"n": 3', '"n": 7'), encoding="utf-8")
        with pytest.raises(ValueError, match=r"some\.jsonl:4: its id is .* its configuration has"):
            records.read(file)

    def test_the_id_is_made_again_from_the_columns_that_the_seal_counts(self, file):
        sweep(file)
        for _, row in records.numbered(file):
            config, measured = records.parts(row)
            assert records.identity(config) == row["id"]
            assert measured == {"square": row["n"] ** 2, "note": "naïve ü"}

    def test_a_column_cannot_pass_from_measurement_to_configuration(self):
        seal = records.seal({"a": 1}, {"b": 2}, SOURCE)
        assert seal["sha256"] != records.seal({"a": 1, "b": 2}, {}, SOURCE)["sha256"]
        assert seal == {"config": 1, "sha256": seal["sha256"]}

    def test_a_seal_is_the_same_on_every_machine(self):
        # printf '[{"a":1},{"b":2.5},{}]' | sha256sum
        expected = "7240e284896272a478901ca950b6a68ca2a0fc29a85d7c63d8acdaf0bcf9a690"
        assert records.seal({"a": 1}, {"b": 2.5}, {})["sha256"] == expected


def test_a_table_without_rows_names_the_script_that_records_them(book):
    with pytest.raises(ValueError, match=r"^some: no rows; record them with python scripts/some"):
        records.table("some")
