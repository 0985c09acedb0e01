// The AI SDK (`ai` with @ai-sdk/*): generateText and streamText over each provider it reaches us with.

import { BASE_URL, KEY, QUESTION, load, refusal, run } from "./scenarios.mjs";

const { generateText, streamText } = load("ai");
const { createOpenAI } = load("@ai-sdk/openai");
const { createAnthropic } = load("@ai-sdk/anthropic");
const { createOpenAICompatible } = load("@ai-sdk/openai-compatible");

const options = (apiKey) => ({ baseURL: `${BASE_URL}/v1`, apiKey });
const openai = createOpenAI(options(KEY));
const models = {
  chat: openai.chat("demo"),
  responses: openai("demo"),
  anthropic: createAnthropic(options(KEY))("demo"),
  compatible: createOpenAICompatible({ name: "aiproxy", ...options(KEY) })("demo"),
};
const asking = (model) => ({ model, prompt: QUESTION, maxRetries: 0 });

const scenarios = {};
for (const [name, model] of Object.entries(models)) {
  scenarios[name] = async () => {
    const { text, usage } = await generateText(asking(model));
    return { text, input: usage.inputTokens, output: usage.outputTokens };
  };
  scenarios[`${name}_stream`] = async () => {
    let text = "";
    const stream = streamText({ ...asking(model), onError: ({ error }) => Promise.reject(error) });
    for await (const piece of stream.textStream) text += piece;
    const usage = await stream.usage;
    return { text, input: usage.inputTokens, output: usage.outputTokens };
  };
}

const stranger = createOpenAI(options("not-a-key")).chat("demo");
scenarios.wrong_key = () => refusal(() => generateText(asking(stranger)));

await run(scenarios);
