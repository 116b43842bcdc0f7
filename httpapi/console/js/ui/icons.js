// Icons, drawn on a grid of 16 × 16.

import { s } from './dom.js';

const paths = {
  copy: 'M5.5 5.5V3.5a1 1 0 0 1 1-1h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1h-2M3.5 5.5h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1h-6a1 ' +
    '1 0 0 1-1-1v-6a1 1 0 0 1 1-1z',
  check: 'M3 8.5l3.200 3.200L13 4.800',
  cross: 'M4 4l8 8M12 4l-8 8',
  key: 'M7.7 8a2.7 2.7 0 1 1-5.4 0a2.7 2.7 0 0 1 5.4 0zM7.7 8h6.1v2.4M11 8v2',
  light: 'M8 5.200a2.800 2.800 0 1 1 0 5.600 2.800 2.800 0 0 1 0-5.600M8 1.5v1.300M8 13.200v1.300M1.5 ' +
    '8h1.300M13.200 8h1.300M3.400 3.400l.9.9M11.700 11.700l.9.9M3.400 12.600l.9-.9M11.700 4.300l.9-.9',
  dark: 'M13.200 9.600A5.600 5.600 0 0 1 6.400 2.800a5.600 5.600 0 1 0 6.800 6.800z',
  auto: 'M8 2.200a5.800 5.800 0 1 0 0 11.600zM8 2.200a5.800 5.800 0 1 1 0 11.600',
  back: 'M9.5 3.5L5 8l4.5 4.5',
  next: 'M6.5 3.5L11 8l-4.5 4.5',
  download: 'M8 2.5v7.5M4.800 7L8 10.200 11.200 7M2.800 13.300h10.400',
  warn: 'M8 2.5l6 10.800H2zM8 6.5v3M8 11.5h.01',
  lock: 'M4 7.5h8a.8.8 0 0 1 .8.8v4.400a.8.8 0 0 1-.8.8H4a.8.8 0 0 1-.8-.8V8.300a.8.8 0 0 1 .8-.8zM5.300 ' +
    '7.5V5.200a2.700 2.700 0 0 1 5.400 0v2.300',
};

/** icon draws an icon. It is decorative: the text beside it or the label of its button has the meaning. */
export const icon = (name) =>
  s('svg', { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true', focusable: 'false' },
    s('path', { d: paths[name] }));
