"""What a first-time reader needs: answers that can be read, words explained, a way to run it."""

import importlib
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import run_python
from sizewise import paths
from sizewise.chapters import claims, notebook
from sizewise.data import catalog

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
FRONT = (ROOT / "index.md").read_text(encoding="utf-8")
ANSWERS = (ROOT / "book" / "answers.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
CHAPTERS = {name: file for name, file in paths.chapters().items() if file.exists()}
GLUED = re.compile(r"\{glue:text\}`(?:\.\./)?chapters/([\w-]+)\.ipynb::([\w-]+):s`")


def prose(name):
    return ["".join(c["source"]) for c in _cells(name) if c["cell_type"] == "markdown"]


def _cells(name):
    return notebook.read(CHAPTERS[name])["cells"]


def glued(name):
    """The texts that a chapter's stored outputs hold for the prose, by name."""
    texts = {}
    for cell in _cells(name):
        for output in cell.get("outputs", []):
            key = output.get("metadata", {}).get("scrapbook", {}).get("name")
            text = output.get("data", {}).get("application/papermill.record/text/plain")
            if key and text:
                texts[key] = "".join(text).strip("'\"")
    return texts


def answers():
    """Every question's answer: chapter -> (title, text as the reader meets it)."""
    items = re.findall(
        r"\*\*\[(.+?)\]\(\.\./chapters/([\w-]+)\.ipynb\)\*\*[^\n]*\n([^\n]+)", ANSWERS
    )
    texts = {}
    for title, chapter, text in items:
        filled = GLUED.sub(lambda m: glued(m[1]).get(m[2], f"?{m[2]}?"), text)
        texts[chapter] = (title, re.sub(r"\{\w+\}`([^`<]+?)(?: <[^`]*>)?`", r"\1", filled))
    return texts


OVERVIEWS = {"five-findings", "catalogue"}  # they gather what other chapters ask
ANSWERED = [name for name in CHAPTERS if name not in OVERVIEWS]


class TestFrontPage:
    def test_every_chapter_has_an_answer_under_its_own_title(self):
        titles = {n: re.match(r"# (.+)", prose(n)[0])[1].strip() for n in ANSWERED}
        titles["ledger"] = "The ledger"
        assert {n: title for n, (title, _) in answers().items()} == titles

    def test_every_number_that_it_glues_is_there(self):
        assert [text for _, text in answers().values() if re.search(r"\?[\w-]+\?", text)] == []

    @pytest.mark.parametrize("chapter", ANSWERED)
    def test_an_answer_is_short(self, chapter):
        text = answers()[chapter][1]
        sentences = re.split(r"(?<=[a-z%\d)`.][.?!]) (?=[A-Z\d\"])", text)
        assert len(sentences) <= 3, sentences
        assert len(text.split()) <= 80

    def test_no_word_of_work_in_progress_is_left(self):
        assert not re.search(r"so far|waiting for|not yet", FRONT)

    def test_it_is_short_and_has_few_numbers(self):
        """What stands above the words on how the book is made: a picture and three doors."""
        above = FRONT[: FRONT.index("## How it is made")]
        text = re.sub(
            r"```\{raw\}.*?```|```\{(glue|calculator)\}.*?```|^:.*$", "", above, flags=re.S | re.M
        )
        assert len(text.split()) <= 350
        assert len(re.findall(r"\{glue:text\}|\b\d[\d,.]*\b", text)) <= 12
        assert "{glue} front_figure" in above
        assert "{calculator} fit" in above
        assert 'action="chapters/ledger.html"' in above


class TestReadme:
    TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

    def test_it_shows_what_the_command_prints(self):
        command, sample = re.search(r"```console\n\$ (.*?)\n(.*?)\n```", self.TEXT, re.S).groups()
        process = run_python("-m", *shlex.split(command), NO_COLOR="1", COLUMNS="80")
        lines = [line.rstrip() for line in process.stdout.splitlines() if line.strip()]
        days = re.compile(r"prices of \d{4}-\d\d-\d\d")  # of the day on which it is asked
        printed, stored = (days.sub("prices of a day", text) for text in ("\n".join(lines), sample))
        assert printed == stored

    def test_its_picture_is_of_the_rows_as_they_are(self, tmp_path):
        pictures = importlib.import_module("pictures")
        pictures.draw(tmp_path / "front.svg", pictures.README, 72)
        drawn, stored = (
            (folder / "front.svg").read_text(encoding="utf-8")
            for folder in (tmp_path, ROOT / "book" / "_static")
        )
        labels = [re.findall(r">([^<>\n]+)</text>", picture) for picture in (drawn, stored)]
        assert labels[0] == labels[1]
        assert len(labels[0]) > 8
        assert "front.svg" in self.TEXT


PAGES = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "book").glob("*.md"))
PRINTED = sorted(
    {
        command.rstrip()
        for text in [PAGES, *("\n".join(prose(name)) for name in CHAPTERS)]
        for command in re.findall(r"sizewise run [\w-]+ -p [^`\n]+", text)
    }
)


