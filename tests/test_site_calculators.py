"""The calculators in a browser: what the page computes, what it says of nonsense, its address."""

import math
import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from calculators import all_of_them
from calculators.parts import OWN
from site_pages import the_browser, the_origin, the_site, the_tab  # noqa: F401 - fixtures
from test_calculators import NAMED, cases, truths

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
PAGE = "book/calculators.html"
each_calculator = pytest.mark.parametrize("name", all_of_them())

# Fill in every field of each case, dispatch a change, and read what the page shows.
FILL = """([name, cases]) => {
  const box = document.querySelector(`[data-calculator="${name}"]`);
  const form = box.querySelector("form");
  return cases.map(typed => {
    for (const [field, words] of Object.entries(typed)) form.elements[field].value = words;
    form.dispatchEvent(new Event("change"));
    const values = {};
    for (const cell of box.querySelectorAll("tr:not([data-beside]) > [data-names]")) {
      const row = cell.parentElement.dataset.row, shown = cell.dataset.value.split(" ");
      cell.dataset.names.split(" ").forEach((value, at) => {
        values[row ? `${row}/${value}` : value] = shown[at];
      });
    }
    const answer = box.querySelector("[data-answer]");
    if (answer) values.verdict = answer.dataset.value;
    const wrong = [...box.querySelectorAll(".sw-calc__error")].map(error => error.textContent);
    return {values, wrong: wrong.filter(Boolean), text: box.innerText};
  });
}"""


def address(name: str, **typed: str) -> dict:
    """What a link to a case holds: every open field of the calculator, as typed or by default."""
    fields = all_of_them()[name].fields
    values = {field.name: typed.get(field.name, field.default) for field in fields}
    return {
        f"{name}.{field.name}": values[field.name]
        for field in fields
        if not field.when or values[field.when] == OWN
    }


def words(case: dict) -> dict:
    """A case as it is typed."""
    return {name: "" if value is None else str(value) for name, value in case.items()}


@each_calculator
def test_the_page_computes_what_the_library_computes(tab, name):
    page, troubles = tab(PAGE)
    answers = page.evaluate(FILL, [name, [words(case) for case in cases(name)]])
    wrong = []
    for case, truth, answer in zip(cases(name), truths(name), answers, strict=True):
        assert answer["wrong"] == [], case
        assert "NaN" not in answer["text"]
        assert "Infinity" not in answer["text"]
        numbers = {key: at for key, at in answer["values"].items() if not key.endswith("/text")}
        assert set(numbers) == NAMED[name]
        for value, shown in numbers.items():
            right = truth[value]
            if (right is None) != (shown == "") or (
                right is not None and not math.isclose(float(shown), right, rel_tol=1e-9)
            ):
                wrong.append((case, value, shown, right))
    assert wrong == []
    assert troubles == []


@each_calculator
def test_nonsense_is_refused_at_the_field_and_makes_the_results_stale(tab, name):
    page, troubles = tab(PAGE)
    form = page.locator(f'[data-calculator="{name}"] form')
    results = page.locator(f'[data-calculator="{name}"] .sw-calc__results')
    before = results.locator("table").first.inner_text()
    for field in form.locator("input:visible").all():
        right = field.input_value()
        for nonsense in ("12q", "-3", "NaN"):
            field.fill(nonsense)
            page.wait_for_function(
                "input => input.getAttribute('aria-invalid')", arg=field.element_handle()
            )
            error = field.get_attribute("aria-describedby").split()[-1]
            assert page.locator(f"#{error}").inner_text()
            assert "stale" in results.get_attribute("class")
            assert results.locator("table").first.inner_text() == before
            assert "NaN" not in page.locator("article").inner_text()
        field.fill(right)
        page.wait_for_function(
            "input => !input.getAttribute('aria-invalid')", arg=field.element_handle()
        )
    assert "stale" not in results.get_attribute("class")
    assert troubles == []


def test_a_link_restores_its_case_and_ignores_what_it_does_not_know(tab):
    page, troubles = tab(f"{PAGE}#fit.model=own&fit.context=8k&fit.odd=1&no.such=2&cache.batch=4")
    assert page.locator("#fit-model").input_value() == "own"
    assert page.locator("#fit-context").input_value() == "8k"
    assert page.locator("#fit-parameters").is_visible()
    assert page.locator("#cache-batch").input_value() == "4"
    page.fill("#fit-batch", "16")
    page.wait_for_function("() => location.hash.includes('fit.batch=16')")
    kept = dict(parse_qsl(urlsplit(page.url).fragment, keep_blank_values=True))
    assert kept == address("fit", model="own", context="8k", batch="16") | address(
        "cache", batch="4"
    )
    assert "fit.memory" not in kept  # a field of the reader's own device, which is not open
    again, more = tab(f"{PAGE}#{urlsplit(page.url).fragment}")
    first = "[data-calculator=fit] .sw-calc__table"
    assert again.locator(first).inner_text() == page.locator(first).inner_text()
    assert troubles + more == []


