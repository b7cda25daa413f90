"""One step of training: loss, gradient, clipping, AdamW. Launched piece by piece, or as one graph.

A small model leaves a large GPU waiting for the processor: a step of a few layers is several
hundred kernels of a few microseconds each. `Graph` records a whole step once and replays it as one
launch. It computes what `eager` computes; its rate lies in memory, where the graph reads it.
"""

import math
from contextlib import nullcontext

from . import loss, models, optimizer

WARM = 3  # steps before a graph is recorded, as torch asks for


def eager(run, model, adam, compiled: bool = False):
    """A function (ids, targets, share of the peak rate) -> loss, a tensor that nothing waits for.

    ``compiled`` hands model and loss to torch.compile, which pays after some thousand steps.
    """
    of_model = _loss(compiled)

    def take(ids, targets, share: float):
        optimizer.set_rate(adam, share)
        value = _once(run, model, adam, of_model, ids, targets)
        adam.zero_grad(set_to_none=True)
        return value

    return take


class Graph:
    """The same as a CUDA graph, for batches of one shape on one device.

    A graph can hold no step whose course depends on its data, as that of a mixture of experts
    does; `check` says so. Recording runs a few steps, which are undone.
    """

    def __init__(self, run, model, adam, ids, targets, compiled: bool = False):
        import torch

        self.run, self.model, self.adam, self.of_model = run, model, adam, _loss(compiled)
        self.ids, self.targets = ids.clone(), targets.clone()
        for group in adam.param_groups:
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=ids.device)
        self.value = None
        _undone(model, adam, self._warm)
        self.replay = self._record()

    def __call__(self, ids, targets, share: float):
        self.ids.copy_(ids)
        self.targets.copy_(targets)
        optimizer.set_rate(self.adam, share)
        self.replay()
        return self.value.clone()  # the next replay writes over it

    def _step(self):
        # A cast that autocast kept from recording would never be made again.
        return _once(
            self.run, self.model, self.adam, self.of_model, self.ids, self.targets, cache=False
        )

    def _warm(self) -> None:
        import torch

        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM):
                self.adam.zero_grad(set_to_none=True)
                self._step()
        torch.cuda.current_stream().wait_stream(beside)

    def _record(self):
        import torch

        self.adam.zero_grad(set_to_none=True)  # gradients then live in the graph's own memory
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.value = self._step()
        return graph.replay


def check(run, device) -> None:
    """ValueError unless a step of this run can be a graph on this device."""
    if device.type != "cuda":
        raise ValueError(f"graphs want a GPU, and this run is on the {device.type}")
    if models.kind(run.family) == "moe":
        raise ValueError("graphs: a step of family 'moe' depends on where its tokens are sent")


def format_of(device, *, cache: bool = True):
    """bf16 products on a GPU, fp32 on a CPU."""
    import torch

    on_gpu = torch.device(device).type == "cuda"
    if not on_gpu:
        return nullcontext()
    return torch.autocast("cuda", torch.bfloat16, cache_enabled=cache)


def finite(losses: list[float]) -> bool:
    """Whether all are."""
    return all(map(math.isfinite, losses))


def _loss(compiled: bool):
    import torch

    return torch.compile(loss.next_token) if compiled else loss.next_token


def _once(run, model, adam, of_model, ids, targets, cache: bool = True):
    import torch

    with format_of(ids.device, cache=cache):
        value = of_model(model, ids, targets)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), run.clip)
    adam.step()
    return value.detach()


def _undone(model, adam, work) -> None:
    """Do ``work``, then put weights and the optimizer's state back, in place."""
    import torch

    weights = [weight.detach().clone() for weight in model.parameters()]
    before = {
        weight: {name: value.clone() for name, value in state.items()}
        for weight, state in adam.state.items()
    }
    work()
    with torch.no_grad():
        for weight, old in zip(model.parameters(), weights, strict=True):
            weight.copy_(old)
        for weight, state in adam.state.items():
            for name, value in state.items():  # a fresh optimizer starts from zeros
                old = before.get(weight, {}).get(name)
                value.zero_() if old is None else value.copy_(old)
