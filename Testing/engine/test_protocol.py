"""The messages: what goes out comes in, and what is not a message is refused in words."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from mednext_engine.inference.options import Options
from mednext_engine.jobs import protocol
from mednext_engine.jobs.protocol import (
    MAX_LINE,
    REPLIES,
    REQUESTS,
    Cancel,
    LineReader,
    MessageError,
    Progress,
    Result,
    Segment,
    decode,
    encode,
)


def test_importing_the_protocol_loads_nothing_heavy():
    program = (
        "import sys, mednext_engine, mednext_engine.jobs.protocol\n"
        "heavy = {'torch', 'numpy', 'SimpleITK', 'openvino'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "ours = {m for m in sys.modules if m.startswith('mednext_engine')}\n"
        "print(' '.join(sorted(ours)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [
        "mednext_engine",
        "mednext_engine.errors",
        "mednext_engine.jobs",
        "mednext_engine.jobs.messages",
        "mednext_engine.jobs.protocol",
        "mednext_engine.jobs.training_messages",
        "mednext_engine.jobs.values",
    ]


@pytest.mark.parametrize("kind", [*REQUESTS.values(), *REPLIES.values()], ids=lambda k: k.type)
def test_every_message_survives_the_way(kind):
    message = kind(job="j1")
    kinds = REQUESTS if kind in REQUESTS.values() else REPLIES
    assert decode(encode(message), kinds) == message


def test_a_segment_request_reads_as_documented():
    message = Segment(
        job="7",
        inputs=["/tmp/Schädel.nii.gz"],
        output="/tmp/out.nii.gz",
        model="brain",
        options={"step": 0.5, "roi": {"low": [1, 2, 3], "high": [4, 5, 6.5], "space": "ras"}},
    )
    line = encode(message)
    assert line.isascii()
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert json.loads(line) == {
        "v": 1,
        "type": "segment",
        "job": "7",
        "inputs": ["/tmp/Schädel.nii.gz"],
        "output": "/tmp/out.nii.gz",
        "model": "brain",
        "options": {
            "step": 0.5,
            "roi": {"low": [1, 2, 3], "high": [4, 5, 6.5], "space": "ras"},
        },
        "uncertainty_output": None,
        "probabilities_output": None,
    }
    assert decode(line, REQUESTS) == message


def test_the_options_are_the_engine_s():
    assert set(protocol.SegmentOptions.__annotations__) == {
        f.name for f in dataclasses.fields(Options)
    }


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_not_sent(number):
    with pytest.raises(MessageError, match="cannot carry"):
        encode(Progress(job="1", stage="x", fraction=number))


@pytest.mark.parametrize("digits", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400])
def test_a_number_that_is_not_finite_is_not_read(digits):
    line = f'{{"v":1,"type":"progress","job":"1","fraction":{digits}}}'
    with pytest.raises(MessageError, match="not a JSON object"):
        decode(line, REPLIES)


@pytest.mark.parametrize(
    ("line", "sentence", "job"),
    [
        ("hello", "not a JSON object", ""),
        ("[1,2]", "not a JSON object", ""),
        ("[" * 200_000, "not a JSON object", ""),
        (b"\xff\xfe\x00", "not a JSON object", ""),
        ('{"v":2,"type":"models","job":"a"}', "protocol version 2 came, this side speaks 1", "a"),
        ('{"type":"models","job":"a"}', "protocol version None", "a"),
        ('{"v":true,"type":"models","job":"a"}', "protocol version True", "a"),
        ('{"v":1,"type":"dance","job":"a"}', "no message of type 'dance'", "a"),
        ('{"v":1,"type":["models"],"job":"a"}', "no message of type", "a"),
        ('{"v":1,"type":"result","job":"a"}', "no message of type 'result'", "a"),
        ('{"v":1,"type":"models"}', "must name its job", ""),
        ('{"v":1,"type":"models","job":7}', "job's name", ""),
        ('{"v":1,"type":"models","job":"' + "x" * 65 + '"}', "job's name", ""),
        ('{"v":1,"type":"models","job":"a","color":1}', "no field 'color'", "a"),
        ('{"v":1,"type":"segment","job":"a","inputs":"x"}', "'inputs' of a segment", "a"),
        ('{"v":1,"type":"segment","job":"a","inputs":[1]}', "'inputs' of a segment", "a"),
        ('{"v":1,"type":"segment","job":"a","options":{"x":1}}', "'options' of a segment", "a"),
        ('{"v":1,"type":"segment","job":"a","options":{"step":"1"}}', "'options'", "a"),
        ('{"v":1,"type":"segment","job":"a","options":{"mirror":1}}', "'options'", "a"),
        ('{"v":1,"type":"segment","job":"a","options":{"threads":true}}', "'options'", "a"),
    ],
)
def test_what_is_not_a_request_is_refused_in_words(line, sentence, job):
    with pytest.raises(MessageError, match=sentence) as caught:
        decode(line, REQUESTS)
    assert caught.value.job == job
    assert caught.value.code == "protocol"
    assert len(caught.value.message) < 200


def test_what_is_too_long_is_not_sent():
    with pytest.raises(MessageError, match="longer than"):
        encode(Result(job="1", of="models", value={"text": "x" * MAX_LINE}))


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_lines_are_found_in_pieces_of_any_size(size):
    sent = [Cancel(job=str(n)) for n in range(20)]
    data = "".join(encode(one) for one in sent).encode()
    reader = LineReader(REQUESTS)
    came = []
    for at in range(0, len(data), size):
        came += reader.feed(data[at : at + size])
    assert came == sent


def test_a_bad_line_costs_no_good_one():
    good = encode(Cancel(job="1")).encode()
    came = LineReader(REQUESTS).feed(good + b"rubbish\r\n\r\n\n" + good)
    assert [type(one) for one in came] == [Cancel, MessageError, Cancel]


def test_an_oversized_line_is_dropped_while_it_comes():
    reader = LineReader(REQUESTS)
    for _ in range(64):
        assert reader.feed(b"x" * (MAX_LINE // 8)) == []
        assert sum(map(len, reader._pieces)) < MAX_LINE
    came = reader.feed(b"\n" + encode(Cancel(job="1")).encode())
    assert isinstance(came[0], MessageError)
    assert "longer than" in came[0].message
    assert came[1:] == [Cancel(job="1")]
