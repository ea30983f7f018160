"""Opening checkpoints: what is loaded is what was saved, and what cannot be opened is told in a sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

import reproduce.checkpoints.foreign as foreign
import reproduce.checkpoints.opening as opening
from reproduce.checkpoints.measuring import _read_ids, sequences
from reproduce.checkpoints.opening import open_checkpoint
from reproduce.errors import OfeError
from reproduce.job_config import CheckpointParent, RunParent, TextSample
from reproduce.jobs.worker import main
from reproduce.store.runs import Store
from reproduce.training.tasks import build_task
from reproduce.training.weights import load_weights
from tests.checkpoints.tiny import build, inputs, save
from tests.runs import tiny_run, write_text_folder

TOKENS = inputs("Llama")["input_ids"]


@pytest.mark.parametrize("family", ["Llama", "GPTNeoX", "GPT2", "Bloom", "Bert", "Albert"])
def test_a_folder_is_opened_as_it_was_saved(family: str, tmp_path: Path) -> None:
    model = build(family)
    opened = open_checkpoint(str(save(model, tmp_path / family)))
    with torch.no_grad():
        expected = model(input_ids=TOKENS)
    assert torch.equal(opened.forward(TOKENS), expected[0])
    assert (opened.structure.depth, opened.structure.width, opened.vocab_size) == (3, 32, 320)
    assert not opened.module.training


def test_weights_of_16_bits_are_computed_with_in_32(tmp_path: Path) -> None:
    folder = save(build("Llama").half(), tmp_path / "half")
    opened = open_checkpoint(str(folder))
    assert opened.forward(TOKENS).dtype == torch.float32
    assert open_checkpoint(str(folder), dtype="bfloat16").forward(TOKENS).dtype == torch.bfloat16


def test_the_tokenizer_comes_along(llama: Path) -> None:
    opened = open_checkpoint(str(llama))
    assert opened.tokenizer is not None
    assert opened.tokenizer.decode(opened.tokens("return x, é").tolist()) == "return x, é"
    assert opened.tokenizer.around == ([], [])


def test_tokens_around_a_sequence_are_those_of_the_model(tmp_path: Path) -> None:
    import transformers

    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "a", "b"]
    folder = save(build("Bert"), tmp_path / "bert", tokenizer=False)
    transformers.BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    tokenizer = open_checkpoint(str(folder)).tokenizer
    assert tokenizer is not None
    assert (tokenizer.encode("a b"), tokenizer.around) == ([5, 6], ([1], [2]))


def test_a_model_without_a_tokenizer_is_opened_and_asked_for_text_says_so(tmp_path: Path) -> None:
    opened = open_checkpoint(str(save(build("OPT"), tmp_path / "opt", tokenizer=False)))
    assert opened.tokenizer is None
    with pytest.raises(OfeError, match="has no tokenizer") as told:
        opened.tokens("a")
    assert "--text-ids" in str(told.value.hint)


# ---------------------------------------------------------------------------------------------------
# Identity


def test_the_identity_follows_the_content_and_not_the_place(llama: Path, tmp_path: Path) -> None:
    here = open_checkpoint(str(llama)).identity
    moved = open_checkpoint(shutil.copytree(llama, tmp_path / "elsewhere")).identity
    assert isinstance(here, CheckpointParent)
    assert isinstance(moved, CheckpointParent)
    assert (here.form, here.name, here.fingerprint) == ("folder", "tiny-llama", moved.fingerprint)
    other = open_checkpoint(str(save(build("Llama", seed=1), tmp_path / "other"))).identity
    assert isinstance(other, CheckpointParent)
    assert other.fingerprint != here.fingerprint


def test_a_checkpoint_that_changed_since_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "copy"))
    identity = open_checkpoint(str(folder)).identity
    save(build("Llama", seed=1), folder)
    with pytest.raises(OfeError, match="has changed: it holds another checkpoint"):
        opening.load(identity)


def test_a_repository_of_the_hub_is_known_by_its_commit(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, cache = 40 * "7", tmp_path / "hub"
    repository = cache / "models--owner--tiny"
    shutil.copytree(llama, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "step8").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    opened = open_checkpoint("owner/tiny", revision="step8", offline=True)
    expected = CheckpointParent(form="hub", name="owner/tiny", revision="step8", step=8, fingerprint=commit)
    assert opened.identity == expected
    assert torch.equal(opened.forward(TOKENS), open_checkpoint(str(llama)).forward(TOKENS))
    with pytest.raises(OfeError, match="owner/tiny is not in the cache of the Hugging Face hub") as told:
        open_checkpoint("owner/tiny", offline=True)
    assert "name that folder" in str(told.value.hint)


# ---------------------------------------------------------------------------------------------------
# GGUF


def write_gguf(path: Path, width: int = 64, depth: int = 2) -> Path:
    """A tiny Llama with 32-bit weights and a tokenizer of bytes, in the real format."""
    generator = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    for value, add in (
        (depth, writer.add_block_count), (128, writer.add_context_length), (width, writer.add_embedding_length),
        (96, writer.add_feed_forward_length), (4, writer.add_head_count), (2, writer.add_head_count_kv),
        (1e-5, writer.add_layer_norm_rms_eps), (10000.0, writer.add_rope_freq_base),
        (16, writer.add_rope_dimension_count),
    ):  # fmt: skip
        add(value)
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = ["<|endoftext|>", *bytes_to_unicode().values(), "ab"]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * 257)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)

    def add(name: str, *shape: int) -> None:
        value = generator.normal(size=shape).astype(np.float32)
        writer.add_tensor(name, np.ones(shape, np.float32) if "norm" in name else 0.1 * value)

    add("token_embd.weight", len(tokens), width)
    add("output_norm.weight", width)
    for block in range(depth):
        for name, shape in {
            "attn_norm": (width,), "ffn_norm": (width,), "attn_q": (width, width), "attn_k": (width // 2, width),
            "attn_v": (width // 2, width), "attn_output": (width, width), "ffn_gate": (96, width),
            "ffn_up": (96, width), "ffn_down": (width, 96),
        }.items():  # fmt: skip
            add(f"blk.{block}.{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("how", ["file", "folder", "option"])
def test_a_gguf_file_is_opened(how: str, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    opened = {
        "file": lambda: open_checkpoint(str(file)),
        "folder": lambda: open_checkpoint(str(tmp_path)),
        "option": lambda: open_checkpoint(str(tmp_path), gguf="tiny.gguf"),
    }[how]()
    assert isinstance(opened.identity, CheckpointParent)
    assert (opened.identity.form, opened.identity.name) == ("gguf", "tiny.gguf")
    assert (opened.structure.depth, opened.structure.width) == (2, 64)
    assert opened.logits(opened.tokens("hello")[None]).shape == (1, 5, 258)
    embedding = {one.name: one.data for one in gguf.GGUFReader(file).tensors}["token_embd.weight"]
    assert np.array_equal(opened.module.get_input_embeddings().weight.detach().numpy(), embedding)


# ---------------------------------------------------------------------------------------------------
# Runs


def test_a_run_of_the_cache_is_opened_with_its_weights_and_its_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "home"))
    run = tiny_run(write_text_folder(tmp_path / "text"))
    store = Store(tmp_path / "home")
    folder = store.create(run, keep=[5, 20])
    assert main([str(folder.path)]) == 0
    opened = open_checkpoint(run.slug, store=store)
    assert opened.identity == RunParent(key=run.key, step=20)
    task, _ = build_task(run.training, torch.device("cpu"))
    load_weights(folder.weights_file(20), task.model)
    tokens = task.probe_batch(0)
    assert torch.equal(opened.logits(tokens), task.model(tokens))
    assert (opened.structure.path, opened.structure.depth, opened.max_length) == ("blocks", 2, 32)
    assert opened.tokenizer is not None
    assert opened.tokenizer.decode(opened.tokens("x1 = f2(3, y4)").tolist()) == "x1 = f2(3, y4)"
    assert open_checkpoint(run.key, store=store, step=5).identity == RunParent(key=run.key, step=5)
    with pytest.raises(OfeError, match="ends at step 20, before step 21"):
        open_checkpoint(run.slug, store=store, step=21)


# ---------------------------------------------------------------------------------------------------
# What cannot be opened


def test_weights_that_are_missing_are_not_drawn_at_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save(build("Llama"), tmp_path / "part")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(OfeError, match=r"part lacks weights .* such as model\.layers\.1\.mlp\.up_proj\.weight"):
        open_checkpoint(str(folder))


def test_a_pickle_is_read_only_where_that_is_asked_for(tmp_path: Path) -> None:
    model = build("Llama")
    folder = save(model, tmp_path / "old")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OfeError, match="has no weights"):
        open_checkpoint(str(folder))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(OfeError, match="are a Python pickle") as told:
        open_checkpoint(str(folder))
    assert "--allow-pickle" in str(told.value.hint)
    opened = open_checkpoint(str(folder), allow_pickle=True)
    assert torch.equal(opened.forward(TOKENS), model(input_ids=TOKENS).logits)


class _Bad:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("/tmp/never").write_text, ("code was run",))


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    model = build("Llama")
    folder = save(model, tmp_path / "bad")
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict() | {"bad": _Bad()}, folder / "pytorch_model.bin")
    with pytest.raises(OfeError, match="bad cannot be opened"):
        open_checkpoint(str(folder), allow_pickle=True)
    assert not Path("/tmp/never").exists()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, r"is quantised \(gptq\)"),
        ({"is_encoder_decoder": True}, "has an encoder and a decoder"),
    ],
)
def test_what_has_no_streams_of_its_own_is_refused(
    config: dict[str, object], says: str, llama: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "copy"))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(OfeError, match=says) as told:
        open_checkpoint(str(folder))
    assert told.value.hint


def test_a_real_encoder_with_a_decoder_is_refused(tmp_path: Path) -> None:
    import transformers

    config = transformers.T5Config(vocab_size=320, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    folder = save(transformers.T5ForConditionalGeneration(config), tmp_path / "t5")
    with pytest.raises(OfeError, match="t5 has an encoder and a decoder"):
        open_checkpoint(str(folder))


def test_a_model_of_images_reads_no_tokens(tmp_path: Path) -> None:
    folder = save(build("ViT"), tmp_path / "vit", tokenizer=False)
    with pytest.raises(OfeError, match="vit reads no tokens"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("nothing", "there is no model nothing: no run, no folder, no file"),
        ("{empty}", "is no checkpoint: it has no config.json"),
        ("{file}", "is a file that is no checkpoint"),
    ],
)
def test_what_is_no_model_is_told(model: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    name = model.format(empty=tmp_path / "empty", file=tmp_path / "notes.txt")
    with pytest.raises(OfeError, match=says) as told:
        open_checkpoint(name, store=Store(tmp_path))
    assert (told.value.exit_code, bool(told.value.hint)) == (2, True)


@pytest.mark.parametrize("options", [{"revision": "main"}, {"step": 3}])
def test_options_that_mean_nothing_are_refused(options: dict[str, object], llama: Path) -> None:
    with pytest.raises(OfeError, match="has no meaning for"):
        open_checkpoint(str(llama), **options)


def test_a_damaged_file_is_told(llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama, tmp_path / "broken"))
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(OfeError, match="broken cannot be opened"):
        open_checkpoint(str(folder))


def test_a_checkpoint_larger_than_the_memory_is_spread_over_the_disk(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_checkpoint(str(llama)).forward(TOKENS)
    machine = replace(foreign.this_machine(), memory_bytes=100_000)
    monkeypatch.setattr(foreign, "this_machine", lambda: machine)
    opened = open_checkpoint(str(llama))
    assert any(parameter.device.type == "meta" for parameter in opened.module.parameters()), "part is on the disk"
    assert torch.equal(opened.forward(TOKENS), whole)


def changed(llama: Path, folder: Path, **fields: object) -> Path:
    """A copy of a checkpoint with other fields in its config.json."""
    shutil.copytree(llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantization_config": "gptq"}, r"is quantised \(gptq\)"),
        ({"quantization_config": [1]}, "is quantised"),
        ({"architectures": 3}, "cannot be opened: TypeError"),
        ({"vocab_size": 10}, "have other shapes than its config.json says"),
    ],
)
def test_an_odd_config_is_one_sentence(llama: Path, tmp_path: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(OfeError, match=message) as told:
        open_checkpoint(str(changed(llama, tmp_path / "odd", **fields)))
    assert told.value.hint


def test_blocks_that_config_json_leaves_out_are_named(llama: Path, tmp_path: Path) -> None:
    opened = open_checkpoint(str(changed(llama, tmp_path / "short", num_hidden_layers=2)))
    assert opened.structure.depth == 2
    assert "model.layers.2.mlp.down_proj.weight" in opened.unused
    assert all(name.startswith("model.layers.2.") for name in opened.unused)
    assert open_checkpoint(str(llama)).unused == ()


@pytest.mark.parametrize("ids", [np.ones(64) / 3, np.ones(64, bool), np.array(["3"] * 64), np.array([None] * 64)])
def test_tokens_are_whole_numbers(tmp_path: Path, ids: np.ndarray) -> None:
    np.save(tmp_path / "ids.npy", ids, allow_pickle=True)
    with pytest.raises(OfeError, match="holds no token indices"):
        _read_ids(tmp_path / "ids.npy", 320)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff" + b"[" * 65535, b"PK\x03\x04"])
def test_a_damaged_file_of_tokens_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ids.npy").write_bytes(content)
    with pytest.raises(OfeError, match="holds no token indices"):
        _read_ids(tmp_path / "ids.npy", 320)


def test_tokens_may_follow_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\ufeff3 1 4")
    assert _read_ids(tmp_path / "ids.txt", 320).tolist() == [3, 1, 4]


@pytest.mark.parametrize(
    ("tokens", "hint"),
    [
        (range(20), "pass --tokens 16, or a smaller --seq-len, or more text"),
        (range(3), "pass a smaller --seq-len, or more text"),
    ],
)
def test_a_hint_for_short_text_is_one_that_helps(llama: Path, tmp_path: Path, tokens: range, hint: str) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(" ".join(map(str, tokens)))
    sample = TextSample(source="ids", path=str(path), seq_len=8)
    with pytest.raises(OfeError, match=r"whole sequences of 8 tokens") as told:
        sequences(open_checkpoint(str(llama)), sample, 8)
    assert told.value.hint == hint
