package masterapi_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// headerCases lists keys and types, and whether a header field preserves them.
var headerCases = []struct {
	text string
	fits bool
}{
	{"a\x00b", false},
	{"two\nlines", false},
	{"text/html\r\nX-Evil: 1", false},
	{"tab\tb", false},
	{`text/plain; a="x` + "\t" + `y"`, false},
	{"\x1b[2Jb", false},
	{"del\x7f", false},
	{" lead", false},
	{"trail ", false},
	{" ", false},
	{"text/plain", true},
	{"", true},
}

// TestControlCharacters checks that requests with control characters are refused, and that existing records that
// contain them are served as valid HTTP on every route.
func TestControlCharacters(t *testing.T) {
	c := startCluster(t)
	c.forwardOld()
	t.Run("read", func(t *testing.T) { c.with(t).readControls() })
	t.Run("refuse", func(t *testing.T) { c.with(t).refuseControls() })
	t.Run("content codings", func(t *testing.T) { c.with(t).refuseCodings() })
}

// forwardOld appends the records of headerCases as a master of an older version does for its clients: by a submission
// to the leader, which must accept it. Each case is the key of one record and the type of another.
func (c *cluster) forwardOld() {
	c.t.Helper()
	project := answer[wire.Me](c, 0, request{method: "GET", path: "/v1/me", token: c.file.Tokens.Project,
		status: 200}).Project.ID
	s := masterfsm.NewSubmission(nil, "older", 1, 1)
	s.StartRequest(project, masterfsm.Digest{}, masterfsm.Digest{})
	for i := range headerCases {
		for j := range 2 {
			r := chain.Record{Project: project, Payload: fmt.Appendf(nil, "record %d of case %d", j, i)}
			if j == 0 {
				r.Key, r.Type = headerCases[i].text, "text/plain"
			} else {
				r.Key, r.Type = "key", headerCases[i].text
			}
			s.AddEncoded(r.Commit(), r.AppendTo(nil))
		}
	}
	leader := c.leader()
	req, err := http.NewRequestWithContext(c.t.Context(), "POST", leader+wire.PathSubmissions,
		bytes.NewReader(s.Bytes()))
	if err != nil {
		c.t.Fatal(err)
	}
	member := answer[wire.Member](c, 0, request{method: "GET", path: wire.PathMember, token: c.file.Tokens.Cluster,
		status: 200})
	req.Header.Set(wire.HeaderCaller, wire.Caller{Group: member.Group, Order: wire.Order{Epoch: member.Epoch}}.String())
	resp, err := c.asMaster()(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %s, %v", resp.Status, body, err)
	}
}

// leader returns the URL of the leader.
func (c *cluster) leader() string {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		status := answer[wire.Cluster](c, 0, request{method: "GET", path: "/v1/cluster",
			token: c.file.Tokens.Admin, status: 200})
		for _, m := range status.Masters {
			if m.ID == status.Leader && m.URL != "" {
				return m.URL
			}
		}
	}
	c.t.Fatal("no leader in time")
	return ""
}

// raw sends a GET or HEAD over a plain connection and checks the header of the response. It returns the header, the
// status and the body. Of a stream it reads up to the first record's event.
func (c *cluster) raw(i int, method, path, accept string) (http.Header, int, []byte) {
	c.t.Helper()
	host := strings.TrimPrefix(c.file.Masters[i%len(c.file.Masters)], "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	fmt.Fprintf(conn,
		"%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nAccept: %s\r\nConnection: close\r\n\r\n",
		method, path, host, c.file.Tokens.Project, accept)
	reader := bufio.NewReader(conn)
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		line, err := reader.ReadSlice('\n')
		head = append(head, line...)
		if err != nil {
			c.t.Fatalf("%s %s: %v after %q", method, path, err, head)
		}
		line, ended := bytes.CutSuffix(line, []byte("\r\n"))
		if !ended || bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			c.t.Errorf("%s %s (%s): the header line %q is not HTTP", method, path, accept, line)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(head), reader)),
		&http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("%s %s: %v in %q", method, path, err, head)
	}
	// Closing the body would read a stream to its end. Closing the connection is enough.
	if resp.Header.Get("X-Evil") != "" {
		c.t.Errorf("%s %s: a header was injected: %q", method, path, head)
	}
	if strings.HasPrefix(path, "/v1/records/stream") {
		var event []byte
		for lines := bufio.NewReader(resp.Body); ; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				c.t.Fatalf("%s: %v", path, err)
			}
			if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
				event = data
				break
			}
		}
		return resp.Header, resp.StatusCode, event
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.Header, resp.StatusCode, body
}

