// The role of the admin token, which decides what a page offers. The masters decide what is permitted.

import { getJSON } from './api.js';
import { token } from './settings.js';

/** adminRole asks the masters for the role of the admin token: "admin", "operator" or "auditor". */
export const adminRole = async (signal) => (await getJSON('/v1/me', { as: 'admin', signal })).role;

/** mayChange reports whether there is an admin token with the role "admin". A token that is refused is none. */
export async function mayChange(signal) {
  if (!token('admin')) return false;
  try {
    return (await adminRole(signal)) === 'admin';
  } catch {
    return false;
  }
}
