package masterapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// duplex is an append stream whose answers are read while its records are written.
type duplex struct {
	t       testing.TB
	body    *io.PipeWriter
	answer  chan *http.Response // once
	lines   *bufio.Scanner
	resp    *http.Response
	numbers []uint64
}

// openStream starts a stream at master i.
func (c *cluster) openStream(client *http.Client, i int, query, mediaType string) *duplex {
	c.t.Helper()
	return openStream(c.t, client, c.file.Masters[i], c.file.Tokens.Project, query, mediaType)
}

func openStream(t testing.TB, client *http.Client, url, token, query, mediaType string) *duplex {
	t.Helper()
	reader, writer := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/records:stream"+query, reader)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", mediaType)
	d := &duplex{t: t, body: writer, answer: make(chan *http.Response, 1)}
	go func() {
		resp, err := client.Do(r)
		if err != nil {
			t.Errorf("stream: %v", err)
			_ = reader.CloseWithError(err)
		}
		d.answer <- resp
	}()
	return d
}

func (d *duplex) send(text string) {
	d.t.Helper()
	if _, err := io.WriteString(d.body, text); err != nil {
		d.t.Fatal(err)
	}
}

// next reads one line of the answer.
func (d *duplex) next() wire.StreamAnswer {
	d.t.Helper()
	if d.lines == nil {
		if d.resp = <-d.answer; d.resp == nil {
			d.t.FailNow()
		}
		d.lines = bufio.NewScanner(d.resp.Body)
	}
	if !d.lines.Scan() {
		d.t.Fatalf("the answer ended without its last line after %v: %v", d.numbers, d.lines.Err())
	}
	var a wire.StreamAnswer
	if err := json.Unmarshal(d.lines.Bytes(), &a); err != nil || (a.Position == nil) != a.End {
		d.t.Fatalf("%q: %v", d.lines.Bytes(), err)
	}
	if !a.End {
		d.numbers = append(d.numbers, a.Number)
	}
	return a
}

// end closes the body and reads the last line, of which nothing may follow.
func (d *duplex) end() wire.StreamAnswer {
	d.t.Helper()
	if err := d.body.Close(); err != nil {
		d.t.Fatal(err)
	}
	return d.last()
}

func (d *duplex) last() wire.StreamAnswer {
	d.t.Helper()
	for {
		if a := d.next(); a.End {
			if d.lines.Scan() {
				d.t.Errorf("%q follows the last line", d.lines.Bytes())
			}
			_ = d.resp.Body.Close()
			return a
		}
	}
}

// awaitStreams waits until the group's protocol level has append streams.
func (c *cluster) awaitStreams() {
	c.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.file.Masters[0]+"/v1/streams/none", nil)
		if err != nil {
			c.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+c.file.Tokens.Project)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			c.t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusNotFound {
			return
		}
		if answer.StatusCode != http.StatusNotImplemented || time.Now().After(end) {
			c.t.Fatal(answer.Status)
		}
	}
}

