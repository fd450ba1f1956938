// keys.js
//	Single-key shortcuts.  They can be switched off, and do nothing in an input or while a dialog is open.

const KEY = "eda.shortcuts";

export function shortcuts(does, dialog) {
	let on = true;
	try {
		on = localStorage.getItem(KEY) !== "off";
	} catch {
		// Storage is off: the shortcuts are on.
	}
	const enable = (value) => {
		on = value;
		try {
			localStorage.setItem(KEY, on ? "on" : "off");
		} catch {
			// The setting holds until the page is left.
		}
	};
	addEventListener("keydown", (e) => {
		if (e.defaultPrevented || e.ctrlKey || e.altKey || e.metaKey || e.isComposing) return;
		const call = does[e.key];
		if (!call || document.querySelector("dialog.dialog[open]")) return;
		const typing = e.target.closest?.("input, textarea, select, [contenteditable]");
		if (e.key === "Escape") {
			if (typing) typing.blur();
			else call();
			return;
		}
		if (!on || typing) return;
		e.preventDefault();
		call();
	});
	return { help: () => dialog(() => on, enable) };
}
