package masterapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi/masterapi"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// call sends a request of a client of the original API, byte for byte, to master i.
func (c *cluster) call(i int, method, path, contentType, body string, status int) []byte {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.file.Masters[i%len(c.file.Masters)]+path,
		strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != status || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		c.t.Fatalf("%s %s %.200s: %d %q, want %d: %s", method, path, body, resp.StatusCode,
			resp.Header.Get("Content-Type"), status, answer)
	}
	return answer
}

func decodeInto[T any](c *cluster, data []byte) T {
	c.t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		c.t.Fatalf("%v: %s", err, data)
	}
	return v
}

// The responses of the original API, with exactly its fields.
type (
	originalPlace struct {
		BlockIndex *uint64
		Offset     *uint32
	}
	originalSaved struct {
		BlockIndex          *uint64
		BlockOffset, Offset *uint32
	}
	originalList struct {
		List []struct {
			ID             uint32
			Name, Token    string
			InfoAddedCount uint64
			IsPrivate      bool
		}
	}
)

// originalClients sends the requests of the original's web page and of its provenance application.
func (c *cluster) originalClients() {
	const page = "application/json;charset=UTF-8"
	var created struct{ Token string }
	json.Unmarshal(c.call(0, "POST", "/admin/project", page, `{"projectName":"溯源","isPrivate":true}`, 201), &created)
	place := decodeInto[originalPlace](c,
		c.call(1, "POST", "/data", page, fmt.Sprintf(`{"token":%q,"info":"批次 7: 出厂 \u2713"}`, created.Token), 200))
	found := func(i int, token string, status int) []byte {
		query := fmt.Sprintf("/data?blockIndex=%d&offset=%d&token=%s", *place.BlockIndex, *place.Offset,
			url.QueryEscape(token))
		return c.call(i, "GET", query, "", "", status)
	}
	for i := range 3 {
		if got := decodeInto[struct{ Info string }](c, found(i, created.Token, 200)); got.Info != "批次 7: 出厂 ✓" {
			c.t.Errorf("from master %d: %q", i, got.Info)
		}
	}
	found(0, "nobody", 401)
	found(1, c.file.Tokens.Project, 403)

	listed := false
	for _, p := range decodeInto[originalList](c, c.call(2, "GET", "/admin/project", "", "", 200)).List {
		if p.Token != "" {
			c.t.Errorf("project %d is listed with a token", p.ID)
		}
		listed = listed || p.Name == "溯源" && p.InfoAddedCount == 1 && p.IsPrivate
	}
	if !listed {
		c.t.Error("the project is not listed as it is")
	}
	c.provenance()
	c.texts(created.Token)
}

