"""The command line as people and programs use it: results, JSON, and one line when refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_python
from sizewise.chapters import claims
from sizewise.cli import book as book_commands
from sizewise.cli import main
from sizewise.data import catalog
from sizewise.models import parameters

LLAMA = {
    "model_type": "llama",
    "vocab_size": 101,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 50,
    "bos_token_id": 128_000,  # beyond the vocabulary: transformers warns, a reader should not see
}
COMMANDS = [c.name or c.callback.__name__ for c in main.app.registered_commands]


@pytest.fixture
def config(tmp_path):
    def write(name="config.json", **changes):
        file = tmp_path / name
        file.write_text(json.dumps(LLAMA | changes))
        return file

    return write


def check_refusal(output, *parts, code=2):
    assert output.code == code
    assert output.out == ""
    assert output.err.startswith("sizewise: ")
    assert output.err.endswith("\n")
    assert len(output.err.splitlines()) == 1
    assert "Traceback" not in output.err
    for part in parts:
        assert part in output.err


class TestRefusals:
    @pytest.mark.parametrize(
        ("args", "parts"),
        [
            (["nosuch"], ["No such command 'nosuch'"]),
            (["--nosuch"], ["No such option", "--nosuch"]),
            (["count"], ["Missing argument", "MODEL"]),
            (["count", "gpt2", "--nosuch"], ["No such option", "--nosuch"]),
            (["count", "gpt-2"], ["unknown model 'gpt-2'; did you mean 'gpt2'?"]),
            (["count", "gpt-2", "--json"], ["unknown model 'gpt-2'; did you mean 'gpt2'?"]),
            (["count", "./nothing/here"], ["no such file: nothing/here"]),
            (["count", "nobody/no-such-model"], ["nobody/no-such-model: neither in the catalogue"]),
            (["count", "x" * 3000], ["unknown model 'xxx"]),
            (["models", "--family", "lama"], ["unknown family 'lama'; did you mean 'llama"]),
            (["models", "extra"], ["extra"]),
            (["devices", "extra"], ["extra"]),
            (["claims", "--chapter", "parametres"], ["did you mean 'parameters'?"]),
            (["claims", "--article", "S9"], ["unknown article 'S9'"]),
            (["run", "parametres"], ["unknown chapter 'parametres'; did you mean 'parameters'?"]),
            (
                ["run", "parameters", "-p", "modle=x"],
                ["parameters: unknown parameter 'modle'; did"],
            ),
            (["run", "parameters", "-p", "model=3"], ["model is str", "not 3"]),
            (["run", "parameters", "-p", "model"], ["-p takes name=value, not 'model'"]),
            (["run", "parameters", "-p", "=x"], ["-p takes name=value, not '=x'"]),
            (["run", "--jobs", "0"], ["--jobs"]),
            (["run", "--jobs", "many"], ["--jobs"]),
            (["run", "--in-place", "-p", "model=gpt2"], ["--in-place", "no -p"]),
            (["run", "--in-place", "--output", "x"], ["--in-place", "no --output"]),
            (["run", "parameters", "--output", "/dev/null/x"], ["/dev/null/x: cannot be written"]),
            (["memory", "gpt2", "--device", "H10"], ["unknown device 'H10'; did you mean 'H100'?"]),
            (["memory", "gpt2", "--context", "0"], ["context"]),
            (["memory", "gpt2", "--weights", "bf17"], ["did you mean 'bf16'?"]),
            (["roofline", "gpt-2"], ["unknown model 'gpt-2'; did you mean 'gpt2'?"]),
        ],
        ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
    )
    def test_bad_arguments_are_one_line_and_code_two(self, sizewise, args, parts):
        check_refusal(sizewise(*args), *parts)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"\xff\xfe\x00",
            b"[" * 100_000,
            b'{"model_type": "lama"}',
            b'{"model_type": "llama", "x": ' + b'{"a":' * 300 + b"1" + b"}" * 301,
            b'{"model_type": "llama", "num_hidden_layers": 99999999999999999999}',
            b'{"model_type": "llama", "num_hidden_layers": ' + b"9" * 5000 + b"}",
            b'{"model_type": "gemma3", "text_config": {"num_hidden_layers": 99999999999999999999}}',
            b'{"model_type": "llama", "hidden_size": -8}',
            b'{"model_type": "llama", "hidden_size": 0}',
            b'{"model_type": "llama", "hidden_size": "wide"}',
            b'{"model_type": "llama", "hidden_size": 33}',
        ],
        ids=lambda content: content.decode("latin-1")[:50],
    )
    def test_a_bad_configuration_is_one_line_that_names_it(self, sizewise, tmp_path, content):
        file = tmp_path / "config.json"
        file.write_bytes(content)
        check_refusal(sizewise("count", file), str(file))
        check_refusal(sizewise("count", tmp_path), str(tmp_path))

    def test_good_models_are_counted_beside_bad_ones(self, sizewise, config):
        broken = config("broken.json", hidden_size=-1)
        output = sizewise("count", "gpt2", broken, "nosuch", config(), "--json")
        assert output.code == 2
        assert [model["model_type"] for model in json.loads(output.out)] == ["gpt2", "llama"]
        lines = output.err.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith(f"sizewise: {broken}: hidden_size = -1")
        assert lines[1].startswith("sizewise: unknown model 'nosuch'")

    def test_no_command_is_the_help_and_no_empty_line(self, sizewise):
        output = sizewise()
        assert "Usage" in output.out
        assert output.err == ""

    def test_a_book_that_is_none_is_refused(self, sizewise, tmp_path, monkeypatch):
        monkeypatch.setenv("SIZEWISE_HOME", str(tmp_path))
        check_refusal(sizewise("claims"), "holds no data/facts")
        check_refusal(sizewise("run"), "holds no data/facts")


class TestCount:
    KEYS = ("model", "total", "active", "active_without_input_embedding", "embedding")

    def test_json_has_the_figures_of_the_library_in_the_order_of_the_names(self, sizewise, config):
        models = ["mixtral-8x7b", str(config()), "gpt2"]
        output = sizewise("count", *models, "--json")
        assert (output.code, output.err) == (0, "")
        rows = json.loads(output.out)
        assert [row["model"] for row in rows] == models
        for row, model in zip(rows, models, strict=True):
            expected = parameters.count(model)
            assert [row[key] for key in self.KEYS] == [getattr(expected, k) for k in self.KEYS]
        assert [key for key in rows[0] if key in self.KEYS] == list(self.KEYS)

    def test_one_model_is_shown_by_kind(self, sizewise):
        output = sizewise("count", "mixtral-8x7b")
        assert (output.code, output.err) == (0, "")
        count = parameters.count("mixtral-8x7b")
        for value in (count.total, count.active, count.non_embedding, *count.by_kind.values()):
            assert f"{value:,}" in output.out
        assert "8 experts, 2 of them for a token" in output.out

    def test_several_models_are_one_table(self, sizewise):
        lines = sizewise("count", "gpt2", "llama-3.1-8b").out.splitlines()
        rows = [line.split() for line in lines if re.match(r" *(gpt2|llama)", line)]
        assert rows == [
            ["gpt2", "124,439,808", "124,439,808", "124,439,808", "38,597,376"],
            ["llama-3.1-8b", "8,030,261,248", "8,030,261,248", "7,504,924,672", "525,336,576"],
        ]

    def test_a_path_with_brackets_is_shown_as_it_is(self, sizewise, tmp_path, monkeypatch):
        folder = tmp_path / "[bold]" / "a[/x] :smile:"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(LLAMA))
        monkeypatch.chdir(tmp_path)
        for args in (["count", "[bold]/a[/x] :smile:"], ["count", "[bold]/a[/x] :smile:", "gpt2"]):
            assert "[bold]/a[/x] :smile:" in sizewise(*args).out

    def test_code_that_a_configuration_names_is_not_used_and_reported(self, sizewise, config):
        file = config(auto_map={"AutoConfig": "evil.Config"})
        output = sizewise("count", file, "--json")
        assert (output.code, output.err) == (0, "")
        (count,) = json.loads(output.out)
        assert count["built_as"] == "LlamaForCausalLM"
        assert any("auto_map" in note for note in count["assumptions"])

    def test_unknown_active_parameters_are_null_and_reported_unknown(self, sizewise, tmp_path):
        file = tmp_path / "config.json"
        fields = {"model_type": "mixtral", "num_hidden_layers": 1, "num_experts_per_tok": 0}
        file.write_text(json.dumps(fields))
        assert json.loads(sizewise("count", file, "--json").out)[0]["active"] is None
        assert "not known" in sizewise("count", file).out


class TestLists:
    def test_models_are_the_catalogue(self, sizewise):
        models = json.loads(sizewise("models", "--json").out)
        assert [model["model"] for model in models] == list(catalog.models())
        table = sizewise("models").out
        assert all(name in table for name in catalog.models())

    def test_models_of_a_family(self, sizewise):
        models = json.loads(sizewise("models", "--family", "gpt-2", "--json").out)
        assert {model["family"] for model in models} == {"gpt-2"}
        assert len(models) == sum(e.family == "gpt-2" for e in catalog.models().values())

    def test_devices_are_the_catalogue(self, sizewise):
        devices = json.loads(sizewise("devices", "--json").out)
        assert [device["name"] for device in devices] == list(catalog.devices())
        assert devices[0]["memory_bytes"] == 80e9
        assert all(name in sizewise("devices").out for name in catalog.devices())

    def test_claims_are_all_there_with_a_verdict_or_a_reason(self, sizewise):
        rows = json.loads(sizewise("claims", "--json").out)
        assert [row["id"] for row in rows] == list(claims.ledger())
        for row in rows:
            assert {"id", "article", "chapter", "verdict", "reason"} <= row.keys()
            assert set(row["article"].split(", ")) <= claims.articles().keys()
            assert row["verdict"] in claims.VERDICTS or row["reason"]

    def test_claims_can_be_chosen(self, sizewise):
        rows = json.loads(sizewise("claims", "--json").out)
        of_article = json.loads(sizewise("claims", "--article", "S4", "--json").out)
        assert of_article == [row for row in rows if "S4" in row["article"]]
        of_chapter = json.loads(sizewise("claims", "--chapter", "parameters", "--json").out)
        assert of_chapter == [row for row in rows if row["chapter"] == "parameters"]
        failing = json.loads(sizewise("claims", "--verdict", "contradicted", "--json").out)
        assert failing == [row for row in rows if row["verdict"] == "contradicted"]
        assert failing
        waiting = json.loads(sizewise("claims", "--verdict", "waiting", "--json").out)
        assert waiting == [row for row in rows if not row["verdict"]]

    def test_the_table_of_claims_ends_with_the_totals(self, sizewise):
        last = sizewise("claims").out.splitlines()[-1]
        total = len(claims.ledger())
        assert last.startswith(f"{total} claims: ")
        assert sum(map(int, re.findall(r"\d+", last))) == 2 * total

    def test_the_version_is_that_of_the_library(self, sizewise):
        import sizewise as library

        assert sizewise("--version").out.strip() == library.__version__


class TestHelp:
    @pytest.mark.parametrize("option", ["--help", "-h"])
    def test_the_help_lists_every_command_with_what_it_does(self, sizewise, option):
        output = sizewise(option)
        assert (output.code, output.err) == (0, "")
        usual = {"count", "models", "devices", "run", "claims", "memory", "roofline"}
        assert usual <= set(COMMANDS)
        for name in COMMANDS:
            assert re.search(rf"\b{name} +\S+ \S+", output.out)
        assert "MODEL is a name of the catalogue" in " ".join(output.out.split())

    @pytest.mark.parametrize("command", COMMANDS)
    def test_the_help_of_a_command_lists_its_options_or_an_example(self, sizewise, command):
        output = sizewise(command, "--help")
        assert (output.code, output.err) == (0, "")
        assert len(re.findall(r"--[a-z-]{3,}", output.out)) >= 2
        if re.search(r"Arguments", output.out):  # without one, the name alone is an example
            assert re.search(rf"Examples?: sizewise {command} ", output.out)

    def test_no_help_and_no_list_waits_for_a_heavy_import(self):
        lists = [[name, "--json"] for name in ("models", "devices", "claims")]
        helps = [["--help"], *([name, "--help"] for name in COMMANDS)]
        code = f"""
