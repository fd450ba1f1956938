// theme.js
//	Light or dark, before anything is drawn: loaded without defer, so it is small and no module.
(() => {
	const KEY = "eda.theme";
	const root = document.documentElement;
	const dark = matchMedia("(prefers-color-scheme: dark)");
	let choice = "auto";
	try {
		choice = localStorage.getItem(KEY) || "auto";
	} catch {
		// storage is off: as the system says
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
		// auto, then the one that the system does not have, then the other
		next() {
			const order = dark.matches ? ["auto", "light", "dark"] : ["auto", "dark", "light"];
			choice = order[(order.indexOf(choice) + 1) % 3];
			try {
				localStorage.setItem(KEY, choice);
			} catch {
				// it holds until the page is left
			}
			apply();
			return choice;
		},
	};
})();
