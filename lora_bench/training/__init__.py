"""Training: a short loop on Accelerate, with checkpoints that resume bit for bit."""
