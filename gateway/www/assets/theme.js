// theme.js
//	Sets the light or dark theme before anything is drawn: a small script, loaded without defer, and no module.
(() => {
	const KEY = "eda.theme";
	const root = document.documentElement;
	const dark = matchMedia("(prefers-color-scheme: dark)");
	let choice = "auto";
	try {
		choice = localStorage.getItem(KEY) || "auto";
	} catch {
		// Storage is off: the theme follows the system.
	}

	const apply = () => {
		root.dataset.theme = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
		dispatchEvent(new Event("themechange"));
	};
	dark.addEventListener("change", apply);
	apply();

	window.edaTheme = {
		get choice() {
			return choice;
		},
		// The order is auto, then the theme that differs from the system's, then the other one.
		next() {
			const order = dark.matches ? ["auto", "light", "dark"] : ["auto", "dark", "light"];
			choice = order[(order.indexOf(choice) + 1) % 3];
			try {
				localStorage.setItem(KEY, choice);
			} catch {
				// The theme holds until the page is left.
			}
			apply();
			return choice;
		},
	};
})();
