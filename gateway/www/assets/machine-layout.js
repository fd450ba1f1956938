// machine-layout.js
//	The places of the states and the tracks between them: one drawing for a wide page and one
//	for a phone.
//
//	A track is a list of corners.  Tracks to the same state share their last piece.  A move that
//	has no track here (of a lifecycle newer than this page) is drawn as a straight line.

const A = "awaiting_processing";
const D = "dispatched";
const B = "being_processed";
const S = "succeeded";
const F = "failed";
const U = "suspended";
const E = "expired";
const C = "canceled";

// The moves of an event that succeeds at once.
const main = [`>${A}`, `${A}>${D}`, `${D}>${B}`, `${B}>${S}`];

export const WIDE = {
	main,
	width: 1000,
	height: 462,
	radius: 14,
	nodes: {
		[A]: { x: 46, y: 125, w: 164, h: 66 },
		[D]: { x: 290, y: 125, w: 164, h: 66 },
		[B]: { x: 534, y: 125, w: 164, h: 66 },
		[S]: { x: 812, y: 125, w: 164, h: 66 },
		[F]: { x: 812, y: 219, w: 164, h: 66 },
		[E]: { x: 812, y: 301, w: 164, h: 66 },
		[C]: { x: 812, y: 383, w: 164, h: 66 },
		[U]: { x: 232, y: 233, w: 164, h: 66 },
	},
	tracks: {
		[`>${A}`]: [[2, 158], [46, 158]],
		[`${A}>${D}`]: [[210, 158], [290, 158]],
		[`${D}>${B}`]: [[454, 158], [534, 158]],
		[`${B}>${S}`]: [[698, 158], [812, 158]],
		[`${B}>${B}`]: [[640, 125], [640, 92], [676, 92], [676, 125]],
		[`${B}>${A}`]: [[592, 125], [592, 72], [128, 72], [128, 125]],
		[`${D}>${A}`]: [[350, 125], [350, 98], [176, 98], [176, 125]],
		[`${F}>${A}`]: [[976, 252], [992, 252], [992, 32], [80, 32], [80, 125]],
		[`${E}>${A}`]: [[976, 334], [992, 334], [992, 32], [80, 32], [80, 125]],
		[`${A}>${U}`]: [[176, 191], [176, 254], [232, 254]],
		[`${D}>${U}`]: [[340, 191], [340, 233]],
		[`${B}>${U}`]: [[568, 191], [568, 272], [396, 272]],
		[`${U}>${A}`]: [[232, 278], [136, 278], [136, 191]],
		[`${D}>${F}`]: [[438, 191], [438, 242], [812, 242]],
		[`${B}>${F}`]: [[680, 191], [680, 242], [812, 242]],
		[`${A}>${E}`]: [[98, 191], [98, 334], [812, 334]],
		[`${D}>${E}`]: [[420, 191], [420, 334], [812, 334]],
		[`${U}>${E}`]: [[340, 299], [340, 334], [812, 334]],
		[`${B}>${E}`]: [[656, 191], [656, 334], [812, 334]],
		[`${A}>${C}`]: [[72, 191], [72, 416], [812, 416]],
		[`${D}>${C}`]: [[402, 191], [402, 416], [812, 416]],
		[`${U}>${C}`]: [[300, 299], [300, 416], [812, 416]],
		[`${B}>${C}`]: [[632, 191], [632, 416], [812, 416]],
	},
	captions: [
		["publish", 2, 148, "start"],
		["dispatch", 250, 148],
		["acquire", 494, 148],
		["succeed", 755, 148],
		["redrive", 536, 24],
		["retry · release", 400, 64],
		["heartbeat", 684, 88, "start"],
		["timeout", 263, 90],
		["fail", 755, 232],
		["expire", 755, 324],
		["cancel", 755, 406],
		["suspend", 500, 288],
		["resume", 184, 294],
	],
};