// provenance sends the requests of the provenance application: many concurrent ones, while the project of its records
// does not exist yet.
func (c *cluster) provenance() {
	var wg sync.WaitGroup
	saved := make([]originalSaved, 9)
	for i := range saved {
		wg.Go(func() {
			resp, err := http.Post(c.file.Masters[i%3]+"/saveInfo", "application/json",
				strings.NewReader(fmt.Sprintf(`{ "info" : "step %d" }`, i)))
			if err != nil {
				c.t.Error(err)
				return
			}
			defer resp.Body.Close()
			if err := json.NewDecoder(resp.Body).Decode(&saved[i]); err != nil || resp.StatusCode != 200 {
				c.t.Errorf("%d, %v", resp.StatusCode, err)
			}
		})
	}
	wg.Wait()
	for i, s := range saved {
		if s.BlockIndex == nil || s.BlockOffset == nil || s.Offset == nil || *s.Offset != *s.BlockOffset {
			c.t.Fatalf("saved at %+v", s)
		}
		// The application writes the ampersand twice.
		path := fmt.Sprintf("/findBlockInfo?blockIndex=%d&&blockOffset=%d", *s.BlockIndex, *s.BlockOffset)
		if got := decodeInto[struct{ Data string }](c,
			c.call(i+1, "GET", path, "", "", 200)); got.Data != fmt.Sprintf("step %d", i) {
			c.t.Errorf("record %d is %q", i, got.Data)
		}
	}
	// It also sends JSON within JSON, without escaping the inner quotes.
	paper := `{"writer":"law121212","title":"溯源 \"7\"","content":"}"}`
	at := decodeInto[originalSaved](c, c.call(0, "POST", "/saveInfo", "application/json; charset=UTF-8",
		`{ "info" : "`+paper+`" }`, 200))
	found := c.call(1, "GET", fmt.Sprintf("/findBlockInfo?blockIndex=%d&&blockOffset=%d", *at.BlockIndex,
		*at.BlockOffset), "", "", 200)
	if got := decodeInto[struct{ Data string }](c, found); got.Data != paper {
		c.t.Errorf("a bare text came back as %q", got.Data)
	}
	legacy := answer[wire.Project](c, 0, request{method: "GET", path: "/v1/projects/legacy",
		token: c.file.Tokens.Project, status: 200})
	if !legacy.Public || legacy.Records != 10 {
		c.t.Errorf("the legacy project: %+v", legacy)
	}
	// Only the administrator may use that name. Without a token no other project is readable, even if it is public.
	c.call(0, "POST", "/admin/project", "", `{"projectName":"legacy"}`, 409)
	c.do(1, request{name: "legacy", method: "POST", path: "/v1/projects", body: `{"name":"legacy"}`, status: 409,
		problem: wire.ErrNameTaken.Name})
	public := c.newProject("public and another", true)
	of := c.append(public.Token, "for those with a token")
	c.call(0, "GET", fmt.Sprintf("/findBlockInfo?blockIndex=%d&blockOffset=%d", of.Block, of.Offset), "", "", 403)
	c.call(0, "GET", "/findBlockInfo?blockIndex=0&blockOffset=0", "", "", 403)
	setPublic := func(public bool) {
		path := "/v1/projects/legacy"
		c.do(0, request{name: path, method: "PATCH", path: path, token: c.file.Tokens.Admin,
			body: fmt.Sprintf(`{"public":%v}`, public), status: 200})
		answer[wire.Project](c, 0, request{method: "GET", path: path, token: c.file.Tokens.Admin, status: 200})
	}
	setPublic(false)
	path := fmt.Sprintf("/findBlockInfo?blockIndex=%d&blockOffset=%d", *saved[0].BlockIndex, *saved[0].BlockOffset)
	c.call(0, "GET", path, "", "", 403)
	c.call(0, "POST", "/saveInfo", "", `{"info":"x"}`, 403)
	setPublic(true)
	c.call(0, "GET", path, "", "", 200)
}

// texts appends texts in many different encodings, and checks that each is returned with its intended content, byte for
// byte.
func (c *cluster) texts(token string) {
	long := strings.Repeat("长", 50_000)
	for i, row := range []struct{ contentType, body, want string }{
		{"application/json", `{"token":"TOKEN","info":"plain"}`, `"plain"`},
		{"", `{"token":"TOKEN","info":"no content type"}`, `"no content type"`},
		{"text/plain;charset=ISO-8859-1", `{"info":"another","token":"TOKEN","more":[1]}`, `"another"`},
		{"application/json; charset", `{"token":"TOKEN","info":"half a type"}`, `"half a type"`},
		{"application/json", `{"token":"TOKEN","info":"a \"b\" \\ \/ \t\n\r\b\f\u0000 <&>"}`,
			`"a \"b\" \\ / \u0009\u000a\u000d\u0008\u000c\u0000 <&>"`},
		{"application/json", `{"token":"TOKEN","info":"{\"uid\":\"law121212\"}"}`, `"{\"uid\":\"law121212\"}"`},
		{"application/json", "{\"token\":\"TOKEN\",\"info\":\"GBK \xb2\xe2\xca\xd4 \xff\"}",
			"\"GBK \xb2\xe2\xca\xd4 \xff\""},
		{"application/json", `{"token":"TOKEN","info":"\ud83d\ude00 and half \ud83d or \ude00 \ud83dx\ud83d"}`,
			`"😀 and half \ud83d or \ude00 \ud83dx\ud83d"`},
		{"application/json", `{"token":"TOKEN","info":"` + long + `"}`, `"` + long + `"`},
		{"application/x-www-form-urlencoded; charset=UTF-8", "token=TOKEN&info=a+form+%E6%B5%8B%FF",
			"\"a form 测\xff\""},
	} {
		body := strings.ReplaceAll(row.body, "TOKEN", token)
		at := decodeInto[originalPlace](c, c.call(i, "POST", "/data", row.contentType, body, 200))
		path := fmt.Sprintf("/data?blockIndex=%d&offset=%d&token=%s", *at.BlockIndex, *at.Offset, token)
		if got := string(c.call(i+1, "GET", path, "", "", 200)); got != `{"info":`+row.want+`}` {
			c.t.Errorf("%.100q came back as %.200q", row.body, got)
		}
	}
}

