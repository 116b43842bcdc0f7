package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// rawRequest is a request of a row, with the project's token unless its header has another Authorization.
type rawRequest struct {
	method, url string
	header      map[string]string
	body        io.Reader
}

// send sends a request, and returns the answer and its body.
func (c *cluster) send(r rawRequest) (*http.Response, []byte) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), r.method, r.url, r.body)
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.projectToken())
	for name, value := range r.header {
		request.Header.Set(name, value)
	}
	answer, err := c.httpClient().Do(request)
	if err != nil {
		c.t.Fatalf("%s %s: %v", r.method, r.url, err)
	}
	defer func() { _ = answer.Body.Close() }() // read only
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", r.method, r.url, err)
	}
	return answer, body
}

// mustAnswer sends a request, which must be answered with a status, and returns the body.
func (c *cluster) mustAnswer(status int, r rawRequest) []byte {
	c.t.Helper()
	answer, body := c.send(r)
	if answer.StatusCode != status {
		c.t.Errorf("%s %s: %s %.300s, want %d", r.method, r.url, answer.Status, body, status)
	}
	return body
}

// records returns the number of records of the cluster.
func (c *cluster) records() (n uint64) {
	c.t.Helper()
	c.await("a status", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		n = s.Records
		return ""
	})
	return n
}

// withoutFiles makes a role unable to open files until undo is called, as if it had run out of descriptors. The
// connections that it has stay open.
func (c *cluster) withoutFiles(name string) (undo func()) {
	c.t.Helper()
	if _, err := exec.LookPath("strace"); err == nil {
		return injectSyscalls(c.t, c.PIDs()[name], "openat:error=EMFILE")
	}
	c.t.Log("NO strace: the number of descriptors is limited instead")
	return c.limitDescriptors(name, 0)
}

// highestDescriptor returns the highest descriptor of a process.
func highestDescriptor(t *testing.T, pid int) (highest uint64) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var n uint64
		if _, err := fmt.Sscan(e.Name(), &n); err != nil {
			t.Fatal(err)
		}
		highest = max(highest, n)
	}
	return highest
}

// restartRole stops a role cleanly and starts it again, so that it has no file open that it opens when it is needed.
func (c *cluster) restartRole(name string) {
	c.t.Helper()
	if err := c.StopRole(name); err != nil {
		c.t.Fatal(err)
	}
	c.launch(name)
	c.awaitAllReady()
}

// awaitAllReady waits until every role is ready, and the leader counts it as healthy.
func (c *cluster) awaitAllReady() {
	c.t.Helper()
	for _, role := range c.Topology().Roles() {
		c.await(role.Name+" to be ready", func() string {
			if ready := statusOf("GET", role.URL()+"/readyz"); ready != "200" {
				return ready
			}
			return ""
		})
	}
	c.awaitComplete(3)
}

func checkWithoutFiles(t *testing.T, c *cluster) {
	const name = "storage-1"
	c.restartRole(name)
	url := roleOf(c.Topology(), name).URL()
	c.await("no check that is due", func() string { return nodeAt(c.integrity(), url).Due })
	before := c.integrity()
	undo := c.withoutFiles(name)
	status, said := c.refusedBy("check", "--cluster", c.clusterFile(), url)
	undo()
	if status != 1 || !strings.Contains(said, "could not be checked to the end") {
		t.Errorf("exit status %d, said\n%s", status, said)
	}
	now := c.integrity()
	n, was := nodeAt(now, url), nodeAt(before, url)
	if now.Totals.Checks != before.Totals.Checks || n.Checked != was.Checked || n.State == "invalid" ||
		told(before, now, url, wire.EventFinding) {
		t.Errorf("after a check that could not be done: %+v, %+v; before: %+v, %+v", now.Totals, n, before.Totals, was)
	}
	c.await("the check to be done", func() string {
		if n := nodeAt(c.integrity(), url); n.Due != "" || n.Checked == was.Checked || n.State != "valid" {
			return fmt.Sprintf("%+v", n)
		}
		return ""
	})
}

