"""The openai package, 1.x and 3.x alike."""

import io
import os

import openai
from scenarios import BASE_URL, KEY, refusal, run, scenario

client = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=KEY, max_retries=0)
QUESTION = [{"role": "user", "content": "Say hello to Zhang San 张三"}]
TOOL_QUESTION = [{"role": "user", "content": "Which tool tells the weather?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def read(stream):
    """Collect a chat stream."""
    text, usage, without_choices, finish = "", None, 0, None
    for chunk in stream:
        without_choices += not chunk.choices
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return {
        "text": text,
        "finish": finish,
        "without_choices": without_choices,
        "usage": usage and usage.model_dump(),
    }


@scenario
def chat():
    answer = client.chat.completions.create(model="demo", messages=QUESTION)
    choice = answer.choices[0]
    return {
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "model": answer.model,
        "usage": answer.usage.model_dump(),
        "request_id": answer._request_id,
    }


@scenario
def chat_stream():
    return read(client.chat.completions.create(model="demo", messages=QUESTION, stream=True))


@scenario
def chat_stream_with_usage():
    options = {"include_usage": True}
    return read(client.chat.completions.create(model="demo", messages=QUESTION, stream=True, stream_options=options))


@scenario
def tools():
    answer = client.chat.completions.create(model="demo", messages=TOOL_QUESTION, tools=TOOLS)
    call = answer.choices[0].message.tool_calls[0]
    return {
        "name": call.function.name,
        "arguments": call.function.arguments,
        "finish": answer.choices[0].finish_reason,
        "usage": answer.usage.model_dump(),
    }


@scenario
def tools_stream():
    name, arguments, finish = "", "", None
    for chunk in client.chat.completions.create(model="demo", messages=TOOL_QUESTION, tools=TOOLS, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                name += call.function.name or ""
                arguments += call.function.arguments or ""
    return {"name": name, "arguments": arguments, "finish": finish}


@scenario
def responses():
    answer = client.responses.create(model="demo", input="Say hello")
    return {"text": answer.output_text, "status": answer.status, "usage": answer.usage.model_dump()}


@scenario
def responses_stream():
    text, events, usage = "", [], None
    for event in client.responses.create(model="demo", input="Say hello", stream=True):
        events.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type == "response.completed":
            usage = event.response.usage.model_dump()
    return {"text": text, "events": events, "usage": usage}


@scenario
def embeddings():
    answer = client.embeddings.create(model="demo-embedding", input=["one", "two"])
    return {
        "lengths": [len(item.embedding) for item in answer.data],
        "numbers": all(isinstance(number, float) for number in answer.data[0].embedding),
        "usage": answer.usage.model_dump(),
    }


@scenario
def embeddings_float():
    answer = client.embeddings.create(model="demo-embedding", input=["one", "two"], encoding_format="float")
    return {
        "lengths": [len(item.embedding) for item in answer.data],
        "numbers": all(isinstance(number, float) for number in answer.data[0].embedding),
        "usage": answer.usage.model_dump(),
    }


@scenario
def images():
    answer = client.images.generate(model="demo-image", prompt="A red square")
    usage = answer.usage
    return {"pictures": [bool(item.b64_json or item.url) for item in answer.data], "usage": usage and usage.model_dump()}


@scenario
def speech():
    answer = client.audio.speech.create(model="demo-speech", voice="alloy", input="Hello there")
    return {"bytes": len(answer.content)}


@scenario
def transcription():
    sound = io.BytesIO(b"RIFF" + bytes(4000))
    sound.name = "hello.wav"
    answer = client.audio.transcriptions.create(model="demo-transcribe", file=sound)
    return {"text": answer.text, "usage": answer.usage.model_dump() if getattr(answer, "usage", None) else None}


@scenario
def models():
    return {"ids": [model.id for model in client.models.list()]}


@scenario
def wrong_key():
    stranger = client.with_options(api_key="not-a-key")
    return refusal(lambda: stranger.chat.completions.create(model="demo", messages=QUESTION), openai.AuthenticationError)


@scenario
def disabled_user():
    leaver = client.with_options(api_key=os.environ["DISABLED_KEY"])
    return refusal(lambda: leaver.chat.completions.create(model="demo", messages=QUESTION), openai.PermissionDeniedError)


@scenario
def upstream_refuses():
    return refusal(
        lambda: client.chat.completions.create(model="demo-error-429", messages=QUESTION), openai.RateLimitError
    )


run()
