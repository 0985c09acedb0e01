// The openai package's side of WebRTC calls: one JSON command on each line of stdin, one JSON answer on stdout.
//
// It makes no sound: offers come from whoever gives the commands.

import { createInterface } from "node:readline";

import { BASE_URL, KEY, load } from "./scenarios.mjs";

const { OpenAI, APIError } = load("openai");
const client = new OpenAI({ baseURL: `${BASE_URL}/v1`, apiKey: KEY, maxRetries: 0 });

const commands = {
  async secret({ wish }) {
    const { value, expires_at, session } = await client.realtime.clientSecrets.create(wish);
    return { value, expires_at, model: session.model };
  },
  // With a session it is a form, without one the offer alone.
  async create({ sdp, session, query }) {
    const answer = await client.realtime.calls.create({ sdp, ...(session && { session }) }, { query });
    const [location, request_id] = ["location", "x-request-id"].map((name) => answer.headers.get(name));
    return { location, request_id, sdp: await answer.text() };
  },
  async hangup({ call_id }) {
    await client.realtime.calls.hangup(call_id);
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [command, args] = JSON.parse(line);
  let answer;
  try {
    answer = await commands[command](args);
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    answer = { error: error.constructor.name, status: error.status, code: error.code };
  }
  console.log(JSON.stringify(answer));
}
