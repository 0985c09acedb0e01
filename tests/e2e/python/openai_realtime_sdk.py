"""The openai package's sockets: Realtime (GA, beta, Azure) and Responses. 1.x speaks TLS only.

Over TLS the asynchronous clients converse: the synchronous ones read and write one TLS connection from two threads,
which the `ssl` module of Python before 3.13 does not always survive.
"""

import asyncio
import base64
import functools
import os

import openai
from scenarios import BASE_URL, KEY, run, scenario

QUESTION = "Say hello to Zhang San 张三"
MODEL = "demo-realtime"
IN_TEXT = {"type": "realtime", "output_modalities": ["text"]}
IS_OLD = openai.__version__.startswith("1.")
IS_PLAIN = BASE_URL.startswith("http:")
DEADLINE = 20


def client_with(key, kind=openai.AsyncOpenAI):
    return kind(base_url=f"{BASE_URL}/v1", api_key=key, max_retries=0)


client = client_with(KEY)


def asynchronous(function):
    """Mark an asynchronous function as a scenario."""

    @functools.wraps(function)
    def in_time():
        return asyncio.run(asyncio.wait_for(function(), DEADLINE))

    return scenario(in_time)


def asking(text):
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def plain(usage):
    return usage.model_dump(mode="json", exclude_none=True)


def described(first, turns):
    return {
        "first": first.type,
        "model": first.session.model,
        "texts": [text for text, _ in turns],
        "statuses": [response.status for _, response in turns],
        "usages": [plain(response.usage) for _, response in turns],
    }


async def until(connection, kind):
    """The next event of this kind. An error is one too many."""
    while (event := await connection.recv()).type != kind:
        assert event.type != "error", event
    return event


async def turn(connection, asked=QUESTION):
    """Ask in text, and read to the end of the response."""
    await connection.conversation.item.create(item=asking(asked))
    await connection.response.create()
    text = ""
    async for event in connection:
        if event.type in ("response.output_text.delta", "response.text.delta"):
            text += event.delta
        elif event.type == "response.done":
            return text, event.response
        assert event.type != "error", event
    raise AssertionError("the socket ended before the response")


@asynchronous
async def realtime():
    async with client.realtime.connect(model=MODEL) as connection:
        first = await connection.recv()
        await connection.session.update(session=IN_TEXT)
        await until(connection, "session.updated")
        return described(first, [await turn(connection), await turn(connection, "And now goodbye")])


if IS_PLAIN:

    @scenario
    def realtime_synchronous():
        with client_with(KEY, openai.OpenAI).realtime.connect(model=MODEL) as connection:
            first = connection.recv()
            connection.session.update(session=IN_TEXT)
            connection.conversation.item.create(item=asking(QUESTION))
            connection.response.create()
            text = ""
            for event in connection:
                if event.type == "response.output_text.delta":
                    text += event.delta
                elif event.type == "response.done":
                    return described(first, [(text, event.response)])
                assert event.type != "error", event
        raise AssertionError("the socket ended before the response")


@asynchronous
async def realtime_sound():
    """A second of silence goes in, sound comes out."""
    async with client.realtime.connect(model=MODEL) as connection:
        await connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        for _ in range(5):
            await connection.input_audio_buffer.append(audio=base64.b64encode(bytes(9600)).decode())
        await connection.input_audio_buffer.commit()
        await connection.response.create()
        sound, kinds = 0, set()
        async for event in connection:
            kinds.add(event.type)
            if event.type in ("response.output_audio.delta", "response.audio.delta"):
                sound += len(base64.b64decode(event.delta))
            elif event.type == "response.done":
                return {"sound": sound, "kinds": sorted(kinds), "usages": [plain(event.response.usage)]}
            assert event.type != "error", event
    raise AssertionError("the socket ended before the response")


@asynchronous
async def forbidden_model():
    """It is refused in an event, and the conversation goes on."""
    async with client.realtime.connect(model=MODEL) as connection:
        await connection.recv()
        await connection.session.update(session={**IN_TEXT, "model": "forbidden"})
        while (event := await connection.recv()).type != "error":
            assert event.type != "session.updated", event
        await connection.session.update(session=IN_TEXT)
        text, response = await turn(connection)
        error = {"code": event.error.code, "message": event.error.message}
        return {"error": error, "text": text, "usages": [plain(response.usage)]}


if IS_OLD:

    @asynchronous
    async def beta():
        """The shapes of the beta, which the provider has switched off."""
        async with client.beta.realtime.connect(model=MODEL) as connection:
            first = await connection.recv()
            if first.type == "error":
                return {"first": first.type, "code": first.error.code}
            await connection.session.update(session={"instructions": "Be brief."})
            while (event := await connection.recv()).type not in ("session.updated", "error"):
                pass
            return {"first": first.type, "then": event.type}

else:

    @asynchronous
    async def responses():
        usages, texts = [], []
        async with client.responses.connect() as connection:
            for _ in range(2):
                await connection.response.create(model="demo", input=QUESTION)
                text = ""
                async for event in connection:
                    if event.type == "response.output_text.delta":
                        text += event.delta
                    elif event.type == "response.completed":
                        usages.append(plain(event.response.usage))
                        break
                    assert event.type != "error", event
                texts.append(text)
        return {"texts": texts, "usages": usages}


if not IS_PLAIN:

    @asynchronous
    async def azure():
        """The place of the deployment, the version and the key are Azure's own."""
        place = {"azure_endpoint": os.environ["AZURE_URL"], "api_version": "2025-04-01-preview"}
        caller = openai.AsyncAzureOpenAI(api_key=os.environ["AZURE_KEY"], **place)
        async with caller.realtime.connect(model=MODEL) as connection:
            return {"first": (await connection.recv()).type}


async def refused(key, model=MODEL):
    """The status that the handshake was refused with, and the words."""
    try:
        async with client_with(key).realtime.connect(model=model) as connection:
            await connection.recv()
    except Exception as error:
        response = getattr(error, "response", None)
        body = bytes(getattr(response, "body", None) or b"").decode()
        return {"error": type(error).__name__, "status": getattr(response, "status_code", None), "body": body}
    raise AssertionError("the socket was opened")


@asynchronous
async def wrong_key():
    return await refused("not-a-key")


@asynchronous
async def disabled_user():
    return await refused(os.environ["DISABLED_KEY"])


@asynchronous
async def forbidden_handshake():
    return await refused(KEY, "forbidden")


run()
