package render

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Elide replaces the middle of s by an ellipsis if s is longer than width.
func Elide(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	head := (width - 1) / 2
	tail := width - 1 - head
	return string(runes[:head]) + "…" + string(runes[len(runes)-tail:])
}

// Wrap breaks a text at its spaces into lines of at most width characters. A longer word gets its own line.
func Wrap(text string, width int) (lines []string) {
	for _, word := range strings.Fields(text) {
		last := len(lines) - 1
		if last >= 0 && utf8.RuneCountInString(lines[last])+1+utf8.RuneCountInString(word) <= width {
			lines[last] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}

// Plain makes text from outside safe to print: characters that could control a terminal become question marks.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// JSON prints one value on one line.
func JSON(w io.Writer, v any) error {
	line, err := JSONLine(v)
	if err == nil {
		_, err = w.Write(line)
	}
	return err
}

// JSONLine returns a value as JSON on one line. Characters that could control a terminal are escaped:
// encoding/json does not escape DEL and the controls from U+0080 on. They occur only in strings.
func JSONLine(v any) ([]byte, error) {
	encoded, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	line := make([]byte, 0, len(encoded)+1)
	for _, r := range string(encoded) {
		if r >= 0x7f && r < 0xa0 {
			line = fmt.Appendf(line, `\u%04x`, r)
		} else {
			line = utf8.AppendRune(line, r)
		}
	}
	return append(line, '\n'), nil
}

// Print prints a result, as JSON on one line or as text.
func Print(w io.Writer, asJSON bool, result any, text string) error {
	if asJSON {
		return JSON(w, result)
	}
	_, err := io.WriteString(w, text)
	return err
}

// Number formats a number.
func Number(n uint64) string { return strconv.FormatUint(n, 10) }

// Bytes formats a number of bytes with a binary unit.
func Bytes[N int | int64 | uint64](n N) string {
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

// Count formats a number with its noun. Only an irregular plural is given.
func Count[N int | int64 | uint64](n N, noun string, plural ...string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %s", n, append(plural, noun+"s")[0])
}

// Ago formats the time since ms, unix milliseconds of the cluster, whose clock may differ a little.
func Ago(ms uint64, now time.Time) string {
	if ms == 0 {
		return "never"
	}
	d := max(0, now.Sub(time.UnixMilli(int64(ms))))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}

// Millis formats a duration in milliseconds.
func Millis(ms uint64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d < time.Second:
		return d.String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// WriteWrapped writes text from outside after a mark, in lines of at most width characters.
func WriteWrapped(b *strings.Builder, mark, text string, width int) {
	for _, line := range Wrap(Plain(text), width-len(mark)) {
		b.WriteString(mark + line + "\n")
		mark = strings.Repeat(" ", len(mark))
	}
}

// reflow breaks paragraphs into lines of at most width characters. Lines that start with a space do not change.
func reflow(text string, width int) string {
	var lines, paragraph []string
	flush := func() {
		lines = append(lines, Wrap(strings.Join(paragraph, " "), width)...)
		paragraph = nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" && line[0] != ' ' {
			paragraph = append(paragraph, line)
			continue
		}
		flush()
		lines = append(lines, line)
	}
	flush()
	return strings.Join(lines, "\n")
}

// LocalTime formats a time of the chain, unix milliseconds, as RFC 3339 in the local zone.
func LocalTime(ms uint64) string { return time.UnixMilli(int64(ms)).Format(time.RFC3339) }
