package render

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"golang.org/x/term"
)

// StandardWidth is the smallest width that tables are fitted to. It is also used without a terminal.
const StandardWidth = 80

// Width returns the number of columns that output to w may use.
func Width(w io.Writer) int {
	if f, ok := w.(interface{ Fd() uintptr }); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return max(width, StandardWidth)
		}
	}
	return StandardWidth
}

// IsTerminal reports whether a stream is a terminal.
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

// Sheet prints a list that arrives in pages, either at once as JSON, one object a line, or at the end as a table.
type Sheet struct {
	out    io.Writer
	asJSON bool
	rows   [][]string
}

// NewSheet makes a list with the titles of its columns.
func NewSheet(out io.Writer, asJSON bool, titles ...string) *Sheet {
	return &Sheet{out: out, asJSON: asJSON, rows: [][]string{titles}}
}

// Add adds one value and the cells of its row.
func (l *Sheet) Add(v any, cells ...string) error {
	if l.asJSON {
		return JSON(l.out, v)
	}
	l.rows = append(l.rows, cells)
	return nil
}

// Print prints the table. If it is too wide, the given columns are shortened.
func (l *Sheet) Print(shrink ...int) error {
	if l.asJSON {
		return nil
	}
	Fit(l.rows, Width(l.out), shrink...)
	return Rows(l.out, l.rows)
}

// minShrunk is the smallest width to which Fit shortens a column.
const minShrunk = 12

// Fit shortens the cells of some columns, the widest first, so that the rows take no more than width.
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

// MaxID is the length of the longest id that the masters assign.
const MaxID = 16
