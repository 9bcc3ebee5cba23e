"""The machine around the tree: sampled figures, facts, GPUs, the cloud."""
