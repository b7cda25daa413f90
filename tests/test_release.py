"""The packed release and the PDF: one site gives the same bytes twice, sums tell a changed one."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "release.py"


def module(name: str):
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


release, pdf = module("release"), module("pdf")


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "html"
    for name in ("index.html", "chapters/b.html", "chapters/a.html", "_static/x.css", ".buildinfo"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the text of {name}")
    return folder


def test_two_archives_of_one_site_are_equal_bit_for_bit(site, tmp_path):
    copy = tmp_path / "elsewhere"  # made later, in another order, with other rights and times
    for path in sorted(site.rglob("*"), reverse=True):
        if path.is_file():
            target = copy / path.relative_to(site)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o600)
            os.utime(target, (1, 1))
    first, _ = release.release(site, tmp_path / "none.pdf", "1.0", tmp_path / "one")
    second, _ = release.release(copy, tmp_path / "none.pdf", "1.0", tmp_path / "two")
    assert first.read_bytes() == second.read_bytes()


def test_the_archive_holds_the_site_in_one_folder_with_fixed_owners_and_times(site, tmp_path):
    archive, _ = release.release(site, tmp_path / "none.pdf", "1.0", tmp_path / "out")
    with tarfile.open(archive) as tar:
        entries = tar.getmembers()
        text = tar.extractfile("sizewise-site-1.0/chapters/a.html").read().decode()
    assert [entry.name for entry in entries] == [
        f"sizewise-site-1.0/{name}"
        for name in ("_static/x.css", "chapters/a.html", "chapters/b.html", "index.html")
    ]
    assert {(e.uid, e.gid, e.uname, e.gname, e.mtime, e.mode) for e in entries} == {
        (0, 0, "", "", release.LONG_AGO, 0o644)
    }
    assert text == "the text of chapters/a.html"


def test_a_time_may_be_set_by_the_usual_variable(site, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    archive = release.pack(site, tmp_path / "a.tar.gz", "a")
    with tarfile.open(archive) as tar:
        assert {entry.mtime for entry in tar} == {1700000000}


def test_sums_verify_and_name_a_changed_and_a_missing_file(site, tmp_path):
    book = tmp_path / "book.pdf"
    book.write_bytes(b"%PDF-1.7")
    output = tmp_path / "out"
    names = [path.name for path in release.release(site, book, "1.0", output)]
    assert names == ["sizewise-site-1.0.tar.gz", "sizewise-1.0.pdf", "SHA256SUMS"]
    assert release.report(release.verify(output)) == 0
    program = shutil.which("sha256sum")
    if program:  # the usual program agrees
        subprocess.run([program, "-c", "SHA256SUMS"], cwd=output, check=True, capture_output=True)
    (output / "sizewise-1.0.pdf").write_bytes(b"%PDF-1.8")
    (output / "sizewise-site-1.0.tar.gz").unlink()
    assert set(release.verify(output)) == {
        ("sizewise-1.0.pdf", "FAILED"),
        ("sizewise-site-1.0.tar.gz", "missing"),
    }
    assert release.report(release.verify(output)) == 1


def test_a_new_release_leaves_nothing_of_the_old_one(site, tmp_path):
    release.release(site, tmp_path / "none.pdf", "1.0", tmp_path / "out")
    release.release(site, tmp_path / "none.pdf", "1.1", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "sizewise-site-1.1.tar.gz",
        "SHA256SUMS",
    }


def test_an_unbuilt_site_and_a_bad_version_are_refused_in_one_line(site, tmp_path):
    command = [sys.executable, str(SCRIPT), "--output", str(tmp_path / "out")]
    for words, message in (
        (["--site", str(tmp_path / "no")], "make site"),
        (["--site", str(site), "--version", "../1"], "'../1'"),
    ):
        done = subprocess.run([*command, *words], capture_output=True, text=True)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_line_that_leads_out_of_the_folder_is_no_sum(tmp_path):
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n")
    with pytest.raises(ValueError, match="no sum"):
        release.verify(tmp_path)


def test_the_help_names_where_files_go_and_how_to_check_them():
    done = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for word in ("_build/release", "SHA256SUMS", "--verify", "SOURCE_DATE_EPOCH"):
        assert word in done.stdout


# ---- the PDF ---------------------------------------------------------------------------------


def test_the_parts_of_the_contents_come_in_their_order():
    contents = {
        "root": "book/index",
        "parts": [{"caption": "A", "chapters": [{"file": "chapters/x.ipynb"}, {"file": "book/y"}]}],
    }
    assert pdf.parts_of(contents) == [(None, ["book/index"]), ("A", ["chapters/x", "book/y"])]


def printed(*addresses: str) -> bytes:
    """A print of one sheet with a link to each address."""
    pypdf = pytest.importorskip("pypdf")
    from pypdf.annotations import Link

    writer = pypdf.PdfWriter()
    writer.add_blank_page(200, 200)
    for address in addresses:
        writer.add_annotation(0, Link(rect=(0, 0, 9, 9), url=address))
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_prints_are_joined_with_bookmarks_and_their_links_stay_inside(tmp_path):
    pypdf = pytest.importorskip("pypdf")
    origin = "http://127.0.0.1:5"
    prints = {
        "book/index": ("The book", printed(f"{origin}/chapters/a.html#x", "https://example.org/")),
        "chapters/a": ("First", printed(f"{origin}/_sources/a.txt")),
        "chapters/b": ("Second", printed(f"{origin}/book/index.html")),
    }
    parts = [(None, ["book/index"]), ("Part", ["chapters/a", "chapters/b"])]
    output = tmp_path / "book.pdf"
    assert pdf.join(parts, prints, "https://book.example/", output) == 3
    reader = pypdf.PdfReader(output)
    front, part, chapters = reader.outline
    assert [front.title, part.title] == ["The book", "Part"]
    places = [(mark.title, reader.get_destination_page_number(mark)) for mark in chapters]
    assert places == [("First", 1), ("Second", 2)]
    actions = [note.get_object()["/A"] for sheet in reader.pages for note in sheet["/Annots"]]
    assert actions[0]["/S"] == "/GoTo"
    assert reader.get_page_number(actions[0]["/D"][0].get_object()) == 1
    assert actions[1]["/URI"] == "https://example.org/"
    assert actions[2]["/URI"] == "https://book.example/_sources/a.txt"
    assert actions[3]["/S"] == "/GoTo"
    assert b"127.0.0.1" not in output.read_bytes()


def test_without_a_browser_nothing_is_written_but_a_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["pdf.py", "--output", str(tmp_path / "book.pdf")])
    assert pdf.main() == 0
    assert "skipped, no Chromium" in capsys.readouterr().out
    assert not (tmp_path / "book.pdf").exists()
