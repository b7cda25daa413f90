"""The conformance file: 150 configurations in the hub's form, each counted as the file says."""

import json

import pytest
from sizewise import paths
from sizewise.costs import memory
from sizewise.models import config, estimate, parameters

FILE = json.loads((paths.root() / "data" / "conformance.json").read_text(encoding="utf-8"))
MODELS = {row["name"]: row for row in FILE["models"]}


def test_at_least_a_hundred_models_each_with_a_source():
    assert len(MODELS) == len(FILE["models"]) >= 100
    assert all(row["source"] and (row.get("refused") or row["basis"]) for row in MODELS.values())


# Its 2,048 experts a layer are modules of their own: minutes, of which `make check` has some.
HUGE = {"google/switch-c-2048"}
NAMED = [pytest.param(name, marks=pytest.mark.slow) if name in HUGE else name for name in MODELS]


@pytest.mark.parametrize("name", NAMED)
def test_a_configuration_is_counted_as_the_file_says(name, tmp_path):
    row = MODELS[name]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(row["config"]))
    spec = config.load(file)
    if row.get("refused"):
        with pytest.raises(ValueError, match="has no class for model_type"):
            parameters.count(spec)
        return
    count, expected = parameters.count(spec), row["expected"]
    assert count.estimated is row["estimated"]
    assert (count.total, count.active) == (expected["total"], expected["active"])
    if "kv_bytes_per_token" in expected:
        model = parameters.describe(spec)
        assert memory.kv_bytes_per_token(model) == expected["kv_bytes_per_token"]


def test_the_estimate_agrees_where_the_file_says_so(tmp_path):
    mark = "estimate from fields, within"
    agreeing = [row for row in MODELS.values() if mark in row.get("basis", "")]
    assert len(agreeing) > 30
    for row in agreeing:
        file = tmp_path / "config.json"
        file.write_text(json.dumps(row["config"]))
        count = parameters.count(file)
        guess = sum(tensors.parameters for tensors in estimate.tensors(row["config"]))
        # The estimate is of the text part: a tower for images is not in it.
        assert guess == pytest.approx(count.total - count.vision, rel=1e-3), row["name"]
