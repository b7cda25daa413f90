"""Thoughts that a model writes before its answer, in the forms that models and servers use."""

import re

TAGS = (
    r"(?:[a-z]+:)?(?:\w*think|thinking|thoughts?|thought_process|reasoning|reason|reflection|analysis"
    r"|scratchpad|inner_monologue|chain_of_thought|planning)"
)
ATTRIBUTES = r"(?:\s[^<>]{0,100})?"
OPEN = re.compile(
    rf"<{TAGS}{ATTRIBUTES}>|<details\s+type=\"reasoning\"[^<>]*>|<details>\s*<summary>(?=\s*thought)"
    r"|\[THINK\]|◁think▷|<unused94>|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    r"|<\|think(?:ing)?\|>|<\|channel>thought",
    re.I,
)
CLOSE = re.compile(
    rf"</{TAGS}\s*>|</details>|\[/THINK\]|◁/think▷|<unused95>|<\|end_of_thought\|>"
    r"|<\|END_THINKING\|>|<\|/think(?:ing)?\|>|<channel\|>",
    re.I,
)
CHANNEL = re.compile(r"(?:<\|start\|>\w+)?<\|channel\|>(\w+)[^<]*<\|message\|>")
SPECIAL = re.compile(
    r"<\|(?:end|return|eot_id|im_end|endoftext|assistant|START_RESPONSE|END_RESPONSE"
    r"|(?:begin|end)_of_(?:solution|box))\|>"
)


def split_thought(text: str) -> tuple[str, str]:
    """(thought, answer) of what a model wrote; a thought that never ends leaves no answer.

    Reads tags (``<think>``, ``[THINK]``, ``◁think▷``), also with the opening one in the prompt,
    and channels of the harmony format (OpenAI 2025), of which ``final`` is the answer.
    """
    parts = list(CHANNEL.finditer(text))
    if parts:
        thought, answer = [text[: parts[0].start()]], []
        for part, after in zip(parts, [*parts[1:], None], strict=True):
            content = text[part.end() : after.start() if after else len(text)]
            (answer if part[1] == "final" else thought).append(SPECIAL.sub("", content))
        return "".join(thought).strip(), "".join(answer).strip()
    ends = list(CLOSE.finditer(text))
    if ends and ends[-1][0].lower() == "</details>" and not OPEN.search(text):
        ends = []  # a foldable part of the answer
    if ends:  # the last one ends all thoughts, whatever they quote
        last = ends[-1]
        remainder = text[last.end() :]
        if begins := OPEN.search(remainder):  # begun again, and not ended
            return _bare(text[: last.end()] + remainder[begins.start() :]), remainder[
                : begins.start()
            ].strip()
        first = OPEN.search(text)
        before = text[: first.start()] if first and first.start() < last.start() else ""
        return _bare(text[len(before) : last.start()]), SPECIAL.sub("", before + remainder).strip()
    if begins := OPEN.search(text):
        return _bare(text[begins.start() :]), text[: begins.start()].strip()
    return "", SPECIAL.sub("", text).strip() if SPECIAL.search(text) else text


def _bare(thought: str) -> str:
    return CLOSE.sub("", OPEN.sub("", thought)).strip()