func TestAppendStream(t *testing.T) {
	c := startCluster(t)
	client := &http.Client{Transport: &http.Transport{}}
	c.awaitStreams()
	t.Run("full duplex", func(t *testing.T) {
		for i := range 3 { // the leader and both followers
			d := c.with(t).openStream(client, i, fmt.Sprint("?stream=duplex-", i), wire.TypeNDJSON)
			for n := uint64(1); n <= 20; n++ {
				d.send(fmt.Sprintf("{\"text\":\"%d/%d\",\"key\":\"k\"}\n\n", i, n))
				a := d.next()
				if a.Number != n || a.State != wire.StateCommitted {
					t.Fatalf("master %d, record %d: %+v", i, n, a)
				}
				_, payload := c.do(i, request{name: "read", method: "GET", token: c.file.Tokens.Project, status: 200,
					path: fmt.Sprint("/v1/records/", a.Index)})
				if want := fmt.Sprintf("%d/%d", i, n); string(payload) != want {
					t.Errorf("%q, want %q", payload, want)
				}
			}
			if a := d.end(); a.Number != 20 || a.Problem != nil {
				t.Errorf("the last line: %+v", a)
			}
			if got := d.resp.Header.Get(wire.HeaderStream); got != fmt.Sprint("duplex-", i) {
				t.Errorf("the stream is %q", got)
			}
		}
	})
	t.Run("HTTP/2", func(t *testing.T) { c.with(t).streamsOverHTTP2() })
	t.Run("many", func(t *testing.T) { c.with(t).manyInAStream(client) })
	t.Run("sent again", func(t *testing.T) { c.with(t).streamSentAgain(client) })
	t.Run("refused", func(t *testing.T) { c.with(t).streamsRefused() })
	t.Run("removed", func(t *testing.T) { c.with(t).streamRemoved(client) })
	t.Run("opened", func(t *testing.T) { c.with(t).streamOpened(client) })
	t.Run("listed", func(t *testing.T) { c.with(t).streamsListed() })
	t.Run("quota", func(t *testing.T) { c.with(t).streamQuota(client) })
	t.Run("leader", func(t *testing.T) { c.with(t).streamAcrossLeaders(client) })
}

// streamsOverHTTP2 runs several streams in full duplex on one connection, one of which does not go on.
func (c *cluster) streamsOverHTTP2() {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	dialled := 0
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled++
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var open []*duplex
	for i := range 4 {
		d := c.openStream(client, 1, fmt.Sprint("?stream=http2-", i), wire.TypeNDJSON)
		d.send("{\"text\":\"first\"}\n")
		if a := d.next(); a.Number != 1 || d.resp.ProtoMajor != 2 {
			c.t.Fatalf("%+v over %s", a, d.resp.Proto)
		}
		open = append(open, d)
	}
	for n := uint64(2); n <= 20; n++ {
		for _, d := range open[1:] {
			d.send("{\"text\":\"another\"}\n")
			if a := d.next(); a.Number != n || a.State != wire.StateCommitted {
				c.t.Fatalf("record %d: %+v", n, a)
			}
		}
	}
	for i, want := range []uint64{1, 20, 20, 20} {
		if a := open[i].end(); a.Number != want || a.Problem != nil {
			c.t.Errorf("the last line of stream %d: %+v", i, a)
		}
	}
	d := c.openStream(client, 1, "?stream=http2-1&first=21", wire.TypeNDJSON)
	d.send("{\"text\":\"x\"}\nno JSON\n" + strings.Repeat("{\"text\":\"x\"}\n", 10))
	if a := d.last(); a.Number != 21 || a.Problem == nil {
		c.t.Errorf("after a malformed line: %+v", a)
	}
	_ = d.body.Close()
	if dialled != 1 {
		c.t.Errorf("%d connections", dialled)
	}
}

// manyInAStream sends more records than a window holds, as frames, without a number or an id.
func (c *cluster) manyInAStream(client *http.Client) {
	d := c.openStream(client, 1, "", wire.TypeFrames)
	const many = 5000
	go func() {
		var frames []byte
		for n := range many {
			frames = wire.AppendFrame(frames, "key", "text/plain", fmt.Append(nil, n))
			if n%700 == 0 || n == many-1 {
				_, _ = d.body.Write(frames)
				frames = frames[:0]
			}
		}
		_ = d.body.Close()
	}()
	last := uint64(0)
	for n := uint64(1); n <= many; n++ {
		a := d.next()
		if a.Number != n || n > 1 && a.Index <= last {
			c.t.Fatalf("%+v, want number %d behind leaf %d", a, n, last)
		}
		last = a.Index
	}
	if a := d.last(); a.Number != many || a.Problem != nil {
		c.t.Errorf("the last line: %+v, %+v", a, a.Problem)
	}
	id := d.resp.Header.Get(wire.HeaderStream)
	if state := c.streamState(id); state.Next != many+1 || state.Oldest != many+1-state.Window || state.Stream != id {
		c.t.Errorf("%+v", state)
	}
}

