// dom.js
//	Elements are built and never parsed from HTML: text from the database can only become text.

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

// Make an HTML element.  props: attributes, and listeners such as onclick; children: nodes, text, arrays or null.
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

// Make an SVG element.
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

// Append nodes and text.
export function put(node, ...children) {
	for (const child of children.flat(Infinity)) {
		if (child === undefined || child === null || child === false) continue;
		node.append(child instanceof Node ? child : String(child));
	}
	return node;
}

// Replace all children of a node.
export function swap(node, ...children) {
	node.replaceChildren();
	return put(node, ...children);
}

// Set the text of a node only if it differs, because each change costs a layout.
export function text(node, value) {
	const wanted = String(value);
	if (node.textContent !== wanted) node.textContent = wanted;
}

export const $ = (selector, root = document) => root.querySelector(selector);

// Return a function that calls at most once in so many ms, in an animation frame, and always after its last call.
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

// Whether the reader has asked for no animation.
const still = matchMedia("(prefers-reduced-motion: reduce)");
export const motionless = () => still.matches;

// Text that may be written from right to left, kept from changing the direction of the text around it.
export const bdi = (value, props) => h("bdi", props, value);

// A button with an icon, and a name for screen readers.
export const iconButton = (icon, label, onclick, props = {}) =>
	h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...props }, icon);
