package certs

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// openAgain opens the files of a node with a grace and a logger.
func (n *node) openAgain(grace time.Duration, log hclog.Logger) {
	n.t.Helper()
	var err error
	if n.Store, err = Open(n.Files, grace, log); err != nil {
		n.t.Fatal(err)
	}
}

// endedAuthority makes an authority that has ended already, and ended as long ago as a certificate of it.
func endedAuthority(t *testing.T, domain string) *issuer {
	t.Helper()
	pair, err := NewAuthority(domain, 3*time.Hour, time.Now().Add(-4*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	a, err := OpenAuthority(pair)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t, pair, a}
}

// TestKindsOfPeersInGrace connects a master that has a grace with peers whose certificates are out of their time: as
// its clients over HTTP and raft, and as the servers that it calls.
func TestKindsOfPeersInGrace(t *testing.T) {
	ours, theirs, cousin := newIssuer(t, "bank"), newIssuer(t, "bank"), newIssuer(t, "other")
	ended := endedAuthority(t, "bank")
	before, after := -3*time.Hour, -time.Hour // of a certificate that has expired
	for _, row := range []struct {
		name      string
		authority *issuer
		pair      Pair
		refused   string // by all three; "" for none of them
		asRaft    string // by the raft port, if it is another answer
		reported  bool
	}{
		{"expired", ours, ours.issue(Master, "m2", "127.0.0.1", before, after), "", "", true},
		{"not yet valid", ours, ours.issue(Master, "m2", "127.0.0.1", time.Hour, 3*time.Hour), "", "", true},
		{"its authority has expired", ended, ended.issue(Master, "m2", "127.0.0.1", before, after), "", "", true},
		{"within its time", ours, ours.valid(Master, "m2"), "", "", false},
		{"expired, of an authority that is not trusted", theirs, theirs.issue(Master, "m2", "127.0.0.1", before, after),
			"certificate", "", false},
		{"expired, of another cluster", cousin, cousin.issue(Master, "m2", "127.0.0.1", before, after),
			"belongs to bank", "", false},
		{"expired, and of another role", ours, ours.issue(Storage, "s1", "127.0.0.1", before, after), "",
			"a master is needed", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			master := newNode(t, ours.valid(Master, "m1"), ours, ended, cousin)
			master.openAgain(time.Hour, hclog.NewNullLogger())
			peer := newNode(t, row.pair, row.authority, ours)
			asClient, asRaft, asServer := master.meet(peer)
			expect(t, "as a client", asClient, row.refused)
			expect(t, "as a client of raft", asRaft, cmp.Or(row.asRaft, row.refused))
			expect(t, "as a server", asServer, row.refused)
			grace := master.Report().Grace
			if (len(grace) == 1) != row.reported || len(grace) > 0 && (grace[0].Identity != peer.Identity() ||
				grace[0].Left <= 0 || grace[0].Left > time.Hour) {
				t.Errorf("reported: %+v", grace)
			}
		})
	}
	// A host is checked in the grace as well, and users have none.
	master := newNode(t, ours.valid(Master, "m1"), ours)
	master.openAgain(time.Hour, hclog.NewNullLogger())
	peer := newNode(t, ours.issue(Storage, "s1", "10.0.0.1", before, after), ours)
	_, _, err := handshake(t, peer.Server("http/1.1"), master.Client("127.0.0.1"))
	expect(t, "another host", err, "certificate")
	pool := x509.NewCertPool()
	pool.AddCert(ours.Certificate())
	_, _, err = handshake(t, newNode(t, ours.issue(Master, "m2", "127.0.0.1", before, after), ours).Server("http/1.1"),
		&tls.Config{RootCAs: pool, ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}})
	expect(t, "a user", err, "expired")
}

// TestGraceEnds follows one node over weeks: the count of the grace begins when its certificate is first seen out of
// its time, goes on over connections, ends with a new certificate, and after the limit the node is refused.
func TestGraceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		ours := newIssuer(t, "bank")
		n := newNode(t, ours.issue(Master, "m1", "127.0.0.1", -day, 1000*day), ours)
		var logged bytes.Buffer
		n.openAgain(7*day, hclog.New(&hclog.LoggerOptions{Output: &logged}))
		calls := func(p Pair) error {
			t.Helper()
			leaf, err := Parse(p.Cert)
			if err != nil {
				t.Fatal(err)
			}
			return n.verifyPeer(n.current.Load(), tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, "",
				x509.ExtKeyUsageClientAuth, nil)
		}
		alarms := func() int { return strings.Count(logged.String(), "[ERROR]") }
		pair := ours.issue(Storage, "s1", "127.0.0.1", -day, day)
		if err := calls(pair); err != nil || alarms() != 0 || n.Report().Grace != nil {
			t.Fatalf("a valid one: %v, log %q, report %v", err, logged.String(), n.Report())
		}
		time.Sleep(30 * day) // it expires meanwhile, and is not seen
		for range 10 {
			if err := calls(pair); err != nil {
				t.Fatalf("first seen so: %v", err)
			}
		}
		if grace := n.Report().Grace; alarms() != 1 || len(grace) != 1 || grace[0].Left != 7*day {
			t.Errorf("log %q, report %v", logged.String(), grace)
		}
		if c := n.Certificate(); len(c.Graces) != 1 || c.Graces[0].Identity != "spiffe://bank/storage/s1" ||
			c.Graces[0].Left != 7*24*3600 || c.Identity != "spiffe://bank/master/m1" || c.Error != "" {
			t.Errorf("for the leader: %+v", c)
		}
		time.Sleep(7*day - time.Second)
		if err := calls(pair); err != nil || alarms() != 2 {
			t.Errorf("just before the end: %v, log %q", err, logged.String())
		}
		time.Sleep(2 * time.Second)
		expect(t, "after the end", calls(pair), "expired")
		expect(t, "after the end", calls(pair), "--tls-grace")
		if grace := n.Report().Grace; len(grace) != 1 || grace[0].Left != 0 {
			t.Errorf("after the end: %v", grace)
		}
		renewed := ours.issue(Storage, "s1", "127.0.0.1", -time.Hour, 10*day)
		if err := calls(renewed); err != nil || n.Report().Grace != nil {
			t.Errorf("a new certificate: %v, %v", err, n.Report().Grace)
		}
		expect(t, "the old one again", calls(pair), "expired")
		if err := calls(renewed); err != nil {
			t.Error(err)
		}
		time.Sleep(11 * day)
		if err := calls(renewed); err != nil || n.Report().Grace[0].Left != 7*day {
			t.Errorf("the new one has a grace of its own: %v, %v", err, n.Report().Grace)
		}
		time.Sleep(forgetAfter)
		if grace := n.Report().Grace; grace != nil {
			t.Errorf("a node that was not seen for long is reported: %v", grace)
		}
	})
}

