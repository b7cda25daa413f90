"""Recorded rows, published facts, chapters: each says where it comes from, and nothing is typed."""

import csv
import json
import re
import subprocess
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
import yaml
from sizewise import paths
from sizewise.chapters import claims, notebook
from sizewise.data import catalog, verify

ROOT = paths.root()
DATA = ROOT / "data"
FACTS = DATA / "facts"
README = (FACTS / "README.md").read_text(encoding="utf-8")
REFERENCES = re.findall(
    r"^@\w+\{([^,\s]+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.M
)


def loaded(name):
    return yaml.safe_load((FACTS / name).read_text(encoding="utf-8"))


# ------------------------------------------------------------------ recorded rows

STEMS = sorted(file.stem for file in DATA.glob("*.jsonl"))


def test_rows_are_as_they_were_recorded():
    """Ids, seals, provenance, commits, times, units: `tests/test_verify.py` shows what it sees."""
    faults = [fault for fault in verify.faults() if "manifest" not in fault]
    assert faults == []


@pytest.mark.parametrize("stem", STEMS)
def test_the_description_says_how_to_record_rows_again(stem):
    text = (DATA / f"{stem}.md").read_text(encoding="utf-8")
    assert f"python scripts/{stem}.py" in " ".join(text.split())


def test_every_data_file_has_a_description():
    files = {file for file in DATA.iterdir() if file.is_file() and file.suffix != ".md"}
    assert {file.name for file in files if not file.with_suffix(".md").exists()} == set()
    assert {file.suffix for file in files} <= {".jsonl", ".yml", ".json"}


# ------------------------------------------------------------------ published facts

LISTS = [f.name for f in sorted(FACTS.glob("*.yml")) if isinstance(loaded(f.name), list)]
CITED = [name for name in LISTS if name not in ("article_figures.yml", "price_list.yml")]


@pytest.mark.parametrize("name", LISTS)
def test_no_note_ends_at_its_first_comma(name):
    """Unquoted between braces, what follows the comma is read as an empty entry of its own."""

    def entries(node):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in pairs:
            yield key, value
            if isinstance(value, (dict, list)):
                yield from entries(value)

    assert [k for k, v in entries(loaded(name)) if v is None and " " in str(k)] == []


def allowed_words(name):
    """What ``checked`` may say in a file, by the README's table."""
    table = re.findall(r"^\| `([\w ]+)` \| (models|the other files|all) \|", README, re.M)
    scope = "models" if name == "models.yml" else "the other files"
    return {word for word, used_in in table if used_in in (scope, "all")}


def entry_figures(entry):
    """The amounts inside an entry, each with what it inherits from the entry."""
    above = {key: entry[key] for key in ("source", "checked") if key in entry}
    for name, amount in entry.get("figures", {}).items():
        yield f"{entry['name']}.{name}", above | amount


