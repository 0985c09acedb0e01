"""The anthropic package: 2.x sends a bearer token, 0.x sends `x-api-key`."""

import os

import anthropic
from scenarios import BASE_URL, KEY, refusal, run, scenario

client = anthropic.Anthropic(base_url=BASE_URL, api_key=KEY, max_retries=0)
QUESTION = [{"role": "user", "content": "Say hello to Zhang San 张三"}]
TOOL_QUESTION = [{"role": "user", "content": "Which tool tells the weather?"}]
TOOLS = [
    {
        "name": "get_weather",
        "description": "Weather of a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


def create(client=client, model="demo", messages=QUESTION, **options):
    return client.messages.create(model=model, max_tokens=256, messages=messages, **options)


@scenario
def messages():
    answer = create()
    return {"text": answer.content[0].text, "stop": answer.stop_reason, "usage": answer.usage.model_dump()}


@scenario
def messages_stream():
    with client.messages.stream(model="demo", max_tokens=256, messages=QUESTION) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    return {"text": text, "stop": final.stop_reason, "usage": final.usage.model_dump()}


@scenario
def raw_events():
    return {"events": [event.type for event in create(stream=True)]}


@scenario
def tools():
    answer = create(messages=TOOL_QUESTION, tools=TOOLS)
    block = next(block for block in answer.content if block.type == "tool_use")
    return {"name": block.name, "input": block.input, "stop": answer.stop_reason, "usage": answer.usage.model_dump()}


@scenario
def tools_stream():
    with client.messages.stream(model="demo", max_tokens=256, messages=TOOL_QUESTION, tools=TOOLS) as stream:
        final = stream.get_final_message()
    block = next(block for block in final.content if block.type == "tool_use")
    return {"name": block.name, "input": block.input, "stop": final.stop_reason, "usage": final.usage.model_dump()}


@scenario
def count_tokens():
    return {"input_tokens": client.messages.count_tokens(model="demo", messages=QUESTION).input_tokens}


@scenario
def wrong_key():
    stranger = anthropic.Anthropic(base_url=BASE_URL, api_key="not-a-key", max_retries=0)
    return refusal(lambda: create(stranger), anthropic.AuthenticationError)


@scenario
def disabled_user():
    leaver = anthropic.Anthropic(base_url=BASE_URL, api_key=os.environ["DISABLED_KEY"], max_retries=0)
    return refusal(lambda: create(leaver), anthropic.PermissionDeniedError)


@scenario
def upstream_refuses():
    return refusal(lambda: create(model="demo-error-429"), anthropic.RateLimitError)


run()
