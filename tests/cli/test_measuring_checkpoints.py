"""`ofe measure` on checkpoints: its numbers, its contract, its files, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import Result

from reproduce.metrics.table import CHECKPOINT_METRICS, CORRELATION_METRICS
from tests.checkpoints.tiny import build, byte_tokenizer, save
from tests.measuring.test_streaming import by_hand

Ofe = Callable[..., Result]
SHORT = ("--tokens", "64", "--seq-len", "16")


pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(build("Llama"), tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that the tests of this module share, so that a model is measured once."""
    return tmp_path_factory.mktemp("shared") / "home"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("".join(f"line {n}: value = {n * n % 97}, é\n" for n in range(200)), encoding="utf-8")
    return path


def test_every_number_is_that_of_a_naive_computation(ofe: Ofe, llama: Path, text: Path, home: Path) -> None:
    result = ofe("measure", str(llama), *SHORT, "--text", str(text), "--correlations", "--json", home=home)
    assert result.exit_code == 0, result.stderr
    (reading,) = json.loads(result.stdout)
    assert list(reading) == [
        *("model", "revision", "tokens", "skip_first", "layers", "neurons", "int8", "key", "commit")
    ]  # fmt: skip
    assert (reading["model"], reading["revision"], reading["tokens"], reading["skip_first"]) == (
        *("tiny-llama", None, 64, 1),
    )  # fmt: skip

    ids = torch.tensor(byte_tokenizer()(text.read_text("utf-8"))["input_ids"][:64]).view(4, 16)
    with torch.no_grad():
        states = build("Llama")(input_ids=ids, output_hidden_states=True).hidden_states
    assert [layer["layer"] for layer in reading["layers"]] == ["1", "2", "3", "unembed"]
    for layer, state in zip(reading["layers"], states, strict=True):
        assert layer["point"] == "stream"
        for column, seen in (("all", state), ("skipped", state[:, 1:])):
            assert list(layer[column]) == sorted((*CHECKPOINT_METRICS, *CORRELATION_METRICS))
            expected = by_hand(seen)
            for metric, value in layer[column].items():
                assert value == pytest.approx(expected[metric], rel=1e-5, abs=1e-9), (layer["layer"], metric)
        worst = next(neuron for neuron in reading["neurons"] if neuron["layer"] == layer["layer"])
        energy = state.double().square().sum((0, 1))
        assert worst["neuron"] == int(energy.argmax())
        assert worst["share"] == pytest.approx(float(energy.max() / energy.sum()))
        values, token = state[..., worst["neuron"]].abs(), worst["tokens"][0]
        loudest = (values == values.max()).nonzero().tolist()  # several, where equal tokens have equal embeddings
        assert (token["text"], token["position"]) in {
            (byte_tokenizer().decode(ids[row, place]), place) for row, place in loudest
        }
        assert token["value"] == pytest.approx(float(values.max()))
        shares = [neuron["share"] for neuron in reading["neurons"] if neuron["layer"] == layer["layer"]]
        assert shares == sorted(shares, reverse=True)


def test_a_measurement_is_cached_and_a_moved_folder_is_the_same_model(
    ofe: Ofe, llama: Path, home: Path, tmp_path: Path
) -> None:
    first = ofe("measure", str(llama), *SHORT, "--json", home=home)
    assert first.exit_code == 0, first.stderr
    moved = Path(shutil.copytree(llama, tmp_path / "another-name"))
    again = ofe("measure", str(moved), *SHORT, "--json", home=home)
    assert again.stderr == ""
    assert json.loads(again.stdout)[0]["layers"] == json.loads(first.stdout)[0]["layers"]
    rows = json.loads(ofe("status", "--json", home=home).stdout)
    assert {row["slug"] for row in rows} == {"tiny-llama-measured"}
    assert ofe("cache", "verify", home=home).exit_code == 0
    assert ofe("cache", "list", home=home).exit_code == 0


