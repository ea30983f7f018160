"""One run on several devices: the same batches, the same losses to rounding, the same metrics.

    group         the processes that train a run together, and what they tell each other
    shares        which part of a batch is whose
    distributed_model   the model on its devices: whole on each (DDP) or cut up between them (FSDP2)

Any launcher will do that sets RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, such as torchrun. A process
that was started without them is a group of its own, for which every function here is the identity.
"""
