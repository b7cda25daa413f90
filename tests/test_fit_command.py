"""Tables of runs that people have, and the command that fits them."""

import json
import sys

import numpy as np
import pandas
import pytest
from conftest import run_python
from sizewise import paths, scaling_laws

sys.path.insert(0, str(paths.root() / "scripts"))
from common import public_tables

FIT = ("-m", "sizewise", "fit")
TRUE = scaling_laws.Hoffmann(E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)


def table(params, tokens, noise=0.005):
    """Runs of a known law, losses off by ``noise``."""
    params, tokens = np.asarray(params, float), np.asarray(tokens, float)
    scatter = np.exp(np.random.default_rng(0).normal(0, noise, len(params)))
    loss = TRUE.loss(params, tokens) * scatter
    return pandas.DataFrame({"params": params, "tokens": tokens, "loss": loss})


def written(folder, frame, name="runs.csv"):
    file = folder / name
    frame.to_csv(file, index=False)
    return file


@pytest.fixture
def frame():
    return table(np.repeat(np.geomspace(5e7, 1.6e10, 6), 6), np.tile(np.geomspace(1e9, 1e12, 6), 6))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.head(4), "too few rows"),
        (lambda t: t.drop(columns="tokens"), "no column 'tokens'"),
        (lambda t: t.assign(loss=t["loss"].where(t.index != 3)), "row 4: loss is nan"),
        (lambda t: t.assign(params=t["params"].where(t.index != 0, 0)), "row 1: params is 0"),
        (lambda t: t.assign(tokens=t["tokens"].where(t.index != 1, -5)), "row 2: tokens is -5"),
        (lambda t: t.assign(loss=t["loss"].where(t.index != 1, np.inf)), "row 2: loss is inf"),
        (
            lambda t: t.astype(object).replace({"loss": {t["loss"][2]: "low"}}),
            "row 3: loss is 'low'",
        ),
        (lambda t: t.assign(params=1e9), "params takes 1 value;"),
        (lambda t: t.head(0), "too few rows"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(tmp_path, frame, spoil, message):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        scaling_laws.Runs.read(written(tmp_path, spoil(frame)))
    assert message in str(error.value)


@pytest.mark.parametrize(("mark", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_table_is_read_as_spreadsheets_save_it(tmp_path, frame, mark, encoding):
    file = tmp_path / "runs.csv"
    frame.to_csv(file, index=False, sep=mark, encoding=encoding, lineterminator="\r\n")
    assert scaling_laws.Runs.read(file).loss == pytest.approx(frame["loss"])


def test_a_json_array_is_not_read_as_a_table(tmp_path, frame):
    file = tmp_path / "runs.json"
    frame.to_json(file, orient="records")
    with pytest.raises(ValueError, match=r"is read from \.csv or \.jsonl"):
        scaling_laws.Runs.read(file)


def test_a_file_that_is_empty_or_missing_or_a_folder_is_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    for name in ("empty.csv", "missing.csv", "."):
        with pytest.raises(ValueError, match=r"^\S[^\n]*$"):
            scaling_laws.Runs.read(tmp_path / name)


def test_jsonl_and_csv_hold_the_same_runs(tmp_path, frame):
    lines = tmp_path / "runs.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    from_jsonl = scaling_laws.Runs.read(lines)
    from_csv = scaling_laws.Runs.read(written(tmp_path, frame))
    assert from_jsonl.loss.tolist() == pytest.approx(from_csv.loss.tolist())


def test_a_changed_table_is_not_taken_for_the_published_one(tmp_path, monkeypatch):
    file = public_tables.entry("chinchilla")["file"]
    (tmp_path / file).write_text("Model Size,Training FLOP,loss\n1,2,3\n")
    monkeypatch.setenv("SIZEWISE_PUBLISHED", str(tmp_path))
    with pytest.raises(ValueError, match="SHA-256"):
        public_tables.fetch("chinchilla")


def test_an_unknown_law_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="besiroglu"):
        scaling_laws.published("besirolgu")
    with pytest.raises(ValueError, match="no form that is evaluated"):
        scaling_laws.published("kaplan-allocation")


def test_the_command_gives_coefficients_intervals_and_the_optimum(tmp_path, frame):
    file = written(tmp_path, frame)
    process = run_python(*FIT, file, "--budget", "1e21", "--bootstrap", "200", "--json")
    assert process.returncode == 0, process.stderr
    outcome = json.loads(process.stdout)
    for name in scaling_laws.NAMES:
        low, high = outcome["ci"][name]
        assert low < outcome[name] < high
    assert outcome["alpha"] == pytest.approx(TRUE.alpha, rel=0.1)
    assert outcome["objective"] > 0
    assert 6 * outcome["params"] * outcome["tokens"] == pytest.approx(1e21)
    assert outcome["params_ci"][0] < outcome["params"] < outcome["params_ci"][1]
    assert outcome["params"] == pytest.approx(TRUE.optimum(1e21)[0], rel=0.2)


def test_the_command_shows_a_table_and_counts_sizes_in_another_column(tmp_path, frame):
    file = written(tmp_path, frame.rename(columns={"params": "non_embedding"}))
    process = run_python(*FIT, file, "--params", "non_embedding", "--bootstrap", "0")
    assert process.returncode == 0, process.stderr
    assert "alpha" in process.stdout
    assert "profile" in process.stdout


@pytest.mark.parametrize(
    "args",
    [
        ("missing.csv",),
        ("{}", "--budget", "-1"),
        ("{}", "--bootstrap", "-3"),
        ("{}", "--params", "size_in_bytes"),
        ("{}", "--loss", "perplexity"),
        ("{}", "--served", "1e12"),
        ("{}", "--budget", "1e21", "--served", "-1"),
    ],
)
def test_the_command_refuses_bad_input_in_one_line(tmp_path, frame, args):
    file = written(tmp_path, frame)
    process = run_python(*FIT, *(arg.replace("{}", str(file)) for arg in args))
    assert process.returncode == 2
    assert process.stdout == ""
    assert len(process.stderr.strip().split("\n")) == 1


def fitted(tmp_path, frame, *args):
    """What the command says of a table: its JSON, in which NaN is an error, and its stderr."""
    process = run_python(*FIT, written(tmp_path, frame), "--json", "--bootstrap", "100", *args)
    assert process.returncode == 0, process.stderr

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(process.stdout, parse_constant=refuse), process.stderr


@pytest.mark.parametrize("rows", [10, 11])
def test_ten_and_eleven_rows_are_enough(tmp_path, frame, rows):
    few = frame.iloc[np.linspace(0, len(frame) - 1, rows).astype(int)]
    result, _ = fitted(tmp_path, few, "--budget", "1e21")
    assert result["runs"] == rows
    assert result["alpha"] == pytest.approx(TRUE.alpha, rel=0.3)
    assert 0 < result["held_out_error"] < 0.05


SIZES = np.geomspace(1e8, 1e10, 12)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: table(SIZES, 20 * SIZES), "fixed tokens for each parameter"),
        (lambda t: table(SIZES, 1e21 / 6 / SIZES), "one budget"),
        (lambda t: table(SIZES, 1e3 * SIZES**0.9), "tokens that follow size"),
        (lambda t: t.assign(loss=6 - t["loss"]), "losses rise with compute"),
        (lambda t: t.assign(loss=2.5), "all losses are equal"),
        (lambda t: t.assign(loss=2 + np.exp(-t["params"] / 1e9)), "which no scaling law has"),
        (lambda t: t.assign(params=t["params"] / 1e9), "params are 16 at most: is the column in"),
        (lambda t: t.assign(params=t["params"] / 1e6), "params are 16000 at most: is the column"),
        (lambda t: t.assign(tokens=t["tokens"] / 1e9), "millions or billions"),
        (lambda t: t.assign(tokens=t["tokens"] / 1e6), "tokens are 1e+06 at most: is the column"),
        (lambda t: t.assign(loss=np.exp(t["loss"] + 0.5)), "is it perplexity?"),
        (lambda t: t.assign(loss=t["loss"] - t["loss"].min() + 5.5), "is it perplexity?"),
        (lambda t: t.assign(loss=t["loss"] / 3), "is it bits a byte?"),
        (lambda t: t.assign(flops=6e-15 * t["params"] * t["tokens"]), "column in another unit?"),
        (lambda t: pandas.concat([t, t.head(5)]), "5 rows repeat another exactly"),
    ],
)
def test_a_table_that_decides_nothing_has_a_warning(tmp_path, frame, spoil, message):
    result, output = fitted(tmp_path, spoil(frame), "--budget", "1e21")
    assert any(message in line for line in result["warnings"]), result["warnings"]
    assert message in output
    low, high = 0.01, 1.5
    credible = low <= result["alpha"] <= high and low <= result["beta"] <= high
    assert credible or any("no scaling law has" in line for line in result["warnings"])
    assert credible or {end for pair in result["ci"].values() for end in pair} == {None}
    assert result["params"] is None or (credible and 0 < result["params"] < 1e15)


