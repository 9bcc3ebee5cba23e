"""The only room that talks to the kernel or a driver."""
