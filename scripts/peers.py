"""Other calculators on the conformance file: what they say of the same configurations.

Each row is one question to one calculator: total parameters (accelerate's estimator) or bytes of KV
cache that one more token adds (hf-mem). Nothing is downloaded: accelerate's look at the hub is
given the row's own configuration, and hf-mem's formula is called with it. Both are asked in their
own words; what they refuse is a row too.

    pip install --no-deps hf-mem httpx2 && python scripts/peers.py
"""

import contextlib
import io
import json
import signal
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

from sizewise import paths
from sizewise.data import records
from sizewise.experiments import options

SECONDS = 90  # that a calculator may take for one model
LONG = 65_536  # tokens: beyond every window, so that the next token shows the growth
QUESTIONS = {"accelerate": "total", "hf-mem": "kv_bytes_per_token"}


def by_accelerate(config: dict) -> int:
    """Total parameters: the elements of the model that its estimator builds."""
    from accelerate.commands import estimate

    model_info = SimpleNamespace(
        library_name="transformers", config={"auto_map": config.get("auto_map", False)}, tags=[]
    )
    estimate.verify_on_hub = lambda *_: model_info
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        model = estimate.create_empty_model(folder, "transformers", trust_remote_code=False)
    return sum(parameter.numel() for parameter in model.parameters())


def by_hf_mem(config: dict) -> int:
    """Bytes of KV cache of one more token: its formula at two lengths."""
    from hf_mem.safetensors.kv_cache import compute_safetensors_kv_cache_size as size

    text = config.get("text_config", config)
    return size(text, "BF16", LONG + 1) - size(text, "BF16", LONG)


CALCULATORS = {"accelerate": by_accelerate, "hf-mem": by_hf_mem}


def answer(peer: str, config: dict) -> tuple[int | None, str | None]:
    """The calculator's number, or what it says instead in one line."""

    def stop(*_):
        raise TimeoutError(f"over {SECONDS} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return int(CALCULATORS[peer](config)), None
    except Exception as error:  # each refuses in its own way
        return None, f"{type(error).__name__}: {' '.join(str(error).split())}"[:120]
    finally:
        signal.alarm(0)


def main() -> None:
    options.parser(__doc__).parse_args()
    file = paths.root() / "data" / "conformance.json"
    models = json.loads(file.read_text(encoding="utf-8"))["models"]
    with records.writing(records.path("peers")) as writer:
        for peer, key in QUESTIONS.items():
            version = metadata.version(peer)
            for model in models:
                expected = model.get("expected", {}).get(key)
                config = {"peer": peer, "version": version, "model": model["name"], "asked": key}
                if expected is None or model.get("estimated"):
                    continue
                if not records.missing(records.path("peers"), [config]):
                    continue
                number, refusal = answer(peer, model["config"])
                measured = {"expected": expected, "answer": number, "refusal": refusal}
                writer.append(config, measured, records.provenance())
                print(peer, model["name"], number, expected, refusal or "", file=sys.stderr)


if __name__ == "__main__":
    main()
