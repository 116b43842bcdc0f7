package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// moving is the transport of the test's clients, which call http:// URLs over TLS once secured is set: as users do who
// change the URLs of their clients.
type moving struct {
	*http.Transport
	secured atomic.Bool
}

// RoundTrip implements [http.RoundTripper].
func (m *moving) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.secured.Load() {
		secured, url := r.WithContext(r.Context()), *r.URL
		url.Scheme = "https"
		secured.URL, r = &url, secured
	}
	return m.Transport.RoundTrip(r)
}

// withTLS returns a role with its certificate.
func (c *cluster) withTLS(name string) devcluster.Role {
	r := roleOf(c.Topology(), name)
	r.TLS = certs.Files{
		Cert: filepath.Join(c.dir, "tls", name+".pem"), Key: filepath.Join(c.dir, "tls", name+"-key.pem"),
		CA: filepath.Join(c.dir, "tls", "ca.pem"),
	}
	return r
}

// startWithTLS starts a role with a certificate.
func (c *cluster) startWithTLS(name string) {
	c.t.Helper()
	r := c.withTLS(name)
	if err := c.StartAs(r); err != nil {
		c.t.Fatal(err)
	}
	// The cluster may not have noticed yet that the role was stopped.
	c.await(name+" to answer", func() string {
		if status, _, err := c.health(r, "/livez", ""); status != http.StatusOK {
			return fmt.Sprint(status, " ", err)
		}
		return ""
	})
	c.awaitComplete(3)
}

// uses returns what each node said about the step of TLS, by the host and port of its URL, and the leader's.
func uses(s wire.Cluster) (known map[string]*wire.TLSUse, leader string) {
	known = map[string]*wire.TLSUse{}
	for _, m := range s.Masters {
		if m.State == "leader" {
			leader = hostPort(m.URL)
		}
		known[hostPort(m.URL)] = m.TLS
	}
	for _, n := range s.Storages {
		known[hostPort(n.URL)] = n.TLS
	}
	for _, m := range s.Miners {
		known[hostPort(m.URL)] = m.TLS
	}
	return known, leader
}

// hostPort returns those of a URL.
func hostPort(url string) string { return url[strings.LastIndex(url, "/")+1:] }

// awaitStep waits until all nodes know a step, and those that are secured were called over TLS.
func (c *cluster) awaitStep(step wire.TLSStep, secured func(name string) bool) {
	c.t.Helper()
	c.await("the step "+step.Name()+" of TLS at all nodes", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		known, leader := uses(s)
		for _, r := range c.Topology().Roles() {
			use := known[r.HTTP]
			switch {
			case r.HTTP == leader:
			case use == nil:
				return r.Name + " has not said what it knows"
			case use.Step != step || use.Secured != secured(r.Name):
				return fmt.Sprintf("%s: %+v", r.Name, *use)
			}
		}
		if s.TLS != step {
			return "the status shows " + s.TLS.Name()
		}
		return ""
	})
}

// leaderRole waits for a leader other than not, and returns the name of its role, whatever the scheme of its URL.
func (c *cluster) leaderRole(not string) (name string) {
	c.t.Helper()
	c.await("a leader", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		_, leader := uses(s)
		for _, r := range c.Topology().Roles() {
			if r.HTTP == leader {
				name = r.Name
			}
		}
		if name == "" || name == not {
			return fmt.Sprintf("%q leads", name)
		}
		return ""
	})
	return name
}