func (c *cluster) streamState(id string) (s wire.AppendStream) {
	c.t.Helper()
	_, body := c.do(2, request{name: "state", method: "GET", path: "/v1/streams/" + id, token: c.file.Tokens.Project,
		status: 200})
	if err := json.Unmarshal(body, &s); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// streamSentAgain sends records again: with the same content they get their first positions.
func (c *cluster) streamSentAgain(client *http.Client) {
	lines := func(first, last int) (text string) {
		for n := first; n <= last; n++ {
			text += fmt.Sprintf("{\"text\":\"number %d\"}\n", n)
		}
		return text
	}
	var at []wire.Position
	for i, r := range [][2]int{{1, 10}, {4, 8}, {6, 15}, {1, 20}} {
		d := c.openStream(client, i%3, fmt.Sprint("?stream=again&first=", r[0]), wire.TypeNDJSON)
		d.send(lines(r[0], r[1]))
		for n := r[0]; n <= r[1]; n++ {
			a := d.next()
			switch {
			case n > len(at):
				at = append(at, *a.Position)
			case a.Number != uint64(n) || a.Leaf != at[n-1].Leaf || a.Index != at[n-1].Index:
				c.t.Errorf("number %d was sent again: %+v, at first %+v", n, a, at[n-1])
			}
		}
		if a := d.end(); a.Number != uint64(r[1]) || a.Problem != nil {
			c.t.Errorf("the last line: %+v", a)
		}
	}
	d := c.openStream(client, 0, "?stream=again&first=21", wire.TypeNDJSON)
	d.send(lines(21, 21) + "no JSON\n")
	if a := d.end(); a.Number != 21 || a.Problem == nil || a.Problem.Type != wire.ProblemBase+"bad-request" ||
		a.Problem.Detail == "" {
		c.t.Errorf("after a malformed line: %+v", a)
	}
	c.do(0, request{name: "other content", method: "POST", path: "/v1/records:stream?stream=again&first=3",
		token: c.file.Tokens.Project, body: `{"text":"another"}`, status: 422, problem: "stream-content"})
}

// streamsRefused sends what is refused before the first answer, with its status.
func (c *cluster) streamsRefused() {
	line := `{"text":"x"}`
	for _, r := range []request{
		{name: "gap", path: "?stream=duplex-0&first=22", body: line, status: 409, problem: "stream-gap"},
		{name: "unknown", path: "?stream=unknown&first=2", body: line, status: 404, problem: "unknown-stream"},
		{name: "id", path: "?stream=a%20b", body: line, status: 400, problem: "bad-request"},
		{name: "long id", path: "?stream=" + strings.Repeat("i", 65), body: line, status: 400, problem: "bad-request"},
		{name: "number", path: "?stream=x&first=0", body: line, status: 400, problem: "bad-request"},
		{name: "empty record", body: `{"text":""}`, status: 400, problem: "empty-body"},
		{name: "large record", body: `{"text":"` + strings.Repeat("x", 1<<20+1) + `"}`, status: 413,
			problem: "too-large"},
		{name: "coding", body: line, headers: map[string]string{"Content-Encoding": "gzip"}, status: 415,
			problem: "content-encoding"},
	} {
		r.method, r.token, r.path = "POST", c.file.Tokens.Project, "/v1/records:stream"+r.path
		c.do(0, r)
	}
	c.do(0, request{name: "no token", method: "POST", path: "/v1/records:stream", body: line, status: 401,
		problem: "unauthorized"})
	c.do(0, request{name: "state", method: "GET", path: "/v1/streams/unknown", token: c.file.Tokens.Project,
		status: 404, problem: "unknown-stream"})
	c.do(0, request{name: "no token", method: "GET", path: "/v1/streams/unknown", status: 401,
		problem: "unauthorized"})
	_, body := c.do(0, request{name: "nothing", method: "POST", path: "/v1/records:stream",
		token: c.file.Tokens.Project, status: 200})
	if got := string(bytes.TrimSpace(body)); got != `{"number":0,"end":true}` {
		c.t.Errorf("a stream without records: %q", got)
	}
}

// streamRemoved checks that a client can remove its stream, through every master, and that an id that a master has made
// begins no stream again.
func (c *cluster) streamRemoved(client *http.Client) {
	remove := func(i int, id string, status int, problem string) {
		c.do(i, request{name: "remove", method: "DELETE", path: "/v1/streams/" + id, token: c.file.Tokens.Project,
			status: status, problem: problem})
	}
	for i := range 3 {
		for range 2 {
			d := c.openStream(client, i, "?stream=removed", wire.TypeNDJSON)
			d.send("{\"text\":\"x\"}\n")
			if a := d.end(); a.Number != 1 || a.Problem != nil {
				c.t.Errorf("the last line: %+v", a)
			}
			remove(i, "removed", 204, "")
			remove(i, "removed", 404, "unknown-stream")
		}
		d := c.openStream(client, i, "", wire.TypeNDJSON)
		d.send("{\"text\":\"x\"}\n")
		if a := d.end(); a.Number != 1 || a.Problem != nil {
			c.t.Errorf("the last line: %+v", a)
		}
		id := d.resp.Header.Get(wire.HeaderStream)
		again := request{name: "again", method: "POST", path: "/v1/records:stream?stream=" + id,
			token: c.file.Tokens.Project, body: `{"text":"x"}`, status: 200}
		c.do(i, again)
		remove(i, id, 204, "")
		again.status, again.problem = 404, "unknown-stream"
		c.do(i, again)
	}
}

// streamOpened opens a stream at each master. Its first records are sent again at another one, and are appended once.
func (c *cluster) streamOpened(client *http.Client) {
	for i := range 3 {
		_, body := c.do(i, request{name: "open", method: "POST", path: "/v1/streams", token: c.file.Tokens.Project,
			status: 201})
		var s wire.AppendStream
		if err := json.Unmarshal(body, &s); err != nil || s.Next != 1 || s.Oldest != 1 || s.Window != 4096 ||
			!strings.HasPrefix(s.Stream, wire.OwnStreamID) || wire.CheckStreamID(s.Stream) != nil {
			c.t.Fatalf("%s: %v", body, err)
		}
		if got := c.streamState(s.Stream); got != s {
			c.t.Errorf("%+v, want %+v", got, s)
		}
		var index uint64
		for j := range 3 {
			d := c.openStream(client, (i+j)%3, "?stream="+s.Stream+"&first=1", wire.TypeNDJSON)
			d.send("{\"text\":\"once\"}\n")
			a := d.next()
			if a.Number != 1 || index != 0 && a.Index != index {
				c.t.Errorf("%+v, at first at %d", a, index)
			}
			index = a.Index
			d.end()
		}
		if got := c.streamState(s.Stream); got.Next != 2 {
			c.t.Errorf("%+v", got)
		}
	}
}

// streamsListed checks the pages of the list: at every master the same streams, each once, in the order of their ids.
func (c *cluster) streamsListed() {
	page := func(i int, query string) (p wire.AppendStreams) {
		_, body := c.do(i, request{name: "list", method: "GET", path: "/v1/streams" + query,
			token: c.file.Tokens.Project, status: 200})
		if err := json.Unmarshal(body, &p); err != nil {
			c.t.Fatal(err)
		}
		return p
	}
	all := page(0, "?limit=1000")
	kinds, past := map[wire.StreamKind]int{}, ""
	for _, s := range all.Streams {
		kinds[s.Kind]++
		if named := !strings.HasPrefix(s.Stream, wire.OwnStreamID); named != (s.Kind == wire.StreamNamed) ||
			s.Stream <= past || c.streamState(s.Stream).Next != s.Last+1 ||
			time.Since(time.UnixMilli(int64(s.IdleSince))).Abs() > time.Hour {
			c.t.Errorf("%+v after %q", s, past)
		}
		past = s.Stream
	}
	if kinds[wire.StreamNamed] < 3 || kinds[wire.StreamUnnamed] < 3 || all.Next != "" {
		c.t.Errorf("%v, next %q", kinds, all.Next)
	}
	var paged []wire.ListedStream
	for i, query := 0, "?limit=2"; ; i++ {
		p := page(i, query)
		paged = append(paged, p.Streams...)
		if p.Next == "" {
			break
		}
		query = "?limit=2&cursor=" + p.Next
	}
	if !slices.Equal(paged, all.Streams) {
		c.t.Errorf("in pages of two: %+v, want %+v", paged, all.Streams)
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?cursor=a%20b"} {
		c.do(0, request{name: query, method: "GET", path: "/v1/streams" + query, token: c.file.Tokens.Project,
			status: 400, problem: "bad-request"})
	}
}

// streamQuota checks that a stream waits for the quota of its project.
func (c *cluster) streamQuota(client *http.Client) {
	_, body := c.do(0, request{name: "create", method: "POST", path: "/v1/projects", token: c.file.Tokens.Admin,
		body: `{"name":"slow","quota":{"records_per_second":20}}`, status: 201})
	var created wire.CreatedProject
	if err := json.Unmarshal(body, &created); err != nil {
		c.t.Fatal(err)
	}
	began := time.Now()
	d := openStream(c.t, client, c.file.Masters[0], created.Token, "", wire.TypeNDJSON)
	d.send(strings.Repeat("{\"text\":\"x\"}\n", 50))
	if a := d.end(); a.Number != 50 || a.Problem != nil || len(d.numbers) != 50 {
		c.t.Errorf("%d answers, then %+v", len(d.numbers), a.Problem)
	}
	if passed := time.Since(began); passed < time.Second {
		c.t.Errorf("50 records at 20 a second took %v", passed)
	}
}

// streamAcrossLeaders moves the leadership while a stream runs.
func (c *cluster) streamAcrossLeaders(client *http.Client) {
	d := c.openStream(client, 0, "?stream=leaders", wire.TypeNDJSON)
	const many = 600
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for n := range many {
			_, _ = fmt.Fprintf(d.body, "{\"text\":\"%d\"}\n", n)
		}
		_ = d.body.Close()
	}()
	for n := uint64(1); n <= many; n++ {
		if a := d.next(); a.Number != n || a.End {
			c.t.Fatalf("%+v, want number %d", a, n)
		}
		if n%200 == 100 {
			c.transferLeadership(client, int(n/200))
		}
	}
	<-sent
	if a := d.last(); a.Number != many || a.Problem != nil {
		c.t.Errorf("the last line: %+v, %+v", a, a.Problem)
	}
}

