"""The probe on a module of one's own: what it sees, what it leaves alone, and when it waits for the device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reproduce.hooks import outlier_probe
from reproduce.metrics.kurtosis import kurtosis
from tests.checkpoints.test_structure import TOKENS, Mine
from tests.checkpoints.tiny import build, inputs


def test_the_example_of_ten_lines() -> None:
    model, batches = build("GPT2"), [inputs("GPT2", seed=seed)["input_ids"] for seed in range(3)]

    with outlier_probe(model) as probe:
        for batch in batches:
            model(batch)
    reading = probe.reading()

    with torch.no_grad():
        states = model(torch.cat(batches), output_hidden_states=True).hidden_states
    expected = {layer: float(kurtosis(state)) for layer, state in zip("123", states, strict=False)}
    expected["unembed"] = float(kurtosis(states[-1]))
    assert reading.by_layer("kurtosis") == pytest.approx(expected)
    without = {layer: float(kurtosis(state[:, 1:])) for layer, state in zip("123", states, strict=False)}
    assert reading.by_layer("kurtosis", "skipped") == pytest.approx(
        without | {"unembed": float(kurtosis(states[-1][:, 1:]))}
    )
    assert {neuron.layer for neuron in reading.neurons} == set(expected)


def test_a_loop_of_ones_own_measures_every_nth_step() -> None:
    model = Mine()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    logged = {}
    probe = outlier_probe(model, every=2)
    for step in range(5):
        loss = model(TOKENS).logsumexp(-1).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if (values := probe.step()) is not None:
            logged[step] = values
    probe.close()
    assert list(logged) == [0, 2, 4]
    assert logged[0]["outliers/kurtosis/1"] != logged[4]["outliers/kurtosis/1"]
    assert {name.rpartition("/")[2] for name in logged[0]} == {"1", "2", "unembed"}


def test_training_is_the_same_with_a_probe_and_without() -> None:
    def trained(probed: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential()
        model.embed = nn.Embedding(16, 8)
        model.body = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, dropout=0.5, batch_first=True) for _ in range(2))
        model.forward = lambda x: model.body[1](model.body[0](model.embed(x)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        probe = outlier_probe(model) if probed else None
        for _ in range(3):
            model(TOKENS).square().mean().backward()
            optimizer.step()
        assert model.training
        if probe is not None:
            assert set(probe.reading().by_layer("kurtosis")) == {"1", "2", "unembed"}
        return list(model.parameters())

    assert all(torch.equal(*pair) for pair in zip(trained(True), trained(False), strict=True))


def test_padding_is_left_out_by_the_attention_mask() -> None:
    model, batch = build("Llama"), inputs("Llama")["input_ids"]
    padded = torch.cat((batch, torch.full((2, 4), 7)), 1)
    mask = torch.cat((torch.ones_like(batch), torch.zeros(2, 4, dtype=torch.long)), 1)
    with outlier_probe(model) as plain:
        model(input_ids=batch)
    with outlier_probe(model) as probe:
        model(input_ids=padded, attention_mask=mask)
    for column in ("all", "skipped"):
        assert probe.reading().by_layer("kurtosis", column) == pytest.approx(
            plain.reading().by_layer("kurtosis", column)
        )


def test_a_closed_probe_leaves_no_hook_and_keeps_what_it_saw() -> None:
    model = Mine()
    with outlier_probe(model) as probe:
        model(TOKENS)
    seen = probe.reading().by_layer("kurtosis")
    model(TOKENS * 0)
    assert probe.reading().by_layer("kurtosis") == seen
    assert {len(one._forward_pre_hooks) + len(one._forward_hooks) for one in model.modules()} == {0}


def test_a_reading_asks_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read of a tensor by Python waits for the device; on the CPU such calls can only be counted."""
    model = build("Llama")
    waits = []
    probe = outlier_probe(model)
    model(**inputs("Llama"))  # finds the blocks
    probe.reset()
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        plain = getattr(torch.Tensor, name)

        def counted(
            self: torch.Tensor, *given: object, name: str = name, plain: object = plain, **more: object
        ) -> object:
            waits.append(name)
            return plain(self, *given, **more)

        monkeypatch.setattr(torch.Tensor, name, counted)
    # On the CPU alone, medians are selected by NumPy.
    monkeypatch.setattr("reproduce.metrics.mmr.lower_median", lambda magnitude: magnitude.median(1).values)
    model(**inputs("Llama"))
    during = len(waits)
    assert not {"item", "tolist", "cpu", "numpy", "__float__", "__int__"}.intersection(waits), "no forward pass waits"
    probe.reading()
    assert waits[during:].count("cpu") == 1, "all values are copied at once"


def test_a_step_that_is_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="every is a number of steps"):
        outlier_probe(Mine(), every=0)
