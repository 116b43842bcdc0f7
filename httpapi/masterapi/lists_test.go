package masterapi_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// TestLists checks the contract of the routes for several records, and of those for proofs.
func TestLists(t *testing.T) {
	c := startCluster(t)
	token := c.file.Tokens.Project
	created := c.createProject("other")
	var want []wire.Position
	for i := range 60 {
		want = append(want, c.appendKeyed(token, fmt.Sprint("k", i%3), fmt.Sprint("record ", i)))
		if i%10 == 0 {
			c.appendKeyed(created.Token, "k1", "not yours")
		}
	}
	c.do(0, request{name: "stored", method: "POST", path: "/v1/records?wait=stored&timeout=20s", token: token,
		body: "last", status: 201})
	c.pages(token, want)
	c.badLists(token, created)
	c.blockLists(token, want)
	c.proofs(token, created, want)
	c.streams(token, want)
}

func (c *cluster) createProject(name string) (created wire.CreatedProject) {
	c.t.Helper()
	_, body := c.do(0, request{
		name: "create", method: "POST", path: "/v1/projects", token: c.file.Tokens.Admin,
		body: fmt.Sprintf(`{"name":%q}`, name), status: 201,
	})
	if err := json.Unmarshal(body, &created); err != nil {
		c.t.Fatal(err)
	}
	return created
}

func (c *cluster) appendKeyed(token, key, payload string) (at wire.Position) {
	c.t.Helper()
	_, body := c.do(len(payload), request{
		name: "append", method: "POST", path: "/v1/records", token: token, body: payload, status: 201,
		headers: map[string]string{wire.HeaderKey: key},
	})
	if err := json.Unmarshal(body, &at); err != nil {
		c.t.Fatal(err)
	}
	return at
}

// list reads a list to its end by following the Link headers, each page from a different master.
func (c *cluster) list(token, path string) (all []wire.Record) {
	c.t.Helper()
	for i := range 1000 {
		h, body := c.do(i, request{name: path, method: "GET", path: path, token: token, status: 200})
		var page wire.Records
		if err := json.Unmarshal(body, &page); err != nil || page.Records == nil {
			c.t.Fatalf("%s: %s, %v", path, body, err)
		}
		all = append(all, page.Records...)
		link := h.Get("Link")
		if page.Next == "" {
			if link != "" {
				c.t.Errorf("%s: no next page, and the link %q", path, link)
			}
			return all
		}
		next, ok := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		if u, err := url.Parse(next); !ok || err != nil || u.Query().Get("cursor") != page.Next {
			c.t.Fatalf("%s: next %q, link %q", path, page.Next, link)
		}
		path = next
	}
	c.t.Fatal("a list without an end")
	return nil
}

