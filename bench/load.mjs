// load.mjs
//	Runs producers and workers of the peers that are Node.js libraries, through their public API.
//
//	node load.mjs '{"peer": "graphile" or "pgboss", "url": ..., "clients": ..., ...}'
//
// Options and output are those of load.c.  All producers run in one process, each with its own
// connection.  Workers run in "processes" processes with "loops" loops each; what a loop is
// depends on the peer, see below.  {"install": true} only creates the peer's schema.
import { fork } from 'node:child_process';

const options = { clients: 0, per: 1, payload: 200, processes: 0, loops: 1, batch: 1, backlog: 0, seconds: 5,
	warm: 0, total: 0, limit: 60, ...JSON.parse(process.argv[2]) };
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const pad = 'abcdefghijklmnopqrstuvwxyz012345'.repeat(options.payload / 32 + 1);

function payload(id) {
	const job = { id, kind: 'email.send', to: `user${id}@example.com` };
	job.pad = pad.slice(0, Math.max(0, options.payload - JSON.stringify(job).length - 9));
	return job;
}

// ------------------------------------------------------------------------
// The peers: install(), producer() -> one, many, close, and worker(count) -> drain, start, stop
// ------------------------------------------------------------------------

// For batches: the settings of its own perfTest/graphile.config.js.  For single jobs: its defaults, one job at a time.
const graphileBatched = { concurrentJobs: 24, maxPoolSize: 25, localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
	completeJobBatchDelay: 0, failJobBatchDelay: 0 };

async function graphile() {
	process.env.NO_LOG_SUCCESS = '1';
	const { Logger, makeWorkerUtils, run, runOnce } = await import('graphile-worker');
	const base = { connectionString: options.url, logger: new Logger(() => () => {}) };
	const utils = () => makeWorkerUtils({ ...base, maxPoolSize: Math.max(options.clients, 1) });
	return {
		async install() {
			const u = await utils();
			await u.migrate();
			await u.addJob('noop', {}); // registers the task
			await u.withPgClient((c) => c.query('SELECT graphile_worker.complete_jobs(array(SELECT id FROM graphile_worker.jobs))'));
			await u.release();
		},
		async producer() {
			const u = await utils();
			return {
				one: (job) => u.addJob('noop', job),
				many: (jobs) => u.addJobs(jobs.map((job) => ({ identifier: 'noop', payload: job }))),
				close: () => u.release(),
			};
		},
		async worker(count) {
			const preset = { worker: { ...base, ...(options.batch > 1 ? graphileBatched : {}) } };
			const taskList = { noop: () => { count(1); } };
			let runner;
			return {
				drain: () => runOnce({ preset, noHandleSignals: true }, taskList),
				start: async () => { runner = await run({ preset, noHandleSignals: true, parsedCronItems: [], taskList }); },
				stop: () => runner?.stop(),
			};
		},
	};
}

// Loops of fetch() and complete(), which are faster than its work().
async function pgboss() {
	const { PgBoss } = await import('pg-boss');
	const connect = async (max, extra) => {
		const boss = new PgBoss({ connectionString: options.url, max, supervise: false, schedule: false, ...extra });
		boss.on('error', (e) => console.error('pg-boss:', e.message));
		await boss.start();
		return boss;
	};
	const close = (boss) => boss.stop({ graceful: false, wait: true, close: true });
	return {
		async install() {
			const boss = await connect(2);
			await boss.createQueue('q');
			await close(boss);
		},
		async producer() {
			const boss = await connect(options.clients, { migrate: false });
			return {
				one: (job) => boss.send('q', job),
				many: (jobs) => boss.insert('q', jobs.map((data) => ({ data }))),
				close: () => close(boss),
			};
		},
		async worker(count) {
			const boss = await connect(options.loops + 2, { migrate: false });
			let stopping = false;
			let all;
			const loop = async (untilEmpty) => {
				while (!stopping) {
					const jobs = await boss.fetch('q', { batchSize: options.batch });
					if (jobs.length > 0) {
						await boss.complete('q', jobs.map((job) => job.id));
						count(jobs.length);
					} else if (untilEmpty) return;
					else await sleep(1);
				}
			};
			const begin = (untilEmpty) => { all = Promise.all(Array.from({ length: options.loops }, () => loop(untilEmpty))); };
			return {
				drain: async () => { begin(true); await all; await close(boss); },
				start: async () => begin(false),
				stop: async () => { stopping = true; await all; await close(boss); },
			};
		},
	};
}

