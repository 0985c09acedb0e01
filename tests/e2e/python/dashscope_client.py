"""The dashscope 2.x `Client`, which speaks three protocols."""

import os

import dashscope
from dashscope.v2 import errors
from scenarios import BASE_URL, KEY, refusal, run, scenario

QUESTION = [{"role": "user", "content": "Say hello to Zhang San 张三"}]
ROOTS = {"native": "/api/v1", "openai": "/compatible-mode/v1", "anthropic": "/apps/anthropic"}


def client(protocol, key=KEY):
    return dashscope.Client(api_key=key, base_url=BASE_URL + ROOTS[protocol], protocol=protocol, max_retries=0)


def create(protocol, key=KEY, model="demo", **options):
    return client(protocol, key).chat.completions.create(model=model, messages=QUESTION, max_tokens=256, **options)


def whole(protocol):
    answer = create(protocol)
    return {"text": answer.output_text, "usage": answer.usage.model_dump()}


def streamed(protocol):
    stream = create(protocol, stream=True)
    final = stream.get_final_message()
    return {"text": final.output_text, "usage": final.usage and final.usage.model_dump()}


@scenario
def native():
    return whole("native")


@scenario
def native_stream():
    return streamed("native")


@scenario
def openai():
    return whole("openai")


@scenario
def openai_stream():
    return streamed("openai")


@scenario
def anthropic():
    return whole("anthropic")


@scenario
def anthropic_stream():
    return streamed("anthropic")


@scenario
def wrong_key():
    return refusal(lambda: create("native", key="not-a-key"), errors.AuthenticationError)


@scenario
def disabled_user():
    return refusal(lambda: create("native", key=os.environ["DISABLED_KEY"]), errors.PermissionDeniedError)


@scenario
def upstream_refuses():
    return refusal(lambda: create("native", model="demo-error-429"), errors.RateLimitError)


run()