func (c *cluster) pages(token string, want []wire.Position) {
	places := func(records []wire.Record) (list []uint64) {
		for _, r := range records {
			list = append(list, r.Index)
		}
		return list
	}
	due := func(from, step int) (list []uint64) {
		for i := from; i < len(want); i += step {
			list = append(list, want[i].Index)
		}
		return list
	}
	for path, want := range map[string][]uint64{
		"/v1/records?limit=7&key=k1":                                 due(1, 3),
		"/v1/records?key=k2&project=default":                         due(2, 3),
		"/v1/records?key=k0&limit=5&project=1":                       due(0, 3),
		fmt.Sprintf("/v1/records?key=k0&from=%d", want[30].Index):    due(30, 3),
		fmt.Sprintf("/v1/records?key=k1&until=%d", want[0].Time):     nil,
		fmt.Sprintf("/v1/records?key=k1&since=%d", want[0].Time):     due(1, 3),
		fmt.Sprintf("/v1/records?key=k1&since=%d", want[59].Time+60): nil,
		"/v1/records?key=nobody":                                     nil,
		"/v1/records?from=18446744073709551615":                      nil,
	} {
		if got := places(c.list(token, path)); !slices.Equal(got, want) {
			c.t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	if got := places(c.list(token, "/v1/records?limit=9")); !slices.Equal(got[:60], due(0, 1)) || len(got) != 61 {
		c.t.Errorf("all: %v", got)
	}
	if r := c.list(token, "/v1/records?key=k1")[0]; string(r.Payload) != "record 1" || r.Project != "default" ||
		r.Leaf != want[1].Leaf {
		c.t.Errorf("%+v", r)
	}
}

func (c *cluster) badLists(token string, other wire.CreatedProject) {
	_, body := c.do(0, request{name: "a page", method: "GET", path: "/v1/records?limit=1&key=k1", token: token,
		status: 200})
	var page wire.Records
	if err := json.Unmarshal(body, &page); err != nil {
		c.t.Fatal(err)
	}
	for path, part := range map[string]string{
		"/v1/records?limit=0":                           "limit",
		"/v1/records?limit=1001":                        "1000",
		"/v1/records?limit=x":                           "limit=x",
		"/v1/records?from=-1":                           "from=-1",
		"/v1/records?since=yesterday":                   "since=yesterday",
		"/v1/records?until=1e3":                         "until=1e3",
		"/v1/records?key=" + strings.Repeat("k", 256):   "255",
		"/v1/records?cursor=x":                          "cursor",
		"/v1/records?key=k2&cursor=" + page.Next:        "cursor",
		"/v1/records?key=k1&from=3&cursor=" + page.Next: "cursor and from",
		"/v1/records/stream?from=x":                     "from=x",
		"/v1/blocks/0/records?limit=1001":               "1000",
		"/v1/blocks/0/records?from=4294967296":          "4294967295",
		"/v1/hashes/xyz":                                "hash",
	} {
		_, body := c.do(1, request{name: path, method: "GET", path: path, token: token, status: 400,
			problem: wire.ErrBadRequest.Name})
		if !strings.Contains(string(body), part) {
			c.t.Errorf("%s: no %q in %s", path, part, body)
		}
	}
	c.do(1, request{
		name: "an event's id", method: "GET", path: "/v1/records/stream", token: token, status: 400,
		problem: wire.ErrBadRequest.Name,
		headers: map[string]string{wire.HeaderLastEventID: "x"},
	})
	for _, path := range []string{"/v1/records?project=other", "/v1/records?project=" + fmt.Sprint(other.ID),
		"/v1/records/stream?project=other"} {
		c.do(2, request{name: path, method: "GET", path: path, token: token, status: 403,
			problem: wire.ErrForbidden.Name})
	}
	for _, path := range []string{"/v1/records?project=nobody", "/v1/blocks/99999/records", "/v1/records/99999/proof",
		"/v1/hashes/" + (chain.Hash{1}).String()} {
		c.do(0, request{name: path, method: "GET", path: path, token: token, status: 404,
			problem: wire.ErrNotFound.Name})
	}
}

func (c *cluster) blockLists(token string, want []wire.Position) {
	hidden := 0
	for block := range want[59].Block + 1 {
		path := fmt.Sprintf("/v1/blocks/%d/records?limit=4", block)
		for from := uint32(0); ; {
			_, body := c.do(int(from), request{name: path, method: "GET", path: fmt.Sprintf("%s&from=%d", path, from),
				token: token, status: 200})
			var page wire.BlockRecords
			if err := json.Unmarshal(body, &page); err != nil {
				c.t.Fatalf("%s: %s", path, body)
			}
			for i, r := range page.Records {
				if r.Block != block || r.Offset != from+uint32(i) {
					c.t.Errorf("%s from %d: %+v", path, from, r)
				}
				if r.Hidden {
					hidden++
					if r.Record != nil {
						c.t.Errorf("%s shows a record of another project: %s", path, body)
					}
				} else if i := slices.IndexFunc(want,
					func(p wire.Position) bool { return p.Index == r.Index }); i >= 0 && r.Leaf != want[i].Leaf {
					c.t.Errorf("%s: %+v", path, r)
				}
			}
			if page.Next == nil {
				break
			}
			from = *page.Next
		}
	}
	if hidden != 6 {
		c.t.Errorf("%d hidden records, 6 are due", hidden)
	}
}

func (c *cluster) proofs(token string, other wire.CreatedProject, want []wire.Position) {
	for i, at := range want {
		for _, path := range []string{
			fmt.Sprintf("/v1/records/%d/proof", at.Index), fmt.Sprintf("/v1/blocks/%d/records/%d/proof", at.Block,
				at.Offset),
		} {
			_, body := c.do(i, request{name: path, method: "GET", path: path, token: token, status: 200})
			var p wire.Proof
			if err := json.Unmarshal(body, &p); err != nil {
				c.t.Fatalf("%s: %s", path, body)
			}
			leaf, err := chain.ParseLeaf(p.LeafData)
			h := p.Header.Header()
			record := chain.Proof{Index: p.Index, Size: h.Seal(), Path: p.RecordPath}
			seal := chain.Proof{Index: p.SealIndex, Size: p.Size, Path: p.SealPath}
			err = errors.Join(err, record.Check(leaf.Hash(), h.Root), seal.Check(h.SealHash(), p.Root))
			if err != nil || p.Leaf != at.Leaf || leaf.Hash() != at.Leaf || p.Index != at.Index ||
				p.SealIndex != h.Seal() || p.Block != at.Block || p.Offset != at.Offset {
				c.t.Fatalf("%s: %v: %s", path, err, body)
			}
		}
		if i%10 > 0 {
			continue
		}
		_, body := c.do(i, request{name: "hash", method: "GET", path: "/v1/hashes/" + at.Leaf.String(), token: token,
			status: 200})
		if due := fmt.Sprintf(`{"kind":"record","block":%d,"offset":%d,"index":%d}`, at.Block, at.Offset,
			at.Index); string(body) != due {
			c.t.Errorf("%s, want %s", body, due)
		}
	}
	_, body := c.do(1, request{name: "a block", method: "GET", path: "/v1/blocks/1", token: token, status: 200})
	var b wire.Block
	if err := json.Unmarshal(body, &b); err != nil {
		c.t.Fatal(err)
	}
	if _, body := c.do(2, request{name: "its hash", method: "GET", path: "/v1/hashes/" + b.Hash.String(), token: token,
		status: 200}); string(body) != `{"kind":"block","block":1}` {
		c.t.Errorf("%s", body)
	}
	path := fmt.Sprintf("/v1/records/%d/proof", want[0].Index)
	c.do(0, request{name: "another's proof", method: "GET", path: path, token: other.Token, status: 403,
		problem: wire.ErrForbidden.Name})
	c.do(0, request{name: "a seal's proof", method: "GET", path: fmt.Sprintf("/v1/records/%d/proof", b.First-1),
		token: token, status: 404, problem: wire.ErrSealIndex.Name})
}

// event is one server-sent event.
type event struct{ id, name, data string }

// subscribe opens a stream. Its events arrive until the test ends.
func (c *cluster) subscribe(i int, token, path, last string) (http.Header, <-chan event) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), "GET", c.file.Masters[i]+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if last != "" {
		req.Header.Set(wire.HeaderLastEventID, last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %s", path, resp.Status)
	}
	events := make(chan event, 1000)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		var e event
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				e.data = value
			case "":
				if value == "" {
					events <- e
					e = event{}
				}
			}
		}
	}()
	return resp.Header, events
}

