// The @google/genai package; both generations ask for /v1beta.

import { BASE_URL, KEY, QUESTION, load, refusal, run } from "./scenarios.mjs";

const { GoogleGenAI } = load("@google/genai");
const clientWith = (apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: BASE_URL } });
const client = clientWith(KEY);
const generate = (options = {}, from = client) =>
  from.models.generateContent({ model: "demo", contents: QUESTION, ...options });

const usageOf = (metadata) => ({
  prompt_token_count: metadata.promptTokenCount,
  candidates_token_count: metadata.candidatesTokenCount,
  thoughts_token_count: metadata.thoughtsTokenCount,
  cached_content_token_count: metadata.cachedContentTokenCount,
  total_token_count: metadata.totalTokenCount,
});

await run({
  async generate() {
    const answer = await generate();
    return { text: answer.text, usage: usageOf(answer.usageMetadata) };
  },
  async generate_stream() {
    let [text, usage] = ["", null];
    for await (const chunk of await client.models.generateContentStream({ model: "demo", contents: QUESTION })) {
      text += chunk.text ?? "";
      usage = chunk.usageMetadata ?? usage;
    }
    return { text, usage: usageOf(usage) };
  },
  async count_tokens() {
    return { total: (await client.models.countTokens({ model: "demo", contents: QUESTION })).totalTokens };
  },
  async embed() {
    const answer = await client.models.embedContent({ model: "demo-embedding", contents: ["one", "two"] });
    return { lengths: answer.embeddings.map((item) => item.values.length) };
  },
  wrong_key: () => refusal(() => generate({}, clientWith("not-a-key"))),
  disabled_user: () => refusal(() => generate({}, clientWith(process.env.DISABLED_KEY))),
  upstream_refuses: () => refusal(() => generate({ model: "demo-error-429" })),
});
