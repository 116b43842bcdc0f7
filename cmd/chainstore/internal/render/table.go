package render

import (
	"fmt"
	"io"
	"strings"
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

// Row has the cells of a row of a table, strings or numbers.
type Row []any

// Rows returns the titles of a table's columns, and a row for each element of a list.
func Rows[T any](titles Row, list []T, row func(*T) Row) []Row {
	rows := []Row{titles}
	for i := range list {
		rows = append(rows, row(&list[i]))
	}
	return rows
}

// Table formats rows in columns, two spaces apart. Text from outside is made safe to print.
func Table(rows ...Row) string { return Fit(0, nil, rows...) }

// Fit is Table for a limited width. While the rows are wider, the cells of the columns in shrink are shortened, the
// widest first.
func Fit(width int, shrink []int, rows ...Row) string {
	return strings.Join(tableLines(width, shrink, rows), "")
}

// FitOrNone is Fit for titles and rows. Without rows the table is the first title and "none".
func FitOrNone(width int, shrink []int, rows ...Row) string {
	if len(rows) == 1 {
		return Table(Row{rows[0][0], "none"})
	}
	return Fit(width, shrink, rows...)
}

// minShrunk is the smallest width to which a table shortens a column.
const minShrunk = 12

func tableLines(width int, shrink []int, rows []Row) (lines []string) {
	widths := make([]int, len(rows[0]))
	total := 2*len(widths) - 2
	for _, row := range rows {
		for i, cell := range row {
			text := Plain(fmt.Sprint(cell))
			row[i] = text
			n := utf8.RuneCountInString(text)
			total += max(n-widths[i], 0)
			widths[i] = max(n, widths[i])
		}
	}
	for ; total > width; total-- {
		widest := -1
		for _, c := range shrink {
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
		line := ""
		for i, cell := range row {
			line += fmt.Sprintf("%-*s  ", widths[i], Elide(cell.(string), widths[i]))
		}
		lines = append(lines, strings.TrimRight(line, " ")+"\n")
	}
	return lines
}

// ID shortens the id of a node to the length of the longest one that the masters assign.
func ID(id string) string { return Elide(id, 16) }

// OrDash formats a number, or returns a dash for 0.
func OrDash(n uint64, format func(uint64) string) string {
	if n == 0 {
		return "-"
	}
	return format(n)
}
