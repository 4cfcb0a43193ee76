"""The commit of this tree, for what a measurement is of."""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def git(*words):
    return subprocess.run(["git", "-C", ROOT, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()


def commit():
    """Short, with "+" where tracked files were changed; "unknown" outside a repository."""
    found = git("rev-parse", "--short", "HEAD")
    return found + ("+" if git("status", "--porcelain", "-uno") else "") if found else "unknown"


APART = ("--espalier", "--model", "--out", "--markdown", "--plot", "--keep", "--work", "--jobs")  # with a value; they change no figure


def command(script):
    """As it was typed, but for what changes no figure."""
    words, skip = [], False
    for word in sys.argv[1:]:
        if not skip and word != "--json" and word not in APART:
            words.append(word)
        skip = not skip and word in APART
    return " ".join([f"bash bench/{script}", *words])
