"""A caller by WebRTC: aiortc's peer, on a thread of its own, to which a test speaks as by telephone."""

import array
import asyncio
import contextlib
import fractions
import itertools
import json
import math
import threading

import av
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from harness import http1, secrets
from harness.polling import until
from harness.websocket_sdk import realtime_usage

CALLS = "/v1/realtime/calls"
SECRETS = "/v1/realtime/client_secrets"
MODEL = "demo-realtime"
RATE = 48_000
FRAME = RATE // 50
LOUD = 4_000


class Tone(MediaStreamTrack):
    """A microphone that hears a tone."""

    kind = "audio"
    SAMPLES = array.array("h", [int(2 * LOUD * math.sin(math.tau * 400 * at / RATE)) for at in range(FRAME)]).tobytes()

    def __init__(self):
        super().__init__()
        self.began = None
        self.count = itertools.count()

    async def recv(self):
        number, now = next(self.count), asyncio.get_running_loop().time()
        self.began = self.began or now
        await asyncio.sleep(self.began + number * FRAME / RATE - now)
        frame = av.AudioFrame("s16", "mono", FRAME)
        frame.planes[0].update(self.SAMPLES)
        frame.pts, frame.sample_rate, frame.time_base = number * FRAME, RATE, fractions.Fraction(1, RATE)
        return frame


class Caller:
    """One end of a call, with a microphone, a loudspeaker and the data channel."""

    _loop = None

    def __init__(self):
        self.events = []
        self.read = 0
        self.loud_frames = 0
        self.is_over = threading.Event()
        self._do(self._prepare())

    async def _prepare(self):
        # No servers are asked for addresses: the machine's own are enough.
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.peer.addTrack(Tone())
        self.channel = self.peer.createDataChannel("oai-events")
        self.channel.on("message", lambda text: self.events.append(json.loads(text)))
        self.channel.on("close", self.is_over.set)
        self.peer.on("track", lambda track: asyncio.ensure_future(self._listen(track)))
        await self.peer.setLocalDescription(await self.peer.createOffer())

    async def _listen(self, track):
        with contextlib.suppress(MediaStreamError):  # the track has ended
            while True:
                frame = await track.recv()
                samples = array.array("h", bytes(frame.planes[0]))
                self.loud_frames += max(map(abs, samples)) > LOUD

    @classmethod
    def _do(cls, work, within=15):
        if cls._loop is None:
            cls._loop = asyncio.new_event_loop()
            threading.Thread(target=cls._loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, cls._loop).result(within)

    @property
    def offer(self):
        """The SDP offer."""
        return self.peer.localDescription.sdp

    def connect(self, answer):
        """Take the SDP answer, and wait for the data channel."""
        self._do(self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer")))
        until(lambda: self.channel.readyState == "open", 15, "the data channel opens")
        assert self.hear()["type"] == "session.created"
        return self

    def say(self, **event):
        """Send one event over the data channel."""

        async def send():
            self.channel.send(json.dumps(event))

        self._do(send())

    def hear(self, *kinds, within=10):
        """The next event of one of these kinds, or of any."""

        def found():
            for at in range(self.read, len(self.events)):
                event = self.events[at]
                assert event["type"] != "error" or "error" in kinds, event
                if not kinds or event["type"] in kinds:
                    self.read = at + 1
                    return event
            return None

        return until(found, within, f"{kinds or 'anything'} is heard")

    def converse(self, text="hello"):
        """Ask and hear the answer; the finished response."""
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        self.say(type="conversation.item.create", item=item)
        self.say(type="response.create")
        return self.hear("response.done")["response"]

    def heard(self, kind):
        """All events of this kind so far."""
        return [event for event in list(self.events) if event["type"] == kind]

    def usages(self):
        """What each response that it heard says of its use."""
        return [event["response"]["usage"] for event in self.heard("response.done")]

    def used(self):
        """What all of them used, in the words of the record."""
        return realtime_usage(self.usages())

    def hears_itself(self, within=10):
        """More of its tone comes back."""
        before = self.loud_frames
        return until(lambda: self.loud_frames > before + 10, within, "the tone comes back")

    def assert_alive(self):
        """The call goes on."""
        assert not self.is_over.is_set() and self.converse("still there?")["status"] == "completed"
        self.hears_itself()

    def wait_for_the_end(self, within=5):
        """The provider ended the call."""
        assert self.is_over.wait(within), f"the call goes on: {self.peer.connectionState}"

    def leave(self):
        self._do(self.peer.close())


# --- what a client asks of the gateway --------------------------------------------------------------------------------


def post(gateway, target, user="openai", body=None, headers=None):
    """A POST with this user's key, if any."""
    credential = gateway.bearer(user) if user else {}
    return http1.call(gateway.base_url, "POST", target, {**credential, **(headers or {})}, body)


def mint(gateway, user="openai", seconds=60, model=MODEL, headers=None, **session):
    """A client secret, as the server of a page gets it."""
    wish = {
        "expires_after": {"anchor": "created_at", "seconds": seconds},
        "session": {"type": "realtime", "model": model, **session},
    }
    answer = post(gateway, SECRETS, user, wish, headers)
    assert answer.status == 200, answer.body
    made = answer.json()
    assert made["value"].startswith("ek_") and made["session"]["model"] == model, made
    secrets.keep(made["value"])
    return made


def bearer(secret):
    """The header with a client secret."""
    return {"Authorization": f"Bearer {secret['value']}"}


def dial(gateway, offer, user="openai", headers=None, query=f"?model={MODEL}"):
    """Send an SDP offer as it is."""
    offer = offer if isinstance(offer, bytes) else offer.encode()
    return post(gateway, CALLS + query, user, offer, {"Content-Type": "application/sdp", **(headers or {})})


def call_id(location):
    """The id in the address of a call, which must be one of the gateway's paths."""
    path, _, name = location.rpartition("/")
    assert path == CALLS and name.startswith("rtc_"), location
    return name


class Call:
    """A running call through the gateway, made with a key, or a secret, and this session."""

    def __init__(self, gateway, user="openai", secret=None, query=f"?model={MODEL}"):
        self.caller = Caller()
        headers = bearer(secret) if secret else None
        answer = dial(gateway, self.caller.offer, None if secret else user, headers, query)
        assert answer.status == 201, (answer.status, answer.body)
        assert answer.headers["content-type"] == "application/sdp"
        (location,) = answer.headers.get_all("location")
        self.gateway = gateway
        self.record_id = answer.request_id
        self.id = call_id(location)
        self.caller.connect(answer.body.decode())

    def record(self, end="complete", **expected):
        """Its record, once it is over."""
        return check_call(self.gateway.records.of(self.record_id, within=10), end=end, **expected)

    def leave(self, **expected):
        """The caller hangs up; the record."""
        self.caller.leave()
        return self.record(**expected)


# --- records ----------------------------------------------------------------------------------------------------------


def check_call(record, user="openai", end="complete", **expected):
    """The record of a call that began."""
    wanted = {"user_id": user, "key_id": user, "channel_id": "openai", "dialect": "openai", "protocol": "webrtc"}
    wanted = {**wanted, "method": "POST", "endpoint": CALLS, "status": 201, "end": end, "error_code": None, **expected}
    assert {name: record.get(name) for name in wanted} == wanted, record
    assert record["department"] == "Testing" and record["duration_ms"] > 0, record
    return record
