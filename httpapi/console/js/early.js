// Runs before anything is drawn: the theme that was chosen here, so that the page does not flash in the other one.
try {
  const theme = localStorage.getItem('chainstore.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage is turned off: the system's theme it is.
}
