package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// standardWidth is the width that tables fit where there is no terminal, or a narrower one.
const standardWidth = 80

// widthOf is the number of columns that output to w may use.
func widthOf(w io.Writer) int {
	if f, ok := w.(interface{ Fd() uintptr }); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return max(width, standardWidth)
		}
	}
	return standardWidth
}

// isTerminal reports whether a stream is one.
func isTerminal(stream any) bool {
	f, ok := stream.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// printRows prints rows in columns, two spaces apart.
func printRows(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(t, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

// sheet gathers a list of things that comes page by page: printed at once as JSON, one object a line, or kept as the rows of a table.
type sheet struct {
	out    io.Writer
	asJSON bool
	rows   [][]string
}

func newSheet(out io.Writer, asJSON bool, titles ...string) *sheet {
	return &sheet{out: out, asJSON: asJSON, rows: [][]string{titles}}
}

// add takes one thing and the cells of its row.
func (l *sheet) add(v any, cells ...string) error {
	if l.asJSON {
		return printJSON(l.out, v)
	}
	l.rows = append(l.rows, cells)
	return nil
}

// print prints the table, with the given columns shortened where it would be too wide.
func (l *sheet) print(shrink ...int) error {
	if l.asJSON {
		return nil
	}
	fit(l.rows, widthOf(l.out), shrink...)
	return printRows(l.out, l.rows)
}

// minShrunk is how far fit shortens a column.
const minShrunk = 12

// fit shortens the cells of some columns, the widest first, so that the rows take no more than width.
func fit(rows [][]string, width int, columns ...int) {
	var widths []int
	total := -2
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
				total += 2
			}
			n := utf8.RuneCountInString(cell)
			total += max(n-widths[i], 0)
			widths[i] = max(n, widths[i])
		}
	}
	for ; total > width; total-- {
		widest := -1
		for _, c := range columns {
			if widths[c] > minShrunk && (widest < 0 || widths[c] > widths[widest]) {
				widest = c
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	for _, row := range rows {
		for _, c := range columns {
			row[c] = elide(row[c], widths[c])
		}
	}
}

// elide takes letters from the middle of s where it is longer than width.
func elide(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	head := (width - 1) / 2
	tail := width - 1 - head
	return string(runes[:head]) + "…" + string(runes[len(runes)-tail:])
}

// wrap breaks a text into lines of at most width letters at its spaces; a longer word stands alone.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// plain makes a text from elsewhere fit to be shown: what could steer a terminal is shown as a question mark.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// bytesText is an amount of bytes for people.
func bytesText[N int | int64 | uint64](n N) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1023.95 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", v, units[unit])
}

// counted is a number with its noun.
func counted[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// addJSON gives a command the flag --json.
func addJSON(cmd *cobra.Command, to *bool, usage string) {
	cmd.Flags().BoolVar(to, "json", false, usage)
}

// printJSON prints one value on one line. What could steer a terminal is escaped: encoding/json leaves DEL and the
// controls from U+0080 on as they are, and they stand in strings alone.
func printJSON(w io.Writer, v any) error {
	encoded, err := json.Marshal(v)
	if err != nil {
		return err
	}
	line := make([]byte, 0, len(encoded)+1)
	for _, r := range string(encoded) {
		if r >= 0x7f && r < 0xa0 {
			line = fmt.Appendf(line, `\u%04x`, r)
		} else {
			line = utf8.AppendRune(line, r)
		}
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
