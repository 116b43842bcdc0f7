// Requests to the masters. The page was loaded from one of them. If that one stops answering, requests go to the next
// one. GET /v1/cluster returns the URLs, and masters accept requests from each other's pages.

import { session, sessionEnded, token } from './settings.js';

/** Problem is a failed request: an application/problem+json response, or no response (status 0). */
export class Problem extends Error {
  constructor({ status, name, title, detail, retryAfter }) {
    super(detail || title);
    Object.assign(this, { status, name, title, detail, retryAfter });
  }

  /** missing reports whether this master has no such route, because it is older or the route is disabled. */
  get missing() {
    const before010 = this.status === 404 && this.title === 'No such route'; // by masters before 0.1.0
    return this.status === 501 || this.status === 405 || this.name === 'no-such-route' || before010;
  }
}

/** Cancelled is thrown when the page that sent the request is left. */
export class Cancelled extends Error {}

/** connection is the master in use. It fires "change" when the master changes, stops answering or answers again. */
export const connection = Object.assign(new EventTarget(),
  { master: location.origin, masters: [location.origin], lost: false });

/**
 * ownScheme is a master's URL with the scheme of this page. While the cluster moves to TLS, its URLs begin with
 * http://, and a browser calls none of them from a page with https://. The port stays the same.
 */
export function ownScheme(url, step) {
  const moving = step === 'accept' || step === 'prefer';
  if (!moving || location.protocol !== 'https:' || !url?.startsWith('http://')) return url;
  const { hostname, port } = new URL(url);
  return `https://${hostname}:${port || 80}`;
}

/** knowMasters sets the masters' URLs from the cluster's status. The page's own master stays in the list. */
export function knowMasters(urls) {
  const known = urls.filter(Boolean).map((url) => new URL(url).origin);
  connection.masters = [...new Set([location.origin, ...known])];
}

function moveTo(master, lost) {
  if (connection.master === master && connection.lost === lost) return;
  Object.assign(connection, { master, lost });
  connection.dispatchEvent(new Event('change'));
}

const patience = 10_000; // ms until a request to a master times out

/**
 * bearer is the token for a request: "project", "admin", "any" of the two (project first), or "none". "audit" is the
 * admin token, for records of the audit trail.
 */
function bearer(as) {
  if (as === 'none') return '';
  if (as === 'audit') return bearer('admin');
  const text = as === 'any' ? token('project') || token('admin') : token(as);
  if (!text) throw new Problem({ status: 401, name: `no-${as}-token`, title: '', detail: '' });
  return text;
}

/**
 * request sends one request and returns the response, which is not an error. GET, HEAD and requests marked as
 * repeatable go to the next master if one does not answer or has no leader. Other requests may already have taken
 * effect, so their failure is reported.
 */
async function request(path, { method = 'GET', as = 'any', headers = {}, body, repeatable, signal,
  timeout = patience } = {}) {
  const sent = new Headers(headers);
  const text = bearer(as);
  const user = session();
  const ofUser = Boolean(user) && text === user.token;
  const chosen = as === 'audit' ? '_audit' : ofUser && as === 'project' && user.projects.length > 1 && user.project;
  const url = chosen ? `${path}${path.includes('?') ? '&' : '?'}as=${encodeURIComponent(chosen)}` : path;
  if (text) sent.set('Authorization', `Bearer ${text}`);
  const again = repeatable ?? (method === 'GET' || method === 'HEAD');
  const start = Math.max(connection.masters.indexOf(connection.master), 0);
  let failure;
  for (let i = 0; i < connection.masters.length; i++) {
    const master = connection.masters[(start + i) % connection.masters.length];
    try {
      const answer = await once(master + url, { method, headers: sent, body }, signal, timeout);
      moveTo(master, false);
      return answer;
    } catch (error) {
      if (error instanceof Cancelled) throw error;
      failure = error;
      if (ofUser && error.status === 401 && session() === user) sessionEnded();
      const elsewhere = error.status === 0 || error.name === 'no-leader' || error.name === 'stale-folder';
      if (error.status !== 0) moveTo(master, false);
      if (!elsewhere) throw error;
      if (!again) {
        if (error.status === 0) moveTo(connection.masters[(start + 1) % connection.masters.length], false);
        throw error;
      }
    }
  }
  if (failure.status === 0) moveTo(connection.master, true);
  throw failure;
}

/** once sends a request to one master. */
async function once(url, init, signal, timeout) {
  const limit = AbortSignal.timeout(timeout);
  let answer;
  try {
    answer = await fetch(url, {
      ...init, cache: 'default', credentials: 'omit', referrerPolicy: 'no-referrer',
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch {
    if (signal?.aborted) throw new Cancelled();
    throw new Problem({ status: 0, name: 'no-answer', title: '', detail: '' });
  }
  if (answer.ok) return answer;
  throw await problemOf(answer);
}

async function problemOf(answer) {
  let told = {};
  try {
    told = await answer.json();
  } catch {
    // A proxy has answered instead of the master.
  }
  return new Problem({
    status: answer.status, name: String(told.type ?? '').split('/').pop(), title: told.title ?? '',
      detail: told.detail ?? '',
    retryAfter: Number(answer.headers.get('Retry-After')) || 0,
  });
}

/** valueOf reads the JSON of a response, whose body may be cut off. */
async function valueOf(answer, signal) {
  try {
    return await answer.json();
  } catch {
    if (signal?.aborted) throw new Cancelled();
    throw new Problem({ status: 0, name: 'no-answer', title: '', detail: '' });
  }
}

/** getJSON sends a request, GET by default, and returns the JSON of the response. */
export async function getJSON(path, options = {}) {
  const answer = await request(path, { ...options, headers: { Accept: 'application/json', ...options.headers } });
  return valueOf(answer, options.signal);
}

/** sendJSON sends a value as JSON and returns the value of the response, null if it is empty. */
export async function sendJSON(method, path, value, options = {}) {
  const answer = await request(path, {
    as: 'admin', ...options, method, body: value === undefined ? undefined : JSON.stringify(value),
    headers: { Accept: 'application/json', ...(value === undefined ? {} : { 'Content-Type': 'application/json' }) },
  });
  return answer.status === 204 ? null : valueOf(answer, options.signal);
}

/** newKey makes an idempotency key, so that an append can be repeated without a duplicate. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

/** segment escapes a text for one part of a path. */
export const segment = encodeURIComponent;
