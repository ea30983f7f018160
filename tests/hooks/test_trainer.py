"""The callback in a real `transformers.Trainer`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch.utils.data import Dataset

from reproduce.hooks.trainer import OutlierCallback
from reproduce.metrics.kurtosis import kurtosis
from tests.checkpoints.tiny import VOCABULARY, build


class Sequences(Dataset):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = torch.randint(3, VOCABULARY, (12,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": tokens, "labels": tokens}


@pytest.mark.filterwarnings("ignore")  # of the libraries' own
def test_every_nth_step_is_logged_with_all_its_micro_batches(tmp_path: Path) -> None:
    model = build("Llama")
    arguments = transformers.TrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=4, report_to=[],
        logging_steps=1, disable_tqdm=True, use_cpu=True, eval_strategy="steps", eval_steps=1, data_seed=1, seed=1,
        save_strategy="no",
    )  # fmt: skip
    trainer = transformers.Trainer(model, arguments, train_dataset=Sequences(), eval_dataset=Sequences())

    trainer.add_callback(OutlierCallback(trainer.log, every=2))
    embedding = model.get_input_embeddings().weight.detach().clone()
    seen: list[torch.Tensor] = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: seen.append(output.detach().clone())
    )
    trainer.train()

    logged = [entry for entry in trainer.state.log_history if "outliers/kurtosis/1" in entry]
    assert [entry["step"] for entry in logged] == [1, 3], "the first step and every second one after it"
    # One pass more finds the blocks, and both micro-batches of the step follow.
    expected = float(kurtosis(torch.cat(seen[1:3])))
    assert logged[0]["outliers/kurtosis/1"] == pytest.approx(expected)
    assert logged[0]["outliers/kurtosis_skipped/1"] == pytest.approx(float(kurtosis(torch.cat(seen[1:3])[:, 1:])))
    assert not torch.equal(embedding, model.get_input_embeddings().weight), "it was trained"
    assert {len(one._forward_pre_hooks) for one in model.modules()} == {0}
