"""Thoughts that a model writes before its answer, in the forms that models and servers use."""

import re

TAGS = "think|thinking|thought|thoughts|reasoning|reason|reflection|analysis|scratchpad|seed:think"
OPEN = re.compile(
    rf"<(?:{TAGS})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    r"|<\|channel>thought",
    re.I,
)
CLOSE = re.compile(
    rf"</(?:{TAGS})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>"
    r"|<channel\|>",
    re.I,
)
CHANNEL = re.compile(r"(?:<\|start\|>\w+)?<\|channel\|>(\w+)[^<]*<\|message\|>")
SPECIAL = re.compile(
    r"<\|(?:end|return|eot_id|im_end|endoftext|START_RESPONSE|END_RESPONSE"
    r"|begin_of_solution|end_of_solution)\|>"
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
    if ends:  # the last one ends all thoughts, whatever they quote
        last = ends[-1]
        rest = text[last.end() :]
        if begins := OPEN.search(rest):  # begun again, and not ended
            return _bare(text[: last.end()] + rest[begins.start() :]), rest[
                : begins.start()
            ].strip()
        first = OPEN.search(text)
        before = text[: first.start()] if first and first.start() < last.start() else ""
        return _bare(text[len(before) : last.start()]), SPECIAL.sub("", before + rest).strip()
    if begins := OPEN.search(text):
        return _bare(text[begins.start() :]), text[: begins.start()].strip()
    return "", SPECIAL.sub("", text).strip() if SPECIAL.search(text) else text


def _bare(thought: str) -> str:
    return CLOSE.sub("", OPEN.sub("", thought)).strip()
