// Messages of the masters in the language of the page. The masters send codes with arguments, and English text.

import { hasText, number, t } from './i18n.js';

/** ranges formats ranges of blocks with an inclusive end. In the data a range ends before `to`. */
export const ranges = (all) =>
  all.map((r) => (r.to - r.from === 1 ? number(r.from) : `${number(r.from)}–${number(r.to - 1)}`)).join(', ');

/** message formats a coded message. Without a known code it returns the English text of the master. */
export function message(coded, text = '') {
  const key = `code.${coded?.code}`;
  if (!coded || !hasText(key)) return text || [coded?.code, coded?.args?.detail].filter(Boolean).join(': ');
  return t(`code.${coded.code}`,
    Object.fromEntries(Object.entries(coded.args ?? {}).map(([name, value]) => [name, argument(value)])));
}

function argument(value) {
  if (Array.isArray(value)) return value.every((one) => typeof one === 'string') ? value.join(', ') : ranges(value);
  return typeof value === 'object' ? message(value) : value;
}

/** noticesOf formats the notices of a response. */
export function noticesOf({ notices: texts, notices_coded: coded }) {
  const all = coded?.length === texts.length; // an older leader sends no codes
  return texts.map((text, i) => message(all ? coded[i] : null, text));
}