func readWithoutFiles(t *testing.T, c *cluster) {
	const name, others = "storage-1", "storage-2 storage-3"
	masters := c.File().Masters
	var list struct {
		Records []wire.Position `json:"records"`
	}
	body := c.mustAnswer(http.StatusOK, rawRequest{"GET", masters[0] + "/v1/records?limit=500", nil, nil})
	if err := json.Unmarshal(body, &list); err != nil || len(list.Records) == 0 {
		t.Fatalf("%v: %s", err, body)
	}
	for _, master := range c.names(devcluster.KindMaster) { // a master may have the record in its cache
		c.restartRole(master)
	}
	c.restartRole(name)
	url := roleOf(c.Topology(), name).URL()
	c.await("no check that is due", func() string { return nodeAt(c.integrity(), url).Due })
	before := c.integrity()
	for _, other := range strings.Fields(others) {
		if err := c.StopRole(other); err != nil {
			t.Fatal(err)
		}
	}
	undo := c.withoutFiles(name)
	// A segment that something has read since the node's start is open, and its records are served.
	path, said := "", ""
	for i, at := range list.Records {
		if i > 0 && at.Block == list.Records[i-1].Block {
			continue
		}
		path, said = fmt.Sprintf("/v1/blocks/%d/records/%d", at.Block, at.Offset), ""
		for _, master := range masters {
			answer, body := c.send(rawRequest{"GET", master + path, nil, nil})
			if answer.StatusCode != http.StatusServiceUnavailable {
				said = fmt.Sprintf("%s of %s: %s %.100q", path, master, answer.Status, body)
				break
			}
		}
		if said == "" {
			break
		}
	}
	if said != "" {
		t.Errorf("no record is refused, the last one is %s", said)
	}
	undo()
	c.launch(strings.Fields(others)...)
	c.awaitAllReady()
	for _, master := range masters {
		c.await("the record", func() string {
			if answer, body := c.send(rawRequest{"GET", master + path, nil, nil}); answer.StatusCode != http.StatusOK {
				return fmt.Sprintf("%s %.300s", answer.Status, body)
			}
			return ""
		})
	}
	now := c.integrity()
	if n := nodeAt(now, url); n.State == "invalid" || told(before, now, url, wire.EventSuspect) ||
		told(before, now, url, wire.EventFinding) {
		t.Errorf("after reads that could not be done: %+v, events %+v", n, now.Events)
	}
}

func keysOutsideLatin1(t *testing.T, c *cluster) {
	keys := []string{"门/7", "Tür/7", "ключ", "🔑"}
	var lines bytes.Buffer
	for _, key := range keys {
		line := map[string]string{"text": "x", "key": key, "type": "text/" + key}
		if err := json.NewEncoder(&lines).Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	var at wire.Positions
	body := c.mustAnswer(http.StatusCreated, rawRequest{"POST", c.File().Masters[0] + "/v1/records:batch", nil, &lines})
	if err := json.Unmarshal(body, &at); err != nil || len(at.Records) != len(keys) {
		t.Fatalf("%v: %s", err, body)
	}
	for i, key := range keys {
		for _, master := range c.File().Masters {
			var r wire.Record
			body := c.mustAnswer(http.StatusOK, rawRequest{"GET",
				fmt.Sprint(master, "/v1/records/", at.Records[i].Index),
				map[string]string{"Accept": "application/json"}, nil})
			if err := json.Unmarshal(body, &r); err != nil || r.Key != key || r.Type != "text/"+key {
				t.Errorf("key %q: %v, %s", key, err, body)
			}
			var page struct{ Records []wire.Record }
			body = c.mustAnswer(http.StatusOK,
				rawRequest{"GET", master + "/v1/records?key=" + url.QueryEscape(key), nil, nil})
			if err := json.Unmarshal(body, &page); err != nil || len(page.Records) != 1 {
				t.Errorf("list of key %q: %v, %s", key, err, body)
			}
		}
	}
}

func compressedBodies(t *testing.T, c *cluster) {
	before := c.records()
	for path, text := range map[string]string{
		"/v1/records": `{"door":7}`, "/v1/records:batch": `{"text":"x"}` + "\n",
	} {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := w.Write([]byte(text)); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		for _, coding := range []string{"gzip", "GZIP", "identity, gzip"} {
			answer, body := c.send(rawRequest{"POST", c.File().Masters[0] + path, map[string]string{
				"Content-Type": "application/json", "Content-Encoding": coding,
			}, bytes.NewReader(packed.Bytes())})
			if answer.StatusCode != http.StatusUnsupportedMediaType ||
				answer.Header.Get("Accept-Encoding") != "identity" {
				t.Errorf("%s with %s: %s, %v, %s", path, coding, answer.Status, answer.Header, body)
			}
		}
	}
	if now := c.records(); now != before {
		t.Errorf("%d records, %d before", now, before)
	}
}

func controlCharacters(t *testing.T, c *cluster) {
	before := c.records()
	for _, line := range []string{
		`{"text":"x","key":"a\u0000b"}`, `{"text":"x","key":"a\nb"}`, `{"text":"x","key":"a\tb"}`,
		`{"text":"x","key":"a\u007f"}`, `{"text":"x","key":"k","type":"text/plain\u0001"}`,
	} {
		c.mustAnswer(http.StatusBadRequest,
			rawRequest{"POST", c.File().Masters[0] + "/v1/records:batch", nil, strings.NewReader(line + "\n")})
	}
	if now := c.records(); now != before {
		t.Errorf("%d records, %d before", now, before)
	}
}

// bodiesThatNeverCome sends the headers of appends without a token, over more connections than a master would leave
// open.
func bodiesThatNeverCome(t *testing.T, c *cluster) {
	address := roleOf(c.Topology(), "master-1").HTTP
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}()
	for range 50 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		_, err = io.WriteString(conn, "POST /v1/records HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, conn := range open {
		// A master of a busy machine may be slow. Without limits the connection would stay for ever.
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		began, r := time.Now(), bufio.NewReader(conn)
		answer, err := http.ReadResponse(r, nil)
		if err != nil || answer.StatusCode != http.StatusUnauthorized {
			t.Fatalf("connection %d: %+v, %v", i, answer, err)
		}
		if took := time.Since(began); took > slower*10*time.Second {
			t.Errorf("connection %d: the answer took %v", i, took)
		}
		if _, err := io.Copy(io.Discard, r); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("connection %d does not end: %v", i, err)
		}
	}
}

