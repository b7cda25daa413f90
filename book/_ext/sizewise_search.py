"""Search that knows numbers and names: `4.8 ms`, `1,429` and `llama-3.1-70b` are found as written.

Sphinx cuts words at every sign, so that a decimal is two numbers, and it cuts endings off: `ms`
becomes `m` in Python and stays `ms` in the browser, and is never found. Here both sides cut and
stem alike, and the order of results says how much of the question a page holds.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish
from sphinx.util import logging

logger = logging.getLogger(__name__)

# Letters and digits; a point or a comma belongs to them between digits. No look-behind, so that
# the same words serve as JavaScript for older browsers.
PART = r"(?:%(w)s*[0-9][.,](?=[0-9]))*%(w)s+"
PYTHON, SCRIPT = PART % {"w": r"\w"}, PART % {"w": r"[\p{L}\p{N}_]"}
NAME = re.compile(f"{PYTHON}(?:-{PYTHON})*")
THOUSANDS = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
SHORTEST = 4  # letters; what is shorter has no ending to lose
LETTERS = re.compile(r"[a-z]+")

SPLITTER = f"var splitQuery = query => query.match(/{SCRIPT}/gu) || [];"
STEMMER = f"""
{{
  const Porter = Stemmer;
  Stemmer = function () {{
    const porter = new Porter();
    this.stemWord = word =>
      word.length < {SHORTEST} || !/^[a-z]+$/.test(word) ? word : porter.stemWord(word);
  }};
}}
"""
ORDER = Path(__file__).with_name("search_order.js")

# What Sphinx's search does otherwise -> what it does here.
PATCHES = {
    # It leaves out words that are numbers; here numbers are what is asked for.
    """stopwords.indexOf(queryTermLower) !== -1 ||
        queryTerm.match(/^\\d+$/)""": (
        "stopwords.indexOf(queryTermLower) !== -1 || UNASKED.has(queryTermLower)"
    ),
    # What people type is looked for in the words of the pages.
    "let word = stemmer.stemWord(queryTermLower);": (
        "let word = stemmer.stemWord(MEANT[queryTermLower] || queryTermLower);"
    ),
    # It takes a page that holds one of the short words for one that holds all of the long ones,
    # and finds nothing where no page holds all; here those that hold most of them are found.
    """if (
        wordList.length !== searchTerms.size &&
        wordList.length !== filteredTermCount
      )""": "if (wordList.length !== Math.max(...[...fileMap.values()].map(all => all.length)))",
    # It marks `ms` in the middle of `terms`.
    "highlightTerms.add(queryTermLower)": (
        "if (queryTermLower.length > 2) highlightTerms.add(queryTermLower)"
    ),
    # Its excerpt begins where the last word's letters first occur, if only inside another word.
    """[...keywords]
      .map((k) => textLower.indexOf(k.toLowerCase()))
      .filter((i) => i > -1)
      .slice(-1)[0]""": """[
        (new URLSearchParams(location.search).get("q") || "").toLowerCase().trim(),
        ...[...keywords].sort(
          (a, b) => /[0-9]/.test(b) - /[0-9]/.test(a) || b.length - a.length),
      ]
      .map((k) => textLower.search(new RegExp("(^|[^\\\\w.,])" + _escapeRegExp(k))))
      .filter((i) => i > -1)[0]""",
}


class SearchNumbers(SearchEnglish):
    """English whose numbers and hyphenated names stay whole."""

    js_splitter_code = SPLITTER
    js_stemmer_code = SearchEnglish.js_stemmer_code + STEMMER

    def split(self, input: str) -> list[str]:
        """The words to index: each part of a name, the name, and a number without its commas."""
        tokens = []
        for name in NAME.findall(input):
            parts = name.split("-")
            tokens += parts if len(parts) == 1 else [*parts, name]
            tokens += [part.replace(",", "") for part in parts if THOUSANDS.fullmatch(part)]
        return tokens

    def stem(self, word: str) -> str:
        """The word without its ending, if it is one of letters alone and long enough."""
        word = word.lower()
        return super().stem(word) if len(word) >= SHORTEST and LETTERS.fullmatch(word) else word


def connect(app: Sphinx) -> None:
    """Take the place of Sphinx's English search; called from the setup of `sizewise_site`."""
    app.add_search_language(SearchNumbers)
    app.config.html_search_scorer = str(ORDER)


def patch(script: Path) -> None:
    """Apply the patches to Sphinx's searchtools.js; warn of each that does not apply."""
    text = script.read_text(encoding="utf-8")
    for old, new in PATCHES.items():
        if old not in text:
            logger.warning("%s: no longer reads %r", script.name, old)
        text = text.replace(old, new)
    script.write_text(text, encoding="utf-8")
