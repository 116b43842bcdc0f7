package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// issuer is an authority of the tests.
type issuer struct {
	t    *testing.T
	pair Pair
	*Authority
}

func newIssuer(t *testing.T, domain string) *issuer {
	t.Helper()
	pair, err := NewAuthority(domain, AuthorityLifetime, time.Now().Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	a, err := OpenAuthority(pair)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t, pair, a}
}

// issue makes a certificate that begins before and ends after the given times from now.
func (a *issuer) issue(role, name, host string, since, until time.Duration) Pair {
	a.t.Helper()
	p, err := a.Issue(role, name, []string{host}, until-since-backdate, time.Now().Add(since+backdate))
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

func (a *issuer) valid(role, name string) Pair {
	return a.issue(role, name, "127.0.0.1", -time.Hour, time.Hour)
}

// node are the files of a node, and its store.
type node struct {
	t *testing.T
	Files
	*Store
}

func newNode(t *testing.T, p Pair, authorities ...*issuer) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{t: t, Files: Files{
		Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca"),
	}}
	n.use(p)
	n.trust(authorities...)
	var err error
	if n.Store, err = Open(n.Files, 0, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) write(path string, data []byte) {
	n.t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) use(p Pair) {
	n.t.Helper()
	n.write(n.Cert, p.Cert)
	n.write(n.Key, p.Key)
}

func (n *node) trust(authorities ...*issuer) {
	n.t.Helper()
	var all []byte
	for _, a := range authorities {
		all = append(all, a.pair.Cert...)
	}
	n.write(n.CA, all)
}

func (n *node) reload() {
	n.t.Helper()
	if err := n.Reload(); err != nil {
		n.t.Fatal(err)
	}
}

// handshake connects two sides. It returns what the server knows of the client, and the errors of both sides.
func handshake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ended := make(chan error, 1)
	go func() {
		plain, err := listener.Accept()
		if err != nil {
			ended <- err
			return
		}
		s := tls.Server(plain, server)
		err = s.SetDeadline(time.Now().Add(30 * time.Second))
		if err == nil {
			err = s.Handshake()
		}
		if err == nil {
			_, err = s.Write([]byte("x")) // a client of TLS 1.3 learns only by reading that it was refused
		}
		state = s.ConnectionState()
		_ = s.Close() // the client may have closed it
		ended <- err
	}()
	plain, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(plain, client)
	clientErr = c.SetDeadline(time.Now().Add(30 * time.Second))
	if clientErr == nil {
		clientErr = c.Handshake()
	}
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	_ = c.Close() // the server may have closed it
	return state, <-ended, clientErr
}

// TestKindsOfPeers connects every kind of server with every kind of client.
func TestKindsOfPeers(t *testing.T) {
	ours, theirs, cousin := newIssuer(t, "bank"), newIssuer(t, "bank"), newIssuer(t, "other")
	master := newNode(t, ours.valid(Master, "m1"), ours)
	for _, row := range []struct {
		name     string
		pair     Pair
		asClient string // what a master's HTTP port says of it, "" for nothing
		asRaft   string // what a master's raft port says
		asServer string // what a master says that calls it as a storage node
	}{
		{"a storage node", ours.valid(Storage, "s1"), "", "a master is needed", ""},
		{"a master", ours.valid(Master, "m2"), "", "", "a storage is needed"},
		{"a miner", ours.valid(Miner, "m"), "", "a master is needed", "a storage is needed"},
		{"expired", ours.issue(Storage, "s1", "127.0.0.1", -3*time.Hour, -time.Hour), "expired", "expired", "expired"},
		{"not yet valid", ours.issue(Storage, "s1", "127.0.0.1", time.Hour, 3*time.Hour), "not yet valid",
			"not yet valid", "not yet valid"},
		{"another host", ours.issue(Storage, "s1", "10.0.0.1", -time.Hour, time.Hour), "", "a master is needed",
			"not 127.0.0.1"},
		{"of another authority of the same name", theirs.valid(Storage, "s1"), "unknown authority",
			"unknown authority", "unknown authority"},
		{"of another cluster, with an authority that is trusted", cousin.valid(Master, "m1"), "belongs to bank",
			"belongs to bank", "belongs to bank"},
	} {
		t.Run(row.name, func(t *testing.T) {
			authority := ours
			switch {
			case strings.Contains(row.name, "another authority"):
				authority = theirs
			case strings.Contains(row.name, "another cluster"):
				authority = cousin
			}
			if authority == cousin {
				master.trust(ours, cousin)
				master.reload()
				defer func() {
					master.trust(ours)
					master.reload()
				}()
			}
			peer := newNode(t, row.pair, ours, theirs, cousin)
			asClient, asRaft, asServer := master.meet(peer, Storage)
			expect(t, "as a client", asClient, row.asClient)
			expect(t, "as a client of raft", asRaft, row.asRaft)
			expect(t, "as a server", asServer, row.asServer)
		})
	}
}

