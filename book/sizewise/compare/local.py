"""One question to a model that runs here: one at a time, so that its seconds are a request's."""

import hashlib
import time

from sizewise.models import load

from .endpoint import Asking, Reply
from .thoughts import split_thought

SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")


def fingerprint(source: load.Source) -> str:
    """What tells one state of local weights from another: files with their sizes and times.

    Pinned models have a name that stands for their hash; a hub id is taken at its word.
    """
    if source.path is None:
        return ""
    path = source.path.resolve()
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]


class Local:
    """A loaded model with its tokenizer. Its chat template is used where it has one."""

    def __init__(self, source: load.Source, options: Asking, device="cpu", dtype="fp32"):
        load.check_memory(source, dtype, device)
        self.model, self.tokenizer, _ = load.load(source, dtype)
        self.model.to(device)
        self.options = options
        self.templated = bool(getattr(self.tokenizer, "chat_template", None))

    def ask(self, prompt: str, seed: int = 0) -> Reply:
        """The answer to a prompt; ``failed`` where it does not fit the model's context."""
        from sizewise.evaluation import generation

        prompt, options = self._turn(prompt), self.options
        try:
            ids = generation.prompt_tokens(self.tokenizer, prompt)
            limit = min(options.max_tokens, max(1, generation.context(self.model) - len(ids)))
            started = time.perf_counter()
            if options.temperature:
                text, size, ended = self._drawn(ids, seed, limit)
            else:
                (answer,) = generation.answers(
                    self.model, self.tokenizer, [prompt], max_tokens=limit, batch=1
                )
                text, size, ended = answer.text, answer.tokens, answer.ended
        except ValueError as error:
            return Reply(failed=" ".join(str(error).split()))
        seconds = time.perf_counter() - started
        thought, text = split_thought(text)
        return Reply(
            text=text,
            prompt_tokens=len(ids),
            answer_tokens=size,
            seconds=seconds,
            thought=thought,
            finish="stop" if ended else "length",
        )

    def _drawn(self, ids: list[int], seed: int, limit: int) -> tuple[str, int, bool]:
        """An answer drawn from all tokens at the temperature, its tokens, and whether it ended;
        the same for the same seed on the same machine."""
        import torch
        from transformers import GenerationConfig

        from sizewise.evaluation import generation

        tokenizer = self.tokenizer
        generation.check_context(self.model, [ids], limit)
        ends = generation.end_tokens(self.model, tokenizer)
        settings = GenerationConfig(
            do_sample=True,
            temperature=self.options.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=limit,
            eos_token_id=ends or None,
            pad_token_id=(ends or [0])[0],
        )
        value = torch.tensor([ids], device=self.model.device)  # (1, t)
        devices = [value.device] if value.is_cuda else []
        with torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(seed)
            out = self.model.generate(
                input_ids=value, attention_mask=torch.ones_like(value), generation_config=settings
            )[0, len(ids) :]
        ended = len(out) < limit or out[-1].item() in ends
        return tokenizer.decode(out, skip_special_tokens=True), len(out), ended

    def _turn(self, prompt: str) -> str:
        """The prompt as the model is used to it."""
        system = self.options.system
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
