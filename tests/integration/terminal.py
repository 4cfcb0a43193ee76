"""A pseudo-terminal with a command on it, and the screen that a reader would see: what `espalier generate` writes to
one (cursor up, down and to a column, erasing, bold, no wrapping), and nothing else."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import tempfile
import termios
import time

from espalier_server import PATIENCE

SEQUENCE = re.compile(r"\x1b\[(\??\d*)([A-Za-z])")


class Screen:
    """Lines that scrolled out at the top are kept: `lines` is all there ever was, `top` where the screen begins."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.lines, self.top, self.row, self.column = [""], 0, 0, 0

    def _line_feed(self):
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")
        self.top = max(self.top, self.row - self.height + 1)

    def _put(self, character):
        if self.column == self.width:
            self._line_feed()
            self.column = 0
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[:self.column] + character + line[self.column + 1:]
        self.column += 1

    def _sequence(self, number, what):
        if what == "A":
            assert self.row - int(number) >= self.top, "the cursor left the screen"
            self.row -= int(number)
        elif what == "B":
            self.row += int(number)
            assert self.row < len(self.lines)
        elif what == "G":
            self.column = int(number) - 1
        elif what == "K":
            self.lines[self.row] = self.lines[self.row][:self.column]
        elif what == "J":
            del self.lines[self.row + 1:]
            self.lines[self.row] = self.lines[self.row][:self.column]
        else:
            assert number + what in ("1m", "0m", "?7l", "?7h"), number + what

    def feed(self, text):
        at = 0
        while at < len(text):
            if found := SEQUENCE.match(text, at):
                self._sequence(*found.groups())
                at = found.end()
                continue
            if text[at] == "\n":
                self._line_feed()
            elif text[at] == "\r":
                self.column = 0
            else:
                assert text[at] >= " ", f"{text[at]!r} on a terminal"
                self._put(text[at])
            at += 1


class Terminal:
    def __init__(self, command, width=80, height=24, **environment):
        self.parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.settings = termios.tcgetattr(child)
        self.log = tempfile.TemporaryFile()
        self.words = self.log.fileno()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(child, command, environment)
        self.child = child  # kept open: what was written last can be read after the command's end
        self.output, self.status = b"", None

    def _become(self, child, command, environment):
        try:
            os.setsid()
            fcntl.ioctl(child, termios.TIOCSCTTY, 0)
            os.dup2(child, 0)
            os.dup2(child, 1)
            os.dup2(self.words, 2)  # no part of the picture
            os.execve(command[0], command, {**os.environ, "TERM": "xterm", **environment})
        finally:
            os._exit(127)

    def read(self, until=None):
        """Until these bytes came or the command has ended; its exit status is in `status` then (minus a signal)."""
        deadline = time.monotonic() + PATIENCE
        while until is None or until not in self.output:
            assert time.monotonic() < deadline, self.output
            if select.select([self.parent], [], [], 0.05)[0]:
                self.output += os.read(self.parent, 65536)
            elif self.status is not None:
                break
            else:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.output

    def errors(self):
        self.log.seek(0)
        return self.log.read().decode()

    def press(self, data):
        os.write(self.parent, data)

    def settings_now(self):
        return termios.tcgetattr(self.child)

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.parent)
        os.close(self.child)
