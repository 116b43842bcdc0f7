package masterapi_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// safeAnswer fails the test for an answer without the headers that keep a browser from misusing it.
func safeAnswer(t testing.TB, name string, h http.Header) {
	t.Helper()
	for _, header := range []string{"X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy",
		"Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy"} {
		if len(h.Values(header)) != 1 {
			t.Errorf("%s: %s is %q", name, header, h.Values(header))
		}
	}
	policy := h.Get("Content-Security-Policy")
	if !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("%s: the policy is %q", name, policy)
	}
	if h.Get("Cache-Control") == "" || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%s: %v", name, h)
	}
}

// otherSites checks that a page of another site can do nothing without a token, be it by its own name or by DNS
// rebinding, and that programs and the pages of masters can.
func (c *cluster) otherSites(token string) {
	own, second := c.file.Masters[0], c.file.Masters[1]
	at, err := url.Parse(own)
	if err != nil {
		c.t.Fatal(err)
	}
	local, evil := "localhost:"+at.Port(), "evil.example:"+at.Port()
	const stranger = "http://stranger.example"
	mozilla := "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	writes := map[string]string{
		"/v1/projects": `{"name":"page NUMBER"}`, "/admin/project": `{"projectName":"page NUMBER","isPrivate":true}`,
		"/saveInfo": `{"info":"x"}`, "/data": `{"token":"` + token + `","info":"x"}`,
	}
	number := 0
	for name, row := range map[string]struct {
		headers       map[string]string
		writes, reads bool
	}{
		"curl":                        {nil, true, true},
		"curl by another name":        {map[string]string{"Host": evil, "User-Agent": "curl/8.14.1"}, true, true},
		"its own page":                {map[string]string{"Origin": own, "Sec-Fetch-Site": "same-origin"}, true, true},
		"its own page, older browser": {map[string]string{"Origin": own}, true, true},
		"its own page as localhost":   {map[string]string{"Host": local, "Origin": "http://" + local}, true, true},
		"another master's page":       {map[string]string{"Origin": second, "Sec-Fetch-Site": "same-site"}, true, true},
		"a bookmark":                  {map[string]string{"Sec-Fetch-Site": "none", "User-Agent": mozilla}, true, true},
		// Without CORS headers the browser keeps what was read from the page.
		"a stranger's page":    {map[string]string{"Origin": stranger, "Sec-Fetch-Site": "cross-site"}, false, true},
		"older browser":        {map[string]string{"Origin": stranger}, false, true},
		"a page of no origin":  {map[string]string{"Origin": "null"}, false, true},
		"a form, no origin":    {map[string]string{"Sec-Fetch-Site": "cross-site"}, false, true},
		"the same machine":     {map[string]string{"Origin": "http://127.0.0.1:1"}, false, true},
		"DNS rebinding":        {map[string]string{"Host": evil, "Origin": "http://" + evil}, false, false},
		"rebinding, no Origin": {map[string]string{"Host": evil, "User-Agent": mozilla}, false, false},
		"rebinding, no port":   {map[string]string{"Host": "evil.example", "User-Agent": mozilla}, false, false},
		"a longer name":        {map[string]string{"Host": "localhost.evil", "User-Agent": mozilla}, false, false},
	} {
		try := func(method, path, token, body string, want int) {
			number++
			body = strings.ReplaceAll(body, "NUMBER", fmt.Sprint(number))
			if got := c.fromPage(row.headers, method, path, token, body); got != want {
				c.t.Errorf("%s: %s %s is answered with %d, want %d", name, method, path, got, want)
			}
		}
		for path, body := range writes {
			want := http.StatusForbidden
			if row.writes && strings.Contains(path, "project") {
				want = http.StatusCreated
			} else if row.writes {
				want = http.StatusOK
			}
			try("POST", path, "", body, want)
		}
		read := http.StatusForbidden
		if row.reads {
			read = http.StatusOK
		}
		try("GET", "/admin/project", "", "", read)
		try("GET", "/metrics", "", "", read)
		// These routes read no token, so one that a page makes up must not open them.
		try("GET", "/metrics", "made up", "", read)
		try("GET", "/admin/project", "made up", "", read)
		if !row.writes {
			try("POST", "/saveInfo", "made up", `{"info":"x"}`, http.StatusForbidden)
		}
		try("GET", "/livez", "", "", 200)
		try("GET", "/v1/me", token, "", 200)
		try("POST", "/v1/records", token, "x", 201)
	}
}

// pagesOfProxy checks that pages of a proxy log.example, which --browser-host names, need no token either.
func (c *cluster) pagesOfProxy() {
	for i, row := range []struct {
		host, origin string
		want         int
	}{
		{"log.example", "https://log.example", 201},      // the proxy passes its own name on
		{"127.0.0.1:8000", "https://log.example", 201},   // it does not
		{"log.example", "https://evil.example", 403},     // a page of another site
		{"evil.log.example", "https://log.example", 403}, // and a name that nobody gave
	} {
		headers := map[string]string{"Host": row.host, "Origin": row.origin}
		body := fmt.Sprintf(`{"name":"by proxy %d"}`, i)
		if got := c.fromPage(headers, "POST", "/v1/projects", "", body); got != row.want {
			c.t.Errorf("to %s, of a page of %s: %d, want %d", row.host, row.origin, got, row.want)
		}
	}
}

// fromPage sends a request with headers as a browser sets them, and returns the status of the answer.
func (c *cluster) fromPage(headers map[string]string, method, path, token, body string) int {
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.file.Masters[0]+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	r.Host = headers["Host"] // the URL's where it is empty
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	safeAnswer(c.t, method+" "+path, answer.Header)
	return answer.StatusCode
}

// anyPage checks that a page of any origin may read what proves the log, without the browser's credentials, or that
// none may where the log is private.
func (c *cluster) anyPage(private bool) {
	const stranger = "https://auditor.example"
	for _, path := range []string{"/checkpoint", "/tile/0/000.p/1", "/tile/entries/000.p/1", "/v1/log",
		"/v1/consistency?from=0", "/v1/consistency?from=x"} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			r, err := http.NewRequestWithContext(c.t.Context(), method, c.file.Masters[0]+path, nil)
			if err != nil {
				c.t.Fatal(err)
			}
			r.Header.Set("Origin", stranger)
			if method == http.MethodOptions {
				r.Header.Set("Access-Control-Request-Method", "GET")
				r.Header.Set("Access-Control-Request-Headers", "If-None-Match")
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				c.t.Fatal(err)
			}
			_ = answer.Body.Close()
			h, want := answer.Header, "*"
			if private {
				want = ""
			}
			if h.Get("Access-Control-Allow-Origin") != want || h.Get("Access-Control-Allow-Credentials") != "" {
				c.t.Errorf("%s %s is answered with %v", method, path, h)
			}
			asked := method == http.MethodOptions && !private
			if asked != (answer.StatusCode == http.StatusNoContent) ||
				asked != (h.Get("Access-Control-Allow-Methods") == "GET, HEAD") {
				c.t.Errorf("%s %s: %s, %v", method, path, answer.Status, h)
			}
		}
	}
}