@pytest.mark.slow
@pytest.mark.parametrize("command", PRINTED)
def test_a_chapter_runs_with_the_parameters_that_the_text_prints(command, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(catalog.model("qwen3-8b").config))
    words = re.sub(r"path/to/config\.json|PATH", str(config), command)
    done = run_python("-m", *shlex.split(words), "--output", tmp_path / "runs")
    assert done.returncode == 0, done.stderr


class TestGlossary:
    TERMS = re.findall(r"^([^\s:#].*)\n  (\S.*)$", GLOSSARY, re.M)

    def test_it_is_in_the_order_of_the_alphabet(self):
        terms = [term for term, _ in self.TERMS]
        assert len(terms) == len(set(terms)) > 40
        assert terms == sorted(terms, key=str.casefold)

    @pytest.mark.parametrize(("term", "meaning"), TERMS)
    def test_a_definition_stands_alone(self, term, meaning):
        assert 20 < len(meaning) < 320
        assert meaning.endswith(".")
        assert not re.match(r"(It|Its|They|This|These|See)\b|.*\bafter it\b", meaning)

    @pytest.mark.parametrize("chapter", [n for n in CHAPTERS if n != "ledger"])
    def test_every_chapter_marks_terms_and_only_known_ones(self, chapter):
        known = {term.casefold() for term, _ in self.TERMS}
        marked = re.findall(r"\{term\}`(?:[^`<]+<)?([^`<>]+?)>?`", "\n".join(prose(chapter)))
        assert marked
        assert [term for term in marked if term.casefold() not in known] == []


def test_every_glued_number_is_used():
    pages = [FRONT, *(file.read_text(encoding="utf-8") for file in (ROOT / "book").glob("*.md"))]
    text = "\n".join([*pages, *("\n".join(prose(name)) for name in CHAPTERS)])
    used = set(re.findall(r"\{glue(?::\w+)?\}`(?:[^`]*::)?([\w-]+)(?::\w+)?`", text))
    used |= set(re.findall(r"```\{glue\} ([\w-]+)", text))
    assert [key for name in CHAPTERS for key in glued(name) if key not in used] == []


class TestExercises:
    @pytest.mark.parametrize("chapter", CHAPTERS)
    def test_every_exercise_has_an_executed_solution(self, chapter):
        labels = re.findall(r"\{exercise\}.*\n:label: (\S+)", "\n".join(prose(chapter)))
        solved, exercise = {}, None
        for cell in _cells(chapter):
            text = "".join(cell["source"])
            if cell["cell_type"] == "code":
                if exercise:
                    solved[exercise] = bool(cell["outputs"])
                continue
            for sign in re.findall(r"\{solution-start\} (\S+)|\{(solution-end)\}", text):
                exercise = sign[0] or None
        assert labels or chapter == "ledger"
        assert [label for label in labels if not solved.get(label)] == []


class TestElsewhere:
    LINES = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    OPTIONS = [line for line in LINES if line and not line.startswith("#")]  # noqa: RUF012

    def test_binder_installs_the_lock_the_project_and_the_cpu_build(self):
        index, lock, project = self.OPTIONS
        url = index.removeprefix("--extra-index-url ")
        assert url in (ROOT / "README.md").read_text(encoding="utf-8")
        assert url.endswith("/cpu")
        # pip reads -r from beside the file that names it, and -e from where it runs, the root
        assert (ROOT / ".binder" / lock.removeprefix("-r ")).resolve() == ROOT / "requirements.txt"
        assert project == "-e ."
        assert (ROOT / "pyproject.toml").is_file()

    def test_binder_takes_the_python_of_the_lock(self):
        version = (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip()
        assert version == "python-3.11"
        conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
        assert version.replace("-", "=") in conda["dependencies"]

    def test_binder_finds_no_file_that_it_would_take_first(self):
        names = {file.name for file in (ROOT / ".binder").iterdir()}
        assert names == {"requirements.txt", "runtime.txt"}

    def test_the_set_up_for_colab_names_what_a_chapter_needs(self):
        text = (ROOT / "book" / "how-to-read.md").read_text(encoding="utf-8")
        lines = re.search(r"```ipython\n(.*?)```", text, re.S)[1].splitlines()
        assert all(line[0] in "!%" and "&&" not in line for line in lines)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert f"git clone --depth 1 {project['urls']['Source']}" in lines[0]
        declared = " ".join(project["dependencies"])
        assert "myst-nb" in lines[1] or "myst-nb" in declared  # glues the numbers
        assert "SIZEWISE_HOME" in lines[2]


def test_an_article_records_what_is_known_of_its_source():
    for about in claims.articles().values():
        assert {*about} == {"title", "about", "dated", "references"}
        assert all(about.values())
