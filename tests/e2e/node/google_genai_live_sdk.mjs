// The @google/genai package's Live API. Its key is in the query, and its path begins with two slashes.

import { BASE_URL, KEY, load, run } from "./scenarios.mjs";

const { GoogleGenAI, Modality } = load("@google/genai");

const QUESTION = "Say hello to Zhang San 张三";
const MODEL = "demo-live";
const DEADLINE = 15_000;
const clientWith = (apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: BASE_URL } });

const usageOf = (metadata) => ({
  prompt_token_count: metadata.promptTokenCount,
  response_token_count: metadata.responseTokenCount,
  thoughts_token_count: metadata.thoughtsTokenCount,
  cached_content_token_count: metadata.cachedContentTokenCount,
  tool_use_prompt_token_count: metadata.toolUsePromptTokenCount,
  total_token_count: metadata.totalTokenCount,
});

// An open session whose messages can be waited for.
async function open(modality, { model = MODEL, key = KEY } = {}) {
  const heard = [];
  let wake = () => {};
  let end;
  const ended = new Promise((resolve) => (end = resolve));
  const push = (message) => (heard.push(message), wake());
  const session = await clientWith(key).live.connect({
    model,
    config: { responseModalities: [modality] },
    callbacks: {
      onmessage: push,
      onerror: (event) => push({ failure: event.message ?? String(event) }),
      onclose: ({ code, reason }) => (push({ closed: { code, reason } }), end({ code, reason })),
    },
  });
  const next = async () => {
    while (heard.length === 0) {
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error("nothing more was said")), DEADLINE);
        wake = () => (clearTimeout(timer), resolve());
      });
    }
    return heard.shift();
  };
  return { session, next, ended };
}

async function turn({ session, next }, text) {
  session.sendClientContent({ turns: [{ role: "user", parts: [{ text }] }], turnComplete: true });
  let [said, sound, usage] = ["", 0, null];
  for (;;) {
    const message = await next();
    if (message.failure || message.closed) throw new Error(JSON.stringify(message));
    usage = message.usageMetadata ?? usage;
    for (const part of message.serverContent?.modelTurn?.parts ?? []) {
      said += part.text ?? "";
      sound += part.inlineData ? Buffer.from(part.inlineData.data, "base64").length : 0;
    }
    if (message.serverContent?.turnComplete) return { said, sound, usage: usageOf(usage) };
  }
}

async function converse(modality) {
  const live = await open(modality);
  const turns = [await turn(live, QUESTION), await turn(live, "And now goodbye")];
  live.session.close();
  await live.ended;
  return {
    texts: turns.map(({ said }) => said),
    sound: turns.reduce((sum, { sound }) => sum + sound, 0),
    usages: turns.map(({ usage }) => usage),
  };
}

// What becomes of a session that must not begin: this package tells of its end in a callback, and may wait for ever.
function refused({ model = MODEL, key = KEY }) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("the session neither began nor ended")), DEADLINE).unref();
    clientWith(key)
      .live.connect({
        model,
        config: { responseModalities: [Modality.TEXT] },
        callbacks: {
          onmessage: (message) => message.setupComplete || reject(new Error(JSON.stringify(message))),
          onclose: ({ code, reason }) => resolve({ close: code, reason }),
        },
      })
      .catch(reject);
  });
}

await run({
  live: () => converse(Modality.TEXT),
  live_sound: () => converse(Modality.AUDIO),
  forbidden_model: () => refused({ model: "forbidden" }),
});
process.exit(0);
