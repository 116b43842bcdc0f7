package render

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"golang.org/x/term"
)

// StandardWidth is the width that tables fit where there is no terminal, or a narrower one.
const StandardWidth = 80

// Width is the number of columns that output to w may use.
func Width(w io.Writer) int {
	if f, ok := w.(interface{ Fd() uintptr }); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return max(width, StandardWidth)
		}
	}
	return StandardWidth
}

// IsTerminal reports whether a stream is one.
func IsTerminal(stream any) bool {
	f, ok := stream.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// Rows prints rows in columns, two spaces apart.
func Rows(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(t, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

// sheet gathers a list of things that comes page by page: printed at once as JSON, one object a line, or kept as the
// rows of a table.
type Sheet struct {
	out    io.Writer
	asJSON bool
	rows   [][]string
}

func NewSheet(out io.Writer, asJSON bool, titles ...string) *Sheet {
	return &Sheet{out: out, asJSON: asJSON, rows: [][]string{titles}}
}

// add takes one thing and the cells of its row.
func (l *Sheet) Add(v any, cells ...string) error {
	if l.asJSON {
		return JSON(l.out, v)
	}
	l.rows = append(l.rows, cells)
	return nil
}

// print prints the table, with the given columns shortened where it would be too wide.
func (l *Sheet) Print(shrink ...int) error {
	if l.asJSON {
		return nil
	}
	Fit(l.rows, Width(l.out), shrink...)
	return Rows(l.out, l.rows)
}

// minShrunk is how far fit shortens a column.
const minShrunk = 12

// fit shortens the cells of some columns, the widest first, so that the rows take no more than width.
func Fit(rows [][]string, width int, columns ...int) {
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
			row[c] = Elide(row[c], widths[c])
		}
	}
}

// MaxID is the length of the longest id that the masters give.
const MaxID = 16
