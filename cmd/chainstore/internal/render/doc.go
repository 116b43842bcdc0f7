// Package render formats results for a terminal: tables that fit its width, progress bars, help texts, and texts for
// the codes of the integrity log. It also prints JSON lines for scripts. Text from outside, such as keys and URLs, is
// made safe to print with [Plain].
package render
