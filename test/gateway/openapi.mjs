// openapi.mjs
//	gateway/www/openapi.json: is it valid, does it name the routes that there are, and do
//	the gateway's answers keep to it?
//
// A JSON Schema lets unknown keys pass unless it says otherwise, so that servers can add
// some.  Here it must not: a key that the document does not name is a key that nobody
// documented.  So objects are closed before the answers are compared with them.
import fs from "node:fs";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { is, note, ok, require, watch } from "./lib.mjs";

const Ajv = require("ajv/dist/2020").default;
const addFormats = require("ajv-formats").default;

export const documentPath = path.join(process.env.EDA_SOURCE, "gateway/www/openapi.json");
export const openapi = JSON.parse(fs.readFileSync(documentPath, "utf8"));

const methods = ["get", "put", "post", "delete", "patch", "options", "head", "trace"];

const resolve = (node) => {
	while (node?.$ref) node = node.$ref.slice(2).split("/").reduce((o, k) => o[k.replace(/~1/g, "/").replace(/~0/g, "~")], openapi);
	return node;
};

export const operations = Object.entries(openapi.paths).flatMap(([p, item]) =>
	methods.filter((m) => item[m]).map((m) => ({
		path: p,
		method: m.toUpperCase(),
		name: `${m.toUpperCase()} ${p}`,
		pattern: new RegExp("^" + p.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{flow_id\}/g, ".+").replace(/\{[^}]*\}/g, "[^/]+") + "$"),
		...item[m],
		parameters: [...(item.parameters || []), ...(item[m].parameters || [])].map(resolve),
	})));

// The operation of a request; a path without parameters is a better match than one with them.
export function operationOf(method, target) {
	const p = target.split("?")[0];
	const found = operations.filter((o) => o.method === (method === "HEAD" ? "GET" : method) && o.pattern.test(p));
	return found.sort((a, b) => a.path.split("{").length - b.path.split("{").length)[0];
}

/* ------------------------------------------------------------------------
 * Schemas
 * ------------------------------------------------------------------------ */

const ajvOf = (document) => {
	const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: true });
	addFormats(ajv);
	ajv.addSchema({ $id: "doc", ...document });
	return ajv;
};

const closed = (node) => {
	if (Array.isArray(node)) return node.map(closed);
	if (node === null || typeof node !== "object") return node;
	const copy = Object.fromEntries(Object.entries(node).map(([k, v]) => [k, k === "example" || k === "examples" ? v : closed(v)]));
	if (copy.properties && typeof copy.properties === "object" && [].concat(copy.type).includes("object") && copy.additionalProperties === undefined) copy.additionalProperties = false;
	return copy;
};

const open = ajvOf(openapi);
const strict = ajvOf(closed(openapi));
const compiled = new Map();

// What is wrong with a value by the schema at a JSON pointer; null: nothing.
function fault(ajv, pointer, value) {
	const key = (ajv === strict ? "s" : "o") + pointer;
	if (!compiled.has(key)) compiled.set(key, ajv.compile({ $ref: "doc#" + pointer }));
	const check = compiled.get(key);
	return check(value) ? null : check.errors.filter((e) => e.keyword !== "if").slice(0, 4).map((e) => `${e.instancePath || "/"} ${e.message}${e.params?.additionalProperty ? ` (${e.params.additionalProperty})` : ""}`).join("; ");
}

