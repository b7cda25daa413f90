"""The lighter pages, on small synthetic sites."""

from __future__ import annotations

import gzip
import importlib.util
import re
import sys
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
PURGE = ROOT / "_build" / "vendor" / "tools" / "node_modules" / "purgecss" / "bin" / "purgecss.js"

pytest.importorskip("brotli", reason="needs brotli, as the build does")


def module(name: str, folder: str):
    """A module that is no part of the library, from its file."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    loaded = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


fonts = module("sizewise_fonts", "book/_ext")
speed = module("sizewise_speed", "book/_ext")
lighthouse = module("lighthouse", "scripts")

HEAD = """<!DOCTYPE html><html><head>
<link rel="stylesheet" href="{up}_static/theme/main.css?v=1">
<link rel="stylesheet" href="{up}_static/own.css">
<script src="{up}_static/documentation_options.js"></script>
<script src="{up}_static/first.js"></script>
<script>var between = 1;</script>
<script defer src="{up}_static/fontawesome.js"></script>
<script src="{up}_static/second.js?v=2"></script>
<script src="{up}_static/searchtools.js"></script>
{more}</head><body>{body}</body></html>"""


@pytest.fixture
def site(tmp_path):
    """Two pages in two folders and what they load; `extra.js` and the results are on one alone."""
    files = {
        "_static/theme/main.css": '@import "../base.css";\n/* gone */ .a { b: url(i.png) }',
        "_static/base.css": ".base { color: red }",
        "_static/own.css": ".own::after { content: '\\f062' }",
        "_static/documentation_options.js": "const OPTIONS = {};",
        "_static/first.js": '"use strict";\nfirst = 1;\n//# sourceMappingURL=first.js.map',
        "_static/first.js.map": "{}",
        "_static/second.js": "second = first + 1;",
        "_static/fontawesome.js": "icons();",
        "_static/searchtools.js": "search();",
        "_static/extra.js": "extra();",
        "_static/idle.png": "",
        "_static/theme/i.png": "",
        "_static/LICENSE.txt": "as you like",
        "chapters/one.html": HEAD.format(
            up="../", more='<script src="../_static/extra.js"></script>', body='<p class="a">'
        ),
        "search.html": HEAD.format(up="", more="", body='<div id="search-results" class="own">'),
        "index.html": '<meta http-equiv="refresh" content="0; url=chapters/one.html">',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_a_page_that_only_leads_elsewhere_is_left_alone(site):
    assert {page.name for page in speed.whole_pages(site)} == {"one.html", "search.html"}


def test_scripts_of_all_pages_become_one_deferred_file_in_their_order(site):
    pages = speed.join_scripts(site, speed.whole_pages(site))
    (script,) = (site / "_static").glob("site.*.js")
    text = script.read_text()
    assert text.index("first = 1") < text.index("second = first + 1")
    assert text.startswith(";")  # so that "use strict" is not a directive for all
    assert "sourceMappingURL" not in text
    page = pages[site / "chapters" / "one.html"]
    loaded = re.findall(r'<script( defer)? src="([^"]*)"', page)
    assert loaded == [(" defer", f"../_static/{script.name}"), (" defer", "../_static/extra.js")]
    assert "<script>const OPTIONS = {};</script>" in page  # inline scripts build upon it
    assert page.index("const OPTIONS") < page.index("var between")


def test_the_search_index_is_loaded_by_the_page_of_results_alone(site):
    pages = speed.join_scripts(site, speed.whole_pages(site))
    assert "searchtools.js" in pages[site / "search.html"]
    assert "searchtools.js" not in pages[site / "chapters" / "one.html"]


def test_no_page_gets_the_script_that_draws_all_icons(site):
    pages = speed.join_scripts(site, speed.whole_pages(site))
    assert not any("fontawesome" in text for text in pages.values())
    (script,) = (site / "_static").glob("site.*.js")
    assert "icons()" not in script.read_text()


def test_a_script_is_joined_only_if_a_page_has_a_use_for_it():
    assert not speed.is_needed("design-tabs.js", ["<p>"])
    assert speed.is_needed("design-tabs.js", ["<p>", '<div class="sd-tab-set">'])
    assert not speed.is_needed("fontawesome.js", ['<i class="fa-solid">'])
    assert speed.is_needed("of-a-new-extension.js", ["<p>"])


def test_a_flattened_style_holds_its_imports_and_finds_its_pictures(site):
    style = speed.flatten(site / "_static" / "theme" / "main.css", site / "_static")
    assert ".base { color: red }" in style
    assert 'url("theme/i.png")' in style
    assert "@import" not in style
    assert "gone" not in style


def test_addresses_inside_a_style_that_are_no_files_stay(tmp_path):
    (tmp_path / "a.css").write_text("a{b:url(data:image/png;base64,AA==)}c{d:url(#mark)}")
    style = speed.flatten(tmp_path / "a.css", tmp_path)
    assert "url(data:image/png;base64,AA==)" in style
    assert "url(#mark)" in style


@pytest.mark.skipif(not PURGE.is_file(), reason="needs PurgeCSS, which `make site` brings")
def test_rules_that_no_page_and_no_script_names_are_dropped(tmp_path):
    page, script = tmp_path / "page.html", tmp_path / "script.js"
    page.write_text('<html data-theme="light"><p class="used">')
    script.write_text('it.classList.add("added"); root.dataset.theme = "dark"')
    style = (
        ".used{a:b}.unused{a:b}.added:hover{a:b}p.unused{a:b}"
        'html[data-theme="dark"] .used{c:d}@media print{.used{e:f}.unused{e:f}}'
    )
    css = speed.drop_unused_rules(style, [page, script], PURGE)
    assert "unused" not in css
    for rule in (".used{a:b}", ".added:hover{a:b}", 'html[data-theme="dark"] .used{c:d}', "{e:f}"):
        assert rule in css


def test_a_build_without_purgecss_names_how_to_get_it(tmp_path):
    with pytest.raises(Exception, match=r"scripts/build_site\.py"):
        speed.drop_unused_rules("", [], tmp_path / "absent.js")


@pytest.fixture(scope="module")
def font() -> Path:
    """A real font: the one that matplotlib brings."""
    matplotlib = pytest.importorskip("matplotlib")
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"


def test_a_cut_font_draws_the_requested_characters_and_no_other(font, tmp_path):
    from fontTools.ttLib import TTFont

    cut = fonts.subset_font(font, {ord("a"), ord("é"), 0x2191})
    (tmp_path / "cut.woff2").write_bytes(cut)
    whole, small = TTFont(font), TTFont(tmp_path / "cut.woff2")
    assert set(small.getBestCmap()) == {ord("a"), ord("é"), 0x2191}
    assert small["hmtx"]["a"] == whole["hmtx"]["a"]
    assert len(cut) < font.stat().st_size / 50
    assert cut == fonts.subset_font(font, {ord("a"), ord("é"), 0x2191})


def test_icons_move_into_the_style_and_letters_get_a_versioned_address(font, tmp_path):
    for name in ("icons.woff2", "letters.woff2"):
        (tmp_path / name).write_bytes(fonts.subset_font(font, set(range(0x20, 0x7F)) | {0xE0A0}))
    before = (tmp_path / "letters.woff2").stat().st_size
    face = '@font-face{{font-family:{};src:url("{}.woff2") format("woff2"),url("x.ttf")}}'
    style = face.format("Awesome", "icons") + face.format("Text", "letters") + 'b{content:"\\e0a0"}'
    cut = fonts.cut_fonts(style, tmp_path, {ord("a")})
    assert re.search(r'font-family:Awesome;src:url\("data:font/woff2;base64,[^"]+"\)', cut)
    assert re.search(r'src:url\("letters.woff2\?v=[0-9a-f]{8}"\) format\("woff2"\)', cut)
    assert "x.ttf" not in cut
    assert (tmp_path / "letters.woff2").stat().st_size < before


def test_icon_signs_are_found_in_both_ways_of_writing_them():
    assert fonts.icons('a{content:"\\f062"}b{--i:"\uf0eb"}c{content:"x"}') == {0xF062, 0xF0EB}


def test_a_theme_is_settled_before_the_page_is_drawn():
    from sizewise_site import mend

    page = mend('x.dataset.theme = localStorage.getItem("theme") || "auto";')
    assert "prefers-color-scheme" in page
    assert '|| "auto"' not in page


def test_icons_are_not_read_aloud_and_other_elements_are():
    from sizewise_site import mend

    page = '<i class="fa-solid fa-x"></i><span class="fas fa-y"></span><i class="fancy"></i>'
    assert [tag for tag in re.findall(r"<[^/][^>]*>", mend(page)) if "hidden" in tag] == [
        '<i class="fa-solid fa-x" aria-hidden="true">',
        '<span class="fas fa-y" aria-hidden="true">',
    ]
    assert mend(mend(page)).count("aria-hidden") == 2


# ---- Lighthouse ------------------------------------------------------------------------------


def result(performance: float, failed: float = 1.0) -> dict:
    """What Lighthouse reports, as far as it is read."""
    audits = {key: {"numericValue": 1500, "score": 1} for key in lighthouse.TIMES}
    audits |= {"color-contrast": {"score": failed}, "total-byte-weight": {"numericValue": 2e5}}
    reference = {"id": "color-contrast", "weight": 7}
    categories = {
        name: {"score": performance if name == "performance" else failed, "auditRefs": [reference]}
        for name in lighthouse.CATEGORIES
    }
    return {"audits": audits, "categories": categories}


def test_a_score_below_the_aim_is_marked_with_the_audit_that_failed():
    assert lighthouse.short("phone", lighthouse.scores(result(0.96))) == []
    assert lighthouse.short("desktop", lighthouse.scores(result(0.96))) == ["performance"]
    line = lighthouse.line("a", "phone", result(0.95, failed=0.5))
    assert "accessibility 50 (short)" in line
    assert "failed: color-contrast" in line
    assert "performance 95," in line
    assert "first paint 1.5 s" in line
    assert "200 kB" in line


def test_all_pages_that_people_read_are_measured_unless_some_are_named(tmp_path):
    for name in ("index", "book/glossary", "chapters/ledger", "_static/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.html").touch()
    assert lighthouse.built(tmp_path) == ["index", "book/glossary", "chapters/ledger"]
    assert lighthouse.built(tmp_path / "nowhere") == []


@pytest.mark.parametrize(("accepted", "encoding"), [("br, gzip", "gzip"), ("", None)])
def test_the_measuring_server_sends_what_the_browser_reads(tmp_path, accepted, encoding):
    text = "<p>words</p>" * 500
    (tmp_path / "page.html").write_text(text)
    with lighthouse.serve(tmp_path) as origin:
        connection = HTTPConnection(urlsplit(origin).netloc)
        connection.request("GET", "/page.html", headers={"Accept-Encoding": accepted})
        answer = connection.getresponse()
        data, sent = answer.read(), answer.headers["Content-Encoding"]
        assert answer.headers["Content-Type"].startswith("text/html")
        connection.close()
    assert sent == encoding
    unpack = {"gzip": gzip.decompress, None: bytes}[encoding]
    assert unpack(data).decode() == text


def test_our_styles_hold_no_rule_that_purging_would_lose():
    """PurgeCSS drops `:is()` around nothing but pseudo-classes, and `:not()` around an attribute
    that a script alone sets."""
    lost = re.compile(r":(?:is|where)\(\s*:|:not\(\s*\[")
    for style in (ROOT / "book" / "_static").glob("*.css"):
        assert lost.findall(style.read_text(encoding="utf-8")) == [], style.name
