// dom.js
//	Elements are built, never parsed: what comes from the database only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
	for (const [key, value] of Object.entries(props || {})) {
		if (value === undefined || value === null || value === false) continue;
		if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
		else if (key === "value" || key === "checked" || key === "disabled") node[key] = value;
		else node.setAttribute(key, value === true ? "" : String(value));
	}
	put(node, ...children);
	return node;
}

// An HTML element.  Props are attributes, "onclick" and its like listeners; children are nodes, text, arrays or null.
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

// An SVG element.
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

// Append nodes and text.
export function put(node, ...children) {
	for (const child of children.flat(Infinity)) {
		if (child === undefined || child === null || child === false) continue;
		node.append(child instanceof Node ? child : String(child));
	}
	return node;
}

// Put these in place of all that is there.
export function swap(node, ...children) {
	node.replaceChildren();
	return put(node, ...children);
}

// Set text only if it is another one: no layout for nothing.
export function text(node, value) {
	const wanted = String(value);
	if (node.textContent !== wanted) node.textContent = wanted;
}

export const $ = (selector, root = document) => root.querySelector(selector);

// Call at most once in so many milliseconds, in an animation frame, always after the last request.
export function paced(ms, call) {
	let timer = 0;
	let last = 0;
	const run = () => {
		timer = 0;
		last = performance.now();
		call();
	};
	return () => {
		if (timer) return;
		const wait = Math.max(0, last + ms - performance.now());
		timer = setTimeout(() => (document.hidden ? run() : requestAnimationFrame(run)), wait);
	};
}

// Whether nothing should move by itself.
const still = matchMedia("(prefers-reduced-motion: reduce)");
export const motionless = () => still.matches;

// Text that somebody may write from right to left, kept from turning round what stands beside it.
export const bdi = (value, props) => h("bdi", props, value);

// A button with an icon that a screen reader calls by name.
export const iconButton = (icon, label, onclick, props = {}) =>
	h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...props }, icon);
