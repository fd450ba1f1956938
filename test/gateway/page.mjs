// page.mjs
//	The page in a browser, with a real gateway, engine and workers: what it shows is what is in
//	the database, what it is asked to do is done, and nothing that happens to the server, the
//	gateway or the data gets it down.  test/t/520_page.pl runs it.
import { spawn } from "node:child_process";
import { finish, gateway, is, like, note, ok, section, server, set, sql, until } from "./lib.mjs";
import { browser, clean, leads, open, PHONE, picture, ready, says, sound } from "./browser.mjs";

const g = await gateway();
const one = async (text) => (await sql(text)).trim();
const stateOf = (id) => one(`SELECT state FROM eda.event_state WHERE id = '${id}'`);
const becomes = (id, state, name) => until(name, async () => (await stateOf(id)) === state).then(() => ok(true, name), (e) => ok(false, name, e.message));
const publish = (flow, payload = {}, type = "T") => one(`SELECT eda.publish('${type}', $f$${flow}$f$, $p$${JSON.stringify(payload)}$p$)`);
const failNext = (error, retry = true) => one(`SELECT eda.fail(event_id, $e$${error}$e$, stack_trace => e'in pay()\\nin main()', token => token, retry => ${retry}) FROM eda.acquire_next('flow', wait => '60 s')`);
// Take n events of the flow type as soon as they are there, and end each one with a SQL function.
const endAll = async (n, end) => {
	for (let left = n; left > 0;) left -= Number(await one(`SELECT count(${end}) FROM eda.acquire_next('flow', ${left}, wait => '60 s')`));
};
// Let an event succeed, as soon as a worker could take it.
const succeed = (id, spinoffs = "NULL") => until(`${id} is dispatched`, () => one(`SELECT eda.succeed(event_id, token, result => '{"paid": true}', spinoffs => ${spinoffs}) IS NOT NULL FROM eda.acquire('${id}')`));
const confirmed = (page) => page.locator("dialog.dialog[open] button[type=submit]").click();
const rowOf = (page, name) => page.locator(`tr[data-type="${name}"]`);

const page = await open(g.url);
await page.evaluate(() => (window.notReloaded = true));
const go = (hash) => page.evaluate((h) => (location.hash = h), hash);

await section("the overview", async () => {
	await ready(page, "it is live and the engine runs");
	is(await page.textContent(".database"), "postgres", "it names the database");
	is(await page.locator(".node").count(), 8, "eight states");
	await until("the moves", async () => (await page.locator(".move title").first().textContent()).includes(":"));
	is(await page.locator(".move").count(), Number(await one("SELECT count(*) FROM eda.lifecycle")), "a track for each legal move");
	await clean(page, "the overview");
});

let first;
await section("an event is published by hand", async () => {
	await page.keyboard.press("2");
	await rowOf(page, "T").locator("[data-do=publish]").click();
	const form = page.locator("dialog.dialog[open]");
	await form.locator("[name=flow_id]").fill("by hand/1?#%");
	await form.locator("[name=payload]").fill("{no json");
	await confirmed(page);
	await says(page, "dialog .problem", /no JSON/, "a payload that is no JSON is refused at the form");
	await form.locator("[name=payload]").fill('{"n": 12345678901234567890.125, "a": ["x"]}');
	await confirmed(page);
	await page.locator(".toast a").click();
	first = await one("SELECT id FROM eda.event_state WHERE flow_id = 'by hand/1?#%'");
	is(await one(`SELECT payload ->> 'n' FROM eda.event_state WHERE id = '${first}'`), "12345678901234567890.125", "every digit of its payload arrives");
	await leads(page, new RegExp(`#/event/${first}$`), "its story has an address");
	await says(page, ".drawer .json", /"n": 12345678901234567890\.125\n/, "and shows every digit");
	await says(page, ".drawer .chip", /^dispatched$/, "it is dispatched, live");
});

