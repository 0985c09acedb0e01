"""The openai package without retries of its own: whatever goes wrong upstream must not reach it."""

import openai
from scenarios import BASE_URL, KEY, run, scenario

client = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=KEY, max_retries=0)
MESSAGES = [{"role": "user", "content": "Say hello to Zhang San 张三"}]


@scenario
def chat():
    answer = client.chat.completions.create(model="fast", messages=MESSAGES)
    return {"text": answer.choices[0].message.content, "models": [answer.model]}


@scenario
def chat_stream():
    text, models = "", set()
    for chunk in client.chat.completions.create(model="fast", messages=MESSAGES, stream=True):
        models.add(chunk.model)
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    return {"text": text, "models": sorted(models)}


@scenario
def models():
    return {"models": sorted(model.id for model in client.models.list())}


@scenario
def one_model():
    return {"models": [client.models.retrieve("fast").id]}


run()