import contextlib, io, sys
from sizewise.cli import main
heavy = "torch transformers pandas numpy scipy matplotlib papermill nbformat IPython".split()
for args in {[*helps, *lists, ["--version"], ["count", "nosuch"]]!r}:
    sys.argv = ["sizewise", *args]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main.main()
        except SystemExit:
            pass
    loaded = [name for name in heavy if name in sys.modules]
    assert not loaded, (args, loaded)
print("done")
"""
        process = run_python("-c", code)
        assert process.returncode == 0, process.stderr
        assert process.stdout == "done\n"


class TestRun:
    @pytest.fixture
    def small(self, book):
        book.chapter("first", ('model = "none"\nsize = 1', "parameters"), "print(model, size)")
        book.chapter("failing", "x = 1", "ok = 1\nraise KeyError('gone', '\\n')", "never = 1")
        return book

    @staticmethod
    def printed(file):
        cells = json.loads(Path(file).read_text())["cells"]
        return [line for c in cells for o in c["outputs"] for line in o.get("text", ())]

    def test_chapters_are_written_to_a_folder_and_a_failing_one_is_named(
        self, sizewise, small, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "config.json").write_text("{}")
        before = {f.name: f.read_bytes() for f in (small.root / "chapters").iterdir()}
        output = sizewise("run", "first", "-p", "model=./config.json", "-p", "size=2e3")
        assert output.code == 0
        assert re.fullmatch(r"first: \d+\.\d s -> _build/runs/first\.ipynb\n", output.out)
        assert self.printed(small.root / "_build/runs/first.ipynb") == [
            f"{tmp_path}/config.json 2000\n"  # a chapter runs in another folder
        ]
        output = sizewise("run", "--output", "here", "--jobs", "2")
        assert output.code == 1
        assert output.out.count("\n") == 1
        assert re.fullmatch(r"first: \d+\.\d s -> .*here/first\.ipynb\n", output.out)
        assert output.err.splitlines()[-1].startswith(
            "sizewise: failing: cell 2, line 2: KeyError: ('gone', "
        )
        assert "Traceback" not in output.err
        assert not (tmp_path / "here" / "failing.ipynb").exists()
        assert {f.name: f.read_bytes() for f in (small.root / "chapters").iterdir()} == before

    def test_in_place_a_second_run_leaves_what_is_unchanged(self, sizewise, small):
        assert sizewise("run", "first", "--in-place").code == 0
        assert self.printed(small.root / "chapters/first.ipynb") == ["none 1\n"]
        output = sizewise("run", "first", "--in-place")
        assert (output.code, output.out) == (0, "1 of 1 unchanged\n")
        assert output.err == "first: unchanged\n"

    def test_a_value_of_another_type_is_refused_before_anything_runs(self, sizewise, small):
        check_refusal(sizewise("run", "first", "-p", "size=large"), "first: size is int (1), not")
        check_refusal(sizewise("run", "-p", "model=x"), "failing: unknown parameter 'model'")

    def test_a_chapter_without_a_file_is_named(self, sizewise, small):
        (small.root / "chapters" / "failing.ipynb").unlink()
        check_refusal(sizewise("run"), "failing: in _toc.yml, but there is no ")

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("x=3", 3),
            ("x=-0.5", -0.5),
            ("x=1e13", 10**13),
            ("x=2.5E-3", 0.0025),
            ("x=true", True),
            ("x=[1, 2]", [1, 2]),
            ("x=gpt2", "gpt2"),
            ("x=a=b", "a=b"),
            ("x='3'", "3"),
            ("x=Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
            ("x=", ""),
            ("x=null", None),
            ("x={", "{"),
        ],
    )
    def test_values_are_what_they_look_like(self, argument, value):
        name, parsed = book_commands._parameter(argument)
        assert name == "x"
        assert parsed == value
        assert type(parsed) is type(value)


class TestProcesses:
    """What only a separate process can show."""

    def test_bad_input_is_one_line_whatever_the_library_would_print(self, config):
        bad = config("bad.json", num_hidden_layers=10**20)
        process = run_python("-m", "sizewise", "count", bad, config(), "--json")
        assert process.returncode == 2
        assert process.stderr.splitlines() == [
            f"sizewise: {bad}: num_hidden_layers = {10**20} is over 2,000"
        ]
        assert [model["model_type"] for model in json.loads(process.stdout)] == ["llama"]

    def test_the_command_is_installed(self):
        command = Path(sys.executable).with_name("sizewise")
        if not command.exists():
            pytest.skip("the library is not installed in this environment")
        process = subprocess.run([command, "--version"], capture_output=True, text=True)
        assert (process.returncode, process.stderr) == (0, "")

    def test_a_reader_of_the_output_may_leave(self):
        command = f"{sys.executable} -m sizewise models --json | head -n 1"
        process = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert process.stdout == "[\n"
        assert process.stderr == ""

    @pytest.mark.parametrize("words", ["--version", "models --json", "count gpt2"])
    def test_a_reader_that_has_left_is_no_failure(self, words):
        call = f"{sys.executable} -m sizewise {words} | true; exit ${{PIPESTATUS[0]}}"
        assert subprocess.run(["bash", "-c", call]).returncode == 0

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
    @pytest.mark.parametrize("command", ["models", "models --json", "doctor"])
    def test_a_full_disk_is_one_line(self, command):
        call = f"{sys.executable} -m sizewise {command} > /dev/full"
        process = subprocess.run(["bash", "-c", call], capture_output=True, text=True)
        assert process.returncode == 2
        assert process.stderr == "sizewise: the output: No space left on device\n"

    def test_two_runs_at_once_do_not_meet(self, book):
        book.chapter("first", "import time\ntime.sleep(2)")
        words = [sys.executable, "-m", "sizewise", "run", "--output"]
        environment = os.environ | {"SIZEWISE_HOME": str(book.root)}
        runs = [
            subprocess.Popen([*words, book.root / name], env=environment) for name in ("one", "two")
        ]
        assert [run.wait() for run in runs] == [0, 0]

    def test_a_book_may_be_named_by_a_path_from_here(self, book):
        book.chapter("first", "import sizewise.paths\nprint(sizewise.paths.root())")
        process = subprocess.run(
            [sys.executable, "-m", "sizewise", "run", "--output", "out"],
            cwd=book.root.parent,
            env=os.environ | {"SIZEWISE_HOME": book.root.name},
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        assert TestRun.printed(book.root.parent / "out" / "first.ipynb") == [f"{book.root}\n"]


class TestNames:
    """A file or a model may be called anything: its name is shown, never obeyed."""

    CONFIG = (
        '{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "vocab_size": 100, '
        '"num_hidden_layers": 2, "num_attention_heads": 4}'
    )

    @pytest.mark.parametrize("command", [["count"], ["memory"], ["count", "gpt2"]])
    def test_control_characters_of_a_file_are_shown_as_escapes(self, sizewise, tmp_path, command):
        file = tmp_path / "a\x1b]0;owned\x07\x1b[31m.json"
        file.write_text(self.CONFIG)
        output = sizewise(*command, file)
        assert output.code == 0
        assert "\x1b" not in output.out + output.err
        assert r"\x1b]0;owned\x07" in output.out.replace("\n", "")

    def test_so_are_those_of_a_name_that_is_none(self, sizewise):
        output = sizewise("count", "no\x1b[31m\x07such")
        assert (output.code, output.out) == (2, "")
        assert "\x1b" not in output.err
        assert r"\x1b[31m\x07such" in output.err