// next waits for the next event with data.
func (c *cluster) next(events <-chan event) (r wire.Record) {
	c.t.Helper()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				c.t.Fatal("the stream has ended")
			}
			if e.data == "" {
				continue
			}
			if err := json.Unmarshal([]byte(e.data), &r); err != nil || e.name != wire.EventRecord ||
				e.id != fmt.Sprint(r.Index) {
				c.t.Fatalf("%+v, %v", e, err)
			}
			return r
		case <-time.After(30 * time.Second):
			c.t.Fatal("no event in time")
		}
	}
}

func (c *cluster) streams(token string, want []wire.Position) {
	header, all := c.subscribe(0, token, "/v1/records/stream?from=0", "")
	if header.Get("Content-Type") != "text/event-stream" || header.Get("Cache-Control") != "no-store" {
		c.t.Errorf("headers %v", header)
	}
	for _, at := range want {
		if r := c.next(all); r.Index != at.Index {
			c.t.Fatalf("index %d, want %d", r.Index, at.Index)
		}
	}
	_, resumed := c.subscribe(1, token, "/v1/records/stream?from=0&key=k1", fmt.Sprint(want[40].Index))
	if r := c.next(resumed); r.Index != want[43].Index {
		c.t.Errorf("resumed at %d, want %d", r.Index, want[43].Index)
	}
	_, now := c.subscribe(2, token, "/v1/records/stream", "")
	select {
	case e := <-now: // the position before anything was appended
		if e.id == "" || e.data != "" {
			c.t.Errorf("the first event: %+v", e)
		}
	case <-time.After(30 * time.Second):
		c.t.Fatal("no first event")
	}
	at := c.appendKeyed(token, "k1", "news")
	if r := c.next(now); r.Index != at.Index || string(r.Payload) != "news" {
		c.t.Errorf("%+v", r)
	}
	// Revoking a token ends its streams on all masters.
	created := c.createProject("revoked")
	_, events := c.subscribe(1, created.Token, "/v1/records/stream", "")
	c.revoke(fmt.Sprint(created.ID), created.TokenID)
	for end := time.After(30 * time.Second); ; {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			if e.data != "" {
				c.t.Errorf("%+v", e)
			}
		case <-end:
			c.t.Fatal("the stream of a revoked token goes on")
		}
	}
}
