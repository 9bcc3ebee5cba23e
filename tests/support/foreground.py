"""A shell with nothing but job control: one job in a process group of its own, in the foreground of the terminal.

`python foreground.py COMMANDS ANSWERS [--background] PROGRAM [ARG ...]`, as the leader of the session. It says
`started PID`, then a line for each change of that process: `stopped SIGNAL`, `continued`, `exited STATUS`, `killed
SIGNAL`. It understands `fg` and `bg` (which continue the group, in front or behind) and `group SIGNAL`.
"""

import os
import select
import signal
import sys


def become_job(gate: int, program: list[str], *, in_front: bool) -> None:
    os.setpgid(0, 0)
    if in_front:
        os.tcsetpgrp(0, os.getpid())
    os.read(gate, 1)
    for number in (signal.SIGTTOU, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.execvp(program[0], program)


def change(status: int) -> str:
    if os.WIFSTOPPED(status):
        return f"stopped {os.WSTOPSIG(status)}"
    if os.WIFCONTINUED(status):
        return "continued"
    if os.WIFSIGNALED(status):
        return f"killed {os.WTERMSIG(status)}"
    return f"exited {os.WEXITSTATUS(status)}"


def obey(word: str, pid: int) -> None:
    if word == "fg":
        os.tcsetpgrp(0, pid)
    if word in ("fg", "bg"):
        os.killpg(pid, signal.SIGCONT)
    elif word.startswith("group "):
        os.killpg(pid, int(word.split()[1]))


def main() -> None:
    commands, answers = int(sys.argv[1]), int(sys.argv[2])
    program = sys.argv[3:]
    in_front = program[0] != "--background"
    if not in_front:
        del program[0]
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    gate, opened = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(opened)
            become_job(gate, program, in_front=in_front)
        finally:
            os._exit(126)
    try:
        os.setpgid(pid, pid)
    except PermissionError:
        pass  # it has become the program already
    os.write(answers, b"started %d\n" % pid)
    os.close(opened)
    while True:
        readable, _, _ = select.select([commands, woken], [], [])
        if commands in readable:
            words = os.read(commands, 4096).decode()
            if not words:
                return
            for word in words.splitlines():
                obey(word, pid)
        if woken in readable:
            os.read(woken, 4096)
            while True:
                ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
                if ended == 0:
                    break
                os.write(answers, change(status).encode() + b"\n")
                if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                    return


if __name__ == "__main__":
    main()