await section("an attempt fails and is tried again", async () => {
	await failNext("the bank does not answer");
	await says(page, ".drawer .error-box", /the bank does not answer/, "the error appears in the open story");
	await says(page, ".timeline", /attempt 1 failed; the event waits for the next one/, "the timeline tells the attempt");
	await page.locator(".timeline summary", { hasText: "Stack" }).click();
	await says(page, ".timeline .stack", /in pay\(\)\nin main\(\)/, "the stack unfolds");
	await succeed(first, `'[{"event_type": "T", "payload": {"from": "parent"}}]'`);
	await says(page, ".drawer .chip", /^succeeded$/, "the second attempt succeeds");
	await says(page, ".timeline", /attempt 2 began/, "as attempt 2");
	ok(await page.locator(".timeline details[open]").count(), "what was unfolded stays so");
	await until("the family", async () => (await page.locator(".family .member").count()) === 2);
	is(await page.locator(".drawer [data-action]").count(), 0, "nothing can be done with it any more");
	await picture(page, "story");
});

await section("its flow on a time axis", async () => {
	await page.locator(".facts a", { hasText: "by hand" }).click();
	await until("two lanes", async () => (await page.locator(".lane-list > .lane").count()) === 2);
	is(await page.locator(".lane").nth(1).locator(".piece.s-being_processed").allTextContents(), ["1", "2"], "its attempts are numbered");
	is(await page.locator(".piece-error").count(), 1, "the one that failed is marked");
	await succeed(await one(`SELECT id FROM eda.event_state WHERE parent_id = '${first}'`));
	await until("the spinoff ends", async () => (await page.locator(".piece.end.s-succeeded").count()) === 2);
	await page.locator(".lane-name").last().click();
	await says(page, ".drawer .json[aria-label=Payload]", /"from": "parent"/, "a lane leads to its event");
	await page.keyboard.press("Escape");
	await leads(page, /#\/flow\/flow\/by%20hand%2F1%3F%23%25$/, "Escape leads back to the flow");
	await clean(page, "stories and flows");
});

await section("what somebody else wrote is shown, not run", async () => {
	const evil = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>`;
	const id = await publish(`${evil}'"`, { [evil]: evil, url: "javascript:window.hacked=1" });
	await failNext(`${evil} & more`, false);
	for (const hash of [`#/event/${id}`, `#/flow/flow/${encodeURIComponent(`${evil}'"`)}`, "#/dead-letters", "#/"]) {
		await go(hash);
		await says(page, hash.startsWith("#/event") ? ".drawer .json" : "main", /<img src=x onerror=/, `${hash.slice(0, 9)}: it is text`);
		is(await page.evaluate(() => [window.hacked, document.querySelectorAll("img, main script").length]), [null, 0], "and nothing else");
	}
	await clean(page, "foreign text");
});

await section("odd and large things", async () => {
	const odd = "قهوة \u202Etxt.exe\u202C \u0001\u200B tab\there ".repeat(2) + "x".repeat(200);
	await publish(odd, { digits: "7".repeat(900_000), deep: { a: [1, { b: null }] } });
	const big = await one("SELECT id FROM eda.event_state WHERE event_type = 'T' ORDER BY id DESC LIMIT 1");
	await page.setViewportSize(PHONE);
	await go(`#/event/${big}`);
	await says(page, ".drawer .facts", /⟨202E⟩.*⟨01⟩⟨200B⟩.*⇥/, "characters that cannot be seen are");
	ok((await page.locator(".drawer .json").first().textContent()).length < 10_000, "a large payload is cut");
	await page.locator(".drawer button", { hasText: "Show all" }).click();
	ok((await page.locator(".drawer .json").first().textContent()).length > 900_000, "and shown as a whole when asked for");
	await sound(page, "a large payload on a phone");
	await page.keyboard.press("Escape");
	await go(`#/flow/flow/${encodeURIComponent(odd)}`);
	await until("its lane", async () => (await page.locator(".lane-list > .lane").count()) === 1);
	await sound(page, "a long flow id on a phone");
	await page.setViewportSize({ width: 1440, height: 900 });
	await go(`#/event/${big}`);
	await page.locator("[data-action=cancel]").click();
	await page.keyboard.press("Escape");
	await becomes(big, "dispatched", "Escape cancels the canceling");
	await page.locator("[data-action=cancel]").click();
	await page.locator("dialog [name=reason]").fill("too big");
	await confirmed(page);
	await becomes(big, "canceled", "it is canceled");
	await says(page, ".timeline", /“too big”/, "with the reason");
	await page.locator(".toast").last().waitFor();
	await page.keyboard.press("Escape");
	await go("#/event/01890000-0000-7000-8000-000000000000");
	await says(page, ".drawer .problem", /does not exist|no event|no such event/i, "an event that is not there is said to be so");
	await page.keyboard.press("Escape");
	await clean(page, "odd things", /404/);
});

await section("suspend and resume", async () => {
	const id = await publish("set aside");
	await go(`#/event/${id}`);
	await page.locator("[data-action=suspend]").click();
	await confirmed(page);
	await becomes(id, "suspended", "an event is suspended");
	await page.locator("[data-action=resume]").click();
	await confirmed(page);
	await becomes(id, "dispatched", "and resumed");
	await page.keyboard.press("Escape");
	await succeed(id);
});

await section("an event type is suspended", async () => {
	await go("#/types");
	await rowOf(page, "T").locator("[data-do=suspend]").click();
	await confirmed(page);
	await rowOf(page, "T").locator(".chip", { hasText: "suspended" }).waitFor();
	is(await one("SELECT suspended FROM eda.event_type WHERE event_type = 'T'"), "t", "the type is suspended");
	const id = await publish("while suspended");
	await go("#/");
	await becomes(id, "suspended", "its events are, too");
	await says(page, ".node[data-state=suspended] .node-count", /^1$/, "the picture counts it");
	await page.locator(".node[data-state=suspended]").click();
	await until("only suspended events are shown", async () => {
		const labels = await page.locator(".stream .row-label").allTextContents();
		return labels.length >= 1 && labels.every((l) => l === "suspended");
	});
	ok(true, "a click on the state shows its events only");
	await leads(page, /#\/\?state=suspended$/, "and stands in the address");
	await go("#/types");
	await rowOf(page, "T").locator("[data-do=suspend]").click();
	await becomes(id, "dispatched", "unsuspended, it goes on");
	await succeed(id);
	await go("#/");
});

await section("the rules of an event type", async () => {
	await go("#/types");
	await rowOf(page, "T").locator("[data-do=edit]").click();
	const form = page.locator("dialog.dialog[open]");
	await form.locator("[name=max_attempts]").fill("20000");
	await confirmed(page);
	await says(page, "dialog .problem", /max_attempts is 20000.*It must be from 1 to 10000/s, "an error and its hint stand at the form");
	await form.locator("[name=max_attempts]").fill("7");
	await form.locator("[name=attempt_delays]").fill("0 s, 10 ms, 1 min 5 s");
	await form.locator("[name=lifespan]").fill("2 h");
	await confirmed(page);
	await rowOf(page, "T").locator("td", { hasText: "1 min 5 s" }).waitFor();
	is(await one("SELECT max_attempts, attempt_delays, lifespan, lease, flow_type FROM eda.event_type WHERE event_type = 'T'"), '7|{00:00:00,00:00:00.01,00:01:05}|02:00:00|00:10:00|flow', "the rules are saved, the others left alone");
	await rowOf(page, "T").locator("[data-do=edit]").click();
	is(await page.inputValue("dialog [name=attempt_delays]"), "0 s, 10 ms, 1 min 5 s", "and read back as they were written");
	await page.locator("dialog [name=attempt_delays]").fill("0 s");
	await page.locator("dialog [name=lifespan]").fill("");
	await confirmed(page);
	await until("the lifespan", async () => (await one("SELECT attempt_delays, lifespan IS NULL FROM eda.event_type WHERE event_type = 'T'")) === "{00:00:00}|t");
	ok(true, "an empty field is the default");
	await page.locator("button", { hasText: "New event type" }).click();
	await page.locator("dialog [name=event_type]").fill("T");
	await page.locator("dialog [name=flow_type]").fill("other");
	await confirmed(page);
	await says(page, "dialog .problem", /already/, "a name that is taken is refused");
	await page.locator("dialog [name=event_type]").fill("PAGE_MADE");
	await confirmed(page);
	await rowOf(page, "PAGE_MADE").waitFor();
	is(await one("SELECT flow_type, max_attempts FROM eda.event_type WHERE event_type = 'PAGE_MADE'"), "other|5", "a new type is made");
	await clean(page, "event types", /422/);
});

await section("dead letters", async () => {
	await sql("SELECT test.publish('T', 'dead', 70)");
	await endAll(70, "eda.fail(event_id, 'no vat on order', token => token, retry => false)");
	const dead = () => one("SELECT count(*) FROM eda.dead_letter");
	const all = Number(await dead());
	await go("#/dead-letters");
	await until("a page of them", async () => (await page.locator(".dead tbody tr").count()) === 50);
	await says(page, ".dead-view .muted", new RegExp(`${all} failed or expired events`), "they are counted");
	await page.locator("button", { hasText: "Load more" }).click();
	await until("all of them", async () => (await page.locator(".dead tbody tr").count()) === all);
	ok(true, "page by page, all are there");
	await page.locator(".dead [data-do=redrive]").first().click();
	await page.locator("dialog [name=reason]").fill("vat is back");
	await confirmed(page);
	await until("one less", async () => Number(await dead()) === all - 1);
	await until("its row is gone", async () => (await page.locator(".dead tbody tr").count()) === all - 1);
	is(await one("SELECT count(*) FROM eda.transition WHERE detail ->> 'reason' = 'vat is back'"), "1", "one is redriven, with the reason");
	await page.locator(".dead tbody input").nth(0).check();
	await page.locator(".dead tbody input").nth(2).check();
	await page.locator("button", { hasText: "Redrive 2 selected" }).click();
	await confirmed(page);
	await until("three less", async () => Number(await dead()) === all - 3);
	ok(true, "two are redriven together");
	await page.locator(".dead-view select").selectOption("T");
	await page.locator("button", { hasText: "Redrive all of T" }).click();
	await confirmed(page);
	await until("none", async () => (await dead()) === "0");
	await says(page, ".dead .empty", /No dead letters/, "all of a type are redriven");
	await until("the badge goes", async () => page.locator(".badge").isHidden());
	await endAll(all, "eda.succeed(event_id, token)");
	await clean(page, "dead letters");
});

await section("with the keyboard alone", async () => {
	await sql("SELECT test.publish('T', 'keys', 3)");
	const p = await open(g.url);
	const active = () => p.evaluate(() => document.activeElement.className || document.activeElement.name || document.activeElement.dataset.state || document.activeElement.tagName);
	await until("rows", async () => (await p.locator(".stream .row").count()) >= 3);
	await p.keyboard.press("Tab");
	is(await active(), "skip", "the first stop is a way to the content");
	await p.keyboard.press("/");
	is(await active(), "flow_id", "/ leads to the search");
	await p.keyboard.type("keys 2");
	await until("only that flow", async () => [...new Set(await p.locator(".stream .row-flow").allTextContents())].join() === "keys 2");
	await p.keyboard.press("Escape");
	await p.locator(".stream .row").first().focus();
	await p.keyboard.press("ArrowDown");
	const before = await p.evaluate(() => document.activeElement.href);
	await p.keyboard.press("Enter");
	await p.locator(".drawer[open] .timeline").waitFor();
	ok(await p.evaluate(() => document.querySelector(".drawer").contains(document.activeElement)), "Enter opens a story and goes there");
	await p.keyboard.press("Escape");
	await until("back at the row", async () => (await p.evaluate(() => document.activeElement.href)) === before);
	ok(true, "Escape closes it and leads back");
	await p.keyboard.press("Enter");
	await p.locator(".drawer[open] .timeline").waitFor();
	await sql("SELECT test.publish('T', 'more', 150)");
	await until("the row is gone", async () => (await p.locator(`.row[href="${new URL(before).hash}"]`).count()) === 0);
	await p.keyboard.press("Escape");
	await until("back in the view", () => p.evaluate(() => document.activeElement.closest("main h1") !== null));
	ok(true, "to the heading, when the row has left the list meanwhile");
	await p.locator(".node[data-state=awaiting_processing]").focus();
	await p.keyboard.press("ArrowRight");
	await p.keyboard.press("ArrowRight");
	is(await p.evaluate(() => document.activeElement.dataset.state), "being_processed", "arrow keys walk the picture");
	await p.keyboard.press("p");
	await says(p, ".stream-panel .panel-note", /^paused/, "p pauses");
	await p.keyboard.press("p");
	await p.keyboard.press("?");
	await p.locator("dialog[open] kbd").first().waitFor();
	await p.locator("dialog[open] input[type=checkbox]").uncheck();
	await p.keyboard.press("Escape");
	await p.keyboard.press("2");
	ok(await p.locator(".overview").isVisible(), "shortcuts can be turned off");
	await endAll(153, "eda.succeed(event_id, token)");
	await clean(p, "the keyboard");
	await p.context().close();
});

await section("motion, and much at once", async () => {
	const watch = () => {
		window.most = 0;
		new MutationObserver(() => (window.most = Math.max(window.most, document.querySelectorAll(".dot").length))).observe(document.querySelector(".machine"), { childList: true, subtree: true });
	};
	const quiet = await open(g.url, { reducedMotion: "reduce" });
	await go("#/");
	for (const p of [page, quiet]) {
		await ready(p, "ready to watch");
		await p.evaluate(watch);
	}
	await page.locator(".stream-panel h2").hover(); // over no row: the list is not held
	await sql("SELECT test.publish('T', 'many', 3000)");
	await sql("CALL test.work('flow', 3000, 0.02)");
	const total = await one("SELECT sum(events) FROM eda.queue_metrics WHERE state = 'succeeded'");
	for (const p of [page, quiet])
		await until("the count", async () => (await p.locator(".node[data-state=succeeded] .node-count").textContent()).replace(",", "") === total);
	ok(true, `the picture counts ${total} succeeded`);
	await until("the list", async () => (await page.locator(".stream li").count()) === 200);
	ok(true, "the list is bounded");
	const most = await page.evaluate(() => window.most);
	ok(most > 0 && most <= 36, "dots run, but never too many", `${most}`);
	is(await quiet.evaluate(() => window.most), 0, "none where motion is not wanted");
	await clean(page, "much at once");
	await quiet.context().close();
});

/* ------------------------------------------------------------------------
 * Rides
 * ------------------------------------------------------------------------ */

const workers = [];
const hire = (n) => {
	for (let i = 0; i < n; i++)
		workers.push(spawn(`${process.env.EDA_SOURCE}/examples/ride-hailing/worker`, ["--name", `worker ${i}`, "--work-ms", "40", "--fail", "0.2", "--permanent", "0", `${process.env.EDA_CONNINFO} user=ride_worker`], { stdio: "ignore" }));
};

await section("rides", async () => {
	const p = await open(`${g.url}/rides`);
	await ready(p, "the page of rides is live");
	for (const rider of ["Ada", "<b>Grace</b>", "Tony"]) {
		await p.locator("[name=rider]").fill(rider);
		await p.locator("form button[type=submit]").click();
		await p.locator(".ride-who", { hasText: rider }).waitFor();
	}
	await says(p, ".ride-wait", /waits for a worker, but no worker asks for events/, "without workers it says what a ride waits for");
	hire(3);
	const cards = p.locator(".ride");
	await until("all rides end", async () => (await cards.evaluateAll((all) => all.every((c) => c.dataset.outcome !== "under way"))), 300);
	const seen = () => cards.evaluateAll((all) => all.map((c) => [c.dataset.ride, c.dataset.outcome, c.querySelectorAll(".pip").length, c.querySelectorAll(".stop-name[href]").length]).sort());
	const there = JSON.parse(await one("SELECT jsonb_agg(jsonb_build_array(ride, CASE outcome WHEN 'paid' THEN 'paid' ELSE 'early' END, attempts, (SELECT count(*) FROM eda.event_state s WHERE s.flow_id = ride)) ORDER BY ride COLLATE \"C\") FROM ride.outcome"));
	// The last change of a ride may be told a moment before the page has read its other events again.
	await until("the page shows it", async () => JSON.stringify(await seen()) === JSON.stringify(there)).catch(() => {});
	const shown = await seen();
	is(shown, there, "each ends as the database says, with all its attempts and stages");
	const paid = p.locator(".ride[data-outcome=paid]").first();
	like(await paid.locator(".ride-outcome").textContent(), /^paid \d+\.50 to driver \d+$/, "who was paid how much");
	await picture(p, "rides");
	await p.reload();
	const again = await until("the rides again", async () => { const now = await seen(); return JSON.stringify(now) === JSON.stringify(shown) && now; }).catch(seen);
	is(again, shown, "they are still there after a reload");
	await p.locator(".ride[data-outcome=paid] .stop-name").last().click();
	await says(p, ".drawer h2", /^PAYMENT_PROCESSED$/, "a stage leads to its event's story");
	await clean(p, "rides");
	await p.context().close();
});

/* ------------------------------------------------------------------------
 * Trouble.  The page is the one from the beginning: it is never loaded again.
 * ------------------------------------------------------------------------ */

const away = /ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET|ERR_NETWORK|503/;
const recovers = async (name) => {
	await ready(page, `${name}: all is well again, and the banner has gone`);
	const flow = `after ${name}`;
	const id = await publish(flow);
	await page.locator(".row-flow", { hasText: flow }).first().waitFor();
	ok(await page.evaluate(() => window.notReloaded), `${name}: it goes on without a reload`);
	await succeed(id);
	await becomes(id, "succeeded", `${name}: events go on`);
};

await section("the engine is off, or killed", async () => {
	await set({ "eda.engine": "off" });
	await says(page, "#banner", /The engine is not running/, "a banner says so");
	await picture(page, "banner");
	const id = await publish("waits");
	await go("#/");
	await set({ "eda.engine": null });
	await becomes(id, "dispatched", "what was published meanwhile is dispatched");
	await succeed(id);
	await recovers("engine off");
	const pid = await server.killEngine();
	await until("another engine", async () => ![pid, ""].includes(await server.enginePid()));
	await server.runs();
	await recovers("engine killed");
	await clean(page, "without an engine", away);
});

await section("the feed tells little or nothing", async () => {
	for (const level of ["ids", "off"]) {
		await set({ "eda.feed": level });
		await says(page, "#banner", /feed/, `eda.feed = ${level}: a banner says so`);
		const id = await publish(`feed ${level}`);
		await page.locator(".row-flow", { hasText: `feed ${level}` }).first().waitFor();
		ok(true, "events are shown all the same");
		await go(`#/event/${id}`);
		await says(page, ".drawer .chip", /^dispatched$/, "a story is open");
		await succeed(id);
		await says(page, ".drawer .chip", /^succeeded$/, "and goes on");
		await page.keyboard.press("Escape");
	}
	await set({ "eda.feed": null });
	await recovers("feed off");
	await clean(page, "without a feed");
});

await section("the database is away", async () => {
	await server.stop("immediate");
	await says(page, "#banner", /database/i, "a banner says so");
	await server.start();
	await server.runs();
	await recovers("database away");
	await clean(page, "the database away", away);
});

await section("the gateway is away", async () => {
	await g.stop();
	await says(page, "#banner", /The live connection is lost/, "a banner says so");
	const id = await publish("in the dark");
	await succeed(id);
	await gateway({ name: "again", listen: `127.0.0.1:${g.port}` });
	await until("what happened meanwhile", async () => (await page.locator(`.row[href="#/event/${id}"]`).count()) > 0);
	ok(true, "what happened meanwhile is shown");
	await recovers("gateway away");
	const rows = await page.locator(".stream .row").evaluateAll((all) => all.map((r) => `${r.href} ${r.textContent}`));
	is(rows.length - new Set(rows).size, 0, "no change is shown twice");
	const told = await page.evaluate(async () => {
		const { store } = await import("/assets/store.js");
		const change = { event_id: crypto.randomUUID(), event_type: "T", flow_type: "flow", flow_id: "twice", state: "succeeded", version: 4, attempt: 1, at: new Date().toISOString() };
		let n = 0;
		store.listen("changes", (changes) => (n += changes.length));
		store.apply([change]);
		store.apply([{ ...change }, { ...change, version: 3 }, { ...change }]);
		return n;
	});
	is(told, 1, "what the stream repeats is dropped");
	await clean(page, "the gateway away", away);
});

await section("a token is asked for", async () => {
	const guarded = await gateway({ name: "guarded", tokens: { "sesame-0123456789abcdef": "ride_app" } });
	const p = await open(guarded.url);
	const give = async (token) => {
		await p.locator("dialog [name=token]").fill(token);
		await confirmed(p);
	};
	await give("wrong");
	await p.locator("dialog [name=token]").waitFor();
	await give("sesame-0123456789abcdef");
	await ready(p, "with the right one it is live");
	is(await p.evaluate(() => [Object.keys(localStorage).length, document.cookie, location.href.includes("sesame")]), [0, "", false], "the token is nowhere but in this tab");
	await p.keyboard.press("2");
	await rowOf(p, "T").locator("[data-do=suspend]").click();
	await confirmed(p);
	await says(p, "dialog .problem", /may not do this.*eda\.grant_access/s, "the role of the token decides what is allowed");
	await clean(p, "tokens", /401|403/);
	await p.context().close();
});

/* ------------------------------------------------------------------------
 * How it looks
 * ------------------------------------------------------------------------ */

const ride = await one("SELECT ride FROM ride.outcome ORDER BY attempts DESC LIMIT 1");
const event = await one(`SELECT id FROM eda.event_state WHERE flow_id = '${ride}' ORDER BY attempt DESC LIMIT 1`);
for (const colorScheme of ["light", "dark"])
	for (const [size, viewport] of [["wide", { width: 1440, height: 900 }], ["phone", PHONE]])
		await section(`${size}, ${colorScheme}`, async () => {
			const p = await open(g.url, { colorScheme, viewport, hasTouch: size === "phone", isMobile: size === "phone", deviceScaleFactor: size === "phone" ? 2 : 1 });
			const views = { overview: "/", types: "/#/types", "dead-letters": "/#/dead-letters", flow: `/#/flow/FLOW_B/${ride}`, event: `/#/event/${event}`, rides: `/rides#/${ride}` };
			for (const [name, path] of Object.entries(views)) {
				await p.goto("about:blank");
				await p.goto(g.url + path);
				await ready(p, `${name} is ready`);
				await p.locator({ event: ".drawer .timeline", flow: ".lane-list .piece", types: ".types tbody tr", rides: ".ride .stop-name[href]" }[name] ?? "main").first().waitFor();
				await picture(p, `${name}-${size}-${colorScheme}`);
				await sound(p, `${name}, ${size}, ${colorScheme}`);
			}
			is(await p.evaluate(() => document.documentElement.dataset.theme), colorScheme, "the theme is the system's");
			await p.locator(".tools button").first().click();
			is(await p.evaluate(() => document.documentElement.dataset.theme), colorScheme === "light" ? "dark" : "light", "and the other one when asked for");
			await clean(p, `${size}, ${colorScheme}`);
			await p.context().close();
		});

for (const worker of workers) worker.kill("SIGTERM");
await browser.close();
note("done");
await finish();