class TestFacts:
    @pytest.mark.parametrize("name", CITED)
    def test_every_entry_is_cited_and_says_how_far_it_was_checked(self, name):
        allowed = allowed_words(name)
        assert len(allowed) >= 3
        for entry in loaded(name):
            inside = list(entry_figures(entry)) or [(entry["name"], entry)]
            for label, figure in inside:
                assert figure["source"] in REFERENCES, label
                assert figure["checked"] in allowed, label

    @pytest.mark.parametrize("name", LISTS)
    def test_names_are_unique(self, name):
        names = Counter(entry["name"] for entry in loaded(name))
        assert [name for name, times in names.items() if times > 1] == []

    @pytest.mark.parametrize("name", LISTS)
    def test_amounts_are_numbers_with_a_unit(self, name):
        for entry in loaded(name):
            amounts = list(entry_figures(entry))
            if {"value", "low"} & entry.keys():
                amounts.append((entry["name"], entry))
            for label, amount in amounts:
                assert amount["unit"], label
                values = [amount[k] for k in ("value", "low", "high") if k in amount]
                assert values, label
                assert all(type(value) in (int, float) for value in values), label
                assert ("low" in amount) == ("high" in amount), label
                assert "low" not in amount or amount["low"] < amount["high"], label

    @pytest.mark.parametrize("name", LISTS)
    def test_no_power_of_ten_is_read_as_a_word(self, name):
        text = (FACTS / name).read_text(encoding="utf-8")
        bad = [
            number
            for number in re.findall(r"[:\[,] (\d[\d.]*e[-+]?\d+)", text)
            if isinstance(yaml.safe_load(number), str)
        ]
        assert bad == []

    @pytest.mark.parametrize("file", sorted(FACTS.glob("*.yml")), ids=lambda file: file.name)
    def test_every_file_says_as_of_when(self, file):
        first = file.read_text(encoding="utf-8").split("\n", 1)[0]
        assert re.fullmatch(r"# as_of: \d{4}-\d\d-\d\d", first)
        assert date.fromisoformat(first.removeprefix("# as_of: ")) >= date(2026, 11, 1)

    def test_an_entry_is_no_newer_than_its_file(self):
        for name in LISTS:
            day = (FACTS / name).read_text(encoding="utf-8").split("\n", 1)[0][-10:]
            for entry in loaded(name):
                assert str(entry.get("as_of", day)) <= day, entry["name"]

    def test_figures_of_the_articles_name_their_article(self):
        for entry in loaded("article_figures.yml"):
            assert entry["article"] in claims.articles(), entry["name"]
            assert entry["status"] in ("rumour", "statement", "published"), entry["name"]

    def test_texts_are_pinned_to_their_bytes(self):
        for package in loaded("texts.yml")["packages"] if (FACTS / "texts.yml").exists() else ():
            assert re.fullmatch("[0-9a-f]{64}", package["sha256"]), package["name"]
            assert package["version"] in package["source"], package["name"]
            assert package["licence"], package["name"]

    @pytest.mark.parametrize("file", sorted(FACTS.iterdir()), ids=lambda file: file.name)
    def test_the_readme_describes_every_file(self, file):
        if file.name == "README.md":
            named = re.findall(r"`(\w+\.(?:yml|csv))`", README)
            named += re.findall(r"^## .*?(\w+\.(?:yml|csv|json))", README, re.M)
            assert {name for name in named if not (FACTS / name).exists()} == set()
            return
        assert re.search(rf"^## .*\b{re.escape(file.name)}\b", README, re.M)
        if file.suffix == ".csv":
            with file.open(encoding="utf-8") as lines:
                columns = next(csv.reader(lines))
            section = re.split(rf"^## .*\b{re.escape(file.name)}\b", README, flags=re.M)[1]
            section = section.split("\n## ")[0]
            assert [column for column in columns if f"`{column}`" not in section] == []

    def test_keys_of_the_references_are_unique(self):
        assert [key for key, times in Counter(REFERENCES).items() if times > 1] == []
        assert len(REFERENCES) > 50


# ------------------------------------------------------------------ chapters

CHAPTERS = {name: file for name, file in paths.chapters().items() if file.exists()}
FENCED = re.compile(r"^(```+|~~~+|:::+).*?$", re.M)
NO_PROSE = re.compile(
    r"^```.*?^```|\$\$.*?\$\$|\$[^$\n]+\$|\\begin\{.*?\\end\{\w+\*?\}"  # code and formulas
    r"|\{[\w:+-]+\}`[^`]*`|`[^`]*`"  # roles and code in a line
    r"|\]\([^)]*\)|<[^>]+>|https?://\S+"  # addresses
    r"|^:[\w-]+:.*?$|^\([\w-]+\)=$",  # options of directives, labels
    re.S | re.M,
)
DECIMAL = re.compile(r"(?<![\w.])\d+[.]\d+")
NAMES = {re.split(r"[-.\d]", name)[0] for name in catalog.models()} | {
    "section",
    "sections",
    "table",
    "tables",
    "figure",
    "figures",
    "equation",
    "appendix",
    "version",
    "python",
    "claude",
    "gemini",
    "grok",
    "sonnet",
    "opus",
    "haiku",
    "mythos",
}


def typed_decimals(text):
    """Decimal numbers in running text that are no part of a name such as Llama 3.1."""
    text = NO_PROSE.sub(" ", text)
    decimals = []
    for match in DECIMAL.finditer(text):
        before = text[: match.start()]
        word = re.search(r"([A-Za-z]+)[ -]?$", before)
        if not (word and word[1].lower() in NAMES) and not before.endswith("-"):
            decimals.append(text[max(0, match.start() - 20) : match.end() + 10])
    return decimals


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Llama 3.1 in section 2.1 and gpt-5.4 or Qwen2.5", 0),
        ("`3.5`, $x = 3.5$ and {glue:text}`x1.5`", 0),
        ("It takes 3.5 seconds and 0.25 more.", 2),
        ("About 3.5.\n```\n1.5\n```\n$$\n2.5\n$$", 1),
        ("[a link](https://example.org/1.5) and <https://example.org/2.5>", 0),
        (":width: 3.5\n", 0),
    ],
)
def test_typed_decimals_are_found_and_names_are_left_alone(text, count):
    assert len(typed_decimals(text)) == count


