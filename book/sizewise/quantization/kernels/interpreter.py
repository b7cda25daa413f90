"""Triton's interpreter beside numpy 2.4: a loop bound of one element, made an int again."""

from functools import cache


@cache
def repair() -> None:
    """Let Triton 3.6's interpreter take a loop's bounds from loaded values.

    It calls int() on an array of one element, which numpy refuses from 2.4 on.
    """
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched
