"""Training a run: its task (model, batches, loss), the loop over its steps, its checkpoints, and when it has failed."""
