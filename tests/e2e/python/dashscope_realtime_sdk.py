"""The dashscope package's sockets: CosyVoice, Paraformer, Qwen-Omni, and with 2.x several tasks on one socket."""

import base64
import os
import sys
import tempfile
import threading

import dashscope
from dashscope.audio.asr import Recognition, RecognitionCallback
from dashscope.audio.qwen_omni import MultiModality, OmniRealtimeCallback, OmniRealtimeConversation
from dashscope.audio.tts_v2 import ResultCallback, SpeechSynthesizer
from dashscope.common.error import InvalidParameter
from scenarios import BASE_URL, KEY, run, scenario

WS_URL = BASE_URL.replace("http", "ws", 1)
dashscope.base_websocket_api_url = f"{WS_URL}/api-ws/v1/inference"
dashscope.api_key = KEY
IS_OLD = dashscope.version.__version__.startswith("1.")
TEXT = "你好，张三。Hello!"


def usage_of(message):
    return message["payload"].get("usage")


@scenario
def speech():
    """All at once: the sound, and what the last event said of usage."""
    synthesizer = SpeechSynthesizer(model="demo-cosyvoice", voice="longxiaochun")
    sound = synthesizer.call(TEXT)
    return {
        "bytes": len(sound),
        "usage": usage_of(synthesizer.get_response()),
        "request_id": synthesizer.get_last_request_id(),
    }


@scenario
def speech_by_pieces():
    """Text goes in as it arrives, sound comes out meanwhile."""
    pieces, events, done = [], [], threading.Event()

    class Callback(ResultCallback):
        def on_data(self, data):
            pieces.append(len(data))

        def on_event(self, message):
            events.append(message)

        def on_complete(self):
            done.set()

        def on_error(self, message):
            events.append(message)
            done.set()

    synthesizer = SpeechSynthesizer(model="demo-cosyvoice", voice="longxiaochun", callback=Callback())
    for piece in ("你好，", "张三。", "Hello!"):
        synthesizer.streaming_call(piece)
    synthesizer.streaming_complete(20_000)
    assert done.wait(10)
    return {"bytes": sum(pieces), "pieces": len(pieces), "usage": usage_of(synthesizer.get_response())}


class Listener(RecognitionCallback):
    def __init__(self):
        self.sentences, self.usages, self.error, self.is_done = [], [], None, threading.Event()

    def on_event(self, result):
        self.sentences.append(result.get_sentence())
        if result.output and getattr(result, "usage", None):
            self.usages.append(dict(result.usage))
        for usage in result.usages or []:
            self.usages.append(dict(usage["usage"]))

    def on_complete(self):
        self.is_done.set()

    def on_error(self, result):
        self.error = {"code": result.code, "message": result.message, "status": result.status_code}
        self.is_done.set()


def listen(model):
    listener = Listener()
    recognition = Recognition(model=model, callback=listener, format="pcm", sample_rate=16000)
    recognition.start()
    try:
        for _ in range(10):
            recognition.send_audio_frame(bytes(3200))
        recognition.stop()
    except InvalidParameter:
        pass  # It has failed by now.
    assert listener.is_done.wait(10)
    return listener


@scenario
def recognition():
    listener = listen("demo-paraformer")
    assert listener.error is None, listener.error
    return {"sentences": [sentence for sentence in listener.sentences if sentence], "usage": listener.usages[-1]}


@scenario
def recognition_of_a_file():
    with tempfile.NamedTemporaryFile(suffix=".pcm") as file:
        file.write(bytes(32000 * 2))
        file.flush()
        recognition = Recognition(model="demo-paraformer", callback=None, format="pcm", sample_rate=16000)
        result = recognition.call(file.name)
    return {
        "status": result.status_code,
        "sentences": result.get_sentence(),
        "usages": [usage["usage"] for usage in result.usages or []],
    }


class Conversation(OmniRealtimeCallback):
    def __init__(self):
        self.events, self.closed, self.changed = [], None, threading.Condition()

    def on_event(self, message):
        with self.changed:
            self.events.append(message)
            self.changed.notify_all()

    def on_close(self, close_status_code, close_msg):
        with self.changed:
            self.closed = close_status_code
            self.changed.notify_all()

    def wait_for(self, kind, count=1):
        def found():
            return [event for event in self.events if event["type"] == kind]

        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= count, 15), [event["type"] for event in self.events]
            return found()


@scenario
def omni():
    """Two responses to sound."""
    heard = Conversation()
    conversation = OmniRealtimeConversation(model="demo-omni", callback=heard, url=f"{WS_URL}/api-ws/v1/realtime")
    conversation.connect()
    heard.wait_for("session.created")
    conversation.update_session(
        output_modalities=[MultiModality.TEXT, MultiModality.AUDIO],
        voice="Cherry",
        enable_turn_detection=False,
        enable_input_audio_transcription=False,
    )
    heard.wait_for("session.updated")
    for number in (1, 2):
        for _ in range(5):
            conversation.append_audio(base64.b64encode(bytes(3200)).decode())
        conversation.commit()
        conversation.create_response()
        heard.wait_for("response.done", number)
    sound = sum(len(base64.b64decode(event["delta"])) for event in heard.wait_for("response.audio.delta"))
    usages = [event["response"]["usage"] for event in heard.wait_for("response.done")]
    conversation.close()
    return {"sound": sound, "usages": usages, "kinds": sorted({event["type"] for event in heard.events})}


if not IS_OLD:

    @scenario
    def two_tasks_at_once():
        """Recognition and synthesis on one socket, their events mixed."""
        from dashscope.v2.transport.ws_connection import WsConnection

        connection = WsConnection(url=dashscope.base_websocket_api_url, api_key=KEY, timeout=15)
        speaking = connection.open_task()
        listening = connection.open_task()
        speaking.run_task(
            task_group="audio",
            task="tts",
            function="SpeechSynthesizer",
            model="demo-cosyvoice",
            parameters={"voice": "longxiaochun", "format": "pcm", "sample_rate": 16000, "text_type": "PlainText"},
        )
        speaking.claim_binary_downlink()
        listening.run_task(
            task_group="audio",
            task="asr",
            function="recognition",
            model="demo-paraformer",
            parameters={"format": "pcm", "sample_rate": 16000},
        )
        speaking.continue_task({"text": TEXT})
        for _ in range(5):
            listening.send_binary(bytes(3200))
        usages, sound = {}, 0
        listening.finish_task()
        speaking.finish_task()
        for name, task in (("speech", speaking), ("recognition", listening)):
            while (frame := task.recv()) is not None:
                if isinstance(frame, bytes):
                    sound += len(frame)
                elif frame["payload"].get("usage"):
                    usages[name] = frame["payload"]["usage"]
        ids = [speaking.task_id, listening.task_id]
        connection.close()
        return {"sound": sound, "usages": usages, "ids": ids}


@scenario
def forbidden_model():
    """A task with a model that the key may not use."""
    listener = listen("forbidden")
    return {"error": listener.error}


@scenario
def wrong_key():
    return refused("not-a-key")


@scenario
def disabled_user():
    return refused(os.environ["DISABLED_KEY"])


def refused(key):
    dashscope.api_key = key
    try:
        listener = listen("demo-paraformer")
    finally:
        dashscope.api_key = KEY
    return {"error": listener.error}


run()
# A recognition that failed leaves a timer of 23 seconds behind, which would keep this process.
sys.stdout.flush()
os._exit(0)