// transferLeadership moves the leadership, through a master. While an election is under way the answer is 503.
func (c *cluster) transferLeadership(client *http.Client, through int) {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost,
			c.file.Masters[through]+"/v1/leader/transfer", nil)
		if err != nil {
			c.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+c.file.Tokens.Admin)
		answer, err := client.Do(r)
		if err != nil {
			c.t.Fatal(err)
		}
		_ = answer.Body.Close()
		switch late := time.Now().After(deadline); {
		case answer.StatusCode == http.StatusOK:
			return
		case answer.StatusCode != http.StatusServiceUnavailable || late:
			c.t.Fatalf("transfer: %s", answer.Status)
		}
	}
}

// TestAppendStreamStops checks what a client gets whose master is told to stop, and that it goes on at another one.
func TestAppendStreamStops(t *testing.T) {
	c := startCluster(t)
	c.awaitStreams()
	client := &http.Client{Transport: &http.Transport{}}
	d := c.openStream(client, 1, "?stream=s", wire.TypeNDJSON)
	d.send("{\"text\":\"one\"}\n")
	if a := d.next(); a.Number != 1 {
		t.Fatalf("%+v", a)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- c.stop() }()
	a := d.last()
	if a.Number != 1 || a.Problem == nil || a.Problem.Status != http.StatusServiceUnavailable ||
		!strings.Contains(a.Problem.Detail, "GET /v1/streams/s") || strings.Contains(a.Problem.Detail, "context") {
		t.Errorf("the last line: %+v, %+v", a, a.Problem)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestHalfDuplex sends everything before it reads an answer, as many clients do. Of many records some are appended. The
// client gets the answers of all these, and learns where to continue.
func TestHalfDuplex(t *testing.T) {
	c := startCluster(t)
	c.awaitStreams()
	for _, many := range []int{1000, 60_000} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.file.Masters[0], "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.(*net.TCPConn).SetReadBuffer(256 << 10) // so that few answers fit on the way
		body := strings.Repeat("{\"text\":\""+strings.Repeat("x", 300)+"\"}\n", many)
		if _, err := fmt.Fprintf(conn, "POST /v1/records:stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
			"Content-Length: %d\r\n\r\n%s", c.file.Tokens.Project, len(body), body); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		lines, end := bufio.NewScanner(answer.Body), wire.StreamAnswer{}
		number := uint64(0)
		for lines.Scan() {
			if err := json.Unmarshal(lines.Bytes(), &end); err != nil {
				t.Fatal(err)
			}
			if !end.End {
				number++
			}
		}
		if !end.End || end.Number != number {
			t.Fatalf("%d answers, then %+v", number, end)
		}
		unread := end.Problem != nil && end.Problem.Type == wire.ProblemBase+wire.ErrUnreadAnswers.Name
		if all := number == uint64(many); number < 1000 || all == unread || all != (many == 1000) {
			t.Errorf("%d of %d records were appended: %+v", number, many, end.Problem)
		}
		t.Logf("%d of %d records", number, many)
	}
}

// TestSlowStreamsLeaveRoom checks that streams whose records do not end, of four projects, take no more memory than
// their shares, and leave room for other bodies.
func TestSlowStreamsLeaveRoom(t *testing.T) {
	c := startCluster(t)
	c.awaitStreams()
	client := &http.Client{Transport: &http.Transport{}}
	const each, most = 12, 8 // streams of a project; those whose buffers of 2 MiB fit in its share
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for project := range 4 {
		_, body := c.do(0, request{name: "create", method: "POST", path: "/v1/projects", token: c.file.Tokens.Admin,
			body: fmt.Sprintf(`{"name":"slow%d"}`, project), status: 201})
		var created wire.CreatedProject
		if err := json.Unmarshal(body, &created); err != nil {
			t.Fatal(err)
		}
		refused := make(chan int, each)
		for range each {
			line := io.MultiReader(strings.NewReader(`{"text":"`+strings.Repeat("x", 3<<19)), &silent{ctx})
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.file.Masters[0]+"/v1/records:stream", line)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+created.Token)
			go func() {
				if answer, err := client.Do(r); err == nil {
					_ = answer.Body.Close()
					refused <- answer.StatusCode
				}
			}()
		}
		for i := range each - most {
			select {
			case status := <-refused:
				if status != http.StatusServiceUnavailable {
					t.Errorf("project %d: status %d", project, status)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("project %d: %d of %d streams hold memory at a time", project, each-i, each)
			}
		}
		c.do(0, request{name: "a batch", method: "POST", path: "/v1/records", token: created.Token,
			body: strings.Repeat("y", 1<<20), status: 201})
	}
}

// silent is a body of which nothing comes until a context ends.
type silent struct{ ctx context.Context }

func (s *silent) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, io.ErrUnexpectedEOF
}
