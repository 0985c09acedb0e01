"""The google-genai package: 3.x asks for /v1, 1.x for /v1beta."""

import os

from google import genai
from google.genai import errors
from scenarios import BASE_URL, KEY, refusal, run, scenario

QUESTION = "Say hello to Zhang San 张三"


def client_with(key):
    return genai.Client(api_key=key, http_options={"base_url": BASE_URL})


client = client_with(KEY)


@scenario
def generate():
    answer = client.models.generate_content(model="demo", contents=QUESTION)
    return {"text": answer.text, "usage": answer.usage_metadata.model_dump(mode="json", exclude_none=True)}


@scenario
def generate_stream():
    text, usage = "", None
    for chunk in client.models.generate_content_stream(model="demo", contents=QUESTION):
        text += chunk.text or ""
        usage = chunk.usage_metadata or usage
    return {"text": text, "usage": usage.model_dump(mode="json", exclude_none=True)}


@scenario
def count_tokens():
    return {"total": client.models.count_tokens(model="demo", contents=QUESTION).total_tokens}


@scenario
def embed():
    answer = client.models.embed_content(model="demo-embedding", contents=["one", "two"])
    return {"lengths": [len(item.values) for item in answer.embeddings]}


@scenario
def wrong_key():
    return refused(client_with("not-a-key"))


@scenario
def disabled_user():
    return refused(client_with(os.environ["DISABLED_KEY"]))


@scenario
def upstream_refuses():
    return refused(client, model="demo-error-429")


def refused(caller, model="demo"):
    """This SDK keeps the HTTP status in `code`."""
    saw = refusal(lambda: caller.models.generate_content(model=model, contents=QUESTION), errors.ClientError)
    return {**saw, "status": saw["code"]}


run()
