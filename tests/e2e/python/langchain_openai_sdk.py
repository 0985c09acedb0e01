"""langchain-openai: with a base URL of its own it does not ask for usage in streams."""

import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from scenarios import BASE_URL, KEY, refusal, run, scenario

QUESTION = "Say hello to Zhang San 张三"


def model(key=KEY, **options):
    return ChatOpenAI(model="demo", base_url=f"{BASE_URL}/v1", api_key=key, max_retries=0, **options)


@scenario
def invoke():
    answer = model().invoke(QUESTION)
    return {"text": answer.content, "usage": answer.usage_metadata}


@scenario
def stream():
    text, usage = "", None
    for chunk in model().stream(QUESTION):
        text += chunk.content
        usage = chunk.usage_metadata or usage
    return {"text": text, "usage": usage}


@scenario
def stream_with_usage():
    text, usage = "", None
    for chunk in model(stream_usage=True).stream(QUESTION):
        text += chunk.content
        usage = chunk.usage_metadata or usage
    return {"text": text, "usage": usage}


@scenario
def embed():
    embeddings = OpenAIEmbeddings(
        model="demo-embedding", base_url=f"{BASE_URL}/v1", api_key=KEY, check_embedding_ctx_length=False
    )
    return {"lengths": [len(vector) for vector in embeddings.embed_documents(["one", "two"])]}


@scenario
def wrong_key():
    return refusal(lambda: model(key="not-a-key").invoke(QUESTION), openai.AuthenticationError)


run()
