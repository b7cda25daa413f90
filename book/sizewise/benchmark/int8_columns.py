"""How often LLM.int8() takes its detour: columns of inputs that it multiplies in 16 bits."""

from collections.abc import Callable

LAYER = "Linear8bitLt"  # bitsandbytes' class of such a layer


def counted(model, step: Callable[[], object]) -> dict[str, float]:
    """Columns of the inputs of all LLM.int8() layers in one call of ``step``, and their share.

    A column of an input (tokens, columns) counts if any of its values reaches its layer's
    threshold, which is bitsandbytes' own condition. Layers without a threshold count none.
    Raises ValueError if no such layer was reached.
    """
    over, columns = [], 0

    def look(module, given) -> None:
        nonlocal columns
        x = given[0].detach().reshape(-1, given[0].shape[-1])  # (tokens, columns)
        columns += x.shape[-1]
        if module.state.threshold > 0:
            over.append((x.half().abs() >= module.state.threshold).any(0).sum())

    found = [one for one in model.modules() if type(one).__name__ == LAYER]
    hooks = [one.register_forward_pre_hook(look) for one in found]
    try:
        step()
    finally:
        for hook in hooks:
            hook.remove()
    if not columns:
        raise ValueError("no layer of LLM.int8() was reached")
    number = sum(int(one) for one in over)
    return {"outlier_columns": number, "outlier_share": number / columns}
