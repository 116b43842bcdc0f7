package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

func TestElide(t *testing.T) {
	for _, test := range []struct {
		in    string
		width int
		want  string
	}{
		{"short", 5, "short"}, {"shorter", 5, "sh…er"}, {"shorter", 6, "sh…ter"}, {"äöüß", 3, "ä…ß"}, {"", 1, ""},
	} {
		if got := elide(test.in, test.width); got != test.want {
			t.Errorf("%q to %d: %q, want %q", test.in, test.width, got, test.want)
		}
	}
}

func TestWrap(t *testing.T) {
	if got, want := wrap("one two  three\nfour-is-long", 7), []string{"one two", "three", "four-is-long"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := wrap(" ", 7); got != nil {
		t.Errorf("%q of nothing", got)
	}
}

func TestReflow(t *testing.T) {
	in := "one two three\nfour\n\n  as it is, however long\n\nfive"
	if got, want := reflow(in, 9), "one two\nthree\nfour\n\n  as it is, however long\n\nfive"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPlain(t *testing.T) {
	if got, want := plain("a\x1b[2J\x00\u009b\xffä…"), "a?[2J???ä…"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A record of an older cluster may hold in its key and type what steers a terminal: neither form prints it.
func TestControlCharactersArePrintedSafely(t *testing.T) {
	text := "a\x00\n\x1b[2J\x7f\u009b1mä"
	r := wire.Record{Key: text, Type: text, Payload: []byte("\xff" + text)}
	var table, asJSON bytes.Buffer
	if err := (&recordTable{out: &table}).print(&r); err != nil {
		t.Fatal(err)
	}
	if err := printJSON(&asJSON, r); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{table.String(), asJSON.String()} {
		for _, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
			if plain(line) != line {
				t.Errorf("%q would steer a terminal", line)
			}
		}
	}
	if lines := strings.Count(table.String(), "\n"); lines != 2 {
		t.Errorf("a row and its head are %d lines: %q", lines, table.String())
	}
	var back wire.Record
	if err := json.Unmarshal(asJSON.Bytes(), &back); err != nil || back.Key != text || back.Type != text {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 5 << 30: "5.0 GiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
