package console

import (
	"net/http"
	"testing"
)

func TestAllowOrigin(t *testing.T) {
	masters := func() []string { return []string{"http://10.0.0.1:8000", "http://10.0.0.2:8000/"} }
	reached := false
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if AllowOrigin(masters, w.Header(), r) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		reached = true
		w.WriteHeader(http.StatusTeapot)
	})
	const (
		asked  = "Access-Control-Request-Method"
		first  = "http://10.0.0.1:8000"
		second = "http://10.0.0.2:8000"
	)
	ask := func(origin string) []string { return []string{"Origin", origin, asked, "POST"} }
	for name, row := range map[string]struct {
		method, path string
		headers      []string
		allow        string // Access-Control-Allow-Origin, "" for none
		status       int
	}{
		"a master's page":              {"GET", "/v1/cluster", []string{"Origin", second}, second, 418},
		"a master's page appends":      {"POST", "/v1/records", []string{"Origin", first}, first, 418},
		"a master's page asks":         {"OPTIONS", "/v1/records", ask(second), second, 204},
		"OPTIONS that asks nothing":    {"OPTIONS", "/v1/records", []string{"Origin", second}, second, 418},
		"another port":                 {"GET", "/v1/cluster", []string{"Origin", "http://10.0.0.2:8001"}, "", 418},
		"another scheme":               {"GET", "/v1/cluster", []string{"Origin", "https://10.0.0.2:8000"}, "", 418},
		"a host with a longer name":    {"GET", "/v1/cluster", []string{"Origin", second + ".example"}, "", 418},
		"a stranger asks":              {"OPTIONS", "/v1/records", ask("http://x.example"), "", 418},
		"no origin":                    {"GET", "/v1/cluster", nil, "", 418},
		"a page without an origin":     {"GET", "/v1/cluster", []string{"Origin", "null"}, "", 418},
		"a route between nodes":        {"GET", "/internal/v1/state", []string{"Origin", second}, "", 418},
		"a route between nodes, asked": {"OPTIONS", "/internal/v1/state", ask(second), "", 418},
	} {
		reached = false
		w := get(h, row.method, row.path, row.headers...)
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != row.allow || w.Code != row.status {
			t.Errorf("%s: status %d, allowed %q; want %d, %q", name, w.Code, got, row.status, row.allow)
		}
		if reached != (row.status == http.StatusTeapot) {
			t.Errorf("%s: the API was reached: %v", name, reached)
		}
		if w.Header().Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: the browser's own credentials are let in", name)
		}
		if v1 := row.path[:4] == "/v1/"; v1 != (w.Header().Get("Vary") == "Origin") {
			t.Errorf("%s: Vary is %q", name, w.Header().Get("Vary"))
		}
	}
}
