// browser.mjs
//	What the test of the page needs of a browser: Chromium without a window, pages that
//	write down everything that is wrong with them, and a look at how they are made.
import { mkdirSync, readFileSync } from "node:fs";
import { is, note, ok, require, until } from "./lib.mjs";

const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const folder = process.env.EDA_SCREENSHOTS;
mkdirSync(folder, { recursive: true });

export const browser = await chromium.launch({
	executablePath: process.env.EDA_CHROMIUM,
	args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});

export const WIDE = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

// A page that is open at an address.  page.wrong: what went wrong since it was last looked at.
// Options are a context's of Playwright.
export async function open(url, options = {}) {
	const context = await browser.newContext({ viewport: WIDE, ...options });
	await context.addInitScript(() => {
		window.wrong = [];
		window.addEventListener("securitypolicyviolation", (e) => window.wrong.push(`CSP: ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
	});
	const page = await context.newPage();
	page.setDefaultTimeout(120_000);
	page.wrong = [];
	page.on("pageerror", (e) => page.wrong.push(e.stack || e.message));
	page.on("console", (m) => ["error", "warning"].includes(m.type()) && page.wrong.push(`${m.text()} ${m.location().url}`));
	page.on("dialog", (d) => page.wrong.push(`a dialog of the browser: ${d.message()}`));
	await page.goto(url);
	return page;
}

// Nothing was logged, thrown or refused by the policy; expected: a pattern of requests that were to fail.
export async function clean(page, name, expected = null) {
	const all = [...page.wrong, ...(await page.evaluate(() => window.wrong.splice(0)))];
	page.wrong.length = 0;
	// The browser itself logs each refused request.
	const left = all.filter((line) => !(expected && /^Failed to load resource/.test(line) && expected.test(line)));
	is(left, [], `${name}: no error is logged, the policy is kept`);
}

// The text of an element becomes something that matches.
export const says = (page, selector, pattern, name, seconds) =>
	until(name, async () => pattern.test((await page.locator(selector).first().textContent({ timeout: 1000 })) ?? ""), seconds).then(
		() => ok(true, name),
		async (e) => ok(false, name, e.message, await page.locator(selector).allTextContents().catch(() => [])),
	);

// The address of the page becomes one that matches: the browser tells it a moment after the page has changed it.
export const leads = (page, pattern, name) =>
	until(name, () => pattern.test(page.url())).then(() => ok(true, name), () => ok(false, name, page.url()));

// Live, with the engine running and no banner.
export const ready = (page, name) =>
	until(name, () => page.evaluate(() => [...document.querySelectorAll(".lamp")].slice(0, 2).every((l) => l.dataset.light === "good") && document.querySelector("#banner").hidden))
		.then(() => ok(true, name), (e) => ok(false, name, e.message));

export async function picture(page, name) {
	await page.screenshot({ path: `${folder}/${name}.png` });
	note(`picture: ${folder}/${name}.png`);
}

// Nothing sticks out sideways, and axe finds nothing against WCAG 2.1 AA.
export async function sound(page, name) {
	const wide = await page.evaluate(() => {
		const width = document.documentElement.clientWidth;
		const scrolls = (n) => n && (["auto", "scroll", "hidden"].includes(getComputedStyle(n).overflowX) || scrolls(n.parentElement));
		return [...document.querySelectorAll("body *")].filter((n) => n.getBoundingClientRect().right > width + 1 && !n.closest("svg, .visually-hidden, .skip") && !scrolls(n.parentElement)).map((n) => n.outerHTML.slice(0, 120)).concat(document.documentElement.scrollWidth > width ? ["the page scrolls sideways"] : []);
	});
	is(wide.slice(0, 3), [], `${name}: nothing sticks out`);
	await page.evaluate(axe); // not a script of the page: the policy does not concern it
	const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }));
	is(violations.map((v) => `${v.id}: ${v.nodes.slice(0, 2).map((n) => `${n.target} ${n.any[0]?.message ?? ""}`)}`), [], `${name}: accessible`);
}
