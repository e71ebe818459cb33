"""Threads of a worker wait for what its consumer brings, without a deadline, until the process ends."""

from __future__ import annotations

import threading
from queue import Empty

import pytest

from workers.queue.waiting import PatientQueue


class Noted:
    """A condition that notes how long those who wait for it would."""

    def __init__(self, condition):
        self._condition = condition
        self.deadlines = []
        self.waited = threading.Event()

    def __getattr__(self, name):
        return getattr(self._condition, name)

    def __enter__(self):
        return self._condition.__enter__()

    def __exit__(self, *args):
        return self._condition.__exit__(*args)

    def wait(self, timeout=None):
        self.deadlines.append(timeout)
        self.waited.set()
        return self._condition.wait(timeout)


@pytest.fixture
def queue():
    queue = PatientQueue()
    queue.not_empty = Noted(queue.not_empty)
    return queue


def in_a_thread(queue, got):
    def take():
        try:
            got.append(queue.get(timeout=0.001))
        except Empty:
            got.append(Empty)

    thread = threading.Thread(target=take)
    thread.start()
    assert queue.not_empty.waited.wait(10)
    return thread


def test_an_idle_thread_wakes_up_for_a_message_alone(queue):
    got = []
    thread = in_a_thread(queue, got)
    queue.put("message")
    thread.join(10)
    assert got == ["message"]
    assert queue.not_empty.deadlines == [None]
    queue.task_done()
    queue.join()


def test_a_thread_of_a_process_that_ends_looks_up_at_once_and_then_as_often_as_it_was_told(queue):
    got = []
    thread = in_a_thread(queue, got)
    queue.hurry()
    thread.join(10)
    assert got == [Empty]
    assert queue.not_empty.deadlines == [None, 0.001]


def test_what_waits_is_taken_by_priority_without_waiting(queue):
    queue.hurry()
    for priority in (2, 1, 3):
        queue.put(priority)
    assert [queue.get(timeout=0.001), queue.get_nowait(), queue.get(block=False)] == [1, 2, 3]
    assert queue.not_empty.deadlines == []
    with pytest.raises(Empty):
        queue.get_nowait()
