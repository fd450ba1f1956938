// icons.js
//	The icons, drawn in the colour of the text beside them.
import { s } from "./dom.js";

const paths = {
	sun: "M8 5a3 3 0 1 0 0 6a3 3 0 1 0 0-6ZM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1.1 1.1M11.9 11.9 13 13M13 3l-1.1 1.1M4.1 11.9 3 13",
	moon: "M13.5 9.8A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.3Z",
	auto: "M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12ZM8 2v12M8 5h4.5M8 8h6M8 11h4.5",
	key: "M5.5 7.5a3 3 0 1 0 0 6a3 3 0 1 0 0-6ZM7.7 8.3 14 2M11.5 4.5l2 2",
	help: "M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12ZM6.2 6.3a1.9 1.9 0 1 1 2.6 1.9c-.5.2-.8.6-.8 1.2M8 11.5v.3",
	close: "m3.5 3.5 9 9m0-9-9 9",
	pause: "M5 3v10M11 3v10",
	play: "M4.5 2.5 12.5 8l-8 5.5Z",
	copy: "M5.5 5.5h8v8h-8ZM3 10.5H2.5v-8h8V3",
	back: "M10 2.5 4.5 8l5.5 5.5",
	send: "M2 8h11M9 3.5 13.5 8 9 12.5",
	edit: "M3 13l.6-2.8 7.6-7.6 2.2 2.2-7.6 7.6Z",
	plus: "M8 2.5v11M2.5 8h11",
	again: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
	stop: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11ZM4.2 11.8l7.6-7.6",
	lanes: "M2 4h7M6 8h8M4 12h6",
	out: "M6 3H3v10h10v-3M9 3h4v4M13 3 7.5 8.5",
};

export const icon = (name) =>
	s("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: paths[name] }));