def test_a_bad_value_in_a_link_gets_its_message_and_a_bad_choice_is_left_out(tab):
    page, troubles = tab(f"{PAGE}#fit.context=%3Cb%3E&fit.device=Abacus")
    assert page.locator("#fit-context").get_attribute("aria-invalid") == "true"
    assert page.locator("#fit-context-error").inner_text()
    assert page.locator("#fit-device").input_value() == "H100"
    assert troubles == []


def test_everything_can_be_done_from_the_keyboard(tab):
    page, troubles = tab(PAGE)
    page.locator("#cache-full_layers").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("10")
    for _ in range(5):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "cache-kv"
    page.keyboard.type("int4")
    page.wait_for_function("() => location.hash.includes('cache.kv=int4')")
    while page.evaluate("document.activeElement.dataset.do") != "reset":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#cache-full_layers").input_value() == "8"
    assert page.locator("#cache-kv").input_value() == "bf16"
    page.wait_for_function("() => !location.hash.includes('cache')")
    assert troubles == []


def test_a_link_is_copied(tab):
    page, troubles = tab(PAGE)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("#train-params", "2T")
    page.locator('[data-calculator=train] [data-do="link"]').click()
    page.wait_for_function(
        "() => document.querySelector('[data-calculator=train] .sw-calc__said').textContent"
    )
    copied = page.evaluate("navigator.clipboard.readText()")
    kept, case = copied.split("#")
    assert kept.endswith("calculators.html")
    assert dict(parse_qsl(case, keep_blank_values=True)) == address("train", params="2T")
    assert troubles == []


def test_a_link_means_the_same_after_a_default_has_changed(tab):
    page, troubles = tab(PAGE)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    first = "[data-calculator=cache] .sw-calc__table"
    shown = page.locator(first).inner_text()
    page.locator('[data-calculator=cache] [data-do="link"]').click()  # everything at its default
    page.wait_for_function(
        "() => document.querySelector('[data-calculator=cache] .sw-calc__said').textContent"
    )
    case = page.evaluate("navigator.clipboard.readText()").split("#")[1]
    changed = "sizewiseCalculators.calculators.cache.fields.at(-1).default = '7'"
    page.evaluate(f"{changed}; location.hash = 'cache.context=1k'")
    page.wait_for_function("() => document.querySelector('#cache-batch').value === '7'")
    assert page.locator(first).inner_text() != shown
    page.evaluate("to => { location.hash = to; }", case)
    page.wait_for_function("() => document.querySelector('#cache-batch').value === '1'")
    assert page.locator(first).inner_text() == shown
    assert troubles == []


def test_the_first_line_says_yes_or_no_and_follows_the_fields(tab):
    page, troubles = tab(PAGE)
    answer = page.locator("[data-calculator=fit] .sw-calc__results > :first-child")
    assert answer.inner_text() == "Does not fit one H100: needs 3."
    page.select_option("#fit-weights", "nf4")
    page.wait_for_function("() => document.querySelector('[data-answer]').dataset.value === '1'")
    assert answer.inner_text() == "Fits one H100."
    assert troubles == []


def test_laws_lead_to_their_places_in_the_bibliography(tab):
    page, troubles = tab(PAGE)
    links = page.locator(".sw-calc__rows tbody th a")
    targets = {link.inner_text(): link.get_attribute("href") for link in links.all()}
    assert set(targets) == {
        words
        for law in all_of_them()["train"].names().values()
        for words, address in law.parts
        if address
    }
    bibliography, _ = tab("book/bibliography.html")
    for words, target in targets.items():
        if target.startswith("bibliography.html#"):
            entry = bibliography.locator(f"[id='{target.split('#')[1]}']").inner_text()
            assert words.split()[0] in entry
            assert re.search(r"\((\d{4})\)", words)[1] in entry
        else:
            assert words.startswith("Our refit")
    assert troubles == []


def test_nothing_is_wider_than_a_small_phone(tab):
    page, troubles = tab(
        f"{PAGE}#fit.model=own&fit.weights=own&fit.kv=own&fit.device=own", width=360
    )
    too_wide = """[document.scrollingElement, ...document.querySelectorAll(
        ".bd-article, .sw-calc, .sw-calc__form, .sw-calc__own, .sw-calc__results")]
        .filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.className)"""
    assert page.evaluate(too_wide) == []
    inside = """[...document.querySelectorAll(".sw-calc__table, .sw-calc__rows")].filter(
        table => table.scrollWidth > table.parentElement.clientWidth + 1).length"""
    assert page.evaluate(inside) == 0
    assert troubles == []


def test_without_a_script_the_page_shows_a_case_and_names_the_command(browser, origin):
    context = browser.new_context(java_script_enabled=False, base_url=origin)
    page = context.new_page()
    page.goto(f"/{PAGE}")
    text = page.locator("article").inner_text()
    for calculator in all_of_them().values():
        assert calculator.command.split(";")[0].strip() in text
        assert not page.locator(f"#{calculator.id}-{calculator.fields[0].name}").is_visible()
    assert "141 GB" in text
    context.close()


def test_the_scripts_are_on_the_pages_with_a_calculator_alone(site):
    with_scripts = {
        path.name
        for path in site.rglob("*.html")
        if "calculators-formulas.js" in path.read_text(encoding="utf-8")
    }
    assert with_scripts == {"calculators.html", "index.html"}
