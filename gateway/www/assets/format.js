// format.js
//	Numbers, times and text from others, formatted for a reader.

const integer = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

// 1,234; from 100,000 on 123k, 1.2M
export function count(n) {
	if (n === null || n === undefined) return "–";
	if (Math.abs(n) < 1e5) return integer.format(n);
	if (Math.abs(n) < 999500) return Math.round(n / 1e3) + "k";
	if (Math.abs(n) < 9.995e8) return (n / 1e6).toPrecision(3) + "M";
	return (n / 1e9).toPrecision(3) + "G";
}

// A count where there is little room: 11.9k
export const shortCount = (n) => (Math.abs(n) < 1e4 || Math.abs(n) >= 99950 ? count(n) : `${(n / 1e3).toFixed(1)}k`);

// A rate per second.
export const rate = (n) => (n === 0 ? "0" : n < 10 ? n.toFixed(1) : count(Math.round(n)));

// "one event", "3 events"
export const many = (n, noun) => `${n === 1 ? "one" : count(n)} ${noun}${n === 1 ? "" : "s"}`;

const pad = (n, width = 2) => String(n).padStart(width, "0");

// The time of day in the reader's time zone: 13:04:05.123
export function clock(at, parts = "ms") {
	const d = new Date(at);
	if (Number.isNaN(d.getTime())) return "–";
	const hms = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
	return parts === "ms" ? `${hms}.${pad(d.getMilliseconds(), 3)}` : hms;
}

// The date as well, unless it is today.
export function moment(at) {
	const d = new Date(at);
	if (Number.isNaN(d.getTime())) return "–";
	const today = new Date().toDateString() === d.toDateString();
	return today ? clock(at) : `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(at, "s")}`;
}

// 850 ms, 3.2 s, 4 min 10 s, 2 h 5 min, 3 d 4 h
export function duration(ms) {
	if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
	if (ms < 0) return "-" + duration(-ms);
	if (ms < 10) return `${Math.round(ms * 10) / 10} ms`;
	if (ms < 999.5) return `${Math.round(ms)} ms`;
	if (ms < 9950) return `${(ms / 1000).toFixed(1).replace(".0", "")} s`;
	if (ms < 59500) return `${Math.round(ms / 1000)} s`;
	const seconds = Math.round(ms / 1000);
	if (seconds < 3600) return two(seconds, 60, "min", 1, "s");
	if (seconds < 86400) return two(seconds, 3600, "h", 60, "min");
	return two(seconds, 86400, "d", 3600, "h");
}

function two(n, big, bigName, small, smallName) {
	const rest = Math.floor((n % big) / small);
	return `${Math.floor(n / big)} ${bigName}${rest ? ` ${rest} ${smallName}` : ""}`;
}

// An interval of PostgreSQL ("00:02:00", "1 day 00:00:00.3") in a form that it reads, too: "2 min", "1 day 300 ms".
export function interval(value) {
	if (value === null || value === undefined || value === "") return "";
	const m = /^(?:(\d+ years?) ?)?(?:(\d+ mons?) ?)?(?:(\d+ days?) ?)?(?:(\d+):(\d\d):(\d\d)(?:\.(\d+))?)?$/.exec(value);
	if (!m) return value;
	const parts = [m[1], m[2], m[3]].filter(Boolean);
	if (Number(m[4])) parts.push(`${Number(m[4])} h`);
	if (Number(m[5])) parts.push(`${Number(m[5])} min`);
	const ms = Number(m[6] || 0) * 1000 + Number(`0.${m[7] || 0}`) * 1000;
	if (ms)
		parts.push(ms % 1000 === 0 || ms > 1000 ? `${Number((ms / 1000).toFixed(6))} s` : `${Number(ms.toFixed(3))} ms`);
	return parts.join(" ") || "0 s";
}

// Make characters visible that cannot be seen or that change the direction of the text.
const invisible = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
export const visible = (value) =>
	String(value).replace(invisible, (c) => {
		const code = c.charCodeAt(0).toString(16).toUpperCase();
		return `⟨${code.padStart(code.length > 2 ? 4 : 2, "0")}⟩`;
	});

// The same for text on one line: line ends and tabs are made visible, too.
export const oneLine = (value) => visible(value).replace(/\n/g, "↵").replace(/\t/g, "⇥");

// The beginning of a long text.
export const cut = (value, length) => (value.length > length ? value.slice(0, length - 1) + "…" : value);

// A flow id, an error or a name for a list.
export const brief = (value, length = 200) =>
	value === null || value === undefined ? "" : cut(oneLine(value), length);
