"""Makes the weights from clips, with the sender's own code."""