// wantRecord fails the test if an envelope is not the record of a case.
func (c *cluster) wantRecord(what string, body []byte, key, typ, payload string) {
	c.t.Helper()
	var r wire.Record
	if err := json.Unmarshal(body, &r); err != nil || r.Key != key || r.Type != typ || string(r.Payload) != payload {
		c.t.Errorf("%s: %+v, %v, want key %q, type %q, payload %q", what, r, err, key, typ, payload)
	}
}

// readControls reads every record of headerCases on every route, through every master.
func (c *cluster) readControls() {
	users, err := client.New(client.Config{Masters: c.file.Masters, Token: c.file.Tokens.Project})
	if err != nil {
		c.t.Fatal(err)
	}
	defer users.CloseIdle()
	listed := c.list(c.file.Tokens.Project, "/v1/records?limit=7")
	if len(listed) != 2*len(headerCases) {
		c.t.Fatalf("%d records are listed, want %d", len(listed), 2*len(headerCases))
	}
	for i, r := range listed {
		test := headerCases[i/2]
		key, typ, served := "key", test.text, test.text
		if i%2 == 0 {
			key, typ, served = test.text, "text/plain", "text/plain"
		}
		if !wire.FitsHeader(typ) || typ == "" {
			served = wire.TypeOctets
		}
		payload := fmt.Sprintf("record %d of case %d", i%2, i/2)
		index, place := fmt.Sprintf("/v1/records/%d", r.Index), fmt.Sprintf("/v1/blocks/%d/records/%d", r.Block,
			r.Offset)
		c.covered(i, index)
		for _, path := range []string{index, place} {
			for _, method := range []string{"GET", "HEAD"} {
				h, status, body := c.raw(i, method, path, "*/*")
				if status != 200 || h.Get("Content-Type") != served || method == "GET" && string(body) != payload {
					c.t.Errorf("%s of %q, %q: %d, type %q, %q", method, key, typ, status, h.Get("Content-Type"), body)
				}
				if got, there := h[wire.HeaderKey]; there != (key != "" && wire.FitsHeader(key)) || there &&
					got[0] != key {
					c.t.Errorf("%s of %q: the header has the key %q", method, key, got)
				}
			}
			_, status, body := c.raw(i+1, "GET", path, "application/json")
			c.wantRecord(fmt.Sprint("envelope ", status), body, key, typ, payload)
			_, status, body = c.raw(i+1, "GET", path+"/receipt", "*/*")
			var receipt wire.Receipt
			if err := json.Unmarshal(body, &receipt); err != nil || status != 200 || receipt.Key != key ||
				receipt.Type != typ {
				c.t.Errorf("receipt of %q, %q: %d, %s", key, typ, status, body)
			}
			for _, accept := range []string{"application/json", "text/plain"} {
				if _, status, body := c.raw(i+2, "GET", path+"/proof", accept); status != 200 || len(body) == 0 {
					c.t.Errorf("proof of %q, %q as %s: %d, %s", key, typ, accept, status, body)
				}
			}
		}
		_, status, body := c.raw(i, "GET", fmt.Sprintf("/data?blockIndex=%d&offset=%d&token=%s", r.Block,
			r.Offset, c.file.Tokens.Project), "*/*")
		if status != 200 || string(body) != fmt.Sprintf(`{"info":%q}`, payload) {
			c.t.Errorf("as the original's: %d, %s", status, body)
		}
		if _, status, body := c.raw(i, "GET", "/v1/hashes/"+r.Leaf.String(), "*/*"); status != 200 {
			c.t.Errorf("by its hash: %d, %s", status, body)
		}
		_, _, body = c.raw(i, "GET", fmt.Sprintf("/v1/records/stream?from=%d", r.Index), "text/event-stream")
		c.wantRecord("stream", body, key, typ, payload)
		c.wantRecord("list", c.onlyRecord(i, fmt.Sprintf("/v1/records?from=%d&limit=1", r.Index)), key, typ, payload)
		c.wantRecord("block", c.onlyRecord(i, fmt.Sprintf("/v1/blocks/%d/records?from=%d&limit=1", r.Block,
			r.Offset)), key, typ, payload)
		if i%2 == 0 && key != "" { // the filters of read requests accept such a key
			c.wantRecord("history", c.onlyRecord(i, "/v1/records?limit=1&key="+url.QueryEscape(key)), key, typ, payload)
			_, _, body = c.raw(i, "GET", "/v1/records/stream?from=0&key="+url.QueryEscape(key), "text/event-stream")
			c.wantRecord("stream of a key", body, key, typ, payload)
		}
		if got, err := users.GetIndex(c.t.Context(), r.Index); err != nil || got.Key != key || got.Type != typ {
			c.t.Errorf("the client got %+v, %v", got, err)
		}
	}
}

