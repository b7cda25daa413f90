"""The policy in a page: what the page has may run, what gets into it may not."""

import base64
import hashlib

import pytest
import sizewise_policy as policies


def allowed(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def parts(text: str) -> dict[str, list[str]]:
    split = (part.split() for part in policies.policy(text).split(";"))
    return {name: sources for name, *sources in split}


def test_scripts_of_the_page_are_allowed_by_their_hash_and_no_others():
    page = (
        "<head></head><script>let a = 1;</script><script src='x.js'></script>"
        '<script type="text/javascript">b()</script>'
        '<script type="application/json">{"no": "script"}</script>'
    )
    sources = parts(page)["script-src"]
    assert set(sources) == {"'self'", "'wasm-unsafe-eval'", allowed("let a = 1;"), allowed("b()")}
    assert "'unsafe-inline'" not in sources
    assert "'unsafe-eval'" not in sources


def test_handlers_are_allowed_as_they_are_run():
    sources = parts('<button onclick="say(&quot;a&quot;)">x</button>')["script-src"]
    assert "'unsafe-hashes'" in sources
    assert allowed('say("a")') in sources
    assert "'unsafe-hashes'" not in parts("<p>no handler</p>")["script-src"]


def test_nothing_comes_from_another_site_and_nothing_is_framed():
    policy = parts("<p></p>")
    assert policy["default-src"] == ["'self'"]
    assert not [source for sources in policy.values() for source in sources if "http" in source]
    assert policy["object-src"] == policy["frame-src"] == ["'none'"]


@pytest.mark.parametrize("head", ["<head>", '<head lang="en">'])
def test_it_is_the_first_thing_in_the_head(tmp_path, head):
    class Builder:
        format = "html"

    class App:
        builder, outdir = Builder(), str(tmp_path)

    page = tmp_path / "a" / "b.html"
    page.parent.mkdir()
    page.write_text(f"<html>{head}<script>x()</script></head></html>")
    policies.add_policies(App(), None)
    text = page.read_text()
    assert text.index("Content-Security-Policy") < text.index("<script>")
    assert text.startswith(f'<html>{head}\n<meta http-equiv="Content-Security-Policy"')
    assert allowed("x()") in text
