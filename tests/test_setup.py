"""The set-up: pinned, explained, and a clean checkout that is still clean after a run."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from sizewise import paths

ROOT = Path(__file__).resolve().parents[1]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def plain(name):
    """A package's name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines):
    """Names and versions of the lines that are requirements."""
    versions = {}
    for line in lines:
        if requirement := re.fullmatch(r"([A-Za-z0-9][\w.-]*)==([\w.]+)\s*(#.*)?", line.strip()):
            versions[plain(requirement[1])] = requirement[2]
    return versions


REQUIRED = [line for line in read("requirements.in").splitlines() if re.match(r"[A-Za-z]", line)]
LOCKED = [
    line for line in read("requirements.txt").splitlines() if line.strip() and line[0] not in "# "
]


class TestRequirements:
    def test_every_requirement_is_pinned_in_the_lock_with_the_same_version(self):
        required, locked = pins(REQUIRED), pins(LOCKED)
        assert len(required) == len(REQUIRED) > 10
        assert {name: locked.get(name) for name in required} == required

    @pytest.mark.parametrize("line", REQUIRED)
    def test_every_requirement_has_its_purpose(self, line):
        assert re.search(r"# \S+", line)

    def test_the_lock_holds_exact_public_versions_and_nothing_else(self):
        bad = [
            line
            for line in LOCKED
            if not re.fullmatch(r"[a-z0-9][\w.-]*==\d[\w.]*( ; [\w\s.'\"=<>!()]+)?", line)
        ]
        assert bad == []  # so no +cpu, no address, no path, no option for an index
        assert len(LOCKED) > len(REQUIRED)
        assert len({plain(line.split("==")[0]) for line in LOCKED}) == len(LOCKED)

    def test_the_hashed_lock_has_the_same_versions_and_a_hash_for_each_file(self):
        entries = re.split(r"\n(?=[a-z0-9])", read("requirements-hashed.txt").rstrip("\n"))[1:]
        hashed = {}
        for entry in entries:
            head, *hashes = entry.split("\\\n")
            name, version = head.strip().split(" ;")[0].strip().split("==")
            hashed[plain(name)] = version.removesuffix("+cpu")
            assert hashes, name
            assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64} ?", line) for line in hashes)
        pinned = {plain(line.split("==")[0]): line.split("==")[1].split(" ;")[0] for line in LOCKED}
        assert {name: hashed.get(name) for name in pinned} == pinned

    def test_comments_of_the_lock_name_no_machine(self):
        comments = [line for line in read("requirements.txt").splitlines() if "#" in line]
        assert [
            line for line in comments if re.search(r"https?://|file://|/home|/root|/tmp", line)
        ] == []

    def test_what_the_library_declares_is_locked(self):
        project = tomllib.loads(read("pyproject.toml"))["project"]
        declared = project["dependencies"] + project["optional-dependencies"]["dev"]
        names = {plain(re.match(r"[\w.-]+", requirement)[0]) for requirement in declared}
        assert names <= pins(LOCKED).keys()

    def test_conda_installs_the_lock_and_the_project_and_nothing_of_its_own(self):
        environment = yaml.safe_load(read("environment.yml"))
        *conda, last = environment["dependencies"]
        assert last == {"pip": ["-r requirements.txt", "-e ."]}
        assert sorted(conda) == ["pip", "python=3.11"]
        assert environment["name"] == "sizewise"


