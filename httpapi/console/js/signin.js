// Signing in at the OpenID Connect issuer of the masters: the authorization code flow with PKCE (RFC 7636). The page is
// left for the issuer's, which sends the browser back with a code. Only the tab that began can use the code.

import { Problem, getJSON } from './api.js';
import { fromBase64, utf8 } from './bytes.js';
import { keepForTab, setSession, takeFromTab } from './settings.js';
import { sha256 } from './sha256.js';

/** issuer is the response of GET /v1/sign-in. It fires "change" when it is known. */
export const issuer = Object.assign(new EventTarget(), { available: false });

/** SignInError is a failed attempt to sign in. key names its text. */
export class SignInError extends Error {
  constructor(key, detail = '') {
    super(detail || key);
    Object.assign(this, { key, detail });
  }
}

/** findIssuer asks the masters how to sign in. */
export async function findIssuer() {
  try {
    Object.assign(issuer, await getJSON('/v1/sign-in', { as: 'none' }));
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // no issuer, or none that answers: there are still tokens
  }
  issuer.dispatchEvent(new Event('change'));
}

const base64url = (data) =>
  btoa(String.fromCharCode(...data)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** returnTo is the address to which the issuer sends the browser back. It must be registered there. */
const returnTo = () => `${location.origin}/`;

const attemptKey = 'chainstore.signin';

/** signIn leaves the page for the issuer's. The page that is open now is opened again afterwards. */
export function signIn() {
  const attempt = {
    issuer: issuer.issuer, client: issuer.client, endpoint: issuer.token_endpoint, page: location.hash,
    state: random(), nonce: random(), verifier: random(),
  };
  keepForTab(attemptKey, JSON.stringify(attempt));
  const url = new URL(issuer.authorization_endpoint);
  for (const [name, value] of Object.entries({
    response_type: 'code', client_id: attempt.client, redirect_uri: returnTo(), scope: issuer.scopes.join(' '),
    state: attempt.state, nonce: attempt.nonce, code_challenge: base64url(sha256(utf8(attempt.verifier))),
    code_challenge_method: 'S256',
  })) url.searchParams.set(name, value);
  location.assign(url);
}

/**
 * takeAnswer returns the issuer's answer in the address of the page, null if there is none. It removes the answer from
 * the address and from the history, and restores the page from which signIn was called.
 */
export function takeAnswer() {
  const query = new URLSearchParams(location.search);
  if (!query.has('state') || !query.has('code') && !query.has('error')) return null;
  const attempt = JSON.parse(takeFromTab(attemptKey) || 'null');
  history.replaceState(null, '', `/${attempt?.page ?? location.hash}`);
  return { query, attempt };
}

/** finishSignIn exchanges the code of an answer for an ID token, and begins the session. It throws a SignInError. */
export async function finishSignIn({ query, attempt }) {
  // An answer that this tab has not asked for would sign the user in as somebody else.
  if (!attempt || query.get('state') !== attempt.state) throw new SignInError('signIn.stray');
  if (query.has('iss') && query.get('iss') !== attempt.issuer) throw new SignInError('signIn.stray');
  if (query.has('error')) {
    throw new SignInError('signIn.refused', query.get('error_description') || query.get('error'));
  }
  const token = await exchange(query.get('code'), attempt);
  const claims = claimsOf(token);
  const audience = [claims.aud].flat();
  if (claims.nonce !== attempt.nonce || claims.iss !== attempt.issuer || !audience.includes(attempt.client)) {
    throw new SignInError('signIn.stray');
  }
  const me = await getJSON('/v1/me', { as: 'none', headers: { Authorization: `Bearer ${token}` } });
  setSession({
    token, expires: me.identity.expires, name: me.identity.name || me.identity.subject, role: me.role,
    projects: me.identity.projects, project: me.identity.projects[0]?.project ?? '',
  });
}

/** exchange returns the ID token for a code. */
async function exchange(code, { endpoint, client, verifier }) {
  const body = new URLSearchParams({
    grant_type: 'authorization_code', code, redirect_uri: returnTo(), client_id: client, code_verifier: verifier,
  });
  let answer;
  let value;
  try {
    answer = await fetch(endpoint, {
      method: 'POST', body, headers: { Accept: 'application/json' }, credentials: 'omit', redirect: 'error',
      referrerPolicy: 'no-referrer', cache: 'no-store', signal: AbortSignal.timeout(15_000),
    });
    value = await answer.json();
  } catch {
    throw new SignInError('signIn.noAnswer');
  }
  if (!answer.ok) throw new SignInError('signIn.refused', value.error_description || value.error);
  if (typeof value.id_token !== 'string') throw new SignInError('signIn.noToken');
  return value.id_token;
}

/** claimsOf reads the claims of a token. The masters check its signature. */
function claimsOf(token) {
  try {
    const payload = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    return JSON.parse(new TextDecoder().decode(fromBase64(payload)));
  } catch {
    throw new SignInError('signIn.noToken');
  }
}
