"""Tests of the channel of a worker; those with processes are in `test_child`."""

import asyncio
import os
import pickle
import socket
from pathlib import Path

import pytest

from gateway.config import load
from gateway.workers import message_kinds
from gateway.workers.control import Assignment, Control
from gateway.workers.frames import encode_frame

SHIPPED = Path(__file__).parents[3] / "config.yaml"


def assignment(errors: int) -> Assignment:
    return Assignment(number=1, count=2, folder="/gone", config=load(SHIPPED), locks=(), errors=errors)


def test_a_configuration_reaches_a_worker_as_it_is() -> None:
    config = load(SHIPPED)
    copy = pickle.loads(pickle.dumps(config))  # noqa: S301 — its own
    assert copy == config
    assert copy.data_folder == config.data_folder


async def test_a_worker_whose_supervisor_is_gone_stops() -> None:
    ours, theirs = socket.socketpair()
    errors = os.dup(2)
    ours.sendall(encode_frame((message_kinds.ASSIGNMENT, assignment(errors))))
    control = await asyncio.to_thread(Control, theirs)
    stopped = asyncio.Event()
    await control.connect(stopped.set)
    ours.close()
    await asyncio.wait_for(stopped.wait(), 5)
    control.send(message_kinds.READY)  # is lost, and no error
    await control.close()
    os.close(errors)


def test_a_supervisor_that_is_gone_before_it_said_what_to_do_ends_the_worker() -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(encode_frame((message_kinds.ASSIGNMENT, assignment(2)))[:40])
    ours.close()
    with theirs, pytest.raises(EOFError):
        Control(theirs)
