"""Checkpoints: a trained model from wherever it lies, its tokenizer, its identity, and its blocks found by structure.

    identity     what a user names, from its name to what the cache keys it by. No torch
    files        which weight files a folder has, and whether they may be read. No torch
    opening      the module and the tokenizer
    structure    the blocks of any module, found by running it once

    checkpoint = open_checkpoint("EleutherAI/pythia-160m", revision="step1000")
    checkpoint.logits(tokens)             (B, T) -> (B, T, V)
    checkpoint.structure.blocks           the modules that are called once a layer

`reproduce.checkpoints.opening.open_checkpoint` takes what `ofe measure` takes: a name on the Hugging Face hub, a folder
in its format, a GGUF file, or a training of the cache that has kept its weights.
"""