// meet connects a peer that verifies nothing: as a client of the node's HTTP and raft ports, and as a server that the
// node calls, which must have one of the roles. It returns what the node says of it. A peer of another cluster would
// refuse this node.
func (n *node) meet(peer *node, roles ...string) (asClient, asRaft, asServer error) {
	n.t.Helper()
	lenient := func(c *tls.Config) *tls.Config {
		c.VerifyConnection = nil
		return c
	}
	state, asClient, _ := handshake(n.t, n.Server("http/1.1"), lenient(peer.Client("127.0.0.1", Master)))
	if id, ok := PeerOf(&state); asClient == nil && (!ok || id != peer.Identity()) {
		n.t.Errorf("as a client it is %v, %v", id, ok)
	}
	_, asRaft, _ = handshake(n.t, n.RaftServer(), lenient(peer.RaftClient("127.0.0.1")))
	server := peer.Server("http/1.1")
	server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := peer.serverFor(peer.current.Load(), "http/1.1")
		c.ClientAuth, c.VerifyConnection = tls.NoClientCert, nil
		return c, nil
	}
	_, _, asServer = handshake(n.t, server, n.Client("127.0.0.1", roles...))
	return asClient, asRaft, asServer
}

func expect(t *testing.T, what string, err error, text string) {
	t.Helper()
	if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
		t.Errorf("%s: %v, expected %q", what, err, text)
	}
}

// TestClientsWithoutCertificate connects users, and clients that claim to be nodes.
func TestClientsWithoutCertificate(t *testing.T) {
	ours, public := newIssuer(t, "bank"), newIssuer(t, "public")
	n := newNode(t, ours.valid(Master, "m1"), ours)
	user := func(p ...string) *tls.Config {
		return &tls.Config{NextProtos: p, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS13}
	}
	state, err, _ := handshake(t, n.Server("h2", "http/1.1"), user("http/1.1"))
	if _, ok := PeerOf(&state); err != nil || ok || state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("a user: %v, %v, protocol %q", err, ok, state.NegotiatedProtocol)
	}
	_, err, _ = handshake(t, n.Server("http/1.1"), user(NodeProtocol, "http/1.1"))
	expect(t, "a node without a certificate", err, "certificate")
	_, err, _ = handshake(t, n.RaftServer(), user(RaftProtocol))
	expect(t, "a master without a certificate", err, "certificate")
	_, err, _ = handshake(t, n.RaftServer(), user("http/1.1"))
	expect(t, "another protocol at the raft port", err, "protocol")
	old := user("http/1.1")
	old.MaxVersion = tls.VersionTLS12
	_, err, _ = handshake(t, n.Server("http/1.1"), old)
	expect(t, "TLS 1.2", err, "version")

	// Users see a certificate of its own, nodes do not.
	n.UserCert, n.UserKey = n.Cert+"-user", n.Key+"-user"
	p := public.valid(Master, "seen-by-users")
	n.write(n.UserCert, p.Cert)
	n.write(n.UserKey, p.Key)
	if n.Store, err = Open(n.Files, 0, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	seen := ""
	watching := user("http/1.1")
	watching.VerifyConnection = func(s tls.ConnectionState) error {
		seen = s.PeerCertificates[0].Subject.CommonName
		return nil
	}
	if _, err, _ := handshake(t, n.Server("http/1.1"), watching); err != nil || seen != "master seen-by-users" {
		t.Errorf("a user sees %q, %v", seen, err)
	}
	miner := newNode(t, ours.valid(Miner, "x"), ours)
	if _, err, _ := handshake(t, n.Server("http/1.1"), miner.Client("127.0.0.1", Master)); err != nil {
		t.Errorf("a node: %v", err)
	}
}

