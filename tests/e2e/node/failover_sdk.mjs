// The openai package without retries of its own: whatever goes wrong upstream must not reach it.

import { BASE_URL, KEY, QUESTION, load, run } from "./scenarios.mjs";

const OpenAI = load("openai").OpenAI;
const client = new OpenAI({ baseURL: `${BASE_URL}/v1`, apiKey: KEY, maxRetries: 0 });
const asked = { model: "fast", messages: [{ role: "user", content: QUESTION }] };

run({
  async chat() {
    const answer = await client.chat.completions.create(asked);
    return { text: answer.choices[0].message.content, models: [answer.model] };
  },
  async chat_stream() {
    let text = "";
    const models = new Set();
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
      models.add(chunk.model);
      text += chunk.choices.map((choice) => choice.delta.content ?? "").join("");
    }
    return { text, models: [...models].sort() };
  },
  async models() {
    const models = [];
    for await (const model of await client.models.list()) models.push(model.id);
    return { models: models.sort() };
  },
  async one_model() {
    return { models: [(await client.models.retrieve("fast")).id] };
  },
});
