// The openai package's sockets: Realtime over `ws`, in the browser's form, for Azure, and Responses. All insist on TLS.

import { BASE_URL, KEY, load, run } from "./scenarios.mjs";

const OpenAI = load("openai").OpenAI;
const { AzureOpenAI } = load("openai");
const { OpenAIRealtimeWS } = load("openai/realtime/ws");
const { OpenAIRealtimeWebSocket } = load("openai/realtime/websocket");

const QUESTION = "Say hello to Zhang San 张三";
const MODEL = "demo-realtime";
const DEADLINE = 15_000;
const clientWith = (apiKey) => new OpenAI({ baseURL: `${BASE_URL}/v1`, apiKey, maxRetries: 0 });
const client = clientWith(KEY);

// The events of a socket as a queue that can be waited for.
class Events {
  constructor(socket) {
    [this.heard, this.waiting, this.errors, this.kinds] = [[], null, [], new Set()];
    socket.on("event", (event) => this.push(event));
    socket.on("error", (error) => this.push({ type: "failure", error }));
  }
  push(event) {
    this.kinds.add(event.type);
    // An error event is told twice: as an event, and as an error made of it.
    if (event.type === "failure" && event.error.error) return;
    this.heard.push(event);
    this.waiting?.();
  }
  async next() {
    while (this.heard.length === 0) {
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`nothing more after ${[...this.kinds]}`)), DEADLINE);
        this.waiting = () => (clearTimeout(timer), resolve());
      });
    }
    const event = this.heard.shift();
    if (event.type === "failure") throw event.error;
    return event;
  }
  async until(type) {
    for (;;) {
      const event = await this.next();
      if (event.type === type) return event;
      if (event.type === "error") throw new Error(JSON.stringify(event));
    }
  }
}

const asking = (text) => ({
  type: "conversation.item.create",
  item: { type: "message", role: "user", content: [{ type: "input_text", text }] },
});
const inText = { type: "session.update", session: { type: "realtime", output_modalities: ["text"] } };

async function turn(socket, events, text) {
  socket.send(asking(text));
  socket.send({ type: "response.create" });
  let said = "";
  for (;;) {
    const event = await events.next();
    if (event.type === "response.output_text.delta" || event.type === "response.text.delta") said += event.delta;
    if (event.type === "error") throw new Error(JSON.stringify(event));
    if (event.type === "response.done") return { said, usage: event.response.usage, status: event.response.status };
  }
}

const closed = (socket) =>
  new Promise((resolve) => {
    const over = (event) => resolve(typeof event === "number" ? event : event.code);
    socket.on ? socket.on("close", over) : socket.addEventListener("close", over);
  });

async function converse(socket) {
  const events = new Events(socket);
  const first = await events.until("session.created");
  const over = closed(socket.socket);
  const protocol = socket.socket.protocol;
  socket.send(inText);
  await events.until("session.updated");
  const turns = [await turn(socket, events, QUESTION), await turn(socket, events, "And now goodbye")];
  socket.close();
  return {
    model: first.session.model,
    protocol,
    texts: turns.map(({ said }) => said),
    statuses: turns.map(({ status }) => status),
    usages: turns.map(({ usage }) => usage),
    closed: await over,
  };
}

// The status that a handshake was refused with.
async function refused(apiKey, model = MODEL) {
  const socket = new OpenAIRealtimeWS({ model }, clientWith(apiKey));
  const error = await new Promise((resolve, reject) => {
    socket.on("error", resolve);
    socket.on("event", () => reject(new Error("the socket was opened")));
  });
  return { status: Number(/response: (\d+)/.exec(error.message)?.[1]), message: error.message };
}

const scenarios = {
  realtime: () => converse(new OpenAIRealtimeWS({ model: MODEL }, client)),
  async browser() {
    // A browser's socket: no headers of one's own, so the key is a subprotocol.
    globalThis.WebSocket = load("undici").WebSocket;
    return converse(new OpenAIRealtimeWebSocket({ model: MODEL, dangerouslyAllowBrowser: true }, client));
  },
  async azure() {
    const place = { endpoint: BASE_URL, apiVersion: "2025-04-01-preview", deployment: MODEL };
    const socket = await OpenAIRealtimeWS.azure(new AzureOpenAI({ ...place, apiKey: process.env.AZURE_KEY }));
    const first = await new Events(socket).until("session.created");
    socket.close();
    await closed(socket.socket);
    return { first: first.type, path: new URL(socket.url).pathname };
  },
  async forbidden_model() {
    const socket = new OpenAIRealtimeWS({ model: MODEL }, client);
    const events = new Events(socket);
    await events.until("session.created");
    socket.send({ type: "session.update", session: { type: "realtime", model: "forbidden" } });
    let event;
    do event = await events.next();
    while (event.type !== "error");
    socket.send(inText);
    const { said, usage } = await turn(socket, events, QUESTION);
    socket.close();
    await closed(socket.socket);
    return { error: event.error, text: said, usages: [usage] };
  },
  wrong_key: () => refused("not-a-key"),
  disabled_user: () => refused(process.env.DISABLED_KEY),
  forbidden_handshake: () => refused(KEY, "forbidden"),
};

try {
  const { ResponsesWS } = load("openai/resources/responses/ws");
  scenarios.responses = async () => {
    const socket = new ResponsesWS(client);
    const events = new Events(socket);
    const [texts, usages] = [[], []];
    for (const input of [QUESTION, "And now goodbye"]) {
      socket.send({ type: "response.create", model: "demo", input });
      let text = "";
      for (;;) {
        const event = await events.next();
        if (event.type === "response.output_text.delta") text += event.delta;
        if (event.type === "error") throw new Error(JSON.stringify(event));
        if (event.type !== "response.completed") continue;
        usages.push(event.response.usage);
        break;
      }
      texts.push(text);
    }
    socket.close();
    return { texts, usages };
  };
} catch (error) {
  // The generation before has no Responses over a socket.
  if (!["MODULE_NOT_FOUND", "ERR_PACKAGE_PATH_NOT_EXPORTED"].includes(error.code)) throw error;
}

await run(scenarios);
process.exit(0);