// TestAuthorityIsReplaced replaces the authority of two nodes, as docs/operations.md says. They reach each other at
// each step.
func TestAuthorityIsReplaced(t *testing.T) {
	before, after := newIssuer(t, "bank"), newIssuer(t, "bank")
	a, b := newNode(t, before.valid(Master, "a"), before), newNode(t, before.valid(Storage, "b"), before)
	both := func(step string) {
		t.Helper()
		for _, pair := range [][2]*node{{a, b}, {b, a}} {
			_, err1, err2 := handshake(t, pair[0].Server("http/1.1"), pair[1].Client("127.0.0.1"))
			if err := errors.Join(err1, err2); err != nil {
				t.Errorf("%s: %v", step, err)
			}
		}
	}
	both("before")
	for _, n := range []*node{a, b} {
		n.trust(before, after)
		n.reload()
		both("a node trusts both")
	}
	a.use(after.valid(Master, "a"))
	a.reload()
	both("the first has a new certificate")
	b.use(after.valid(Storage, "b"))
	b.reload()
	both("the second has a new certificate")
	for _, n := range []*node{a, b} {
		n.trust(after)
		n.reload()
		both("a node trusts the new one only")
	}
	stranger := newNode(t, before.valid(Storage, "b"), before, after)
	if _, err, _ := handshake(t, a.Server("http/1.1"), stranger.Client("127.0.0.1")); err == nil {
		t.Error("a certificate of the old authority is still good")
	}
}

