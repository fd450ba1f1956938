// dialogs.js
//	Dialogs (native <dialog>), and short messages that go away by themselves (toasts).
import { setToken, token, whoAsks } from "./api.js";
import { $, h, iconButton, put, swap } from "./dom.js";
import { visible } from "./format.js";
import { icon } from "./icons.js";

let dialogs = 0;

// Show a modal dialog with a form; resolve with what submit(form) returned, or null if it was closed.
// If submit throws, the dialog shows the problem and stays open.
export function ask({
	title,
	body,
	action = "OK",
	danger = false,
	wide = false,
	submit = () => true,
	cancel = "Cancel",
}) {
	return new Promise((resolve) => {
		const id = `dialog-${++dialogs}`;
		const problem = h("div", { class: "form-problem", role: "alert" });
		const go = h("button", { type: "submit", class: danger ? "button danger" : "button primary" }, action);
		let result = null;
		const close = () => dialog.close();
		const form = h(
			"form",
			{
				onsubmit: async (e) => {
					e.preventDefault();
					if (go.disabled) return;
					go.disabled = true;
					problem.replaceChildren();
					try {
						result = await submit(form);
						if (result !== null && result !== undefined) close();
					} catch (error) {
						swap(problem, problemView(error));
						problem.scrollIntoView({ block: "nearest" });
					}
					go.disabled = false;
				},
			},
			h("header", { class: "dialog-head" }, h("h2", { id }, title), iconButton(icon("close"), "Close", close)),
			h("div", { class: "dialog-body" }, body, problem),
			h(
				"footer",
				{ class: "dialog-foot" },
				cancel && h("button", { type: "button", class: "button", onclick: close }, cancel),
				go,
			),
		);
		const dialog = h("dialog", { class: wide ? "dialog wide" : "dialog", "aria-labelledby": id }, form);
		dialog.addEventListener("close", () => {
			dialog.remove();
			resolve(result);
		});
		document.body.append(dialog);
		dialog.showModal();
		const first = $("[autofocus], input, textarea, select", form) || go;
		first.focus();
	});
}

// Return an element with the title, detail and hint of an error.
export function problemView(error) {
	if (error.name !== "Problem") console.error(error);
	const said = error.name === "Problem" ? error.detail : error.message;
	const small = [error.code, error.status ? `${error.status} ${error.title}` : said && error.title]
		.filter(Boolean)
		.join(" · ");
	return h(
		"div",
		{ class: "problem" },
		h("strong", {}, visible(said || error.title || "Something went wrong")),
		error.hint && h("p", { class: "hint" }, visible(error.hint)),
		small && h("small", {}, small),
	);
}

// Ask for confirmation, with an optional reason that is kept in the event's history.
export function confirm({ title, text, action, danger, reason = true, fields = null, submit }) {
	const why =
		reason &&
		h(
			"label",
			{ class: "field" },
			h("span", {}, "Reason ", h("small", {}, "optional, kept in the history")),
			h("input", { name: "reason", maxlength: 500, autocomplete: "off" }),
		);
	return ask({ title, body: [text && h("p", {}, text), fields, why], action, danger, submit });
}

const shelf = h("div", { class: "toasts", role: "status", "aria-live": "polite" });

function toast(kind, content) {
	if (!shelf.isConnected) document.body.append(shelf);
	// In the top layer, so that an open dialog does not hide it.
	if (shelf.showPopover) {
		shelf.setAttribute("popover", "manual");
		if (shelf.matches(":popover-open")) shelf.hidePopover();
		shelf.showPopover();
	}
	let timer = 0;
	const leave = () => {
		clearTimeout(timer);
		item.remove();
	};
	const linger = () => {
		clearTimeout(timer);
		timer = setTimeout(leave, kind === "bad" ? 12000 : 5000);
	};
	const item = h(
		"div",
		{ class: `toast ${kind}`, onmouseenter: () => clearTimeout(timer), onmouseleave: linger },
		h("div", { class: "toast-text" }, content),
		iconButton(icon("close"), "Dismiss", leave),
	);
	shelf.append(item);
	while (shelf.children.length > 4) shelf.firstChild.remove();
	linger();
}

export const tell = (...content) => toast("good", content);
export const tellProblem = (error) => toast("bad", problemView(error));

// Run what a button does, and show the error if it fails.
export async function attempt(call) {
	try {
		return await call();
	} catch (error) {
		tellProblem(error);
		return null;
	}
}

// Ask for the token when the gateway demands one.
export function tokenDialog(asked = true) {
	return ask({
		title: asked ? "The gateway asks for a token" : "Access token",
		body: [
			h(
				"p",
				{},
				"A bearer token from the gateway’s token file, which stands for a database role. Only this browser tab keeps it.",
			),
			h(
				"label",
				{ class: "field" },
				h("span", {}, "Token"),
				h("input", {
					name: "token",
					type: "password",
					autocomplete: "off",
					spellcheck: "false",
					value: token(),
					autofocus: true,
				}),
			),
		],
		action: "Use this token",
		cancel: asked ? "Not now" : "Cancel",
		submit: (form) => {
			const value = form.elements.token.value.trim();
			setToken(value);
			return value !== "";
		},
	}).then(Boolean);
}
let dismissed = false;
whoAsks(async () => {
	if (dismissed) return false;
	const given = await tokenDialog();
	dismissed = !given;
	return given;
});

// Change the token from the menu, also after a "Not now".
export async function changeToken() {
	dismissed = false;
	const before = token();
	await tokenDialog(false);
	return token() !== before;
}

const keys = [
	["1 2 3", "overview, event types, dead letters"],
	["4", "rides"],
	["/", "search in the list"],
	["p", "pause or resume the stream of changes"],
	["↑ ↓", "move between rows; Enter opens the row"],
	["← → ↑ ↓", "move between states in the diagram; Enter shows the events of a state"],
	["t", "theme: as the system, light, dark"],
	["Esc", "close the event or the dialog"],
	["?", "this list"],
];

export function shortcutsDialog(enabled, enable, list = keys) {
	return ask({
		title: "Keyboard",
		body: [
			h(
				"dl",
				{ class: "keys" },
				list.map(([key, does]) => [
					h(
						"dt",
						{},
						key.split(" ").map((k) => h("kbd", {}, k)),
					),
					h("dd", {}, does),
				]),
			),
			h(
				"label",
				{ class: "check" },
				h("input", { type: "checkbox", checked: enabled(), onchange: (e) => enable(e.target.checked) }),
				"Single-key shortcuts are on",
			),
		],
		action: "Close",
		cancel: null,
	});
}

export const field = (label, hint, input) =>
	put(h("label", { class: "field" }), h("span", {}, label), input, hint && h("small", {}, hint));