def targets():
    """The Makefile's public targets: name -> its comment, None if it has none."""
    public = " ".join(re.findall(r"^\.PHONY: (.*)$", read("Makefile"), re.M)).split()
    comments = dict(re.findall(r"^([\w-]+):.*?## (.+)$", read("Makefile"), re.M))
    return {name: comments.get(name) for name in public}


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
class TestMake:
    def test_help_lists_every_public_target(self):
        done = subprocess.run(
            ["make", "--no-print-directory", "-C", ROOT], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        listed = dict(re.findall(r"^ +make ([\w-]+) +(\S.*)$", done.stdout, re.M))
        assert listed == targets()

    @pytest.mark.parametrize("target", ["chapters", "site", "unit", "nbval", "site-test", "lint"])
    def test_the_commands_of_a_target_are_there(self, target):
        done = subprocess.run(["make", "-n", "-C", ROOT, target], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for script in re.findall(r"\bscripts/\w+\.py", done.stdout):
            assert (ROOT / script).is_file()

    def test_every_script_that_the_makefile_names_is_there(self):
        named = set(re.findall(r"\bscripts/\w+\.py", read("Makefile")))
        assert named
        assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_the_reference_is_built_without_the_extras():
    recipe = re.search(r"^extras:.*\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)[1]
    extras = set(re.findall(r'"(\w+)==', recipe))
    lines = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)
    library = (ROOT / "book" / "sizewise").rglob("*.py")
    imported = {name for file in library for name in lines.findall(file.read_text("utf-8"))}
    mocked = yaml.safe_load(read("_config.yml"))["sphinx"]["config"]["autodoc_mock_imports"]
    assert extras
    assert extras & imported == set(mocked)


@pytest.mark.parametrize("name", sorted(file.name for file in (ROOT / "scripts").glob("*.py")))
def test_a_script_that_is_asked_for_help_does_nothing_else(name):
    assert re.search(r"\b(ArgumentParser|options\.parser)\(", read(f"scripts/{name}"))


class TestDocuments:
    @pytest.fixture
    def readme(self):
        return read("README.md")

    def test_the_readme_names_both_commands(self, readme):
        assert re.search(r"^\s*(\$ )?make book\b", readme, re.M)
        assert re.search(r"^\s*(\$ )?make test\b", readme, re.M)

    def test_every_target_that_the_readme_names_is_there(self, readme):
        named = set(re.findall(r"(?:^\s*(?:\$ )?|`)make ([a-z][\w-]*)", readme, re.M))
        assert named <= targets().keys()

    def test_every_file_that_the_readme_links_to_is_there(self, readme):
        links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", readme)
        assert [link for link in links if not (ROOT / link).exists()] == []

    def test_every_command_that_the_readme_names_is_there(self, readme):
        from sizewise.cli import main

        commands = {c.name or c.callback.__name__ for c in main.app.registered_commands}
        named = set(re.findall(r"(?:^\s*(?:\$ )?|`)sizewise ([a-z]\w*)", readme, re.M))
        assert named <= commands

    def test_what_a_submission_must_pass_is_the_test_command(self):
        script = ROOT / ".ci" / "run"
        assert os.access(script, os.X_OK)
        lines = [line.strip() for line in read(".ci/run").splitlines()]
        assert lines[0] == "#!/usr/bin/env bash"
        assert "set -euo pipefail" in lines
        assert any(re.fullmatch(r"make test( .*)?", line) for line in lines)


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


class TestSupply:
    @pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
    def test_every_action_is_a_commit_with_its_version_beside_it(self, file):
        used = re.findall(r"uses: *(.+)", file.read_text(encoding="utf-8"))
        assert [u for u in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v[\d.]+", u)] == []

    @pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
    def test_a_workflow_may_read_and_nothing_else_unless_a_job_says_so(self, file):
        workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        assert "PIP_EXTRA_INDEX_URL" not in file.read_text(encoding="utf-8")
        for job in workflow["jobs"].values():
            assert job["timeout-minutes" if "timeout-minutes" in job else "permissions"]

    @pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
    def test_the_targets_that_a_workflow_makes_are_there(self, file):
        for words in re.findall(r"run: make (.+)", file.read_text(encoding="utf-8")):
            plain_words = re.sub(r"\w+=(\"[^\"]*\"|\S+)", "", words).split()
            assert set(plain_words) <= targets().keys()

    def test_hooks_come_from_a_commit_or_from_the_environment(self):
        for repository in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]:
            if repository["repo"] == "local":
                assert {hook["language"] for hook in repository["hooks"]} == {"system"}
            else:
                assert re.fullmatch("[0-9a-f]{40}", repository["rev"])

    @pytest.mark.parametrize("lock", ["package-lock.json", "tests/lighthouse/package-lock.json"])
    def test_every_npm_package_has_its_hash(self, lock):
        packages = json.loads(read(lock))["packages"]
        assert [name for name, item in packages.items() if name and "integrity" not in item] == []


# ------------------------------------------------------------------ a clean checkout


def published():
    """The files of the checkout, without what git ignores."""
    words = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [Path(n) for n in done.stdout.split("\0") if n and (ROOT / n).is_file()]


class TestCleanCheckout:
    @pytest.mark.slow  # every chapter runs once; `make nbval` compares their outputs in `make test`
    @pytest.mark.timeout(1800)
    def test_it_is_still_clean_after_the_chapters_ran_and_then_nothing_runs_again(self, tmp_path):
        chapters = {n: f.relative_to(ROOT) for n, f in paths.chapters().items() if f.exists()}
        home = tmp_path / "checkout"
        files = published()
        for file in files:
            (home / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, home / file)
        before = {file: (home / file).read_bytes() for file in files}
        # This checkout's library and data, away from where the chapters were written.
        surroundings = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "SIZEWISE", "IPY"))
        }
        surroundings |= {"SIZEWISE_HOME": str(home), "PYTHONPATH": str(home / "book")}

        def run(*words):
            return subprocess.run(
                [sys.executable, "-B", "-m", "sizewise", "run", "--in-place", *chapters, *words],
                cwd=tmp_path,
                env=surroundings,
                capture_output=True,
                text=True,
            )

        done = run("--force")
        assert done.returncode == 0, done.stderr
        assert len(re.findall(r": \d+\.\d s -> chapters/", done.stdout)) == len(chapters)
        changed = [str(file) for file in files if (home / file).read_bytes() != before[file]]
        assert changed == []
        present = {file.relative_to(home) for file in home.rglob("*") if file.is_file()}
        new = {str(file) for file in present - set(files) if file.parts[0] != "_build"}
        assert new == set()

        again = run()
        assert (again.returncode, again.stdout) == (
            0,
            f"{len(chapters)} of {len(chapters)} unchanged\n",
        )
        assert sorted(again.stderr.splitlines()) == sorted(
            f"{name}: unchanged" for name in chapters
        )


def test_arrows_between_rooms_point_down_and_run_in_no_circle():
    """The contracts of import-linter in pyproject.toml; `make lint` prints them in full."""
    program = Path(sys.executable).with_name("lint-imports")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "book")}
    done = subprocess.run(
        [str(program), "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
