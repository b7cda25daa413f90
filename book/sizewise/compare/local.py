"""One question to a model that runs here: one at a time, so that its seconds are a request's."""

import hashlib
import time

from sizewise.models import load

from .endpoint import Asking, Reply

SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")


def fingerprint(found: load.Source) -> str:
    """What tells one state of local weights from another: files with their sizes and times.

    Pinned models have a name that stands for their hash; a hub id is taken at its word.
    """
    if found.path is None:
        return ""
    path = found.path.resolve()
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
    told = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in files]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


class Local:
    """A loaded model with its tokenizer. Its chat template is used where it has one."""

    def __init__(self, found: load.Source, asking: Asking, device="cpu", dtype="fp32"):
        load.check_memory(found, dtype, device)
        self.model, self.tokenizer, _ = load.load(found, dtype)
        self.model.to(device)
        self.asking = asking
        self.templated = bool(getattr(self.tokenizer, "chat_template", None))

    def ask(self, prompt: str, seed: int = 0) -> Reply:
        """The answer to a prompt; ``failed`` where it does not fit the model's context."""
        from sizewise.evaluation import generation

        words, asking = self._turn(prompt), self.asking
        try:
            ids = generation.prompt_tokens(self.tokenizer, words)
            started = time.perf_counter()
            if asking.temperature:
                text, size = self._drawn(ids, seed)
            else:
                (answer,) = generation.answers(
                    self.model, self.tokenizer, [words], most=asking.most, batch=1
                )
                text, size = answer.text, answer.tokens
        except ValueError as error:
            return Reply(failed=" ".join(str(error).split()))
        return Reply(text, len(ids), size, time.perf_counter() - started)

    def _drawn(self, ids: list[int], seed: int) -> tuple[str, int]:
        """An answer drawn from all tokens at the temperature, and its tokens; the same for the
        same seed on the same machine."""
        import torch
        from transformers import GenerationConfig

        from sizewise.evaluation import generation

        most, tokenizer = self.asking.most, self.tokenizer
        generation.check_context(self.model, [ids], most)
        ends = generation.end_tokens(self.model, tokenizer)
        settings = GenerationConfig(
            do_sample=True,
            temperature=self.asking.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=most,
            eos_token_id=ends or None,
            pad_token_id=(ends or [0])[0],
        )
        given = torch.tensor([ids], device=self.model.device)  # (1, t)
        devices = [given.device] if given.is_cuda else []
        with torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(seed)
            out = self.model.generate(
                input_ids=given, attention_mask=torch.ones_like(given), generation_config=settings
            )[0, len(ids) :]
        return tokenizer.decode(out, skip_special_tokens=True), len(out)

    def _turn(self, prompt: str) -> str:
        """The prompt as the model is used to it."""
        system = self.asking.system
        plain = f"{system}\n\n{prompt}" if system else prompt
        if not self.templated:
            return plain
        turns = [{"role": "user", "content": prompt}]
        if system:
            try:
                return self._templated([{"role": "system", "content": system}, *turns])
            except Exception:  # some templates know no system, and say so each in its own way
                turns = [{"role": "user", "content": plain}]
        return self._templated(turns)

    def _templated(self, turns: list[dict[str, str]]) -> str:
        return self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
