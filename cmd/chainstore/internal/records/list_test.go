package records

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

func TestPreview(t *testing.T) {
	for payload, want := range map[string]string{
		"hello":                                "hello",
		"two\nlines\x1b[2J":                    "two?lines?[2J",
		"\xff\xfe":                             "x/y",
		strings.Repeat("a", 100):               strings.Repeat("a", 39) + "…",
		strings.Repeat("链", 100):               strings.Repeat("链", 39) + "…",
		"a" + strings.Repeat("\U0001f512", 99): "a" + strings.Repeat("\U0001f512", 38) + "…",
	} {
		if got := preview(&wire.Record{Type: "x/y", Payload: []byte(payload)}); got != want {
			t.Errorf("%q: %q, want %q", payload, got, want)
		}
	}
}

// TestControlCharactersArePrintedSafely checks that no output prints the terminal control characters that the key and
// the type of an older record may contain.
func TestControlCharactersArePrintedSafely(t *testing.T) {
	text := "a\x00\n\x1b[2J\x7f\u009b1mä"
	r := wire.Record{Key: text, Type: text, Payload: []byte("\xff" + text)}
	var asJSON bytes.Buffer
	table := recordText(&r)
	if err := render.JSON(&asJSON, r); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{table, asJSON.String()} {
		for _, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
			if render.Plain(line) != line {
				t.Errorf("%q would steer a terminal", line)
			}
		}
	}
	if lines := strings.Count(table, "\n"); lines != 1 {
		t.Errorf("a row has %d lines: %q", lines, table)
	}
	var back wire.Record
	if err := json.Unmarshal(asJSON.Bytes(), &back); err != nil || back.Key != text || back.Type != text {
		t.Errorf("%+v, %v", back, err)
	}
}
