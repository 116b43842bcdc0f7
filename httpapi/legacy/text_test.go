package legacy

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzText checks that arbitrary bytes of a text survive the conversion to JSON and back, and that encoding/json reads
// the same text if it is valid UTF-8.
func FuzzText(f *testing.F) {
	for _, text := range []string{
		"", "plain", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "测试 😀", "\xff\xfe\x80", "\xed\xa0\xbd", "\xed\xb8\x80",
		"\xed\xa0\xbd\xed\xb8\x80", "\xed\xa0\xbd\xed\xa0\xbd\xed\xb8\x80",
		"\xed\xa0", "\xed",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		encoded := appendText(nil, text)
		if !json.Valid(encoded) {
			t.Fatalf("%q becomes no JSON: %q", text, encoded)
		}
		if back := parseText(encoded); back != string(text) {
			t.Fatalf("%q becomes %q and comes back as %q", text, encoded, back)
		}
		if !utf8.Valid(text) {
			return
		}
		var other string
		if err := json.Unmarshal(encoded, &other); err != nil || other != string(text) {
			t.Fatalf("encoding/json reads %q as %q, %v", encoded, other, err)
		}
	})
}

// FuzzParseText checks that parseText gives the same result as encoding/json for every text that encoding/json accepts
// without loss.
func FuzzParseText(f *testing.F) {
	for _, text := range []string{`"\ud83d\ude00"`, `"\u00e9\/\n"`, `"\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`,
		`"\ude00\ud83d"`, `""`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var body struct{ Text json.RawMessage }
		if json.Unmarshal(append(append([]byte(`{"text":`), raw...), '}'), &body) != nil || len(body.Text) == 0 ||
			body.Text[0] != '"' {
			return
		}
		got := parseText(body.Text)
		var want string
		if err := json.Unmarshal(body.Text, &want); err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(got) && got != want {
			t.Fatalf("%q: %q, want %q", raw, got, want)
		}
	})
}