// TestMoveToTLS follows the procedure of docs/operations.md under load: a cluster moves from plain text to TLS, with a
// way back, and leaders are killed between the steps. No append may fail. In the end no node takes plain text, whatever
// flags and secrets the other side has.
func TestMoveToTLS(t *testing.T) {
	users := &moving{}
	c := startWith(t, func(topology *devcluster.Topology) {
		users.Transport = &http.Transport{TLSClientConfig: trustOf(topology.Dir), MaxIdleConnsPerHost: maxClients}
		topology.HTTP = &http.Client{Transport: users}
	})
	c.awaitLevel()
	o := newOracle()
	l := c.startLoad(o)
	l.more(some)
	admin := c.admin()
	never, always := func(string) bool { return false }, func(string) bool { return true }
	for _, step := range []wire.TLSStep{wire.TLSPrefer, wire.TLSRequire} {
		if err := admin.SetTLS(t.Context(), step); err == nil {
			t.Errorf("a cluster in plain text takes the step %s", step)
		}
	}

	c.command(nil, "tls", "accept", "--cluster", c.clusterFile())
	c.awaitStep(wire.TLSAccept, never)
	roles := c.Topology().Roles()
	last := roles[len(roles)-1].Name // the miner gets its certificate later
	for _, r := range roles[:len(roles)-1] {
		if err := c.Issue(r, certs.NodeLifetime); err != nil {
			t.Fatal(err)
		}
		if r.Name == "master-2" { // a crash does no harm either
			c.kill(r.Name)
		} else if err := c.StopRole(r.Name); err != nil {
			t.Fatal(err)
		}
		c.startWithTLS(r.Name)
	}
	l.more(some)
	leader := c.leaderRole("")
	c.kill(leader)
	c.leaderRole(leader)
	c.startWithTLS(leader)
	c.awaitStep(wire.TLSAccept, never)

	if err := admin.SetTLS(t.Context(), wire.TLSPrefer); !errors.Is(err, wire.ErrNotOnTLS) ||
		!strings.Contains(err.Error(), "miner") {
		t.Errorf("prefer without the certificate of the miner: %v", err)
	}
	if err := c.Issue(roleOf(c.Topology(), last), certs.NodeLifetime); err != nil {
		t.Fatal(err)
	}
	if err := c.StopRole(last); err != nil {
		t.Fatal(err)
	}
	c.startWithTLS(last)
	c.takeStep(admin, wire.TLSPrefer)
	c.awaitStep(wire.TLSPrefer, always)
	l.more(some)
	if err := admin.SetTLS(t.Context(), wire.TLSAccept); err != nil {
		t.Fatal(err)
	}
	c.awaitStep(wire.TLSAccept, never)
	l.more(some)
	c.takeStep(admin, wire.TLSPrefer)
	c.awaitStep(wire.TLSPrefer, always)
	missed, err := os.ReadFile(filepath.Join(roleOf(c.Topology(), "storage-1").Data, "tls-step"))
	if err != nil {
		t.Fatal(err)
	}
	leader = c.leaderRole("")
	c.kill(leader)
	c.leaderRole(leader)
	c.startWithTLS(leader)
	c.awaitStep(wire.TLSPrefer, always)
	users.secured.Store(true)
	l.more(some)
	c.takeStep(admin, wire.TLSRequire)
	c.awaitStep(wire.TLSRequire, always)
	l.more(some)
	status := c.awaitStatus()
	for _, url := range []string{status.Masters[0].URL, status.Storages[0].URL, status.Miners[0].URL} {
		if !strings.HasPrefix(url, "https://") {
			t.Errorf("the table has the URL %s", url)
		}
	}
	for _, step := range []wire.TLSStep{wire.TLSAccept, wire.TLSPrefer} {
		if err := admin.SetTLS(t.Context(), step); !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("back to %s: %v", step, err)
		}
	}
	c.attackInPlainText()
	c.attackNodeThatMissed(missed)
	leader = c.leaderRole("")
	c.kill(leader)
	c.leaderRole(leader)
	c.startWithTLS(leader)
	l.more(some)
	l.end()
	c.withHTTPS().verify(o)
}

// takeStep takes a step once all nodes speak TLS with each other. A leader may change meanwhile.
func (c *cluster) takeStep(admin *client.Client, step wire.TLSStep) {
	c.t.Helper()
	c.await("the step "+step.Name(), func() string {
		if err := admin.SetTLS(c.t.Context(), step); err != nil {
			return err.Error()
		}
		return ""
	})
}

// TestRestartWhileMoving stops all nodes of a cluster in a step in which they take plain text, and starts them again.
// None of them has heard from a leader then, so they take little in plain text. They find a leader nevertheless.
func TestRestartWhileMoving(t *testing.T) {
	users := &moving{}
	c := startWith(t, func(topology *devcluster.Topology) {
		users.Transport = &http.Transport{TLSClientConfig: trustOf(topology.Dir)}
		topology.HTTP = &http.Client{Transport: users}
	})
	c.awaitLevel()
	o := newOracle()
	l := c.startLoad(o)
	l.more(some)
	l.end()
	c.command(nil, "tls", "accept", "--cluster", c.clusterFile())
	c.awaitStep(wire.TLSAccept, func(string) bool { return false })
	roles := c.Topology().Roles()
	for _, r := range roles {
		if err := c.Issue(r, certs.NodeLifetime); err != nil {
			t.Fatal(err)
		}
		if err := c.StopRole(r.Name); err != nil {
			t.Fatal(err)
		}
	}
	// One master has no certificate yet. It speaks plain text only.
	if err := c.StartAs(roles[0]); err != nil {
		t.Fatal(err)
	}
	for _, r := range roles[1:] {
		if err := c.StartAs(c.withTLS(r.Name)); err != nil {
			t.Fatal(err)
		}
	}
	c.awaitComplete(3)
	c.awaitStep(wire.TLSAccept, func(string) bool { return false })
	l = c.startLoad(o)
	l.more(some)
	l.end()
	c.verify(o)
}

