"""The google-genai package's Live API, which speaks TLS only."""

import asyncio
import os

from google import genai
from google.genai import types
from scenarios import BASE_URL, KEY, run, scenario

QUESTION = "Say hello to Zhang San 张三"
MODEL = "demo-live"


def client_with(key, base_url=BASE_URL):
    return genai.Client(api_key=key, http_options={"base_url": base_url})


async def turn(session, asked):
    """Ask in text; the text of the answer, and the last usage of the turn."""
    await session.send_client_content(turns={"role": "user", "parts": [{"text": asked}]}, turn_complete=True)
    text, sound, usage = "", 0, None
    async for message in session.receive():
        usage = message.usage_metadata or usage
        for part in (
            message.server_content and message.server_content.model_turn or types.Content(parts=[])
        ).parts or []:
            text += part.text or ""
            sound += len(part.inline_data.data) if part.inline_data else 0
    return text, sound, usage.model_dump(mode="json", exclude_none=True)


def converse(modality, base_url=BASE_URL):
    async def talk():
        config = {"response_modalities": [modality]}
        async with client_with(KEY, base_url).aio.live.connect(model=MODEL, config=config) as session:
            turns = [await turn(session, QUESTION), await turn(session, "And now goodbye")]
        texts, sounds, usages = zip(*turns, strict=True)
        return {"texts": texts, "sound": sum(sounds), "usages": usages}

    return asyncio.run(talk())


@scenario
def live():
    return converse("TEXT")


@scenario
def live_sound():
    return converse("AUDIO")


@scenario
def live_with_two_slashes():
    return converse("TEXT", f"{BASE_URL}/")


@scenario
def live_realtime_input():
    """Sound is streamed in; the answer comes when the stream ends."""

    async def talk():
        config = {"response_modalities": ["TEXT"]}
        async with client_with(KEY).aio.live.connect(model=MODEL, config=config) as session:
            for _ in range(5):
                await session.send_realtime_input(audio=types.Blob(data=bytes(3200), mime_type="audio/pcm;rate=16000"))
            await session.send_realtime_input(audio_stream_end=True)
            usage = None
            async for message in session.receive():
                usage = message.usage_metadata or usage
            return {"usages": [usage.model_dump(mode="json", exclude_none=True)]}

    return asyncio.run(asyncio.wait_for(talk(), 15))


def refused(key, model=MODEL):
    async def talk():
        async with client_with(key).aio.live.connect(model=model, config={"response_modalities": ["TEXT"]}) as session:
            await turn(session, QUESTION)

    try:
        asyncio.run(talk())
    except Exception as error:
        response = getattr(error, "response", None)
        received = getattr(error, "rcvd", None)
        return {
            "error": type(error).__name__,
            "status": getattr(response, "status_code", None),
            "close": getattr(received, "code", None) or getattr(error, "code", None),
            "message": str(error),
        }
    raise AssertionError("the session went well")


@scenario
def wrong_key():
    return refused("not-a-key")


@scenario
def disabled_user():
    return refused(os.environ["DISABLED_KEY"])


@scenario
def forbidden_model():
    return refused(KEY, "forbidden")


run()
