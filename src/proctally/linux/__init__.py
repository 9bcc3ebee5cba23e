"""Talk to the kernel and to drivers; no other package does."""