const peer = await { graphile, pgboss }[options.peer]();

// ------------------------------------------------------------------------
// Child processes: they send "ready", begin at "go", send counts, and end at "stop"
// ------------------------------------------------------------------------

async function produce(told) {
	const producer = await peer.producer();
	let sent = 0;
	let id = 1e8;
	process.send({ ready: true });
	await told.go;
	const loop = async () => {
		while (!told.stop && (options.total === 0 || sent < options.total)) {
			if (options.backlog > 0 && sent - told.done >= options.backlog) { await sleep(1); continue; }
			const first = id;
			id += options.per;
			sent += options.per;
			if (options.per === 1) await producer.one(payload(first));
			else await producer.many(Array.from({ length: options.per }, (_, i) => payload(first + i)));
			process.send({ sent: options.per });
		}
	};
	await Promise.all(Array.from({ length: options.clients }, loop));
	await producer.close();
}

async function work(told) {
	let done = 0;
	const worker = await peer.worker((n) => { done += n; });
	const tell = () => { if (done > 0) process.send({ done }); done = 0; };
	process.send({ ready: true });
	await told.go;
	const timer = setInterval(tell, 5);
	if (options.total > 0) await worker.drain();
	else { await worker.start(); await told.stopped; }
	tell();
	clearInterval(timer);
	process.send({ finished: true });
	if (options.total === 0) await worker.stop();
}

async function child() {
	const told = { stop: false, done: 0 };
	told.go = new Promise((resolve) => { told.begin = resolve; });
	told.stopped = new Promise((resolve) => { told.end = resolve; });
	process.on('message', (m) => {
		if (m.go) told.begin();
		if (m.done !== undefined) told.done = m.done;
		if (m.stop) { told.stop = true; told.end(); }
	});
	await (options.role === 'produce' ? produce(told) : work(told));
	process.disconnect();
	setTimeout(() => process.exit(0), 2000).unref();
}

// ------------------------------------------------------------------------
// The run
// ------------------------------------------------------------------------

async function parent() {
	const roles = [...(options.clients > 0 ? ['produce'] : []), ...Array(options.processes).fill('work')];
	let ready = 0, sent = 0, done = 0, finished = 0, ended = 0;
	const children = roles.map((role) => {
		const p = fork(new URL(import.meta.url), [JSON.stringify({ ...options, role })], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
		p.on('message', (m) => {
			if (m.ready) ready++;
			if (m.sent) sent += m.sent;
			if (m.done) done += m.done;
			if (m.finished) finished++;
		});
		p.on('exit', () => ended++);
		return p;
	});
	const tellAll = (m) => { for (const p of children) if (p.connected) p.send(m, () => {}); };
	const seconds = () => performance.now() / 1000;
	const jobs = () => (options.processes > 0 ? done : sent);

	while (ready < children.length) {
		if (ended > 0) throw new Error('a child process ended before it was ready');
		await sleep(2);
	}
	const begin = seconds();
	let from = begin, before = 0;
	tellAll({ go: true });
	for (;;) {
		await sleep(2);
		const now = seconds();
		if (options.backlog > 0) tellAll({ done });
		if (from === begin && options.warm > 0 && now - begin >= options.warm) { from = now; before = jobs(); }
		if (options.total === 0 ? now - begin >= options.seconds : now - begin >= options.limit || ended === children.length ||
			(options.processes > 0 ? finished === options.processes : sent >= options.total)) break;
	}
	const now = seconds();
	const after = jobs();
	tellAll({ stop: true });
	for (let i = 0; i < 1000 && ended < children.length; i++) await sleep(10);
	for (const p of children) p.kill('SIGKILL');
	console.log(JSON.stringify({ sent, done: jobs(), seconds: now - begin, rate: (after - before) / (now - from) }));
}

if (options.install) await peer.install();
else if (options.role) await child();
else await parent();
process.exitCode ??= 0;
if (options.install) process.exit();
