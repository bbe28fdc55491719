"""Job ids: UUID version 7, rising within a process, unique across processes."""

import multiprocessing
import os
import re
import threading
import time
import uuid
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from windlass.jobs import ids
from windlass.jobs.ids import uuid7

MOMENTS = st.integers(1, 2**47 - 1)


def ms_of(text):
    return uuid.UUID(text).int >> 80


def fresh_uuid7(**said):
    """An id as a new process would make its first."""
    ids._reseed()
    return uuid7(**said)


@given(now_ms=MOMENTS)
def test_an_id_is_laid_out_as_the_rfc_says(now_ms):
    text = fresh_uuid7(now_ms=now_ms)

    id = uuid.UUID(text)
    assert str(id) == text
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)
    assert (id.version, id.variant) == (7, uuid.RFC_4122)
    assert ms_of(text) == now_ms


def test_an_id_tells_when_it_was_made():
    ids._reseed()
    before = time.time_ns() // 1_000_000
    made = ms_of(uuid7())

    assert before <= made <= time.time_ns() // 1_000_000
    assert datetime.fromtimestamp(made / 1000, UTC).year >= 2024


@given(moments=st.lists(MOMENTS, min_size=2, max_size=30))
def test_ids_rise_whatever_the_clock_does(moments):
    ids._reseed()

    made = [uuid7(now_ms=moment) for moment in moments]

    assert made == sorted(set(made))
    assert all(uuid.UUID(text).version == 7 for text in made)
    assert all(uuid.UUID(text).variant == uuid.RFC_4122 for text in made)


def test_many_ids_of_one_millisecond_rise_and_keep_their_layout():
    ids._reseed()

    made = [uuid7(now_ms=1_700_000_000_000) for _ in range(20_000)]

    assert made == sorted(set(made))
    assert {text[14] for text in made} == {"7"}
    assert {text[19] for text in made} <= set("89ab")
    assert {ms_of(text) for text in made} == {1_700_000_000_000}


def test_the_bits_after_the_clock_are_random():
    tails = {fresh_uuid7(now_ms=5)[14:] for _ in range(500)}

    assert len(tails) == 500
    # Each random bit is seen on and off, but the top one that leaves room to count.
    numbers = [uuid.UUID("00000000-0000-" + tail).int for tail in tails]
    seen_on = seen_off = 0
    for number in numbers:
        seen_on |= number
        seen_off |= ~number
    random_bits = seen_on & seen_off & ((1 << 76) - 1)
    assert random_bits.bit_count() >= 72


def test_threads_never_share_an_id():
    made = []
    start = threading.Barrier(8)

    def work():
        start.wait()
        made.extend([uuid7() for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == 16_000


def test_a_fork_does_not_go_on_where_its_parent_was():
    uuid7()
    parent, child = [], []
    for _fork in range(3):
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(write, "".join(uuid7() for _ in range(20)).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            text = pipe.read().decode()
        os.waitpid(pid, 0)
        child += [text[n : n + 36] for n in range(0, len(text), 36)]
        parent += [uuid7() for _ in range(20)]

    assert len({*parent, *child}) == 120


def test_a_fork_while_the_lock_is_held_can_still_make_ids():
    with ids._lock:
        process = multiprocessing.get_context("fork").Process(target=uuid7)
        process.start()
    process.join(10)

    assert process.exitcode == 0


def test_many_ids_at_once_rise_and_go_on_from_each_other():
    first, second = ids.uuid7s(1000), ids.uuid7s(3)

    made = [*first, *second, ids.uuid7()]
    assert made == sorted(set(made))
    assert all(uuid.UUID(id).version == 7 for id in made)


def test_many_ids_carry_over_their_last_digits(monkeypatch):
    monkeypatch.setattr(ids, "_last", (1 << 127) | ids.VERSION | (1 << 48) - 3)

    made = ids.uuid7s(4, now_ms=0)

    assert made == sorted(set(made))
    assert made[2].endswith("-000000000000")
