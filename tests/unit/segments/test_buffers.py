"""Buffers that are used again, and wiped."""

import threading

import pytest

from custody.segments.buffers import BufferPool


def test_a_buffer_that_came_back_is_lent_again() -> None:
    with BufferPool(100) as pool:
        with pool.take() as first:
            first[:] = b"x" * 100
        with pool.take() as again, pool.take() as other:
            assert bytes(again) == b"x" * 100
            assert bytes(other) == bytes(100)


def test_close_wipes_what_is_free_at_once_and_what_is_lent_when_it_comes_back() -> None:
    pool = BufferPool(100)
    with pool.take() as lent:
        with pool.take() as free:
            free[:] = b"f" * 100
        lent[:] = b"l" * 100
        pool.close()
        assert bytes(free) == bytes(100)
        assert bytes(lent) == b"l" * 100, "in use: wiping it here would hand zeros to whoever is writing it out"
    assert bytes(lent) == bytes(100)
    pool.close()


def test_trimming_wipes_and_gives_back_what_nobody_has() -> None:
    pool = BufferPool(8)
    with pool.take() as lent:
        lent[:] = b"lent now"
        with pool.take() as free:
            free[:] = b"given up"
        pool.trim()
        assert bytes(free) == bytes(8)
        assert bytes(lent) == b"lent now"
    with pool.take() as again:
        assert bytes(again) == b"lent now"


def test_a_closed_pool_lends_nothing() -> None:
    pool = BufferPool(1)
    pool.close()
    with pytest.raises(ValueError), pool.take():
        pass


def test_an_empty_buffer_is_a_buffer() -> None:
    with BufferPool(0) as pool, pool.take() as view:
        assert len(view) == 0


def test_threads_never_share_a_buffer() -> None:
    with BufferPool(8) as pool:
        shared = []

        def use(mark: int) -> None:
            for _ in range(500):
                with pool.take() as view:
                    view[:] = bytes([mark]) * 8
                    if set(view) != {mark}:
                        shared.append(mark)

        threads = [threading.Thread(target=use, args=(mark,)) for mark in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shared == []
