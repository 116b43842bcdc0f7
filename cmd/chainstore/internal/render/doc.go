// Package render shows results to people in a terminal: tables that fit its width, progress bars, help texts, and the
// words for what the integrity log holds. It also prints JSON lines for scripts. Texts that come from elsewhere, such
// as keys and URLs, are made safe to print with [Plain].
package render