// onlyRecord returns the envelope of the first record in a list.
func (c *cluster) onlyRecord(i int, path string) []byte {
	c.t.Helper()
	_, status, body := c.raw(i, "GET", path, "application/json")
	var page struct{ Records []json.RawMessage }
	if err := json.Unmarshal(body, &page); err != nil || status != 200 || len(page.Records) != 1 {
		c.t.Fatalf("%s: %d, %s", path, status, body)
	}
	var in struct{ Record json.RawMessage } // of the list of a block
	if err := json.Unmarshal(page.Records[0], &in); err == nil && in.Record != nil {
		return in.Record
	}
	return page.Records[0]
}

// covered waits until the record's receipt is available.
func (c *cluster) covered(i int, path string) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for m := range c.file.Masters {
		for {
			_, status, body := c.raw(m, "GET", path+"/receipt", "*/*")
			if status == http.StatusOK {
				break
			}
			if time.Now().After(deadline) {
				c.t.Fatalf("no receipt of record %d in time: %d, %s", i, status, body)
			}
		}
	}
}

// records returns the number of records of the group.
func (c *cluster) records() uint64 {
	c.t.Helper()
	return answer[wire.Cluster](c, 0, request{method: "GET", path: "/v1/cluster", token: c.file.Tokens.Admin,
		status: 200}).Records
}

// refuseControls sends control characters to every route that accepts a key, a type or a name.
func (c *cluster) refuseControls() {
	before := c.records()
	own, admin := c.file.Tokens.Project, c.file.Tokens.Admin
	framed := func(key, typ string) string {
		good := wire.AppendFrame(nil, "key", "text/plain", []byte("x"))
		return string(wire.AppendFrame(good, key, typ, []byte("x")))
	}
	frames := map[string]string{"Content-Type": wire.TypeFrames}
	rows := []struct {
		request
		says string // in the problem
	}{
		{request{path: "/v1/records", token: own, body: "x", headers: map[string]string{wire.HeaderKey: "a\tb"}},
			"the key has the control character 0x09 at byte 1"},
		{request{path: "/v1/records", token: own, body: "x",
			headers: map[string]string{"Content-Type": "text/plain;\ta=b"}},
			"the type has the control character 0x09 at byte 11"},
		{request{path: "/v1/records:batch", token: own, body: framed("a\x00b", "text/plain"), headers: frames},
			"record 1 of the batch: the key has the control character 0x00 at byte 1"},
		{request{path: "/v1/records:batch", token: own, body: framed("key", "\x7f"), headers: frames},
			"record 1 of the batch: the type has the control character 0x7f at byte 0"},
		{request{path: "/v1/projects", token: admin, body: `{"name":"a\u0000b"}`},
			"name has the control character 0x00 at byte 1"},
		{request{path: "/v1/projects/default/tokens", token: admin, body: `{"label":"a\u001bb"}`},
			"label has the control character 0x1b at byte 1"},
	}
	for b := range 0x20 {
		rows = append(rows, struct {
			request
			says string
		}{request{path: "/v1/records:batch", token: own,
			body: fmt.Sprintf("{\"text\":\"x\"}\n\n{\"text\":\"y\",\"key\":\"tür\\u%04x\"}\n", b)},
			fmt.Sprintf("line 3: the key has the control character 0x%02x at byte 4", b)})
	}
	for _, text := range []string{"text/html\\r\\nX-Evil: 1", "text/plain\\u007f", "\\n"} {
		rows = append(rows, struct {
			request
			says string
		}{request{path: "/v1/records:batch", token: own, body: `{"text":"y","type":"` + text + `"}`},
			"line 1: the type has the control character"})
	}
	for i, row := range rows {
		row.method, row.status, row.problem = "POST", 400, wire.ErrBadRequest.Name
		row.name = fmt.Sprintf("%s %q %q", row.path, row.body, row.headers)
		if _, body := c.do(i, row.request); !strings.Contains(string(body), row.says) {
			c.t.Errorf("%s: it does not say %q: %s", row.name, row.says, body)
		}
	}
	c.call(0, "POST", "/admin/project", "application/json", `{"projectName":"a\u0000b"}`, 400)
	c.call(1, "POST", "/admin/project", "application/x-www-form-urlencoded", `projectName=a%0Ab`, 400)
	users, err := client.New(client.Config{Masters: c.file.Masters, Token: own})
	if err != nil {
		c.t.Fatal(err)
	}
	defer users.CloseIdle()
	if _, err := users.Append(c.t.Context(), client.Entry{Payload: []byte("x"), Key: "a\nb"}); !errors.Is(err,
		wire.ErrBadRequest) {
		c.t.Error(err)
	}
	if after := c.records(); after != before {
		c.t.Errorf("refused, and yet there are %d records more", after-before)
	}
	// Other characters are accepted as before.
	c.do(0, request{name: "batch", method: "POST", path: "/v1/records:batch", token: own,
		body: `{"text":"x","key":" tür/门 ","type":"a b"}`, status: 201})
	// A payload may contain any bytes.
	c.do(1, request{name: "payload", method: "POST", path: "/v1/records", token: own, body: "a\x00\x7f\n", status: 201})
	c.call(2, "POST", "/data", "application/json", `{"token":"`+own+`","info":"a\u0000b\n"}`, 200)
}

