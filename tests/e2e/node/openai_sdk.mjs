// The openai package, 5.x and 7.x alike.

import { BASE_URL, KEY, QUESTION, TOOL_QUESTION, load, refusal, run } from "./scenarios.mjs";

const OpenAI = load("openai").OpenAI;
const { toFile } = load("openai");
const clientWith = (apiKey) => new OpenAI({ baseURL: `${BASE_URL}/v1`, apiKey, maxRetries: 0 });
const client = clientWith(KEY);
const messages = [{ role: "user", content: QUESTION }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const asked = [{ role: "user", content: TOOL_QUESTION }];
const tools = [{ type: "function", function: { name: "get_weather", description: "Weather of a city", parameters } }];
const create = (options = {}, from = client) => from.chat.completions.create({ model: "demo", messages, ...options });

async function read(stream) {
  let [text, usage, without_choices, finish] = ["", null, 0, null];
  for await (const chunk of stream) {
    without_choices += chunk.choices.length === 0;
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      text += choice.delta.content ?? "";
      finish = choice.finish_reason ?? finish;
    }
  }
  return { text, finish, without_choices, usage };
}

async function embeddings(options) {
  const answer = await client.embeddings.create({ model: "demo-embedding", input: ["one", "two"], ...options });
  const vectors = answer.data.map((item) => Array.from(item.embedding));
  return {
    lengths: vectors.map((vector) => vector.length),
    numbers: vectors[0].every((number) => typeof number === "number"),
    usage: answer.usage,
  };
}

await run({
  async chat() {
    const answer = await create();
    const [choice] = answer.choices;
    const { model, usage, _request_id } = answer;
    return { text: choice.message.content, finish: choice.finish_reason, model, usage, request_id: _request_id };
  },
  async chat_stream() {
    return read(await create({ stream: true }));
  },
  async chat_stream_with_usage() {
    return read(await create({ stream: true, stream_options: { include_usage: true } }));
  },
  async tools() {
    const answer = await create({ messages: asked, tools });
    const { name, arguments: text } = answer.choices[0].message.tool_calls[0].function;
    return { name, arguments: text, finish: answer.choices[0].finish_reason, usage: answer.usage };
  },
  async tools_stream() {
    let [name, text, finish] = ["", "", null];
    for await (const chunk of await create({ messages: asked, tools, stream: true })) {
      for (const choice of chunk.choices) {
        finish = choice.finish_reason ?? finish;
        for (const call of choice.delta.tool_calls ?? []) {
          name += call.function.name ?? "";
          text += call.function.arguments ?? "";
        }
      }
    }
    return { name, arguments: text, finish };
  },
  async responses() {
    const answer = await client.responses.create({ model: "demo", input: "Say hello" });
    return { text: answer.output_text, status: answer.status, usage: answer.usage };
  },
  async responses_stream() {
    let [text, events, usage] = ["", [], null];
    for await (const event of await client.responses.create({ model: "demo", input: "Say hello", stream: true })) {
      events.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
      if (event.type === "response.completed") usage = event.response.usage;
    }
    return { text, events, usage };
  },
  embeddings: () => embeddings({}),
  embeddings_float: () => embeddings({ encoding_format: "float" }),
  async images() {
    const answer = await client.images.generate({ model: "demo-image", prompt: "A red square" });
    return { pictures: answer.data.map((item) => Boolean(item.b64_json || item.url)), usage: answer.usage };
  },
  async speech() {
    const answer = await client.audio.speech.create({ model: "demo-speech", voice: "alloy", input: "Hello there" });
    return { bytes: (await answer.arrayBuffer()).byteLength };
  },
  async transcription() {
    const sound = Buffer.concat([Buffer.from("RIFF"), Buffer.alloc(4000)]);
    const file = await toFile(sound, "hello.wav");
    const answer = await client.audio.transcriptions.create({ model: "demo-transcribe", file });
    return { text: answer.text, usage: answer.usage };
  },
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids };
  },
  wrong_key: () => refusal(() => create({}, clientWith("not-a-key"))),
  disabled_user: () => refusal(() => create({}, clientWith(process.env.DISABLED_KEY))),
  upstream_refuses: () => refusal(() => create({ model: "demo-error-429" })),
});
