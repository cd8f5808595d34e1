import threading
import time

import pytest
import torch

from mednext_engine.errors import Cancelled
from mednext_engine.training.batches import AHEAD, Batches, choose_threads


def never() -> None:
    return None


def augmentation_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("augmentation")]


def numbered(step, index):
    time.sleep(0.001 * ((step * 7 + index * 3) % 5))
    return torch.tensor([step, index]), torch.tensor(float(step))


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_come_in_order_whatever_the_threads(threads):
    with Batches(numbered, range(1, 3), 5, threads) as batches:
        for step in range(5, 15):
            pairs, numbers = batches.take(never)
            assert pairs.tolist() == [[step, 1], [step, 2]]
            assert numbers.tolist() == [step, step]
        assert len(augmentation_threads()) == threads
    assert augmentation_threads() == []


def test_no_more_is_made_ahead_than_agreed():
    made = []

    def sampler(step, index):
        made.append(step)
        return (torch.zeros(1),)

    with Batches(sampler, range(2), 0, 2) as batches:
        time.sleep(0.1)
        assert len(made) == 2 * AHEAD
        batches.take(never)
        time.sleep(0.1)
        assert len(made) == 2 * (AHEAD + 1)


def test_an_error_in_a_sample_arrives_and_the_threads_end():
    def sampler(step, index):
        if step == 2:
            raise ValueError("a broken case")
        return (torch.zeros(1),)

    def take_four():
        with Batches(sampler, range(2), 0, 2) as batches:
            for _ in range(4):
                batches.take(never)

    with pytest.raises(ValueError, match="a broken case"):
        take_four()
    assert augmentation_threads() == []


def test_waiting_can_be_cancelled():
    release = threading.Event()

    def sampler(step, index):
        release.wait(20)
        return (torch.zeros(1),)

    def cancelled():
        release.set()
        raise Cancelled()

    began = time.monotonic()
    with pytest.raises(Cancelled), Batches(sampler, range(1), 0, 1) as batches:
        batches.take(cancelled)
    assert time.monotonic() - began < 5
    assert augmentation_threads() == []


def test_threads_compute_on_one_core_and_leave_the_callers_alone():
    own = torch.get_num_threads()
    torch.set_num_threads(2)
    try:

        def sampler(step, index):
            return (torch.tensor(torch.get_num_threads()),)

        with Batches(sampler, range(2), 0, 2) as batches:
            assert batches.take(never)[0].tolist() == [1, 1]
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(own)


def test_a_cpu_keeps_its_cores_for_the_network():
    assert choose_threads(3, torch.device("cpu")) == 3
    assert choose_threads(None, torch.device("cpu")) <= 2
    assert choose_threads(None, torch.device("cuda")) >= 1