// refuseCodings sends compressed bodies, and bodies that claim to be compressed.
func (c *cluster) refuseCodings() {
	before := c.records()
	own, admin := c.file.Tokens.Project, c.file.Tokens.Admin
	packed := "\x1f\x8b" + strings.Repeat("not looked at", 10)
	for i, row := range []struct {
		path, token, body string
		codings           []string
	}{
		{"/v1/records", own, packed, []string{"gzip"}},
		{"/v1/records", own, packed, []string{"GZip"}},
		{"/v1/records", own, packed, []string{"x-gzip"}},
		{"/v1/records", own, packed, []string{"br"}},
		{"/v1/records", own, packed, []string{"nothing-known"}},
		{"/v1/records", own, packed, []string{"identity, gzip"}},
		{"/v1/records", own, packed, []string{"gzip,identity"}},
		{"/v1/records", own, packed, []string{"identity", "deflate"}},
		{"/v1/records", own, packed, []string{"", "zstd"}},
		{"/v1/records", own, packed, []string{","}},
		{"/v1/records", own, strings.Repeat("x", 3<<20), []string{"gzip"}},
		{"/v1/records", own, strings.Repeat("x", 1<<20), []string{"gzip"}},
		{"/v1/records", own, "", []string{"gzip"}},
		{"/v1/records:batch", own, packed, []string{"gzip"}},
		{"/v1/records:batch", own, `{"text":"x"}`, []string{"gzip"}},
		{"/v1/projects", admin, `{"name":"packed"}`, []string{"gzip"}},
		{"/v1/projects/default/tokens", admin, `{}`, []string{"gzip"}},
		{"/v1/leader/transfer", admin, `{}`, []string{"gzip"}},
		{"/v1/cluster/integrity/confirm-lost", admin, `{}`, []string{"gzip"}},
		{"/data", "", `{"token":"` + own + `","info":"x"}`, []string{"gzip"}},
		{"/saveInfo", "", `{"info":"x"}`, []string{"gzip"}},
		{"/admin/project", "", `{"projectName":"packed"}`, []string{"gzip"}},
	} {
		want := http.StatusUnsupportedMediaType
		if row.codings[0] == "," {
			want = http.StatusCreated
		}
		h, status, body := c.sendCoded(i, row.path, row.token, row.body, row.codings)
		if status != want {
			c.t.Errorf("%s with %q: %d, %s", row.path, row.codings, status, body)
		}
		if status != http.StatusUnsupportedMediaType {
			continue
		}
		if got := h.Values("Accept-Encoding"); len(got) != 1 || got[0] != "identity" {
			c.t.Errorf("%s with %q: Accept-Encoding %q", row.path, row.codings, got)
		}
		var p struct {
			wire.Problem
			InfoCode int
		}
		if err := json.Unmarshal(body, &p); err != nil || p.Type != wire.ProblemBase+wire.ErrEncoding.Name &&
			p.InfoCode != want {
			c.t.Errorf("%s with %q: %s", row.path, row.codings, body)
		}
	}
	for i, codings := range [][]string{{"identity"}, {"Identity"}, {""}, {"identity, IDENTITY"}, {"identity", ""},
		nil} {
		if _, status, body := c.sendCoded(i, "/v1/records", own, "x", codings); status != http.StatusCreated {
			c.t.Errorf("%q: %d, %s", codings, status, body)
		}
	}
	if after := c.records(); after != before+7 {
		c.t.Errorf("%d records more, want 7", after-before)
	}
	for _, p := range answer[wire.Projects](c, 0, request{method: "GET", path: "/v1/projects", token: admin,
		status: 200}).Projects {
		if p.Name == "packed" {
			c.t.Error("a project was made of a refused body")
		}
	}
}

func (c *cluster) sendCoded(i int, path, token, body string, codings []string) (http.Header, int, []byte) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), "POST", c.file.Masters[i%len(c.file.Masters)]+path,
		strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header["Content-Encoding"] = codings
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatalf("%s with %q: %v", path, codings, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.Header, resp.StatusCode, answer
}
