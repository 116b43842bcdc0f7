// Texts of the console, from two dictionaries with the same keys.

import en from './i18n/en.js';
import zh from './i18n/zh.js';
import { chooseLanguage, chosenLanguage } from './settings.js';

const dictionaries = { en, zh };
const locales = { en: 'en-GB', zh: 'zh-CN' };

/** languages are the available languages, each with its own name. */
export const languages = { en: 'English', zh: '中文' };

let current = initial();

/** initial returns the chosen language, or else the browser's first available language. */
function initial() {
  const wanted = [chosenLanguage(), ...navigator.languages.map((l) => l.slice(0, 2).toLowerCase())];
  return wanted.find((l) => l in dictionaries) ?? 'en';
}

/** languageEvents fires "change" when the language changes. */
export const languageEvents = new EventTarget();

export const language = () => current;

/** applyLanguage sets the language of the document. */
export function applyLanguage() {
  document.documentElement.lang = locales[current];
}

export function setLanguage(name) {
  current = name;
  chooseLanguage(name);
  applyLanguage();
  languageEvents.dispatchEvent(new Event('change'));
}

/**
 * t returns the text of a key. {name} is replaced by a value, and {name|one|other} by the word for that number. Numbers
 * are formatted for the language.
 */
export function t(key, values = {}) {
  const text = dictionaries[current][key] ?? dictionaries.en[key];
  if (text === undefined) throw new Error(`no text for ${key}`);
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^|}]*))?\}/g, (_, name, one, other) => {
    const value = values[name];
    if (one !== undefined) return Number(value) === 1 ? one : other;
    return typeof value === 'number' ? number(value) : String(value);
  });
}

/** hasText reports whether there is a text of a key. */
export const hasText = (key) => key in dictionaries.en;

export const number = (n) => new Intl.NumberFormat(locales[current], { maximumFractionDigits: 1 }).format(n);

/** bytes formats a size in units of 1024. */
export function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${number(n)} ${units[unit]}`;
}

/** moment formats Unix milliseconds to the second, in the user's time zone. */
export const moment = (ms) =>
  new Intl.DateTimeFormat(locales[current], { dateStyle: 'medium', timeStyle: 'medium' }).format(new Date(ms));

/** ago formats the time since Unix milliseconds. */
export function ago(ms, now = Date.now()) {
  const seconds = Math.round((ms - now) / 1000);
  const format = new Intl.RelativeTimeFormat(locales[current], { numeric: 'auto', style: 'short' });
  const steps = [['second', 60], ['minute', 60], ['hour', 24], ['day', 30], ['month', 12], ['year', Infinity]];
  let value = Math.min(seconds, 0); // the masters' clock may be a little ahead of this one
  for (const [unit, size] of steps) {
    if (Math.abs(value) < size) return format.format(Math.round(value), unit);
    value /= size;
  }
  return moment(ms);
}
