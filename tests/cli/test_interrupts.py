"""Ctrl-C ends what waits for a person, whenever it comes: while the question is printed, before it is read, or after."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from support import shop
from terminal_session import terminal

from provisioner.system.signals import SignalPipe, interruptible

ASKED = 600

ASKING = f"""
from click import Abort
from provisioner.cli.context import confirm
from provisioner.cli.standard_input import secret
for number in range({ASKED}):
    try:
        confirm(f"question {{number}}?", False) if number % 2 else secret(f"question {{number}}?", "")
    except (Abort, KeyboardInterrupt):
        print("ended", number, flush=True)
"""


def test_ctrl_c_ends_a_question_that_has_just_been_printed(tmp_path: Path) -> None:
    with terminal(tmp_path, sys.executable, "-c", ASKING) as session:
        for number in range(ASKED):
            session.until(rf"question {number}\?")
            session.type("\x03")
        session.until(f"ended {ASKED - 1}\n")


def test_ctrl_c_at_a_hidden_question_is_130_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop")
    with terminal(repo, "sh", "-c", "trap : INT; provisioner var set API_KEY; echo ended with $?; stty -a") as session:
        session.until("API_KEY: ")
        session.type("\x03")
        session.until(r"ended with 130\n(?s:.*)[^-]echo\b")


def test_a_signal_that_came_before_the_wait_ends_it() -> None:
    pipe = SignalPipe(signal.SIGUSR1, signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert pipe.wait()
    assert pipe.wait()
    assert pipe.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_another_thread_ends_the_wait_and_input_does_too() -> None:
    pipe = SignalPipe(signal.SIGUSR1)
    reading, writing = os.pipe()
    os.write(writing, b"x")
    assert not pipe.wait(reading)
    thread = threading.Thread(target=pipe.tell)
    thread.start()
    assert pipe.wait()
    thread.join()
    pipe.close()
    os.close(reading)
    os.close(writing)


def test_ctrl_c_that_comes_after_the_answer_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGINT)


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
