// api.js
//	Requests to the gateway, and its refusals: RFC 9457 problem details.

const KEY = "eda.token";

let askForToken = null; // async () => token or null; set by the module that can show a dialog

// A refused request: title, detail, hint, code and status of the problem, or the browser's network error.
export class Problem extends Error {
	constructor(fields) {
		super(fields.detail || fields.title || "the request failed");
		this.name = "Problem";
		Object.assign(this, { title: "", detail: "", hint: "", code: "", status: 0, retryAfter: 0 }, fields);
	}
}

// A number that JavaScript would round, kept as the text that the JSON has.
export class Exact {
	constructor(source) {
		this.source = source;
	}
	valueOf() {
		return Number(this.source);
	}
}

// Parse JSON and keep every digit of its numbers, in browsers that pass the source text to the reviver.
export function parse(source) {
	return JSON.parse(source, (key, value, context) =>
		typeof value === "number" && context?.source !== undefined && rounds(value, context.source)
			? new Exact(context.source)
			: value,
	);
}

function rounds(value, source) {
	if (String(value) === source) return false;
	const digits = source
		.replace(/[eE].*$/, "")
		.replace(/(\.\d*?)0+$/, "$1")
		.replace(/[-.]/g, "")
		.replace(/^0+/, "");
	return digits.length > 15 || !Number.isFinite(value);
}

export function token() {
	try {
		return sessionStorage.getItem(KEY) || "";
	} catch {
		return "";
	}
}

export function setToken(value) {
	try {
		if (value) sessionStorage.setItem(KEY, value);
		else sessionStorage.removeItem(KEY);
	} catch {
		// Session storage is off: the page has no token then.
	}
}

export const whoAsks = (ask) => (askForToken = ask);

export const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

// Show one dialog for all requests that are refused at the same time; true: there is a new token to try.
let asking = null;
export function needToken() {
	if (!askForToken) return Promise.resolve(false);
	asking ||= askForToken().finally(() => (asking = null));
	return asking;
}

export async function problemOf(response) {
	const fields = { status: response.status, title: response.statusText || `HTTP ${response.status}` };
	fields.retryAfter = Number(response.headers.get("Retry-After")) || 0;
	try {
		const body = await response.json();
		for (const key of ["title", "detail", "hint", "code"]) if (typeof body[key] === "string") fields[key] = body[key];
	} catch {
		// There is no problem document: the status alone is shown.
	}
	return new Problem(fields);
}

// Send a request.  body is a value, or JSON text that is sent as it is.
async function request(method, path, { body, headers, signal, retried } = {}) {
	const options = {
		method,
		signal,
		cache: "no-store",
		headers: { Accept: "application/json", ...authorization(), ...headers },
	};
	if (body !== undefined) {
		options.body = typeof body === "string" ? body : JSON.stringify(body);
		options.headers["Content-Type"] = "application/json";
	}
	let response;
	try {
		response = await fetch(path, options);
	} catch (error) {
		if (error.name === "AbortError") throw error;
		throw new Problem({
			title: "The gateway does not answer",
			detail: "The request failed on its way. You can safely repeat it when the gateway answers again.",
		});
	}
	if (response.status === 401 && !retried && (await needToken()))
		return request(method, path, { body, headers, signal, retried: true });
	if (!response.ok) {
		if (path === "/ready") return response.json().catch(() => ({ status: "not ready" }));
		throw await problemOf(response);
	}
	const answer = await response.text();
	return answer ? parse(answer) : null;
}

export const get = (path, options) => request("GET", path, options);
export const post = (path, body = {}, options) => request("POST", path, { body, ...options });
export const put = (path, body) => request("PUT", path, { body });
export const patch = (path, body) => request("PATCH", path, { body });

// A flow id may be any text, also ".." or one with slashes, so it goes into the query and never into the path.
export const flowPath = (type, id) => `/api/flows/${encodeURIComponent(type)}?flow_id=${encodeURIComponent(id)}`;

// Return an encoded path and query, without empty parameters: path(["api", "flows", type, id], {limit: 3})
export function path(parts, query = {}) {
	const search = new URLSearchParams();
	for (const [key, value] of Object.entries(query))
		if (value !== undefined && value !== null && value !== "") search.set(key, value);
	const tail = search.toString();
	return "/" + parts.map(encodeURIComponent).join("/") + (tail ? `?${tail}` : "");
}
