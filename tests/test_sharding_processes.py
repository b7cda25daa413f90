"""What two real processes hold under FSDP2 and ZeRO stage 1 is what the formulas give."""

import json
import subprocess
import sys

import pytest
from sizewise.costs.training import state_bytes

WORKER = r"""
import json, sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn import Linear, Sequential

rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)

def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor

def size(tensors):
    return sum(local(t).numel() * local(t).element_size() for t in tensors)

def held(model, optimizer, inner=None):
    model(torch.ones(2, model[0].in_features)).sum().backward()
    optimizer.step()
    state = (inner or optimizer).state
    moments = [v for s in state.values() for k, v in s.items() if k != "step"]
    steps = [v for s in state.values() for k, v in s.items() if k == "step"]
    parameters = list(model.parameters())
    return {
        "weights": size(parameters),
        "gradients": size(p.grad for p in parameters),
        "optimizer": size(moments),
        "steps": size(steps),
        "storage": sum(local(p).untyped_storage().nbytes() for p in parameters),
    }

def net(*widths):
    return Sequential(*(Linear(a, b, bias=False) for a, b in zip(widths, widths[1:])))

mesh, results = init_device_mesh("cpu", (2,)), {}
for name, widths in {"even": (64, 128, 64), "odd": (10, 7)}.items():
    model = net(*widths)
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    results[f"fsdp {name}"] = held(model, torch.optim.Adam(model.parameters()))
for name, widths in {"even": (64, 128, 64), "odd": (64, 128)}.items():
    model = torch.nn.parallel.DistributedDataParallel(net(*widths))
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam)
    results[f"zero {name}"] = held(model.module, optimizer, optimizer.optim)
with open(f"{out}.{rank}", "w") as file:
    json.dump(results, file)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes measured of itself."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-c", WORKER]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(folder / "store"), str(folder / "held")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return [json.loads((folder / f"held.{rank}").read_text()) for rank in (0, 1)]


def triple(sizes):
    return sizes["weights"], sizes["gradients"], sizes["optimizer"]


@pytest.mark.parametrize(
    ("run", "stage"), [("fsdp even", 3), ("zero even", 1)], ids=["FSDP2", "ZeRO stage 1"]
)
def test_each_rank_holds_exactly_what_the_formula_says(ranks, run, stage):
    expected = state_bytes(2 * 64 * 128, "adam-fp32", stage=stage, data=2)
    for rank in ranks:
        assert triple(rank[run]) == (expected.weights, expected.gradients, expected.optimizer)


def test_unsharded_stages_differ_from_what_the_ranks_hold(ranks):
    whole = state_bytes(2 * 64 * 128, "adam-fp32", stage=0, data=2)
    assert triple(ranks[0]["fsdp even"])[2] * 2 == whole.optimizer
    assert triple(ranks[0]["zero even"])[:2] == (whole.weights, whole.gradients)


def test_step_counters_are_all_that_the_formula_leaves_out(ranks):
    assert [rank["fsdp even"]["steps"] for rank in ranks] == [4 * 2, 4 * 2]  # two tensors
    assert [rank["zero even"]["steps"] for rank in ranks] == [4, 4]  # one tensor each


def test_fsdp_splits_odd_tensors_by_whole_rows_and_pads_the_short_rank(ranks):
    expected = state_bytes(10 * 7, "adam-fp32", stage=3, data=2)
    weights = [rank["fsdp odd"]["weights"] for rank in ranks]
    assert weights == [4 * 10 * 4, 3 * 10 * 4]  # 4 and 3 of 7 rows
    assert sum(weights) == 2 * expected.weights
    assert max(weights) - expected.weights < 10 * 4  # less than one row off
    assert [rank["fsdp odd"]["storage"] for rank in ranks] == [4 * 10 * 4, 4 * 10 * 4]


def test_zero_redundancy_optimizer_never_splits_a_tensor(ranks):
    whole = state_bytes(64 * 128, "adam-fp32", stage=0, data=2).optimizer
    assert sorted(rank["zero odd"]["optimizer"] for rank in ranks) == [0, whole]
