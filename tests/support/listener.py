"""A job that says each signal that it gets: `python listener.py SAYS HEARS SETUP`.

It holds all of them back, executes SETUP, says `ready`, and takes what is pending once it hears a byte. Each is a line:
number, code, sender and value. With the second byte it exits with status 7.
"""

import ctypes
import os
import select
import signal
import sys


def main() -> None:
    says, hears, setup = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    libc = ctypes.CDLL(None, use_errno=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    exec(setup)
    os.write(says, b"ready\n")
    if not os.read(hears, 1):
        return
    everything = b"\xff" * 128
    info = ctypes.create_string_buffer(128)
    while True:
        if select.select([hears], [], [], 0)[0]:
            os._exit(7)
        if libc.sigtimedwait(everything, info, (ctypes.c_long * 2)(0, 50_000_000)) < 0:
            continue
        number, _, code = (int.from_bytes(info.raw[at : at + 4], sys.byteorder, signed=True) for at in (0, 4, 8))
        sender = int.from_bytes(info.raw[16:20], sys.byteorder)
        value = int.from_bytes(info.raw[24:32], sys.byteorder, signed=True)
        os.write(says, f"{number} {code} {sender} {value}\n".encode())


if __name__ == "__main__":
    main()