// alone is a process of the program that a row starts.
type alone struct {
	cmd  *exec.Cmd
	said *os.File
}

// startAlone starts the program. It is killed at the end of the subtest.
func startAlone(t *testing.T, args ...string) *alone {
	t.Helper()
	said, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	a := &alone{exec.Command(binary, args...), said}
	a.cmd.Stdout, a.cmd.Stderr = said, said
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
		_ = said.Close()
		if t.Failed() {
			t.Logf("chainstore %s said:\n%s", strings.Join(args, " "), tail(said.Name(), 15))
		}
	})
	return a
}

// log returns what the process has logged.
func (a *alone) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(a.said.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// statusOf returns the status of a request, or why there is none.
func statusOf(method, url string) string {
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		return err.Error()
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	_ = answer.Body.Close() // not read
	return fmt.Sprint(answer.StatusCode)
}

func workersThatCannotRegister(t *testing.T, c *cluster) {
	base := freePorts(t)
	for i, row := range []struct{ masters, token, warned string }{
		{c.File().Masters[0], "another-token-of-the-test", "another token"},
		{"http://127.0.0.1:1", c.File().Tokens.Cluster, "connection refused"},
	} {
		address := fmt.Sprint("127.0.0.1:", base+i)
		a := startAlone(t, "storage", "--data", filepath.Join(t.TempDir(), "data"), "--http", address, "--masters",
			row.masters, "--cluster-token-file", tokenFile(t, row.token))
		c.await("a process that serves", func() string {
			if live := statusOf("GET", "http://"+address+"/livez"); live != "200" {
				return live
			}
			return ""
		})
		c.await("a warning", func() string {
			text := a.log(t)
			for line := range strings.Lines(text) {
				if strings.Contains(line, "[WARN]") && strings.Contains(line, row.warned) {
					return ""
				}
			}
			return text
		})
		if ready := statusOf("GET", "http://"+address+"/readyz"); ready != "503" {
			t.Errorf("masters %s: /readyz is %s", row.masters, ready)
		}
	}
}

func stopWhileAnAppendWaits(t *testing.T, c *cluster) {
	names := []string{"storage-1", "storage-2"}
	c.kill(names...)
	defer c.launch(names...)
	const name = "master-3"
	waiting := make(chan error, 1)
	go func() {
		request, err := http.NewRequestWithContext(t.Context(), "POST", roleOf(c.Topology(), name).URL()+
			"/v1/records?wait=stored&timeout=60s", strings.NewReader("waits"))
		if err != nil {
			waiting <- err
			return
		}
		request.Header.Set("Authorization", "Bearer "+c.projectToken())
		answer, err := c.httpClient().Do(request)
		if err != nil {
			waiting <- err
			return
		}
		defer func() { _ = answer.Body.Close() }() // read only
		var at wire.Position
		if err = json.NewDecoder(answer.Body).Decode(&at); answer.StatusCode != http.StatusAccepted {
			err = fmt.Errorf("%s, %+v, %w", answer.Status, at, err)
		}
		waiting <- err
	}()
	before := c.records()
	c.await("the record that is waited for", func() string {
		if c.records() > before {
			return ""
		}
		return "not appended"
	})
	if err := c.StopRole(name); err != nil {
		t.Error(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("the append that waits: %v", err)
	}
	c.launch(name)
}

func streamHeader(t *testing.T, c *cluster) {
	request, err := http.NewRequestWithContext(t.Context(), "GET", c.File().Masters[0]+"/v1/records/stream?from=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.projectToken())
	answer, err := c.httpClient().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // it has no end
	if h := answer.Header; h.Get("X-Accel-Buffering") != "no" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%s, %v", answer.Status, h)
	}
}

func headOfHealth(t *testing.T, c *cluster) {
	for _, role := range c.Topology().Roles() {
		for _, path := range []string{"/livez", "/readyz", "/metrics"} {
			get, head := statusOf("GET", role.URL()+path), statusOf("HEAD", role.URL()+path)
			if get != head || get != "200" && (role.Kind == "master" || path != "/metrics") {
				t.Errorf("%s of %s: GET %s, HEAD %s", path, role.Name, get, head)
			}
		}
	}
}

// startMasters starts new masters on their own, each with a list of peers by their numbers.
func startMasters(t *testing.T, peers ...[]int) (urls []string) {
	t.Helper()
	base := freePorts(t)
	address := func(port int) string { return fmt.Sprint("127.0.0.1:", port) }
	token, admin := tokenFile(t, "a-cluster-token-of-the-test"), tokenFile(t, "an-admin-token-of-the-test")
	for i, list := range peers {
		var others []string
		for _, n := range list {
			others = append(others, "http://"+address(base+n))
		}
		startAlone(t, "master", "--data", filepath.Join(t.TempDir(), "data"), "--http", address(base+i), "--raft",
			address(base+100+i), "--peers", strings.Join(others, ","), "--cluster-token-file", token,
			"--admin-token-file", admin)
		urls = append(urls, "http://"+address(base+i))
	}
	return urls
}

func oneMasterAlone(t *testing.T, c *cluster) {
	url := startMasters(t, []int{0, 1, 2})[0]
	c.await("an answer of a master alone", func() string {
		if live := statusOf("GET", url+"/livez"); live != "200" {
			return live
		}
		return ""
	})
	if ready := statusOf("GET", url+"/readyz"); ready != "503" {
		t.Errorf("/readyz is %s", ready)
	}
}

func peersInAnotherOrder(t *testing.T, c *cluster) {
	urls := startMasters(t, []int{0, 1, 2}, []int{1, 0, 2}, []int{0, 1, 2})
	c.await("one group of all masters", func() string {
		for _, url := range urls {
			if ready := statusOf("GET", url+"/readyz"); ready != "200" {
				return fmt.Sprintf("%s is not ready: %s", url, ready)
			}
		}
		return ""
	})
}

func bodiesOverTheLimit(t *testing.T, c *cluster) {
	url := c.File().Masters[0] + "/v1/records"
	big := bytes.Repeat([]byte("x"), 50_000_000)
	c.mustAnswer(http.StatusRequestEntityTooLarge, rawRequest{"POST", url, nil, bytes.NewReader(big)})
	conn, err := net.Dial("tcp", roleOf(c.Topology(), "master-1").HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "POST /v1/records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Length: 50000000\r\nExpect: 100-continue\r\n\r\n", c.projectToken())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("the first answer to Expect: 100-continue is %+v, %v", answer, err)
	}
}

// readyWithoutALeader halts two masters. The third may serve known records for 5 s.
func readyWithoutALeader(t *testing.T, c *cluster) {
	names := c.names("master")
	halted, left := names[:2], roleOf(c.Topology(), names[2])
	for _, name := range halted {
		c.halt(name)
	}
	defer func() {
		for _, name := range halted {
			c.resume(name)
		}
	}()
	began := time.Now()
	c.await("a master that is not ready", func() string {
		if ready := statusOf("GET", left.URL()+"/readyz"); ready != "503" {
			return ready
		}
		return ""
	})
	if took := time.Since(began); took > slower*5*time.Second {
		t.Errorf("it took %v until a master without a leader was not ready", took)
	}
	cl := c.clientOnce(left.URL())
	c.await("a refused read", func() string {
		_, err := cl.GetIndex(t.Context(), 0)
		switch {
		case err == nil && time.Since(began) > slower*15*time.Second:
			return "still served"
		case err == nil:
			return "served"
		case !errors.Is(err, wire.ErrNoLeader) && !errors.Is(err, wire.ErrUnavailable):
			t.Fatalf("a read without a leader: %v", err)
		}
		return ""
	})
	if took := time.Since(began); took > slower*20*time.Second {
		t.Errorf("reads were served for %v without a leader", took)
	}
}
