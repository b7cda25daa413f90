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
            (answer,) = generation.answers(
                self.model,
                self.tokenizer,
                [prompt],
                max_tokens=limit,
                batch=1,
                temperature=options.temperature or 0.0,
                seed=seed,
            )
        except ValueError as error:
            return Reply(failed=" ".join(str(error).split()))
        seconds = time.perf_counter() - started
        thought, text = split_thought(answer.text)
        return Reply(
            text=text,
            prompt_tokens=len(ids),
            answer_tokens=answer.tokens,
            seconds=seconds,
            thought=thought,
            finish="stop" if answer.ended else "length",
        )

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
