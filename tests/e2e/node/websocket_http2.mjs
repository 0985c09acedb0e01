// A socket over HTTP/2 (RFC 8441): an extended CONNECT whose stream carries the frames of RFC 6455.

import { once } from "node:events";
import { connect } from "node:http2";

import { BASE_URL, KEY, run } from "./scenarios.mjs";

const MASK = Buffer.from("mask");

function frame(opcode, text) {
  const payload = Buffer.from(text);
  const masked = payload.map((byte, place) => byte ^ MASK[place % 4]);
  return Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | payload.length]), MASK, masked]);
}

// The next frame of a stream, which here is always small and whole.
async function read(stream) {
  let bytes = stream.read();
  while (bytes === null) {
    await once(stream, "readable");
    bytes = stream.read();
  }
  const length = bytes[1];
  if (bytes.length > 2 + length) stream.unshift(bytes.subarray(2 + length));
  return { opcode: bytes[0] & 0x0f, isMasked: length > 127, payload: bytes.subarray(2, 2 + length) };
}

async function open(session, path, authorization) {
  const stream = session.request({
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":path": path,
    "sec-websocket-version": "13",
    ...(authorization && { authorization }),
  });
  const [headers] = await once(stream, "response");
  return { stream, headers };
}

await run({
  async echo() {
    const session = connect(BASE_URL);
    const [settings] = await once(session, "remoteSettings");
    const bearer = `Bearer ${KEY}`;
    const [one, two] = [await open(session, "/v1/echo", bearer), await open(session, "/v1/echo", bearer)];
    one.stream.write(frame(1, "Say hello"));
    two.stream.write(frame(2, "to two"));
    const heard = [await read(one.stream), await read(two.stream)];
    one.stream.write(frame(9, "are you there?"));
    const pong = await read(one.stream);
    one.stream.write(frame(8, Buffer.from([0x0f, 0xa1])));
    const close = await read(one.stream);
    two.stream.write(frame(8, Buffer.from([0x03, 0xe8])));
    await read(two.stream);
    one.stream.end();
    two.stream.end();
    session.close();
    return {
      calls: 2,
      enabled: settings.enableConnectProtocol,
      statuses: [one, two].map(({ headers }) => headers[":status"]),
      heard: heard.map(({ opcode, payload }) => [opcode, `${payload}`]),
      masked: heard.some(({ isMasked }) => isMasked),
      pong: [pong.opcode, `${pong.payload}`],
      close: [close.opcode, close.payload.readUInt16BE()],
    };
  },
  async wrong_key() {
    const session = connect(BASE_URL);
    await once(session, "remoteSettings");
    const { stream, headers } = await open(session, "/v1/echo", "Bearer not-a-key");
    let body = "";
    for await (const piece of stream) body += piece;
    session.close();
    return { status: headers[":status"], code: JSON.parse(body).error.code };
  },
});
process.exit(0);
