package masterapi

import "testing"

func TestAccept(t *testing.T) {
	for _, c := range []struct {
		accept     string
		text, json bool // for a binary payload
	}{
		{"", false, false},
		{"*/*", false, false},
		{"text/plain", true, false},
		{"text/*", true, false},
		{"Text/Plain; charset=utf-8", true, false},
		{"application/json", false, true},
		{"APPLICATION/JSON", false, true},
		{"application/*", false, false}, // binary is acceptable too
		{"text/html, application/json", false, true},
		{"text/html, text/plain", true, false},
		{"application/json, text/plain, */*", false, true},
		{"text/plain, application/json, */*", true, true},
		{"*/*, text/plain", false, false},
		{"text/plain;q=0.1, application/json", false, true},
		{"application/json;q=0.1, text/plain;q=0.2", true, true},
		{"application/json;q=0.5, */*;q=0.6", true, false},
		{"*/*;q=0.6, application/json;q=0.7", false, true},
		{"text/plain;q=0, */*", false, false},
		{"application/json;q=0, */*", true, false},
		{"application/json;q=0", false, false},
		{"text/*;q=0.9, text/plain;q=0.1, application/json;q=0.5", false, true},
		{"text/plain;q=x, application/json;q=0.1", false, true},
		{"text/plain;q=NaN, application/json;q=2", false, false},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false, false},
		{",,;=, application/json", false, true},
		{"text/plain;level=1", true, false},
	} {
		if got := wantsText(c.accept); got != c.text {
			t.Errorf("Accept: %s: text for a proof: %v", c.accept, got)
		}
		if got := wantsJSON(c.accept, ""); got != c.json {
			t.Errorf("Accept: %s: the envelope: %v", c.accept, got)
		}
	}
	for _, c := range []struct {
		accept, payload string
		json            bool
	}{
		{"application/json", "application/json", true},
		{"*/*", "application/json", false},
		{"text/html, application/json", "text/html; charset=utf-8", false},
		{"text/html;q=0.5, application/json", "text/html", true},
		{"image/*, application/json", "image/png", false},
		{"application/json", "no type at all", true},
	} {
		if got := wantsJSON(c.accept, c.payload); got != c.json {
			t.Errorf("Accept: %s of a payload of %q: the envelope: %v", c.accept, c.payload, got)
		}
	}
}
