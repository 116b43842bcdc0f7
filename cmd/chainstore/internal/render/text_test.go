package render

import (
	"slices"
	"testing"
)

func TestElide(t *testing.T) {
	for _, test := range []struct {
		in    string
		width int
		want  string
	}{
		{"short", 5, "short"}, {"shorter", 5, "sh…er"}, {"shorter", 6, "sh…ter"}, {"äöüß", 3, "ä…ß"}, {"", 1, ""},
	} {
		if got := Elide(test.in, test.width); got != test.want {
			t.Errorf("%q to %d: %q, want %q", test.in, test.width, got, test.want)
		}
	}
}

func TestWrap(t *testing.T) {
	if got, want := Wrap("one two  three\nfour-is-long", 7),
		[]string{"one two", "three", "four-is-long"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Wrap(" ", 7); got != nil {
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
	if got, want := Plain("a\x1b[2J\x00\u009b\xffä…"), "a?[2J???ä…"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 5 << 30: "5.0 GiB",
		1<<64 - 1: "16.0 EiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
