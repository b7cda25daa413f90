"""Greedy answers of a language model to many prompts, cut where a stop string begins.

`transformers` generates; here prompts of like length go together, each is padded on its left, and
each answer ends on its own. The model's own settings of sampling and penalties are put aside,
so that the likeliest token is taken at every step and nothing else.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sizewise.validation import whole

from . import likelihood

DECODING = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
SLACK = 4  # tokens before a stop string that may hold a part of a character


@dataclass(frozen=True)
class Answer:
    """What a model wrote: the text before any stop string, and what it took."""

    text: str
    tokens: int  # generated until the answer ended, those of the stop string and the end among them
    ended: bool = True  # by itself or a stop string; False where ``max_tokens`` cut it


def answers(
    model,
    tokenizer,
    prompts: Sequence[str],
    *,
    max_tokens: int,
    stops: tuple[str, ...] = (),
    batch: int = 8,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[Answer]:
    """One answer of at most ``max_tokens`` tokens a prompt, in the prompts' order.

    The likeliest token follows at a ``temperature`` of 0; else tokens are drawn from all of them,
    the same for the same seed and batch on the same machine. An answer ends before the first of
    ``stops`` in it, or at the tokenizer's or the model's end token. A stop string that begins in
    the prompt does not count. What is likeliest does not depend on ``batch`` but for rounding:
    padding changes the order of sums, which can turn a near tie (rare in fp32, less so in bf16).
    Raises ValueError for an empty prompt, an empty stop string, and a prompt that with
    ``max_tokens`` is over the model's context.
    """
    import torch

    max_tokens, batch = whole("the most tokens", max_tokens, 1 << 20), whole("the batch", batch)
    if isinstance(prompts, str) or isinstance(stops, str) or not all(stops):
        raise ValueError("prompts and stops are sequences of texts, and no stop is empty")
    ids = [prompt_tokens(tokenizer, prompt) for prompt in prompts]
    longest = max(map(len, ids), default=0)
    if longest + max_tokens > context(model):
        raise ValueError(
            f"a prompt of {longest} tokens and an answer of {max_tokens} are over the context "
            f"{context(model)}"
        )
    order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
    result: dict[int, Answer] = {}
    device = next(model.parameters()).device
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.inference_mode(),
        likelihood.still(model),
        _settings(model, tokenizer, max_tokens, temperature),
    ):
        torch.manual_seed(seed)
        for first in range(0, len(order), batch):
            group = order[first : first + batch]
            prompt_ids = [ids[number] for number in group]
            result |= zip(group, _batch(model, tokenizer, prompt_ids, stops), strict=True)
    return [result[number] for number in range(len(ids))]


def chat(tokenizer, request: str) -> str:
    """``request`` as a user's turn in the tokenizer's own template, up to where the model speaks.

    Raises ValueError if the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError("the tokenizer has no chat template; leave chat off for this model")
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": request}], tokenize=False, add_generation_prompt=True
    )


def cut(text: str, stops: Sequence[str]) -> str:
    """``text`` up to where the first stop string in it begins."""
    result = [at for at in map(text.find, stops) if at >= 0]
    return text[: min(result)] if result else text


def _batch(model, tokenizer, prompt_ids: list[list[int]], stops) -> list[Answer]:
    import torch
    from transformers import StoppingCriteriaList

    longest = max(map(len, prompt_ids))
    ids = torch.full((len(prompt_ids), longest), model.generation_config.pad_token_id)  # (b, t)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(prompt_ids):
        ids[row, longest - len(tokens) :] = torch.tensor(tokens)
        mask[row, longest - len(tokens) :] = 1
    device = next(model.parameters()).device
    ends = set(model.generation_config.eos_token_id or ())
    ended = _ended(tokenizer, longest, len(prompt_ids), stops, ends)
    out = model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        stopping_criteria=StoppingCriteriaList([ended]),
    )[:, longest:].tolist()
    sizes = [at or len(row) for at, row in zip(ended.sizes, out, strict=True)]
    return [
        Answer(cut(tokenizer.decode(row[:size], **DECODING), stops), size, bool(at))
        for row, size, at in zip(out, sizes, ended.sizes, strict=True)
    ]


def _ended(tokenizer, start: int, rows: int, stops, ends: set[int]):
    """A criterion that notes after how many tokens each row ended: ``sizes``, 0 for not yet.

    That of `transformers` looks at the prompt's end too, and goes through the whole vocabulary.
    """
    import torch
    from transformers import StoppingCriteria

    longest = max((len(stop.encode()) for stop in stops), default=0)
    last = longest + SLACK  # tokens that hold a stop string, since each is a byte or more

    class Ended(StoppingCriteria):
        sizes = [0] * rows

        def __call__(self, input_ids, scores, **kwargs):
            for row, tokens in enumerate(input_ids[:, start:].tolist()):
                if not self.sizes[row] and self._over(tokens):
                    self.sizes[row] = len(tokens)
            return torch.tensor([size > 0 for size in self.sizes], device=input_ids.device)

        def _over(self, tokens: list[int]) -> bool:
            if tokens[-1] in ends:
                return True
            # the end first, since that is short; it may begin in the middle of a character
            return bool(stops) and all(
                any(stop in tokenizer.decode(part, **DECODING) for stop in stops)
                for part in (tokens[-last:], tokens)
            )

    return Ended()


@contextmanager
def _settings(model, tokenizer, max_tokens: int, temperature: float) -> Iterator[None]:
    """The model with settings that take the likeliest token or draw from all, and nothing else."""
    from transformers import GenerationConfig

    before = model.generation_config
    model_ends = before.eos_token_id if before else None
    several = model_ends if isinstance(model_ends, list | tuple) else [model_ends]
    ends = [entry for entry in (tokenizer.eos_token_id, *several) if entry is not None]
    padding = next((entry for entry in (tokenizer.pad_token_id, *ends) if entry is not None), 0)
    drawing = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    model.generation_config = GenerationConfig(
        do_sample=bool(temperature),
        **drawing,
        num_beams=1,
        max_new_tokens=max_tokens,
        eos_token_id=ends or None,
        pad_token_id=padding,
        use_cache=True,
    )
    try:
        yield
    finally:
        model.generation_config = before


def prompt_tokens(tokenizer, prompt: str) -> list[int]:
    """The prompt's tokens, with what the tokenizer puts before a text, but never twice.

    Raises ValueError for a prompt without any.
    """
    opening = likelihood.start(tokenizer)
    ids = list(tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
    ids = ids if ids[: len(opening)] == opening else [*opening, *ids]
    if not ids:
        raise ValueError("a prompt is empty, and this tokenizer puts nothing before a text")
    return ids


def context(model) -> float:
    """The tokens that a model was made for, infinite where it states none."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or float("inf")