export const NARROW = {
	main,
	width: 360,
	height: 626,
	radius: 9,
	nodes: {
		[A]: { x: 38, y: 55, w: 148, h: 66 },
		[D]: { x: 38, y: 199, w: 148, h: 66 },
		[B]: { x: 38, y: 343, w: 148, h: 66 },
		[U]: { x: 196, y: 127, w: 144, h: 66 },
		[S]: { x: 10, y: 520, w: 82, h: 72 },
		[F]: { x: 98, y: 520, w: 82, h: 72 },
		[E]: { x: 186, y: 520, w: 82, h: 72 },
		[C]: { x: 274, y: 520, w: 82, h: 72 },
	},
	tracks: {
		[`>${A}`]: [[112, 18], [112, 55]],
		[`${A}>${D}`]: [[112, 121], [112, 199]],
		[`${D}>${B}`]: [[112, 265], [112, 343]],
		[`${B}>${S}`]: [[62, 409], [62, 520]],
		[`${B}>${B}`]: [[38, 382], [24, 382], [24, 400], [38, 400]],
		[`${B}>${A}`]: [[38, 360], [14, 360], [14, 104], [38, 104]],
		[`${D}>${A}`]: [[38, 232], [26, 232], [26, 112], [38, 112]],
		[`${F}>${A}`]: [[139, 592], [139, 612], [4, 612], [4, 80], [38, 80]],
		[`${E}>${A}`]: [[227, 592], [227, 612], [4, 612], [4, 80], [38, 80]],
		[`${A}>${U}`]: [[186, 98], [250, 98], [250, 127]],
		[`${D}>${U}`]: [[186, 214], [208, 214], [208, 193]],
		[`${B}>${U}`]: [[186, 396], [282, 396], [282, 193]],
		[`${U}>${A}`]: [[290, 127], [290, 80], [186, 80]],
		[`${D}>${F}`]: [[186, 254], [204, 254], [204, 470], [145, 470], [145, 520]],
		[`${B}>${F}`]: [[145, 409], [145, 520]],
		[`${A}>${E}`]: [[186, 64], [349, 64], [349, 208], [234, 208], [234, 520]],
		[`${D}>${E}`]: [[186, 240], [234, 240], [234, 520]],
		[`${U}>${E}`]: [[234, 193], [234, 520]],
		[`${B}>${E}`]: [[186, 376], [234, 376], [234, 520]],
		[`${A}>${C}`]: [[186, 64], [349, 64], [349, 480], [318, 480], [318, 520]],
		[`${D}>${C}`]: [[186, 228], [318, 228], [318, 520]],
		[`${U}>${C}`]: [[318, 193], [318, 520]],
		[`${B}>${C}`]: [[186, 356], [318, 356], [318, 520]],
	},
	captions: [
		["publish", 122, 32, "start"],
		["dispatch", 122, 166, "start"],
		["acquire", 122, 310, "start"],
		["succeed", 72, 448, "start"],
		["retry", 20, 318, "start"],
		["redrive", 10, 604, "start"],
		["suspend", 277, 330, "end"],
		["resume", 240, 74],
	],
};

// Return a path through the corners, with each corner rounded.
export function pathOf(points, radius) {
	let d = `M${points[0][0]} ${points[0][1]}`;
	for (let i = 1; i < points.length - 1; i++) {
		const [before, at, after] = [points[i - 1], points[i], points[i + 1]];
		const a = towards(at, before, radius);
		const b = towards(at, after, radius);
		d += `L${a[0]} ${a[1]}Q${at[0]} ${at[1]} ${b[0]} ${b[1]}`;
	}
	const last = points[points.length - 1];
	return `${d}L${last[0]} ${last[1]}`;
}

// Return the point at a distance from one corner towards the next, at most half way.
function towards([x, y], [tx, ty], distance) {
	const length = Math.hypot(tx - x, ty - y) || 1;
	const part = Math.min(distance / length, 0.5);
	return [Math.round((x + (tx - x) * part) * 10) / 10, Math.round((y + (ty - y) * part) * 10) / 10];
}

// Return the corners of a move's track.
export function trackOf(layout, from, to) {
	const track = layout.tracks[`${from || ""}>${to}`];
	if (track) return track;
	const a = layout.nodes[from];
	const b = layout.nodes[to];
	return a && b
		? [
				[a.x + a.w / 2, a.y + a.h / 2],
				[b.x + b.w / 2, b.y + b.h / 2],
			]
		: null;
}
