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

/** tokenEvents fires "change" when a token is set or removed. */
export const tokenEvents = new EventTarget();

export const token = (slot) => tokens[slot];

export function setToken(slot, text) {
  tokens[slot] = text.trim();
  keep('sessionStorage', `chainstore.token.${slot}`, tokens[slot]);
  tokenEvents.dispatchEvent(new Event('change'));
}
