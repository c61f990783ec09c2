"""Rules of reading lines as they arrive."""

from __future__ import annotations

import os

import pytest

from cnsctl.cli.arrivals import Arrivals


@pytest.fixture
def pipe():
    """Lines from a pipe, and what writes into it; the test closes the writer."""
    theirs, ours = os.pipe()
    with os.fdopen(theirs, encoding="utf-8", errors="surrogateescape") as stream:
        yield Arrivals(stream), ours


def test_lines_that_have_arrived_come_together_but_not_more_than_asked_for(pipe):
    lines, writer = pipe
    os.write(writer, b"a\nb\nc\n")
    assert lines.next(2) == ["a", "b"]
    assert lines.next(2) == ["c"]  # the writer is still there: it does not wait for a second one
    os.close(writer)
    assert lines.next(2) == []


def test_a_stream_is_over_only_if_it_has_ended_without_a_line(pipe):
    lines, writer = pipe
    assert not lines.are_over()  # it may still come; this does not wait
    os.write(writer, b"# a comment\n\n")
    assert not lines.are_over()
    os.close(writer)
    assert lines.are_over()
    assert lines.next(2) == []


def test_a_look_whether_a_stream_is_over_loses_no_line(pipe):
    lines, writer = pipe
    os.write(writer, b"# a comment\na\n")
    os.close(writer)
    assert not lines.are_over()
    assert lines.next(2) == ["a"]


def test_what_has_arrived_since_comes_too(pipe):
    lines, writer = pipe
    os.write(writer, b"a\n")
    assert lines.next(9) == ["a"]
    os.write(writer, b"b\n")
    os.write(writer, b"c\n")
    assert lines.next(9) == ["b", "c"]
    os.close(writer)


def test_a_line_is_returned_once_its_end_has_arrived(pipe):
    lines, writer = pipe
    os.write(writer, "a\ncaf\u00e9".encode()[:-1])  # not even the last letter is whole
    assert lines.next(9) == ["a"]
    os.write(writer, "\u00e9".encode()[-1:])
    os.close(writer)
    assert lines.next(9) == ["caf\u00e9"]
    assert lines.next(9) == []


def test_line_ends_of_other_systems_and_bytes_that_are_not_text_are_read_as_the_stream_reads_them(pipe):
    lines, writer = pipe
    os.write(writer, b"a\r\nb\rc\n\xff\n")
    os.close(writer)
    assert lines.next(9) == ["a", "b", "c", "\udcff"]


def test_blank_lines_are_skipped(pipe):
    lines, writer = pipe
    os.write(writer, b"\n  \na\n\t\nb\n\n")
    assert lines.next(2) == ["a", "b"]
    os.close(writer)
    assert lines.next(2) == []


def test_a_stream_in_non_blocking_mode_is_waited_for(pipe):
    import threading

    lines, writer = pipe
    os.set_blocking(lines._fd, False)
    late = threading.Timer(0.2, lambda: (os.write(writer, b"a\n"), os.close(writer)))
    late.start()
    assert lines.next(9) == ["a"]
    late.join()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be-with-mark"])
@pytest.mark.parametrize("piece", [1, 2, 3, 99])
def test_a_byte_order_mark_decides_the_encoding_and_is_dropped(pipe, encoding, piece):
    text = "a \u72ac\r\ncaf\u00e9\n"
    data = b"\xfe\xff" + text.encode("utf-16-be") if encoding.endswith("mark") else text.encode(encoding)
    lines, writer = pipe
    for at in range(0, len(data), piece):
        os.write(writer, data[at : at + piece])
    os.close(writer)
    assert lines.next(9) == ["a \u72ac", "caf\u00e9"]


@pytest.mark.parametrize("data", [b"", b"\xef", b"\xff", b"\xef\xbb", b"\xef\xbb\xbf", b"\xff\xfe", b"\xff\xfea"])
def test_a_file_that_is_nothing_but_the_beginning_of_a_mark_is_read_to_its_end(pipe, data):
    lines, writer = pipe
    os.write(writer, data)
    os.close(writer)
    found = lines.next(9)
    assert len(found) <= 1
    assert lines.next(9) == []
