package wire

import (
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// TestClosingText compares the statement that a log is closed with a vector, and refuses everything that is nearly one.
func TestClosingText(t *testing.T) {
	c := Closing{Origin: "example.com/log", Size: 12345, Root: chain.Hash{1, 2, 3}, Reason: "backup of the key stolen"}
	const text = "chainstore-log-closing/v1\nexample.com/log\n12345\nAQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" +
		"backup of the key stolen\n"
	if got := c.Text(); got != text {
		t.Fatalf("%q, want %q", got, text)
	}
	if back, err := ParseClosing(text); err != nil || back != c {
		t.Errorf("%+v, %v", back, err)
	}
	for what, change := range map[string][2]string{
		"another version":  {"/v1", "/v2"},
		"zero before size": {"12345", "012345"},
		"sign":             {"12345", "+12345"},
		"no size":          {"12345", ""},
		"size too large":   {"12345", "18446744073709551616"},
		"short root":       {"AQIDAAAA", ""},
		"bits of base64":   {"AAA=\n", "AAB=\n"},
		"no reason":        {"backup of the key stolen", ""},
		"control in it":    {"backup", "\x1b[2J"},
		"separator":        {"of the", "of\u2028the"},
		"line more":        {"stolen\n", "stolen\n\n"},
		"line less":        {"\nbackup of the key stolen", ""},
		"carriage return":  {"log\n", "log\r\n"},
		"no end":           {"stolen\n", "stolen"},
	} {
		if bad := strings.Replace(text, change[0], change[1], 1); bad == text {
			t.Fatalf("%s changes nothing", what)
		} else if c, err := ParseClosing(bad); err == nil && c.Text() != bad {
			t.Errorf("%s: two texts for %+v", what, c)
		} else if err == nil && what != "carriage return" {
			t.Errorf("%s is accepted", what)
		}
	}
}

func FuzzParseClosing(f *testing.F) {
	f.Add((&Closing{Origin: "o", Size: 1, Reason: "r"}).Text())
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ParseClosing(text); err == nil && c.Text() != text {
			t.Errorf("%q is read as %+v, whose text is %q", text, c, c.Text())
		}
	})
}
