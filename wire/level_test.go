package wire

import "testing"

// TestURLOfStep checks that a step changes the scheme of a URL, and neither its host nor its port.
func TestURLOfStep(t *testing.T) {
	for _, row := range []struct {
		step      TLSStep
		url, want string
	}{
		{TLSRequire, "http://a:8000", "https://a:8000"},
		{TLSRequire, "http://a", "https://a:80"},
		{TLSRequire, "http://a/", "https://a:80/"},
		{TLSRequire, "http://[2001:db8::1]", "https://[2001:db8::1]:80"},
		{TLSRequire, "http://[2001:db8::1]:8000", "https://[2001:db8::1]:8000"},
		{TLSRequire, "https://a", "https://a"},
		{TLSRequire, "", ""},
		{TLSRequire, "http://", "https://"},
		{TLSAccept, "https://a", "http://a:443"},
		{TLSPrefer, "https://a:8000", "http://a:8000"},
		{TLSPrefer, "http://a", "http://a"},
		{TLSByFlags, "http://a", "http://a"},
		{TLSByFlags, "https://a", "https://a"},
	} {
		got := row.step.URL(row.url)
		if got != row.want || row.step.URL(got) != got {
			t.Errorf("%s: %s is %s, want %s; and then %s", row.step.Name(), row.url, got, row.want, row.step.URL(got))
		}
	}
}