def test_nothing_missed_is_no_missing_number(tmp_path, frame):
    process = run_python(*FIT, written(tmp_path, frame.assign(loss=2.5)), "--bootstrap", "0")
    assert "runs left out in turn are missed by 0.00% (median)" in process.stdout


def test_a_good_table_is_not_warned_of(tmp_path, frame):
    result, output = fitted(tmp_path, frame, "--budget", "1e21")
    assert result["warnings"] == []
    assert output == ""


@pytest.mark.parametrize(
    "names",
    [
        ("N", "D", "L"),
        ("Params", "Tokens", "val_loss"),
        ("n_params", "train tokens", "Validation Loss"),
        ("Model Size", "training-tokens", "final_loss"),
    ],
)
def test_headers_that_people_write_are_understood(tmp_path, frame, names):
    plain = scaling_laws.Runs.read(written(tmp_path, frame))
    renamed = scaling_laws.Runs.read(written(tmp_path, frame.set_axis(names, axis=1)))
    for name in ("params", "tokens", "loss"):
        assert getattr(renamed, name).tolist() == getattr(plain, name).tolist()


def test_all_columns_can_be_named_and_two_that_could_be_meant_are_refused(tmp_path, frame):
    file = written(tmp_path, frame.set_axis(["a", "b", "c"], axis=1).assign(d=1e20))
    runs = scaling_laws.Runs.read(file, params="a", tokens="b", loss="c", flops="d")
    assert (runs.flops == 1e20).all()
    both = frame.rename(columns={"loss": "val_loss"}).assign(eval_loss=frame["loss"])
    with pytest.raises(ValueError, match="'val_loss', 'eval_loss' could be loss"):
        scaling_laws.Runs.read(written(tmp_path, both))