def test_one_table_and_one_picture_of_several_models(ofe: Ofe, llama: Path, home: Path, tmp_path: Path) -> None:
    other = save(build("GPTNeoX"), tmp_path / "tiny-neox")
    files = ("--csv", str(tmp_path / "all.csv"), "--plot", str(tmp_path / "all.png"))
    result = ofe("measure", str(llama), str(other), *SHORT, *files, home=home)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("tiny-llama") == 4 + 1
    assert result.stdout.count("tiny-neox") == 4 + 1
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    assert len(rows) == 2 * 4 * 2 * len(CHECKPOINT_METRICS)
    assert {row["positions"] for row in rows} == {"all", "skipped"}
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


def test_the_screen_names_the_neuron_and_its_tokens(ofe: Ofe, llama: Path, home: Path) -> None:
    shown = ofe("measure", str(llama), *SHORT, home=home).stdout
    assert shown.startswith("tiny-llama, measured on 64 tokens\n")
    assert "later" in shown
    assert "it fires " in shown
    assert "dB of signal to noise" in shown


def test_the_table_fits_80_columns_and_cuts_no_number(ofe: Ofe, llama: Path, home: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("reproduce.cli.console.PIPE_WIDTH", 80)
    shown = ofe("measure", str(llama), *SHORT, home=home).stdout
    assert max(map(len, shown.splitlines())) <= 80
    table = shown.partition("\n\n")[0]
    assert "…" not in table
    for title in ("kurtosis", "later", "MMR", "RMS", "neuron", "share"):
        assert title in table


def test_by_default_sequences_are_as_long_as_a_small_model_takes(ofe: Ofe, home: Path, tmp_path: Path) -> None:
    """The GPT-2 has 64 positions, and the default is 512."""
    short = save(build("GPT2"), tmp_path / "tiny-gpt2")
    (reading,) = json.loads(ofe("measure", str(short), "--tokens", "128", "--json", home=home).stdout)
    assert reading["tokens"] == 128


def test_points_inside_the_blocks(ofe: Ofe, llama: Path, home: Path) -> None:
    points = ("--points", "stream,attn_out,mlp_out,down_in,q,k")
    (reading,) = json.loads(ofe("measure", str(llama), *SHORT, *points, "--json", home=home).stdout)
    found = [(layer["point"], layer["layer"]) for layer in reading["layers"]]
    assert found == [
        *(("stream", layer) for layer in ("1", "2", "3", "unembed")),
        *((point, layer) for point in ("attn_out", "down_in", "k", "mlp_out", "q") for layer in ("1", "2", "3")),
    ]


def test_token_indices_need_no_tokenizer(ofe: Ofe, home: Path, tmp_path: Path) -> None:
    bare = save(build("OPT"), tmp_path / "bare", tokenizer=False)
    refused = ofe("measure", str(bare), *SHORT, home=home)
    assert (refused.exit_code, "this checkpoint has no tokenizer" in refused.stderr) == (1, True)
    assert "--text-ids FILE" in refused.stderr
    np.save(tmp_path / "ids.npy", np.arange(64) + 3)
    (tmp_path / "ids.txt").write_text(" ".join(map(str, range(3, 67))))
    readings = [
        json.loads(ofe("measure", str(bare), *SHORT, "--text-ids", str(tmp_path / name), "--json", home=home).stdout)
        for name in ("ids.npy", "ids.txt")
    ]
    assert readings[0][0]["layers"] == readings[1][0]["layers"]
    assert readings[0][0]["neurons"][0]["tokens"][0]["text"].isdecimal()


def test_what_was_measured_for_no_figure_is_no_reference(ofe: Ofe, llama: Path, home: Path) -> None:
    assert ofe("measure", str(llama), *SHORT, home=home).exit_code == 0
    key = json.loads(ofe("measure", str(llama), *SHORT, "--json", home=home).stdout)[0]["key"]
    refused = ofe("cache", "promote", key, home=home)
    assert refused.exit_code == 2
    assert "was made for no figure" in refused.stderr


def test_revisions_are_measured_through_training(
    ofe: Ofe, llama: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "hub" / "models--owner--tiny"
    (repository / "refs").mkdir(parents=True)
    steps = (0, 8, 512)
    for seed, step in enumerate(steps):
        commit = f"{step:040}"
        save(build("Llama", seed=seed), repository / "snapshots" / commit)
        (repository / "refs" / f"step{step}").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    revisions = [word for step in steps for word in ("--revision", f"step{step}")]
    picture = tmp_path / "steps.png"
    result = ofe("measure", "owner/tiny", *revisions, *SHORT, "--plot", str(picture), "--offline", "--json", home=home)
    assert result.exit_code == 0, result.stderr
    readings = json.loads(result.stdout)
    assert [(one["model"], one["revision"], one["step"], int(one["commit"])) for one in readings] == [
        ("owner/tiny", f"step{step}", step, step) for step in steps
    ]
    assert len({one["layers"][0]["all"]["kurtosis"] for one in readings}) == 3
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = ofe("measure", "owner/tiny", *revisions, *SHORT, "--offline", home=home).stdout
    assert table.count("owner/tiny@step512") == 4 + 1


def test_the_check_says_that_the_streams_are_the_hidden_states(ofe: Ofe, llama: Path, home: Path) -> None:
    checked = ofe("measure", str(llama), *SHORT, "--check", home=home)
    assert "tiny-llama: checked against output_hidden_states: all 4 layers are equal, bit for bit" in checked.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("{model}", "--points", "middle"), "there is no point middle"),
        (("{model}", "--step", "3"), "--step has no meaning for"),
        (("{model}", "--revision", "main"), "--revision has no meaning for"),
        (("{model}", "--examples", "3"), "--examples and --point are of runs"),
        (("{model}", "--text", "{model}", "--dataset", "hub"), "each name a text"),
        (("{model}", "--text", "/nowhere/at/all.txt"), "/nowhere/at/all.txt is no file"),
        (("{model}", "--dataset", "nothing"), "nothing"),
        (
            ("{model}", "--skip-first", "16", "--seq-len", "16"),
            "--skip-first 16 leaves nothing of sequences of 16 tokens",
        ),
        (("{model}", "--tokens", "8", "--seq-len", "16"), "8 tokens are less than one sequence of 16"),
        (("{model}", *SHORT, "--plot", "a.gif"), "ends in no image format"),
        (("{model}", "--text-ids", "{model}/config.json", *SHORT), "holds no token indices"),
        (("{model}", "--tokens", "512", "--seq-len", "256"), "longer than the 64 positions of the model"),
        (("owner/nothing", "--offline"), "is not in the cache of the Hugging Face hub"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_sentence_and_a_hint(
    ofe: Ofe, llama: Path, home: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = ofe("measure", *(one.format(model=llama) for one in arguments), home=home)
    assert result.exit_code in (1, 2)
    assert says in result.stderr
    assert "hint: " in result.stderr
    assert "Traceback" not in result.stderr
    assert "--plot" not in arguments or "running" not in result.stderr  # it is refused before the work


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_model_without_finite_values_is_measured_and_quantised_in_words(
    ofe: Ofe, text: Path, tmp_path: Path, value: float
) -> None:
    """Weights that are not a number, or all zero, leave nothing to divide by."""
    model = build("Llama")
    for name, weight in model.named_parameters():
        if value == 0 or "layers.1.mlp" in name:
            weight.data.fill_(value)
    folder = save(model, tmp_path / "broken")
    given = (str(folder), "--text", str(text), "--seq-len", "16")
    measured = ofe("measure", *given, "--tokens", "64", "--plot", str(tmp_path / "a.png"))
    assert measured.exit_code == 0, measured.stderr
    assert "broken has no kurtosis in layer" in measured.stderr
    rows = ("--rows", "tensor", "--sequences", "2", "--tensors", "1", "--plot", str(tmp_path / "b.png"))
    assert ofe("quantise", *given, *rows).exit_code == 0
    result = ofe("quantise", *given, *rows, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)[0]["kurtosis"]["mean"] == "nan"
