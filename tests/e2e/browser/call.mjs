// The scripts of a page that makes calls. Each way of calling is a program as applications have it; what a test asks of
// the page afterwards is the same for all of them.

const WITHIN = 15_000;

// What one call is seen to do, from its peer connection and its data channel.
class Call {
  constructor({ peer, channel, id, close }) {
    Object.assign(this, { peer, channel, id, close, events: [], read: 0 });
    channel.addEventListener("message", (message) => this.events.push(JSON.parse(message.data)));
  }

  say(event) {
    this.channel.send(JSON.stringify(event));
  }

  async hear(type) {
    return until(`${type} is heard`, () => {
      while (this.read < this.events.length) {
        const event = this.events[this.read++];
        if (event.type === "error" && type !== "error") throw new Error(JSON.stringify(event));
        if (event.type === type) return event;
      }
    });
  }

  // Sound that came in.
  async sound() {
    const reports = [...(await this.peer.getStats()).values()];
    const sound = reports.find((report) => report.type === "inbound-rtp" && report.kind === "audio");
    return sound ? { packets: sound.packetsReceived, bytes: sound.bytesReceived } : { packets: 0, bytes: 0 };
  }
}

async function until(what, look) {
  for (const deadline = Date.now() + WITHIN; Date.now() < deadline; ) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`not within ${WITHIN} ms: ${what}`);
}

const WAYS = {
  // The program of the guide.
  async guide(url, secret) {
    const { begin } = await import("./guide.mjs");
    const { peer, events, callId } = await begin(secret);
    const call = new Call({ peer, channel: events, id: callId, close: () => peer.close() });
    // It asks for a greeting.
    await call.hear("response.done");
    return call;
  },

  // The openai package leaves the exchange of the SDP to the application.
  async openai(url, secret) {
    const { OpenAIRealtimeWebRTC } = await import("/node_modules/openai/realtime/webrtc.mjs");
    const realtime = new OpenAIRealtimeWebRTC();
    const { peerConnection: peer, dataChannel: channel } = realtime;
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    peer.addTrack(microphone.getAudioTracks()[0], microphone);
    const call = new Call({ peer, channel, close: () => realtime.close() });
    const created = new Promise((resolve) => realtime.on("session.created", resolve));
    const exchangeSdp = async (sdp, { signal }) => {
      const headers = { Authorization: `Bearer ${secret}`, "Content-Type": "application/sdp" };
      const answer = await fetch(url, { method: "POST", headers, body: sdp, signal });
      if (!answer.ok) throw new Error(await answer.text());
      call.id = answer.headers.get("Location").split("/").pop();
      return answer.text();
    };
    await realtime.connect({ exchangeSdp });
    await created;
    return call;
  },

  // The agents' package does all of it by itself.
  async agents(url, secret) {
    const agents = await import("/node_modules/@openai/agents-realtime/dist/bundle/openai-realtime-agents.mjs");
    const transport = new agents.OpenAIRealtimeWebRTC({ baseUrl: url });
    const agent = new agents.RealtimeAgent({ name: "Greeter", instructions: "Say hello." });
    const session = new agents.RealtimeSession(agent, { transport, model: "demo-realtime" });
    await session.connect({ apiKey: secret });
    const { peerConnection: peer, dataChannel: channel, callId: id } = transport.connectionState;
    return new Call({ peer, channel, id, close: () => session.close() });
  },
};

let call;

// Make a call; its id.
window.begin = async (way, url, secret) => {
  call = await WAYS[way](url, secret);
  await until("the data channel opens", () => call.channel.readyState === "open");
  return call.id;
};

// Ask and hear the answer; the finished response.
window.converse = async (text) => {
  const content = [{ type: "input_text", text }];
  call.say({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
  call.say({ type: "response.create" });
  return (await call.hear("response.done")).response;
};

// The usage of every response so far.
window.usages = () => call.events.filter(({ type }) => type === "response.done").map(({ response }) => response.usage);

// How much sound came in, once it is more than `before`.
window.sound = (before = { packets: 0, bytes: 0 }) =>
  until("sound comes in", async () => {
    const sound = await call.sound();
    return sound.packets > before.packets + 10 && sound.bytes > before.bytes && sound;
  });

// Whether the call is going on.
window.isLive = () => call.channel.readyState === "open";

window.hangUp = () => call.close();

// What a page gets to see of a request to another origin: an answer, or that the browser keeps it from the page.
window.request = async (url, options) => {
  try {
    const answer = await fetch(url, options);
    return { status: answer.status, body: await answer.text(), requestId: answer.headers.get("X-Request-Id") };
  } catch (error) {
    return { error: error.name };
  }
};
