// The `ws` package against a path that says back what it hears.

import { createHash, randomBytes } from "node:crypto";

import { BASE_URL, KEY, load, run } from "./scenarios.mjs";

const { WebSocket } = load("ws");
const MIB = 1 << 20;
const headers = { Authorization: `Bearer ${KEY}` };
const address = `${BASE_URL.replace(/^http/, "ws")}/v1/echo`;
const digest = (data) => createHash("sha256").update(data).digest("hex");

function open(options = {}, protocols = []) {
  const socket = new WebSocket(address, protocols, { headers, ...options });
  return new Promise((resolve, reject) => socket.on("open", () => resolve(socket)).on("error", reject));
}

const heard = (socket) =>
  new Promise((resolve) => socket.once("message", (data, isBinary) => resolve({ data, isBinary })));
const ended = (socket) =>
  new Promise((resolve) => socket.once("close", (code, reason) => resolve({ code, reason: `${reason}` })));

async function echo(payload, options) {
  const socket = await open(options);
  const answer = heard(socket);
  socket.send(payload);
  const { data, isBinary } = await answer;
  const over = ended(socket);
  socket.close(4001, "thank you");
  const sent = Buffer.from(payload);
  return { same: digest(sent) === digest(data), isBinary, ...(await over) };
}

await run({
  text: () => echo("Say hello to Zhang San 张三"),
  binary: () => echo(randomBytes(1000)),
  one_mebibyte: () => echo(randomBytes(MIB)),
  twenty_mebibytes: () => echo("x".repeat(20 * MIB)),
  compression: () => echo("hello ".repeat(10_000), { perMessageDeflate: true }),
  async fragments() {
    const socket = await open();
    const answer = heard(socket);
    for (const [piece, fin] of [["one ", false], ["two ", false], ["three", true]]) socket.send(piece, { fin });
    const { data } = await answer;
    socket.close();
    return { text: `${data}` };
  },
  async pings() {
    const socket = await open();
    const pongs = [];
    for (const word of ["", "are you there?"]) {
      const pong = new Promise((resolve) => socket.once("pong", (data) => resolve(`${data}`)));
      socket.ping(word);
      pongs.push(await pong);
    }
    socket.close();
    return { pongs };
  },
  async subprotocol() {
    const socket = await open({ headers: {} }, ["realtime", `openai-insecure-api-key.${KEY}`]);
    const { protocol } = socket;
    socket.close();
    return { protocol };
  },
});
process.exit(0);
