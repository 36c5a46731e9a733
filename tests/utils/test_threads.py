"""Reading ahead and writing behind: order, errors, and how much is in memory."""

import threading

import pytest

from fastervit_backbone.utils.threads import WriteBehind, read_ahead


def test_items_are_made_one_ahead_in_another_thread():
    made, threads = [], set()

    def items():
        for i in range(5):
            threads.add(threading.get_ident())
            made.append(i)
            yield i

    found = []
    for item in read_ahead(items()):
        found.append(item)
        assert len(made) <= item + 2
    assert found == list(range(5)) and threading.get_ident() not in threads
    assert list(read_ahead([])) == []


def test_an_error_while_reading_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError('broken')

    found = read_ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match='broken'):
        next(found)


def test_reading_stops_when_nobody_reads():
    closed = threading.Event()

    def items():
        try:
            yield from range(1000)
        finally:
            closed.set()

    source = items()
    found = read_ahead(source)
    next(found)
    found.close()
    source.close()
    assert closed.is_set()


def test_calls_run_in_order_and_few_wait():
    done, gate, most = [], threading.Event(), []

    def call(i):
        gate.wait(5)
        done.append(i)

    with WriteBehind(2) as writer:
        writer.submit(call, 0)
        writer.submit(call, 1)
        assert done == []
        gate.set()
        for i in range(2, 20):
            writer.submit(call, i)
            most.append(i - len(done))
    assert done == list(range(20)) and max(most) <= 2


def test_errors_of_calls_are_raised_and_what_is_queued_is_written():
    done = []

    def fail():
        raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'), WriteBehind(3) as writer:
        writer.submit(fail)
        writer.submit(done.append, 1)
    assert done == [1]
    with pytest.raises(KeyboardInterrupt), WriteBehind(3) as writer:
        writer.submit(done.append, 2)
        raise KeyboardInterrupt
    assert done == [1, 2]
