// The settings of the user. Theme and language are stored in this browser, and tokens only until the tab is closed.

/** remember reads a text from a storage, "" if there is none or storage is disabled. */
function remember(storage, key) {
  try {
    return globalThis[storage].getItem(key) ?? '';
  } catch {
    return '';
  }
}

/** keep writes a text to a storage; "" removes it. */
function keep(storage, key, text) {
  try {
    if (text) globalThis[storage].setItem(key, text);
    else globalThis[storage].removeItem(key);
  } catch {
    // The setting is kept until the page is left.
  }
}

export const themes = ['auto', 'light', 'dark'];

export function theme() {
  return document.documentElement.dataset.theme ?? 'auto';
}

export function setTheme(name) {
  if (name === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  keep('localStorage', 'chainstore.theme', name === 'auto' ? '' : name);
}

export const chosenLanguage = () => remember('localStorage', 'chainstore.language');
export const chooseLanguage = (language) => keep('localStorage', 'chainstore.language', language);

/** tokens are the two tokens of the console: a project token for records, and the admin token for the rest. */
const tokens = {
  project: remember('sessionStorage', 'chainstore.token.project'),
  admin: remember('sessionStorage', 'chainstore.token.admin'),
};

/** tokenEvents fires "change" when a token is set or removed, and "ended" when the session has ended by itself. */
export const tokenEvents = new EventTarget();

/**
 * signedIn is the session of a user who signed in at the issuer, null without one: {token, expires (ms), name, role,
 * projects: [{project, rights}], project (the chosen one)}.
 */
let signedIn = JSON.parse(remember('sessionStorage', 'chainstore.session') || 'null');

export const session = () => signedIn;

/** token returns the token of a slot: the one that was entered, else that of the session if it gives such rights. */
export function token(slot) {
  if (tokens[slot] || !signedIn) return tokens[slot];
  const gives = slot === 'admin' ? signedIn.role !== 'project' : signedIn.projects.length > 0;
  return gives ? signedIn.token : '';
}

/** entered returns the token that was entered for a slot. */
export const entered = (slot) => tokens[slot];

/** setSession begins, changes or, with null, ends the session. */
export function setSession(one) {
  signedIn = one;
  keep('sessionStorage', 'chainstore.session', one ? JSON.stringify(one) : '');
  tokenEvents.dispatchEvent(new Event('change'));
}

/** sessionEnded ends the session that a master refuses. The page that is open stays, with what was typed. */
export function sessionEnded() {
  signedIn = null;
  keep('sessionStorage', 'chainstore.session', '');
  tokenEvents.dispatchEvent(new Event('ended'));
}

/** keepForTab keeps a text until the tab is closed. */
export const keepForTab = (key, text) => keep('sessionStorage', key, text);

/** takeFromTab returns a text that was kept, and removes it. */
export function takeFromTab(key) {
  const text = remember('sessionStorage', key);
  keep('sessionStorage', key, '');
  return text;
}

export function setToken(slot, text) {
  tokens[slot] = text.trim();
  keep('sessionStorage', `chainstore.token.${slot}`, tokens[slot]);
  tokenEvents.dispatchEvent(new Event('change'));
}
