"""What the tests of `sizewise.benchmark` share: small models, a pretended GPU, a quick clock."""

import importlib.util
import time

import pytest
from sizewise import paths
from sizewise.benchmark import decode, model, rows

torch = pytest.importorskip("torch")
ROOT = paths.root()
SCRIPT = ROOT / "scripts" / "gpu_weights.py"
FOUR_BITS = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes"
)
QUICK = {"repeats": 3, "least": 0.001}


@pytest.fixture(name="tiny", scope="module")
def the_tiny():
    return model.build("llama-tiny", "fp32", "cpu")


@pytest.fixture(name="script", scope="module")
def the_script():
    spec = importlib.util.spec_from_file_location("gpu_weights", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled(one, cache, tokens):
    """Put the keys and values of ``tokens`` into a static cache, by `transformers`' own one."""
    from transformers import DynamicCache

    one.config._attn_implementation = "eager"
    own = DynamicCache(config=one.config)
    with torch.inference_mode():
        one.model(tokens, past_key_values=own, use_cache=True)
    for layer, retained in enumerate(own.layers):
        cache.keys[layer][:, :, :-1].copy_(retained.keys)
        cache.values[layer][:, :, :-1].copy_(retained.values)


@pytest.fixture(name="quick", autouse=True)
def the_quick(monkeypatch):
    monkeypatch.setattr(rows, "CPU_LEAST", 0.001)


def config(**more):
    return {
        "device": "CPU",
        "kind": "decode",
        "model": "llama-tiny",
        "format": "fp32",
        "mode": "static",
        "batch": 1,
        "context": 8,
        "seed": 0,
    } | more


class Nothing:
    """A stream, a context, an event: whatever a GPU's bookkeeping asks for."""

    def __init__(self, *args, **kwargs):
        self.at = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def wait_stream(self, stream):
        return None

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        return None

    def elapsed_time(self, end):
        return 1e3 * (end.at - self.at)

    def query(self):
        return False  # the device has not come to it yet


@pytest.fixture(name="pretended")
def the_pretended(monkeypatch):
    """The calls that bookkeep a GPU's work, answered by the CPU, which does the work itself."""
    messages = {"forbidden": False, "slept": []}
    for name in ("Stream", "stream", "graph", "CUDAGraph", "Event"):
        monkeypatch.setattr(torch.cuda, name, Nothing)
    monkeypatch.setattr(torch.cuda, "current_stream", Nothing)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "_sleep", messages["slept"].append)
    monkeypatch.setattr(
        torch.cuda, "set_sync_debug_mode", lambda mode: messages.update(forbidden=mode == "error")
    )
    return messages


@pytest.fixture(name="step")
def the_step(tiny):
    built, _ = decode.prepared(tiny, "static", 2, 8)
    built.device = "cuda"
    return built


def replaying(step, factor=1.0):
    """A graph's replay: the step's results in the tensors of its capture."""

    def replay(graph):
        retained = step.logits
        step()
        with torch.inference_mode():
            retained.copy_(factor * step.logits)
        step.logits = retained

    return replay
