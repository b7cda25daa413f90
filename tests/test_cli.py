"""The command line as people and programs use it: results, JSON, and one line when refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
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
COMMANDS = [one.name or one.callback.__name__ for one in main.app.registered_commands]


def really(*words, **more):
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sizewise", *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | more,
    )


@pytest.fixture
def config(tmp_path):
    def written(name="config.json", **fields):
        file = tmp_path / name
        file.write_text(json.dumps(LLAMA | fields))
        return file

    return written


def check_refusal(done, *words, code=2):
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("sizewise: ")
    assert done.err.endswith("\n")
    assert len(done.err.splitlines()) == 1
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "words"),
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
    def test_bad_words_are_one_line_and_code_two(self, sizewise, given, words):
        check_refusal(sizewise(*given), *words)

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
        done = sizewise("count", "gpt2", broken, "nosuch", config(), "--json")
        assert done.code == 2
        assert [one["model_type"] for one in json.loads(done.out)] == ["gpt2", "llama"]
        lines = done.err.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith(f"sizewise: {broken}: hidden_size = -1")
        assert lines[1].startswith("sizewise: unknown model 'nosuch'")

    def test_no_command_is_the_help_and_no_empty_line(self, sizewise):
        done = sizewise()
        assert "Usage" in done.out
        assert done.err == ""

    def test_a_book_that_is_none_is_refused(self, sizewise, tmp_path, monkeypatch):
        monkeypatch.setenv("SIZEWISE_HOME", str(tmp_path))
        check_refusal(sizewise("claims"), "holds no data/facts")
        check_refusal(sizewise("run"), "holds no data/facts")


class TestCount:
    KEYS = ("model", "total", "active", "active_without_input_embedding", "embedding")

    def test_json_has_the_figures_of_the_library_in_the_order_asked(self, sizewise, config):
        asked = ["mixtral-8x7b", str(config()), "gpt2"]
        done = sizewise("count", *asked, "--json")
        assert (done.code, done.err) == (0, "")
        found = json.loads(done.out)
        assert [one["model"] for one in found] == asked
        for one, model in zip(found, asked, strict=True):
            want = parameters.count(model)
            assert {key: one[key] for key in self.KEYS} == {k: getattr(want, k) for k in self.KEYS}
        assert [key for key in found[0] if key in self.KEYS] == list(self.KEYS)

    def test_one_model_is_shown_by_kind(self, sizewise):
        done = sizewise("count", "mixtral-8x7b")
        assert (done.code, done.err) == (0, "")
        one = parameters.count("mixtral-8x7b")
        for value in (one.total, one.active, one.non_embedding, *one.by_kind.values()):
            assert f"{value:,}" in done.out
        assert "8 experts, 2 of them for a token" in done.out

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
        for words in (["count", "[bold]/a[/x] :smile:"], ["count", "[bold]/a[/x] :smile:", "gpt2"]):
            assert "[bold]/a[/x] :smile:" in sizewise(*words).out

    def test_code_that_a_configuration_names_is_left_alone_and_said_so(self, sizewise, config):
        file = config(auto_map={"AutoConfig": "evil.Config"})
        done = sizewise("count", file, "--json")
        assert (done.code, done.err) == (0, "")
        (count,) = json.loads(done.out)
        assert count["built_as"] == "LlamaForCausalLM"
        assert any("auto_map" in note for note in count["assumptions"])

    def test_unknown_active_parameters_are_null_and_said_to_be_unknown(self, sizewise, tmp_path):
        file = tmp_path / "config.json"
        fields = {"model_type": "mixtral", "num_hidden_layers": 1, "num_experts_per_tok": 0}
        file.write_text(json.dumps(fields))
        assert json.loads(sizewise("count", file, "--json").out)[0]["active"] is None
        assert "not known" in sizewise("count", file).out


class TestLists:
    def test_models_are_the_catalogue(self, sizewise):
        found = json.loads(sizewise("models", "--json").out)
        assert [one["model"] for one in found] == list(catalog.models())
        table = sizewise("models").out
        assert all(name in table for name in catalog.models())

    def test_models_of_a_family(self, sizewise):
        found = json.loads(sizewise("models", "--family", "gpt-2", "--json").out)
        assert {one["family"] for one in found} == {"gpt-2"}
        assert len(found) == sum(e.family == "gpt-2" for e in catalog.models().values())

    def test_devices_are_the_catalogue(self, sizewise):
        found = json.loads(sizewise("devices", "--json").out)
        assert [one["name"] for one in found] == list(catalog.devices())
        assert found[0]["memory_bytes"] == 80e9
        assert all(name in sizewise("devices").out for name in catalog.devices())

    def test_claims_are_all_there_with_a_verdict_or_a_reason(self, sizewise):
        found = json.loads(sizewise("claims", "--json").out)
        assert [one["id"] for one in found] == list(claims.ledger())
        for one in found:
            assert {"id", "article", "chapter", "verdict", "reason"} <= one.keys()
            assert set(one["article"].split(", ")) <= claims.articles().keys()
            assert one["verdict"] in claims.VERDICTS or one["reason"]

    def test_claims_can_be_chosen(self, sizewise):
        everything = json.loads(sizewise("claims", "--json").out)
        of_s4 = json.loads(sizewise("claims", "--article", "S4", "--json").out)
        assert of_s4 == [one for one in everything if "S4" in one["article"]]
        owned = json.loads(sizewise("claims", "--chapter", "parameters", "--json").out)
        assert owned == [one for one in everything if one["chapter"] == "parameters"]
        failing = json.loads(sizewise("claims", "--verdict", "contradicted", "--json").out)
        assert failing == [one for one in everything if one["verdict"] == "contradicted"]
        assert failing
        waiting = json.loads(sizewise("claims", "--verdict", "waiting", "--json").out)
        assert waiting == [one for one in everything if not one["verdict"]]

    def test_the_table_of_claims_ends_with_the_totals(self, sizewise):
        last = sizewise("claims").out.splitlines()[-1]
        total = len(claims.ledger())
        assert last.startswith(f"{total} claims: ")
        assert sum(map(int, re.findall(r"\d+", last))) == 2 * total

    def test_the_version_is_that_of_the_library(self, sizewise):
        import sizewise as library

        assert sizewise("--version").out.strip() == library.__version__


class TestHelp:
    @pytest.mark.parametrize("asked", ["--help", "-h"])
    def test_the_help_lists_every_command_with_what_it_does(self, sizewise, asked):
        done = sizewise(asked)
        assert (done.code, done.err) == (0, "")
        usual = {"count", "models", "devices", "run", "claims", "memory", "roofline"}
        assert usual <= set(COMMANDS)
        for name in COMMANDS:
            assert re.search(rf"\b{name} +\S+ \S+", done.out)
        assert "MODEL is a name of the catalogue" in " ".join(done.out.split())

    @pytest.mark.parametrize("command", COMMANDS)
    def test_the_help_of_a_command_tells_its_options_or_an_example(self, sizewise, command):
        done = sizewise(command, "--help")
        assert (done.code, done.err) == (0, "")
        assert len(re.findall(r"--[a-z-]{3,}", done.out)) >= 2
        if re.search(r"Arguments", done.out):  # without one, the name alone is an example
            assert re.search(rf"Examples?: sizewise {command} ", done.out)

    def test_no_help_and_no_list_waits_for_a_heavy_import(self):
        lists = [[name, "--json"] for name in ("models", "devices", "claims")]
        helps = [["--help"], *([name, "--help"] for name in COMMANDS)]
        words = f"""