// TestGraceOfAnAuthority gives new certificates to a node whose authority has expired: the grace of the authority is
// counted, and ends for all of its certificates.
func TestGraceOfAnAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := newIssuer(t, "bank")
		ended := endedAuthority(t, "bank")
		made := time.Now().Add(-3 * time.Hour)
		n := newNode(t, ours.issue(Master, "m1", "127.0.0.1", -time.Hour, 1000*time.Hour), ours, ended)
		n.openAgain(24*time.Hour, hclog.NewNullLogger())
		calls := func(name string) error {
			p, err := ended.Issue(Storage, name, []string{"127.0.0.1"}, time.Hour, made) // as if made in time
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := Parse(p.Cert)
			if err != nil {
				t.Fatal(err)
			}
			return n.verifyPeer(n.current.Load(), tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, "",
				x509.ExtKeyUsageClientAuth, nil)
		}
		if err := calls("s1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		expect(t, "another certificate", calls("s2"), "--tls-grace")
		n.write(n.CA, nil)
		_ = n.Reload()
		if c := n.Certificate(); !strings.Contains(c.Error, "no certificate") || c.Graces[0].Left != 0 {
			t.Errorf("for the leader: %+v", c)
		}
	})
}

// TestGracesAreBounded fills the list of certificates in a grace. Others are refused then, and those in it are not.
func TestGracesAreBounded(t *testing.T) {
	ours := newIssuer(t, "bank")
	n := newNode(t, ours.valid(Master, "m1"), ours)
	n.openAgain(time.Hour, hclog.NewNullLogger())
	chain := func(i int) [][]*x509.Certificate {
		return [][]*x509.Certificate{{{Raw: fmt.Append(nil, i)}}} // out of its time, as it has none
	}
	id := func(i int) Identity { return Identity{"bank", Storage, fmt.Sprint(i)} }
	now := time.Now()
	for i := range maxGraces + 10 {
		if ok := n.graces.accept(id(i), chain(i), now); ok != (i < maxGraces) {
			t.Fatalf("certificate %d: %v", i, ok)
		}
	}
	if !n.graces.accept(id(1), chain(1), now.Add(time.Minute)) {
		t.Error("a certificate in its grace is refused when there are many")
	}
	if got := len(n.Report().Grace); got != maxGraces {
		t.Errorf("%d nodes are reported", got)
	}
}

// TestRefusalsAreLogged has a node refused twice. The log says so once, with the reason and its address.
func TestRefusalsAreLogged(t *testing.T) {
	ours, theirs := newIssuer(t, "bank"), newIssuer(t, "bank")
	n := newNode(t, ours.valid(Master, "m1"), ours)
	var logged bytes.Buffer
	n.openAgain(0, hclog.New(&hclog.LoggerOptions{Output: &logged}))
	stranger := newNode(t, theirs.valid(Storage, "s1"), ours, theirs)
	for range 2 {
		_, err, _ := handshake(t, n.Server("http/1.1"), stranger.Client("127.0.0.1"))
		expect(t, "a stranger", err, "unknown authority")
	}
	if text := logged.String(); strings.Count(text, "a node is refused") != 1 ||
		!strings.Contains(text, "from=127.0.0.1:") || !strings.Contains(text, "unknown authority") {
		t.Errorf("logged: %q", text)
	}
}

// TestNoGraceWithoutOne checks the errors of a node without a grace.
func TestNoGraceWithoutOne(t *testing.T) {
	ours := newIssuer(t, "bank")
	n := newNode(t, ours.valid(Master, "m1"), ours)
	leaf, err := Parse(ours.issue(Storage, "s1", "127.0.0.1", -3*time.Hour, -time.Hour).Cert)
	if err != nil {
		t.Fatal(err)
	}
	err = n.verifyPeer(n.current.Load(), tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, "",
		x509.ExtKeyUsageClientAuth, nil)
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired || strings.Contains(err.Error(), "grace") {
		t.Error(err)
	}
}