def test_compute_in_another_unit_gives_no_tokens(tmp_path, frame):
    frame = frame.assign(c=6e-15 * frame["params"] * frame["tokens"]).drop(columns="tokens")
    with pytest.raises(ValueError, match="must be in FLOPs, not in PFLOPs or PF-days"):
        scaling_laws.Runs.read(written(tmp_path, frame))


def test_counted_flops_decide_the_allocation_and_stand_in_for_tokens(tmp_path, frame):
    flops = 12 * frame["params"] * frame["tokens"]  # twice as dear as 6 N D
    result, _ = fitted(tmp_path, frame.assign(flops=flops), "--budget", "2e21")
    plain, _ = fitted(tmp_path, frame, "--budget", "1e21")
    assert (result["flops_from"], plain["flops_from"]) == ("column", "6 N D")
    assert result["params"] == pytest.approx(plain["params"], rel=0.01)
    assert result["tokens"] == pytest.approx(plain["tokens"], rel=0.01)
    without = frame.assign(c=6 * frame["params"] * frame["tokens"]).drop(columns="tokens")
    runs = scaling_laws.Runs.read(written(tmp_path, without))
    assert runs.tokens.tolist() == pytest.approx(frame["tokens"].tolist())


def test_serving_asks_for_a_smaller_model_on_more_tokens(tmp_path, frame):
    result, _ = fitted(tmp_path, frame, "--budget", "1e21", "--served", "1e13")
    assert result["served_params"] < result["params"]
    assert result["served_tokens"] > result["tokens"]
    law = scaling_laws.Hoffmann(*(result[name] for name in scaling_laws.NAMES))
    assert law.loss(result["served_params"], result["served_tokens"]) == pytest.approx(
        law.loss(result["params"], result["tokens"])
    )
    low, high = result["served_params_ci"]
    assert low < result["served_params"] < high
