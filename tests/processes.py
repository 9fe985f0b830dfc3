"""Programs in processes that are forked from one that has imported TensorFlow, which takes seconds."""

import multiprocessing
import os
import runpy
import sys

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tensorflow", "tensorflow_probability", "keras", "sklearn.datasets"])


def _run(argv, output):
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")


def run(path, *flags):
    """Runs a program to its end: (exit status, what it printed)."""
    program = Program(path, *flags)
    text = program.read()
    return program.wait(), text


class Program:
    """A running program, like a `subprocess.Popen` whose stdout also carries its errors.

    Args:
        path: its file.
        *flags: texts.
    """

    def __init__(self, path, *flags):
        output, into = multiprocessing.Pipe(duplex=False)
        self._process = _FORKS.Process(target=_run, args=([str(path), *flags], into))
        self._process.start()
        into.close()
        self.stdout = open(os.dup(output.fileno()), encoding="utf-8")

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        """Ends it, if it has not ended, and waits for that."""
        self._process.kill()
        self._process.join()

    def read(self):
        """What it prints from now on, up to its end."""
        return self.stdout.read()

    def read_to(self, text):
        """What it prints up to a line with the text."""
        lines = []
        for line in self.stdout:
            lines.append(line)
            if text in line:
                return lines
        raise AssertionError(f"no line with {text!r} in:\n{''.join(lines)}")

    def wait(self):
        """Its exit status, or the negative number of the signal that ended it."""
        self._process.join()
        return self._process.exitcode
