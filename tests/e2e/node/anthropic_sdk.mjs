// The @anthropic-ai/sdk package: 1.x sends a bearer token, 0.x sends `x-api-key`.

import { BASE_URL, KEY, QUESTION, TOOL_QUESTION, load, refusal, run } from "./scenarios.mjs";

const Anthropic = load("@anthropic-ai/sdk").Anthropic;
const clientWith = (apiKey) => new Anthropic({ baseURL: BASE_URL, apiKey, maxRetries: 0 });
const client = clientWith(KEY);
const request = { model: "demo", max_tokens: 256, messages: [{ role: "user", content: QUESTION }] };
const input_schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const asked = [{ role: "user", content: TOOL_QUESTION }];
const tools = [{ name: "get_weather", description: "Weather of a city", input_schema }];
const create = (options = {}, from = client) => from.messages.create({ ...request, ...options });

function describeTool(message) {
  const { name, input } = message.content.find((block) => block.type === "tool_use");
  return { name, input, stop: message.stop_reason, usage: message.usage };
}

await run({
  async messages() {
    const answer = await create();
    return { text: answer.content[0].text, stop: answer.stop_reason, usage: answer.usage };
  },
  async messages_stream() {
    let text = "";
    const stream = client.messages.stream(request).on("text", (piece) => (text += piece));
    const final = await stream.finalMessage();
    return { text, stop: final.stop_reason, usage: final.usage };
  },
  async raw_events() {
    const events = [];
    for await (const event of await create({ stream: true })) events.push(event.type);
    return { events };
  },
  async tools() {
    return describeTool(await create({ messages: asked, tools }));
  },
  async tools_stream() {
    return describeTool(await client.messages.stream({ ...request, messages: asked, tools }).finalMessage());
  },
  async count_tokens() {
    const { model, messages } = request;
    return { input_tokens: (await client.messages.countTokens({ model, messages })).input_tokens };
  },
  wrong_key: () => refusal(() => create({}, clientWith("not-a-key"))),
  disabled_user: () => refusal(() => create({}, clientWith(process.env.DISABLED_KEY))),
  upstream_refuses: () => refusal(() => create({ model: "demo-error-429" })),
});