// TestWrongFilesAreNotUsed replaces the files of a node by wrong ones. It goes on with the ones before, reports the
// error, and uses good ones when they are there.
func TestWrongFilesAreNotUsed(t *testing.T) {
	ours, theirs := newIssuer(t, "bank"), newIssuer(t, "bank")
	n := newNode(t, ours.valid(Storage, "s1"), ours)
	master := newNode(t, ours.valid(Master, "m1"), ours)
	other := ours.valid(Storage, "s1")
	for _, row := range []struct {
		name, text string
		change     func()
	}{
		{"a key of another certificate", "private key does not match", func() { n.write(n.Key, other.Key) }},
		{"half a file", "failed to find", func() { n.write(n.Cert, other.Cert[:40]) }},
		{"an empty file", "no certificate", func() { n.write(n.CA, nil) }},
		{"no file", "no such file", func() { os.Remove(n.Key) }},
		{"an authority that is cut off", "incomplete", func() {
			n.write(n.CA, slices.Concat(ours.pair.Cert, theirs.pair.Cert[:99]))
		}},
		{"a key among the authorities", "private key", func() {
			n.write(n.CA, slices.Concat(ours.pair.Cert, ours.pair.Key))
		}},
		{"of another authority", "signed it", func() { n.use(theirs.valid(Storage, "s1")) }},
		{"the authority itself", "is an authority", func() { n.use(ours.pair) }},
		{"another role", "start it again", func() { n.use(ours.valid(Master, "s1")) }},
		{"a key for everybody", "chmod 600", func() {
			n.use(other)
			if err := os.Chmod(n.Key, 0o644); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		row.change()
		err := n.Reload()
		expect(t, row.name, err, row.text)
		if reported := n.Report().Err; err == nil || reported == nil || reported.Error() != err.Error() {
			t.Errorf("%s: reported %v", row.name, reported)
		}
		if _, err := Open(n.Files, 0, hclog.NewNullLogger()); row.name != "another role" && err == nil {
			t.Errorf("%s: a new process starts with it", row.name)
		}
		_, err1, err2 := handshake(t, n.Server("http/1.1"), master.Client("127.0.0.1", Storage))
		if err := errors.Join(err1, err2); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		fresh := ours.issue(Storage, "s1", "127.0.0.1", -time.Hour, 2*time.Hour)
		if err := os.Remove(n.Key); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		n.use(fresh)
		n.trust(ours)
		n.reload()
		if r := n.Report(); r.Err != nil || time.Until(r.NotAfter) < time.Hour || r.Identity.Name != "s1" {
			t.Errorf("%s: after good files: %+v", row.name, r)
		}
	}
}

// TestFilesThatCannotBeRead makes a file unreadable for a while. With the same files there is no error any more.
func TestFilesThatCannotBeRead(t *testing.T) {
	ours := newIssuer(t, "bank")
	n := newNode(t, ours.valid(Storage, "s1"), ours)
	if err := os.Rename(n.Key, n.Key+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := n.Reload(); err == nil || n.Report().Err == nil {
		t.Errorf("without the key: %v, %v", err, n.Report().Err)
	}
	if err := os.Rename(n.Key+"-away", n.Key); err != nil {
		t.Fatal(err)
	}
	if err := n.Reload(); err != nil || n.Report().Err != nil {
		t.Errorf("with the key again: %v, %v", err, n.Report().Err)
	}
}

func TestParseIdentity(t *testing.T) {
	want := Identity{"bank-1.example", Storage, "s_1"}
	if got, err := ParseIdentity("spiffe://bank-1.example/storage/s_1"); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{
		"", "spiffe://bank/storage", "spiffe://bank/storage/", "spiffe://bank/witness/s1", "https://bank/storage/s1",
		"spiffe://bank/storage/s1/x", "spiffe://bank/storage/S1", "spiffe:///storage/s1", "spiffe://bank:1/storage/s1",
		"spiffe://bank/storage/s1?x", "spiffe://bank/storage/s1#x", "spiffe://u@bank/storage/s1", "spiffe://bank//s1",
		"spiffe://bank/storage/%73", "spiffe://bank/storage/" + strings.Repeat("s", 64), "\x00",
	} {
		if id, err := ParseIdentity(text); !errors.Is(err, ErrIdentity) {
			t.Errorf("%q: %v, %v", text, id, err)
		}
	}
}

func TestAuthority(t *testing.T) {
	a := newIssuer(t, "bank")
	if _, err := NewAuthority("Bank", AuthorityLifetime, time.Now()); !errors.Is(err, ErrIdentity) {
		t.Errorf("a domain in upper case: %v", err)
	}
	if _, err := a.Issue("witness", "w", []string{"h"}, NodeLifetime, time.Now()); !errors.Is(err, ErrIdentity) {
		t.Errorf("another role: %v", err)
	}
	for _, hosts := range [][]string{nil, {""}, {"https://a:8000"}, {"a:8000"}, {"10.0.0.1", "a/b"}} {
		if _, err := a.Issue(Master, "m", hosts, NodeLifetime, time.Now()); err == nil {
			t.Errorf("a certificate for the hosts %q", hosts)
		}
	}
	for role, master := range map[string]bool{Master: true, Storage: false, Miner: false} {
		leaf, err := Parse(a.valid(role, "x").Cert)
		if err != nil {
			t.Fatal(err)
		}
		err = CheckMaster(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}})
		if (err == nil) != master {
			t.Errorf("for a user, the certificate of a %s: %v", role, err)
		}
	}
	if _, err := a.Issue(Master, "m", []string{"h"}, NodeLifetime, a.NotAfter().Add(1)); err == nil {
		t.Error("a certificate of an expired authority")
	}
	if _, err := OpenAuthority(a.valid(Master, "m")); err == nil {
		t.Error("the certificate of a node is taken for an authority")
	}
	long, err := a.Issue(Master, "m", []string{"h"}, 2*AuthorityLifetime, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(long.Cert, long.Key)
	if err != nil || pair.Leaf.NotAfter.After(a.NotAfter()) {
		t.Errorf("it outlives its authority: %v, %v", pair.Leaf.NotAfter, err)
	}
}

// TestCertificateForAnotherHost opens a node whose certificate is not for the host at which others reach it, and gives
// such a certificate to one that runs.
func TestCertificateForAnotherHost(t *testing.T) {
	ours := newIssuer(t, "bank")
	n := newNode(t, ours.valid(Master, "m1"), ours)
	url, raft := Reached{"127.0.0.1", "--advertise"}, Reached{"m1.bank", "--raft-advertise"}
	if err := n.ReachedAt(url); err != nil {
		t.Error(err)
	}
	expect(t, "a name that it does not have", n.ReachedAt(url, raft), "--host m1.bank'), or set --raft-advertise")
	if err := n.ReachedAt(url); err != nil {
		t.Error(err)
	}
	n.use(ours.issue(Master, "m1", "10.0.0.1", -time.Hour, time.Hour))
	expect(t, "new files for another host", n.Reload(), "for 10.0.0.1, and others reach this node at 127.0.0.1")
	if seen := HostsOf(n.current.Load().node.Leaf); seen[0] != "127.0.0.1" {
		t.Errorf("in use is one for %v", seen)
	}
}