const escape = (s) => encodeURIComponent(s.replace(/~/g, "~0").replace(/\//g, "~1"));
const pointerOf = (...steps) => steps.map((s) => "/" + escape(String(s))).join("");

// What is wrong with a message of the feed, by the name of its schema.
export const schemaFault = (name, value) => fault(strict, pointerOf("components", "schemas", name), value);

/* ------------------------------------------------------------------------
 * Answers
 * ------------------------------------------------------------------------ */

// A response's own place in the document: components/responses or the operation.
function responsePlace(operation, status) {
	const given = operation.responses[status];
	if (!given) return undefined;
	const response = resolve(given);
	const pointer = given.$ref ? given.$ref.slice(1) : pointerOf("paths", operation.path, operation.method.toLowerCase(), "responses", status);
	return { response, pointer };
}

const leaks = /\bSELECT\b|eda_http|PL\/pgSQL|ERROR:|\brelation\b|\bcolumn\b|function eda|\bschema\b|CONTEXT|pg_catalog/;
export const problems = [];	// every problem that was seen, for the test that they leak nothing

export const problemFault = (answer) => {
	if (answer.type !== "application/problem+json") return `the content type of a ${answer.status} is ${answer.type}: ${answer.text.slice(0, 200)}`;
	if (answer.method === "HEAD") return null;
	problems.push(answer);
	const wrong = fault(strict, "/components/schemas/Problem", answer.json);
	if (wrong) return `${wrong}: ${answer.text}`;
	if (answer.json.status !== answer.status) return `status ${answer.json.status} in the body of a ${answer.status}`;
	if (leaks.test(answer.text)) return `it tells of the inside: ${answer.text}`;
	return null;
};

// What is wrong with an answer; null: nothing.
export function answerFault(answer) {
	const { method, path: target, status } = answer;
	const operation = operationOf(method, target);
	const isProblem = status >= 400 && !(status === 503 && answer.type === "application/json" && /^\/ready/.test(target)) && !(target === "/mcp" && answer.type === "application/json");
	if (isProblem) {
		const wrong = problemFault(answer);
		if (wrong) return wrong;
	}
	// Of a path that leads nowhere the introduction speaks too.
	if (status === 404 && answer.json?.detail === "There is nothing at this path.") return null;
	if (!operation) return status === 404 || status === 405 || status >= 400 ? null : target.startsWith("/api/") ? `${status} of an operation that is not documented` : null;
	const place = responsePlace(operation, status);
	// What is asked of any path is said in the document's introduction.
	if (!place) return status === 405 ? null : `status ${status} is not documented: ${answer.text.slice(0, 300)}`;
	for (const [name, given] of Object.entries(place.response.headers || {})) {
		const value = answer.headers[name.toLowerCase()];
		const header = resolve(given);
		if (value === undefined) {
			if (header.required) return `the header ${name} is missing`;
		} else {
			const typed = [].concat(header.schema.type).includes("integer") ? Number(value) : value;
			const wrong = new Ajv({ strict: false, validateFormats: false }).validate(header.schema, typed) ? null : `the header ${name} is ${value}`;
			if (wrong) return wrong;
		}
	}
	if (method === "HEAD") return answer.text === "" ? null : "an answer to HEAD has content";
	const types = place.response.content ? Object.keys(place.response.content) : [];
	if (types.length === 0) return answer.text === "" ? null : `content where none is documented: ${answer.text.slice(0, 200)}`;
	if (!types.includes(answer.type)) return `content type ${answer.type}, documented: ${types}`;
	if (/json$/.test(answer.type)) {
		const wrong = fault(strict, `${place.pointer}/content/${escape(answer.type)}/schema`, answer.json);
		if (wrong) return `${wrong} in ${answer.text.slice(0, 1500)}`;
	}
	// What was accepted must have been allowed.
	if (status < 300) {
		const query = new URLSearchParams(target.split("?")[1] || "");
		for (const name of query.keys()) if (!operation.parameters.some((p) => p.in === "query" && p.name === name)) return `the parameter ${name} is not documented`;
		if (answer.asked && operation.requestBody) {
			const pointer = pointerOf("paths", operation.path, operation.method.toLowerCase(), "requestBody", "content", "application/json", "schema");
			const wrong = fault(open, pointer, JSON.parse(answer.asked));
			if (wrong) return `a body was accepted that the document forbids: ${wrong} in ${answer.asked.slice(0, 300)}`;
		}
	}
	return null;
}

// Compare all answers with the document from here on; the function that this returns makes a test of it.
export function watchAnswers() {
	const wrong = new Map();
	let n = 0;
	watch((answer) => {
		const name = operationOf(answer.method, answer.path)?.name ?? "other paths";
		const f = answerFault(answer);
		n++;
		if (f && !wrong.has(name)) wrong.set(name, []);
		if (f) wrong.get(name).push(`${answer.method} ${answer.path}: ${f}`);
	});
	return (least) => {
		ok(n >= least, `answers were compared with the document (at least ${least})`, n);
		is([...wrong.values()].flatMap((w) => w.slice(0, 2)).join("\n"), "", "every answer keeps to the document");
		is(problems.filter((p) => p.status >= 500 && p.status !== 503 && !p.sent["X-Expected"]).map((p) => `${p.method} ${p.path}: ${p.text}`).join("\n"), "", "none was an internal error");
		note(`${n} answers, ${problems.length} problems: ${[...new Set(problems.map((p) => p.status))].sort().join(" ")}`);
	};
}

/* ------------------------------------------------------------------------
 * The document itself
 * ------------------------------------------------------------------------ */

export async function checkDocument(gatewayProgram) {
	const home = path.dirname(require.resolve("ajv/package.json"));
	const { Validator } = await import(pathToFileURL(path.join(home, "../@seriousme/openapi-schema-validator/index.js")));
	const verdict = await new Validator().validate(structuredClone(openapi));
	ok(verdict.valid && openapi.openapi.startsWith("3.1."), "openapi.json is valid OpenAPI 3.1", verdict.errors);

	const routes = execFileSync(gatewayProgram, ["--routes"], { encoding: "utf8" }).trim().split("\n").sort();
	is(operations.map((o) => o.name).sort().join("\n"), routes.join("\n"), "it has the routes that the gateway has, and no others");

	const ids = operations.map((o) => o.operationId);
	is(ids.filter((id, i) => !id || ids.indexOf(id) !== i).join(), "", "each operation has an id of its own");
	is(operations.filter((o) => !o.summary || !o.tags?.length || o.tags.some((t) => !openapi.tags.some((x) => x.name === t))).map((o) => o.name).join(), "", "each has a summary, and a tag that is explained");

	const wrong = [];
	const seen = new Set();
	const walk = (node, where) => {
		if (node === null || typeof node !== "object") return;
		if (typeof node.$ref === "string") {
			seen.add(node.$ref);
			if (resolve(node) === undefined) wrong.push(`${where}: ${node.$ref} leads nowhere`);
		}
		for (const [k, v] of Object.entries(node)) walk(v, `${where}/${k}`);
	};
	walk(openapi, "");
	for (const [kind, named] of Object.entries(openapi.components))
		for (const name of Object.keys(named))
			if (kind !== "securitySchemes" && !seen.has(`#/components/${kind}/${name}`) && name !== "MethodNotAllowed" && !new RegExp("`" + name + "`").test(JSON.stringify(openapi.paths))) wrong.push(`${kind}/${name} is used nowhere`);
	for (const o of operations) {
		const inPath = [...o.path.matchAll(/\{([^}]*)\}/g)].map((m) => m[1]).sort().join();
		const declared = o.parameters.filter((p) => p.in === "path").map((p) => p.name).sort().join();
		if (inPath !== declared) wrong.push(`${o.name}: the path has ${inPath}, the parameters ${declared}`);
		for (const p of o.parameters) if (!p.description) wrong.push(`${o.name}: ${p.name} has no description`);
		const places = [["requestBody", o.requestBody && resolve(o.requestBody)], ...Object.keys(o.responses).map((s) => [`responses/${s}`, resolve(o.responses[s])])];
		for (const [where, place] of places)
			for (const [type, content] of Object.entries(place?.content || {})) {
				const examples = content.examples ? Object.values(content.examples).map((e) => e.value) : content.example !== undefined ? [content.example] : [];
				if (examples.length === 0) wrong.push(`${o.name}: ${where} has no example`);
				if (!/json$/.test(type)) continue;
				const given = where === "requestBody" ? o.requestBody : o.responses[where.split("/")[1]];
				const base = given.$ref ? given.$ref.slice(1) : pointerOf("paths", o.path, o.method.toLowerCase(), ...where.split("/"));
				for (const e of examples) {
					const f = fault(strict, `${base}/content/${escape(type)}/schema`, e);
					if (f) wrong.push(`${o.name}: an example of ${where}: ${f}`);
				}
			}
		// A body of ours is closed: a mistyped key is refused, and the document must say so.
		const schema = resolve(o.requestBody?.content?.["application/json"]?.schema);
		const objects = schema ? [schema, ...(schema.oneOf || []).map(resolve)].filter((s) => [].concat(s.type).includes("object")) : [];
		if (o.path !== "/mcp" && objects.some((s) => s.additionalProperties !== false)) wrong.push(`${o.name}: its body is not closed`);
	}
	for (const [name, schema] of Object.entries(openapi.components.schemas))
		for (const e of schema.examples || []) {
			const f = schemaFault(name, e);
			if (f) wrong.push(`an example of ${name}: ${f}`);
		}
	is(wrong.join("\n"), "", "references, parameters, examples and bodies are in order");

	// The checks of answers can find something.
	const good = { event_id: "01932f6e-8a51-7c3a-9d0e-5b1f6a2c7e90", state: "canceled" };
	const answer = (json, more = {}) => ({ method: "POST", path: "/api/events/01932f6e-8a51-7c3a-9d0e-5b1f6a2c7e90/cancel", status: 200, headers: {}, type: "application/json", json, text: JSON.stringify(json), asked: "{}", ...more });
	is(answerFault(answer(good)), null, "a good answer is good");
	const bad = {
		"a missing key": answer({ event_id: good.event_id }), "an unknown key": answer({ ...good, more: 1 }), "a wrong value": answer({ ...good, state: "dead" }),
		"a malformed id": answer({ ...good, event_id: "7" }), "another content type": answer(good, { type: "text/html" }), "an undocumented status": answer(good, { status: 204 }),
		"a problem that tells SQL": answer({ type: "about:blank", title: "x", status: 409, detail: 'relation "x"', instance: "/" }, { status: 409, type: "application/problem+json" }),
		"an unknown key that was accepted": answer(good, { asked: '{"foo": 1}' }),
	};
	is(Object.keys(bad).filter((k) => answerFault(bad[k]) === null).join(), "", "and a bad one is found");
	problems.length = 0;
	note(`${operations.length} operations, ${Object.keys(openapi.components.schemas).length} schemas`);
}