import contextlib, io, sys
from sizewise.cli import main
heavy = "torch transformers pandas numpy scipy matplotlib papermill nbformat IPython".split()
for words in {[*helps, *lists, ["--version"], ["count", "nosuch"]]!r}:
    sys.argv = ["sizewise", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main.main()
        except SystemExit:
            pass
    found = [name for name in heavy if name in sys.modules]
    assert not found, (words, found)
print("done")
"""
        done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "done\n"


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
        done = sizewise("run", "first", "-p", "model=./config.json", "-p", "size=2e3")
        assert done.code == 0
        assert re.fullmatch(r"first: \d+\.\d s -> _build/runs/first\.ipynb\n", done.out)
        assert self.printed(small.root / "_build/runs/first.ipynb") == [
            f"{tmp_path}/config.json 2000\n"  # a chapter runs in another folder
        ]
        done = sizewise("run", "--output", "here", "--jobs", "2")
        assert done.code == 1
        assert done.out.count("\n") == 1
        assert re.fullmatch(r"first: \d+\.\d s -> .*here/first\.ipynb\n", done.out)
        assert done.err.splitlines()[-1].startswith(
            "sizewise: failing: cell 2, line 2: KeyError: ('gone', "
        )
        assert "Traceback" not in done.err
        assert not (tmp_path / "here" / "failing.ipynb").exists()
        assert {f.name: f.read_bytes() for f in (small.root / "chapters").iterdir()} == before

    def test_in_place_a_second_run_leaves_what_is_unchanged(self, sizewise, small):
        assert sizewise("run", "first", "--in-place").code == 0
        assert self.printed(small.root / "chapters/first.ipynb") == ["none 1\n"]
        done = sizewise("run", "first", "--in-place")
        assert (done.code, done.out) == (0, "1 of 1 unchanged\n")
        assert done.err == "first: unchanged\n"

    def test_a_value_of_another_type_is_refused_before_anything_runs(self, sizewise, small):
        check_refusal(sizewise("run", "first", "-p", "size=large"), "first: size is int (1), not")
        check_refusal(sizewise("run", "-p", "model=x"), "failing: unknown parameter 'model'")

    def test_a_chapter_without_a_file_is_named(self, sizewise, small):
        (small.root / "chapters" / "failing.ipynb").unlink()
        check_refusal(sizewise("run"), "failing: in _toc.yml, but there is no ")

    @pytest.mark.parametrize(
        ("words", "value"),
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
    def test_values_are_what_they_look_like(self, words, value):
        name, read = book_commands._parameter(words)
        assert name == "x"
        assert read == value
        assert type(read) is type(value)


class TestProcesses:
    """What only a process of its own can show."""

    def test_bad_input_is_one_line_whatever_the_library_would_print(self, config):
        bad = config("bad.json", num_hidden_layers=10**20)
        done = really("count", bad, config(), "--json")
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            f"sizewise: {bad}: num_hidden_layers = {10**20} is over 2,000"
        ]
        assert [one["model_type"] for one in json.loads(done.stdout)] == ["llama"]

    def test_the_command_is_installed(self):
        command = Path(sys.executable).with_name("sizewise")
        if not command.exists():
            pytest.skip("the library is not installed in this environment")
        done = subprocess.run([command, "--version"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_reader_of_the_output_may_leave(self):
        words = f"{sys.executable} -m sizewise models --json | head -n 1"
        done = subprocess.run(["bash", "-c", words], capture_output=True, text=True)
        assert done.stdout == "[\n"
        assert done.stderr == ""

    @pytest.mark.parametrize("words", ["--version", "models --json", "count gpt2"])
    def test_a_reader_that_has_left_is_no_failure(self, words):
        call = f"{sys.executable} -m sizewise {words} | true; exit ${{PIPESTATUS[0]}}"
        assert subprocess.run(["bash", "-c", call]).returncode == 0

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
    @pytest.mark.parametrize("words", ["models", "models --json", "doctor"])
    def test_a_full_disk_is_one_line(self, words):
        call = f"{sys.executable} -m sizewise {words} > /dev/full"
        done = subprocess.run(["bash", "-c", call], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr == "sizewise: the output: No space left on device\n"

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
        done = subprocess.run(
            [sys.executable, "-m", "sizewise", "run", "--output", "out"],
            cwd=book.root.parent,
            env=os.environ | {"SIZEWISE_HOME": book.root.name},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
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
        done = sizewise(*command, file)
        assert done.code == 0
        assert "\x1b" not in done.out + done.err
        assert r"\x1b]0;owned\x07" in done.out.replace("\n", "")

    def test_so_are_those_of_a_name_that_is_none(self, sizewise):
        done = sizewise("count", "no\x1b[31m\x07such")
        assert (done.code, done.out) == (2, "")
        assert "\x1b" not in done.err
        assert r"\x1b[31m\x07such" in done.err
