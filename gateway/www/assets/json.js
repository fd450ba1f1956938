// json.js
//	A JSON value, indented, as text: its beginning, and all of it on request.
import { Exact } from "./api.js";
import { h, swap } from "./dom.js";
import { count, visible } from "./format.js";

const SHOWN = 6000; // characters

// Like JSON.stringify with two spaces, but numbers keep all their digits.
export function pretty(value, indent = "") {
	if (value instanceof Exact) return value.source;
	if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
	const more = indent + "  ";
	if (Array.isArray(value)) {
		if (!value.length) return "[]";
		return `[\n${value.map((item) => more + pretty(item, more)).join(",\n")}\n${indent}]`;
	}
	const keys = Object.keys(value);
	if (!keys.length) return "{}";
	return `{\n${keys.map((key) => `${more}${JSON.stringify(key)}: ${pretty(value[key], more)}`).join(",\n")}\n${indent}}`;
}

// Colour the keys, strings, numbers and words.
const tokens = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d[\d.eE+-]*)|\b(true|false|null)\b/g;
function coloured(source) {
	const parts = [];
	let at = 0;
	for (const m of source.matchAll(tokens)) {
		if (m.index > at) parts.push(source.slice(at, m.index));
		parts.push(h("span", { class: m[2] ? "j-key" : m[1] ? "j-text" : m[3] ? "j-number" : "j-word" }, m[1] || m[0]));
		if (m[2]) parts.push(m[2]);
		at = m.index + m[0].length;
	}
	parts.push(source.slice(at));
	return parts;
}

// Make a box with the value; name is for screen readers.
export function jsonView(value, name) {
	const all = visible(pretty(value));
	const box = h("pre", { class: "json", tabindex: 0, "aria-label": name, dir: "ltr" });
	if (all.length <= SHOWN) {
		swap(box, coloured(all));
		return box;
	}
	swap(box, coloured(all.slice(0, SHOWN)), "…");
	const more = h(
		"button",
		{
			type: "button",
			class: "button small",
			onclick: () => {
				box.textContent = all;
				more.remove();
				box.focus();
			},
		},
		`Show all ${count(all.length)} characters`,
	);
	return h("div", {}, box, more);
}
