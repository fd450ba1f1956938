// consume.js
//	Reads messages with the "nats" client and checks them with the "cloudevents" SDK;
//	knows nothing of eda.
//
//	node consume.js URL STREAM DURABLE SUBJECT N	take N messages through a durable consumer
//	node consume.js check < LINES			check a CloudEvent a line, read nothing
//
// Prints an object a line: {subject, headers, body, error}; error is null for a CloudEvent
// that keeps to the JSON schema and to what the SDK's strict mode asks beyond it.  The
// schema sees the body as it came: the SDK's constructor alone would make up an id or a
// time that is missing.
"use strict";

const { connect, AckPolicy, StringCodec } = require("nats");
const { CloudEvent } = require("cloudevents");
const { validateCloudEvent } = require("cloudevents/dist/event/spec");

function errorOf(body) {
	try {
		const event = JSON.parse(body);
		// false: a version of CloudEvents that there is no schema for
		if (!validateCloudEvent(event)) return "specversion: " + event.specversion;
		new CloudEvent(event);
		return null;
	} catch (e) {
		return e.message;
	}
}

const print = (line) => console.log(JSON.stringify(line));

async function consume(servers, stream, durable, subject, n) {
	const nc = await connect({ servers });
	const manager = await nc.jetstreamManager();
	await manager.consumers.add(stream, {
		durable_name: durable,
		filter_subject: subject,
		ack_policy: AckPolicy.Explicit,
	});
	const consumer = await nc.jetstream().consumers.get(stream, durable);
	const messages = await consumer.fetch({ max_messages: n, expires: 20000 });
	for await (const m of messages) {
		const body = StringCodec().decode(m.data);
		const headers = {};
		for (const key of m.headers ? m.headers.keys() : []) headers[key] = m.headers.get(key);
		print({ subject: m.subject, headers, body, error: errorOf(body) });
		// waits for the server to have it, so that the next consumer gets only what is new
		await m.ackAck();
	}
	await nc.drain();
}

async function check() {
	const lines = require("fs").readFileSync(0, "utf8").split("\n");
	for (const body of lines.filter((line) => line !== "")) print({ body, error: errorOf(body) });
}

const [first, ...rest] = process.argv.slice(2);
(first === "check" ? check() : consume(first, rest[0], rest[1], rest[2], Number(rest[3]))).catch((e) => {
	console.error(e);
	process.exit(1);
});
