"""The cases of the Autobahn TestSuite (sections 1 to 7, 9 and 10) as data, under its numbers.

Autobahn itself runs on Python 2 only. Its cases are conversations of a client with an echo server: what the client
sends, what it must get back, and how the connection must end. Messages of section 9 are smaller and its round trips
fewer; everything else is as there. What each case expects follows RFC 6455; the sequences of section 6 are those of
Markus Kuhn's UTF-8 stress test, https://www.cl.cam.ac.uk/~mgk25/ucs/examples/UTF-8-test.txt.
"""

from dataclasses import dataclass
from typing import NamedTuple

from harness.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload

OK, NON_STRICT, INFORMATIONAL, FAILED = "OK", "NON-STRICT", "INFORMATIONAL", "FAILED"
NORMAL, PROTOCOL_ERROR, INVALID_PAYLOAD = 1000, 1002, 1007


class Send(NamedTuple):
    """A frame; with `chop`, so many bytes of it at a time."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    chop: int = 0


class Pause(NamedTuple):
    """Wait whether the server ends the connection. If not, that is an event of this name, unless it has none."""

    name: str = ""


class RoundTrips(NamedTuple):
    """So many messages, each sent when the one before has come back."""

    opcode: int
    payload: bytes
    count: int


@dataclass(frozen=True)
class Case:
    """`expected` and `tolerated` are events: ("message", opcode, payload), ("pong", payload), ("pause", name)."""

    number: str
    steps: tuple
    expected: tuple = ()
    tolerated: tuple | None = None
    # Who must end it, with which codes (none is always right), and whether by a closing handshake.
    closed_by_us: bool = True
    codes: tuple = (NORMAL,)
    must_be_clean: bool = True
    # The close frame is among the steps.
    closes_itself: bool = False
    # Nothing is asked for: the result is reported only.
    is_informational: bool = False
    # That the server did not end it is a failure of the case, not of the closing alone.
    must_be_ended_by_server: bool = False
    # A wrong close code is a failure of the case, not of the closing alone.
    code_decides: bool = False


def message(opcode, payload):
    return ("message", opcode, payload)


def echo(number, opcode, payload, chop=0):
    """One frame, and the same message back."""
    return Case(number, (Send(opcode, payload, chop=chop),), (message(opcode, payload),))


def echo_fragmented(number, opcode, payload, size):
    """A message in fragments of so many bytes, and the whole of it back."""
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    return Case(number, fragments(opcode, pieces), (message(opcode, payload),))


def fragments(opcode, pieces):
    last = len(pieces) - 1
    return tuple(Send(CONTINUATION if place else opcode, piece, place == last) for place, piece in enumerate(pieces))


def failing(number, *steps, expected=(), tolerated=None, code=PROTOCOL_ERROR, **more):
    """The server must end the connection at once."""
    return Case(number, steps, expected, tolerated, False, (code,), False, **more)


def closing(number, *steps, codes=(NORMAL,), expected=(), must_be_clean=True, **more):
    """We begin to close."""
    more = {"code_decides": True, **more}
    return Case(number, steps, expected, None, True, codes, must_be_clean, closes_itself=True, **more)


def framing():
    """1.1 text, 1.2 binary."""
    for section, opcode, byte in (("1.1", TEXT, b"*"), ("1.2", BINARY, b"\xfe")):
        for number, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
            yield echo(f"{section}.{number}", opcode, byte * size)
        yield echo(f"{section}.8", opcode, byte * 65536, chop=997)


def pings():
    """2: pings and pongs."""

    def ponged(number, *steps, payloads, **more):
        return Case(number, steps, tuple(("pong", payload) for payload in payloads), **more)

    yield ponged("2.1", Send(PING), payloads=[b""])
    yield ponged("2.2", Send(PING, b"Hello, world!"), payloads=[b"Hello, world!"])
    binary = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    yield ponged("2.3", Send(PING, binary), payloads=[binary])
    yield ponged("2.4", Send(PING, b"\xfe" * 125), payloads=[b"\xfe" * 125])
    yield failing("2.5", Send(PING, b"\xfe" * 126))
    yield ponged("2.6", Send(PING, b"\xfe" * 125, chop=1), payloads=[b"\xfe" * 125])
    yield Case("2.7", (Send(PONG), Pause()))
    yield Case("2.8", (Send(PONG, b"unsolicited pong payload"), Pause()))
    yield ponged("2.9", Send(PONG, b"unsolicited pong payload"), Send(PING, b"ping"), payloads=[b"ping"])
    many = [b"payload-%d" % number for number in range(10)]
    yield ponged("2.10", *(Send(PING, payload) for payload in many), payloads=many)
    yield ponged("2.11", *(Send(PING, payload, chop=1) for payload in many), payloads=many)


HELLO = b"Hello, world!"


def reserved_bits():
    """3: a message, then one with reserved bits set, then a ping that must not be answered."""
    yield failing("3.1", Send(TEXT, HELLO, rsv=1))
    for rsv, chop in ((2, 0), (3, 0), (4, 1)):
        good, bad = Send(TEXT, HELLO, chop=chop), Send(TEXT, HELLO, rsv=rsv, chop=chop)
        yield failing(f"3.{rsv}", good, bad, Send(PING), expected=(message(TEXT, HELLO),), tolerated=())
    yield failing("3.5", Send(BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", rsv=5))
    yield failing("3.6", Send(PING, HELLO, rsv=6))
    yield failing("3.7", Send(CLOSE, rsv=7))


def reserved_opcodes():
    """4.1 those of data, 4.2 those of control frames."""
    for section, first in (("4.1", 3), ("4.2", 11)):
        yield failing(f"{section}.1", Send(first))
        yield failing(f"{section}.2", Send(first + 1, b"reserved opcode payload"))
        for number, (payload, chop) in enumerate(((b"", 0), (HELLO, 0), (HELLO, 1)), 3):
            yield failing(
                f"{section}.{number}",
                Send(TEXT, HELLO, chop=chop), Send(first + number - 1, payload, chop=chop), Send(PING),
                expected=(message(TEXT, HELLO),), tolerated=(),
            )


def fragmentation():
    """5: what may be in fragments, and in which order."""
    two, whole = [b"fragment1", b"fragment2"], b"fragment1fragment2"
    yield failing("5.1", Send(PING, two[0], fin=False), Send(CONTINUATION, two[1]))
    yield failing("5.2", Send(PONG, two[0], fin=False), Send(CONTINUATION, two[1]))
    for number, chop in ((3, 0), (4, 0), (5, 1)):
        first, second = Send(TEXT, two[0], fin=False, chop=chop), Send(CONTINUATION, two[1], chop=chop)
        between = (Pause(),) if number == 4 else ()
        yield Case(f"5.{number}", (first, *between, second), (message(TEXT, whole),))
    for number, chop in ((6, 0), (7, 0), (8, 1)):
        first, second = Send(TEXT, two[0], fin=False, chop=chop), Send(CONTINUATION, two[1], chop=chop)
        between = (Send(PING, b"ping payload", chop=chop), *([Pause()] if number == 7 else []))
        yield Case(f"5.{number}", (first, *between, second), (("pong", b"ping payload"), message(TEXT, whole)))
    alone = b"non-continuation payload"
    for number, chop in ((9, 0), (10, 0), (11, 1), (12, 0), (13, 0), (14, 1)):
        fin = number < 12
        yield failing(f"5.{number}", Send(CONTINUATION, alone, fin=fin, chop=chop), Send(TEXT, HELLO, chop=chop))
    yield failing(
        "5.15",
        *fragments(TEXT, two), Send(CONTINUATION, b"fragment3", fin=False), Send(TEXT, b"fragment4"),
        expected=(message(TEXT, whole),), tolerated=(),
    )
    for number, fin in ((16, False), (17, True)):
        again = (Send(CONTINUATION, two[0], fin=fin), Send(TEXT, two[0], fin=False), Send(CONTINUATION, two[1]))
        yield failing(f"5.{number}", *again, *again)
    yield failing("5.18", Send(TEXT, two[0], fin=False), Send(TEXT, two[1]))
    five = [b"fragment%d" % number for number in range(1, 6)]
    for number, chop in ((19, 0), (20, 1)):
        a, b, c, d, e = (step._replace(chop=chop) for step in fragments(TEXT, five))
        one, other = Send(PING, b"pongme 1!", chop=chop), Send(PING, b"pongme 2!", chop=chop)
        events = (("pong", b"pongme 1!"), ("pong", b"pongme 2!"), message(TEXT, b"".join(five)))
        yield Case(f"5.{number}", (a, b, one, Pause(), c, d, other, e), events)


# With the omicron of the block "Greek Extended", which takes three bytes.
KOSME = "κ\u1f79σμε".encode()
VALID = "Hello-µ@ßöäüàá-UTF-8!!".encode()
SURROGATE, TOO_HIGH, EDITED = b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"edited"


def not_utf8(number, *steps, expected=(), tolerated=None):
    return failing(
        number, *steps, expected=expected, tolerated=tolerated, code=INVALID_PAYLOAD, must_be_ended_by_server=True
    )


def text_handling():
    """6.1 to 6.4."""
    yield echo("6.1.1", TEXT, b"")
    yield Case("6.1.2", fragments(TEXT, [b"", b"", b""]), (message(TEXT, b""),))
    yield Case("6.1.3", fragments(TEXT, [b"", b"middle frame payload", b""]), (message(TEXT, b"middle frame payload"),))
    yield echo("6.2.1", TEXT, VALID)
    yield Case("6.2.2", fragments(TEXT, [VALID[:12], VALID[12:]]), (message(TEXT, VALID),))
    yield echo_fragmented("6.2.3", TEXT, VALID, 1)
    yield echo_fragmented("6.2.4", TEXT, KOSME, 1)
    invalid = KOSME + SURROGATE + EDITED
    yield not_utf8("6.3.1", Send(TEXT, invalid))
    yield not_utf8("6.3.2", *fragments(TEXT, [invalid[place : place + 1] for place in range(len(invalid))]))
    # The first part is lawful; the second is not, and need not be noticed before the end.
    failing_fast = {"expected": (("pause", "A"),), "tolerated": (("pause", "A"), ("pause", "B"))}
    whole = KOSME + TOO_HIGH + EDITED
    for number, (first, second) in enumerate(((11, 15), (12, 13)), 1):
        parts = (whole[:first], whole[first:second], whole[second:])
        a, b, c = fragments(TEXT, parts)
        yield not_utf8(f"6.4.{number}", a, Pause("A"), b, Pause("B"), c, **failing_fast)
        # The same in one frame: the pauses are inside its payload.
        pieces = (Part(TEXT, whole, 0, first), Pause("A"), Part(TEXT, whole, first, second), Pause("B"))
        yield not_utf8(f"6.4.{number + 2}", *pieces, Part(TEXT, whole, second, len(whole)), **failing_fast)


class Part(NamedTuple):
    """The bytes `start` to `end` of the payload of one frame, with the frame's head before the first of them."""

    opcode: int
    payload: bytes
    start: int
    end: int