// withHTTPS restarts a cluster that has moved to TLS, with https:// in all flags.
func (c *cluster) withHTTPS() *cluster {
	c.t.Helper()
	topology := c.Topology()
	c.stop()
	file, err := os.ReadFile(c.clusterFile())
	if err == nil {
		file = bytes.ReplaceAll(file, []byte("http://"), []byte("https://"))
		err = os.WriteFile(c.clusterFile(), file, 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	topology.HTTP = nil
	secure(&topology)
	c.masters = nil
	c.begin(topology)
	c.awaitComplete(3)
	return c
}

// attackInPlainText acts as a node without certificates that has all secrets of the group.
func (c *cluster) attackInPlainText() {
	c.t.Helper()
	for _, r := range c.Topology().Roles() {
		request, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+r.HTTP+wire.PathMember, nil)
		if err != nil {
			c.t.Fatal(err)
		}
		plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := c.prove(plain, c.secrets().For(nodeauth.Masters))(request)
		if err == nil {
			if answer.StatusCode != http.StatusBadRequest {
				c.t.Errorf("%s answers a node in plain text: %s", r.Name, answer.Status)
			}
			_ = answer.Body.Close()
		}
	}
	// The hello of raft, as a member would send it.
	conn, err := net.Dial("tcp", roleOf(c.Topology(), "master-1").Raft)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	hello := append([]byte("CSRH\x08"), make([]byte, 64)...)
	_, err = conn.Write(hello)
	said, readErr := io.ReadAll(conn)
	if errors.Is(readErr, os.ErrDeadlineExceeded) || bytes.Contains(said, []byte("CSRH")) {
		c.t.Errorf("raft in plain text: %q, %v, %v", said, err, readErr)
	}
	// A node of the group without certificates does not start, and says why.
	if err := c.StopRole("storage-1"); err != nil {
		c.t.Fatal(err)
	}
	c.launch("storage-1")
	c.awaitEnd("storage-1", certs.ErrNoCertificates.Error())
	// One with an empty folder is not let in.
	rogue := roleOf(c.Topology(), "storage-1")
	rogue.Data = filepath.Join(c.dir, "rogue")
	before, err := os.ReadFile(rogue.Log)
	if err == nil {
		err = c.StartAs(rogue)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.await("the refusal of a storage node in plain text", func() string {
		log, err := os.ReadFile(rogue.Log)
		if err != nil {
			return err.Error()
		}
		if !bytes.Contains(log[len(before):], []byte("it speaks TLS")) {
			return "its log does not say so"
		}
		return ""
	})
	ctx, cancel := context.WithTimeout(c.t.Context(), statusTimeout)
	defer cancel()
	if err := c.readyOf(ctx, rogue); err == nil {
		c.t.Error("a storage node in plain text is ready")
	}
	if err := c.StopRole("storage-1"); err != nil {
		c.t.Fatal(err)
	}
	c.startWithTLS("storage-1")
}

// attackNodeThatMissed starts a storage node without certificates whose folder has missed the step require. It answers
// nothing in plain text but for its health.
func (c *cluster) attackNodeThatMissed(step []byte) {
	c.t.Helper()
	if err := c.StopRole("storage-1"); err != nil {
		c.t.Fatal(err)
	}
	r := roleOf(c.Topology(), "storage-1")
	path := filepath.Join(r.Data, "tls-step")
	now, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, step, 0o600)
	}
	if err == nil {
		err = c.StartAs(r)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	ask := func(method, path string) int {
		request, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+r.HTTP+path, nil)
		if err != nil {
			c.t.Fatal(err)
		}
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
		if err != nil {
			return 0
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	c.await("the health of a node that missed the step", func() string {
		if status := ask(http.MethodGet, "/livez"); status != http.StatusOK {
			return fmt.Sprint(status)
		}
		return ""
	})
	for _, route := range []string{
		"POST " + wire.PathSession, "GET " + wire.PathWorkerStatus, "GET " + wire.PathChain, "GET /metrics",
	} {
		method, path, _ := strings.Cut(route, " ")
		if status := ask(method, path); status != http.StatusServiceUnavailable {
			c.t.Errorf("%s at a node that missed the step: %d", route, status)
		}
	}
	if err := c.StopRole("storage-1"); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, now, 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.startWithTLS("storage-1")
}

// readyOf asks a role in plain text whether it is ready.
func (c *cluster) readyOf(ctx context.Context, r devcluster.Role) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.HTTP+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}
