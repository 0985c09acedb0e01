"""What providers say on their sockets, event by event, with usage that the test chooses."""

import itertools
import json

# A provider never uses the id of a response twice.
_NUMBERS = itertools.count(1)


def realtime_usage(text_in, text_out, cached=0, audio_in=0, audio_out=0, plural=False):
    """The usage of one OpenAI Realtime response; `plural` is how Qwen-Omni spells it."""
    inputs = {"text_tokens": text_in, "audio_tokens": audio_in, "cached_tokens": cached}
    outputs = {"text_tokens": text_out, "audio_tokens": audio_out}
    names = (
        ("input_tokens_details", "output_tokens_details") if plural else ("input_token_details", "output_token_details")
    )
    total_in, total_out = text_in + audio_in, text_out + audio_out
    usage = {"total_tokens": total_in + total_out, "input_tokens": total_in, "output_tokens": total_out}
    return {**usage, names[0]: inputs, names[1]: outputs}


def response_created(name="resp_open"):
    return {"type": "response.created", "event_id": "e", "response": {"id": name, "status": "in_progress"}}


def response_done(usage, name=None, status="completed", **fields):
    """The end of a Realtime response."""
    name = name or f"resp_{next(_NUMBERS)}"
    response = {"object": "realtime.response", "id": name, "status": status, "output": [], "usage": usage, **fields}
    return {"type": "response.done", "event_id": "e", "response": response}


def response_completed(usage, model):
    """The end of a response of `/v1/responses`."""
    name = f"resp_{next(_NUMBERS)}"
    response = {"id": name, "object": "response", "status": "completed", "model": model, "output": [], "usage": usage}
    return {"type": "response.completed", "sequence_number": 3, "response": response}


def run_task(model, task_id="task-1", **header):
    """What a DashScope client begins a task with."""
    payload = {"task_group": "audio", "task": "tts", "function": "SpeechSynthesizer", "model": model}
    return {
        "header": {"action": "run-task", "task_id": task_id, "streaming": "duplex", **header},
        "payload": {**payload, "parameters": {}, "input": {}},
    }


def task_event(event, task_id="task-1", usage=None, **header):
    """What DashScope tells about a task."""
    payload = {"usage": usage} if usage else {}
    return {"header": {"task_id": task_id, "event": event, "attributes": {}, **header}, "payload": payload}


def setup(model):
    """What a Gemini Live client begins with."""
    return {"setup": {"model": model, "generationConfig": {"responseModalities": ["TEXT"]}}}


def turn(prompt, response, is_last=True, **usage):
    """A message of Gemini Live with the usage so far of the turn."""
    counts = {"promptTokenCount": prompt, "responseTokenCount": response, "totalTokenCount": prompt + response, **usage}
    return {"serverContent": {"turnComplete": True} if is_last else {}, "usageMetadata": counts}


def as_binary(event):
    """Gemini sends its JSON in binary frames."""
    return json.dumps(event).encode()


# Dialect → a path of it, the user with a channel for it, and the first message that names a model.
OPENAI = "/v1/realtime?model=demo-realtime"
RESPONSES = "/v1/responses"
DASHSCOPE = "/api-ws/v1/inference"
OMNI = "/api-ws/v1/realtime?model=demo-omni"
GEMINI = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
ECHO = "/echo"