class Chapter:
    def __init__(self, name):
        self.content = notebook.read(CHAPTERS[name])
        self.cells = self.content["cells"]
        self.code = [cell for cell in self.cells if cell["cell_type"] == "code"]
        self.prose = ["".join(c["source"]) for c in self.cells if c["cell_type"] == "markdown"]

    @property
    def outputs(self):
        return [output for cell in self.code for output in cell["outputs"]]

    def pages(self):
        """The HTML of the outputs."""
        for output in self.outputs:
            if page := output.get("data", {}).get("text/html"):
                yield "".join(page)


@pytest.fixture(params=CHAPTERS)
def chapter(request):
    return Chapter(request.param)


class TestChapters:
    def test_it_was_run_from_top_to_bottom_without_an_error(self, chapter):
        assert [o for o in chapter.outputs if o["output_type"] == "error"] == []
        numbers = [cell["execution_count"] for cell in chapter.code]
        assert numbers == list(range(1, len(chapter.code) + 1))
        assert chapter.outputs
        streams = [o for o in chapter.outputs if o["output_type"] == "stream"]
        assert [o["text"] for o in streams if o["name"] == "stderr"] == []

    def test_it_has_parameters(self, chapter):
        tagged = [c for c in chapter.code if "parameters" in c["metadata"].get("tags", ())]
        assert len(tagged) == 1

    def test_its_cells_are_calls_into_the_library(self, chapter):
        sizes = {cell["id"]: len("".join(cell["source"]).splitlines()) for cell in chapter.code}
        assert {name: size for name, size in sizes.items() if size > 25} == {}

    def test_no_decimal_number_is_typed_in_its_prose(self, chapter):
        assert [d for text in chapter.prose for d in typed_decimals(text)] == []

    def test_its_prose_speaks_the_words_of_the_field(self, chapter):
        private = re.compile(r"\b(surely|foretell\w*|foretold)\b", re.IGNORECASE)
        assert [m[0] for text in chapter.prose for m in private.finditer(text)] == []

    def test_it_begins_with_its_question_as_title(self, chapter):
        assert chapter.cells[0]["cell_type"] == "markdown"
        assert re.match(r"# \S.*(\n|$)", chapter.prose[0])
        assert sum(bool(re.match(r"# ", text)) for text in chapter.prose) == 1

    def test_every_picture_has_an_alternative_text(self, chapter):
        for page in chapter.pages():
            pictures = re.findall(r"<(?:svg|img)\b[^>]*>", page)
            for picture in pictures:
                assert re.search(r'(aria-label|alt)="[^"]{20,}"', picture), picture[:200]
        for text in chapter.prose:
            assert not re.search(r"!\[\s*\]", text)
        kinds = {kind for output in chapter.outputs for kind in output.get("data", {})}
        assert not kinds & {"image/png", "image/jpeg", "image/svg+xml"}  # these carry none

    def test_names_inside_its_outputs_are_unique(self, chapter):
        names = Counter(n for page in chapter.pages() for n in re.findall(r'\bid="([^"]+)"', page))
        assert [name for name, times in names.items() if times > 1] == []

    def test_nothing_that_differs_from_run_to_run_is_stored(self, chapter):
        assert chapter.content["metadata"].keys() <= {*notebook.KEPT_METADATA, "sizewise"}
        for key, value in notebook.KEPT_METADATA.items():
            assert chapter.content["metadata"][key] == value
        assert [
            c["id"] for c in chapter.cells if {"execution", "papermill"} & {*c["metadata"]}
        ] == []
        stored = json.dumps(chapter.outputs)
        assert not re.search(r"0x[0-9a-f]{8,}", stored)  # an address in memory
        assert str(ROOT) not in stored

    def test_ids_of_its_cells_are_unique(self, chapter):
        assert len({cell["id"] for cell in chapter.cells}) == len(chapter.cells)


@pytest.mark.parametrize(
    "page", [ROOT / "index.md", *sorted((ROOT / "book").glob("*.md"))], ids=lambda page: page.stem
)
def test_no_decimal_number_is_typed_in_the_prose_of_a_page(page):
    assert typed_decimals(page.read_text(encoding="utf-8")) == []


# ------------------------------------------------------------------ everything that is published


def tracked():
    """Every file that is, or is about to be, in git."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in process.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_the_machine_it_was_written_on():
    # Put together here, so that this file is not found itself.
    folders = ("/work" + "/main", "/work" + "/shared", "shared/" + "reference", "/tm" + "p/w/")
    homes = re.compile(r"/(?:home|Users)/(?!you\b|user\b|runner\b)\w+|/root" + r"/\.")
    places = []
    for file in tracked():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        hits = [folder for folder in folders if folder in text] + homes.findall(text)
        places += [f"{Path(file).relative_to(ROOT)}: {hit}" for hit in hits]
    assert places == []


def test_no_file_is_larger_than_two_megabytes():
    assert [f.name for f in tracked() if f.stat().st_size > 2 * 2**20] == []