def utf8_sequences():
    """6.5 to 6.23: (what they are, sequences). Whether a sequence is lawful Python knows: its decoder is as strict."""

    def spaced(low, high):
        return b"".join(bytes([byte, 0x20]) for byte in range(low, high))

    missing = [b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
               b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"]
    surrogates = [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf"]
    low_surrogates = [b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf"]
    planes = [chr(plane << 16 | last).encode() for plane in range(17) for last in (0xFFFE, 0xFFFF)]
    return [
        ("some lawful text", [b"hello\x24world", "hello¢world".encode(), "hello€world".encode(),
                              "hello𤭢world".encode(), KOSME]),
        ("all prefixes of a lawful text", [KOSME[:end] for end in range(1, len(KOSME) + 1)]),
        ("the first of each length", [b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
        ("the first of five and six bytes", [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
        ("the last of each length", [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
        ("beyond the last", [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
        ("other boundaries", [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", TOO_HIGH]),
        ("continuations of nothing", [(b"\x80\xbf" * 4)[:length] for length in range(1, 7)]
                                     + [b"\xbf", bytes(range(0x80, 0xC0))]),
        ("starts of nothing", [spaced(0xC0, 0xE0), spaced(0xE0, 0xF0), spaced(0xF0, 0xF8), spaced(0xF8, 0xFC),
                               spaced(0xFC, 0xFE)]),
        ("the last byte is missing", missing),
        ("several of them together", [b"".join(missing)]),
        ("bytes that cannot be", [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
        ("too long for a slash", [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf",
                                  b"\xfc\x80\x80\x80\x80\xaf"]),
        ("the largest that are too long", [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf",
                                           b"\xfc\x83\xbf\xbf\xbf\xbf"]),
        ("too long for NUL", [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80",
                              b"\xfc\x80\x80\x80\x80\x80"]),
        ("single surrogates", surrogates + low_surrogates),
        ("pairs of surrogates", [high + low for high in surrogates for low in (low_surrogates[0], low_surrogates[2])]),
        ("characters that are none, but lawful", planes),
        ("specials", [chr(point).encode() for point in range(0xFFF9, 0x10000)]),
    ]


def is_lawful(sequence):
    try:
        sequence.decode()
    except UnicodeDecodeError:
        return False
    return True


def utf8():
    for section, (_, sequences) in enumerate(utf8_sequences(), 5):
        for number, sequence in enumerate(sequences, 1):
            name = f"6.{section}.{number}"
            yield echo(name, TEXT, sequence) if is_lawful(sequence) else not_utf8(name, Send(TEXT, sequence))


def close_handling():
    """7: close frames, lawful and not."""
    proper = Send(CLOSE, close_payload(NORMAL))
    hello = Send(TEXT, HELLO)
    yield Case("7.1.1", (hello,), (message(TEXT, HELLO),))
    yield closing("7.1.2", proper, proper)
    yield closing("7.1.3", proper, Send(PING))
    yield closing("7.1.4", proper, hello)
    yield closing("7.1.5", Send(TEXT, b"fragment1", fin=False), proper, Send(CONTINUATION, b"fragment2"))
    large = Send(TEXT, b"BAsd7&jh23" * 26214)
    yield closing("7.1.6", large, hello, proper, Send(PING), is_informational=True)
    yield closing("7.3.1", Send(CLOSE))
    yield closing("7.3.2", Send(CLOSE, b"a"), codes=(PROTOCOL_ERROR,), must_be_clean=False)
    yield closing("7.3.3", proper)
    yield closing("7.3.4", Send(CLOSE, close_payload(NORMAL, "Hello World!")))
    yield closing("7.3.5", Send(CLOSE, close_payload(NORMAL, "*" * 123)))
    yield closing("7.3.6", Send(CLOSE, close_payload(NORMAL, "*" * 124)), codes=(PROTOCOL_ERROR,), must_be_clean=False)
    garbled = Send(CLOSE, close_payload(NORMAL, KOSME + SURROGATE + EDITED))
    yield closing("7.5.1", garbled, codes=(PROTOCOL_ERROR, INVALID_PAYLOAD), must_be_clean=False)
    lawful = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for number, code in enumerate(lawful, 1):
        yield closing(f"7.7.{number}", Send(CLOSE, close_payload(code)), codes=(NORMAL, code))
    for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield closing(f"7.9.{number}", Send(CLOSE, close_payload(code)), codes=(PROTOCOL_ERROR,), must_be_clean=False)
    for number, code in enumerate((5000, 65535), 1):
        yield closing(f"7.13.{number}", Send(CLOSE, close_payload(code)), must_be_clean=False, is_informational=True)


KIB, MIB = 1 << 10, 1 << 20


def limits():
    """9: large messages, many fragments, many chops, many round trips."""
    sizes = (64 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB, 4 * MIB)
    for section, opcode, byte in (("9.1", TEXT, b"BAsd7&jh23"), ("9.2", BINARY, b"\x00\xfe\x23\xfa\xf0")):
        for number, size in enumerate(sizes, 1):
            yield echo(f"{section}.{number}", opcode, (byte * (size // len(byte) + 1))[:size])
    for section, opcode in (("9.3", TEXT), ("9.4", BINARY)):
        for number, size in enumerate((64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB), 1):
            yield echo_fragmented(f"{section}.{number}", opcode, b"*" * (256 * KIB if size == 64 else MIB), size)
    for section, opcode in (("9.5", TEXT), ("9.6", BINARY)):
        for number, chop in enumerate((64, 128, 256, 512, KIB, 2 * KIB), 1):
            yield echo(f"{section}.{number}", opcode, b"*" * (64 * KIB), chop=chop)
    for section, opcode, byte in (("9.7", TEXT, b"*"), ("9.8", BINARY, b"\xfe")):
        for number, size in enumerate((0, 16, 64, 256, KIB, 4 * KIB), 1):
            payload = byte * size
            yield Case(f"{section}.{number}", (RoundTrips(opcode, payload, 50),), (message(opcode, payload),) * 50)


def fragmented_by_the_library():
    yield echo_fragmented("10.1.1", TEXT, b"*" * 65536, 1300)


CASES = [
    case
    for section in (
        framing, pings, reserved_bits, reserved_opcodes, fragmentation, text_handling, utf8, close_handling, limits,
        fragmented_by_the_library,
    )
    for case in section()
]
BY_NUMBER = {case.number: case for case in CASES}
assert len(BY_NUMBER) == len(CASES), "a number is there twice"
