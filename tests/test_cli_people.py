"""The command line as a person expects it: completion, colours, width, short JSON, a doctor."""

import json

import pytest
from conftest import run_python
from sizewise import __version__
from sizewise.cli import output


def completed(*args):
    """What the shell offers for the last word."""
    environment = {
        "_SIZEWISE_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("sizewise", *args)),
        "COMP_CWORD": str(len(args)),
    }
    return run_python("-m", "sizewise", **environment).stdout.split()


def test_tab_completes_commands_models_and_chapters():
    assert "compare" in completed("comp")
    assert {"llama-3.1-8b", "llama-3.1-70b"} <= set(completed("count", "llama-3.1"))
    assert completed("run", "small-v") == ["small-versus-large"]


def test_the_version_is_one_line(sizewise):
    assert sizewise("--version").out == f"{__version__}\n"


def test_json_of_a_count_has_no_line_a_layer_unless_asked(sizewise):
    short = sizewise("count", "gpt2", "--json").out
    assert len(short.splitlines()) < 40
    assert "layers" not in json.loads(short)[0]
    long = json.loads(sizewise("count", "gpt2", "--json", "--layers").out)[0]
    assert len(next(iter(long["layers"].values()))) == 12


def test_no_colour_where_none_is_wanted(monkeypatch):
    environment = {"NO_COLOR": "1", "FORCE_COLOR": "1", "COLUMNS": "80"}
    process = run_python("-m", "sizewise", "devices", **environment)
    assert process.returncode == 0
    assert "\x1b[3" not in process.stdout
    assert "H100" in process.stdout


@pytest.mark.parametrize("columns", ["0", "60", "80", "200"])
def test_no_word_of_a_table_is_folded(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    cells = ["qwen2.5-coder-1.5b-instruct", "meta-llama/Llama-3.1-405B-Instruct", "3,212,749,824"]
    rows = output.table("a title", "first model", "second", "parameters>")
    rows.add_row(*cells)
    rows.add_row(*reversed(cells))
    output.print_table(rows)
    printed = capsys.readouterr().out
    for cell in cells:
        assert printed.count(cell) == 2
    if columns == "200":
        assert max(map(len, printed.splitlines())) > 80


class TestDoctor:
    def test_it_names_what_is_here_and_shows_no_key(self, sizewise, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-hush")
        doctor = sizewise("doctor")
        assert doctor.code == 0
        assert "OPENAI_API_KEY" in doctor.out
        assert "hush" not in doctor.out
        assert f"sizewise            {__version__}"[:8] in doctor.out
        report = json.loads(sizewise("doctor", "--json").out)
        assert report["version"] == __version__
        assert report["packages"]["counting and sizing"]["torch"]
        assert report["cores"] >= 1

    def test_caches_are_counted_without_their_links(self, tmp_path):
        from sizewise.cli import doctor

        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "file").write_bytes(b"12345")
        (tmp_path / "link").symlink_to(tmp_path / "a" / "file")
        totals = doctor._usage(tmp_path)
        assert (totals["files"], totals["bytes"]) == (1, 5)
        assert doctor._usage(tmp_path / "none")["files"] == 0

    def test_it_imports_nothing_heavy(self):
        code = (
            "import sys; from sizewise.cli import doctor; doctor.examine(); "
            "print([m for m in ('torch', 'transformers', 'pandas') if m in sys.modules])"
        )
        process = run_python("-c", code)
        assert process.stdout.strip() == "[]"
