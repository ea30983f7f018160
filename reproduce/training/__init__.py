"""The training of a run: the task (model, batches, loss), the loop over steps, checkpoints, and the divergence rule."""
