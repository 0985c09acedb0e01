"""The dashscope package's module-level interface, which 1.x and 2.x share."""

import os
import time

import dashscope
from dashscope import Generation, ImageSynthesis, MultiModalConversation, TextEmbedding
from scenarios import BASE_URL, KEY, next_millisecond, run, scenario

dashscope.base_http_api_url = f"{BASE_URL}/api/v1"
dashscope.api_key = KEY
QUESTION = [{"role": "user", "content": "Say hello to Zhang San 张三"}]


def generate(**options):
    options = {"model": "demo", "messages": QUESTION, "result_format": "message", **options}
    return Generation.call(**options)


def describe(answer):
    return {"status": answer.status_code, "code": answer.code, "message": answer.message, "request_id": answer.request_id}


@scenario
def generation():
    answer = generate()
    return {**describe(answer), "text": answer.output.choices[0].message.content, "usage": dict(answer.usage)}


@scenario
def generation_stream():
    texts, usage = [], None
    for answer in generate(stream=True):
        texts.append(answer.output.choices[0].message.content)
        usage = dict(answer.usage)
    return {"first": texts[0], "text": texts[-1], "usage": usage}


@scenario
def generation_stream_incremental():
    texts, usage = [], None
    for answer in generate(stream=True, incremental_output=True):
        texts.append(answer.output.choices[0].message.content)
        usage = dict(answer.usage)
    return {"first": texts[0], "text": "".join(texts), "usage": usage}


@scenario
def multimodal():
    content = [{"image": "https://example.com/cat.png"}, {"text": "What is this?"}]
    answer = MultiModalConversation.call(model="demo-vl", messages=[{"role": "user", "content": content}])
    return {**describe(answer), "content": answer.output.choices[0].message.content, "usage": dict(answer.usage)}


@scenario
def embedding():
    answer = TextEmbedding.call(model="demo-embedding", input=["one", "two"])
    lengths = [len(item["embedding"]) for item in answer.output["embeddings"]]
    return {**describe(answer), "lengths": lengths, "usage": dict(answer.usage)}


@scenario
def image_task():
    task = ImageSynthesis.async_call(model="demo-image", prompt="A red square", n=1)
    next_millisecond()
    fetched = ImageSynthesis.fetch(task)
    calls = 2
    deadline = time.monotonic() + 20
    while fetched.output.task_status in ("PENDING", "RUNNING") and time.monotonic() < deadline:
        time.sleep(0.1)
        fetched = ImageSynthesis.fetch(task)
        calls += 1
    next_millisecond()
    done = ImageSynthesis.wait(task)
    return {
        **describe(done),
        "calls": calls + 1,
        "submitted": task.output.task_status,
        "finished": done.output.task_status,
        "pictures": len(done.output.results),
        "usage": dict(done.usage),
    }


@scenario
def wrong_key():
    return describe(generate(api_key="not-a-key"))


@scenario
def disabled_user():
    return describe(generate(api_key=os.environ["DISABLED_KEY"]))


@scenario
def upstream_refuses():
    return describe(generate(model="demo-error-429"))


run()