func (c *cluster) originalErrors() {
	own := c.file.Tokens.Project
	reader := c.newToken("default", wire.RightRead).Token
	for i, row := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/data", `{"token":"nobody","info":"x"}`, 403},
		{"POST", "/data", `{"info":"x"}`, 403},
		{"POST", "/data", `{"token":"` + reader + `","info":"x"}`, 403},
		{"POST", "/data", `{"token":"` + own + `","info":""}`, 400},
		{"POST", "/data", `{"token":"` + own + `"}`, 400},
		{"POST", "/data", `{"token":"` + own + `","info":7}`, 400},
		{"POST", "/data", `{"token":7,"info":"x"}`, 400},
		{"POST", "/data", `not JSON`, 400},
		{"POST", "/data", `{"token":"` + own + `","info":"` + strings.Repeat("x", 1<<20+1) + `"}`, 413},
		{"GET", "/data?blockIndex=0&offset=0", "", 401},
		{"GET", "/data?blockIndex=999999&offset=0&token=" + own, "", 404},
		{"GET", "/data?blockIndex=0&offset=999&token=" + own, "", 404},
		{"GET", "/data?blockIndex=-1&offset=0&token=" + own, "", 404},
		{"GET", "/data?blockIndex=x&offset=0&token=" + own, "", 400},
		{"GET", "/data?offset=0&token=" + own, "", 400},
		{"POST", "/admin/project", `{"projectName":"default"}`, 409},
		{"POST", "/admin/project", `{"isPrivate":true}`, 400},
		{"POST", "/admin/project", `{"projectName":"x","isPrivate":7}`, 400},
		{"POST", "/saveInfo", `{"info":""}`, 400},
		{"POST", "/saveInfo", `{"info":"x"`, 400},
		{"POST", "/saveInfo", `{"info":x}`, 400},
		{"POST", "/data", `{ "info" : "{"bare":1}" }`, 400},
		{"GET", "/findBlockInfo?blockIndex=999999&blockOffset=0", "", 404},
		{"GET", "/findBlockInfo?blockIndex=0", "", 400},
	} {
		answer := c.call(i, row.method, row.path, "application/json", row.body, row.status)
		told := decodeInto[struct {
			InfoCode    int
			Description string
		}](c, answer)
		if told.InfoCode != row.status || told.Description == "" || strings.Contains(string(answer), own) {
			c.t.Errorf("%s %.80s: %s", row.method, row.path, answer)
		}
	}
}

// TestClosedByDefault checks that by default a master has no routes of the original API, and only the administrator may
// create a project.
func TestClosedByDefault(t *testing.T) {
	h := masterapi.New(masterapi.Config{
		Refused: func() error { return nil }, Secrets: nodeauth.Shared("cluster"), AdminToken: "admin",
		Logger: hclog.NewNullLogger(),
	})
	for _, row := range []struct {
		method, path, token string
		status              int
	}{
		{"POST", "/v1/projects", "", 401}, {"POST", "/v1/projects", "cluster", 403},
		{"POST", "/v1/projects", "admin", 400},
		{"POST", "/data", "", 404}, {"GET", "/data", "", 404}, {"GET", "/admin/project", "", 404},
		{"POST", "/admin/project", "", 404},
		{"POST", "/saveInfo", "", 404}, {"GET", "/findBlockInfo", "", 404},
	} {
		r := httptest.NewRequest(row.method, row.path, strings.NewReader("not JSON"))
		if row.token != "" {
			r.Header.Set("Authorization", "Bearer "+row.token)
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != row.status {
			t.Errorf("%s %s with %q: %d, want %d: %s", row.method, row.path, row.token, w.Code, row.status, w.Body)
		}
	}
}

// TestQueryTokenIsNotLogged checks that a token in a query string is not logged, even if the handler panics. It does so
// here because there is no node.
func TestQueryTokenIsNotLogged(t *testing.T) {
	var log bytes.Buffer
	h := masterapi.New(masterapi.Config{
		Options: masterapi.Options{OriginalAPI: true},
		Logger:  hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &log}),
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/data?blockIndex=0&offset=0&token=SECRET", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(log.String(), "/data") ||
		strings.Contains(log.String()+w.Body.String(), "SECRET") {
		t.Errorf("%d %s\n%s", w.Code, w.Body, log.String())
	}
}
