"""A job that does what a test tells it: a statement of Python a line on one descriptor, an answer a line on the other.

`python puppet.py COMMANDS ANSWERS [SIGNAL ...]`: the signals named are reported as they arrive, each as a line
`signal NAME`. It says `ready PID` at its start and `done` after each statement, and ends when nobody commands it.
"""

import os
import signal
import sys
import time


def main() -> None:
    commands, answers = int(sys.argv[1]), int(sys.argv[2])

    def say(text: str) -> None:
        os.write(answers, text.encode() + b"\n")

    def report(number: int, _: object) -> None:
        say(f"signal {signal.Signals(number).name}")

    for name in sys.argv[3:]:
        signal.signal(getattr(signal, name), report)
    scope = {"os": os, "signal": signal, "sys": sys, "time": time, "say": say}
    say(f"ready {os.getpid()}")
    with open(commands, encoding="utf-8") as lines:
        for line in lines:
            exec(line, scope)
            say("done")


if __name__ == "__main__":
    main()
