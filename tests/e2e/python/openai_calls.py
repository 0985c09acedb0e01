"""The openai package's side of WebRTC calls: one JSON command on each line of stdin, one JSON answer on stdout.

It makes no sound: offers come from whoever gives the commands.
"""

import json
import sys

import openai
from scenarios import BASE_URL, KEY

client = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=KEY, max_retries=0)


def secret(wish):
    made = client.realtime.client_secrets.create(**wish)
    return {"value": made.value, "expires_at": made.expires_at, "model": made.session.model}


def create(sdp, session=None, query=None):
    """With a session it is a form, without one the offer alone."""
    session = {"session": session} if session else {}
    answer = client.realtime.calls.create(sdp=sdp, extra_query=query, **session)
    headers = answer.response.headers
    return {"location": headers["location"], "request_id": headers["x-request-id"], "sdp": answer.text}


def hangup(call_id):
    client.realtime.calls.hangup(call_id)
    return {}


def attend(call_id, text):
    """Join a call by a socket, ask there, and hear the answer."""
    with client.realtime.connect(call_id=call_id) as connection:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        connection.conversation.item.create(item=item)
        connection.response.create()
        kinds = []
        for event in connection:
            kinds.append(event.type)
            if event.type == "response.done":
                usage = event.response.usage.model_dump(mode="json", exclude_none=True)
                return {"kinds": kinds, "id": event.response.id, "usage": usage}
    return {"kinds": kinds}


for line in sys.stdin:
    command, arguments = json.loads(line)
    try:
        answer = {"secret": secret, "create": create, "hangup": hangup, "attend": attend}[command](**arguments)
    except openai.APIStatusError as error:
        answer = {"error": type(error).__name__, "status": error.status_code, "code": error.code}
    print(json.dumps(answer), flush=True)
